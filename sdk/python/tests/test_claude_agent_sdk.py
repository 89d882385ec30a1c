"""The hooks of the Claude Agent SDK, driven directly: the SDK has no fake model."""

import asyncio
from typing import Any

import pytest
from claude_agent_sdk import ClaudeAgentOptions

from conftest import Agent, Json, People, approve, reject
from relaytrace import AsyncRelay
from relaytrace.claude_agent_sdk import hooks
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


async def test_a_deferred_call_goes_on_in_another_process(agent: Agent, people: People) -> None:
    """The harness fires the hooks again for the call that it kept. Where it cannot keep one, it is asked to ask."""

    async def fire(made: Any, **more: Any) -> list[str]:
        given = {
            "session_id": "s-1",
            "tool_name": "Bash",
            "tool_input": {"command": "ls"},
            "tool_use_id": "t-1",
            **more,
        }
        fired = (hook(given, "t-1", {"signal": None}) for hook in made["PreToolUse"][0].hooks)
        outputs = [answer.get("hookSpecificOutput", {}) for answer in await asyncio.gather(*fired)]
        return [output.get("permissionDecision", "-") for output in outputs]

    async with agent.async_relay() as relay:
        assert await fire(hooks(relay, "Bash", defers=True)) == ["defer", "ask"]
        assert await fire(hooks(relay, "Bash", defers=True)) == ["defer", "ask"]
        # The subagent of a run that has ended would have nobody to go on for.
        assert await fire(hooks(relay, "Bash", defers=True), agent_id="a-1") == ["deny", "-"]
        [item] = people.pending(agent.agent_id)
        people.decide(item["request_id"])
        assert await fire(hooks(relay, "Bash", defers=True)) == ["allow", "-"]
        assert await fire(hooks(relay, "Bash", defers=True)) == ["deny", "-"]


async def test_a_relay_that_is_down_denies(agent: Agent) -> None:
    async with AsyncRelay("http://127.0.0.1:1", **agent.settings, patience=0.5) as relay:
        denied = await Harness(relay).before("t-1", "ls")
    assert denied["permissionDecision"] == "deny"
    assert denied["permissionDecisionReason"].startswith("Not run: ")
