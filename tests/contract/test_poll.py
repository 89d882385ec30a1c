"""How decisions reach an agent: waiting, limits, leases, and the agent's own view."""

import time
from datetime import timedelta

import pytest

from agent import action_digest
from support import (
    ACTION,
    deliver,
    expect,
    expect_problem,
    instant,
    new_envelope,
    race,
    register_agent,
    submit,
    submit_decided,
)


def poll_response(agent, **query):
    return agent.call("GET", f"{agent.path}/decisions/poll", params=query)


def request_ids(polled: dict) -> list[str]:
    return [decision["request_id"] for decision in polled["decisions"]]


def test_an_empty_poll_answers_at_once(agent):
    response = poll_response(agent)
    polled = expect(response, 200)
    assert polled["agent_id"] == agent.agent_id
    assert polled["decisions"] == []
    assert polled["has_more"] is False
    assert abs(instant(polled["polled_at"]).timestamp() - time.time()) < 5
    assert response.elapsed < timedelta(seconds=1)


def test_a_poll_waits_as_long_as_it_was_told(agent):
    response = poll_response(agent, wait_seconds=1)
    assert expect(response, 200)["decisions"] == []
    assert timedelta(seconds=0.9) < response.elapsed < timedelta(seconds=3)


def test_a_pending_request_is_not_delivered(agent):
    submit(agent)
    assert agent.poll()["decisions"] == []


def test_a_ready_decision_is_not_waited_for(agent, operator):
    submission = submit_decided(agent, operator)
    response = poll_response(agent, wait_seconds=20)
    assert request_ids(expect(response, 200)) == [submission["request_id"]]
    assert response.elapsed < timedelta(seconds=2)


def test_a_poll_takes_no_more_than_its_limit(agent, operator):
    submitted = {submit_decided(agent, operator)["request_id"] for _ in range(3)}
    first = agent.poll(limit=2)
    assert len(first["decisions"]) == 2 and first["has_more"] is True
    second = agent.poll(limit=2)
    assert len(second["decisions"]) == 1 and second["has_more"] is False
    assert set(request_ids(first)) | set(request_ids(second)) == submitted


def test_a_poll_takes_ten_unless_told_otherwise(agent, operator):
    for _ in range(12):
        submit_decided(agent, operator)
    first = agent.poll()
    assert len(first["decisions"]) == 10 and first["has_more"] is True
    assert len(agent.poll()["decisions"]) == 2


def test_a_poll_stays_under_a_megabyte(agent, operator):
    submitted = {submit_decided(agent, operator, resume={"padding": "x" * 200_000})["request_id"] for _ in range(8)}
    delivered = []
    while len(delivered) < len(submitted):
        response = poll_response(agent, limit=100)
        assert len(response.content) < 1_000_000
        polled = expect(response, 200)
        assert polled["decisions"], "nothing more was delivered"
        delivered += request_ids(polled)
        assert polled["has_more"] is (len(delivered) < len(submitted))
    assert len(delivered) == len(set(delivered)) and set(delivered) == submitted


@pytest.mark.parametrize(
    "query", [{"wait_seconds": 21}, {"wait_seconds": 99999}, {"limit": 101}, {"limit": 99999}], ids=str
)
def test_what_is_above_the_range_is_clamped(agent, operator, query):
    submission = submit_decided(agent, operator)
    assert request_ids(expect(poll_response(agent, **query), 200)) == [submission["request_id"]]


@pytest.mark.parametrize("name", ["wait_seconds", "limit"])
@pytest.mark.parametrize("value", ["ten", "5s", "0x10", "NaN", "' OR 1=1"])
def test_what_is_no_number_is_refused(shared_agent, name, value):
    expect_problem(poll_response(shared_agent, **{name: value}), 422, "validation-failed")


def test_a_leased_decision_is_not_delivered_again(agent, operator):
    submission = submit_decided(agent, operator)
    lease = deliver(agent, submission["request_id"])["lease_expires_at"]
    assert agent.poll()["decisions"] == []
    assert agent.poll(request_ids=[submission["request_id"]])["decisions"] == []
    assert instant(lease).timestamp() > time.time()


