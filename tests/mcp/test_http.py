"""What a server at an address says by status and headers, and what a client shows it for authorization."""

import asyncio
import contextlib
import json
import sys

import httpx
import httpx2
import pytest
from conftest import HERE, SERVERS, is_open, until
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from peers import connected, text

PAY = ("pay", {"to": "maria", "amount": 12.5})
BALANCE = ("balance", {"account": "a"})
PASSED = ("www-authenticate", "content-type")


class Authorized:
    """The server behind a door, without and through the gateway."""

    def __init__(self, gateway):
        self.gateway = gateway
        self.token, self.seen = gateway.folder / "token", gateway.folder / "seen"
        self.token.write_text("one")
        self.seen.touch()

    async def start(self):
        self.gateway.environment |= {"TOKEN": str(self.token), "SEEN": str(self.seen)}
        self.direct = await self.gateway.serving(sys.executable, str(HERE / "authorized.py"), "PORT")
        wrapped = self.gateway.wrap("--listen", "127.0.0.1:PORT", url=self.direct)
        self.through = await self.gateway.serving(*wrapped)
        return self

    def tokens(self, method):
        return [line.split()[1] for line in self.seen.read_text().splitlines() if line.split()[0] == method]


@pytest.fixture
async def authorized(gateway):
    return await Authorized(gateway).start()


def initialize():
    client = {"name": "raw", "version": "1"}
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client}
    return {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}


def call(name, arguments, number=2):
    return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": {"name": name, "arguments": arguments}}


async def posted(http, url, body, token=None, session=None):
    headers = {"accept": "application/json, text/event-stream"}
    headers |= {"authorization": f"Bearer {token}"} if token else {}
    headers |= {"mcp-session-id": session} if session else {}
    return await http.post(url, json=body, headers=headers)


@pytest.mark.short
async def test_a_refusal_of_the_server_is_the_same_through_the_gateway(authorized):
    async with httpx.AsyncClient(timeout=30) as http:

        async def same(body, token, sessions=(None, None)):
            urls = (authorized.direct, authorized.through)
            answers = [await posted(http, url, body, token, of) for url, of in zip(urls, sessions, strict=True)]
            seen = [(it.status_code, it.content, [it.headers.get(name) for name in PASSED]) for it in answers]
            assert seen[0] == seen[1]
            return answers[1]

        for token in (None, "other"):
            refused = await same(initialize(), token)
            assert refused.status_code == 401 and "resource_metadata" in refused.headers["www-authenticate"]
        sessions = []
        for url in (authorized.direct, authorized.through):
            begun = await posted(http, url, initialize(), "one")
            assert begun.status_code == 200
            sessions.append(begun.headers["mcp-session-id"])
            assert (await posted(http, url, {"jsonrpc": "2.0", "method": "notifications/initialized"}, "one", sessions[-1])).is_success
        assert (await same({"jsonrpc": "2.0", "id": 5, "method": "prompts/list"}, "old", sessions)).status_code == 401
        authorized.token.write_text("two")
        assert (await same({"jsonrpc": "2.0", "id": 6, "method": "prompts/list"}, "one", sessions)).status_code == 401
        listed = await posted(http, authorized.through, {"jsonrpc": "2.0", "id": 7, "method": "prompts/list"}, "two", sessions[1])
        assert listed.status_code == 200 and "greet" in listed.text
        # Where a client looks for who gives authorization: the gateway does not.
        for path in ("/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-authorization-server"):
            assert (await http.get(authorized.through.removesuffix("/mcp") + path)).status_code == 404


@pytest.mark.short
async def test_a_session_id_alone_is_no_authorization(authorized):
    async with httpx.AsyncClient(timeout=30) as http:
        session = (await posted(http, authorized.through, initialize(), "one")).headers["mcp-session-id"]
        for body in (call(*BALANCE), call(*PAY), {"jsonrpc": "2.0", "method": "notifications/initialized"}):
            refused = await posted(http, authorized.through, body, None, session)
            assert refused.status_code == 401 and refused.headers["www-authenticate"] == "Bearer"
        assert (await http.get(authorized.through, headers={"mcp-session-id": session})).status_code == 401
        assert (await http.delete(authorized.through, headers={"mcp-session-id": session})).status_code == 401
        # One that the server does not know goes out with its own request only.
        assert (await posted(http, authorized.through, {"jsonrpc": "2.0", "id": 3, "method": "ping"}, "other", session)).status_code == 401
        assert (await posted(http, authorized.through, {"jsonrpc": "2.0", "id": 4, "method": "ping"}, "one", session)).status_code == 200
    assert await authorized.gateway.asked("all") == []


class Refreshing(httpx2.Auth):
    """On a 401 it reads another token, as an OAuth client would fetch one."""

    def __init__(self, authorized):
        self.authorized, self.challenges = authorized, []
        self.token = authorized.token.read_text()

    def auth_flow(self, request):
        request.headers["authorization"] = f"Bearer {self.token}"
        response = yield request
        if response.status_code == 401:
            self.challenges.append(response.headers["www-authenticate"])
            self.token = self.authorized.token.read_text()
            request.headers["authorization"] = f"Bearer {self.token}"
            yield request


