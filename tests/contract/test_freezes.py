"""Freezes: for a time nothing that they cover is approved or used; a stop revokes what was approved before it."""

import secrets
import threading
from datetime import datetime, timedelta, timezone

import psycopg
import pytest

from support import (
    ACTION,
    deliver,
    expect,
    expect_problem,
    in_seconds,
    instant,
    pointers,
    race,
    register_agent,
    submit,
    submit_decided,
    until_each_side_wins,
    wait_until,
)
from test_permits import consume, entries, new_attempt, report, view

FREEZES = "/v1/admin/freezes"


def new_freeze(agent, mode: str = "hold", **changes) -> dict:
    return {"agent_id": agent.agent_id, "mode": mode, "until": in_seconds(600), "reason": "The key was stolen"} | changes


@pytest.fixture
def freezes(admin):
    """Freezes, ended after the test whatever became of it."""
    made = Freezes(admin)
    yield made
    for name in made.names:
        admin.call("DELETE", f"{FREEZES}/{name}")


class Freezes:
    def __init__(self, admin):
        self.admin, self.names = admin, []

    def name(self) -> str:
        self.names.append(f"incident-{secrets.token_hex(6)}")
        return self.names[-1]

    def put(self, name: str, freeze: dict):
        return self.admin.call("PUT", f"{FREEZES}/{name}", json=freeze, timeout=10)

    def set(self, freeze: dict) -> str:
        name = self.name()
        expect(self.put(name, freeze), 200)
        return name

    def end(self, name: str):
        response = self.admin.call("DELETE", f"{FREEZES}/{name}")
        assert (response.status_code, response.content) == (204, b""), response.text

    def get(self, name: str):
        return self.admin.get(f"{FREEZES}/{name}")

    def listed(self, **query) -> list[dict]:
        """All pages of a list."""
        found, cursor = [], None
        while True:
            page = expect(self.admin.get(FREEZES, params=query | ({"cursor": cursor} if cursor else {})), 200)
            found += page["items"]
            if not (cursor := page["next_cursor"]):
                return found

    def log(self, name: str) -> list[str]:
        items = expect(self.admin.get("/v1/admin/log", params={"limit": 200}), 200)["items"]
        return [item["action"] for item in reversed(items) if item["subject"] == name]


# ---------------------------------------------------------------- the resource


@pytest.mark.parametrize("mode", ["hold", "stop"])
def test_a_freeze_is_made_shown_listed_and_ended(agent, freezes, mode):
    name, freeze = freezes.name(), new_freeze(agent, mode, action_type="refund.create")
    made = expect(freezes.put(name, freeze), 200)
    assert {member: made[member] for member in freeze if member != "until"} == {
        member: value for member, value in freeze.items() if member != "until"
    }
    assert instant(made["until"]) == instant(freeze["until"])
    assert (made["freeze_id"], made["in_force"], made["ended_at"]) == (name, True, None)
    assert instant(made["created_at"]) <= datetime.now(timezone.utc) + timedelta(seconds=1) and made["created_by"]
    assert expect(freezes.get(name), 200) == made
    assert made in freezes.listed()
    freezes.end(name)
    expect_problem(freezes.get(name), 404, "not-found")
    assert name not in [item["freeze_id"] for item in freezes.listed()]
    [ended] = [item for item in freezes.listed(status="ended") if item["freeze_id"] == name]
    assert ended["ended_at"] and ended["ended_by"] and not ended["in_force"]


def test_every_call_may_be_repeated_as_it_was(agent, freezes):
    name, freeze = freezes.name(), new_freeze(agent)
    first = expect(freezes.put(name, freeze), 200)
    assert expect(freezes.put(name, freeze), 200) == first
    freezes.end(name)
    freezes.end(name)
    assert freezes.log(name) == ["freeze.set", "freeze.ended"]


def test_a_repeated_call_whose_time_is_over_gets_its_answer(agent, freezes):
    name, freeze = freezes.name(), new_freeze(agent, until=in_seconds(0.5))
    first = expect(freezes.put(name, freeze), 200)
    wait_until(lambda: not expect(freezes.get(name), 200)["in_force"])
    assert expect(freezes.put(name, freeze), 200) == first | {"in_force": False}


