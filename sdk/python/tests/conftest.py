"""The running stack that RELAYTRACE_DEV_JSON describes, and the people and agents of each test."""

import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from relaytrace import AsyncRelay, Relay

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def stack() -> Json:
    described: Json = json.loads(Path(os.environ["RELAYTRACE_DEV_JSON"]).read_text())
    return described


@dataclass
class Agent:
    """A registered agent, and what its client is configured with."""

    stack: Json
    agent_id: str
    settings: Json = field(repr=False)
    opened: list[Relay] = field(default_factory=list, repr=False)

    def relay(self, **options: Any) -> Relay:
        relay = Relay(self.stack["base_url"], **{**self.settings, **options})
        self.opened.append(relay)
        return relay

    def async_relay(self, **options: Any) -> AsyncRelay:
        return AsyncRelay(**{"url": self.stack["base_url"], **self.settings, **options})


class People:
    """Operators and an administrator of the stack."""

    def __init__(self, stack: Json):
        self.stack = stack
        self.http = httpx.Client(base_url=stack["base_url"], timeout=30)

    def call(self, token: str, method: str, path: str, body: Json | None = None, expect: int = 200) -> Json:
        answer = self.http.request(method, path, json=body, headers={"authorization": f"Bearer {token}"})
        assert answer.status_code == expect, answer.text
        said: Json = answer.json() if answer.content else {}
        return said

    def admin(self, method: str, path: str, body: Json | None = None, expect: int = 200) -> Json:
        return self.call(self.stack["admin"]["token"], method, path, body, expect)

    def operator(self, method: str, path: str, body: Json | None = None, expect: int = 200) -> Json:
        return self.call(self.stack["operator"]["token"], method, path, body, expect)

    def detail(self, request_id: str) -> Json:
        return self.operator("GET", f"/v1/hitl/requests/{request_id}")

    def pending(self, agent_id: str) -> list[Json]:
        items: list[Json] = self.operator("GET", f"/v1/hitl/requests?agent_id={agent_id}&limit=200")["items"]
        return items

    def decide(self, request_id: str, decision: str = "approve", **members: Any) -> Json:
        if decision != "reject":
            members.setdefault("action_digest", self.detail(request_id)["action_digest"])
        return self.operator(
            "POST", f"/v1/hitl/requests/{request_id}/decision", {"decision": decision, **members}, expect=201
        )

    @contextmanager
    def deciding(self, agent: Agent, decide: Callable[[Json], tuple[str, Json]]) -> Iterator[list[Json]]:
        """An operator who decides what `agent` asks as it comes; `decide` gets the detail and says how."""
        seen: list[Json] = []
        stop = threading.Event()

        def work() -> None:
            while not stop.is_set():
                for item in self.pending(agent.agent_id):
                    detail = self.detail(item["request_id"])
                    decision, members = decide(detail)
                    if decision != "wait":
                        seen.append(detail)
                        self.decide(item["request_id"], decision, **members)
                stop.wait(0.1)

        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        try:
            yield seen
        finally:
            stop.set()
            worker.join(timeout=30)

    def execution(self, request_id: str) -> Any:
        return self.detail(request_id).get("execution")

    def chain(self, request_id: str) -> list[Json]:
        entries: list[Json] = self.admin("GET", f"/v1/admin/requests/{request_id}/chain")["entries"]
        return entries


def approve(_: Json) -> tuple[str, Json]:
    return "approve", {}


def reject(_: Json) -> tuple[str, Json]:
    return "reject", {"reason": "Refunded yesterday."}


@pytest.fixture(scope="session")
def people(stack: Json) -> Iterator[People]:
    made = People(stack)
    yield made
    made.http.close()


@pytest.fixture
def agent(stack: Json, people: People) -> Iterator[Agent]:
    """An agent of this test's own, with a signing key."""
    made = new_agent(stack, people)
    yield made
    for relay in made.opened:
        relay.close()


def new_agent(stack: Json, people: People) -> Agent:
    agent_id = f"py-{secrets.token_hex(6)}"
    people.admin("POST", "/v1/admin/agents", {"agent_id": agent_id, "name": "Python SDK test"}, expect=201)
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    body = {"key_id": f"k-{secrets.token_hex(6)}", "alg": "EdDSA", "public_key": public}
    registered = people.admin("POST", f"/v1/admin/agents/{agent_id}/keys", body, expect=201)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    settings = {"agent_id": agent_id, "key_id": body["key_id"], "private_key": private}
    return Agent(stack, agent_id, {**settings, "response_secret": registered["response_secret"]})


def until(condition: Callable[[], Any], seconds: float = 20) -> Any:
    """The first true value of `condition()`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.05)
    return value
