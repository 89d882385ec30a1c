"""An approval is used once, for the action that was approved, and what became of it is on record."""

import secrets

import pytest

from agent import action_digest
from support import (
    ACTION,
    deliver,
    expect,
    expect_problem,
    export_chain,
    instant,
    pointers,
    race,
    register_agent,
    register_key,
    submit,
    submit_decided,
    verify_chain,
)

OTHER = "sha256:" + 64 * "0"


def new_attempt(request: dict, **changes) -> dict:
    return {"consume_key": secrets.token_urlsafe(24), "action_digest": request["action_digest"]} | changes


def consume(agent, request: dict, attempt: dict | None = None):
    path = f"{agent.path}/requests/{request['request_id']}/consume"
    return agent.call("POST", path, json=attempt or new_attempt(request))


def report(agent, request: dict, state: str, **members):
    path = f"{agent.path}/requests/{request['request_id']}/outcome"
    return agent.call("POST", path, json={"state": state} | members)


def view(agent, request: dict) -> dict:
    return expect(agent.view(request["request_id"]), 200)


def entries(admin, request: dict) -> list[dict]:
    export = export_chain(admin, request["request_id"])
    return verify_chain(export, export["length"], export["head"])


@pytest.fixture
def approved(agent, operator) -> dict:
    return submit_decided(agent, operator)


def test_every_approval_says_how_long_it_may_be_used(agent, operator, approved):
    delivered = deliver(agent, approved["request_id"])
    decided_at, expires_at = delivered["decided_at"], delivered["permit"]["expires_at"]
    assert (instant(expires_at) - instant(decided_at)).total_seconds() == 3600
    for seen in (view(agent, approved), view(agent, approved)["decision"], operator.detail(approved["request_id"]),
                 agent.check_decision(delivered, {"type": "refund.create",
                                                  "arguments": {"customer": "88213", "amount": "1240.00"}},
                                      agent.receipt_keys())):
        assert seen["permit"] == {"expires_at": expires_at}


def test_a_rejection_has_no_permit(agent, operator):
    request = submit(agent)
    assert (view(agent, request)["permit"], view(agent, request)["execution"]) == (None, "none")
    expect(operator.decide(request["request_id"], "reject", reason="No"), 201)
    assert (view(agent, request)["permit"], view(agent, request)["execution"]) == (None, "none")
    expect_problem(consume(agent, request), 409, "not-approved")


def test_a_permit_is_used_by_the_agent_and_its_outcome_reported(agent, operator, admin, approved):
    assert view(agent, approved)["execution"] == "waiting"
    used = expect(consume(agent, approved), 200)
    assert (used["consumed_by"], used["repeated"]) == (agent.key_id, False)
    assert used["action_digest"] == approved["action_digest"]
    assert view(agent, approved)["execution"] == "consumed"
    evidence = "sha256:" + 64 * "a"
    said = expect(report(agent, approved, "succeeded", note="Booked", evidence_sha256=evidence), 200)
    assert (said["state"], said["repeated"]) == ("succeeded", False)
    assert view(agent, approved)["execution"] == "succeeded"
    assert operator.detail(approved["request_id"])["execution"] == "succeeded"
    chain = entries(admin, approved)
    assert [entry["kind"] for entry in chain] == ["submitted", "decided", "consumed", "outcome"]
    assert chain[3]["evidence_sha256"] == evidence


def test_the_same_attempt_again_is_the_same_use(agent, admin, approved):
    attempt = new_attempt(approved)
    first = expect(consume(agent, approved, attempt), 200)
    assert expect(consume(agent, approved, attempt), 200) == first | {"repeated": True}
    assert len(entries(admin, approved)) == 3


def test_another_attempt_is_refused(agent, admin, approved):
    attempt = new_attempt(approved)
    expect(consume(agent, approved, attempt), 200)
    expect_problem(consume(agent, approved), 409, "already-consumed")
    expect_problem(consume(agent, approved, new_attempt(approved, action_digest=OTHER)), 409, "already-consumed")
    expect_problem(consume(register_key(admin, agent.agent_id), approved, attempt), 409, "already-consumed")