def test_another_freeze_of_the_name_takes_its_place(agent, freezes):
    name = freezes.name()
    first = expect(freezes.put(name, new_freeze(agent, "stop")), 200)
    second = expect(freezes.put(name, new_freeze(agent, reason="Only for now")), 200)
    assert (second["mode"], second["reason"]) == ("hold", "Only for now")
    assert instant(second["created_at"]) > instant(first["created_at"])
    assert [item for item in freezes.listed() if item["freeze_id"] == name] == [second]
    [before] = [item for item in freezes.listed(status="ended") if item["freeze_id"] == name]
    assert (before["mode"], before["ended_at"]) == ("stop", second["created_at"])


def test_a_name_may_be_taken_again_after_its_end(agent, freezes):
    name, freeze = freezes.name(), new_freeze(agent)
    first = expect(freezes.put(name, freeze), 200)
    freezes.end(name)
    assert instant(expect(freezes.put(name, freeze), 200)["created_at"]) > instant(first["created_at"])


def test_what_never_was_is_not_found(freezes):
    for name in (f"never-{secrets.token_hex(6)}", "a b", "x" * 129, "%00"):
        expect_problem(freezes.get(name), 404, "not-found")
        expect_problem(freezes.admin.call("DELETE", f"{FREEZES}/{name}"), 404, "not-found")


@pytest.mark.parametrize("changes, at", [
    ({"mode": "pause"}, "/mode"),
    ({"mode": None}, "/mode"),
    ({"until": "tomorrow"}, "/until"),
    ({"until": in_seconds(-1)}, "/until"),
    ({"until": "0000-01-01T00:00:00Z"}, "/until"),
    ({"until": "+10000-01-01T00:00:00Z"}, "/until"),
    ({"reason": ""}, "/reason"),
    ({"reason": "x" * 2001}, "/reason"),
    ({"agent_id": "A"}, "/agent_id"),
    ({"agent_id": "nobody-of-this-name"}, "/agent_id"),
    ({"action_type": "a b"}, "/action_type"),
    ({"agents": ["a"]}, "/agents"),
])
def test_a_freeze_is_checked(agent, freezes, changes, at):
    name = freezes.name()
    problem = expect_problem(freezes.put(name, new_freeze(agent) | changes), 422, "validation-failed")
    assert pointers(problem) == {at}
    expect_problem(freezes.get(name), 404, "not-found")


@pytest.mark.parametrize("member", ["mode", "until", "reason"])
def test_a_freeze_needs_its_members(agent, freezes, member):
    freeze = new_freeze(agent)
    del freeze[member]
    problem = expect_problem(freezes.put(freezes.name(), freeze), 422, "validation-failed")
    assert pointers(problem) == {f"/{member}"}


def test_a_hold_lasts_seven_days_at_the_most_and_a_stop_as_long_as_it_says(agent, freezes):
    long = in_seconds(7 * 86_400 + 60)
    problem = expect_problem(freezes.put(freezes.name(), new_freeze(agent, until=long)), 422, "validation-failed")
    assert pointers(problem) == {"/until"}
    expect(freezes.put(freezes.name(), new_freeze(agent, until=in_seconds(7 * 86_400 - 60))), 200)
    expect(freezes.put(freezes.name(), new_freeze(agent, "stop", until="9999-12-31T23:59:59Z")), 200)


def test_a_list_comes_page_by_page(agent, freezes):
    made = [freezes.set(new_freeze(agent)) for _ in range(5)]
    ours = [item["freeze_id"] for item in freezes.listed(limit=2) if item["freeze_id"] in made]
    assert ours == list(reversed(made))
    for query, at in [({"limit": "x"}, "/limit"), ({"cursor": "x"}, "/cursor"), ({"status": "x"}, "/status"),
                      ({"mode": "hold"}, "/mode")]:
        problem = expect_problem(freezes.admin.get(FREEZES, params=query), 422, "validation-failed")
        assert pointers(problem) == {at}


