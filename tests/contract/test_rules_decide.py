"""Rules that decide: with the submission, attested and leased in its answer, and never where a person is to be asked
(contract, "Rules")."""

import json
import secrets
import subprocess

import pytest

from conftest import TESTS
from serving import another_service
from support import (
    ACTION,
    deliver,
    expect,
    expect_problem,
    export_chain,
    in_seconds,
    instant,
    new_envelope,
    pointers,
    race,
    register_agent,
    submit,
    verify_chain,
    wait_until,
)
from test_aap import Aap, bearer, check_request
from test_claude_code import Harness
from test_permits import consume, new_attempt, view
from test_rules import put, rule, stands

VERIFY = TESTS.parent / "target" / "debug" / "relaytrace-verify"
SMALL = {"arguments": {"/amount": {"lte": 50}}}


def decide(name: str, of: dict, verdict: str = "approve", **members) -> dict:
    return {"name": name, "mode": "enforce", "match": of, "then": {"decide": verdict, "reason": f"By {name}"} | members}


@pytest.fixture
def ruled(admin, agent):
    """Sets rules that are this test's own agent's. Rules are the tenant's: tests take turns."""

    def set_rules(*rules: dict) -> int:
        own = [one | {"match": {"agents": [agent.agent_id]} | one["match"]} for one in rules]
        return expect(put(admin, own, note=secrets.token_hex(4)), 200)["version"]

    return set_rules


@pytest.fixture(autouse=True)
def without_rules_afterwards(admin):
    yield
    expect(put(admin, []), 200)


def refund(amount, type: str = "refund.create") -> dict:
    return {"type": type, "arguments": {"amount": amount}}


def chain_of(admin, request: dict) -> list[dict]:
    export = export_chain(admin, request["request_id"])
    return verify_chain(export, export["length"], export["head"])


def is_asked(request: dict) -> bool:
    return (request["status"], request["decision"], request["permit"]) == ("pending", None, None)


# ---------------------------------------------------------------- a decision


@pytest.mark.parametrize("verdict, outcome", [("approve", "approved"), ("reject", "rejected")])
def test_a_rule_decides_with_the_submission(agent, admin, operator, ruled, jwks, tmp_path, verdict, outcome):
    version = ruled(decide("small refunds", SMALL, verdict))
    request = submit(agent, action=refund("50.00"), resume={"ticket": 7})
    assert request["rule"] == {"name": "small refunds", "version": version}
    assert (request["status"], request["duplicate"]) == ("decided", False)
    assert request["approvals"] == {"required": 1, "given": 0}
    decision = request["decision"]
    assert (decision["outcome"], decision["cause"], decision["reason"]) == (outcome, "policy", "By small refunds")
    by = {"kind": "system", "id": f"rule:small refunds@{version}"}
    assert decision["decided_by"] == by | {"name": None}
    assert (decision["attempt"], decision["resume"], decision["edited"]) == (1, {"ticket": 7}, False)
    assert instant(decision["decided_at"]) >= instant(request["created_at"])
    lease = (instant(decision["lease_expires_at"]) - instant(decision["decided_at"])).total_seconds()
    assert 0 < lease <= 60
    is_approved = outcome == "approved"
    assert (request["execution"], request["permit"] is not None) == ("waiting" if is_approved else "none", is_approved)
    assert decision["permit"] == request["permit"]
    # Signed, offline, by keys of its own.
    agent.check_decision(decision, refund("50.00"), agent.receipt_keys())
    submitted, decided = chain_of(admin, request)
    assert submitted["rule"] == {"name": "small refunds", "version": version, "effect": verdict}
    assert (decided["kind"], decided["cause"], decided["actor"]) == ("decided", "policy", by)
    [key] = [key for key in jwks["keys"] if key["kid"] == decided["attestation"]["kid"]]
    assert key["use"] == "attestation" and set(key["causes"]) == {"agent", "policy"}
    files = {name: tmp_path / name for name in ("chain.json", "receipt.txt", "jwks.json")}
    files["chain.json"].write_text(json.dumps(export_chain(admin, request["request_id"])))
    files["receipt.txt"].write_text(decision["receipt"])
    files["jwks.json"].write_text(json.dumps(jwks))
    command = [VERIFY, "--chain", files["chain.json"], "--receipt", files["receipt.txt"], "--jwks", files["jwks.json"]]
    run = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert run.returncode == 0, run.stdout + run.stderr
    # The lease is the answer's: nothing is due.
    assert agent.poll(0)["decisions"] == []
    expect(agent.acknowledge(decision), 200)
    detail = operator.detail(request["request_id"])
    assert (detail["status"], detail["outcome"], detail["decided_by"]["id"]) == (
        "decided", outcome, f"rule:small refunds@{version}")


