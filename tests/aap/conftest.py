"""The running stack that RELAYTRACE_DEV_JSON describes, and an agent of each test's own."""

import asyncio
import contextlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

import httpx
import pytest


class Relay:
    """An agent with a bearer key, and the people who look after it."""

    def __init__(self, stack: dict):
        self.stack, self.agent_id = stack, f"aap-{secrets.token_hex(6)}"
        self.http = httpx.Client(base_url=stack["base_url"], timeout=30)
        # What a framework keeps between two runs.
        self.kept: dict[str, Any] = {}
        self.url = f"{stack['base_url']}/aap"
        self.as_person("admin", "POST", "/v1/admin/agents", {"agent_id": self.agent_id, "name": "AAP"})
        key = {"key_id": f"k-{secrets.token_hex(8)}", "alg": "bearer"}
        self.token = self.as_person("admin", "POST", f"/v1/admin/agents/{self.agent_id}/keys", key)["token"]

    def as_person(self, who: str, method: str, path: str, body: dict | None = None) -> dict:
        headers = {"authorization": f"Bearer {self.stack[who]['token']}"}
        answer = self.http.request(method, path, json=body, headers=headers)
        assert answer.is_success, answer.text
        return answer.json()

    def items(self, status: str) -> list[dict]:
        query = f"agent_id={self.agent_id}&status={status}"
        return self.as_person("operator", "GET", f"/v1/hitl/requests?{query}")["items"]

    def the_request(self) -> dict:
        """The only one, in full."""
        [item] = self.items("all")
        return self.as_person("operator", "GET", f"/v1/hitl/requests/{item['request_id']}")

    @contextlib.asynccontextmanager
    async def deciding(self, **decision: str):
        """An operator who decides so whatever comes."""

        async def work() -> None:
            while True:
                for item in await asyncio.to_thread(self.items, "pending"):
                    path = f"/v1/hitl/requests/{item['request_id']}/decision"
                    await asyncio.to_thread(self.as_person, "operator", "POST", path, decision)
                await asyncio.sleep(0.1)

        worker = asyncio.create_task(work())
        try:
            yield
        finally:
            worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await worker


@pytest.fixture
def relay() -> Relay:
    return Relay(json.loads(Path(os.environ["RELAYTRACE_DEV_JSON"]).read_text()))
