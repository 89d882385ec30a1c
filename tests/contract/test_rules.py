"""Rules: the document with its versions, and who is asked by them (contract, "Rules")."""

import secrets

import pytest

from support import (
    expect,
    expect_problem,
    export_chain,
    instant,
    new_agent_id,
    new_envelope,
    pointers,
    race,
    register_agent,
    submit,
    verify_chain,
    wait_until,
)

RULES = "/v1/admin/rules"


def stands(admin) -> tuple[str, dict]:
    """The ETag and the document of the version that stands."""
    response = admin.get(RULES)
    return response.headers["etag"], expect(response, 200)


def put(admin, rules: list, etag: str | None = None, note: str = "Test"):
    etag = etag or stands(admin)[0]
    return admin.call("PUT", RULES, json={"rules": rules, "note": note}, headers={"if-match": etag})


NOBODY = {"agents": ["nobody"]}


def rule(name: str, of: dict, **ask) -> dict:
    return {"name": name, "mode": "enforce", "match": of, "then": {"ask": ask}}


@pytest.fixture
def ruled(admin, agent):
    """Sets rules that are this test's own agent's, beside nothing else. Rules are the tenant's: tests take turns."""

    def set_rules(*rules: dict) -> dict:
        return expect(put(admin, [one | {"match": {"agents": [agent.agent_id]} | one["match"]} for one in rules]), 200)

    return set_rules


@pytest.fixture(autouse=True)
def without_rules_afterwards(admin):
    """What a test leaves would be asked of every other test's requests."""
    yield
    expect(put(admin, []), 200)


def first_entry(admin, request: dict) -> dict:
    export = export_chain(admin, request["request_id"])
    return verify_chain(export, export["length"], export["head"])[0]


# ---------------------------------------------------------------- the document


def test_there_is_always_a_version_and_its_etag_is_the_quoted_version(admin):
    etag, document = stands(admin)
    assert etag == f'"{document["version"]}"'
    made = put(admin, [rule("a", NOBODY)], etag, note="First")
    body = expect(made, 200)
    assert made.headers["etag"] == f'"{body["version"]}"' and body["version"] == document["version"] + 1
    assert (body["rules"], body["note"], body["failures"]) == ([rule("a", NOBODY)], "First", {})
    assert body["created_by"]["kind"] == "admin" and instant(body["created_at"])
    assert stands(admin) == (made.headers["etag"], body)
    assert expect(admin.get(f"{RULES}/{body['version']}"), 200) == body
    expect_problem(admin.get(f"{RULES}/{body['version'] + 1}"), 404, "not-found")
    expect_problem(admin.get(f"{RULES}/x"), 404, "not-found")
    [logged] = [item for item in expect(admin.get("/v1/admin/log"), 200)["items"]
                if item["action"] == "rules.set" and item["subject"] == str(body["version"])]
    assert logged["details"]["note"] == "First"


def test_the_document_that_stands_is_no_new_version(admin):
    etag, _ = stands(admin)
    body = expect(put(admin, [rule("a", NOBODY, approvals=2)], etag), 200)
    # The same call again, as after a lost answer.
    assert expect(put(admin, [rule("a", NOBODY, approvals=2)], etag), 200) == body
    assert expect(put(admin, [rule("a", NOBODY, approvals=2)]), 200) == body
    assert expect(put(admin, [rule("a", NOBODY, approvals=2)], note="Another"), 200)["version"] == body["version"] + 1


def test_a_change_names_the_version_that_it_is_based_on(admin):
    etag, document = stands(admin)
    without = admin.call("PUT", RULES, json={"rules": [], "note": secrets.token_hex(4)})
    expect_problem(without, 428, "version-required")
    for other in ('"99999999"', str(document["version"]), "*", f'W/{etag}', '"x"', '"-1"', '"2147483647"', f'"0{document["version"]}"',
                  f'"+{document["version"]}"'):
        expect_problem(put(admin, [], other, note=secrets.token_hex(4)), 412, "version-changed")
    assert stands(admin) == (etag, document)