def test_concurrent_pollers_get_disjoint_decisions(agent, operator):
    submitted = {submit_decided(agent, operator)["request_id"] for _ in range(20)}
    delivered = []
    while len(delivered) < len(submitted):
        polls = race([lambda: agent.poll(limit=4, wait_seconds=1)] * 8)
        leased = [request_id for polled in polls for request_id in request_ids(polled)]
        assert leased, "nothing more was delivered"
        delivered += leased
    assert len(delivered) == len(set(delivered)) and set(delivered) == submitted


def test_workers_do_not_take_each_others_answers(agent, operator):
    mine, theirs, other = (submit_decided(agent, operator)["request_id"] for _ in range(3))
    assert request_ids(agent.poll(request_ids=[mine])) == [mine]
    assert agent.poll(request_ids=[mine])["decisions"] == []
    assert sorted(request_ids(agent.poll(request_ids=[theirs, other]))) == sorted([theirs, other])


def test_a_worker_is_woken_by_its_own_answer_only(agent, operator):
    mine, theirs = (submit(agent)["request_id"] for _ in range(2))

    def decide():
        expect(operator.decide(theirs, "approve"), 201)
        expect(operator.decide(mine, "approve"), 201)

    polled, _ = race([lambda: agent.poll(wait_seconds=10, request_ids=[mine]), decide])
    assert request_ids(polled) == [mine]
    assert request_ids(agent.poll()) == [theirs]


def test_an_agent_polls_only_its_own_decisions(admin, agent, operator):
    other = register_agent(admin)
    theirs = submit_decided(other, operator)["request_id"]
    assert agent.poll()["decisions"] == []
    assert agent.poll(request_ids=[theirs])["decisions"] == []
    assert request_ids(other.poll()) == [theirs]


# ---------------------------------------------------------------- the agent's own view


def test_an_agent_sees_its_pending_request(agent):
    envelope = new_envelope(agent.agent_id, resume={"step": 2})
    submission = expect(agent.submit(envelope), 201)
    view = expect(agent.view(submission["request_id"]), 200)
    for member in ("agent_id", "request_id", "client_request_key", "status", "priority", "action_digest"):
        assert view[member] == submission[member]
    for member in ("created_at", "respond_by"):
        assert instant(view[member]) == instant(submission[member])
    assert view["decision"] is None


def test_a_crashed_agent_recovers_its_decision(agent, operator, jwks):
    submission = submit(agent, resume={"step": 2})
    expect(operator.decide(submission["request_id"], "reject", reason="No"), 201)
    delivered = deliver(agent, submission["request_id"])
    expect(agent.acknowledge(delivered), 200)

    view = expect(agent.view(submission["request_id"]), 200)
    assert view["status"] == "decided"
    decision = view["decision"]
    for member in ("request_id", "client_request_key", "outcome", "cause", "decided_by", "reason", "action_digest",
                   "resume", "chain", "receipt"):
        assert decision[member] == delivered[member]
    assert instant(decision["decided_at"]) == instant(delivered["decided_at"])
    assert "delivery_id" not in decision and "lease_expires_at" not in decision
    assert agent.check_decision(decision, ACTION, jwks)["action_digest"] == action_digest(ACTION)


def test_looking_does_not_lease(agent, operator):
    submission = submit_decided(agent, operator)
    assert expect(agent.view(submission["request_id"]), 200)["decision"]["outcome"] == "approved"
    assert deliver(agent, submission["request_id"])["attempt"] == 1


def test_another_agents_request_does_not_exist(admin, agent, operator):
    other = register_agent(admin)
    theirs = submit_decided(other, operator)["request_id"]
    delivery = deliver(other, theirs)
    expect_problem(agent.view(theirs), 404, "not-found")
    expect_problem(agent.cancel(theirs), 404, "not-found")
    expect_problem(agent.acknowledge(delivery), 404, "not-found")
    expect(other.acknowledge(delivery), 200)
