"""The official TypeScript SDK's own example servers, by name: a visit sees the same through the gateway as without it.

Their clients are in test_passing.py (parallelToolCallsClient, multipleClientsParallel, streamableHttpWithSseFallbackClient)
and here (simpleTaskInteractiveClient). Not tried: what needs a person at a browser (elicitationUrlExample, simpleOAuthClient),
an identity provider (simpleClientCredentials), a terminal (the client simpleStreamableHttp), or the transport HTTP+SSE
(simpleSseServer)."""

import asyncio
import json
import os
import re

import pytest
from conftest import HERE, free_port, is_open, until
from test_passing import EXAMPLES, approving, output, same

STDIO = ["mcpServerOutputSchema", "toolWithSampleServer"]
HTTP = ["elicitationFormExample", "honoWebStandardStreamableHttp", "simpleStreamableHttp"]


async def visited(target):
    found = json.loads(same(await output("node", str(HERE / "visit.mjs"), json.dumps(target), environment=os.environ)))
    for tool in (found.get("tools") or {}).get("tools", []):
        # The gateway says that guarded tools can be called as tasks.
        if tool.get("execution") in ({"taskSupport": "forbidden"}, {"taskSupport": "optional"}, None):
            tool.pop("execution", None)
    return found


def weather_is_made_up(text):
    text = re.sub(r"\b(sunny|cloudy|rainy|stormy|snowy)\b", "WEATHER", text)
    text = re.sub(r"\b(N|NE|E|SE|S|SW|W|NW)\b", "DIRECTION", text)
    return re.sub(r"-?\d+(\.\d+)?", "NUMBER", text)


@pytest.mark.parametrize("name", STDIO)
async def test_an_example_by_stdio_is_the_same_through_the_gateway(gateway, name):
    program = ["node", str(EXAMPLES / f"server/{name}.js")]
    expected = await visited({"command": program[0], "args": program[1:]})
    wrap = [*gateway.wrap()[:5], "--", *program]
    async with approving(gateway):
        found = await visited({"command": wrap[0], "args": wrap[1:], "env": gateway.environment})
    assert weather_is_made_up(json.dumps(found)) == weather_is_made_up(json.dumps(expected))
    assert await gateway.asked("all") != []


@pytest.mark.parametrize("name", HTTP)
async def test_an_example_by_http_is_the_same_through_the_gateway(gateway, name):
    port = free_port()
    gateway.environment |= {"MCP_PORT": str(port), "PORT": str(port)}
    gateway.start("node", str(EXAMPLES / f"server/{name}.js"))
    await until(lambda: asyncio.to_thread(is_open, port), bool)
    direct = f"http://127.0.0.1:{port}/mcp"
    expected = await visited(direct)
    through = await gateway.serving(*gateway.wrap("--listen", "127.0.0.1:PORT", url=direct))
    async with approving(gateway):
        found = await visited(through)
    assert found == expected
    assert await gateway.asked("all") != []


async def test_the_servers_own_tasks_go_on_under_the_gateways_name(gateway):
    """simpleTaskInteractive and its client: tools that must be called as tasks, and that ask back while they run."""
    port = free_port()
    gateway.environment["PORT"] = str(port)
    gateway.start("node", str(EXAMPLES / "server/simpleTaskInteractive.js"))
    await until(lambda: asyncio.to_thread(is_open, port), bool)
    direct = f"http://127.0.0.1:{port}/mcp"
    through = await gateway.serving(*gateway.wrap("--listen", "127.0.0.1:PORT", url=direct))

    async def played(url):
        program = ["node", str(EXAMPLES / "client/simpleTaskInteractiveClient.js"), "--url", url]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*program, stdin=pipe, stdout=pipe, cwd=HERE)
        async with asyncio.timeout(60):
            out = b""
            while part := await process.stdout.read(4096):
                out += part
                if b"(y/n)" in part:
                    process.stdin.write(b"y\n")
            assert await process.wait() == 0
        text = re.sub(r"(relaytrace-task-)?[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f-]{27}", "ID", out.decode().replace(url, "URL"))
        # How often it looks is a matter of time.
        return [line for line in text.splitlines() if not line.startswith("Task status: ")]

    expected = await played(direct)
    async with approving(gateway):
        found = await played(through)
    assert found == expected and any("Result:" in line for line in found)
    assert {item["action_type"] for item in await gateway.asked("all")} == {"bank/confirm_delete", "bank/write_haiku"}
    for item in await gateway.asked("all"):
        await until(lambda: gateway.detail(item["request_id"]), lambda it: it["execution"] == "succeeded")