def test_of_administrators_at_once_one_is_first_and_the_others_are_told(admin):
    etag, document = stands(admin)
    answers = race([lambda n=n: put(admin, [rule(f"racer {n}", NOBODY)], etag) for n in range(8)])
    won = [answer for answer in answers if answer.status_code == 200]
    for answer in answers:
        if answer is not won[0]:
            expect_problem(answer, 412, "version-changed")
    assert len(won) == 1 and stands(admin)[1] == won[0].json()
    assert won[0].json()["version"] == document["version"] + 1


@pytest.mark.parametrize("rules, pointer", [
    ([{"mode": "enforce", "match": {}, "then": {"ask": {}}}], "/rules/0/name"),
    ([rule("a", {}), rule("a", {})], "/rules/1/name"),
    ([rule("a", {}) | {"mode": "on"}], "/rules/0/mode"),
    ([rule("a", {}) | {"then": {}}], "/rules/0/then"),
    ([rule("a", {}, approvals=0)], "/rules/0/then/ask/approvals"),
    ([rule("a", {}, approvals=11)], "/rules/0/then/ask/approvals"),
    ([rule("a", {}, on_timeout="auto_approve")], "/rules/0/then/ask/on_timeout"),
    ([rule("a", {}, permit_seconds=9)], "/rules/0/then/ask/permit_seconds"),
    ([rule("a", {}, groups=[])], "/rules/0/then/ask/groups"),
    ([rule("a", {}, consume="no")], "/rules/0/then/ask/consume"),
    ([rule("a", {}, escalate={"after_percent": 0, "groups": ["ops"]})], "/rules/0/then/ask/escalate/after_percent"),
    ([rule("a", {}, everyone=True)], "/rules/0/then/ask/everyone"),
    ([rule("a", {"action_types": ["a*b"]})], "/rules/0/match/action_types/0"),
    ([rule("a", {"on_behalf_of": "somebody"})], "/rules/0/match/on_behalf_of"),
    ([rule("a", {"arguments": {"amount": {"gt": 1}}})], "/rules/0/match/arguments/amount"),
    ([rule("a", {"arguments": {"/a/b": {"gt": "much"}}})], "/rules/0/match/arguments/~1a~1b/gt"),
    ([rule("a", {"arguments": {"/a": {"like": 1}}})], "/rules/0/match/arguments/~1a/like"),
    ([rule("a", {"not": {}})], "/rules/0/match/not/arguments"),
    ([rule(str(n), {}) for n in range(501)], "/rules"),
    ([rule("a", {"arguments": {"/a": {"equals": "x" * 262_144}}})], "/rules"),
])
def test_a_document_is_refused_as_a_whole_with_the_place_of_its_faults(admin, rules, pointer):
    before = stands(admin)
    problem = expect_problem(put(admin, rules), 422, "validation-failed")
    assert pointers(problem) == {pointer}
    assert stands(admin) == before


def test_all_faults_come_together(admin):
    rules = [rule("", {"agents": ["A"], "arguments": {"x": {"gt": "y"}}}, approvals=0), {"name": "b"}]
    assert pointers(expect_problem(put(admin, rules), 422, "validation-failed")) == {
        "/rules/0/name", "/rules/0/match/agents/0", "/rules/0/match/arguments/x", "/rules/0/match/arguments/x/gt",
        "/rules/0/then/ask/approvals", "/rules/1/mode", "/rules/1/match", "/rules/1/then"}


def test_500_rules_are_admitted(admin):
    document = expect(put(admin, [rule(str(n), {"agents": ["nobody"]}) for n in range(500)]), 200)
    assert len(document["rules"]) == 500
    expect(put(admin, []), 200)


def test_only_administrators_see_and_set_rules(operator, agent):
    for caller in (operator, agent):
        expect_problem(caller.call("GET", RULES), 403, "forbidden")
        expect_problem(caller.call("PUT", RULES, json={"rules": [], "note": ""}), 403, "forbidden")


# ---------------------------------------------------------------- what applies


