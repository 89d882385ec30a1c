"""Claude Agent SDK: hooks that ask before a tool runs, and report how it ended.

```python
from relaytrace import AsyncRelay
from relaytrace.claude_agent_sdk import hooks

options = ClaudeAgentOptions(hooks=hooks(AsyncRelay.from_env(), "Bash|mcp__.*"))
```

The PreToolUse hook sees every call, subagents' too, and blocks where it fails. Place it last: a later hook that changes
the input would change what was approved.

With `defers=True` an undecided call ends the run (`ResultMessage.deferred_tool_use`), and the process may end. Resume
the session in any process: the hook asks again for the same call, under the same key. Not so for a subagent's call.
"""

import asyncio
import logging
from collections import OrderedDict
from typing import Any

from claude_agent_sdk import HookMatcher
from claude_agent_sdk.types import HookCallback, HookContext, HookEvent, HookInput, HookJSONOutput

from . import _flows as flows
from ._adapter import ALL_ANSWERS, AnyRelay, Policy, awaiting, call_key, keep
from ._asking import question
from ._digest import Action
from ._errors import RelayError, StillPending
from ._permit import PermitInUse
from ._wire import Json

log = logging.getLogger("relaytrace")

WAIT_SECONDS = 600.0


def hooks(
    relay: AnyRelay,
    matcher: str | None = None,
    *,
    timeout: float = WAIT_SECONDS,
    defers: bool = False,
    **options: Any,
) -> dict[HookEvent, list[HookMatcher]]:
    """The hooks for `ClaudeAgentOptions(hooks=…)`, for the tools that `matcher` names; None: for all.

    A call that nobody decides within `timeout` seconds is denied as still pending, and the same call again finds its
    question. With `defers` it is deferred at once. `options` are those of `Relay.ask`; a function
    among them is called with the tool's input.
    """
    made = _Hooks(Policy(relay, None, 0 if defers else timeout, options), defers)
    before: list[HookCallback] = [made.before, made.unless_deferred] if defers else [made.before]
    ask = HookMatcher(matcher=matcher, hooks=before, timeout=timeout + 60, on_failure="block")
    tell = HookMatcher(matcher=matcher, hooks=[made.after], timeout=120)
    return {"PreToolUse": [ask], "PostToolUse": [tell], "PostToolUseFailure": [tell]}


class _Hooks:
    """The open calls of the sessions that use these hooks."""

    def __init__(self, policy: Policy, defers: bool):
        self._policy, self._defers = policy, defers
        self._running: OrderedDict[tuple[str, str], PermitInUse] = OrderedDict()
        self._pending: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._answered: dict[str, asyncio.Future[HookJSONOutput]] = {}

    async def before(self, given: HookInput, tool_use_id: str | None, _: HookContext) -> HookJSONOutput:
        """PreToolUse: allow under a consumed approval, deny or defer with the reason otherwise."""
        call: Any = given
        answer = await self._answer_to(call, tool_use_id)
        if self._defers:
            self._answered_as(tool_use_id or call["tool_use_id"]).set_result(answer)
        return answer

    async def unless_deferred(self, given: HookInput, tool_use_id: str | None, _: HookContext) -> HookJSONOutput:
        """PreToolUse, beside `before`: a harness that ignores a deferral goes on with its own permissions, and a rule
        that allows would run the call. It is asked to ask instead, which outweighs every rule.
        """
        call: Any = given
        name = tool_use_id or call["tool_use_id"]
        answer: Any = await self._answered_as(name)
        self._answered.pop(name, None)
        output = answer["hookSpecificOutput"]
        is_deferred = output["permissionDecision"] == "defer"
        return _answer("ask", output["permissionDecisionReason"]) if is_deferred else {}

    def _answered_as(self, tool_use: str) -> "asyncio.Future[HookJSONOutput]":
        return self._answered.setdefault(tool_use, asyncio.get_running_loop().create_future())

    async def _answer_to(self, call: Any, tool_use_id: str | None) -> HookJSONOutput:
        try:
            permit = await self._permit(call["session_id"], tool_use_id or call["tool_use_id"], call)
        except RelayError as fault:
            deferred = self._defers and isinstance(fault, StillPending) and not call.get("agent_id")
            return _answer("defer" if deferred else "deny", fault.for_model)
        except Exception as fault:
            # Whatever it is, the tool does not run.
            log.exception("a call of %s could not be asked about", call.get("tool_name"))
            return _answer("deny", f"Not run: the approval could not be asked for ({type(fault).__name__}).")
        changed = permit.arguments if permit.edited else None
        return _answer("allow", f"approved by {permit.decision.decided_by}", changed)

    async def after(self, given: HookInput, tool_use_id: str | None, _: HookContext) -> HookJSONOutput:
        """PostToolUse and PostToolUseFailure: the outcome."""
        call: Any = given
        permit = self._running.pop((call["session_id"], tool_use_id or call["tool_use_id"]), None)
        if permit is not None:
            if call.get("is_interrupt"):
                # Of a tool that was told to stop nobody knows how far it came.
                permit.leave_open()
            elif call["hook_event_name"] == "PostToolUseFailure":
                permit.fail(str(call.get("error") or "the tool failed"))
            async with awaiting(self._policy.relay) as relay:
                await relay._play(flows.end(relay._session, permit, None))
        return {}

    async def _permit(self, session: str, tool_use: str, call: Json) -> PermitInUse:
        name, arguments = call["tool_name"], call["tool_input"]
        # The harness runs a refused call again under another id: it goes on with the question that is pending.
        same = session, Action.make(name, arguments).digest
        key = self._pending.pop(same, None) or call_key("claude", session, tool_use, name, arguments)
        options = self._policy.options(arguments, key, ALL_ANSWERS)
        timeout = options.pop("timeout")
        async with awaiting(self._policy.relay) as relay:
            try:
                asked = question(relay._session, name, arguments, **options)
                permit = PermitInUse(await relay._play(flows.ask(relay._session, asked, timeout)))
            except StillPending:
                if not self._defers:
                    keep(self._pending, same, key)
                raise
        keep(self._running, (session, tool_use), permit)
        return permit


def _answer(decision: str, reason: str, changed: Json | None = None) -> HookJSONOutput:
    output: Any = {
        "hookEventName": "PreToolUse",
        "permissionDecision": decision,
        "permissionDecisionReason": reason,
    }
    if changed is not None:
        output["updatedInput"] = changed
    return {"hookSpecificOutput": output}