def test_another_action_is_refused(agent, approved):
    expect_problem(consume(agent, approved, new_attempt(approved, action_digest=OTHER)), 409, "action-mismatch")
    expect(consume(agent, approved), 200)


def test_what_is_pending_is_not_approved(agent):
    expect_problem(consume(agent, submit(agent)), 409, "not-approved")


def test_another_agents_request_does_not_exist(agent, admin, approved):
    other = register_agent(admin)
    expect_problem(consume(other, approved), 404, "not-found")
    expect_problem(report(other, approved, "failed"), 404, "not-found")


@pytest.mark.parametrize("attempt, at", [
    ({"consume_key": "short"}, "/consume_key"),
    ({"consume_key": "x" * 129}, "/consume_key"),
    ({"consume_key": "y" * 15 + " "}, "/consume_key"),
    ({"action_digest": "sha256:0"}, "/action_digest"),
])
def test_an_attempt_is_checked(agent, approved, attempt, at):
    problem = expect_problem(consume(agent, approved, new_attempt(approved) | attempt), 422, "validation-failed")
    assert pointers(problem) == {at}


def test_executors_that_race_use_it_once(agent, approved):
    answers = race([lambda: consume(agent, approved) for _ in range(20)])
    assert sorted(answer.status_code for answer in answers) == [200] + 19 * [409]


@pytest.mark.parametrize("state", ["ready", "leased", "acknowledged", "dead_lettered"])
def test_a_use_ends_the_delivery_whatever_its_state(agent, operator, admin, approved, state):
    request_id = approved["request_id"]
    if state != "ready":
        delivered = deliver(agent, request_id)
        if state == "acknowledged":
            expect(agent.acknowledge(delivered), 200)
        if state == "dead_lettered":
            expect(agent.acknowledge(delivered, "failed", {"code": "x", "message": "y"}), 200)
    before = len(entries(admin, approved))
    expect(consume(agent, approved), 200)
    assert [entry["kind"] for entry in entries(admin, approved)][before:] == ["consumed"]
    assert operator.detail(request_id)["delivery"]["state"] == "acknowledged"
    assert agent.poll()["decisions"] == []
    open_ones = expect(admin.get("/v1/admin/dead-letters", params={"agent_id": agent.agent_id}), 200)["items"]
    assert [letter for letter in open_ones if letter["request_id"] == request_id and not letter["resolved_at"]] == []


def test_acknowledgements_after_a_use(agent, approved):
    delivered = deliver(agent, approved["request_id"])
    expect(consume(agent, approved), 200)
    fault = {"code": "x", "message": "y"}
    for result in ("retry", "failed"):
        expect_problem(agent.acknowledge(delivered, result, fault), 409, "already-consumed")
    assert expect(agent.acknowledge(delivered), 200)["state"] == "acknowledged"


def test_an_outcome_is_reported_once(agent, approved):
    expect_problem(report(agent, approved, "succeeded"), 409, "not-consumed")
    expect(consume(agent, approved), 200)
    first = expect(report(agent, approved, "failed", note="Disk full"), 200)
    assert expect(report(agent, approved, "failed", note="Disk full"), 200) == first | {"repeated": True}
    expect_problem(report(agent, approved, "succeeded"), 409, "outcome-conflict")
    expect_problem(report(agent, approved, "failed", note="Other"), 409, "outcome-conflict")


@pytest.mark.parametrize("members, at", [
    ({"state": "unknown"}, "/state"),
    ({"note": "x" * 2001}, "/note"),
    ({"evidence_sha256": "sha256:12"}, "/evidence_sha256"),
])
def test_a_report_is_checked(agent, approved, members, at):
    expect(consume(agent, approved), 200)
    problem = expect_problem(report(agent, approved, **({"state": "failed"} | members)), 422, "validation-failed")
    assert pointers(problem) == {at}