def test_the_same_submission_again_has_the_decision_and_no_lease(agent, ruled):
    ruled(decide("all", {}))
    envelope = new_envelope(agent.agent_id)
    first = expect(agent.submit(envelope), 201)
    again = expect(agent.submit(envelope), 200)
    told = {name: value for name, value in first["decision"].items() if name not in ("delivery_id", "lease_expires_at")}
    assert again == first | {"duplicate": True, "decision": told}
    # Under later rules, too.
    ruled(decide("all", {}, "reject"))
    assert expect(agent.submit(envelope), 200) == again
    expect(agent.acknowledge(first["decision"]), 200)


def test_of_the_same_submission_many_times_at_once_one_is_decided(agent, admin, ruled):
    ruled(decide("all", {}, at_most={"count": 3, "per_seconds": 3600}))
    for _ in range(3):
        envelope = new_envelope(agent.agent_id)
        answers = race([lambda: agent.submit(envelope) for _ in range(12)])
        bodies = [answer.json() for answer in answers]
        assert sorted(answer.status_code for answer in answers) == 11 * [200] + [201]
        assert len({body["request_id"] for body in bodies}) == 1
        assert {body["decision"]["outcome"] for body in bodies} == {"approved"}
        assert len(chain_of(admin, bodies[0])) == 2
    # Each counted once, however often it was sent.
    assert is_asked(submit(agent))


def test_a_lost_answer_comes_by_a_poll_and_a_decision_that_needs_more_time_is_put_off(agent, ruled):
    ruled(decide("all", {}))
    request = submit(agent)
    error = {"code": "busy", "message": "Later"}
    expect(agent.acknowledge(request["decision"], "retry", error), 200)
    again = wait_until(lambda: agent.poll(5, [request["request_id"]])["decisions"], timeout=60)[0]
    assert (again["attempt"], again["outcome"]) == (2, "approved")
    expect(agent.acknowledge(again), 200)


def test_what_a_rule_approved_is_used_once(agent, ruled):
    ruled(decide("all", {}))
    request = submit(agent, permit_seconds=60)
    lasts = instant(request["permit"]["expires_at"]) - instant(request["decision"]["decided_at"])
    assert lasts.total_seconds() == 60
    attempt = new_attempt(request)
    assert expect(consume(agent, request, attempt), 200)["repeated"] is False
    expect_problem(consume(agent, request), 409, "already-consumed")
    assert view(agent, request)["execution"] == "consumed"


def test_what_a_rule_rejected_is_not_used(agent, ruled):
    ruled(decide("all", {}, "reject"))
    expect_problem(consume(agent, submit(agent)), 409, "not-approved")


def test_a_person_comes_too_late(agent, operator, ruled):
    ruled(decide("all", {}))
    request = submit(agent)
    problem = expect_problem(operator.decide(request["request_id"], "reject", reason="No"), 409, "already-decided")
    assert problem["decision"]["cause"] == "policy"
    expect_problem(agent.cancel(request["request_id"]), 409, "already-decided")


def test_no_cap_counts_it(agent, admin, ruled):
    expect(admin.call("PATCH", f"/v1/admin/agents/{agent.agent_id}", json={"max_pending": 1}), 200)
    ruled(decide("small", SMALL))
    for _ in range(3):
        assert submit(agent, action=refund(5))["status"] == "decided"
    assert is_asked(submit(agent, action=refund(51)))
    assert submit(agent, action=refund(5))["status"] == "decided"
    response = agent.submit(new_envelope(agent.agent_id, action=refund(51)))
    expect_problem(response, 429, "rate-limited")


def test_a_group_shows_it_with_the_others(agent, ruled):
    ruled(decide("small", SMALL))
    decided, asked = (submit(agent, action=refund(amount), group="turn-1") for amount in (5, 500))
    items = expect(agent.call("GET", f"{agent.path}/requests", params={"group": "turn-1"}), 200)["items"]
    assert {item["request_id"]: item["status"] for item in items} == {
        decided["request_id"]: "decided", asked["request_id"]: "pending"}


