"""Who may decide, and reroutes (contract, "Who may decide")."""

import psycopg
import pytest

from people import asked_of, finance, of_group, ops  # noqa: F401
from support import REQUESTS, expect, expect_problem, export_chain, pointers, register_agent, submit, verify_chain, wait_until
from test_rules import rule, ruled, without_rules_afterwards  # noqa: F401


def reroute(person, request: dict, reason: str = "Theirs", **to):
    path = f"{REQUESTS}/{request['request_id']}/assignment"
    return person.call("PUT", path, json={"reason": reason} | to)


def entries(admin, request: dict) -> list[dict]:
    export = export_chain(admin, request["request_id"])
    return verify_chain(export, export["length"], export["head"])


def you(person, request: dict) -> dict:
    return person.detail(request["request_id"])["you"]


# ---------------------------------------------------------------- who may decide


def test_only_those_it_is_assigned_to_decide_and_everyone_may_look(asked_of, finance, ops, agent):
    request = asked_of(groups=["finance"])
    request_id = request["request_id"]
    for decision in ({"decision": "approve"}, {"decision": "reject", "reason": "No"}):
        expect_problem(ops[0].decide(request_id, decision["decision"], **{"reason": "No"}), 403, "not-assigned")
    detail = ops[0].detail(request_id)
    assert detail["assigned_to"] == {"groups": ["finance"], "operators": []}
    assert detail["you"] == {"may": [], "why_not": "not-assigned"}
    assert you(finance[0], request) == {"may": ["approve", "reject"], "why_not": None}
    [item] = [item for item in ops[0].queue(agent_id=agent.agent_id)["items"] if item["request_id"] == request_id]
    assert item["assigned_to"] == detail["assigned_to"]
    expect(finance[0].decide(request_id, "approve"), 201)
    expect_problem(ops[0].decide(request_id, "approve"), 409, "already-decided")


def test_operators_are_named_too(asked_of, finance, ops):
    request = asked_of(operators=[ops[3].id])
    expect_problem(ops[2].decide(request["request_id"], "approve"), 403, "not-assigned")
    expect(ops[3].decide(request["request_id"], "approve"), 201)
    either = asked_of(groups=["finance"], operators=[ops[3].id])
    assert you(finance[1], either)["why_not"] is None and you(ops[3], either)["why_not"] is None
    assert you(ops[2], either)["why_not"] == "not-assigned"


def test_what_is_not_assigned_is_everybodys(agent, finance, ops):
    request = submit(agent)
    assert you(finance[0], request)["why_not"] is None and you(ops[0], request)["why_not"] is None
    assert ops[0].detail(request["request_id"])["assigned_to"] is None


def test_assigned_to_me_lists_what_is_assigned_to_my_group_or_to_me_and_not_to_everyone(asked_of, agent, finance, ops):
    ours, mine = asked_of(groups=["finance"]), asked_of(operators=[finance[4].id])

    def listed(person):
        found = person.queue(agent_id=agent.agent_id, assigned_to="me")["items"]
        return {item["request_id"] for item in found}

    assert listed(finance[4]) == {ours["request_id"], mine["request_id"]}
    assert listed(finance[5]) == {ours["request_id"]} and listed(ops[0]) == set()


def test_a_refusal_says_what_stands_first(asked_of, ops):
    request = asked_of(groups=["finance"])
    other = ops[0].decide(request["request_id"], "approve", action_digest="sha256:" + "0" * 64)
    expect_problem(other, 409, "action-mismatch")


def test_who_is_asked_for_does_not_approve_unless_a_rule_lets_them(asked_of, operators):
    person = operators[7]
    of = {"on_behalf_of": {"id": person.id.upper()}}
    request = asked_of(of, approvals=1)
    expect_problem(person.decide(request["request_id"], "approve"), 403, "own-request")
    assert you(person, request) == {"may": ["reject"], "why_not": "own-request"}
    allowed = asked_of(of, requester_may_decide=True)
    assert you(person, allowed)["why_not"] is None
    expect(person.decide(allowed["request_id"], "approve"), 201)


def test_a_rule_that_failed_lets_nobody_decide_for_themselves(agent, ruled, operators):
    """Whose comparison could not be made, it allows nothing."""
    person = operators[7]
    ruled(rule("small", {"arguments": {"/no-such": {"lte": 100}}}, requester_may_decide=True, consume="required"))
    request = submit(agent, on_behalf_of={"id": person.id})
    assert request["rule"]["name"] == "small"
    expect_problem(person.decide(request["request_id"], "approve"), 403, "own-request")


