"""An agent that takes its question back, and the causes a decision can have."""

import time

import pytest

from agent import verify_receipt
from support import (
    decision_in,
    deliver,
    expect,
    expect_problem,
    export_chain,
    in_seconds,
    instant,
    pointers,
    race,
    submit,
    until_each_side_wins,
    verify_chain,
)


@pytest.mark.parametrize("reason", [None, "No longer needed"])
def test_an_agent_cancels_its_request(agent, operator, reason):
    request_id = submit(agent)["request_id"]
    body = expect(agent.cancel(request_id, reason), 200)
    assert (body["agent_id"], body["request_id"]) == (agent.agent_id, request_id)
    decision = decision_in(body)
    assert (decision["outcome"], decision["cause"]) == ("cancelled", "agent")
    assert decision["decided_by"].items() >= {"kind": "agent", "id": agent.agent_id}.items()
    assert decision["reason"] == reason
    seen = operator.detail(request_id)
    assert (seen["status"], seen["outcome"]) == ("decided", "cancelled")
    assert seen["decision"]["cause"] == "agent"


def test_a_cancellation_is_delivered_with_its_receipt(agent, jwks):
    request_id = submit(agent)["request_id"]
    expect(agent.cancel(request_id), 200)
    decision = deliver(agent, request_id)
    assert (decision["outcome"], decision["cause"]) == ("cancelled", "agent")
    claims = verify_receipt(decision["receipt"], jwks)
    assert (claims["sub"], claims["outcome"], claims["cause"]) == (request_id, "cancelled", "agent")
    expect(agent.acknowledge(decision), 200)


def test_a_repeated_cancellation_is_one(agent, admin):
    request_id = submit(agent)["request_id"]
    first, second = (expect(agent.cancel(request_id), 200) for _ in range(2))
    assert second == first
    export = export_chain(admin, request_id)
    entries = verify_chain(export, export["length"], export["head"])
    assert [entry["kind"] for entry in entries] == ["submitted", "decided"]


def test_a_decided_request_cannot_be_cancelled(agent, operator):
    request_id = submit(agent)["request_id"]
    made = expect(operator.decide(request_id, "approve"), 201)
    problem = expect_problem(agent.cancel(request_id), 409, "already-decided")
    assert problem["decision"]["outcome"] == "approved"
    assert problem["decision"]["decided_by"] == made["decided_by"]


def test_a_timed_out_request_cannot_be_cancelled(agent):
    submission = submit(agent, respond_by=in_seconds(1))
    decision = deliver(agent, submission["request_id"], wait_seconds=20)
    assert decision["cause"] == "timeout"
    problem = expect_problem(agent.cancel(submission["request_id"]), 409, "already-decided")
    assert (problem["decision"]["outcome"], problem["decision"]["cause"]) == ("rejected", "timeout")


def test_a_cancelled_request_cannot_be_decided(agent, operator):
    request_id = submit(agent)["request_id"]
    expect(agent.cancel(request_id), 200)
    problem = expect_problem(operator.decide(request_id, "approve"), 409, "already-decided")
    assert (problem["decision"]["outcome"], problem["decision"]["cause"]) == ("cancelled", "agent")
    assert problem["decision"]["decided_by"]["id"] == agent.agent_id


def test_a_cancellation_racing_an_approval_leaves_one_decision(agent, operator):
    def play(cancel_late: float, approve_late: float) -> str:
        request_id = submit(agent)["request_id"]
        cancelled, approved = race([
            lambda: (time.sleep(cancel_late), agent.cancel(request_id))[1],
            lambda: (time.sleep(approve_late), operator.decide(request_id, "approve"))[1],
        ])
        assert (cancelled.status_code, approved.status_code) in ((200, 409), (409, 201))
        outcome = expect(agent.view(request_id), 200)["decision"]["outcome"]
        assert outcome == ("cancelled" if cancelled.status_code == 200 else "approved")
        return outcome

    until_each_side_wins(play, {"cancelled", "approved"})


@pytest.mark.parametrize("body, pointer", [
    ({"reason": 7}, "/reason"),
    ({"surprise": 1}, "/surprise"),
], ids=str)
def test_a_malformed_cancellation_is_refused(agent, body, pointer):
    request_id = submit(agent)["request_id"]
    response = agent.call("POST", f"{agent.path}/requests/{request_id}/cancel", json=body)
    assert pointers(expect_problem(response, 422, "validation-failed")) == {pointer}
    assert expect(agent.view(request_id), 200)["decision"] is None


def test_a_timeout_is_on_record_as_the_systems(agent, operator, admin, jwks):
    submission = submit(agent, respond_by=in_seconds(1))
    decision = deliver(agent, submission["request_id"], wait_seconds=20)
    claims = verify_receipt(decision["receipt"], jwks)
    assert (claims["outcome"], claims["cause"]) == ("rejected", "timeout")
    assert claims["decided_by"]["id"] == "timeout-sweep"
    export = export_chain(admin, submission["request_id"])
    length = decision["chain"]["length"]
    decided = verify_chain(export, length, decision["chain"]["head"])[length - 1]
    assert decided["kind"] == "decided" and decided["actor"]["kind"] == "system"
    assert instant(decided["at"]) >= instant(submission["respond_by"])
    assert operator.detail(submission["request_id"])["decision"]["decided_by"]["kind"] == "system"
