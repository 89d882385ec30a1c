"""The client against the running relay: every outcome, and an approval that is used once."""

import asyncio
import threading
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from conftest import Agent, Json, People, approve, reject, until
from relaytrace import (
    AlreadyUsed,
    Cancelled,
    Frozen,
    KeyReused,
    NotApproved,
    OtherAnswer,
    PermitRevoked,
    Refused,
    Rejected,
    Responded,
    StillPending,
    TimedOut,
)
from relaytrace._flows import LONGEST_POLL_SECONDS

REFUND = {"customer": "88213", "amount": "1240.00"}


@pytest.mark.short
def test_an_approved_block_runs_once_and_its_end_is_on_record(agent: Agent, people: People) -> None:
    with agent.relay() as relay, people.deciding(agent, approve):
        with relay.ask("refund.create", REFUND, title="Refund 1,240 EUR", priority="P1") as permit:
            assert permit.arguments == REFUND
            assert not permit.edited
            request_id = permit.request.request_id
        assert people.execution(request_id) == "succeeded"
        assert relay.verify_receipt(permit.receipt or "").outcome == "approved"
        again = relay.request(request_id)
        assert again.decision
        assert again.decision.permit
        assert again.decision.permit.expires_at > again.decision.decided_at
        with pytest.raises(AlreadyUsed), relay.use(again.decision, "refund.create", REFUND):
            pytest.fail("an approval was used twice")


def test_a_block_that_raises_is_a_failure_on_record(agent: Agent, people: People) -> None:
    with agent.relay() as relay, people.deciding(agent, approve):
        with pytest.raises(OSError, match="down"), relay.ask("refund.create", REFUND) as permit:
            raise OSError("the provider is down")
        assert people.execution(permit.request.request_id) == "failed"


def test_an_interrupted_block_reports_nothing(agent: Agent, people: People) -> None:
    with agent.relay() as relay, people.deciding(agent, approve):
        with pytest.raises(KeyboardInterrupt), relay.ask("refund.create", REFUND) as permit:
            raise KeyboardInterrupt
        assert people.execution(permit.request.request_id) == "consumed"


@pytest.mark.short
def test_a_rejection_names_who_and_why(agent: Agent, people: People) -> None:
    with agent.relay() as relay, people.deciding(agent, reject):
        with pytest.raises(Rejected) as caught, relay.ask("refund.create", REFUND):
            pytest.fail("ran without an approval")
    assert caught.value.reason == "Refunded yesterday."
    assert caught.value.by.kind == "operator"
    assert "Refunded yesterday." in caught.value.for_model
    request_id = caught.value.request.request_id if caught.value.request else ""
    assert people.detail(request_id)["delivery"]["state"] == "acknowledged"


def test_silence_is_a_timeout_and_no_persons_no(agent: Agent) -> None:
    respond_by = datetime.now(timezone.utc) + timedelta(seconds=2)
    with agent.relay() as relay, pytest.raises(TimedOut) as caught, relay.ask("a.b", {}, respond_by=respond_by):
        pytest.fail("ran without an approval")
    assert "No person said no" in caught.value.for_model


def test_a_withdrawn_question_is_cancelled(agent: Agent) -> None:
    with agent.relay() as relay:
        request = relay.submit("a.b", {}, key="k")
        relay.cancel(request, "not needed any more")
        with pytest.raises(Cancelled, match="not needed"), relay.ask("a.b", {}, key="k"):
            pytest.fail("ran without an approval")


def test_ones_own_patience_leaves_the_question_standing(agent: Agent, people: People) -> None:
    with agent.relay() as relay:
        with pytest.raises(StillPending) as caught, relay.ask("a.b", {}, key="k", timeout=0):
            pytest.fail("ran without an approval")
        assert caught.value.request
        people.decide(caught.value.request.request_id)
        with relay.ask("a.b", {}, key="k") as permit:
            assert permit.request.request_id == caught.value.request.request_id


@pytest.mark.short
def test_an_edit_is_what_runs(agent: Agent, people: People) -> None:
    def lower(detail: Json) -> tuple[str, Json]:
        return edited(detail, {**detail["action"]["arguments"], "amount": "40.00"})

    with agent.relay() as relay, people.deciding(agent, lower):
        with relay.ask("refund.create", REFUND, answers=["approve", "edit"]) as permit:
            assert permit.arguments == {**REFUND, "amount": "40.00"}
            assert permit.edited
        assert people.execution(permit.request.request_id) == "succeeded"


