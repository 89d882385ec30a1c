"""OpenAI Agents SDK: a tool that asks before it runs.

```python
from relaytrace import AsyncRelay
from relaytrace.openai_agents import approved

agent = Agent(name="billing", tools=[approved(AsyncRelay.from_env(), refund)])
```

`approved` wraps what the SDK calls last, with the arguments that are about to run; it carries edits and responses.
With `interrupts=True` an undecided call interrupts the run; keep `result.to_state()`, and `settle(state)` in any
process before `Runner.run(agent, state)`. The state's approval carries no authority: the tool asks again.

An agent that is a tool (`agent.as_tool`) and is interrupted goes on under its approval in the same process.
"""

import copy
import json
from contextlib import AsyncExitStack
from typing import Any

from agents import FunctionTool, RunContextWrapper, RunState
from agents.agent_tool_state import get_agent_tool_state_scope, peek_agent_tool_run_result
from agents.tool import resolve_function_tool_failure_error_function, set_function_tool_failure_error_function
from agents.tool_context import ToolContext
from agents.util._types import MaybeAwaitable

from ._adapter import ALL_ANSWERS, AnyRelay, Policy, awaiting, call_key
from ._errors import RelayError
from ._permit import PermitInUse
from ._wire import Json


def approved(
    relay: AnyRelay,
    tool: FunctionTool,
    *,
    interrupts: bool = False,
    run_id: str | None = None,
    timeout: float | None = None,
    **options: Any,
) -> FunctionTool:
    """A copy of `tool` that asks a person about each call.

    `run_id` belongs to the key of a call, beside the model's id for it: give it where these ids repeat. `options` are
    those of `Relay.ask`; a function among them is called with the arguments.
    """
    policy = Policy(relay, None, timeout, options)
    guarded = copy.copy(tool)

    def asked(arguments: Json, call_id: str) -> dict[str, Any]:
        return policy.options(arguments, call_key("openai", run_id, call_id, tool.name, arguments), ALL_ANSWERS)

    async def invoke(context: ToolContext[Any], text: str) -> Any:
        """Ask, then run under the permit. What is not approved is the tool's result, as text."""
        try:
            arguments = _parsed(text)
        except ValueError:
            # The tool itself refuses what is no JSON object, before anything runs.
            return await tool.on_invoke_tool(context, text)
        options = asked(arguments, context.tool_call_id)
        async with AsyncExitStack() as opened:
            try:
                own = await opened.enter_async_context(awaiting(policy.relay))
                permit = await opened.enter_async_context(policy.ask_async(own, tool.name, arguments, options))
            except RelayError as fault:
                return fault.for_model
            result = await _recorded(tool, permit).on_invoke_tool(context, json.dumps(permit.arguments))
            if _is_interrupted(context):
                policy.hold(options, permit)
            return result

    async def needs_approval(_: RunContextWrapper[Any], arguments: dict[str, Any], call_id: str) -> bool:
        """Whether nobody has decided yet. Where the relay cannot be asked, the tool asks: the model is told."""
        options = asked(arguments, call_id)
        options.pop("timeout")
        try:
            async with awaiting(policy.relay) as own:
                return (await own.submit(tool.name, arguments, **options)).pending
        except RelayError:
            return False

    guarded.on_invoke_tool = invoke
    if interrupts:
        guarded.needs_approval = needs_approval
    return guarded


def settle(state: RunState[Any, Any]) -> None:
    """Let every interrupted call of a run go on: each asks the relay itself whether it may run."""
    for item in state.get_interruptions():
        state.approve(item)


def _is_interrupted(context: ToolContext[Any]) -> bool:
    """Whether the tool is an agent whose own run is interrupted: the SDK keeps its state, and calls the tool again."""
    call = context.tool_call
    kept = call and peek_agent_tool_run_result(call, scope_id=get_agent_tool_state_scope(context))
    return bool(getattr(kept, "interruptions", None))


def _recorded(tool: FunctionTool, permit: PermitInUse) -> FunctionTool:
    """The tool for one run. A failure that the SDK makes a text of is one on record first."""

    def record(context: RunContextWrapper[Any], error: Exception) -> MaybeAwaitable[str]:
        permit.fail(f"{type(error).__name__}: {error}")
        formatter = resolve_function_tool_failure_error_function(tool, context)
        if formatter is None:
            raise error
        return formatter(context, error)

    once = copy.copy(tool)
    bind = getattr(tool.on_invoke_tool, "__agents_bind_function_tool__", None)
    if bind is not None:
        set_function_tool_failure_error_function(once, record)
        once.on_invoke_tool = bind(once)
    return once


def _parsed(text: str) -> Json:
    arguments = json.loads(text or "{}")
    if not isinstance(arguments, dict):
        raise ValueError("the arguments are no object")
    return arguments
