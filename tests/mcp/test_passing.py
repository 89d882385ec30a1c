"""Everything else: through the gateway as without it."""

import asyncio
import contextlib
import json
import os
import re

import pytest
from conftest import HERE, free_port, is_open, until

EXAMPLES = HERE / "node_modules/@modelcontextprotocol/sdk/dist/esm/examples"
EVERYTHING = HERE / "node_modules/@modelcontextprotocol/server-everything/dist/index.js"


@contextlib.asynccontextmanager
async def approving(gateway):
    """An operator who approves whatever comes."""

    async def work():
        while True:
            for item in await gateway.asked():
                await gateway.decide(item["request_id"])
            await asyncio.sleep(0.1)

    worker = asyncio.create_task(work())
    try:
        yield
    finally:
        worker.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await worker


async def output(*command, environment=None, seconds=100):
    """What a program prints."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, cwd=HERE, env=environment)
    async with asyncio.timeout(seconds):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


async def everything(gateway, way):
    """Where the reference server is found, `client-server` by `stdio` or `http`; without a gateway where there is no way."""
    of_client, of_server = way.split("-")
    behind = ["--", "node", str(EVERYTHING), "stdio"]
    if of_server == "http":
        port = free_port()
        gateway.environment["PORT"] = str(port)
        gateway.start("node", str(EVERYTHING), "streamableHttp")
        await until(lambda: asyncio.to_thread(is_open, port), bool)
        behind = ["--url", f"http://127.0.0.1:{port}/mcp"]
    wrap = [*gateway.wrap()[:5], *behind]
    if of_client == "http":
        return await gateway.serving(*wrap[:5], "--listen", "127.0.0.1:PORT", *wrap[5:])
    return {"command": wrap[0], "args": wrap[1:], "env": gateway.environment}


def same(text):
    """Times and ids are each run's own."""
    text = re.sub(r"\d{1,2}:\d{2}:\d{2}(\.\d+)?( [AP]M)?", "TIME", text)
    return re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "UUID", text)


@pytest.mark.parametrize("way", [pytest.param("stdio-stdio", marks=pytest.mark.short), "stdio-http", "http-stdio", "http-http"])
async def test_a_tour_through_the_reference_server_sees_the_same(gateway, way):
    tour = ["node", str(HERE / "tour.mjs")]
    direct = {"command": "node", "args": [str(EVERYTHING), "stdio"]}
    expected = json.loads(same(await output(*tour, json.dumps(direct))))
    async with approving(gateway):
        found = json.loads(same(await output(*tour, json.dumps(await everything(gateway, way)))))
    assert list(found) == list(expected)
    # The one thing that is added: guarded tools can be called as tasks.
    for tool in expected["tools"]["tools"]:
        reads = (tool.get("annotations") or {}).get("readOnlyHint") is True
        if not reads and (tool.get("execution") or {}).get("taskSupport") in (None, "forbidden"):
            tool["execution"] = {"taskSupport": "optional"}
    for name, value in expected.items():
        assert found[name] == value, name
    assert {what for what, _ in expected["told"]} == {"sampling", "elicitation"} and expected["logged"]
    asked = {item["action_type"] for item in await gateway.asked("all")}
    assert asked == {f"bank/{tool}" for tool in ("trigger-sampling-request", "trigger-elicitation-request", "gzip-file-as-resource", "none")}


async def example(gateway, name, url, approved=True):
    async with approving(gateway) if approved else contextlib.nullcontext():
        return same(await output("node", str(EXAMPLES / f"client/{name}.js"), url, environment=os.environ))


@pytest.mark.parametrize(
    ("client", "server"),
    [
        ("parallelToolCallsClient", "simpleStreamableHttp"),
        ("multipleClientsParallel", "simpleStreamableHttp"),
        ("streamableHttpWithSseFallbackClient", "simpleStreamableHttp"),
    ],
)
async def test_the_sdks_examples_behave_as_without_the_gateway(gateway, client, server):
    port = free_port()
    gateway.environment |= {"MCP_PORT": str(port), "PORT": str(port)}
    gateway.start("node", str(EXAMPLES / f"server/{server}.js"))
    await until(lambda: asyncio.to_thread(is_open, port), bool)
    direct = f"http://127.0.0.1:{port}/mcp"
    through = await gateway.serving(*gateway.wrap("--listen", "127.0.0.1:PORT", url=direct))
    expected, found = await example(gateway, client, direct, approved=False), await example(gateway, client, through)
    assert sorted(found.replace(through, direct).splitlines()) == sorted(expected.splitlines())
    assert await gateway.asked("all") != []

