"""How a client is kept while a person thinks: a page to open, further input of the server, a rule instead of a person."""

import asyncio
import contextlib
import sys

from conftest import HERE
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp_types import ElicitResult
from peers import text

PAY = ("pay", {"to": "maria", "amount": 12.5})


@contextlib.asynccontextmanager
async def opening(gateway, mode, opened, server=None):
    """A client that opens links and fills in forms; what it was asked stands in `opened`."""

    async def elicit(_context, params):
        opened.append(params)
        return ElicitResult(action="accept", content={"word": "yes"} if params.mode == "form" else None)

    wrapped = gateway.target() if server is None else {**gateway.target(), "args": [*gateway.wrap()[1:5], *server]}
    async with Client(StdioServerParameters(**wrapped), mode=mode, elicitation_callback=elicit) as client:
        yield client


async def test_a_client_that_opens_links_is_shown_the_page_and_waits(gateway):
    for mode, amount in (("legacy", 1.5), ("auto", 2.5)):
        opened = []
        async with opening(gateway, mode, opened) as client:
            call = asyncio.create_task(client.call_tool("pay", {"to": "maria", "amount": amount}))
            [item] = await gateway.pending()
            while not opened:
                await asyncio.sleep(0.05)
            assert opened[0].mode == "url" and opened[0].url.endswith(f"/?id={item['request_id']}")
            await gateway.decide(item["request_id"])
            result = await call
            assert result.content[0].text == f"paid {amount} to maria"
            assert len(opened) == 1
    assert gateway.done() == ["pay maria 1.5", "pay maria 2.5"]
    assert len(await gateway.asked("all")) == 2


async def test_input_that_the_server_wants_is_part_of_the_approved_call(gateway):
    """A guarded tool that asks back (`input_required`): its call comes again, and nobody is asked twice."""
    for mode, word in (("legacy", "a"), ("auto", "b")):
        opened = []
        server = ["--", sys.executable, str(HERE / "asking_back.py")]
        async with opening(gateway, mode, opened, server) as client:
            call = asyncio.create_task(client.call_tool("send", {"to": word}))
            [item] = await gateway.pending()
            await gateway.decide(item["request_id"])
            result = await call
            assert result.content[0].text == f"sent to {word}: yes"
            assert [params.mode for params in opened if params.mode == "form"] == ["form"]
    assert len(await gateway.asked("all")) == 2
    assert gateway.done() == ["send a yes", "send b yes"]


async def test_a_rule_answers_in_place_of_a_person(gateway):
    standing = await gateway.admin("GET", "/v1/admin/rules")
    rules = [
        {
            "name": "small-payments",
            "mode": "enforce",
            "match": {"agents": [gateway.agent_id], "action_types": ["bank/*"], "arguments": {"/amount": {"lt": "10"}}},
            "then": {"decide": "approve", "reason": "Below 10."},
        },
        {
            "name": "no-payments",
            "mode": "enforce",
            "match": {"agents": [gateway.agent_id], "action_types": ["bank/pay"]},
            "then": {"decide": "reject", "reason": "Too much for a tool."},
        },
    ]
    headers = {"authorization": f"Bearer {gateway.stack['admin']['token']}", "if-match": f'"{standing["version"]}"'}
    saved = await gateway.http.put("/v1/admin/rules", json={"rules": rules, "note": "MCP"}, headers=headers)
    assert saved.is_success, saved.text
    try:
        async with gateway.client() as peer:
            assert text(await peer.call("pay", {"to": "maria", "amount": 9.5})) == "paid 9.5 to maria"
            refused = await peer.call(*PAY)
            assert refused["_meta"]["relaytrace/status"] == "rejected_by_rule" and "Too much for a tool." in text(refused)
            assert gateway.done() == ["pay maria 9.5"]
    finally:
        headers["if-match"] = saved.headers["etag"]
        await gateway.http.put("/v1/admin/rules", json={"rules": standing["rules"], "note": "As before"}, headers=headers)
