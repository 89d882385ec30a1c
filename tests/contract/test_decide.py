"""An operator's one decision: what is refused, in which order, and who wins."""

import time

import pytest

from support import (
    REQUESTS,
    expect,
    expect_problem,
    in_seconds,
    instant,
    new_envelope,
    race,
    submit,
    until_each_side_wins,
    wait_until,
)

OTHER_DIGEST = "sha256:" + "0" * 64


def decision_path(submission: dict) -> str:
    return f"{REQUESTS}/{submission['request_id']}/decision"


def refused_as_decided(response, standing: dict) -> None:
    """409 that carries the decision that stands."""
    problem = expect_problem(response, 409, "already-decided")
    shown = problem["decision"]
    for member in ("outcome", "cause", "decided_by", "reason"):
        assert shown[member] == standing[member]
    assert instant(shown["decided_at"]) == instant(standing["decided_at"])


def is_pending(operator, submission: dict) -> bool:
    return operator.detail(submission["request_id"])["decision"] is None


@pytest.mark.parametrize("decision, outcome, reason", [
    ("approve", "approved", None),
    ("approve", "approved", "Checked with the customer"),
    ("reject", "rejected", "x"),
    ("reject", "rejected", "ü" * 2000),
])
def test_a_decision_is_made(agent, operator, decision, outcome, reason):
    submission = submit(agent)
    members = {"action_digest": submission["action_digest"]} | ({"reason": reason} if reason else {})
    made = expect(operator.decide(submission["request_id"], decision, **members), 201)
    assert made["request_id"] == submission["request_id"]
    assert made["outcome"] == outcome
    assert made["cause"] == "operator"
    assert made["decided_by"] == {"kind": "operator", "id": operator.id, "name": operator.name}
    assert made["reason"] == reason
    assert made["action_digest"] == submission["action_digest"]
    assert instant(made["decided_at"]) >= instant(submission["created_at"])


def test_the_digest_may_be_left_out(agent, operator):
    submission = submit(agent)
    made = expect(operator.decide(submission["request_id"], "approve"), 201)
    assert made["action_digest"] == submission["action_digest"]


@pytest.mark.parametrize("body, pointer", [
    ({}, "/decision"),
    ({"decision": "maybe"}, "/decision"),
    ({"decision": "approved"}, "/decision"),
    ({"decision": None}, "/decision"),
    ({"decision": True}, "/decision"),
    ({"decision": "reject"}, "/reason"),
    ({"decision": "reject", "reason": ""}, "/reason"),
    ({"decision": "reject", "reason": "x" * 2001}, "/reason"),
    ({"decision": "approve", "reason": "x" * 2001}, "/reason"),
    ({"decision": "approve", "reason": 7}, "/reason"),
    ({"decision": "approve", "action_digest": 7}, "/action_digest"),
    ({"decision": "approve", "surprise": 1}, "/surprise"),
    ({"decision": "approve", "decided_by": "maria"}, "/decided_by"),
], ids=lambda value: str(value)[:50])
def test_a_malformed_decision_is_refused(agent, operator, body, pointer):
    submission = submit(agent)
    problem = expect_problem(operator.post(decision_path(submission), json=body), 422, "validation-failed")
    assert {fault["pointer"] for fault in problem["errors"]} == {pointer}
    assert is_pending(operator, submission)


@pytest.mark.parametrize("body, content_type, status, code", [
    (b"", "application/json", 400, "malformed-json"),
    (b'{"decision": "approve"', "application/json", 400, "malformed-json"),
    (b'{"decision": "reject", "decision": "approve"}', "application/json", 400, "malformed-json"),
    (b'{"decision": "\xff"}', "application/json", 400, "malformed-json"),
    (b'{"decision": "approve"}', "text/plain", 415, "unsupported-media-type"),
], ids=["empty", "truncated", "duplicate", "no UTF-8", "text"])
def test_a_decision_that_cannot_be_read_is_refused(agent, operator, body, content_type, status, code):
    submission = submit(agent)
    response = operator.post(decision_path(submission), content=body, headers={"content-type": content_type})
    expect_problem(response, status, code)
    assert is_pending(operator, submission)


def test_a_decision_on_another_action_is_refused(agent, operator):
    submission = submit(agent)
    response = operator.decide(submission["request_id"], "approve", action_digest=OTHER_DIGEST)
    expect_problem(response, 409, "action-mismatch")
    assert is_pending(operator, submission)


@pytest.mark.parametrize("digest", ["sha256:", "", "x"])
def test_a_decision_on_what_is_no_digest_is_refused(agent, operator, digest):
    submission = submit(agent)
    response = operator.decide(submission["request_id"], "approve", action_digest=digest)
    problem = expect_problem(response, 422, "validation-failed")
    assert {fault["pointer"] for fault in problem["errors"]} == {"/action_digest"}
    assert is_pending(operator, submission)


def test_the_same_operator_may_repeat_the_same_decision(agent, operator):
    submission = submit(agent)
    made = expect(operator.decide(submission["request_id"], "reject", reason="No"), 201)
    assert expect(operator.decide(submission["request_id"], "reject", reason="No"), 200) == made