@pytest.mark.parametrize("kind", ["operator", "agent"])
def test_only_administrators_freeze(http, stack, agent, freezes, kind):
    token = stack["operator"]["token"] if kind == "operator" else agent.token()
    headers = {"authorization": f"Bearer {token}"}
    name = freezes.name()
    for method, path in [("GET", FREEZES), ("GET", f"{FREEZES}/{name}"), ("DELETE", f"{FREEZES}/{name}")]:
        expect_problem(http.request(method, path, headers=headers), 403, "forbidden")
    expect_problem(http.put(f"{FREEZES}/{name}", headers=headers, json=new_freeze(agent)), 403, "forbidden")
    expect_problem(freezes.get(name), 404, "not-found")


# ---------------------------------------------------------------- hold


def test_under_a_hold_nothing_is_used_until_it_ends(agent, operator, freezes):
    approved = submit_decided(agent, operator)
    name = freezes.set(new_freeze(agent))
    problem = expect_problem(consume(agent, approved), 409, "frozen")
    assert problem["retryable"] and problem["retry_after_ms"] > 0
    executions(agent, operator, approved, "waiting")
    # A person still decides, and that is not used either.
    later = submit_decided(agent, operator)
    expect_problem(consume(agent, later), 409, "frozen")
    assert view(agent, approved)["execution"] == "waiting"
    freezes.end(name)
    for request in (approved, later):
        expect(consume(agent, request), 200)


def test_a_hold_ends_by_itself(agent, operator, freezes):
    approved = submit_decided(agent, operator)
    freezes.set(new_freeze(agent, until=in_seconds(1.5)))
    expect_problem(consume(agent, approved), 409, "frozen")
    wait_until(lambda: consume(agent, approved).status_code == 200)


def test_what_was_used_before_a_freeze_stays_used(agent, operator, freezes):
    approved = submit_decided(agent, operator)
    attempt = new_attempt(approved)
    used = expect(consume(agent, approved, attempt), 200)
    for mode in ("hold", "stop"):
        name = freezes.set(new_freeze(agent, mode))
        assert expect(consume(agent, approved, attempt), 200) == used | {"repeated": True}
        expect_problem(consume(agent, approved), 409, "already-consumed")
        freezes.end(name)
    freezes.set(new_freeze(agent, "stop"))
    expect(report(agent, approved, "succeeded"), 200)


def test_under_a_hold_deadlines_run_on(agent, freezes):
    freezes.set(new_freeze(agent))
    request = submit(agent, respond_by=in_seconds(1))
    decision = wait_until(lambda: view(agent, request)["decision"])
    assert (decision["outcome"], decision["cause"]) == ("rejected", "timeout")


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("mode", ["hold", "stop"])
def test_a_timeout_never_approves_under_a_freeze(agent, admin, freezes, mode, frozen):
    policy = {"agent_id": agent.agent_id, "action_type": ACTION["type"], "priority": "P2", "respond_within_seconds": 1,
              "on_timeout": "auto_approve"}
    expect(admin.call("PUT", "/v1/admin/timeout-policies", json=policy), 200)
    other = register_agent(admin)
    freezes.set(new_freeze(agent if frozen else other, mode))
    request = submit(agent)
    decision = wait_until(lambda: view(agent, request)["decision"])
    if frozen:
        assert (decision["outcome"], decision["permit"]) == ("rejected", None)
    else:
        assert (decision["outcome"], decision["cause"]) == ("approved", "timeout")


# ---------------------------------------------------------------- stop


def test_under_a_stop_nothing_is_approved(agent, operator, freezes):
    before = submit(agent)
    freezes.set(new_freeze(agent, "stop"))
    after = submit(agent)
    for request in (before, after):
        # The sweep may have rejected it by now.
        problem = expect(operator.decide(request["request_id"], "approve"), 409)
        assert problem["code"] in ("frozen", "already-decided")
        if problem["code"] == "already-decided":
            assert problem["decision"]["cause"] == "admin"


