"""What permits promise sentence by sentence: their time, their order, what edits and responses are good for."""

import secrets

import psycopg
import pytest

from support import (
    ACTION,
    deliver,
    expect,
    expect_problem,
    instant,
    register_agent,
    submit,
    submit_decided,
    wait_until,
)
from test_answers import EDIT, digest, edit
from test_permits import OTHER, consume, entries, new_attempt, report, view


def lasts(agent, request: dict) -> float:
    decision = view(agent, request)["decision"]
    return (instant(decision["permit"]["expires_at"]) - instant(decision["decided_at"])).total_seconds()


# ---------------------------------------------------------------- how long


@pytest.mark.parametrize("asked, seconds", [(None, 3600), (10, 10), (3599, 3599), (3600, 3600), (3601, 3600),
                                            (86_400, 3600)])
def test_where_no_policy_says_the_deployments_time_is_the_longest(agent, operator, admin, asked, seconds):
    request = submit_decided(agent, operator, **({} if asked is None else {"permit_seconds": asked}))
    assert lasts(agent, request) == seconds
    said = entries(admin, request)[0].get("permit_seconds")
    assert said == (None if asked is None else seconds)


@pytest.mark.parametrize("policy, asked, seconds", [
    (86_400, None, 86_400), (86_400, 50_000, 50_000), (7200, 86_400, 7200), (60, 86_400, 60), (60, 10, 10),
])
def test_a_policy_may_say_more_than_the_deployment_and_an_envelope_only_less(agent, operator, admin, policy, asked,
                                                                            seconds):
    rule = {"agent_id": agent.agent_id, "priority": "P2", "respond_within_seconds": 600, "permit_seconds": policy}
    expect(admin.call("PUT", "/v1/admin/timeout-policies", json=rule), 200)
    assert lasts(agent, submit_decided(agent, operator, **({} if asked is None else {"permit_seconds": asked}))) == seconds


def test_replays_and_late_deliveries_renew_nothing(agent, operator, admin):
    request = submit_decided(agent, operator)
    request_id = request["request_id"]
    first = deliver(agent, request_id)
    fault = {"code": "x", "message": "y"}
    assert expect(agent.acknowledge(first, "retry", fault), 200)["state"] == "ready"
    second = deliver(agent, request_id)
    expect(agent.acknowledge(second, "failed", fault), 200)
    order = {"replay_key": f"r-{secrets.token_hex(8)}", "target": "deliveries", "scope": {"request_ids": [request_id]},
             "reason": "Lost"}
    expect(admin.post("/v1/admin/replay", json=order), 202)
    third = deliver(agent, request_id)
    assert (third["replayed"], third["attempt"]) == (True, 3)
    assert first["permit"] == second["permit"] == third["permit"] == view(agent, request)["permit"]
    assert first["receipt"] == third["receipt"]


@pytest.fixture(scope="session")
def short(admin, operator):
    """Approvals that may be used for ten seconds: two that nobody uses, one of these where consuming is required, and one
    that is used at once."""
    agent, strict = register_agent(admin), register_agent(admin)
    rule = {"agent_id": strict.agent_id, "priority": "P2", "respond_within_seconds": 600, "permit_seconds": 10,
            "consume": "required"}
    expect(admin.call("PUT", "/v1/admin/timeout-policies", json=rule), 200)
    unused, used = (submit_decided(agent, operator, permit_seconds=10) for _ in range(2))
    attempt = new_attempt(used)
    expect(consume(agent, used, attempt), 200)
    required = submit_decided(strict, operator)
    return {"agent": agent, "strict": strict, "unused": unused, "used": used, "attempt": attempt, "required": required}


@pytest.mark.first
def test_an_approval_waits_to_be_used(short, operator):
    assert view(short["agent"], short["unused"])["execution"] == "waiting"
    assert operator.detail(short["unused"]["request_id"])["execution"] == "waiting"
    expect_problem(short["strict"].acknowledge(deliver(short["strict"], short["required"]["request_id"])), 409,
                   "not-consumed")


