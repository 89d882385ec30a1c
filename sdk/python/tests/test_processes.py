"""Agents that are killed: what another process finds under the same key, and what the record says."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import Agent, People, until
from relaytrace import AlreadyUsed

ACTION = ("refund.create", {"amount": "12.40"})
# Asks under the key of its first argument, says that it has begun to run, and never ends.
PROGRAM = """
import json, sys, time
from relaytrace import Relay
settings = json.loads(sys.argv[2])
with Relay(**settings).ask("refund.create", {"amount": "12.40"}, key=sys.argv[1]) as permit:
    print("runs", flush=True)
    time.sleep(3600)
"""


@pytest.fixture
def process(agent: Agent) -> Any:
    settings = json.dumps({"url": agent.stack["base_url"], **agent.settings})
    bare = {name: value for name, value in os.environ.items() if not name.startswith("RELAYTRACE_")}
    started = subprocess.Popen([sys.executable, "-c", PROGRAM, "k", settings], stdout=subprocess.PIPE, env=bare)
    yield started
    started.kill()
    started.communicate()


def test_killed_while_it_waits_another_process_goes_on(agent: Agent, people: People, process: Any) -> None:
    [item] = until(lambda: people.pending(agent.agent_id))
    process.kill()
    process.wait()
    people.decide(item["request_id"])
    ran = []
    with agent.relay() as relay, relay.ask(*ACTION, key="k") as permit:
        ran.append(permit.arguments)
    assert ran == [ACTION[1]]
    assert permit.request.request_id == item["request_id"]
    assert people.execution(item["request_id"]) == "succeeded"


def test_killed_as_it_runs_it_is_not_run_again_and_the_record_says_no_end(
    agent: Agent, people: People, process: Any
) -> None:
    [item] = until(lambda: people.pending(agent.agent_id))
    people.decide(item["request_id"])
    assert process.stdout.readline() == b"runs\n"
    process.kill()
    process.wait()
    with agent.relay() as relay, pytest.raises(AlreadyUsed) as caught, relay.ask(*ACTION, key="k"):
        pytest.fail("ran twice")
    assert "Find out whether it took effect" in caught.value.for_model
    assert people.execution(item["request_id"]) == "consumed"
    kinds = [entry["kind"] for entry in people.chain(item["request_id"])]
    assert kinds[-2:] == ["decided", "consumed"], kinds


def test_a_question_of_another_process_is_used_here_by_what_it_left(
    agent: Agent, people: People, tmp_path: Path
) -> None:
    """What is kept between processes is the id alone."""
    kept = tmp_path / "request"
    settings = json.dumps({"url": agent.stack["base_url"], **agent.settings})
    program = (
        "import json, pathlib, sys; from relaytrace import Relay; relay = Relay(**json.loads(sys.argv[1]))\n"
        'pathlib.Path(sys.argv[2]).write_text(relay.submit("refund.create", {"amount": "12.40"}).request_id)'
    )
    subprocess.run([sys.executable, "-c", program, settings, str(kept)], check=True, timeout=60)
    people.decide(kept.read_text())
    with agent.relay() as relay:
        decision = relay.wait(relay.request(kept.read_text()))
        with relay.use(decision, *ACTION) as permit:
            assert permit.arguments == ACTION[1]
    assert people.execution(kept.read_text()) == "succeeded"