def test_where_consuming_is_required_nothing_is_accepted_before(agent, operator, admin):
    policy = {"agent_id": agent.agent_id, "priority": "P2", "respond_within_seconds": 600, "permit_seconds": 60,
              "consume": "required"}
    stood = expect(admin.call("PUT", "/v1/admin/timeout-policies", json=policy), 200)
    assert (stood["permit_seconds"], stood["consume"]) == (60, "required")
    request = submit_decided(agent, operator)
    delivered = deliver(agent, request["request_id"])
    lasts = instant(delivered["permit"]["expires_at"]) - instant(delivered["decided_at"])
    assert lasts.total_seconds() == 60
    expect_problem(agent.acknowledge(delivered), 409, "not-consumed")
    expect(consume(agent, request), 200)
    assert expect(agent.acknowledge(delivered), 200)["state"] == "acknowledged"


@pytest.mark.parametrize("asked, lasts", [(30, 30), (300, 60), (None, 60)])
def test_the_shorter_of_envelope_and_policy_holds(agent, operator, admin, asked, lasts):
    policy = {"agent_id": agent.agent_id, "priority": "P2", "respond_within_seconds": 600, "permit_seconds": 60}
    expect(admin.call("PUT", "/v1/admin/timeout-policies", json=policy), 200)
    request = submit_decided(agent, operator, **({} if asked is None else {"permit_seconds": asked}))
    decision = view(agent, request)["decision"]
    lasted = instant(decision["permit"]["expires_at"]) - instant(decision["decided_at"])
    assert lasted.total_seconds() == lasts
    assert entries(admin, request)[0]["permit_seconds"] == lasts


def test_a_timeout_never_approves_where_consuming_is_required(agent, admin):
    policy = {"agent_id": agent.agent_id, "action_type": "refund.create", "priority": "P2",
              "respond_within_seconds": 600, "on_timeout": "auto_approve", "consume": "required"}
    problem = expect_problem(admin.call("PUT", "/v1/admin/timeout-policies", json=policy), 422, "validation-failed")
    assert pointers(problem) == {"/on_timeout"}


def test_arguments_that_change_between_approval_and_run_are_not_run(agent, admin, approved):
    """An executor digests what it is about to run, not what it asked for."""
    for changes in ({"amount": "12400.00"}, {"iban": "DE02120300000000202051"}, {"amount": 1240.0}):
        changed = ACTION | {"arguments": ACTION["arguments"] | changes}
        attempt = new_attempt(approved, action_digest=action_digest(changed))
        expect_problem(consume(agent, approved, attempt), 409, "action-mismatch")
    another_tool = action_digest(ACTION | {"type": "refund.create.all"})
    expect_problem(consume(agent, approved, new_attempt(approved, action_digest=another_tool)), 409, "action-mismatch")
    assert view(agent, approved)["execution"] == "waiting"
    expect(consume(agent, approved, new_attempt(approved, action_digest=action_digest(ACTION))), 200)
    assert [entry["kind"] for entry in entries(admin, approved)] == ["submitted", "decided", "consumed"]


def test_an_executor_that_dies_after_its_use_leaves_nothing_to_run_again(agent, operator, admin, approved):
    """Two executors hold one approval; the first dies between consume and run."""
    delivered = deliver(agent, approved["request_id"])
    before_the_crash = new_attempt(approved)
    expect(consume(agent, approved, before_the_crash), 200)
    expect_problem(consume(register_key(admin, agent.agent_id), approved), 409, "already-consumed")
    # Restarted it is another attempt; with the key from before it is told that it may have run.
    expect_problem(consume(agent, approved), 409, "already-consumed")
    assert expect(consume(agent, approved, before_the_crash), 200)["repeated"]
    assert agent.poll()["decisions"] == []
    expect(agent.acknowledge(delivered), 200)
    for shown in (view(agent, approved), operator.detail(approved["request_id"])):
        assert shown["execution"] == "consumed"
    assert [entry["kind"] for entry in entries(admin, approved)] == ["submitted", "decided", "consumed"]
