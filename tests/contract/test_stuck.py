"""Administrators see what is stuck and put it right; timeouts follow their policies."""

import time
import uuid
from datetime import datetime, timezone

import pytest

from support import (
    deliver,
    expect,
    expect_problem,
    export_chain,
    in_seconds,
    instant,
    new_envelope,
    pointers,
    race,
    submit,
    submit_decided,
    until_each_side_wins,
    verify_chain,
    wait_until,
)

POLICIES = "/v1/admin/timeout-policies"
DEAD_LETTERS = "/v1/admin/dead-letters"
STALE = "/v1/admin/stale"


def dispose(admin, request_id, action, reason="it is stuck", **members):
    body = {"action": action, "reason": reason} | members
    return admin.post(f"/v1/admin/requests/{request_id}/disposition", json=body)


def put_policy(admin, **members):
    return admin.call("PUT", POLICIES, json={"priority": "P2", "respond_within_seconds": 60} | members)


def entries(admin, request_id):
    export = export_chain(admin, request_id)
    return verify_chain(export, export["length"], export["head"])


def dead_letter_of(admin, agent, request_id):
    page = expect(admin.get(DEAD_LETTERS, params={"agent_id": agent.agent_id}), 200)
    [letter] = [item for item in page["items"] if item["request_id"] == request_id]
    return letter


def submit_failed(agent, operator):
    """A decided request whose agent has said that it will never work."""
    request_id = submit_decided(agent, operator)["request_id"]
    delivery = deliver(agent, request_id)
    failed = agent.acknowledge(delivery, "failed", {"code": "E", "message": "gone"})
    assert expect(failed, 200)["state"] == "dead_lettered"
    return request_id


# ---------------------------------------------------------------- timeout policies


def test_the_defaults_are_policies(admin):
    defaults = [policy for policy in expect(admin.get(POLICIES), 200)["items"]
                if policy["agent_id"] is None and policy["action_type"] is None]
    assert [(policy["priority"], policy["respond_within_seconds"], policy["on_timeout"]) for policy in defaults] == [
        ("P1", 900, "auto_reject"), ("P2", 14400, "auto_reject"), ("P3", 86400, "auto_reject")]


def test_an_agents_policy_applies_and_is_on_record(admin, agent):
    policy = expect(put_policy(admin, agent_id=agent.agent_id, on_timeout="raise"), 200)
    submission = submit(agent)
    assert (instant(submission["respond_by"]) - instant(submission["created_at"])).total_seconds() == 60
    [submitted] = entries(admin, submission["request_id"])
    assert (submitted["policy_id"], submitted["on_timeout"]) == (policy["policy_id"], "raise")


def test_a_timeout_raises_where_the_policy_says_so(admin, agent, operator):
    expect(put_policy(admin, agent_id=agent.agent_id, respond_within_seconds=1, on_timeout="raise"), 200)
    request_id = submit(agent)["request_id"]
    raised = wait_until(lambda: (detail := operator.detail(request_id))["priority"] == "P1" and detail)
    assert raised["status"] == "pending"
    reprioritised = entries(admin, request_id)[1]
    assert (reprioritised["kind"], reprioritised["actor"]["kind"]) == ("reprioritised", "system")


@pytest.mark.parametrize("members, pointer", [
    ({"respond_within_seconds": 0}, "/respond_within_seconds"),
    ({"on_timeout": "auto_approve"}, "/on_timeout"),
    ({"on_timeout": "ask_again"}, "/on_timeout"),
    ({"escalate_after_percent": 100}, "/escalate_after_percent"),
    ({"lowest_priority": "P0"}, "/lowest_priority"),
    ({"agent_id": "nobody-of-this-name"}, "/agent_id"),
    ({"surprise": 1}, "/surprise"),
], ids=str)
def test_a_bad_policy_is_refused(admin, members, pointer):
    assert pointer in pointers(expect_problem(put_policy(admin, **members), 422, "validation-failed"))


def test_a_pinned_action_type_is_not_asked_with_a_lower_priority(admin, agent):
    expect(put_policy(admin, agent_id=agent.agent_id, lowest_priority="P2"), 200)
    refused = agent.submit(new_envelope(agent.agent_id, priority="P3"))
    assert pointers(expect_problem(refused, 422, "validation-failed")) == {"/priority"}
    submit(agent, priority="P1")


# ---------------------------------------------------------------- dispositions


@pytest.mark.parametrize("action, outcome", [("cancel", "cancelled"), ("reject", "rejected")])
def test_an_administrator_decides_once(admin, agent, operator, action, outcome):
    request_id = submit(agent)["request_id"]
    first = expect(dispose(admin, request_id, action), 200)
    assert (first["decision"]["outcome"], first["decision"]["cause"]) == (outcome, "admin")
    assert expect(dispose(admin, request_id, action), 200) == first
    other = expect_problem(dispose(admin, request_id, action, reason="another"), 409, "already-decided")
    assert other["decision"] == first["decision"]
    assert deliver(agent, request_id)["cause"] == "admin"


def test_an_operator_racing_an_administrator_has_one_winner(admin, agent, operators):
    def play(operators_late: float, admin_late: float) -> str:
        request_id = submit(agent)["request_id"]
        calls = [
            lambda who=who: (time.sleep(operators_late), who.decide(request_id, "approve"))[1] for who in operators[:5]
        ]
        answers = race([*calls, lambda: (time.sleep(admin_late), dispose(admin, request_id, "cancel"))[1]])
        assert [answer.status_code in (200, 201) for answer in answers].count(True) == 1
        assert [entry["kind"] for entry in entries(admin, request_id)] == ["submitted", "decided"]
        return "admin" if answers[-1].status_code == 200 else "operator"

    until_each_side_wins(play, {"admin", "operator"})


