"""The package's adapters, unmodified, against the real service."""

import asyncio

import pytest
from agentapprovalprotocol._gate import CANCELLED_TEXT, CONSUMED_TEXT, EXPIRED_TEXT, REFUSED, TIMED_OUT

from conftest import Relay
from frameworks import ALL, Played, langgraph

every_framework = pytest.mark.parametrize("framework", ALL, ids=lambda framework: framework.__name__)


@pytest.mark.short
async def test_an_approved_call_runs_and_its_outcome_is_on_record(relay: Relay) -> None:
    await runs_once_approved(relay, langgraph)


@every_framework
async def test_an_approved_call_runs(relay: Relay, framework) -> None:
    await runs_once_approved(relay, framework)


async def runs_once_approved(relay: Relay, framework) -> None:
    async with relay.deciding(decision="approve"):
        assert await framework(relay, "10") == (["10"], "refunded 10")
    request = relay.the_request()
    assert (request["execution"], request["delivery"]["state"]) == ("succeeded", "acknowledged")
    assert request["action"] == {"type": "refund", "arguments": {"amount": "10"}}


@every_framework
async def test_a_denied_call_does_not_run_and_the_model_reads_the_note(relay: Relay, framework) -> None:
    async with relay.deciding(decision="reject", reason="Refunded yesterday."):
        ran, told = await framework(relay, "10")
    assert ran == [] and "Refunded yesterday." in told and "denied" in told
    assert relay.the_request()["delivery"]["state"] == "acknowledged"


@every_framework
async def test_what_nobody_answers_expires(relay: Relay, framework) -> None:
    ran, told = await framework(relay, "10", timeout="1s")
    assert (ran, told) == ([], EXPIRED_TEXT)
    request = relay.the_request()
    assert (request["decision"]["cause"], request["delivery"]["state"]) == ("timeout", "acknowledged")


@every_framework
async def test_a_gate_that_gives_up_takes_its_request_back(relay: Relay, framework) -> None:
    ran, told = await framework(relay, "10", wait_limit=1.0)
    assert (ran, told) == ([], TIMED_OUT)
    request = relay.the_request()
    assert (request["decision"]["outcome"], request["delivery"]["state"]) == ("cancelled", "acknowledged")
    # The same call again meets what it took back.
    assert await framework(relay, "10", wait_limit=1.0) == ([], CANCELLED_TEXT)


@every_framework
async def test_an_approval_is_used_once(relay: Relay, framework) -> None:
    async with relay.deciding(decision="approve"):
        assert (await framework(relay, "10"))[0] == ["10"]
        assert await framework(relay, "10") == ([], CONSUMED_TEXT)
        # Another call is asked for itself.
        assert (await framework(relay, "11"))[0] == ["11"]
    assert len(relay.items("decided")) == 2


# In LangGraph two runs at the same time are never the same call.
@pytest.mark.parametrize("framework", ALL[1:], ids=lambda framework: framework.__name__)
async def test_equal_calls_at_the_same_time_run_once(relay: Relay, framework) -> None:
    async with relay.deciding(decision="approve"):
        played: list[Played] = await asyncio.gather(*[framework(relay, "10") for _ in range(3)])
    assert sorted(ran for ran, _ in played) == [[], [], ["10"]]
    assert {told for ran, told in played if not ran} == {CONSUMED_TEXT}


@every_framework
async def test_a_key_that_is_refused_is_said_to_be(relay: Relay, framework) -> None:
    relay.token = relay.token[:-4] + "AAAA"
    assert await framework(relay, "10") == ([], REFUSED)
