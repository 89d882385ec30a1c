"""The running stack that RELAYTRACE_DEV_JSON describes, and a gateway with an agent of each test's own."""

import asyncio
import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from peers import connected

HERE = Path(__file__).parent
COMMAND = str(HERE.parents[1] / "target/debug/relaytrace")
SERVERS = {"python": [sys.executable, str(HERE / "server.py")], "node": ["node", str(HERE / "server.mjs")]}


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


class Gateway:
    """An agent with a bearer key, the people who decide, and `relaytrace mcp wrap` in front of a server."""

    def __init__(self, stack: dict, folder: Path):
        self.stack, self.folder = stack, folder
        self.http = httpx.AsyncClient(base_url=stack["base_url"], timeout=30)
        self.agent_id = f"mcp-{secrets.token_hex(6)}"
        self.ledger = folder / "ledger"
        self.processes: list[subprocess.Popen] = []

    async def register(self) -> None:
        await self.admin("POST", "/v1/admin/agents", {"agent_id": self.agent_id, "name": "MCP"})
        key = {"key_id": f"k-{secrets.token_hex(8)}", "alg": "bearer"}
        made = await self.admin("POST", f"/v1/admin/agents/{self.agent_id}/keys", key)
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "LEDGER": str(self.ledger),
            "RELAYTRACE_URL": self.stack["base_url"],
            "RELAYTRACE_AGENT_ID": self.agent_id,
            "RELAYTRACE_TOKEN": made["token"],
            "RELAYTRACE_RESPONSE_SECRET": made["response_secret"],
        }

    async def as_person(self, who: str, method: str, path: str, body: dict | None = None) -> dict:
        headers = {"authorization": f"Bearer {self.stack[who]['token']}"}
        answer = await self.http.request(method, path, json=body, headers=headers)
        assert answer.is_success, answer.text
        return answer.json()

    async def admin(self, method: str, path: str, body: dict | None = None) -> dict:
        return await self.as_person("admin", method, path, body)

    async def asked(self, status: str = "pending") -> list[dict]:
        query = f"agent_id={self.agent_id}&status={status}&limit=200"
        return (await self.as_person("operator", "GET", f"/v1/hitl/requests?{query}"))["items"]

    async def detail(self, request_id: str) -> dict:
        return await self.as_person("operator", "GET", f"/v1/hitl/requests/{request_id}")

    async def pending(self, count: int = 1) -> list[dict]:
        """What is open, once there is as much."""
        return await until(lambda: self.asked(), lambda items: len(items) == count)

    async def decide(self, request_id: str, decision: str = "approve", **members: Any) -> None:
        if decision in ("approve", "reject"):
            members["action_digest"] = (await self.detail(request_id))["action_digest"]
        body = {"decision": decision, **members}
        await self.as_person("operator", "POST", f"/v1/hitl/requests/{request_id}/decision", body)

    def done(self) -> list[str]:
        """What the server's tools did."""
        return self.ledger.read_text().splitlines() if self.ledger.exists() else []

    def wrap(self, *options: str, server: str = "python", url: str | None = None) -> list[str]:
        """The gateway's command line."""
        behind = ["--url", url] if url else ["--", *SERVERS[server]]
        return [COMMAND, "mcp", "wrap", "--server", "bank", *options, *behind]

    def target(self, *options: str, **behind: Any) -> dict:
        """The gateway as a client starts it."""
        command, *arguments = self.wrap(*options, **behind)
        return {"command": command, "args": arguments, "env": self.environment}

    def start(self, *command: str, **options: Any) -> subprocess.Popen:
        self.processes.append(subprocess.Popen(command, env=self.environment, cwd=HERE, **options))
        return self.processes[-1]

    async def serving(self, *command: str) -> str:
        """A server or a gateway on a port of its own; PORT in its command line stands for it."""
        port = free_port()
        self.start(*(word.replace("PORT", str(port)) for word in command))
        await until(lambda: asyncio.to_thread(is_open, port), bool)
        return f"http://127.0.0.1:{port}/mcp"

    async def reached(self, way: str, server: str, *options: str) -> Any:
        """Where a client finds the gateway: `client-server`, each `stdio` or `http`."""
        of_client, of_server = way.split("-")
        url = await self.serving(*SERVERS[server], "PORT") if of_server == "http" else None
        if of_client == "http":
            return await self.serving(*self.wrap(*options, "--listen", "127.0.0.1:PORT", server=server, url=url))
        return self.target(*options, server=server, url=url)

    @contextlib.asynccontextmanager
    async def client(self, kind: str = "python", *options: str, **behind: Any):
        async with connected(kind, self.target(*options, **behind)) as client:
            yield client


def is_open(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


async def until(look: Any, is_so: Any, seconds: float = 30) -> Any:
    """What `look` finds, as soon as it is so."""
    async with asyncio.timeout(seconds):
        while not is_so(found := await look()):
            await asyncio.sleep(0.05)
    return found


@pytest.fixture
async def gateway(tmp_path):
    made = Gateway(json.loads(Path(os.environ["RELAYTRACE_DEV_JSON"]).read_text()), tmp_path)
    await made.register()
    yield made
    for process in made.processes:
        process.terminate()
    for process in made.processes:
        process.wait(10)
    await made.http.aclose()
