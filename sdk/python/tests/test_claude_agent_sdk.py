"""The hooks of the Claude Agent SDK, driven directly: the SDK has no fake model. One test has a scripted one."""

import asyncio
import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from claude_agent_sdk import (
    ClaudeAgentOptions,
    PermissionResultAllow,
    PermissionResultDeny,
    ToolPermissionContext,
)

from conftest import ROOT, Agent, Json, People, approve, reject
from relaytrace import AsyncRelay, ConfigurationError
from relaytrace.claude_agent_sdk import deferring, hooks
from test_relay import edited


class Harness:
    """Calls hooks as the SDK does."""

    def __init__(self, relay: Any, **options: Any):
        self.options = ClaudeAgentOptions(hooks=hooks(relay, "Bash", **options))

    async def fire(self, event: Any, tool_use: str, command: str, **more: Any) -> Json:
        known: Any = (self.options.hooks or {})[event]
        given: Any = {
            "session_id": "s-1",
            "transcript_path": "/t",
            "cwd": "/",
            "hook_event_name": event,
            "tool_name": "Bash",
            "tool_input": {"command": command},
            "tool_use_id": tool_use,
            **more,
        }
        answer: Json = await known[0].hooks[0](given, tool_use, {"signal": None})
        output: Json = answer.get("hookSpecificOutput", answer)
        return output

    async def before(self, tool_use: str, command: str) -> Json:
        return await self.fire("PreToolUse", tool_use, command)


def test_the_hooks_block_where_they_fail(agent: Agent) -> None:
    made = hooks(agent.relay(), "Bash", timeout=300)
    [before] = made["PreToolUse"]
    assert before.on_failure == "block"
    assert before.timeout == 360


@pytest.mark.short
async def test_allowed_denied_and_on_record(agent: Agent, people: People) -> None:
    async with agent.async_relay() as relay:
        harness = Harness(relay)
        with people.deciding(
            agent, lambda d: reject(d) if "rm" in d["action"]["arguments"]["command"] else approve(d)
        ) as seen:
            assert (await harness.before("t-1", "ls"))["permissionDecision"] == "allow"
            denied = await harness.before("t-2", "rm -r /")
            assert denied["permissionDecision"] == "deny"
            assert "Refunded yesterday." in denied["permissionDecisionReason"]
            assert (await harness.before("t-3", "false"))["permissionDecision"] == "allow"
            # The same call of the same use has run.
            assert (await harness.before("t-1", "ls"))["permissionDecision"] == "deny"
        assert await harness.fire("PostToolUse", "t-1", "ls", tool_response="a b") == {}
        assert await harness.fire("PostToolUseFailure", "t-3", "false", error="exit 1") == {}
        assert await harness.fire("PostToolUse", "t-9", "unknown", tool_response="") == {}
    outcomes = {detail["action"]["arguments"]["command"]: people.execution(detail["request_id"]) for detail in seen}
    assert outcomes["ls"] == "succeeded"
    assert outcomes["false"] == "failed"


async def test_a_tool_that_was_interrupted_reports_nothing(agent: Agent, people: People) -> None:
    async with agent.async_relay() as relay:
        harness = Harness(relay)
        with people.deciding(agent, approve) as seen:
            assert (await harness.before("t-1", "sleep 60"))["permissionDecision"] == "allow"
        await harness.fire("PostToolUseFailure", "t-1", "sleep 60", error="interrupted", is_interrupt=True)
    assert people.execution(seen[0]["request_id"]) == "consumed"


async def test_an_edit_is_the_updated_input(agent: Agent, people: People) -> None:
    async with agent.async_relay() as relay:
        with people.deciding(agent, lambda d: edited(d, {"command": "ls -l"})):
            allowed = await Harness(relay).before("t-1", "ls")
    assert allowed["updatedInput"] == {"command": "ls -l"}


async def test_the_same_call_after_still_pending_finds_its_question(agent: Agent, people: People) -> None:
    async with agent.async_relay() as relay:
        harness = Harness(relay, timeout=0)
        pending = await harness.before("t-1", "ls")
        assert pending["permissionDecision"] == "deny"
        assert "still" in pending["permissionDecisionReason"] or "not decided" in pending["permissionDecisionReason"]
        [item] = people.pending(agent.agent_id)
        people.decide(item["request_id"])
        assert (await harness.before("t-2", "ls"))["permissionDecision"] == "allow"


def fresh(relay: Any) -> Any:
    """The options of a process of its own."""
    return deferring(ClaudeAgentOptions(can_use_tool=allows), relay, "Bash")


async def allows(*_: Any) -> PermissionResultAllow:
    return PermissionResultAllow()


def given(tool_use: str, command: str, **more: Any) -> Json:
    call = {"tool_name": "Bash", "tool_input": {"command": command}, "tool_use_id": tool_use}
    return {"session_id": "s-1", **call, **more}


async def fire(made: Any, tool_use: str = "t-1", command: str = "ls", **more: Any) -> list[str]:
    """What the two hooks say."""
    call = given(tool_use, command, **more)
    fired = (hook(call, tool_use, {"signal": None}) for hook in made.hooks["PreToolUse"][0].hooks)
    outputs = [answer.get("hookSpecificOutput", {}) for answer in await asyncio.gather(*fired)]
    return [output.get("permissionDecision", "-") for output in outputs]