@pytest.mark.last
def test_an_approval_that_was_not_used_in_time_is_unused(short, operator, wait_for):
    agent, unused = short["agent"], short["unused"]
    wait_for(view(agent, unused)["permit"]["expires_at"])
    expect_problem(consume(agent, unused), 409, "permit-expired")
    expect_problem(consume(agent, unused, new_attempt(unused, action_digest=OTHER)), 409, "action-mismatch")
    assert view(agent, unused)["execution"] == "unused"
    assert operator.detail(unused["request_id"])["execution"] == "unused"
    [item] = [item for item in operator.queue(status="decided", agent_id=agent.agent_id)["items"]
              if item["request_id"] == unused["request_id"]]
    assert item["execution"] == "unused"
    expect_problem(report(agent, unused, "failed"), 409, "not-consumed")


@pytest.mark.last
def test_the_same_attempt_is_repeated_also_after_its_time(short, wait_for):
    agent, used = short["agent"], short["used"]
    wait_for(view(agent, used)["permit"]["expires_at"])
    assert expect(consume(agent, used, short["attempt"]), 200)["repeated"] is True
    expect_problem(consume(agent, used), 409, "already-consumed")


@pytest.mark.last
def test_where_consuming_is_required_an_approval_that_is_over_may_be_accepted(short, wait_for):
    agent, required = short["strict"], short["required"]
    wait_for(view(agent, required)["permit"]["expires_at"])
    ended = agent.call("POST", f"{agent.path}/decisions/{required['request_id']}/ack", json={"result": "accepted"})
    assert expect(ended, 200)["state"] == "acknowledged"


def test_who_uses_and_says_nothing_leaves_an_unknown_outcome_until_a_report_replaces_it(agent, operator, admin, stack):
    request = submit_decided(agent, operator)
    expect(consume(agent, request), 200)
    with psycopg.connect(stack["database_url"]) as owner:
        # The hour is over.
        owner.execute("UPDATE outcomes_due SET due_at = now() WHERE request_id = %s", [request["request_id"]])
    wait_until(lambda: view(agent, request)["execution"] == "unknown")
    assert operator.detail(request["request_id"])["execution"] == "unknown"
    [item] = [item for item in stale(admin) if item["request_id"] == request["request_id"]]
    assert (item["why"], item["agent_id"]) == ("outcome_unknown", agent.agent_id)
    first = expect(report(agent, request, "succeeded", note="Late"), 200)
    assert first["repeated"] is False and view(agent, request)["execution"] == "succeeded"
    expect_problem(report(agent, request, "failed"), 409, "outcome-conflict")
    unknown, late = entries(admin, request)[-2:]
    assert (unknown["kind"], unknown["state"], unknown["actor"]["kind"]) == ("outcome", "unknown", "system")
    assert (late["kind"], late["state"], late["note"]) == ("outcome", "succeeded", "Late")
    assert request["request_id"] not in [item["request_id"] for item in stale(admin)]


def stale(admin) -> list[dict]:
    found, query = [], {"limit": 200}
    while query:
        page = expect(admin.get("/v1/admin/stale", params=query), 200)
        found += page["items"]
        query = {"limit": 200, "cursor": page["next_cursor"]} if page["next_cursor"] else None
    return found


# ---------------------------------------------------------------- the order of checks


def test_the_same_attempt_comes_before_all_else(agent, operator):
    approved = submit_decided(agent, operator)
    attempt = new_attempt(approved)
    used = expect(consume(agent, approved, attempt), 200)
    # The answer names what was used: whoever would run another action sees the difference.
    assert expect(consume(agent, approved, attempt | {"action_digest": OTHER}), 200) == used | {"repeated": True}


@pytest.mark.parametrize("outcome", ["reject", "respond", "cancel", None])
def test_what_is_not_approved_is_not_approved_whatever_the_action(agent, operator, outcome):
    request = submit(agent, answers=["approve", "respond"])
    if outcome == "cancel":
        expect(agent.cancel(request["request_id"]), 200)
    elif outcome:
        said = {"response": "Ask first"} if outcome == "respond" else {"reason": "No"}
        expect(operator.decide(request["request_id"], outcome, **said), 201)
    for attempt in (new_attempt(request), new_attempt(request, action_digest=OTHER)):
        expect_problem(consume(agent, request, attempt), 409, "not-approved")
    assert view(agent, request)["execution"] == "none" and view(agent, request)["permit"] is None


