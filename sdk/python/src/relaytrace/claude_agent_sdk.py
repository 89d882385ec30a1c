"""Claude Agent SDK: hooks that ask before a tool runs, and report how it ended.

```python
from relaytrace import AsyncRelay
from relaytrace.claude_agent_sdk import hooks

options = ClaudeAgentOptions(hooks=hooks(AsyncRelay.from_env(), "Bash|mcp__.*"))
```

The PreToolUse hook sees every call, subagents' too, and blocks where it fails. Place it last: a later hook that changes
the input would change what was approved.

`deferring(options, relay, matcher)` gives options under which an undecided call ends the run
(`ResultMessage.deferred_tool_use`), and the process may end. Resume the session in any process: the hook asks again for
the same call, under the same key. A subagent's call is denied as still pending instead. The harness keeps one deferred
call of a turn: further ones are not asked about, and the model is told to make them again.
"""

import asyncio
import logging
from collections import OrderedDict
from dataclasses import replace
from typing import Any

from claude_agent_sdk import ClaudeAgentOptions, HookMatcher
from claude_agent_sdk.types import (
    CanUseTool,
    HookCallback,
    HookContext,
    HookEvent,
    HookInput,
    HookJSONOutput,
    PermissionResult,
    PermissionResultDeny,
    ToolPermissionContext,
)

from . import _flows as flows
from ._adapter import ALL_ANSWERS, AnyRelay, Policy, awaiting, call_key, keep
from ._asking import question
from ._digest import Action
from ._errors import ConfigurationError, RelayError, StillPending
from ._permit import PermitInUse
from ._wire import Json

log = logging.getLogger("relaytrace")

WAIT_SECONDS = 600.0


def hooks(
    relay: AnyRelay,
    matcher: str | None = None,
    *,
    timeout: float = WAIT_SECONDS,
    **options: Any,
) -> dict[HookEvent, list[HookMatcher]]:
    """The hooks for `ClaudeAgentOptions(hooks=…)`, for the tools that `matcher` names; None: for all.

    A call that nobody decides within `timeout` seconds is denied as still pending, and the same call again finds its
    question. `options` are those of `Relay.ask`; a function among them is called with the tool's input.
    """
    made = _Hooks(Policy(relay, None, timeout, options), defers=False)
    return made.matchers(matcher, [made.before], timeout)


def deferring(
    options: ClaudeAgentOptions, relay: AnyRelay, matcher: str | None = None, **asking: Any
) -> ClaudeAgentOptions:
    """`options` with the hooks of `hooks` behind its own, under which a call that nobody has decided ends the run.

    A harness that ignores the deferral is told to ask, which outweighs every rule of its permissions. A `can_use_tool`
    of the options is then not asked about that call: it is denied, and the same call again finds its question.
    Raises `ConfigurationError` for a `permission_prompt_tool_name`, whose answer nothing here could overrule.
    """
    if options.permission_prompt_tool_name:
        raise ConfigurationError("permission_prompt_tool_name could allow what nobody approved: use can_use_tool")
    made = _Hooks(Policy(relay, None, 0, asking), defers=True)
    merged = dict(options.hooks or {})
    for event, added in made.matchers(matcher, [made.before, made.unless_deferred], 0).items():
        merged[event] = [*merged.get(event, []), *added]
    merged["UserPromptSubmit"] = [*merged.get("UserPromptSubmit", []), HookMatcher(hooks=[made.begin])]
    own = options.can_use_tool
    return replace(options, hooks=merged, can_use_tool=made.guarded(own) if own else None)


