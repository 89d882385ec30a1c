"""`relaytrace hook claude-code`: whatever fails denies, in a way that the harness takes for a denial."""

import hashlib
import json
import re
from pathlib import Path

import pytest
from conftest import outcome

EVENT = {
    "session_id": "s-1",
    "transcript_path": "/tmp/t.jsonl",
    "cwd": "/tmp",
    "permission_mode": "default",
    "hook_event_name": "PreToolUse",
    "tool_name": "Bash",
    "tool_input": {"command": "rm -rf build"},
    "tool_use_id": "toolu_1",
}


def hook(agent, event, *arguments, **options):
    text = event if isinstance(event, str) else json.dumps(event)
    return agent.ended("hook", "claude-code", *arguments, input=text, **options)


def denial(code, out):
    assert code == 0, "any other code but 2 lets the tool run"
    said = json.loads(out)["hookSpecificOutput"]
    assert (said["hookEventName"], said["permissionDecision"]) == ("PreToolUse", "deny")
    return said["permissionDecisionReason"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"RELAYTRACE_URL": None}, "RELAYTRACE_URL"),
        ({"RELAYTRACE_URL": "http://127.0.0.1:9"}, "RELAYTRACE_URL"),
        ({"RELAYTRACE_TOKEN": None}, "RELAYTRACE_TOKEN"),
        ({"RELAYTRACE_TOKEN": "rtk_unknown_" + "A" * 43}, "token"),
        ({"RELAYTRACE_RESPONSE_SECRET": "QUFB" * 11}, "RELAYTRACE_RESPONSE_SECRET"),
        ({"RELAYTRACE_CONFIG": "/proc/self/mem"}, "/proc/self/mem"),
    ],
)
def test_what_fails_denies_and_says_why(agent, change, said):
    # A tool that the relay itself would let pass at once.
    event = {**EVENT, "tool_name": "Read", "tool_input": {"file_path": "/etc/hosts"}}
    assert '"allow"' in hook(agent, event)[1]
    code, out, _ = hook(agent, event, "--wait", "3s", env=change)
    reason = denial(code, out)
    assert said in reason and "says nothing about whether it is allowed" in reason


@pytest.mark.parametrize("event", ["", "{", "null", "[]", '{"hook_event_name": 7}', '"PreToolUse"', "\xff"])
def test_an_event_that_cannot_be_read_denies(agent, event):
    code, out, _ = hook(agent, event)
    assert "cannot be read" in denial(code, out)


def test_arguments_and_streams_that_are_wrong_block_as_well(agent):
    for wrong in [("hook",), ("hook", "other"), ("hook", "claude-code", "--wait", "soon"), ("hook", "claude-code", "--nonsense")]:
        assert agent.ended(*wrong, input=json.dumps(EVENT))[0] == 2, wrong
    with open("/dev/full", "w") as full:
        process = agent.start("hook", "claude-code", stdin=-1, stdout=full, env={"RELAYTRACE_URL": None})
        process.communicate(json.dumps(EVENT), timeout=60)
    assert process.returncode == 2


def test_an_outcome_that_cannot_be_reported_disturbs_nobody(agent):
    code, out, err = hook(agent, {**EVENT, "hook_event_name": "PostToolUse"}, "--wait", "1s", env={"RELAYTRACE_URL": "http://127.0.0.1:9"})
    assert (code, out) == (0, "") and "not reported" in err


def asked(agent, event, decide):
    """The hook's answer, beside an operator who decides as `decide` says."""
    process = agent.start("hook", "claude-code", stdin=-1)
    process.stdin.write(json.dumps(event))
    process.stdin.close()
    process.stdin = None
    request_id = agent.pending()
    decide(request_id)
    code, out, err = outcome(process)
    assert code == 0, err
    return request_id, json.loads(out)["hookSpecificOutput"], out


def test_an_approval_allows_and_its_end_is_on_record(agent, people):
    request_id, said, _ = asked(agent, EVENT, people.decide)
    assert said["permissionDecision"] == "allow" and "updatedInput" not in said
    assert people.detail(request_id)["execution"] == "consumed"
    after = {**EVENT, "hook_event_name": "PostToolUse", "tool_response": {"stdout": ""}}
    assert hook(agent, after)[0] == 0
    assert people.detail(request_id)["execution"] == "succeeded"
    # The same use of the tool again: used is used.
    code, out, _ = hook(agent, EVENT)
    assert "already used" in denial(code, out).lower()


def test_a_no_and_an_edit_are_passed_on_as_they_came(agent, people):
    _, said, _ = asked(agent, EVENT, lambda request_id: people.decide(request_id, "reject", reason="Not that folder."))
    assert said["permissionDecision"] == "deny" and "Not that folder." in said["permissionDecisionReason"]
    event = {**EVENT, "tool_use_id": "toolu_2", "tool_input": {"command": "sleep", "seconds": 1.5}}

    def edit(request_id):
        # A number that a program might write otherwise.
        arguments = '{"command":"sleep","seconds":1.50}'
        digest = hashlib.sha256(b'{"arguments":{"command":"sleep","seconds":1.5},"type":"Bash"}').hexdigest()
        body = f'{{"decision":"edit","arguments":{arguments},"edited_action_digest":"sha256:{digest}"}}'
        token = people.stack["operator"]["token"]
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        answer = people.http.post(f"/v1/hitl/requests/{request_id}/decision", content=body, headers=headers)
        assert answer.status_code == 201, answer.text

    _, said, out = asked(agent, event, edit)
    assert said["permissionDecision"] == "allow"
    assert '"seconds":1.50}' in out


def test_the_settings_that_are_documented_do_not_fail_open(agent, tmp_path):
    guides = Path(__file__).resolve().parents[2] / "docs/guides"
    settings = tmp_path / ".claude/settings.json"
    settings.parent.mkdir()
    for guide in ["bridges.md", "command-line.md"]:
        found = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", (guides / guide).read_text(), re.S) if "PreToolUse" in text]
        assert found, guide
        for documented in found:
            settings.write_text(json.dumps(documented))
            code, out, err = agent.ended("doctor")
            assert code == 0 and "the hook denies where it fails" in out, out + err