def test_a_request_must_still_be_one_that_its_policy_takes(agent, admin, ruled):
    policy = {"agent_id": agent.agent_id, "priority": "P1", "respond_within_seconds": 60, "lowest_priority": "P2"}
    expect(admin.call("PUT", "/v1/admin/timeout-policies", json=policy), 200)
    ruled(decide("all", {}))
    for changes, pointer in [({"priority": "P3"}, "/priority"), ({"respond_by": in_seconds(-5)}, "/respond_by"),
                             ({"respond_by": in_seconds(10**7)}, "/respond_by")]:
        problem = agent.submit(new_envelope(agent.agent_id, **changes))
        assert pointers(expect_problem(problem, 422, "validation-failed")) == {pointer}
    assert submit(agent)["decision"]["outcome"] == "approved"


def test_a_name_of_any_letters_is_attested_and_shown(agent, admin, ruled):
    name = 'Größe "5" \\ {}'
    version = ruled(decide(name, {}))
    request = submit(agent)
    assert request["decision"]["decided_by"]["id"] == f"rule:{name}@{version}"
    agent.check_decision(request["decision"], ACTION, agent.receipt_keys())
    assert chain_of(admin, request)[1]["reason"] == f"By {name}"


# ---------------------------------------------------------------- what is asked all the same


def test_p1_is_never_approved_by_a_rule(agent, admin, ruled):
    version = ruled(decide("all", {}), rule("then", {}, groups=["ops"], approvals=2))
    request = submit(agent, priority="P1")
    assert is_asked(request) and request["rule"] == {"name": "all", "version": version}
    assert request["approvals"]["required"] == 2
    entry = chain_of(admin, request)[0]
    assert entry["rule"] == {"name": "all", "version": version, "effect": "ask", "withheld": True}
    assert entry["assigned_to"]["groups"] == ["ops"]
    # To reject takes nobody's authority.
    ruled(decide("all", {}, "reject"))
    assert submit(agent, priority="P1")["decision"]["outcome"] == "rejected"


def test_who_takes_no_approval_is_given_none(agent, ruled):
    ruled(decide("all", {}))
    assert is_asked(submit(agent, answers=["respond"]))
    assert submit(agent, answers=["approve", "edit"])["decision"]["outcome"] == "approved"


def test_nothing_is_approved_where_the_deployment_does_not_allow_it(agent, admin, stack, ruled):
    ruled(decide("small", SMALL), decide("rest", {}, "reject"))
    issuers = stack["environment"]["ISSUERS"]
    with another_service(stack, ISSUERS=issuers, ALLOW_AUTO_APPROVE="false") as client:
        theirs = type(agent)(client, agent.agent_id, agent.key_id, agent.private_key, "", agent.alg)
        theirs.secret = agent.secret
        assert is_asked(submit(theirs, action=refund(5)))
        assert submit(theirs, action=refund(500))["decision"]["outcome"] == "rejected"
    assert submit(agent, action=refund(5))["decision"]["outcome"] == "approved"


@pytest.mark.parametrize("amount", [None, "a lot", [5], {"of": 5}, True])
def test_what_cannot_be_judged_is_asked(agent, admin, ruled, amount):
    version = ruled(decide("small", SMALL), rule("three", {}, approvals=3), decide("rest", {}))
    request = submit(agent, action=refund(amount))
    assert is_asked(request) and request["rule"] == {"name": "small", "version": version}
    assert request["approvals"]["required"] == 3
    assert chain_of(admin, request)[0]["rule"] == {"name": "small", "version": version, "effect": "ask", "failed": True}


@pytest.mark.parametrize("arguments", [{}, {"Amount": 5}, {"amount": 5, "AMOUNT": 5000}])
def test_an_argument_that_is_missing_or_there_twice_gets_nothing_approved(agent, ruled, arguments):
    ruled(decide("small", SMALL), decide("rest", {}))
    assert is_asked(submit(agent, action={"type": "refund.create", "arguments": arguments}))


def test_what_is_rejected_stays_rejected_when_an_earlier_rule_cannot_be_judged(agent, ruled):
    ruled(decide("small", SMALL), decide("never", {"action_types": ["payout.*"]}, "reject"))
    request = submit(agent, action=refund("a lot", type="payout.foreign"))
    assert (request["rule"]["name"], request["decision"]["outcome"]) == ("never", "rejected")


