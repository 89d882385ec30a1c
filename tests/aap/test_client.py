"""The package's client and gates by themselves."""

import asyncio
import uuid
from decimal import Decimal

import pytest
from agentapprovalprotocol import AsyncClient, Call, Client, Gate
from agentapprovalprotocol._client import ConflictError, NotFound
from agentapprovalprotocol._gate import AsyncGate, Pending

from conftest import Relay

BODY = {
    "tool": "create issue",
    "server": "git/hub",
    "arguments": {"a": 10**30, "b": Decimal("1.10"), "c": [True, None, {"é": "💥"}], "d": -0.5},
    "timeout": "10m",
    "agent_reasoning": "Because.",
    "context": {"call_id": "c-1", "resume": {"framework": "x"}},
}


async def test_a_life_by_the_client(relay: Relay) -> None:
    client = Client(relay.url, relay.token)
    request = client.create(BODY, "key-1")
    assert request.arguments["a"] == 10**30 and request.status == "pending"
    assert client.create(BODY, "key-1") == request
    with pytest.raises(ConflictError) as raised:
        client.create(BODY | {"timeout": "11m"}, "key-1")
    assert raised.value.code == "idempotency_conflict"
    with pytest.raises(ConflictError) as raised:
        client.consume(request.id, str(uuid.uuid4()))
    assert raised.value.code == "not_approved"
    async with relay.deciding(decision="approve"):
        while (request := await asyncio.to_thread(client.get, request.id, wait=5)).status == "pending":
            pass
    key = str(uuid.uuid4())
    used = client.consume(request.id, key)
    assert used.consumption and client.consume(request.id, key) == used
    with pytest.raises(ConflictError) as raised:
        client.cancel(request.id)
    assert raised.value.code == "already_terminal"
    reported = client.report_outcome(request.id, "failed", "no")
    assert reported.consumption and reported.consumption.outcome and reported.consumption.outcome.note == "no"
    with pytest.raises(NotFound):
        client.get(str(uuid.uuid4()))


async def test_a_gate_that_does_not_wait_is_told_pending_and_then_the_answer(relay: Relay) -> None:
    gate = AsyncGate(AsyncClient(relay.url, relay.token), mode="async")
    call = Call(key="k", tool="refund", arguments={"amount": 1}, resume={"framework": "x", "thread_id": "t"})
    first = await gate.check(call)
    assert isinstance(first, Pending)
    [item] = relay.items("pending")
    assert item["request_id"] == first.request_id
    async with relay.deciding(decision="approve"):
        while isinstance(verdict := await gate.check(call), Pending):
            await asyncio.sleep(0.1)
    assert verdict
    assert await verdict.report("succeeded", None)
    assert relay.the_request()["execution"] == "succeeded"


async def test_a_guarded_block_that_raises_has_failed(relay: Relay) -> None:
    def run() -> None:
        gate = Gate(Client(relay.url, relay.token))
        with pytest.raises(OSError), gate.guard(Call(key="k", tool="refund", arguments={})) as verdict:
            assert verdict
            raise OSError("the provider is down")

    async with relay.deciding(decision="approve"):
        await asyncio.to_thread(run)
    assert relay.the_request()["execution"] == "failed"