class _Hooks:
    """The open calls of the sessions that use these hooks."""

    def __init__(self, policy: Policy, defers: bool):
        self._policy, self._defers = policy, defers
        self._running: OrderedDict[tuple[str, str], PermitInUse] = OrderedDict()
        self._pending: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._answered: OrderedDict[str, asyncio.Future[HookJSONOutput]] = OrderedDict()
        # Of each session the deferred call, as its key and id, and who is asking: a turn's calls may come at once.
        self._deferred: OrderedDict[str, tuple[str, str]] = OrderedDict()
        self._turns: OrderedDict[str, asyncio.Lock] = OrderedDict()

    def matchers(
        self, matcher: str | None, before: list[HookCallback], timeout: float
    ) -> dict[HookEvent, list[HookMatcher]]:
        """What asks, and what tells how a call ended."""
        ask = HookMatcher(matcher=matcher, hooks=before, timeout=timeout + 60, on_failure="block")
        tell = HookMatcher(matcher=matcher, hooks=[self.after], timeout=120)
        return {"PreToolUse": [ask], "PostToolUse": [tell], "PostToolUseFailure": [tell]}

    async def before(self, given: HookInput, tool_use_id: str | None, _: HookContext) -> HookJSONOutput:
        """PreToolUse: allow under a consumed approval, deny or defer with the reason otherwise."""
        call: Any = given
        name = tool_use_id or call["tool_use_id"]
        if not self._defers:
            return await self._answer_to(call, name)
        answered = self._answered.get(name)
        if answered is None or answered.done():
            # What an earlier firing left behind is none of this one's.
            answered = self._awaited(name)
        try:
            turn = self._turns.setdefault(call["session_id"], asyncio.Lock())
            keep(self._turns, call["session_id"], turn)
            async with turn:
                answer = await self._answer_to(call, name)
            if not answered.done():
                answered.set_result(answer)
        finally:
            answered.cancel()
        return answer

    async def unless_deferred(self, given: HookInput, tool_use_id: str | None, _: HookContext) -> HookJSONOutput:
        """PreToolUse, beside `before`: a harness that ignores a deferral goes on with its own permissions, and a rule
        that allows would run the call. It is asked to ask instead, which outweighs every rule. To deny would outweigh
        the deferral, too.
        """
        call: Any = given
        name = tool_use_id or call["tool_use_id"]
        answered = self._answered.get(name) or self._awaited(name)
        try:
            # Where this hook is cancelled, `before` goes on.
            answer: Any = await asyncio.shield(answered)
        finally:
            if self._answered.get(name) is answered:
                del self._answered[name]
        output = answer["hookSpecificOutput"]
        is_deferred = output["permissionDecision"] == "defer"
        return _answer("ask", output["permissionDecisionReason"]) if is_deferred else {}

    def _awaited(self, tool_use: str) -> "asyncio.Future[HookJSONOutput]":
        answered: asyncio.Future[HookJSONOutput] = asyncio.get_running_loop().create_future()
        keep(self._answered, tool_use, answered)
        return answered

    async def begin(self, given: HookInput, _: str | None, __: HookContext) -> HookJSONOutput:
        """UserPromptSubmit: another turn, whatever became of a deferred call."""
        call: Any = given
        self._deferred.pop(call["session_id"], None)
        return {}

    def guarded(self, own: CanUseTool) -> CanUseTool:
        """`can_use_tool` of a program whose harness may ignore a deferral: what was deferred has no approval."""

        async def can_use_tool(name: str, given: Json, context: ToolPermissionContext) -> PermissionResult:
            deferred = [session for session, call in self._deferred.items() if call[1] == context.tool_use_id]
            if not deferred:
                return await own(name, given, context)
            # It is not kept, so another call may be.
            del self._deferred[deferred[0]]
            return PermissionResultDeny(message=StillPending("its deferral was ignored").for_model)

        return can_use_tool

    async def _answer_to(self, call: Any, tool_use: str) -> HookJSONOutput:
        try:
            permit = await self._permit(call["session_id"], tool_use, call)
        except _Deferred as pending:
            return _answer("defer", pending.for_model)
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
        own = call_key("claude", session, tool_use, name, arguments)
        key = self._pending.get(same, own)
        defers = self._defers and not call.get("agent_id")
        if defers and self._deferred.get(session, (key, tool_use))[0] != key:
            # The harness keeps the last deferred call of a turn and loses the others. No question is left behind that
            # another process would not find.
            raise _OneAtATime
        self._pending.pop(same, None)
        if defers:
            self._deferred.pop(session, None)
        options = self._policy.options(arguments, key, ALL_ANSWERS)
        timeout = options.pop("timeout")
        async with awaiting(self._policy.relay) as relay:
            try:
                asked = question(relay._session, name, arguments, **options)
                permit = PermitInUse(await relay._play(flows.ask(relay._session, asked, timeout)))
            except StillPending as fault:
                keep(self._pending, same, key)
                # Another process asks by the id of its own call: what goes on with another's question is not deferred.
                if not defers or key != own:
                    raise
                keep(self._deferred, session, (key, tool_use))
                raise _Deferred(str(fault), request=fault.request) from None
        keep(self._running, (session, tool_use), permit)
        return permit


class _Deferred(StillPending):
    """The question of this very call is pending: the run may end, and go on in any process."""


class _OneAtATime(RelayError):
    """Another call of the turn is deferred."""

    @property
    def for_model(self) -> str:
        """Says that it is to be made again."""
        return (
            "Not run: another call of this turn waits for a person, and nobody was asked. Make this call again later."
        )


def _answer(decision: str, reason: str, changed: Json | None = None) -> HookJSONOutput:
    output: Any = {
        "hookEventName": "PreToolUse",
        "permissionDecision": decision,
        "permissionDecisionReason": reason,
    }
    if changed is not None:
        output["updatedInput"] = changed
    return {"hookSpecificOutput": output}