def test_all_that_failed_are_counted_with_what_applied_and_what_would(agent, admin, ruled):
    ruled(decide("first", SMALL), decide("second", {"arguments": {"/amount": {"gt": 1000}}}, "reject"),
          decide("third", {"arguments": {"/amount": {"prefix": "x"}}}) | {"mode": "shadow"},
          rule("rest", {}), decide("s", {}) | {"mode": "shadow"})
    submit(agent, action=refund({}))
    submit(agent, action=refund(500))
    counts = wait_until(lambda: (lambda seen: seen if seen["applied"].get("first") else None)(stands(admin)[1]))
    assert counts["failures"] == {"first": 1, "second": 1, "third": 2}
    assert counts["applied"] == {"first": 1, "rest": 1}
    assert counts["would"] == {"third": 1, "s": 1}


def test_a_number_is_judged_as_the_double_that_its_digest_is_of(agent, ruled):
    ruled(decide("large", {"arguments": {"/amount": {"gte": 50}}}, "reject"), decide("rest", {}))
    for literal in ("50", "49.99999999999999999999", "50.00000000000000000001"):
        envelope = json.dumps(new_envelope(agent.agent_id, action=refund("@"))).replace('"@"', literal)
        assert expect(agent.submit(envelope.encode()), 201)["decision"]["outcome"] == "rejected", literal


def test_what_failed_before_a_rule_that_rejects_is_named_in_the_entry(agent, admin, ruled):
    ruled(decide("small", SMALL), decide("never", {}, "reject"))
    entry = chain_of(admin, submit(agent, action=refund({})))[0]
    assert (entry["rule"]["name"], entry["rule"]["failed_before"]) == ("never", "small")


# ---------------------------------------------------------------- at_most


def test_over_its_limit_a_rule_asks(agent, admin, ruled):
    limit = {"count": 2, "per_seconds": 3600}
    version = ruled(decide("small", SMALL, at_most=limit), rule("rest", {}, groups=["finance"], approvals=2))
    requests = [submit(agent, action=refund(5)) for _ in range(4)]
    assert [request["status"] for request in requests] == ["decided"] * 2 + ["pending"] * 2
    assert all(request["rule"] == {"name": "small", "version": version} for request in requests)
    assert requests[2]["approvals"]["required"] == 2
    assert chain_of(admin, requests[2])[0]["rule"]["withheld"] is True
    # A new version goes on counting.
    ruled(decide("small", SMALL, at_most=limit | {"count": 3}))
    assert [submit(agent, action=refund(5))["status"] for _ in range(2)] == ["decided", "pending"]
    # One that is about something else does not.
    ruled(decide("small", {"arguments": {"/amount": {"lte": 51}}}, at_most=limit))
    assert submit(agent, action=refund(5))["status"] == "decided"


def test_of_many_at_once_exactly_as_many_are_decided(agent, ruled):
    ruled(decide(f"five-{secrets.token_hex(4)}", {}, at_most={"count": 5, "per_seconds": 3600}))
    requests = race([lambda: submit(agent) for _ in range(48)])
    assert sum(request["status"] == "decided" for request in requests) == 5
    assert all(is_asked(request) for request in requests if request["status"] == "pending")


def test_a_limit_counts_anew_when_its_time_is_over(agent, ruled):
    ruled(decide(f"one-{secrets.token_hex(4)}", {}, at_most={"count": 1, "per_seconds": 2}))
    assert submit(agent)["status"] == "decided"
    assert is_asked(submit(agent))
    wait_until(lambda: submit(agent)["status"] == "decided")


def test_rejections_have_limits_too(agent, ruled):
    ruled(decide(f"no-{secrets.token_hex(4)}", {}, "reject", at_most={"count": 1, "per_seconds": 3600}))
    assert [submit(agent)["status"] for _ in range(2)] == ["decided", "pending"]


@pytest.mark.parametrize("then, pointer", [
    ({"decide": "approve"}, "/rules/0/then/reason"),
    ({"decide": "approve", "reason": ""}, "/rules/0/then/reason"),
    ({"decide": "edit", "reason": "x"}, "/rules/0/then/decide"),
    ({"decide": "approve", "ask": {}, "reason": "x"}, "/rules/0/then"),
    ({"decide": "approve", "reason": "x", "at_most": {"count": 0, "per_seconds": 1}}, "/rules/0/then/at_most/count"),
    ({"decide": "approve", "reason": "x", "at_most": {"count": 1}}, "/rules/0/then/at_most/per_seconds"),
    ({"decide": "approve", "reason": "x", "permit_seconds": 60}, "/rules/0/then/permit_seconds"),
    ({"ask": {}, "at_most": {"count": 1, "per_seconds": 1}}, "/rules/0/then/at_most"),
])
def test_what_a_rule_that_decides_must_say(admin, then, pointer):
    before = stands(admin)
    faulty = {"name": "a", "mode": "enforce", "match": {}, "then": then}
    assert pointers(expect_problem(put(admin, [faulty]), 422, "validation-failed")) == {pointer}
    assert stands(admin) == before