async def test_a_deferred_call_goes_on_in_another_process(agent: Agent, people: People) -> None:
    """The harness fires the hooks again for the call that it kept. Where it cannot keep one, it is asked to ask."""
    async with agent.async_relay() as relay:
        assert await fire(fresh(relay)) == ["defer", "ask"]
        assert await fire(fresh(relay)) == ["defer", "ask"]
        # The subagent of a run that has ended would have nobody to go on for.
        assert await fire(fresh(relay), agent_id="a-1") == ["deny", "-"]
        [item] = people.pending(agent.agent_id)
        people.decide(item["request_id"])
        assert await fire(fresh(relay)) == ["allow", "-"]
        assert await fire(fresh(relay)) == ["deny", "-"]


async def test_of_a_turn_one_call_is_deferred_and_the_others_are_told(agent: Agent, people: People) -> None:
    """The harness would lose the others, and their approvals."""
    async with agent.async_relay() as relay:
        made = fresh(relay)
        said = await asyncio.gather(fire(made, "t-1", "one"), fire(made, "t-2", "two"))
        assert [*said] == [["defer", "ask"], ["deny", "-"]]
        [item] = people.pending(agent.agent_id)
        people.decide(item["request_id"])
        # Another process goes on, and the model makes the other call again.
        later = fresh(relay)
        assert await fire(later, "t-1", "one") == ["allow", "-"]
        assert await fire(later, "t-3", "two") == ["defer", "ask"]
        # A prompt begins another turn.
        [begin] = later.hooks["UserPromptSubmit"][0].hooks
        await begin(given("-", "-"), None, {"signal": None})
        assert await fire(later, "t-4", "four") == ["defer", "ask"]


async def test_the_bundled_harness_loses_no_call_of_a_turn(
    agent: Agent, people: People, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real command line, with the scripted model of the conformance table. It calls once only."""
    monkeypatch.syspath_prepend(str(ROOT / "tests/conformance"))
    monkeypatch.setenv("HOME", str(tmp_path))
    played, row = importlib.import_module("play"), importlib.import_module("rows.claude_agent_sdk")
    async with agent.async_relay() as relay:

        async def process(resume: bool) -> Any:
            plan = played.Plan(folder=tmp_path, run=agent.agent_id, calls=["1", "2"], resume=resume)
            return await row.play(plan, lambda made: deferring(replace(made, can_use_tool=allows), relay, row.TOOL))

        assert (await process(resume=False))[0], "the run does not pause"
        [item] = people.pending(agent.agent_id)
        people.decide(item["request_id"])
        paused, told = await process(resume=True)
    assert not paused
    assert sorted("again later" in text for text in told) == [False, True]
    assert "refunded 1" in " ".join(told)
    assert (tmp_path / "ledger").read_text().split() == ["1"]
    assert people.execution(item["request_id"]) == "succeeded"


async def test_the_same_call_of_a_subagent_finds_its_question(agent: Agent, people: People) -> None:
    async with agent.async_relay() as relay:
        made = fresh(relay)
        assert await fire(made, "t-1", agent_id="a-1") == ["deny", "-"]
        [item] = people.pending(agent.agent_id)
        assert await fire(made, "t-2", agent_id="a-1") == ["deny", "-"]
        # The question of another call would be asked anew in another process.
        assert await fire(made, "t-3") == ["deny", "-"]
        people.decide(item["request_id"])
        assert await fire(made, "t-4", agent_id="a-1") == ["allow", "-"]
    assert not people.pending(agent.agent_id)


async def test_a_program_cannot_allow_a_deferred_call(agent: Agent, people: People) -> None:
    """A harness that ignores the deferral asks the program."""
    async with agent.async_relay() as relay:
        made = fresh(relay)
        assert await fire(made) == ["defer", "ask"]
        denied = await made.can_use_tool("Bash", {"command": "ls"}, ToolPermissionContext(tool_use_id="t-1"))
        assert isinstance(denied, PermissionResultDeny)
        assert "the same call again finds it" in denied.message
        other = await made.can_use_tool("Read", {"path": "x"}, ToolPermissionContext(tool_use_id="t-9"))
        assert isinstance(other, PermissionResultAllow)
        [item] = people.pending(agent.agent_id)
        people.decide(item["request_id"])
        assert await fire(made, "t-2") == ["allow", "-"]
        with pytest.raises(ConfigurationError, match="permission_prompt_tool_name"):
            deferring(ClaudeAgentOptions(permission_prompt_tool_name="mcp__x__allow"), relay)


async def test_a_hook_that_is_cancelled_leaves_the_next_firing_alone(agent: Agent, people: People) -> None:
    async with agent.async_relay() as relay:
        made = fresh(relay)
        before, beside = made.hooks["PreToolUse"][0].hooks
        call = given("t-1", "ls")
        waiting = asyncio.create_task(beside(call, "t-1", {"signal": None}))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        # `before` without the other, whose answer nobody takes.
        await before(call, "t-1", {"signal": None})
        [item] = people.pending(agent.agent_id)
        people.decide(item["request_id"])
        assert await fire(made) == ["allow", "-"]


async def test_a_relay_that_is_down_denies(agent: Agent) -> None:
    async with AsyncRelay("http://127.0.0.1:1", **agent.settings, patience=0.5) as relay:
        denied = await Harness(relay).before("t-1", "ls")
    assert denied["permissionDecision"] == "deny"
    assert denied["permissionDecisionReason"].startswith("Not run: ")
