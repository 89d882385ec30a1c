"""Whose session, question and task it is, and what ends a call that the server has made a task of."""

import asyncio
import contextlib
import json
import sys

import httpx
import pytest
from conftest import COMMAND, HERE, until
from test_http import BALANCE, PAY, Authorized, call, initialize, posted

TASKS = "io.modelcontextprotocol/tasks"
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "raw", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {"extensions": {TASKS: {}}},
}
PUPPET = ["--", sys.executable, str(HERE / "puppet.py")]


def about(method, task, number=3, **params):
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": {"taskId": task, **params}}


def as_task(**more):
    body = call(*PAY)
    return body | {"params": body["params"] | more}


def told(response):
    """The message of a response, whole or in a stream."""
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith(("data: ", "{"))]
    return json.loads(lines[-1])


@pytest.fixture
async def http():
    async with httpx.AsyncClient(timeout=60) as client:
        yield client


@pytest.fixture
async def authorized(gateway):
    return await Authorized(gateway).start()


@pytest.mark.short
async def test_a_token_that_the_server_does_not_accept_begins_nothing_in_anothers_session(authorized, http):
    """It knows the session's id; what the gateway would act on is refused as the server itself refuses it."""
    gateway, through = authorized.gateway, authorized.through
    session = (await posted(http, through, initialize(), "one")).headers["mcp-session-id"]
    owned = asyncio.create_task(posted(http, through, call(*PAY, number=7), "one", session))
    [item] = await gateway.pending()
    task = "relaytrace-task-" + item["request_id"].replace("-", "")
    cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}
    for body in (call("pay", {"to": "eve", "amount": 1}), call(*BALANCE), about("tasks/cancel", task), cancelled):
        refused = await asyncio.wait_for(posted(http, through, body, "junk", session), 10)
        assert refused.status_code == 401 and "resource_metadata" in refused.headers["www-authenticate"], body
    headers = {"mcp-session-id": session, "authorization": "Bearer junk", "accept": "text/event-stream"}
    for method in ("GET", "DELETE"):
        async with http.stream(method, through, headers=headers) as refused:
            assert refused.status_code == 401, method
    assert [it["request_id"] for it in await gateway.asked()] == [item["request_id"]]
    # One that its client has fetched anew is known once the server has accepted it.
    authorized.token.write_text("two")
    assert told(await posted(http, through, call(*BALANCE, number=8), "two", session))["result"]["content"][0]["text"] == "a: 7"
    await gateway.decide(item["request_id"])
    assert told(await owned)["result"]["content"][0]["text"] == "paid 12.5 to maria"
    assert authorized.tokens("tools/call") == ["two", "two"] and gateway.done() == ["pay maria 12.5"]
    # The one before it is not accepted any more, and begins nothing either, once the server has said so.
    ping = {"jsonrpc": "2.0", "id": 9, "method": "ping"}
    assert (await posted(http, through, ping, "one", session)).status_code == 401
    assert (await asyncio.wait_for(posted(http, through, call(*PAY), "one", session), 10)).status_code == 401
    assert await gateway.asked() == []


async def test_a_stateless_client_is_asked_about_nothing_before_the_server_accepts_its_token(authorized, http):
    body = as_task(_meta=META)
    refused = await asyncio.wait_for(posted(http, authorized.through, body, "junk"), 10)
    assert refused.status_code == 401 and "resource_metadata" in refused.headers["www-authenticate"]
    assert await authorized.gateway.asked("all") == []
    made = told(await posted(http, authorized.through, body, "one"))["result"]
    [item] = await authorized.gateway.pending()
    assert item["request_id"].replace("-", "") in made["taskId"]