def test_votes_are_of_those_it_is_assigned_to(asked_of, finance, ops):
    request = asked_of(groups=["finance"], approvals=2)
    digest = {"action_digest": request["action_digest"]}
    expect_problem(ops[0].decide(request["request_id"], "approve", **digest), 403, "not-assigned")
    expect(finance[0].decide(request["request_id"], "approve", **digest), 201)
    expect_problem(ops[0].decide(request["request_id"], "approve", **digest), 403, "not-assigned")
    assert expect(finance[1].decide(request["request_id"], "approve", **digest), 201)["outcome"] == "approved"


def test_a_batch_decides_what_is_the_callers(asked_of, ops):
    theirs, ours = asked_of(groups=["finance"]), asked_of(groups=["ops"])
    decisions = [{"request_id": one["request_id"], "decision": "approve", "action_digest": one["action_digest"]}
                 for one in (theirs, ours)]
    first, second = expect(ops[0].post("/v1/hitl/decisions", json={"decisions": decisions}), 200)["results"]
    assert (first["http_status"], first["problem"]["code"]) == (403, "not-assigned")
    assert second["http_status"] == 201


# ---------------------------------------------------------------- reroute


def test_those_who_may_decide_reroute_within_the_rule(asked_of, admin, finance, ops):
    request = asked_of(groups=["finance"], reroute_to=["ops"])
    answered = expect(reroute(finance[0], request, groups=["ops"]), 200)
    assert answered == {"request_id": request["request_id"], "assigned_to": {"groups": ["ops"], "operators": []}}
    # The same again, also by who may not decide it any more.
    assert expect(reroute(finance[0], request, groups=["ops"]), 200) == answered
    told = entries(admin, request)
    assert [entry["kind"] for entry in told] == ["submitted", "rerouted"]
    assert told[1]["actor"] == {"kind": "operator", "id": finance[0].id, "name": finance[0].name}
    assert (told[1]["assigned_to"], told[1]["previous"], told[1]["reason"]) == (
        answered["assigned_to"], {"groups": ["finance"], "operators": []}, "Theirs")
    expect_problem(finance[0].decide(request["request_id"], "approve"), 403, "not-assigned")
    expect_problem(reroute(finance[0], request, groups=["finance"]), 403, "not-assigned")
    expect(reroute(ops[0], request, operators=[finance[0].id], reason="Back"), 200)
    expect(finance[0].decide(request["request_id"], "approve"), 201)


def test_beyond_the_rule_an_administrator_reroutes(asked_of, admin, finance, ops):
    request = asked_of(groups=["finance"])
    for to in ({"groups": ["ops"]}, {"groups": ["finance", "ops"]}, {"operators": [ops[0].id]}, {"operators": ["nobody"]}):
        expect_problem(reroute(finance[0], request, **to), 403, "forbidden")
    expect(reroute(finance[0], request, operators=[finance[1].id]), 200)
    expect_problem(reroute(ops[0], request, groups=["finance"]), 403, "not-assigned")
    expect(reroute(admin, request, groups=["ops"]), 200)
    assert entries(admin, request)[-1]["actor"]["kind"] == "admin"
    logged = expect(admin.get("/v1/admin/log"), 200)["items"]
    assert any(item["action"] == "request.rerouted" and item["subject"] == request["request_id"] for item in logged)
    expect(ops[0].decide(request["request_id"], "approve"), 201)


def test_what_no_rule_has_asked_of_anybody_only_an_administrator_assigns(agent, admin, finance, ops):
    request = submit(agent)
    expect_problem(reroute(finance[0], request, groups=["finance"]), 403, "forbidden")
    expect(reroute(admin, request, groups=["finance"]), 200)
    assert entries(admin, request)[-1]["previous"] is None
    expect_problem(ops[0].decide(request["request_id"], "approve"), 403, "not-assigned")


def test_votes_stay_where_their_voters_are_still_assigned(asked_of, admin, finance, ops):
    request = asked_of(groups=["finance", "ops"], approvals=3)
    digest = {"action_digest": request["action_digest"]}
    for person in (finance[0], ops[0]):
        expect(person.decide(request["request_id"], "approve", **digest), 201)
    expect(reroute(finance[1], request, groups=["finance"]), 200)
    detail = finance[1].detail(request["request_id"])
    assert detail["approvals"] == {"required": 3, "given": 1}
    assert [vote["voted_by"]["id"] for vote in detail["votes"]] == [finance[0].id]
    assert entries(admin, request)[-1]["approvals_given"] == 1
    expect(finance[1].decide(request["request_id"], "approve", **digest), 201)
    last = expect(finance[2].decide(request["request_id"], "approve", **digest), 201)
    assert last["outcome"] == "approved"
    voters = [vote["voted_by"]["id"] for vote in finance[0].detail(request["request_id"])["votes"]]
    assert voters == [finance[0].id, finance[1].id, finance[2].id]


