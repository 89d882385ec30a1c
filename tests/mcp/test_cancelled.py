"""Calls that their clients cancel while the server works on them, and says nothing."""

import asyncio
import sys

import httpx
import pytest
from conftest import until
from test_hostile import PUPPET, Puppet
from test_http import call, initialize, posted
from test_owners import META, told

ANSWER = {"result": {"content": []}}


async def running(gateway, count=1):
    """The one open question is approved, and its call is the server's."""
    [item] = await gateway.pending()
    await gateway.decide(item["request_id"])
    await until(lambda: asyncio.to_thread(gateway.done), lambda done: done == ["pay"] * count)
    return item["request_id"]


def cancelled(gateway):
    """Which of its calls the server was told are cancelled, by their places."""
    noted = gateway.folder / "ledger.cancelled"
    return noted.read_text().split() if noted.exists() else []


async def answered(gateway, puppet, number, count):
    """A call of the session runs, and its result is the client's and on record."""
    puppet.call(number)
    request_id = await running(gateway, count)
    puppet.say({"id": "LAST", **ANSWER})
    # Nothing came in between.
    assert await puppet.next() == {"jsonrpc": "2.0", "id": number, **ANSWER}
    await on_record(gateway, request_id, "succeeded")
    return request_id


async def on_record(gateway, request_id, execution):
    await until(lambda: gateway.detail(request_id), lambda it: it["execution"] == execution)


@pytest.mark.short
async def test_a_call_that_is_cancelled_at_a_silent_server_gets_no_response_and_its_end_is_unknown(gateway):
    async with Puppet(gateway) as puppet:
        puppet.call(1)
        first = await running(gateway)
        puppet.cancel(1)
        # The server knows the call by its own id; it has to say nothing.
        assert (await puppet.next())["params"] == {"cancelled": True}
        assert await answered(gateway, puppet, 2, 2) != first
        assert cancelled(gateway) == ["0"]
        # Cancelled once more, it is no call of the server's; and its id is free again.
        puppet.cancel(1)
        assert (await puppet.next())["params"] == {"cancelled": False}
        await answered(gateway, puppet, 1, 3)
    # Used, and no end was reported, also once the session is over.
    assert (await gateway.detail(first))["execution"] == "consumed"
    assert cancelled(gateway) == ["0", "None"]


@pytest.mark.short
@pytest.mark.parametrize("is_stateless", [False, True])
async def test_a_call_that_is_cancelled_by_http_at_a_silent_server_leaves_the_session_as_it_was(gateway, is_stateless):
    """Up to revision 2025-11-25 by a notification, from 2026-07-28 on by closing the response."""
    url = await gateway.serving(*gateway.wrap()[:5], "--listen", "127.0.0.1:PORT", "--", sys.executable, "-c", PUPPET)
    meta = {"_meta": META | {"io.modelcontextprotocol/clientCapabilities": {}}} if is_stateless else {}

    def pay(number):
        body = call("pay", {"to": "maria", "amount": number}, number)
        return body | {"params": body["params"] | meta}

    async with httpx.AsyncClient(timeout=60) as http:
        session = None if is_stateless else (await posted(http, url, initialize())).headers["mcp-session-id"]
        waiting = asyncio.create_task(posted(http, url, pay(1), None, session))
        first = await running(gateway)
        if is_stateless:
            waiting.cancel()
        else:
            cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
            assert (await posted(http, url, cancel, None, session)).status_code == 202
        await until(lambda: asyncio.sleep(0, cancelled(gateway)), bool)
        answering = asyncio.create_task(posted(http, url, pay(2), None, session))
        second = await running(gateway, 2)
        say = {"jsonrpc": "2.0", "method": "notifications/say", "params": {"messages": [{"id": "LAST", **ANSWER}]}}
        assert (await posted(http, url, say, None, session)).status_code == 202
        assert told(await answering) == {"jsonrpc": "2.0", "id": 2, **ANSWER}
        await on_record(gateway, second, "succeeded")
        assert cancelled(gateway) == ["0"] and (await gateway.detail(first))["execution"] == "consumed"
        assert is_stateless or not waiting.done()
        waiting.cancel()
