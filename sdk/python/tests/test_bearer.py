"""An agent that does not sign: its bearer key, its name, and the secret of the answers to it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import Agent, Json, People, approve, new_agent, reject
from relaytrace import Refused, Rejected

LINES = re.compile(r"^ *(export RELAYTRACE_[A-Z_]+=\S+)$", re.MULTILINE)
PROGRAM = """
import json, sys
from relaytrace import Relay
with Relay.from_env() as relay, relay.ask("refund.create", {"order": sys.argv[1]}) as permit:
    print(json.dumps([permit.request.request_id, permit.arguments]))
"""


@pytest.fixture
def bearer(agent: Agent, people: People) -> Agent:
    """The agent with a bearer key in place of its signing key."""
    body = {"key_id": f"{agent.agent_id}-bearer", "alg": "bearer", "scopes": ["ask", "execute"]}
    made = people.admin("POST", f"/v1/admin/agents/{agent.agent_id}/keys", body, expect=201)
    return Agent(
        agent.stack,
        agent.agent_id,
        {"agent_id": agent.agent_id, "token": made["token"], "response_secret": made["response_secret"]},
        agent.opened,
    )


@pytest.mark.short
def test_a_bearer_key_asks_uses_and_reports(bearer: Agent, people: People) -> None:
    relay = bearer.relay()
    with people.deciding(bearer, approve), relay.ask("refund.create", {"amount": "12.40"}) as permit:
        assert relay.verify_receipt(permit.receipt or "").outcome == "approved"
    assert people.execution(permit.request.request_id) == "succeeded"
    with people.deciding(bearer, reject), pytest.raises(Rejected), relay.ask("refund.create", {"amount": "9.00"}):
        pytest.fail("ran without an approval")


def test_a_bearer_key_speaks_for_its_own_agent_only(bearer: Agent, stack: Json, people: People) -> None:
    other = new_agent(stack, people)
    with bearer.relay(agent_id=other.agent_id) as relay, pytest.raises(Refused) as caught:
        relay.submit("a.b", {})
    assert caught.value.code == "forbidden"


@pytest.mark.short
def test_the_lines_that_make_run_prints_work_as_printed(stack: Json, people: People) -> None:
    banner = Path(os.environ["RELAYTRACE_DEV_JSON"]).with_name("out")
    lines = LINES.findall(banner.read_text())
    assert [line.split("=")[0].removeprefix("export RELAYTRACE_") for line in lines] == [
        "URL",
        "AGENT_ID",
        "TOKEN",
        "RESPONSE_SECRET",
    ]
    arguments = {"order": os.urandom(6).hex()}

    def approve_ours(detail: Json) -> tuple[str, Json]:
        return approve(detail) if detail["action"]["arguments"] == arguments else ("wait", {})

    agent = Agent(stack, stack["agent"]["agent_id"], {})
    bare = {name: value for name, value in os.environ.items() if not name.startswith("RELAYTRACE_")}
    program = [sys.executable, "-c", PROGRAM, arguments["order"]]
    command = ["sh", "-c", "\n".join([*lines, 'exec "$@"']), "sh", *program]
    with people.deciding(agent, approve_ours):
        ended = subprocess.run(command, env=bare, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    request_id, approved = json.loads(ended.stdout)
    assert approved == arguments
    assert people.execution(request_id) == "succeeded"