# ---------------------------------------------------------------- freezes


@pytest.mark.parametrize("mode", ["hold", "stop"])
def test_no_rule_approves_what_a_freeze_covers(agent, admin, ruled, mode):
    version = ruled(decide("small", SMALL, at_most={"count": 1, "per_seconds": 3600}), decide("never", {}, "reject"))
    path = f"/v1/admin/freezes/rules-{secrets.token_hex(6)}"
    freeze = {"agent_id": agent.agent_id, "mode": mode, "until": in_seconds(600), "reason": "The key was stolen"}
    expect(admin.call("PUT", path, json=freeze), 200)
    try:
        request = submit(agent, action=refund(5))
        assert is_asked(request) and request["rule"] == {"name": "small", "version": version}
        assert submit(agent, action=refund(51))["decision"]["outcome"] == "rejected"
    finally:
        assert admin.call("DELETE", path).status_code == 204
    # What was asked under the freeze counted nothing.
    assert submit(agent, action=refund(5))["decision"]["outcome"] == "approved"


# ---------------------------------------------------------------- shadow


def test_a_shadow_is_noted_and_never_acts(agent, admin, operator, ruled):
    version = ruled(decide("would", SMALL) | {"mode": "shadow"}, rule("acts", {}, groups=["ops"]))
    request = submit(agent, action=refund(5))
    assert is_asked(request) and request["rule"] == {"name": "acts", "version": version}
    entry = chain_of(admin, request)[0]
    assert entry["rule"] == {"name": "acts", "version": version, "effect": "ask"}
    assert entry["shadow"] == {"name": "would", "effect": "approve"}
    assert "shadow" not in chain_of(admin, submit(agent, action=refund(51)))[0]
    wait_until(lambda: stands(admin)[1]["would"] == {"would": 1})


def test_a_shadow_behind_a_rule_that_applies_is_noted(agent, admin, ruled):
    ruled(decide("acts", {}), decide("would", SMALL, "reject") | {"mode": "shadow"})
    entry = chain_of(admin, submit(agent, action=refund(5)))[0]
    assert entry["rule"]["name"] == "acts" and entry["shadow"] == {"name": "would", "effect": "reject"}


# ---------------------------------------------------------------- versions


def test_each_submission_is_decided_by_exactly_one_version(agent, admin, ruled):
    before = ruled(decide("before", {}))
    changed = []

    def change():
        changed.append(ruled(decide("after", {}, "reject")))

    answers = race([lambda: submit(agent) for _ in range(24)] + [change] + [lambda: submit(agent) for _ in range(24)])
    known = {("before", before, "approved"), ("after", changed[0], "rejected")}
    for request in filter(None, answers):
        said = (request["rule"]["name"], request["rule"]["version"], request["decision"]["outcome"])
        assert said in known
        assert request["decision"]["decided_by"]["id"] == f"rule:{said[0]}@{said[1]}"
    assert submit(agent)["rule"] == {"name": "after", "version": changed[0]}


def test_tenants_at_once_are_decided_by_their_own_rules(agent, admin, http, stack, ruled):
    from support import Person

    [other] = [Person(http, known["token"]) for known in stack["admins"] if known["tenant"] == "acme"]
    theirs = register_agent(other)
    limit = {"count": 3, "per_seconds": 3600}
    name = f"shared-{secrets.token_hex(4)}"
    ruled(decide(name, {}, at_most=limit))
    expect(put(other, [decide(name, {"agents": [theirs.agent_id]}, "reject", at_most=limit)]), 200)
    try:
        requests = race([lambda one=one: submit(one) for _ in range(8) for one in (agent, theirs)])
        outcomes = [(request["agent_id"], (request["decision"] or {}).get("outcome")) for request in requests]
        assert outcomes.count((agent.agent_id, "approved")) == 3 and outcomes.count((theirs.agent_id, "rejected")) == 3
        assert sum(outcome is None for _, outcome in outcomes) == 10
    finally:
        expect(put(other, []), 200)