@pytest.mark.parametrize("again", [
    {"decision": "approve", "reason": "No"},
    {"decision": "reject", "reason": "Not at all"},
    {"decision": "reject", "reason": "no"},
    {"decision": "approve"},
    {"decision": "approve", "action_digest": OTHER_DIGEST},
], ids=str)
def test_another_decision_is_refused(agent, operator, again):
    submission = submit(agent)
    made = expect(operator.decide(submission["request_id"], "reject", reason="No"), 201)
    refused_as_decided(operator.post(decision_path(submission), json=again), made)


def test_another_operator_is_told_who_decided(agent, operators):
    first, second = operators[:2]
    submission = submit(agent)
    made = expect(first.decide(submission["request_id"], "approve"), 201)
    refused_as_decided(second.decide(submission["request_id"], "approve"), made)
    refused_as_decided(second.decide(submission["request_id"], "reject", reason="No"), made)
    assert made["decided_by"]["id"] == first.id


@pytest.mark.parametrize("digest", [{}, {"action_digest": OTHER_DIGEST}], ids=["same action", "other action"])
def test_a_late_approval_is_refused(agent, operator, digest):
    submission = submit(agent, respond_by=in_seconds(1))
    time.sleep(max(0, instant(submission["respond_by"]).timestamp() - time.time()))
    late = operator.decide(submission["request_id"], "approve", **digest)
    # The sweep is another process: before it the deadline alone refuses, after it the decision that stands.
    swept = wait_until(lambda: operator.detail(submission["request_id"])["decision"])
    assert (swept["outcome"], swept["cause"]) == ("rejected", "timeout")
    assert late.status_code == 409 and late.json()["code"] in {"expired", "already-decided"}, late.text
    assert ("decision" in late.json()) == (late.json()["code"] == "already-decided")
    refused_as_decided(operator.decide(submission["request_id"], "approve", **digest), swept)


def test_an_approval_after_the_timeout_is_told_of_it(agent, operator):
    submission = submit(agent, respond_by=in_seconds(1))
    decision = wait_until(lambda: operator.detail(submission["request_id"])["decision"])
    assert decision["cause"] == "timeout"
    refused_as_decided(operator.decide(submission["request_id"], "approve"), decision)


def test_a_timeout_is_never_presented_as_a_persons(agent, operator):
    submission = submit(agent, respond_by=in_seconds(1))
    [decision] = agent.poll(wait_seconds=20)["decisions"]
    assert decision["request_id"] == submission["request_id"]
    assert (decision["outcome"], decision["cause"]) == ("rejected", "timeout")
    assert (decision["decided_by"]["kind"], decision["decided_by"]["id"]) == ("system", "timeout-sweep")
    assert instant(decision["decided_at"]) >= instant(submission["respond_by"])


def test_one_of_fifty_racing_operators_wins(agent, operators):
    def play(approve_late: float, reject_late: float) -> str:
        submission = submit(agent)

        def decide(operator, position):
            decision, late = (("approve", approve_late), ("reject", reject_late))[position % 2]
            reason = f"{decision} by {operator.id}"
            return lambda: (
                time.sleep(late), operator.decide(submission["request_id"], decision, reason=reason)
            )[1]

        responses = race([decide(operator, position) for position, operator in enumerate(operators)])
        statuses = [response.status_code for response in responses]
        assert sorted(statuses) == [201] + [409] * (len(operators) - 1)
        winner = statuses.index(201)
        made = responses[winner].json()
        assert made["decided_by"]["id"] == operators[winner].id
        for position, response in enumerate(responses):
            if position != winner:
                refused_as_decided(response, made)
        standing = operators[0].detail(submission["request_id"])["decision"]
        assert standing["decided_by"] == made["decided_by"]
        return made["outcome"]

    until_each_side_wins(play, {"approved", "rejected"})


def test_one_operators_repeated_clicks_make_one_decision(agent, operator):
    submission = submit(agent)
    responses = race([lambda: operator.decide(submission["request_id"], "approve")] * 20)
    assert sorted(response.status_code for response in responses) == [200] * 19 + [201]
    assert len({response.json()["decided_at"] for response in responses}) == 1


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_no_route_edits_or_removes_a_decision(agent, operator, method):
    submission = submit(agent)
    made = expect(operator.decide(submission["request_id"], "approve"), 201)
    for path in (decision_path(submission), f"{REQUESTS}/{submission['request_id']}"):
        response = operator.call(method, path, json={"decision": "reject", "reason": "No"})
        expect_problem(response, 405, "method-not-allowed")
    assert operator.detail(submission["request_id"])["decision"]["outcome"] == made["outcome"]


def test_deciding_repeats_nothing_of_the_agents_own(agent, operator):
    envelope = new_envelope(agent.agent_id, resume={"secret": "for-the-agent-only"})
    submission = expect(agent.submit(envelope), 201)
    made = operator.decide(submission["request_id"], "approve")
    assert "for-the-agent-only" not in made.text
    refused = operator.decide(submission["request_id"], "reject", reason="No")
    assert "for-the-agent-only" not in refused.text
