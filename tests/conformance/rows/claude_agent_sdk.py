"""The Claude Agent SDK with the command line that it brings along, whose sessions are files, and a scripted model."""

import asyncio
import uuid
from dataclasses import replace
from typing import Any

from claude_agent_sdk import AgentDefinition, ClaudeAgentOptions, HookMatcher, ResultMessage, create_sdk_mcp_server, query, tool
from play import Plan
from rows.claude_model import INNER, scripted

TOOL = "mcp__bank__refund"
Result = tuple[bool, list[str]]


def options(plan: Plan, model_url: str) -> ClaudeAgentOptions:
    @tool("refund", "Refund an amount.", {"amount": str})
    async def refund(arguments: dict[str, Any]) -> dict[str, Any]:
        return {"content": [{"type": "text", "text": plan.refund(arguments["amount"])}]}

    session = str(uuid.uuid5(uuid.NAMESPACE_URL, plan.run))
    environment = {
        "ANTHROPIC_BASE_URL": model_url,
        "ANTHROPIC_API_KEY": "of-no-use",
        "CLAUDE_CONFIG_DIR": str(plan.file("claude")),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "ENABLE_TOOL_SEARCH": "false",
    }
    billing = AgentDefinition(description="Bills.", prompt=INNER, tools=[TOOL])
    return ClaudeAgentOptions(
        model="claude-sonnet-5",
        mcp_servers={"bank": create_sdk_mcp_server("bank", tools=[refund])},
        agents={"billing": billing},
        setting_sources=[],
        tools=["Task"],
        cwd=plan.folder,
        env=environment,
        **({"resume": session} if plan.resume else {"session_id": session}),
    )


async def play(plan: Plan, guard: Any) -> Result:
    with scripted(TOOL, plan.calls, plan.nested) as model:
        finished = asyncio.Event()

        async def prompt() -> Any:
            # A resumed session goes on with the call that was deferred. The input stays open for the hooks.
            if not plan.resume:
                yield {"type": "user", "message": {"role": "user", "content": "refund"}, "parent_tool_use_id": None}
            await finished.wait()

        paused = False
        async for message in query(prompt=prompt(), options=guard(options(plan, model.url))):
            if isinstance(message, ResultMessage):
                paused = message.deferred_tool_use is not None
                finished.set()
        return paused, model.told


async def own(plan: Plan) -> Result:
    plan.says("respond", "No answers in place of a call: a hook allows, denies, asks or defers; a text goes to the model as a denial's reason.")

    async def hook(given: Any, _: str | None, __: Any) -> Any:
        if plan.deadline:
            await asyncio.sleep(60)
        if given["tool_name"] != TOOL:
            return said("allow")
        if not plan.answers or plan.forged:
            # The resume of a session carries no answer: the program is asked again, and still has none.
            return said("defer")
        answer = plan.answer(given["tool_input"]["amount"])
        if answer["decision"] == "reject":
            return said("deny", permissionDecisionReason=answer["reason"])
        return said("allow", **({"updatedInput": {"amount": answer["amount"]}} if answer["decision"] == "edit" else {}))

    matcher = HookMatcher(hooks=[hook], timeout=2 if plan.deadline else 60, on_failure="block")
    return await play(plan, lambda made: replace(made, hooks={"PreToolUse": [matcher]}))


def said(decision: str, **more: Any) -> Any:
    return {"hookSpecificOutput": {"hookEventName": "PreToolUse", "permissionDecision": decision, **more}}


async def relaytrace(plan: Plan) -> Result:
    from relaytrace import AsyncRelay
    from relaytrace.claude_agent_sdk import deferring, hooks

    async with AsyncRelay(**plan.relay or {}) as relay:
        if plan.pause:
            return await play(plan, lambda made: deferring(made, relay, TOOL))
        guard = hooks(relay, TOOL, timeout=plan.thinks_for)
        return await play(plan, lambda made: replace(made, hooks=guard))


async def aap(plan: Plan) -> Result:
    from agentapprovalprotocol.claude_agent_sdk import ApprovalHooks

    assert plan.aap
    asking: Any = {"mode": "async" if plan.pause else "sync", "timeout": "2s" if plan.deadline else "240h"}
    return await play(plan, ApprovalHooks(plan.aap["url"], plan.aap["token"], **asking).options)