def test_more_time_is_given_before_the_deadline_and_not_after(admin, agent):
    request_id = submit(agent)["request_id"]
    until = in_seconds(8 * 3600)
    extended = expect(dispose(admin, request_id, "extend", respond_by=until), 200)
    assert instant(extended["respond_by"]) == instant(until)
    expect(dispose(admin, request_id, "extend", respond_by=until), 200)
    assert [entry["kind"] for entry in entries(admin, request_id)] == ["submitted", "extended"]
    submission = submit(agent, respond_by=in_seconds(1))
    late, moment = submission["request_id"], instant(submission["respond_by"])
    wait_until(lambda: datetime.now(timezone.utc) > moment)
    expect_problem(dispose(admin, late, "extend", respond_by=until), 409, "expired")


def test_another_priority_is_given_once(admin, agent, operator):
    request_id = submit(agent)["request_id"]
    for _ in range(2):
        expect(dispose(admin, request_id, "reprioritise", priority="P1"), 200)
    assert operator.detail(request_id)["priority"] == "P1"
    assert [entry["kind"] for entry in entries(admin, request_id)] == ["submitted", "reprioritised"]


def test_a_decision_is_sent_again(admin, agent, operator):
    request_id = submit(agent)["request_id"]
    expect_problem(dispose(admin, request_id, "requeue"), 409, "conflict")
    expect(operator.decide(request_id, "approve"), 201)
    assert deliver(agent, request_id)["replayed"] is False
    expect(dispose(admin, request_id, "requeue"), 200)
    again = deliver(agent, request_id)
    assert (again["attempt"], again["replayed"]) == (2, True)
    expect(agent.acknowledge(again), 200)
    expect_problem(dispose(admin, request_id, "requeue"), 409, "conflict")


@pytest.mark.parametrize("body, pointer", [
    ({"action": "cancel"}, "/reason"),
    ({"action": "approve", "reason": "x"}, "/action"),
    ({"action": "extend", "reason": "x"}, "/respond_by"),
    ({"action": "reprioritise", "reason": "x"}, "/priority"),
    ({"action": "cancel", "reason": "x", "surprise": 1}, "/surprise"),
], ids=str)
def test_a_malformed_disposition_is_refused(admin, agent, body, pointer):
    path = f"/v1/admin/requests/{submit(agent)['request_id']}/disposition"
    assert pointers(expect_problem(admin.post(path, json=body), 422, "validation-failed")) == {pointer}


def test_an_unknown_request_has_no_disposition(admin):
    expect_problem(dispose(admin, uuid.uuid4(), "cancel"), 404, "not-found")


# ---------------------------------------------------------------- dead letters and what is stale


def test_a_dead_letter_is_tried_again_once(admin, agent, operator):
    request_id = submit_failed(agent, operator)
    letter = dead_letter_of(admin, agent, request_id)
    assert (letter["kind"], letter["cause"], letter["error_message"]) == ("delivery", "agent_failed", "gone")
    path = f"{DEAD_LETTERS}/{letter['dead_letter_id']}"
    answers = race([lambda: admin.post(f"{path}/retry")] * 4)
    assert {expect(answer, 200)["resolution"] for answer in answers} == {"retried"}
    again = deliver(agent, request_id)
    assert (again["attempt"], again["replayed"]) == (2, True)
    kinds = [entry["kind"] for entry in entries(admin, request_id)]
    assert kinds == ["submitted", "decided", "dead_lettered", "replayed"]
    expect_problem(admin.post(f"{path}/discard", json={"reason": "x"}), 409, "conflict")


def test_a_dead_letter_is_given_up_with_a_reason(admin, agent, operator):
    letter = dead_letter_of(admin, agent, submit_failed(agent, operator))
    path = f"{DEAD_LETTERS}/{letter['dead_letter_id']}"
    assert pointers(expect_problem(admin.post(f"{path}/discard", json={}), 422, "validation-failed")) == {"/reason"}
    for _ in range(2):
        assert expect(admin.post(f"{path}/discard", json={"reason": "known"}), 200)["resolution"] == "discarded"
    expect_problem(admin.post(f"{path}/retry"), 409, "conflict")
    query = {"agent_id": agent.agent_id}
    assert expect(admin.get(DEAD_LETTERS, params=query), 200) == {"items": [], "next_cursor": None}
    assert len(expect(admin.get(DEAD_LETTERS, params=query | {"status": "all"}), 200)["items"]) == 1


@pytest.mark.parametrize("action", ["retry", "discard"])
def test_an_unknown_dead_letter_is_not_found(admin, action):
    path = f"{DEAD_LETTERS}/{uuid.uuid4()}/{action}"
    expect_problem(admin.post(path, json={"reason": "x"}), 404, "not-found")


@pytest.mark.parametrize("path", [f"{DEAD_LETTERS}?status=odd", f"{DEAD_LETTERS}?cursor=odd", f"{DEAD_LETTERS}?kind=odd",
                                  f"{STALE}?cursor=odd", f"{STALE}?minutes=odd"])
def test_a_malformed_query_is_refused(admin, path):
    expect_problem(admin.get(path), 422, "validation-failed")


def test_what_is_stale_is_listed(admin, agent, operator):
    request_id = submit_failed(agent, operator)
    late = submit(agent, respond_by=in_seconds(6))["request_id"]

    def found():
        query, items = {"limit": 200}, []
        while True:
            page = expect(admin.get(STALE, params=query | {"pending_percent": 10}), 200)
            items += page["items"]
            if not (cursor := page["next_cursor"]):
                break
            query["cursor"] = cursor
        return {(item["why"], item["request_id"]) for item in items} >= {("dead_lettered", request_id), ("pending", late)}

    assert wait_until(found)
