"""The command `relaytrace` against the running stack that RELAYTRACE_DEV_JSON describes (tests/with-stack)."""

import json
import os
import pty
import re
import secrets
import subprocess
import threading
import time
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMAND = str(ROOT / "target/debug/relaytrace")


@pytest.fixture(scope="session")
def stack():
    return json.loads(Path(os.environ["RELAYTRACE_DEV_JSON"]).read_text())


class People:
    """Operators and an administrator of the stack."""

    def __init__(self, stack):
        self.stack = stack
        self.http = httpx.Client(base_url=stack["base_url"], timeout=30)

    def call(self, token, method, path, body=None):
        answer = self.http.request(method, path, json=body, headers={"authorization": f"Bearer {token}"})
        assert answer.is_success, answer.text
        return answer.json() if answer.content else {}

    def admin(self, method, path, body=None):
        return self.call(self.stack["admin"]["token"], method, path, body)

    def operator(self, method, path, body=None):
        return self.call(self.stack["operator"]["token"], method, path, body)

    def detail(self, request_id):
        return self.operator("GET", f"/v1/hitl/requests/{request_id}")

    def asked(self, agent_id, status="pending"):
        return self.operator("GET", f"/v1/hitl/requests?agent_id={agent_id}&status={status}&limit=200")["items"]

    def decide(self, request_id, decision="approve", **members):
        if decision in ("approve", "reject"):
            members.setdefault("action_digest", self.detail(request_id)["action_digest"])
        self.operator("POST", f"/v1/hitl/requests/{request_id}/decision", {"decision": decision, **members})

    def chain(self, request_id):
        return self.detail(request_id)["chain"]["entries"]


@pytest.fixture(scope="session")
def people(stack):
    return People(stack)


def until(condition, seconds=30):
    """The first true value of `condition()`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.05)
    return value


class Agent:
    """An agent of a test's own, and the command as it runs it: with nothing of this process's environment but PATH."""

    def __init__(self, stack, people, folder):
        self.people, self.folder, self.started = people, folder, []
        self.agent_id = f"cli-{secrets.token_hex(6)}"
        people.admin("POST", "/v1/admin/agents", {"agent_id": self.agent_id, "name": "Test of commands"})
        body = {"key_id": f"k-{secrets.token_hex(6)}", "alg": "bearer", "scopes": ["ask", "execute", "hook"]}
        key = people.admin("POST", f"/v1/admin/agents/{self.agent_id}/keys", body)
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "RELAYTRACE_URL": stack["base_url"],
            "RELAYTRACE_AGENT_ID": self.agent_id,
            "RELAYTRACE_TOKEN": key["token"],
            "RELAYTRACE_RESPONSE_SECRET": key["response_secret"],
        }

    def start(self, *arguments, **options):
        environment = {**self.environment, **options.pop("env", {})}
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": self.folder, **options}
        set_ = {name: value for name, value in environment.items() if value is not None}
        self.started.append(subprocess.Popen([COMMAND, *arguments], env=set_, **options))
        return self.started[-1]

    def ended(self, *arguments, **options):
        """Exit code, standard output and standard error."""
        given = options.pop("input", None)
        return outcome(self.start(*arguments, stdin=subprocess.PIPE if given is not None else subprocess.DEVNULL, **options), given)

    def pending(self):
        """The one question that is open."""
        return until(lambda: self.people.asked(self.agent_id))[0]["request_id"]

    def decided(self, *arguments, decision="approve", members=None, **options):
        """As `ended`, beside an operator who decides."""
        deciding = threading.Thread(target=lambda: self.people.decide(self.pending(), decision, **(members or {})))
        deciding.start()
        try:
            return self.ended(*arguments, **options)
        finally:
            deciding.join()


def outcome(process, given=None):
    out, err = process.communicate(given, timeout=60)
    return process.returncode, out, err


def at_terminal(agent, *arguments, on=None, env=None):
    """The command at a terminal of its own: exit code and what was seen. `on`: what is typed once a pattern was seen."""
    given = {**agent.environment, "NO_COLOR": "1", **(env or {})}
    environment = {name: value for name, value in given.items() if value is not None}
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(COMMAND, [COMMAND, *arguments], environment)
    seen = ""
    while True:
        try:
            read = os.read(terminal, 65_536)
        except OSError:
            break
        if not read:
            break
        seen += read.decode(errors="replace")
        if on and (found := re.search(on[0], seen)):
            os.write(terminal, on[1].format(*found.groups()).encode())
            on = None
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), seen


@pytest.fixture
def agent(stack, people, tmp_path):
    made = Agent(stack, people, tmp_path)
    yield made
    for process in made.started:
        process.kill()


@pytest.fixture
def operator(agent, stack, tmp_path):
    """The same, with an operator's token in a file."""
    file = tmp_path / "operator-token"
    file.touch(mode=0o600)
    file.write_text(stack["operator"]["token"] + "\n")
    agent.environment["RELAYTRACE_OPERATOR_TOKEN_FILE"] = str(file)
    return agent