def test_without_a_rule_that_applies_there_is_none(agent, admin, operator, ruled):
    version = ruled(rule("others", {"action_types": ["payment.*"]}, groups=["finance"]))["version"]
    request = submit(agent)
    assert (request["rule"], request["approvals"]) == (None, {"required": 1, "given": 0})
    assert first_entry(admin, request)["rule"] == {"version": version}
    detail = operator.detail(request["request_id"])
    assert (detail["rule"], detail["assigned_to"], detail["you"]["why_not"]) == (None, None, None)


def test_the_first_rule_that_holds_says_who_is_asked_and_how(agent, admin, operator, ruled):
    version = ruled(
        rule("large refunds", {"action_types": ["refund.*"], "arguments": {"/amount": {"gte": 1000}}},
             groups=["finance"], operators=["nobody"], approvals=2, priority="P1", respond_within_seconds=120,
             permit_seconds=60, consume="required", on_timeout="raise", reroute_to=["ops"],
             escalate={"after_percent": 50, "groups": ["ops"]}),
        rule("refunds", {"action_types": ["refund.*"]}, groups=["ops"]),
    )["version"]
    request = submit(agent, priority="P3")
    assert request["rule"] == {"name": "large refunds", "version": version}
    assert request["approvals"] == {"required": 2, "given": 0}
    assert (request["priority"], request["permit"], request["duplicate"]) == ("P1", None, False)
    lasts = instant(request["respond_by"]) - instant(request["created_at"])
    assert lasts.total_seconds() == 120
    entry = first_entry(admin, request)
    assert entry["rule"] == {"name": "large refunds", "version": version, "effect": "ask", "asked_priority": "P3"}
    assert entry["assigned_to"] == {"groups": ["finance"], "operators": ["nobody"]}
    assert (entry["approvals"], entry["permit_seconds"], entry["consume"], entry["on_timeout"], entry["priority"]) == (
        2, 60, "required", "raise", "P1")
    detail = operator.detail(request["request_id"])
    assert detail["rule"] == request["rule"]
    assert detail["assigned_to"] == {"groups": ["finance"], "operators": ["nobody"]}
    # The same bytes again, and the agent's own view.
    view = expect(agent.call("GET", f"{agent.path}/requests/{request['request_id']}"), 200)
    assert (view["rule"], view["approvals"], view["priority"]) == (request["rule"], request["approvals"], "P1")
    small = submit(agent, action={"type": "refund.create", "arguments": {"amount": "999.99"}})
    assert small["rule"]["name"] == "refunds" and small["priority"] == "P2"


@pytest.mark.parametrize("of, holds", [
    ({"priorities": ["P2"]}, True), ({"priorities": ["P1", "P3"]}, False),
    ({"groups": ["turn-7"]}, True), ({"groups": ["turn-8"]}, False),
    ({"on_behalf_of": "present"}, True), ({"on_behalf_of": "absent"}, False),
    ({"on_behalf_of": ["MARIA@example.com"]}, True), ({"on_behalf_of": ["jonas"]}, False),
    ({"arguments": {"/amount": {"equals": 1240}}}, True), ({"arguments": {"/amount": {"equals": 1240.01}}}, False),
    ({"arguments": {"/amount": {"gt": "1239.999", "lte": 1240}}}, True),
    ({"arguments": {"/customer": {"prefix": "88", "length_lte": 5}}}, True),
    ({"arguments": {"/customer": {"in": ["1", "88213"]}}}, True),
    ({"arguments": {"/memo": {"exists": False}}}, True), ({"arguments": {"/memo": {"exists": True}}}, False),
    ({"not": {"arguments": {"/customer": {"equals": "88213"}}}}, False),
])
def test_all_that_is_named_must_hold(agent, ruled, of, holds):
    ruled(rule("r", of))
    request = submit(agent, group="turn-7", on_behalf_of={"id": "maria@example.com"})
    assert (request["rule"] is not None) is holds