def test_what_a_stop_finds_pending_is_rejected_by_the_sweep(agent, operator, admin, jwks, freezes):
    pending = [submit(agent, priority=priority) for priority in ("P1", "P2", "P3")]
    name = freezes.set(new_freeze(agent, "stop", reason="Its credentials leaked"))
    pending.append(submit(agent))
    for request in pending:
        delivered = deliver(agent, request["request_id"], wait_seconds=10)
        assert (delivered["outcome"], delivered["cause"]) == ("rejected", "admin")
        assert (delivered["reason"], delivered["permit"]) == ("Its credentials leaked", None)
        claims = agent.check_decision(delivered, ACTION, agent.receipt_keys())
        assert (claims["outcome"], claims["cause"]) == ("rejected", "admin")
        [decided] = [entry for entry in entries(admin, request) if entry["kind"] == "decided"]
        assert (decided["actor"]["kind"], decided["freeze_id"]) == ("system", name)
        [key] = [key for key in jwks["keys"] if key["kid"] == decided["attestation"]["kid"]]
        assert key["use"] == "attestation" and "admin" in key["causes"]
        assert operator.detail(request["request_id"])["decision"]["outcome"] == "rejected"
    freezes.end(name)
    # It is final: what the stop rejected stays rejected, and what comes after it is asked as before.
    expect_problem(operator.decide(pending[0]["request_id"], "approve"), 409, "already-decided")
    expect(consume(agent, submit_decided(agent, operator)), 200)


def test_a_person_may_reject_under_a_stop(agent, operator, freezes):
    request = submit(agent)
    freezes.set(new_freeze(agent, "stop"))
    response = operator.decide(request["request_id"], "reject", reason="No")
    assert response.status_code in (201, 409) and expect(response, response.status_code).get("code") != "frozen"


def test_what_was_approved_before_a_stop_stays_revoked_after_its_end(agent, operator, freezes):
    before = submit_decided(agent, operator)
    name = freezes.set(new_freeze(agent, "stop"))
    expect_problem(consume(agent, before), 409, "permit-revoked")
    executions(agent, operator, before, "unused")
    freezes.end(name)
    executions(agent, operator, before, "unused")
    problem = expect_problem(consume(agent, before), 409, "permit-revoked")
    assert not problem["retryable"]
    expect(consume(agent, submit_decided(agent, operator)), 200)


def executions(agent, operator, request, execution: str) -> None:
    """What all that show it say of it."""
    request_id = request["request_id"]
    assert view(agent, request)["execution"] == operator.detail(request_id)["execution"] == execution
    for status in ("decided", "all"):
        items = operator.queue(status=status, agent_id=agent.agent_id)["items"]
        assert [item["execution"] for item in items if item["request_id"] == request_id] == [execution], status


def test_a_stop_that_becomes_a_hold_has_revoked_what_it_covered(agent, operator, freezes):
    before = submit_decided(agent, operator)
    name = freezes.set(new_freeze(agent, "stop"))
    expect(freezes.put(name, new_freeze(agent, "hold")), 200)
    after = submit_decided(agent, operator)
    expect_problem(consume(agent, after), 409, "frozen")
    freezes.end(name)
    expect_problem(consume(agent, before), 409, "permit-revoked")
    expect(consume(agent, after), 200)


@pytest.mark.parametrize("mode, code", [("hold", "frozen"), ("stop", "permit-revoked")])
def test_a_freeze_covers_what_it_names_and_nothing_else(agent, operator, admin, freezes, mode, code):
    other = register_agent(admin)
    another = {"type": f"mail.send-{secrets.token_hex(4)}", "arguments": {}}
    mine, theirs = submit_decided(agent, operator), submit_decided(other, operator)
    mail = submit_decided(agent, operator, action=another)
    name = freezes.set(new_freeze(agent, mode, action_type=another["type"]))
    expect_problem(consume(agent, mail), 409, code)
    expect(consume(agent, mine), 200)
    expect(consume(other, theirs), 200)
    freezes.end(name)
    # One type, whoever asks.
    mail = submit_decided(other, operator, action=another)
    freeze = new_freeze(agent, mode, action_type=another["type"])
    del freeze["agent_id"]
    freezes.set(freeze)
    expect_problem(consume(other, mail), 409, code)
    expect(consume(agent, submit_decided(agent, operator)), 200)


