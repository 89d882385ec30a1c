"""`relaytrace run`: exactly what was approved runs, once, and the record tells the truth."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import at_terminal, outcome, until

RUN = ("run", "--type", "deploy", "--")


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def outcomes(people, agent):
    item, = people.asked(agent.agent_id, "all")
    detail = people.detail(item["request_id"])
    notes = [entry.get("note") for entry in detail["chain"]["entries"] if entry["kind"] == "outcome"]
    return detail["execution"], *notes


def test_what_runs_is_what_was_shown(agent, people, tmp_path):
    process = agent.start("run", "--type", "deploy", "--env", "PGHOST", "--secret-env", "PGPASSWORD", "--", "sh", "-c",
                          'echo "$0 $PGHOST $PGPASSWORD ${RELAYTRACE_TOKEN-none} $PWD"', "a word",
                          env={"PGHOST": "db", "PGPASSWORD": "hush", "OTHER": "x"})
    request_id = agent.pending()
    action = people.detail(request_id)["action"]["arguments"]
    assert action["argv"] == ["sh", "-c", 'echo "$0 $PGHOST $PGPASSWORD ${RELAYTRACE_TOKEN-none} $PWD"', "a word"]
    assert action["cwd"] == str(tmp_path)
    assert action["env"]["PGHOST"] == "db" and "OTHER" not in action["env"]
    assert action["secret_env"] == ["PGPASSWORD"] and "hush" not in str(action)
    executable = Path(action["executable"]["path"])
    assert action["executable"]["sha256"] == "sha256:" + hashlib.sha256(executable.read_bytes()).hexdigest()
    people.decide(request_id)
    code, out, err = outcome(process)
    assert (code, out) == (0, f"a word db hush none {tmp_path}\n"), err
    assert outcomes(people, agent) == ("succeeded", "exit status: 0")


@pytest.mark.parametrize(
    ("command", "code", "execution"),
    [("exit 0", 0, "succeeded"), ("exit 3", 3, "failed"), ("exit 77", 77, "failed"), ("kill -9 $$", 137, "failed")],
)
def test_it_exits_as_the_command_did(agent, people, command, code, execution):
    got, _, err = agent.decided(*RUN, "sh", "-c", command)
    assert (got, outcomes(people, agent)[0]) == (code, execution), err


def test_not_approved_does_not_run(agent, people, tmp_path):
    trace = tmp_path / "ran"
    code, _, err = agent.decided(*RUN, "touch", str(trace), decision="reject", members={"reason": "Not today."})
    assert code == 77 and "Not today." in err
    assert agent.ended("run", "--type", "deploy", "--wait", "0s", "--", "touch", str(trace))[0] == 75
    process = agent.start(*RUN, "touch", str(trace))
    agent.pending()
    process.send_signal(signal.SIGINT)
    assert outcome(process)[0] == 76
    assert agent.ended(*RUN, "touch", str(trace), env={"RELAYTRACE_URL": "http://127.0.0.1:9"})[0] == 69
    assert agent.ended(*RUN, "no-such-command")[0] == 127
    (tmp_path / "notes").write_text("no program")
    assert agent.ended(*RUN, "./notes")[0] == 126
    assert agent.ended("run", "--type", "deploy")[0] == 64
    assert not trace.exists()
    assert {item["outcome"] for item in people.asked(agent.agent_id, "all")} == {"rejected", "cancelled"}


@pytest.mark.parametrize("swap", ["replaced", "rewritten", "removed"])
def test_an_executable_that_changed_since_the_approval_is_not_run(agent, people, tmp_path, swap):
    good, trace = script(tmp_path / "deploy", "echo good"), tmp_path / "ran"
    process = agent.start(*RUN, "./deploy")
    request_id = agent.pending()
    if swap == "replaced":
        os.replace(script(tmp_path / "evil", f"touch {trace}"), good)
    elif swap == "rewritten":
        script(good, f"touch {trace}")
    else:
        good.unlink()
    people.decide(request_id)
    code, out, err = outcome(process)
    assert (code, out) == (77, ""), err
    assert not trace.exists()
    execution, note = outcomes(people, agent)
    assert execution == "failed" and note.startswith("It did not run: ")


def test_a_script_that_changes_while_it_runs_runs_as_approved(agent, people, tmp_path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    # In place, and beyond what a shell has read: it reads its script as it goes.
    far = "#" * 79 + "\n"
    good = script(tmp_path / "deploy", f"echo begun; read _ < {gate}\n{far * 2_000}echo 'as approved'")
    process = agent.start(*RUN, "./deploy")
    people.decide(agent.pending())
    assert process.stdout.readline() == "begun\n"
    with good.open("r+") as opened:
        opened.write(good.read_text().replace("as approved", "as swapped "))
    gate.write_text("go\n")
    assert outcome(process)[:2] == (0, "as approved\n")


def test_a_program_runs_through_the_file_that_was_hashed(agent, people, tmp_path):
    process = agent.start(*RUN, sys.executable, "-c", "import os; print(os.readlink('/proc/self/exe'))")
    people.decide(agent.pending())
    code, out, err = outcome(process)
    assert (code, out.strip()) == (0, str(Path(sys.executable).resolve())), err


def test_killed_before_during_and_after(agent, people, tmp_path):
    # Before the approval: nothing ran, and whoever approves now approves nothing that runs.
    trace = tmp_path / "ran"
    process = agent.start(*RUN, "touch", str(trace))
    request_id = agent.pending()
    process.kill()
    outcome(process)
    people.decide(request_id)
    assert people.detail(request_id)["execution"] == "waiting" and not trace.exists()
    # During the run: used, and nobody knows how it ended.
    process = agent.start(*RUN, "sh", "-c", f"echo $$ > {trace}; exec sleep 600", stdout=subprocess.DEVNULL)
    request_id = agent.pending()
    people.decide(request_id)
    pid = int(until(lambda: trace.exists() and trace.read_text()))
    process.kill()
    process.wait()
    os.kill(pid, signal.SIGKILL)
    assert people.detail(request_id)["execution"] == "consumed"
    assert [entry["kind"] for entry in people.chain(request_id)].count("consumed") == 1


def test_killed_after_the_run_says_unknown_and_is_not_run_again(agent, people, tmp_path):
    count = tmp_path / "count"
    arguments = ("run", "--type", "deploy", "--key", "deploy-1", "--", "sh", "-c", f"echo run >> {count}; kill -9 $PPID")
    code, _, _ = agent.decided(*arguments)
    assert code == -signal.SIGKILL
    request_id = people.asked(agent.agent_id, "all")[0]["request_id"]
    assert people.detail(request_id)["execution"] == "consumed"
    code, _, err = agent.ended(*arguments)
    assert code == 77 and "used before" in err
    assert count.read_text() == "run\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_signals_are_the_commands(agent, people, number):
    name = signal.Signals(number).name.removeprefix("SIG")
    process = agent.start(*RUN, "sh", "-c", f"trap 'echo got {name}; exit 9' {name}; echo ready; while :; do sleep 0.05; done")
    people.decide(agent.pending())
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    code, out, err = outcome(process)
    assert (code, out) == (9, f"got {name}\n"), err
    assert outcomes(people, agent)[0] == "failed"


COUNT = """
import os, signal, time
read, write = os.pipe()
os.set_blocking(write, False)
signal.set_wakeup_fd(write)
signal.signal(signal.SIGINT, lambda *_: None)
print("ready", flush=True)
first = os.read(read, 1)
time.sleep(0.5)
os.set_blocking(read, False)
try:
    first += os.read(read, 10)
except BlockingIOError:
    pass
print("got", len(first), flush=True)
os._exit(9)
"""


def test_ctrl_c_at_the_terminal_reaches_the_command_once(agent, people):
    seen = []
    command = (*RUN, sys.executable, "-c", COUNT)
    waiting = threading.Thread(target=lambda: seen.append(at_terminal(agent, *command, on=("ready\r\n", "\x03"))))
    waiting.start()
    people.decide(agent.pending())
    waiting.join(60)
    code, text = seen[0]
    assert code == 9 and "got 1\r\n" in text, text
