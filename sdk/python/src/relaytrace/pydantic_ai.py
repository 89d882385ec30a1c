"""Pydantic AI: a capability that asks before a tool runs.

```python
from relaytrace import AsyncRelay
from relaytrace.pydantic_ai import Approval

agent = Agent(model, tools=[refund], capabilities=[Approval(AsyncRelay.from_env(), tools=["refund"])])
```

It sees the validated arguments, which are those that run. With `defers=True` an undecided call ends the run with
`DeferredToolRequests`; in any process go on with `deferred_tool_results=go_on(requests)`: these results carry no
authority, and the relay is asked again under the same key.
"""

from contextlib import AsyncExitStack
from typing import Any

from pydantic_ai import ApprovalRequired, DeferredToolRequests, DeferredToolResults, RunContext
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.exceptions import CallDeferred
from pydantic_ai.messages import ToolCallPart
from pydantic_ai.tools import ToolDefinition
from pydantic_core import ValidationError, to_jsonable_python

from ._adapter import ALL_ANSWERS, AnyRelay, Policy, Tools, awaiting, call_key
from ._errors import RelayError, StillPending
from ._permit import PermitInUse
from ._wire import Json


class Approval(AbstractCapability[Any]):
    """Asks a person about the calls of `tools` (names, or a function of name and arguments; None: of all tools).

    `options` are those of `Relay.ask`; a function among them is called with the arguments.
    """

    def __init__(
        self,
        relay: AnyRelay,
        tools: Tools = None,
        *,
        defers: bool = False,
        timeout: float | None = None,
        **options: Any,
    ):
        self._policy = Policy(relay, tools, timeout, options)
        self._defers = defers

    async def wrap_tool_execute(
        self, ctx: RunContext[Any], *, call: ToolCallPart, tool_def: ToolDefinition, args: dict[str, Any], handler: Any
    ) -> Any:
        """Ask, then run under the permit. What is not approved is the tool's result, as text."""
        arguments: Json = to_jsonable_python(args)
        if not self._policy.covers(tool_def.name, arguments):
            return await handler(args)
        key = call_key("pydantic-ai", ctx.conversation_id, call.tool_call_id, tool_def.name, arguments)
        options = self._policy.options(arguments, key, ALL_ANSWERS)
        if self._defers:
            options["timeout"] = 0
        async with AsyncExitStack() as opened:
            try:
                relay = await opened.enter_async_context(awaiting(self._policy.relay))
                permit = await opened.enter_async_context(
                    self._policy.ask_async(relay, tool_def.name, arguments, options)
                )
            except RelayError as fault:
                if not self._defers or not isinstance(fault, StillPending):
                    return fault.for_model
                request_id = fault.request.request_id if fault.request else None
                raise ApprovalRequired(metadata={"relaytrace_request_id": request_id}) from None
            try:
                return await handler(_approved(ctx, tool_def.name, args, permit))
            except (ApprovalRequired, CallDeferred):
                # The tool deferred itself: its run has not ended.
                self._policy.hold(options, permit)
                raise


def go_on(requests: DeferredToolRequests) -> DeferredToolResults:
    """Let every deferred call go on: each asks the relay itself whether it may run."""
    return requests.build_results(approve_all=True)


def _approved(ctx: RunContext[Any], name: str, args: dict[str, Any], permit: PermitInUse) -> dict[str, Any]:
    """The arguments to run. Edited ones are validated as the model's own were."""
    if not permit.edited:
        return args
    manager = ctx.tool_manager
    tool = manager.tools.get(name) if manager and manager.tools else None
    if tool is None:
        return permit.arguments
    try:
        edited: dict[str, Any] = tool.args_validator.validate_python(permit.arguments)
    except ValidationError as fault:
        raise ValueError(f"the edited arguments are not those of {name}: {fault}") from fault
    return edited


__all__ = ["Approval", "go_on"]