def test_a_consume_is_refused_for_its_first_reason(agent, operator, freezes):
    approved, pending = submit_decided(agent, operator), submit(agent)
    freezes.set(new_freeze(agent))
    freezes.set(new_freeze(agent, "stop"))
    assert expect(consume(agent, pending), 409)["code"] == "not-approved"
    other = new_attempt(approved, action_digest="sha256:" + 64 * "0")
    expect_problem(consume(agent, approved, other), 409, "action-mismatch")
    expect_problem(consume(agent, approved), 409, "permit-revoked")


# ---------------------------------------------------------------- races


def test_a_use_and_a_stop_race_and_after_the_answer_nothing_is_used(agent, operator, freezes):
    def play(late_use: float, late_stop: float) -> str:
        approved, name = submit_decided(agent, operator), freezes.name()
        pause = threading.Event()

        def use():
            pause.wait(late_use)
            return consume(agent, approved)

        def stop():
            pause.wait(late_stop)
            expect(freezes.put(name, new_freeze(agent, "stop")), 200)
            # What became of it is settled by now.
            return view(agent, approved)["execution"]

        used, seen = race([use, stop])
        after = view(agent, approved)["execution"]
        freezes.end(name)
        if used.status_code == 200:
            assert (seen, after) == ("consumed", "consumed")
            return "use"
        assert expect(used, 409)["code"] == "permit-revoked"
        assert (seen, after) == ("unused", "unused")
        return "stop"

    until_each_side_wins(play, {"use", "stop"})


@pytest.fixture
def owner(stack):
    with psycopg.connect(stack["database_url"]) as connection:
        yield connection
        connection.rollback()


def test_the_answer_waits_for_a_statement_that_began_before(agent, operator, freezes, owner):
    """A use that waits for its row began before the stop: it is made, and the stop's answer comes after it."""
    approved = submit_decided(agent, operator)
    owner.execute("SELECT FROM hitl_requests WHERE request_id = %s FOR UPDATE", [approved["request_id"]])
    answers, name = {}, freezes.name()

    def use():
        answers["use"] = consume(agent, approved)
        answers.setdefault("first", "use")

    def stop():
        answers["stop"] = freezes.put(name, new_freeze(agent, "stop"))
        answers.setdefault("first", "stop")

    threads = [threading.Thread(target=use), threading.Thread(target=stop)]
    waits = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '/* relaytrace: consume */%' AND wait_event_type = 'Lock'"
    threads[0].start()
    with psycopg.connect(owner.info.dsn, password=owner.info.password or None, autocommit=True) as looking:
        wait_until(lambda: looking.execute(waits).fetchone()[0])
        threads[1].start()
        wait_until(lambda: freezes.get(name).status_code == 200)
        assert "stop" not in answers, "answered while a statement from before it was under way"
        owner.rollback()
    for thread in threads:
        thread.join(timeout=30)
    expect(answers["use"], 200)
    expect(answers["stop"], 200)
    assert view(agent, approved)["execution"] == "consumed"


def test_a_statement_that_does_not_end_in_time_is_told_and_the_freeze_stands(agent, operator, freezes, owner):
    approved = submit_decided(agent, operator)
    owner.execute("UPDATE hitl_requests SET title = title WHERE request_id = %s", [approved["request_id"]])
    name, freeze = freezes.name(), new_freeze(agent, "stop")
    problem = expect_problem(freezes.put(name, freeze), 503, "unavailable")
    assert problem["retryable"] and "stands" in problem["detail"]
    stands = expect(freezes.get(name), 200)
    # The same again waits again.
    expect_problem(freezes.put(name, freeze), 503, "unavailable")
    owner.rollback()
    assert expect(freezes.put(name, freeze), 200) == stands
    expect_problem(consume(agent, approved), 409, "permit-revoked")


def test_two_that_freeze_at_once_leave_one_freeze(agent, freezes):
    name = freezes.name()
    bodies = [new_freeze(agent, reason=f"Reason {number}") for number in range(5)]
    answers = race([lambda body=body: freezes.put(name, body) for body in bodies])
    assert [answer.status_code for answer in answers] == [200] * 5, [answer.text for answer in answers]
    assert len([item for item in freezes.listed() if item["freeze_id"] == name]) == 1
    assert len({answer.json()["created_at"] for answer in answers}) == 5