# ---------------------------------------------------------------- bridges


def test_a_rule_answers_the_agent_approval_protocol_at_once(agent, admin, stack, ruled):
    client = Aap(stack["base_url"], bearer(admin, agent), agent.agent_id)
    ruled(decide("read", {"action_types": ["git%2Fhub/create%20issue"], "arguments": {"/count": {"lte": 3}}}),
          decide("never", {}, "reject"))
    key = secrets.token_hex(16)
    response = client.create(key)
    assert response.status_code == 201
    told = check_request(response.json())
    assert told["status"] == "approved"
    assert check_request(expect(client.create(key), 200)) == told
    assert agent.poll(0)["decisions"] == [], "it goes to polls that name it"
    used = check_request(expect(client.consume(told["id"]), 200))
    assert used["consumption"]
    # A terminal answer is acknowledged with it.
    response = client.create(tool="another")
    assert response.status_code == 201
    told = check_request(response.json())
    assert (told["status"], told["decision"]["note"]) == ("denied", "By never")
    kinds = [entry["kind"] for entry in chain_of(admin, {"request_id": told["id"]})]
    assert kinds == ["submitted", "decided", "acknowledged"]


def test_a_rule_answers_a_hook_of_claude_code(agent, admin, stack, ruled):
    token = bearer(admin, agent, scopes=["hook"])
    harness = Harness(admin, stack["base_url"], agent.agent_id, token)
    ruled(decide("list", {"action_types": ["Bash"], "arguments": {"/command": {"prefix": "ls "}}}),
          decide("never", {}, "reject"))
    allowed = harness.ask({"command": "ls -la"})
    assert (allowed["permissionDecision"], allowed["permissionDecisionReason"]) == ("allow", "Approved by a rule: By list")
    denied = harness.ask({"command": "rm -rf /"})
    assert denied["permissionDecision"] == "deny"
    assert denied["permissionDecisionReason"].startswith("Rejected by a rule: By never")


def test_what_needs_no_person_is_the_rules_to_say(agent, admin, stack, ruled):
    harness = Harness(admin, stack["base_url"], agent.agent_id, bearer(admin, agent, scopes=["hook"]))
    assert harness.ask({"file_path": "/etc/passwd"}, tool="Read")["permissionDecision"] == "allow"
    ruled(decide("secrets", {"action_types": ["Read"], "arguments": {"/file_path": {"prefix": "/etc/"}}}, "reject"))
    denied = harness.ask({"file_path": "/etc/passwd"}, tool="Read")
    assert denied["permissionDecisionReason"].startswith("Rejected by a rule: By secrets")
    allowed = harness.ask({"file_path": "/srv/notes"}, tool="Read")
    assert allowed["permissionDecisionReason"] == "Read only reads: nobody has to approve it."


def test_a_decision_of_a_bridge_is_polled_by_its_name_alone(agent, admin, stack, ruled):
    client = Aap(stack["base_url"], bearer(admin, agent), agent.agent_id)
    ruled(decide("all", {}))
    told = client.created()
    assert agent.poll(0)["decisions"] == []
    assert deliver(agent, told["id"])["outcome"] == "approved"


def test_the_report_counts_what_a_rule_decides_and_times_only_people(agent, admin, operator, ruled):
    ruled(decide("small refunds", SMALL))
    submit(agent, action=refund("50.00"))

    def line():
        items = expect(admin.get("/v1/admin/reports/sla", params={"by": "agent"}), 200)["items"]
        return next(item for item in items if item["key"] == agent.agent_id)

    item = line()
    assert (item["asked"], item["decided_in_time"]) == (1, 1)
    assert (item["p50_seconds"], item["p90_seconds"]) == (None, None)
    # A person's time stands beside it as if the rule had decided nothing.
    asked = submit(agent, action=refund("5000.00"))
    expect(operator.decide(asked["request_id"], "approve"), 201)
    decision = expect(operator.get(f"/v1/hitl/requests/{asked['request_id']}"), 200)["decision"]
    item = line()
    seconds = (instant(decision["decided_at"]) - instant(asked["created_at"])).total_seconds()
    assert (item["asked"], item["decided_in_time"]) == (2, 2)
    assert item["p50_seconds"] == item["p90_seconds"] == pytest.approx(seconds, abs=1e-3)