def test_a_rule_that_cannot_be_judged_is_named_counted_and_makes_what_follows_stricter(agent, admin, ruled):
    version = ruled(
        rule("large", {"arguments": {"/amount": {"gte": 1000}}}, groups=["finance"], approvals=2),
        rule("ours", {}, groups=["ops"], approvals=1),
        rule("three", {}, approvals=3),
    )["version"]
    for arguments in ({}, {"amount": "a lot"}, {"amount": None}, {"amount": 5, "Amount": 5000}):
        request = submit(agent, action={"type": "refund.create", "arguments": arguments})
        assert request["rule"] == {"name": "large", "version": version}, arguments
        assert request["approvals"]["required"] == 3, arguments
    entry = first_entry(admin, request)
    assert entry["rule"] == {"name": "large", "version": version, "effect": "ask", "failed": True}
    # The count follows the submission.
    wait_until(lambda: stands(admin)[1]["failures"] == {"large": 4})


def test_shadow_and_off_do_not_act(agent, ruled):
    decides = {"then": {"decide": "approve", "reason": "Small"}}
    ruled(rule("s", {}, approvals=9) | {"mode": "shadow"}, rule("o", {}, approvals=9) | {"mode": "off"},
          rule("d", {}) | {"mode": "shadow"} | decides)
    request = submit(agent)
    assert (request["rule"], request["approvals"]["required"], request["status"]) == (None, 1, "pending")


def test_what_a_rule_leaves_out_comes_from_the_timeout_policy(agent, admin, ruled):
    policy = {"agent_id": agent.agent_id, "priority": "P1", "respond_within_seconds": 77, "permit_seconds": 50,
              "consume": "required", "approvals": 3}
    expect(admin.call("PUT", "/v1/admin/timeout-policies", json=policy), 200)
    ruled(rule("r", {}, priority="P1", permit_seconds=70))
    request = submit(agent, priority="P2")
    lasts = instant(request["respond_by"]) - instant(request["created_at"])
    assert (lasts.total_seconds(), request["approvals"]["required"]) == (77, 3)
    entry = first_entry(admin, request)
    # The least of envelope, rule and policy.
    assert (entry["permit_seconds"], entry["consume"]) == (50, "required")
    assert first_entry(admin, submit(agent, permit_seconds=20))["permit_seconds"] == 20


@pytest.mark.parametrize("ask", [
    {"groups": ["ops"]}, {"operators": ["somebody"]}, {"approvals": 2}, {"consume": "required"},
])
def test_no_timeout_approves_where_a_rule_asks_for_more_than_anybodys_yes(agent, admin, ruled, ask):
    policy = {"agent_id": agent.agent_id, "action_type": "refund.create", "priority": "P2", "respond_within_seconds": 1,
              "on_timeout": "auto_approve"}
    expect(admin.call("PUT", "/v1/admin/timeout-policies", json=policy), 200)
    ruled(rule("r", {}, **ask))
    request = submit(agent)
    decided = wait_until(lambda: expect(agent.call("GET", f"{agent.path}/requests/{request['request_id']}"), 200)["decision"])
    assert (decided["outcome"], decided["cause"]) == ("rejected", "timeout")


def test_a_timeout_still_approves_where_a_rule_asks_for_no_more(agent, admin, ruled):
    policy = {"agent_id": agent.agent_id, "action_type": "refund.create", "priority": "P2", "respond_within_seconds": 1,
              "on_timeout": "auto_approve"}
    expect(admin.call("PUT", "/v1/admin/timeout-policies", json=policy), 200)
    ruled(rule("r", {}))
    request = submit(agent)
    decided = wait_until(lambda: expect(agent.call("GET", f"{agent.path}/requests/{request['request_id']}"), 200)["decision"])
    assert (decided["outcome"], decided["cause"]) == ("approved", "timeout")


def test_the_lowest_priority_of_a_policy_is_about_what_the_agent_asks_with(agent, admin, ruled):
    policy = {"agent_id": agent.agent_id, "priority": "P1", "respond_within_seconds": 60, "lowest_priority": "P2"}
    expect(admin.call("PUT", "/v1/admin/timeout-policies", json=policy), 200)
    ruled(rule("r", {}, priority="P3"))
    assert submit(agent, priority="P2")["priority"] == "P3"
    problem = agent.submit(new_envelope(agent.agent_id, priority="P3"))
    assert pointers(expect_problem(problem, 422, "validation-failed")) == {"/priority"}