@pytest.mark.parametrize("body, pointer", [
    ({"groups": ["ops"]}, "/reason"), ({"reason": "x"}, "/groups"), ({"groups": [], "reason": "x"}, "/groups"),
    ({"groups": "ops", "reason": "x"}, "/groups"), ({"operators": [""], "reason": "x"}, "/operators/0"),
    ({"groups": ["ops"], "reason": "x", "more": 1}, "/more"),
])
def test_an_assignment_is_checked(asked_of, finance, body, pointer):
    request = asked_of(groups=["finance"])
    answer = finance[0].call("PUT", f"{REQUESTS}/{request['request_id']}/assignment", json=body)
    assert pointers(expect_problem(answer, 422, "validation-failed")) == {pointer}


def test_the_same_reroute_is_the_same_after_the_decision_too(asked_of, finance, ops):
    request = asked_of(groups=["finance"], reroute_to=["ops"])
    answered = expect(reroute(finance[0], request, groups=["ops"]), 200)
    expect(ops[0].decide(request["request_id"], "approve"), 201)
    assert expect(reroute(finance[0], request, groups=["ops"]), 200) == answered


def test_what_is_decided_is_not_rerouted(asked_of, admin, finance, agent):
    request = asked_of(groups=["finance"])
    expect(finance[0].decide(request["request_id"], "approve"), 201)
    expect_problem(reroute(admin, request, groups=["ops"]), 409, "already-decided")
    unknown = {"request_id": "0192f5c4-6a3e-7c11-9d2f-2f0c5a8e4b17"}
    expect_problem(reroute(admin, unknown, groups=["ops"]), 404, "not-found")
    expect_problem(reroute(agent, request, groups=["ops"]), 403, "forbidden")


# ---------------------------------------------------------------- escalation


def test_escalation_asks_a_further_group_too(asked_of, admin, ops, stack):
    request = asked_of(groups=["finance"], escalate={"after_percent": 99, "groups": ["ops"]})
    expect_problem(ops[0].decide(request["request_id"], "approve"), 403, "not-assigned")
    with psycopg.connect(stack["database_url"]) as owner:
        # Its time has come.
        owner.execute("UPDATE hitl_requests SET escalate_at = now() WHERE request_id = %s", [request["request_id"]])
    detail = wait_until(lambda: (found := ops[0].detail(request["request_id"]))["escalated_at"] and found)
    assert detail["assigned_to"] == {"groups": ["finance", "ops"], "operators": []}
    told = entries(admin, request)[-1]
    assert (told["kind"], told["assigned_to"]) == ("escalated", detail["assigned_to"])
    expect(ops[0].decide(request["request_id"], "approve"), 201)


def test_a_raise_at_the_same_time_does_not_keep_the_further_group_out(asked_of, ops, stack):
    terms = {"groups": ["finance"], "on_timeout": "raise", "escalate": {"after_percent": 99, "groups": ["ops"]}}
    request = asked_of({"priority": "P3"}, **terms)
    with psycopg.connect(stack["database_url"]) as owner:
        past = "UPDATE hitl_requests SET escalate_at = now(), respond_by = now() WHERE request_id = %s"
        owner.execute(past, [request["request_id"]])
    detail = wait_until(lambda: (found := ops[0].detail(request["request_id"]))["escalated_at"] and found)
    assert (detail["priority"], detail["assigned_to"]["groups"]) == ("P2", ["finance", "ops"])
    expect(ops[0].decide(request["request_id"], "approve"), 201)


def test_where_everyone_is_asked_nobody_can_join(asked_of, finance, stack):
    request = asked_of(escalate={"after_percent": 99, "groups": ["ops"]})
    with psycopg.connect(stack["database_url"]) as owner:
        owner.execute("UPDATE hitl_requests SET escalate_at = now() WHERE request_id = %s", [request["request_id"]])
    detail = wait_until(lambda: (found := finance[0].detail(request["request_id"]))["escalated_at"] and found)
    assert detail["assigned_to"] is None
    expect(finance[0].decide(request["request_id"], "approve"), 201)
