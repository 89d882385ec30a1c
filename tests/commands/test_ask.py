"""`relaytrace ask`: each end has an exit code of its own, and none but 0 is an approval."""

import json
import signal

import pytest
from conftest import outcome, until

ASK = ("ask", "--type", "refund.create", "--arg", "amount=12.40")


def test_approved_is_0_once_and_the_record_says_that_it_is_used(agent, people):
    code, out, err = agent.decided(*ASK, "--title", "Refund 12.40 EUR", "--key", "refund-1", "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["outcome"] == "approved" and told["action"] == {"type": "refund.create", "arguments": {"amount": "12.40"}}
    request_id = told["request_id"]
    assert told["link"] in err and told["link"].endswith(f"/?id={request_id}")
    assert people.detail(request_id)["execution"] == "consumed"
    # The same question again: its approval is used, and nobody is asked anew.
    code, out, err = agent.ended(*ASK, "--title", "Refund 12.40 EUR", "--key", "refund-1")
    assert (code, out) == (1, "") and "used before" in err
    code, out, _ = agent.ended(*ASK, "--title", "Refund 12.40 EUR", "--key", "refund-1", "--json")
    told = json.loads(out)
    assert (code, told["outcome"], told["request_id"]) == (1, "unusable", request_id) and "used before" in told["why_not"]
    assert len(people.asked(agent.agent_id, "all")) == 1
    code, out, _ = agent.ended("report", request_id, "failed", "--note", "The bank is closed.")
    assert (code, out) == (0, "failed\n")
    assert people.detail(request_id)["execution"] == "failed"


def test_rejected_is_1_and_a_value_is_4(agent, people):
    code, out, err = agent.decided(*ASK, decision="reject", members={"reason": "Refunded \x1b[2Jyesterday."})
    assert (code, out) == (1, "")
    assert "Refunded \\u{1b}[2Jyesterday." in err and "\x1b" not in err
    code, out, _ = agent.decided(*ASK, "--respond", decision="respond", members={"response": "42"})
    assert (code, out) == (4, "42\n")


def test_changed_arguments_are_printed(agent, people):
    def edited():
        request_id = agent.pending()
        action = {"type": "refund.create", "arguments": {"amount": "10.00"}}
        people.decide(request_id, "edit", arguments=action["arguments"], edited_action_digest=digest(action))

    process = agent.start(*ASK, "--edit", "--json")
    edited()
    code, out, err = outcome(process)
    assert code == 0, err
    assert json.loads(out)["edited"] is True and json.loads(out)["action"]["arguments"] == {"amount": "10.00"}


def digest(action):
    import hashlib

    return "sha256:" + hashlib.sha256(json.dumps(action, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def test_nobody_in_time_is_2_and_only_a_named_question_stays_open(agent, people):
    code, out, err = agent.ended(*ASK, "--wait", "1s")
    assert (code, out) == (2, ""), err
    item, = people.asked(agent.agent_id, "all")
    assert item["outcome"] == "cancelled"
    code, out, _ = agent.ended(*ASK, "--wait", "1s", "--key", "stays", "--json")
    assert (code, json.loads(out)["outcome"]) == (2, "pending")
    request_id = agent.pending()
    # The same key goes on waiting for it.
    code, out, err = agent.decided(*ASK, "--key", "stays", "--json")
    assert (code, json.loads(out)["request_id"]) == (0, request_id), err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_takes_the_question_back_and_is_3(agent, people, number):
    process = agent.start(*ASK)
    request_id = agent.pending()
    process.send_signal(number)
    code, out, err = outcome(process)
    assert (code, out) == (3, ""), err
    decision = people.detail(request_id)["decision"]
    assert (decision["outcome"], decision["cause"]) == ("cancelled", "agent")


def test_an_approval_may_be_left_to_another_process(agent, people):
    code, out, err = agent.decided(*ASK, "--leave", "--json")
    assert code == 0, err
    detail = people.detail(json.loads(out)["request_id"])
    assert (detail["execution"], detail["delivery"]["state"]) == ("waiting", "acknowledged")


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ({"RELAYTRACE_URL": None}, 64, "RELAYTRACE_URL"),
        ({"RELAYTRACE_TOKEN": "nonsense"}, 64, "bearer key"),
        ({"RELAYTRACE_RESPONSE_SECRET": None}, 64, "RELAYTRACE_RESPONSE_SECRET"),
        ({"RELAYTRACE_RESPONSE_SECRET": "QUFB" * 11}, 69, "RELAYTRACE_RESPONSE_SECRET"),
        ({"RELAYTRACE_AGENT_ID": "another-agent"}, 69, "another-agent"),
        ({"RELAYTRACE_URL": "http://127.0.0.1:9"}, 69, "RELAYTRACE_URL"),
    ],
)
def test_what_is_wrong_is_named_and_is_no_approval(agent, change, code, said):
    got, out, err = agent.ended(*ASK, env=change)
    assert (got, out) == (code, ""), err
    assert said in err or "forbidden" in err


def test_wrong_arguments_are_64(agent):
    for wrong in [("ask",), (*ASK, "--priority", "P9"), (*ASK, "--wait", "soon"), (*ASK, "--arg", "amount=1"), (*ASK, "--title", "\n")]:
        assert agent.ended(*wrong)[0] == 64, wrong
    code, out, _ = agent.ended("ask", "--help")
    assert code == 0 and "Examples:" in out


def test_the_file_says_what_the_environment_does_not(agent, people, tmp_path):
    names = ["URL", "AGENT_ID", "TOKEN", "RESPONSE_SECRET"]
    file = tmp_path / ".config/relaytrace/config.toml"
    file.parent.mkdir(parents=True)
    file.touch(mode=0o600)
    file.write_text("".join(f'{name.lower()} = "{agent.environment[f"RELAYTRACE_{name}"]}"\n' for name in names))
    none = {f"RELAYTRACE_{name}": None for name in names}
    assert agent.ended(*ASK, "--wait", "0s", env=none)[0] == 2
    assert agent.ended(*ASK, "--wait", "0s", env={**none, "RELAYTRACE_URL": "http://127.0.0.1:9"})[0] == 69
    file.chmod(0o644)
    code, _, err = agent.ended(*ASK, "--wait", "0s", env=none)
    assert code == 64 and "chmod 600" in err
    assert agent.environment["RELAYTRACE_TOKEN"] not in err


def test_completions_know_every_command(agent):
    code, out, _ = agent.ended("completions", "bash")
    assert code == 0
    for name in ["ask", "run", "approve", "serve"]:
        assert f"relaytrace__subcmd__{name}" in out or f"relaytrace__{name}" in out


def test_unused_questions_do_not_stay(agent, people):
    process = agent.start(*ASK)
    request_id = agent.pending()
    process.kill()
    outcome(process)
    # Nobody can take it back any more: it stays until its deadline, and what nobody used is not used.
    assert people.detail(request_id)["status"] == "pending"
    people.decide(request_id)
    assert until(lambda: people.detail(request_id)["execution"] == "waiting")


def test_a_reader_that_goes_away_stops_nothing(agent, people):
    process = agent.start(*ASK)
    process.stdout.close()
    process.stderr.close()
    request_id = agent.pending()
    people.decide(request_id)
    assert process.wait(60) == 0
    assert people.detail(request_id)["execution"] == "consumed"