def test_respond_by_may_shorten_the_rules_time_and_never_lengthen_it(agent, ruled, admin):
    from support import in_seconds

    ruled(rule("r", {}, respond_within_seconds=100))
    submit(agent, respond_by=in_seconds(50))
    problem = agent.submit(new_envelope(agent.agent_id, respond_by=in_seconds(150)))
    assert pointers(expect_problem(problem, 422, "validation-failed")) == {"/respond_by"}


def test_a_repeated_submission_is_the_request_as_it_was_under_any_later_version(agent, ruled):
    version = ruled(rule("one", {}, approvals=2))["version"]
    envelope = new_envelope(agent.agent_id)
    first = expect(agent.submit(envelope), 201)
    ruled(rule("two", {}, approvals=3))
    again = expect(agent.submit(envelope), 200)
    assert again == first | {"duplicate": True} and again["rule"] == {"name": "one", "version": version}


# ---------------------------------------------------------------- versions


def test_a_new_version_counts_for_every_submission_that_begins_after_it(agent, admin, ruled):
    for number in range(10):
        version = ruled(rule(f"v{number}", {}))["version"]
        requests = race([lambda: submit(agent) for _ in range(8)])
        assert [request["rule"] for request in requests] == [{"name": f"v{number}", "version": version}] * 8


def test_submissions_that_race_a_change_are_under_exactly_one_version(agent, admin, ruled):
    before = ruled(rule("before", {}, approvals=2))["version"]
    changed = []

    def change():
        changed.append(ruled(rule("after", {}, approvals=3))["version"])

    answers = race([lambda: submit(agent) for _ in range(24)] + [change] + [lambda: submit(agent) for _ in range(24)])
    known = {("before", before, 2), ("after", changed[0], 3)}
    for request in filter(None, answers):
        said = (request["rule"]["name"], request["rule"]["version"], request["approvals"]["required"])
        assert said in known
        entry = first_entry(admin, request)
        assert (entry["rule"]["name"], entry["rule"]["version"], entry["approvals"]) == said
    assert submit(agent)["rule"]["name"] == "after"


def test_an_agent_that_is_registered_is_under_the_rules_from_its_first_submission(admin, ruled):
    agent_id = new_agent_id()
    version = expect(put(admin, [rule("newcomer", {"agents": [agent_id]}, approvals=2)]), 200)["version"]
    newcomer = register_agent(admin, agent_id=agent_id)
    assert submit(newcomer)["rule"] == {"name": "newcomer", "version": version}


def test_agents_that_are_registered_while_rules_are_set_are_under_them(admin):
    for number in range(4):
        etag, _ = stands(admin)
        ids = [new_agent_id() for _ in range(8)]
        rules = [rule(f"race {number}", {"agents": ids}, approvals=2)]
        *newcomers, made = race([lambda one=one: register_agent(admin, agent_id=one) for one in ids]
                                + [lambda: put(admin, rules, etag)])
        version = expect(made, 200)["version"]
        for newcomer in newcomers:
            assert submit(newcomer)["rule"] == {"name": f"race {number}", "version": version}


def test_rules_are_the_tenants_own(admin, http, stack):
    from support import Person

    [other] = [Person(http, known["token"]) for known in stack["admins"] if known["tenant"] == "acme"]
    expect(put(admin, [], note=secrets.token_hex(4)), 200)
    before = stands(admin)
    expect(put(other, [rule("theirs", {"action_types": ["of.theirs"]}, approvals=2)]), 200)
    assert stands(admin) == before
    newcomer = register_agent(admin)
    action = {"type": "of.theirs", "arguments": {}}
    assert submit(newcomer, action=action)["rule"] is None
    theirs = register_agent(other)
    assert submit(theirs, action=action)["rule"]["name"] == "theirs"
    expect(put(other, []), 200)
