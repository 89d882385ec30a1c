"""`relaytrace hook claude-code`: whatever fails denies, in a way that the harness takes for a denial."""

import json

import pytest

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
    code, out, _ = hook(agent, EVENT, "--wait", "3s", env=change)
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