def edited(detail: Json, arguments: Json) -> tuple[str, Json]:
    from relaytrace._digest import Action

    action = Action.make(detail["action"]["type"], arguments)
    return "edit", {"arguments": arguments, "edited_action_digest": action.digest}


def test_a_response_is_told_and_nothing_runs(agent: Agent, people: People) -> None:
    with agent.relay() as relay, people.deciding(agent, lambda _: ("respond", {"response": "Pay by voucher."})):
        with pytest.raises(Responded) as caught, relay.ask("a.b", {}, answers=["approve", "respond"]):
            pytest.fail("ran without an approval")
    assert caught.value.value == "Pay by voucher."


def test_a_guarded_function_runs_with_the_approved_arguments(agent: Agent, people: People) -> None:
    sent = []

    class Mailer:
        relay = agent.relay()

        @relay.guard("mail.send", title=lambda to, **_: f"Mail {to}", exclude=["connection"])
        def send(self, connection: object, to: str, body: str = "hello", *copies: str, **extra: str) -> str:
            sent.append((connection, to, body, copies, extra))
            return "sent"

    connection = object()
    with people.deciding(agent, approve) as seen:
        assert Mailer().send(connection, "a@example.com", "x", "b@example.com", mood="calm") == "sent"
    assert sent == [(connection, "a@example.com", "x", ("b@example.com",), {"mood": "calm"})]
    assert seen[0]["title"] == "Mail a@example.com"
    assert seen[0]["action"]["arguments"]["copies"] == ["b@example.com"]
    with people.deciding(agent, reject), pytest.raises(Rejected):
        Mailer().send(connection, "c@example.com")
    assert len(sent) == 1
    Mailer.relay.close()


@pytest.mark.short
async def test_the_asynchronous_client_does_the_same(agent: Agent, people: People) -> None:
    async with agent.async_relay() as relay:

        @relay.guard("mail.send")
        async def send(to: str) -> str:
            await asyncio.sleep(0)
            return f"mailed {to}"

        with people.deciding(agent, lambda d: reject(d) if d["action"]["arguments"]["to"] == "b" else approve(d)):
            done = await asyncio.gather(*(send(to) for to in "abc"), return_exceptions=True)
        assert done[0] == "mailed a"
        assert isinstance(done[1], Rejected)
        assert done[2] == "mailed c"


def test_of_many_processes_one_runs(agent: Agent, people: People) -> None:
    ran, refused = [], []

    def attempt() -> None:
        with agent.relay() as relay:
            try:
                with relay.ask("a.b", {"n": 1}, key="once"):
                    ran.append(1)
            except AlreadyUsed:
                refused.append(1)

    threads = [threading.Thread(target=attempt) for _ in range(4)]
    for thread in threads:
        thread.start()
    [item] = until(lambda: people.pending(agent.agent_id))
    people.decide(item["request_id"])
    # Each sees the decision as it comes, and not at the end of its own wait.
    until(lambda: len(ran) + len(refused) == 4, seconds=LONGEST_POLL_SECONDS / 2)
    assert (len(ran), len(refused)) == (1, 3)
    for thread in threads:
        thread.join()


async def test_of_many_tasks_each_sees_the_decision_as_it_comes(agent: Agent, people: People) -> None:
    async with agent.async_relay() as relay:
        request = await relay.submit("a.b", {"n": 1})
        waiting = [asyncio.create_task(relay.wait(request)) for _ in range(4)]
        await asyncio.to_thread(people.decide, request.request_id)
        decisions = await asyncio.wait_for(asyncio.gather(*waiting), LONGEST_POLL_SECONDS / 2)
    assert {decision.outcome for decision in decisions} == {"approved"}


def test_a_generator_cannot_be_guarded(agent: Agent) -> None:
    def generator(n: int) -> Any:
        yield n

    async def asynchronous(n: int) -> Any:
        yield n

    for relay in (agent.relay(), agent.async_relay()):
        for function in (generator, asynchronous):
            with pytest.raises(TypeError, match="generator"):
                relay.guard("a.b")(function)