def test_not_found_comes_first(agent):
    unknown = {"request_id": "0192f5c4-6a3e-7c11-9d2f-2f0c5a8e4b17", "action_digest": OTHER}
    expect_problem(consume(agent, unknown), 404, "not-found")
    expect_problem(report(agent, unknown, "failed"), 404, "not-found")


@pytest.mark.parametrize("length", [16, 128])
def test_a_consume_key_has_16_to_128_characters(agent, operator, length):
    approved = submit_decided(agent, operator)
    expect(consume(agent, approved, new_attempt(approved, consume_key=("aZ9._:-" * 20)[:length])), 200)


def test_a_note_has_2000_characters_at_the_most(agent, operator):
    approved = submit_decided(agent, operator)
    expect(consume(agent, approved), 200)
    assert expect(report(agent, approved, "failed", note="\N{SNOWMAN}" * 2000), 200)["note"] == "\N{SNOWMAN}" * 2000


def test_agents_that_never_consume_work_as_before(agent, operator):
    approved = submit_decided(agent, operator)
    assert expect(agent.acknowledge(deliver(agent, approved["request_id"])), 200)["state"] == "acknowledged"
    assert view(agent, approved)["execution"] == "waiting"
    # And may still: a use works in any state of the delivery.
    expect(consume(agent, approved), 200)


# ---------------------------------------------------------------- edited actions and responses


def test_a_permit_is_for_what_was_approved_and_not_for_what_was_asked(agent, operator, admin):
    request = submit(agent, answers=EDIT)
    edited = expect(edit(operator, request["request_id"], {"amount": "1"}), 201)["action_digest"]
    expect_problem(consume(agent, request), 409, "action-mismatch")
    used = expect(consume(agent, request, new_attempt(request, action_digest=edited)), 200)
    assert used["action_digest"] == edited != request["action_digest"]
    assert entries(admin, request)[-1]["action_digest"] == edited


def test_an_edit_that_changes_nothing_is_for_what_was_asked(agent, operator):
    request = submit(agent, answers=EDIT)
    expect(edit(operator, request["request_id"], ACTION["arguments"]), 201)
    expect(consume(agent, request), 200)


@pytest.mark.parametrize("decision", ["edit", "respond"])
def test_what_an_operator_wrote_is_insert_only_and_its_digest_is_in_the_entry(agent, operator, admin, stack, decision):
    request = submit(agent, answers=EDIT + ["respond"])
    if decision == "edit":
        expect(edit(operator, request["request_id"], {"amount": "1"}), 201)
    else:
        expect(operator.decide(request["request_id"], "respond", response="Ask first"), 201)
    decided = entries(admin, request)[-1]
    if decision == "edit":
        action = {"type": ACTION["type"], "arguments": {"amount": "1"}}
        assert (decided["action_digest"], decided["edited"]) == (digest(action), True)
        assert decided["requested_action_digest"] == request["action_digest"]
    else:
        assert (decided["response_digest"], decided["action_digest"]) == (digest("Ask first"), request["action_digest"])
    with psycopg.connect(stack["database_url"]) as owner:
        row = "FROM decision_values WHERE request_id = %s"
        assert owner.execute(f"SELECT count(*) {row}", [request["request_id"]]).fetchone() == (1,)
        for change in ("UPDATE decision_values SET seq = seq WHERE request_id = %s", f"DELETE {row}"):
            with pytest.raises(psycopg.errors.RestrictViolation), owner.transaction():
                owner.execute(change, [request["request_id"]])
        for change in ("UPDATE decision_values SET seq = seq", "DELETE FROM decision_values"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), owner.transaction():
                owner.execute("SET LOCAL ROLE relaytrace_app")
                owner.execute(change)
