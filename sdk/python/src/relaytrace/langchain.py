"""LangChain and LangGraph: a middleware that asks before a tool runs.

```python
from relaytrace import Relay
from relaytrace.langchain import ApprovalMiddleware

agent = create_agent(model, tools, middleware=[ApprovalMiddleware(Relay.from_env(), tools=["send_mail"])])
```

Without a checkpointer the call waits. With one, a call that is not decided yet interrupts the graph; resume the thread
in any process, with any value: the value carries no authority, and the relay is asked again under the same key.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from langchain.agents.middleware import AgentMiddleware
from langchain.agents.middleware.types import ToolCallRequest
from langchain_core.messages import ToolMessage
from langgraph.errors import GraphBubbleUp
from langgraph.types import Command, interrupt

from ._adapter import ALL_ANSWERS, AnyRelay, Policy, Tools, awaiting, blocking, call_key
from ._errors import RelayError, Responded, StillPending
from ._permit import PermitInUse

_Result = ToolMessage | Command[Any]
_CHECKPOINTER = "__pregel_checkpointer"


class ApprovalMiddleware(AgentMiddleware):
    """Asks a person about the calls of `tools` (names, or a function of name and arguments; None: of all tools).

    `interrupts`: whether an undecided call interrupts the graph; by default where there is a checkpointer. `options`
    are those of `Relay.ask`; a function among them is called with the arguments.
    """

    def __init__(
        self,
        relay: AnyRelay,
        tools: Tools = None,
        *,
        interrupts: bool | None = None,
        timeout: float | None = None,
        **options: Any,
    ):
        super().__init__()
        self._policy = Policy(relay, tools, timeout, options)
        self._interrupts = interrupts

    def wrap_tool_call(self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], _Result]) -> _Result:
        """Ask, then run under the permit. What is not approved is the tool's result, as text."""
        name, arguments = request.tool_call["name"], request.tool_call["args"]
        if not self._policy.covers(name, arguments):
            return handler(request)
        pauses, options = self._plan(request)
        while True:
            try:
                with blocking(self._policy.relay) as relay, relay.ask(name, arguments, **options) as permit:
                    return _seen(permit, _held(handler, _approved(request, permit)))
            except _Held as held:
                raise held.cause from None
            except StillPending as pending:
                if not pauses:
                    return _refusal(request, pending)
                _pause(name, pending)
            except RelayError as fault:
                return _refusal(request, fault)

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[_Result]]
    ) -> _Result:
        """As `wrap_tool_call`."""
        name, arguments = request.tool_call["name"], request.tool_call["args"]
        if not self._policy.covers(name, arguments):
            return await handler(request)
        pauses, options = self._plan(request)
        while True:
            try:
                async with awaiting(self._policy.relay) as relay, relay.ask(name, arguments, **options) as permit:
                    try:
                        return _seen(permit, await handler(_approved(request, permit)))
                    except GraphBubbleUp as bubble:
                        raise _Held(bubble) from None
            except _Held as held:
                raise held.cause from None
            except StillPending as pending:
                if not pauses:
                    return _refusal(request, pending)
                _pause(name, pending)
            except RelayError as fault:
                return _refusal(request, fault)

    def _plan(self, request: ToolCallRequest) -> tuple[bool, dict[str, Any]]:
        """Whether an undecided call interrupts the graph, and the options of its question."""
        known = request.runtime.config.get("configurable", {})
        pauses = self._interrupts if self._interrupts is not None else bool(known.get(_CHECKPOINTER))
        run = known.get("thread_id") or self._policy.relay.run_id
        call, arguments = request.tool_call, request.tool_call["args"]
        key = call_key("langchain", str(run), call["id"] or "-", call["name"], arguments)
        options = self._policy.options(arguments, key, ALL_ANSWERS)
        return pauses, {**options, "timeout": 0} if pauses else options


class _Held(BaseException):
    """The tool interrupted the graph itself: that is no failure, and nobody knows how its run will end."""

    def __init__(self, cause: GraphBubbleUp):
        self.cause = cause


def _held(handler: Callable[[ToolCallRequest], _Result], request: ToolCallRequest) -> _Result:
    try:
        return handler(request)
    except GraphBubbleUp as bubble:
        raise _Held(bubble) from None


def _pause(name: str, pending: StillPending) -> None:
    """Interrupt the graph; on resume return, whatever the value is."""
    request = pending.request
    interrupt(
        {
            "type": "relaytrace",
            "request_id": request.request_id if request else None,
            "action_type": name,
            "respond_by": request.respond_by.isoformat() if request else None,
        }
    )


def _approved(request: ToolCallRequest, permit: PermitInUse) -> ToolCallRequest:
    return request.override(tool_call={**request.tool_call, "args": permit.arguments})


def _seen(permit: PermitInUse, result: _Result) -> _Result:
    """A tool's error that the framework has made a message of is a failure on record, too."""
    if isinstance(result, ToolMessage) and result.status == "error":
        permit.fail(str(result.content))
    return result


def _refusal(request: ToolCallRequest, fault: RelayError) -> ToolMessage:
    call = request.tool_call
    status = "success" if isinstance(fault, Responded) else "error"
    return ToolMessage(content=fault.for_model, tool_call_id=call["id"], name=call["name"], status=status)