@pytest.mark.short
@pytest.mark.parametrize("is_stateless", [False, True])
async def test_a_task_of_another_principal_is_neither_shown_nor_withdrawn(gateway, http, is_stateless):
    url = await gateway.serving(*gateway.wrap()[:5], "--listen", "127.0.0.1:PORT", *PUPPET)
    meta = {"_meta": META} if is_stateless else {}

    async def session(token):
        return None if is_stateless else (await posted(http, url, initialize(), token)).headers["mcp-session-id"]

    of_alice = await session("alice")
    made = told(await posted(http, url, as_task(**(meta or {"task": {}})), "alice", of_alice))["result"]
    task = (made if is_stateless else made["task"])["taskId"]
    [item] = await gateway.pending()
    of_bob = await session("bob")
    for method in ("tasks/get", "tasks/cancel", "tasks/update" if is_stateless else "tasks/result"):
        answer = await posted(http, url, about(method, task, **meta), "bob", of_bob)
        assert told(answer)["error"]["code"] == -32602 and item["request_id"] not in answer.text, method
        # It may be the same client with another token: it is not told to call again.
        assert "may have run" in answer.text and "Not run" not in answer.text
    assert (await gateway.detail(item["request_id"]))["status"] == "pending"
    await gateway.decide(item["request_id"])
    await until(lambda: asyncio.sleep(0, gateway.done()), lambda done: done == ["pay"])
    answer = await posted(http, url, about("tasks/get", task, **meta), "bob", of_bob)
    assert "may have run" in answer.text and "Not run" not in answer.text


async def test_a_session_of_a_local_server_is_its_who_began_it(gateway, http):
    """Nobody judges another token there: it begins a session of its own."""
    url = await gateway.serving(*gateway.wrap("--listen", "127.0.0.1:PORT"))
    session = (await posted(http, url, initialize(), "alice")).headers["mcp-session-id"]
    for body in (call(*PAY), {"jsonrpc": "2.0", "id": 3, "method": "ping"}):
        assert (await asyncio.wait_for(posted(http, url, body, "bob", session), 10)).status_code == 404
    assert (await posted(http, url, call(*BALANCE), "alice", session)).status_code == 200
    assert await gateway.asked("all") == []


class Puppet:
    """The gateway in front of the puppet, on standard streams."""

    def __init__(self, process):
        self.process = process

    @classmethod
    @contextlib.asynccontextmanager
    async def behind(cls, gateway):
        pipe = asyncio.subprocess.PIPE
        command = [COMMAND, "mcp", "wrap", "--server", "bank", *PUPPET]
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, env=gateway.environment)
        yield cls(process)
        process.stdin.close()
        await asyncio.wait_for(process.wait(), 20)

    async def answer(self, message):
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        async with asyncio.timeout(30):
            while (told := json.loads(await self.process.stdout.readline())).get("id") != message["id"]:
                pass
        return told


@pytest.mark.short
@pytest.mark.parametrize(("method", "end", "on_record"), [("tasks/get", "completed", "succeeded"), ("tasks/update", "failed", "failed"), ("tasks/cancel", "failed", "failed"), ("tasks/result", "completed", "succeeded")])
async def test_only_what_says_the_end_of_a_passed_task_ends_its_run(gateway, method, end, on_record):
    """Neither the acknowledgement of a cancellation or an update nor an error says how the server's task ended."""
    meta = {} if method == "tasks/result" else {"_meta": META}
    status = gateway.folder / "ledger.status"
    async with Puppet.behind(gateway) as puppet:
        if not meta:
            await puppet.answer(initialize())
        made = (await puppet.answer(as_task(**(meta or {"task": {}}))))["result"]
        task = (made if meta else made["task"])["taskId"]
        [item] = await gateway.pending()
        await gateway.decide(item["request_id"])
        # The ledger is written before the server answers: it says `working` from its own answer on.
        status.write_text("working")
        await until(lambda: puppet.answer(about("tasks/get", task, 4, **meta)), lambda it: it["result"].get("statusMessage") is None)
        status.unlink()
        answer = await puppet.answer(about(method, task, **meta))
        assert ("error" in answer) == (method in ("tasks/get", "tasks/result")), answer
        status.write_text(end)
        told = await puppet.answer(about("tasks/get", task, 5, **meta))
        assert told["result"]["status"] == end
        ended = await until(lambda: gateway.detail(item["request_id"]), lambda it: it["execution"] != "consumed")
        assert ended["execution"] == on_record
    assert gateway.done() == ["pay"]
