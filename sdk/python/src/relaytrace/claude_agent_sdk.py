"""Claude Agent SDK: hooks that ask before a tool runs, and report how it ended.

```python
from relaytrace import AsyncRelay
from relaytrace.claude_agent_sdk import hooks

options = ClaudeAgentOptions(hooks=hooks(AsyncRelay.from_env(), "Bash|mcp__.*"))
```

The PreToolUse hook sees every call, subagents' too, and blocks where it fails. Place it last: a later hook that changes
the input would change what was approved.
"""

import logging
from collections import OrderedDict
from typing import Any

from claude_agent_sdk import HookMatcher
from claude_agent_sdk.types import HookContext, HookEvent, HookInput, HookJSONOutput

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
    relay: AnyRelay, matcher: str | None = None, *, timeout: float = WAIT_SECONDS, **options: Any
) -> dict[HookEvent, list[HookMatcher]]:
    """The hooks for `ClaudeAgentOptions(hooks=…)`, for the tools that `matcher` names; None: for all.

    A call that nobody decides within `timeout` seconds is denied as still pending, and the same call again finds its
    question. `options` are those of `Relay.ask`; a function among them is called with the tool's input.
    """
    made = _Hooks(Policy(relay, None, timeout, options))
    ask = HookMatcher(matcher=matcher, hooks=[made.before], timeout=timeout + 60, on_failure="block")
    tell = HookMatcher(matcher=matcher, hooks=[made.after], timeout=120)
    return {"PreToolUse": [ask], "PostToolUse": [tell], "PostToolUseFailure": [tell]}


class _Hooks:
    """The open calls of the sessions that use these hooks."""

    def __init__(self, policy: Policy):
        self._policy = policy
        self._running: OrderedDict[tuple[str, str], PermitInUse] = OrderedDict()
        self._pending: OrderedDict[tuple[str, str], str] = OrderedDict()

    async def before(self, given: HookInput, tool_use_id: str | None, _: HookContext) -> HookJSONOutput:
        """PreToolUse: allow under a consumed approval, deny with the reason otherwise."""
        call: Any = given
        try:
            permit = await self._permit(call["session_id"], tool_use_id or call["tool_use_id"], call)
        except RelayError as fault:
            return _answer("deny", fault.for_model)
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