async def test_a_refreshed_token_reaches_the_server_also_for_a_call_that_waited(authorized):
    """Python SDK: the token ends while a person thinks."""
    gateway, auth = authorized.gateway, Refreshing(authorized)
    async with httpx2.AsyncClient(auth=auth, timeout=httpx2.Timeout(30, read=300)) as http:
        async with Client(streamable_http_client(authorized.through, http_client=http), mode="legacy") as client:
            paying = asyncio.create_task(client.call_tool(*PAY))
            [item] = await gateway.pending()
            authorized.token.write_text("two")
            assert (await client.call_tool(*BALANCE)).content[0].text == "a: 7"
            await gateway.decide(item["request_id"])
            assert (await paying).content[0].text == "paid 12.5 to maria"
    assert any("resource_metadata" in challenge for challenge in auth.challenges)
    assert authorized.tokens("tools/call")[-1] == "two" and gateway.done() == ["pay maria 12.5"]
    assert len(await gateway.asked("all")) == 1


async def test_the_typescript_sdk_refreshes_its_token_through_the_gateway(authorized):
    gateway, pipe = authorized.gateway, asyncio.subprocess.PIPE
    program = ["node", str(HERE / "refreshing.mjs"), authorized.through, str(authorized.token)]
    process = await asyncio.create_subprocess_exec(*program, stdin=pipe, stdout=pipe, cwd=HERE)
    async with asyncio.timeout(60):
        assert json.loads(await process.stdout.readline()) == "a: 7"
        authorized.token.write_text("two")
        process.stdin.write(b"go\n")
        [item] = await gateway.pending()
        await gateway.decide(item["request_id"])
        seen = json.loads(await process.stdout.readline())
        assert await process.wait() == 0
    assert (seen["again"], seen["paid"]) == ("b: 7", "paid 12.5 to maria")
    assert any("resource_metadata" in challenge for challenge in seen["challenges"])
    assert authorized.tokens("tools/call") == ["one", "one", "two", "two"] and gateway.done() == ["pay maria 12.5"]


async def test_a_call_that_the_server_forbids_did_not_run_and_is_on_record_so(authorized):
    gateway = authorized.gateway
    authorized.token.write_text("reader")
    async with httpx.AsyncClient(timeout=60) as http:
        session = (await posted(http, authorized.through, initialize(), "reader")).headers["mcp-session-id"]
        paying = asyncio.create_task(posted(http, authorized.through, call(*PAY), "reader", session))
        [item] = await gateway.pending()
        await gateway.decide(item["request_id"])
        answer = (await paying).text
        assert "403" in answer and '"error"' in answer
        await until(lambda: gateway.detail(item["request_id"]), lambda it: it["execution"] == "failed")
    assert gateway.done() == []


async def restarted(gateway, url, process):
    """The server of this address, without its sessions."""
    process.terminate()
    await asyncio.to_thread(process.wait, 20)
    port = url.split(":")[2].split("/")[0]
    gateway.start(*SERVERS["python"], port)
    await until(lambda: asyncio.to_thread(is_open, int(port)), bool)


@pytest.mark.parametrize("client", ["python", "node"])
async def test_a_lost_session_is_told_to_a_client_by_http_as_without_the_gateway(gateway, client):
    url = await gateway.serving(*SERVERS["python"], "PORT")
    process = gateway.processes[-1]
    through = await gateway.serving(*gateway.wrap("--listen", "127.0.0.1:PORT", url=url))
    told = []
    async with contextlib.AsyncExitStack() as open_ones:
        peers = [await open_ones.enter_async_context(connected(client, of)) for of in (url, through)]
        for peer in peers:
            assert text(await peer.call(*BALANCE)) == "a: 7"
        await restarted(gateway, url, process)
        for peer in peers:
            with pytest.raises(BaseException) as error:
                await peer.call(*BALANCE)
            told.append(str(error.value))
    assert told[0] == told[1] and told[0]
    # The next session is another one.
    async with connected(client, through) as peer:
        assert text(await peer.call(*BALANCE)) == "a: 7"


@pytest.mark.short
@pytest.mark.parametrize("client", ["python", "node"])
async def test_a_lost_session_is_begun_again_for_a_client_by_stdio(gateway, client):
    url = await gateway.serving(*SERVERS["python"], "PORT")
    process = gateway.processes[-1]
    async with connected(client, gateway.target(url=url)) as peer:
        assert text(await peer.call(*BALANCE)) == "a: 7"
        paying = asyncio.create_task(peer.call(*PAY))
        [item] = await gateway.pending()
        await restarted(gateway, url, process)
        await gateway.decide(item["request_id"])
        assert text(await paying) == "paid 12.5 to maria"
        assert text(await peer.call(*BALANCE)) == "a: 7"
    assert gateway.done() == ["pay maria 12.5"]
