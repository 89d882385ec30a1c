"""Clients of the official SDKs, behind one face."""

import asyncio
import contextlib
import itertools
import json
import time
from pathlib import Path
from typing import Any

from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp_types import ElicitResult, Implementation

HERE = Path(__file__).parent


class Python:
    """PyPI `mcp`, by the handshake of 2025-11-25 or stateless (2026-07-28)."""

    def __init__(self, client: Client):
        self.client, self.calls = client, {}

    @classmethod
    @contextlib.asynccontextmanager
    async def connected(cls, target: Any, mode: str, elicits: bool):
        async def confirm(_context: Any, _params: Any) -> ElicitResult:
            return ElicitResult(action="accept", content={"word": "yes"})

        server = target if isinstance(target, str) else StdioServerParameters(**target)
        info = Implementation(name="python-client", version="1")
        asked = confirm if elicits else None
        async with Client(server, mode=mode, elicitation_callback=asked, client_info=info) as client:
            yield cls(client)

    async def call(self, name: str, arguments: dict | None = None, progress: bool = False) -> dict:
        seen: list = []

        async def told(progress: float, _total: float | None, message: str | None) -> None:
            seen.append(message or progress)

        result = await self.client.call_tool(name, arguments or {}, progress_callback=told if progress else None)
        return result.model_dump(by_alias=True, mode="json", exclude_none=True) | {"progress": seen}

    async def tools(self) -> list[dict]:
        listed = await self.client.list_tools()
        return [tool.model_dump(by_alias=True, mode="json", exclude_none=True) for tool in listed.tools]

    async def resource(self, uri: str) -> dict:
        return (await self.client.read_resource(uri)).model_dump(by_alias=True, mode="json", exclude_none=True)

    async def prompt(self, name: str, arguments: dict) -> dict:
        return (await self.client.get_prompt(name, arguments)).model_dump(by_alias=True, mode="json", exclude_none=True)

    async def times(self, name: str, arguments: dict, count: int) -> list[float]:
        took = []
        for _ in range(count):
            begun = time.perf_counter()
            await self.client.call_tool(name, arguments)
            took.append((time.perf_counter() - begun) * 1000)
        return took


class Node:
    """npm `@modelcontextprotocol/sdk`, in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process):
        self.process, self.ids, self.waiting = process, itertools.count(1), {}

    @classmethod
    @contextlib.asynccontextmanager
    async def connected(cls, target: Any, _mode: str, _elicits: bool, program: str = "client.mjs"):
        program = ["node", str(HERE / program), json.dumps(target)]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*program, stdin=pipe, stdout=pipe, cwd=HERE, limit=1 << 24)
        client = cls(process)
        assert json.loads(await process.stdout.readline())["id"] == 0
        reading = asyncio.create_task(client.read())
        try:
            yield client
        finally:
            process.stdin.close()
            await asyncio.wait_for(process.wait(), 20)
            reading.cancel()

    async def read(self) -> None:
        while line := await self.process.stdout.readline():
            answer = json.loads(line)
            waiting = self.waiting.pop(answer["id"])
            if "error" in answer:
                waiting.set_exception(RuntimeError(answer["error"]))
            else:
                waiting.set_result(answer["result"])

    async def order(self, what: str, **members: Any) -> Any:
        number = next(self.ids)
        self.waiting[number] = asyncio.get_running_loop().create_future()
        self.process.stdin.write(json.dumps({"id": number, "do": what, **members}).encode() + b"\n")
        try:
            return await asyncio.shield(self.waiting[number])
        except asyncio.CancelledError:
            self.waiting[number].add_done_callback(lambda done: done.exception())
            self.process.stdin.write(json.dumps({"id": 0, "do": "cancel", "call": number}).encode() + b"\n")
            self.waiting[0] = asyncio.get_running_loop().create_future()
            raise

    async def call(self, name: str, arguments: dict | None = None, progress: bool = False) -> dict:
        return await self.order("tool", name=name, arguments=arguments or {}, progress=progress)

    async def tools(self) -> list[dict]:
        return await self.order("tools")

    async def resource(self, uri: str) -> dict:
        return await self.order("resource", uri=uri)

    async def prompt(self, name: str, arguments: dict) -> dict:
        return await self.order("prompt", name=name, arguments=arguments)

    async def times(self, name: str, arguments: dict, count: int) -> list[float]:
        return await self.order("time", name=name, arguments=arguments, count=count)


CLIENTS = {"python": (Python, "legacy"), "stateless": (Python, "auto"), "node": (Node, "")}


def connected(kind: str, target: Any, elicits: bool = True):
    """A client of this kind, connected to a server that it starts, or to one at an address.

    The Python client opens links, too, where it elicits at all."""
    client, mode = CLIENTS[kind]
    return client.connected(target, mode, elicits)


def text(result: dict) -> str:
    return "\n".join(part["text"] for part in result["content"] if part["type"] == "text")
