"""How long clients of the SDKs wait, what keeps them waiting, and what one gets that gave up and comes back.

The limits themselves are measured with short ones: 60 s are only read from the SDK's own constant."""

import asyncio
import json

import pytest
from conftest import HERE, until
from mcp import Client, MCPError
from mcp.client.stdio import StdioServerParameters
from peers import text
from test_tasks import order, tasker

PAY = ("pay", {"to": "maria", "amount": 12.5})
LATE = 3


async def outcome(waiting):
    """How a call ended, and after how many seconds."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    try:
        await waiting
        return "answered", loop.time() - begun
    except (MCPError, RuntimeError) as error:
        return str(error), loop.time() - begun


async def nothing_open(gateway):
    """What was given up was withdrawn by the SDK's own notification."""
    await until(lambda: gateway.asked(), lambda items: items == [])


async def approved_late(gateway, seconds):
    [item] = await gateway.pending()
    await asyncio.sleep(seconds)
    await gateway.decide(item["request_id"])


async def test_the_typescript_sdk_gives_up_after_its_timeout_and_progress_keeps_it_only_where_it_says_so(gateway):
    constant = "import('@modelcontextprotocol/sdk/shared/protocol.js').then((it) => console.log(it.DEFAULT_REQUEST_TIMEOUT_MSEC))"
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec("node", "-e", constant, stdout=pipe, cwd=HERE)
    assert json.loads((await process.communicate())[0]) == 60_000
    async with tasker(gateway.target()) as peer:
        # It has a timeout of 2 s here, and the gateway's first sign of life comes at once.
        for name, options, expected in (
            ("nothing", {"timeout": 2_000}, "Request timed out"),
            ("progress", {"timeout": 2_000, "progress": True}, "Request timed out"),
            ("reset", {"timeout": 12_000, "progress": True, "resetTimeoutOnProgress": True}, "answered"),
        ):
            call = asyncio.create_task(outcome(order(peer, "call", ("pay", {"to": name, "amount": 1}), options=options)))
            if expected == "answered":
                await approved_late(gateway, 14)
            ended, after = await call
            assert expected in ended, (name, ended)
            print(f"\ntypescript, {name}: {ended} after {after:.1f} s")
            await nothing_open(gateway)
    assert gateway.done() in (["pay reset 1"], ["pay reset 1.0"])


async def test_the_python_sdk_has_no_timeout_of_its_own_and_progress_does_not_move_one(gateway):
    seen = []

    async def told(progress, _total, _message):
        seen.append(progress)

    assert Client.__dataclass_fields__["read_timeout_seconds"].default is None
    for name, options, expected in (
        ("nothing", {"read_timeout_seconds": 2}, "timed out"),
        ("progress", {"read_timeout_seconds": 12, "progress_callback": told}, "timed out"),
        ("unlimited", {}, "answered"),
    ):
        async with Client(StdioServerParameters(**gateway.target()), mode="legacy") as client:
            call = asyncio.create_task(outcome(client.call_tool("pay", {"to": name, "amount": 1}, **options)))
            if expected == "answered":
                await approved_late(gateway, LATE)
            ended, after = await call
            assert expected in ended, (name, ended)
            print(f"\npython, {name}: {ended} after {after:.1f} s")
            await nothing_open(gateway)
    # Two signs of life came within the 12 s, and did not move the end.
    assert len(seen) >= 2
    assert gateway.done() == ["pay unlimited 1.0"]


@pytest.mark.short
async def test_a_client_that_goes_and_comes_back_finds_the_same_question(gateway):
    """Held shorter than the client waits, it is told; killed, it says nothing. Both times the question is the same."""
    async with tasker(gateway.target("--hold", "1s")) as peer:
        first = await order(peer, "call", PAY)
        assert first["_meta"]["relaytrace/status"] == "pending" and "Call the tool again" in text(first)
    async with tasker(gateway.target()) as peer:
        call = asyncio.create_task(order(peer, "call", PAY))
        await asyncio.sleep(1)
        peer.process.kill()
        await peer.process.wait()
        call.cancel()
    async with tasker(gateway.target("--hold", "20s")) as peer:
        call = asyncio.create_task(order(peer, "call", PAY))
        await asyncio.sleep(1)
        [item] = await gateway.asked("all")
        assert item["request_id"] == first["_meta"]["relaytrace/request_id"]
        await gateway.decide(item["request_id"])
        assert text(await call) == "paid 12.5 to maria"
    assert len(await gateway.asked("all")) == 1
