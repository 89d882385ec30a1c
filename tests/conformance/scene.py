"""One cell's agent: its folder, its processes, and the people who decide what it asks."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from table import ROOT, Row

sys.path[:0] = [str(ROOT / "sdk/python/tests")]
from conftest import Agent, People, new_agent, until  # noqa: E402
from test_relay import edited  # noqa: E402

HERE = ROOT / "tests/conformance"
LONGEST = 90
"""Seconds until a process that does not end counts as one that hangs."""
DAYS = 30
Answer = dict[str, str]


class Lost(Exception):
    """What the cell shows the row to lose."""


class Cannot(Exception):
    """The framework has no way to express the situation."""


@dataclass(frozen=True)
class Played:
    """What a process said in its last line."""

    paused: bool
    told: list[str]


@dataclass
class Scene:
    row: Row
    stack: dict[str, Any]
    people: People
    folder: Path
    agent: Agent
    run: str = field(default_factory=lambda: f"run-{secrets.token_hex(6)}")
    answers: dict[str, Answer] = field(default_factory=dict)
    """What a person has said to a paused run: given to the resume of a framework by itself."""
    down: bool = False
    not_offered: str | None = None
    """An answer that a person wanted to give, and that the request did not offer."""

    @property
    def is_own(self) -> bool:
        return self.row.kind == "own"

    # ------------------------------------------------------------ processes

    def play(self, *calls: str, kill: bool = False, **more: Any) -> Played:
        """One process of the agent, to its end; or until its tool has begun, and then `kill -9`."""
        plan = {"folder": str(self.folder), "run": self.run, "calls": calls or ["12.40"], "answers": {}, "hang": kill}
        plan |= {"relay": self.of_relay(), "aap": self.of_aap(), **more}
        with (self.folder / "errors").open("a+b") as errors:
            pipe = subprocess.PIPE
            process = subprocess.Popen(
                self.program(), stdin=pipe, stdout=pipe, stderr=errors, env=self.environment(), cwd=HERE / "rows"
            )
            try:
                if kill:
                    return self.kill(process, json.dumps(plan))
                said, _ = process.communicate(json.dumps(plan).encode(), timeout=LONGEST)
            finally:
                end(process)
        return self.read(said)

    def kill(self, process: subprocess.Popen[bytes], plan: str) -> Played:
        assert process.stdin
        process.stdin.write(plan.encode())
        process.stdin.close()
        before = len(self.ran())
        until(lambda: len(self.ran()) > before or process.poll() is not None, LONGEST)
        if process.poll() is not None:
            raise Lost(f"The approved call did not run: {self.blame()}")
        return Played(False, [])

    def read(self, said: bytes) -> Played:
        try:
            last = json.loads(said.splitlines()[-1])
        except (IndexError, ValueError):
            raise Lost(f"The agent ended with an error: {self.blame()}") from None
        if "cannot" in last:
            raise Cannot(last["cannot"])
        return Played(last["paused"], last["told"])

    def blame(self) -> str:
        """The last line that a process wrote to its standard error."""
        lines = [line for line in (self.folder / "errors").read_text(errors="replace").splitlines() if line.strip()]
        faults = [line for line in lines if "Error" in line and not line.startswith((" ", "    at"))]
        return (faults or lines or ["it said nothing"])[-1].strip()[:300]

    def program(self) -> list[str]:
        if ".mjs" in self.row.program:
            return ["node", str(HERE / "rows/play.mjs"), self.row.program]
        return [sys.executable, str(HERE / "play.py"), self.row.program]

    def environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "TZ") if name in os.environ}
        return kept | {"HOME": str(self.folder), "NO_COLOR": "1", "OPENAI_AGENTS_DISABLE_TRACING": "1"}

    def of_relay(self) -> dict[str, Any] | None:
        """Options of the SDK of the row's language."""
        if self.row.kind != "relay":
            return None
        settings = self.agent.settings
        url = "http://127.0.0.1:9" if self.down else self.stack["base_url"]
        if ".mjs" not in self.row.program:
            return {"url": url, "patience": 2 if self.down else 30, **settings}
        names = {"agent_id": "agentId", "key_id": "keyId", "private_key": "privateKey", "response_secret": "responseSecret", "token": "token"}
        named = {names[name]: value for name, value in settings.items()}
        return {"url": url, "patienceSeconds": 2 if self.down else 30, **named}

    def of_aap(self) -> dict[str, Any] | None:
        if self.row.kind != "aap":
            return None
        url = "http://127.0.0.1:9" if self.down else f"{self.stack['base_url']}/aap"
        return {"url": url, "token": self.agent.settings["token"], "request_id": next(iter(self.requests()), None)}

    # ------------------------------------------------------------ people

    def answered(self, *calls: str, answers: dict[str, Answer], **more: Any) -> Played:
        """A run whose calls a person answers while it is there."""
        if self.is_own:
            return self.play(*calls, answers=answers, **more)
        with self.people.deciding(self.agent, lambda detail: self.decision(detail, answers)):
            return self.play(*calls, **more)

    def decision(self, detail: dict[str, Any], answers: dict[str, Answer]) -> tuple[str, dict[str, Any]]:
        amount = detail["action"]["arguments"].get("amount")
        if amount is None:
            # Adapters that ask about every tool ask about the one that runs the inner agent, too.
            return "approve", {}
        answer = answers[amount]
        offered = detail.get("answers") or ["approve", "reject"]
        if answer["decision"] not in offered:
            self.not_offered = answer["decision"]
            return "reject", {"reason": "There is no other answer."}
        if answer["decision"] == "edit":
            return edited(detail, {"amount": answer["amount"]})
        return answer["decision"], {name: answer[name] for name in ("reason", "response") if name in answer}

    def pause(self) -> None:
        """A first process asks, and ends while a person thinks."""
        if not self.play(pause=True).paused:
            raise Lost(f"The run does not pause: {self.blame()}")

    def decide(self) -> None:
        """The person approves what is pending."""
        if self.is_own:
            self.answers = {"12.40": {"decision": "approve"}}
            return
        for item in until(lambda: self.people.pending(self.agent.agent_id)):
            self.people.decide(item["request_id"])

    def resume(self, *calls: str, **more: Any) -> Played:
        return self.play(*calls, **{"resume": True, "pause": True, "answers": self.answers, **more})

    def requests(self) -> list[str]:
        items = self.people.operator("GET", f"/v1/hitl/requests?agent_id={self.agent.agent_id}&status=all")["items"]
        return [item["request_id"] for item in items]

    def policy(self, seconds: int) -> None:
        """How long this agent's questions may be answered."""
        for priority in ("P1", "P2", "P3"):
            body = {"agent_id": self.agent.agent_id, "priority": priority, "respond_within_seconds": seconds}
            self.people.admin("PUT", "/v1/admin/timeout-policies", {**body, "on_timeout": "auto_reject"})

    def age(self, days: int) -> None:
        """As if the agent's questions had been asked so many days ago: the ends of their keys are moved."""
        if self.is_own:
            return
        ids = self.requests()
        with psycopg.connect(self.stack["database_url"]) as owner:
            moved = owner.execute(
                "UPDATE request_dedupe SET expires_at = expires_at - make_interval(days => %s) WHERE request_id = ANY(%s::uuid[])",
                (days, ids),
            )
            assert ids and moved.rowcount == len(ids), f"{moved.rowcount} keys of {len(ids)} requests"

    # ------------------------------------------------------------ what came of it

    def ran(self) -> list[str]:
        """The amounts that the tool has run with."""
        ledger = self.folder / "ledger"
        return ledger.read_text().split() if ledger.exists() else []

    def change(self, amount: str, other: str) -> None:
        """The stored amount becomes another one of as many bytes, in every file that the agent keeps."""
        kept = [path for path in self.folder.rglob("*") if path.is_file() and path.name not in ("ledger", "errors")]
        found = [path for path in kept if amount.encode() in path.read_bytes()]
        assert found or not kept, f"the amount is in none of {kept}"
        for path in found:
            path.write_bytes(path.read_bytes().replace(amount.encode(), other.encode()))


def end(process: subprocess.Popen[bytes]) -> None:
    """`kill -9` of the process and of all that it has started, and that has not ended by itself."""
    for pid in [*below(process.pid), process.pid]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def below(pid: int) -> list[int]:
    """The processes that a process has started, and theirs."""
    try:
        mine = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [one for child in mine for one in (*below(child), child)]


@contextlib.contextmanager
def scene(row: Row, stack: dict[str, Any], people: People) -> Iterator[Scene]:
    folder = Path(tempfile.mkdtemp(prefix="conformance-"))
    agent = new_agent(stack, people)
    if row.kind == "aap" or row.name == "mcp-wrap":
        key = {"key_id": f"k-{secrets.token_hex(8)}", "alg": "bearer"}
        made = people.admin("POST", f"/v1/admin/agents/{agent.agent_id}/keys", key, expect=201)
        settings = {"agent_id": agent.agent_id, "token": made["token"], "response_secret": made["response_secret"]}
        agent = Agent(stack, agent.agent_id, settings)
    made_scene = Scene(row, stack, people, folder, agent)
    made_scene.policy(DAYS * 86_400)
    try:
        yield made_scene
    finally:
        shutil.rmtree(folder, ignore_errors=True)