def test_equal_calls_of_a_run_are_two_questions_and_a_repeated_run_finds_them(agent: Agent) -> None:
    def ask_twice() -> list[str]:
        with agent.relay(run_id="run 7") as relay:
            return [relay.submit("a.b", {"n": 1}).request_id for _ in range(2)]

    first, again = ask_twice(), ask_twice()
    assert first == again
    assert len(set(first)) == 2


def test_another_question_under_a_key_is_refused(agent: Agent) -> None:
    with agent.relay() as relay:
        relay.submit("a.b", {"n": 1}, key="k")
        with pytest.raises(KeyReused):
            relay.submit("a.b", {"n": 2}, key="k")
        with pytest.raises(Refused) as caught:
            relay.submit("a b", {})
    assert caught.value.code == "validation-failed"


def test_an_approval_of_other_arguments_is_not_used(agent: Agent, people: People) -> None:
    with agent.relay() as relay:
        request = relay.submit("refund.create", REFUND)
        people.decide(request.request_id)
        decision = relay.wait(request)
        with pytest.raises(OtherAnswer), relay.use(decision, "refund.create", {**REFUND, "amount": "9.00"}):
            pytest.fail("ran what was not approved")
        with relay.use(decision, "refund.create", REFUND) as permit:
            assert permit.arguments == REFUND


def test_an_approval_that_expired_before_its_use_is_asked_anew(agent: Agent, people: People) -> None:
    with agent.relay() as relay:
        request = relay.submit("a.b", {}, key="k", permit_seconds=10)
        people.decide(request.request_id)
        until(lambda: people.execution(request.request_id) == "unused", seconds=30)
        with people.deciding(agent, approve), relay.ask("a.b", {}, key="k", permit_seconds=10) as permit:
            assert permit.request.client_request_key == "k:2"
        with pytest.raises(AlreadyUsed), relay.ask("a.b", {}, key="k", permit_seconds=10):
            pytest.fail("ran twice")


def test_deliveries_come_one_by_one_and_are_acknowledged(agent: Agent, people: People) -> None:
    with agent.relay() as relay:
        asked = {relay.submit("a.b", {"n": n}, resume={"n": n}).request_id for n in range(3)}
        for request_id in asked:
            people.decide(request_id, "reject", reason="no")
        seen: list[Any] = []
        for decision in relay.decisions(timeout=1, limit=2):
            seen.append(decision)
            assert relay.acknowledge(decision).state == "acknowledged"
        assert {decision.request_id for decision in seen} == asked
        assert {decision.resume["n"] for decision in seen if decision.resume} == {0, 1, 2}


def test_an_outcome_that_is_not_known_is_no_approval() -> None:
    assert issubclass(TimedOut, NotApproved)
    assert issubclass(StillPending, NotApproved)


def freeze(people: People, agent: Agent, mode: str) -> str:
    """Freeze what the agent asks. The path of the freeze."""
    until_then = (datetime.now(timezone.utc) + timedelta(minutes=10)).isoformat().replace("+00:00", "Z")
    path = f"/v1/admin/freezes/{agent.agent_id}-{mode}"
    body = {"agent_id": agent.agent_id, "mode": mode, "until": until_then, "reason": "The key was stolen"}
    people.admin("PUT", path, body)
    return path


def test_a_hold_lets_the_approval_stand(agent: Agent, people: People) -> None:
    with agent.relay(patience=2) as relay:
        request = relay.submit("a.b", {}, key="k")
        people.decide(request.request_id)
        held = freeze(people, agent, "hold")
        with pytest.raises(Frozen) as caught, relay.ask("a.b", {}, key="k"):
            pytest.fail("ran what is held")
        assert caught.value.for_model.startswith("Not run yet")
        people.admin("DELETE", held, expect=204)
        with relay.ask("a.b", {}, key="k") as permit:
            assert permit.request.request_id == request.request_id


def test_a_stop_revokes_the_approval_for_good(agent: Agent, people: People) -> None:
    with agent.relay(patience=2) as relay:
        request = relay.submit("a.b", {}, key="k")
        people.decide(request.request_id)
        people.admin("DELETE", freeze(people, agent, "stop"), expect=204)
        for _ in range(2):
            with pytest.raises(PermitRevoked) as caught, relay.ask("a.b", {}, key="k"):
                pytest.fail("ran what was stopped")
        assert "administrator has stopped" in caught.value.for_model
        assert people.detail(request.request_id)["delivery"]["state"] == "acknowledged"
