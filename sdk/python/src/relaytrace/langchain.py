"""LangChain and LangGraph: a middleware that asks before a tool runs.

```python
from relaytrace import Relay
from relaytrace.langchain import ApprovalMiddleware

agent = create_agent(model, tools, middleware=[ApprovalMiddleware(Relay.from_env(), tools=["send_mail"])])
```

Without a checkpointer the call waits. With one, a call that is not decided yet interrupts the graph; resume the thread
in any process, with any value: the value carries no authority, and the relay is asked again under the same key.

A tool that interrupts the graph itself goes on under its approval when the thread is resumed in the same process.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from typing import Any

from langchain.agents.middleware import AgentMiddleware
from langchain.agents.middleware.types import ToolCallRequest
from langchain_core.messages import ToolMessage
from langgraph.errors import GraphBubbleUp, ParentCommand
from langgraph.types import Command, interrupt

from ._adapter import ALL_ANSWERS, AnyRelay, Policy, Tools, awaiting, blocking, call_key, keep
from ._errors import RelayError, Responded, StillPending
from ._permit import PermitInUse

_Result = ToolMessage | Command[Any]
_CHECKPOINTER = "__pregel_checkpointer"
_SCRATCHPAD = "__pregel_scratchpad"


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
        self._own: OrderedDict[str, int] = OrderedDict()

    def wrap_tool_call(self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], _Result]) -> _Result:
        """Ask, then run under the permit. What is not approved is the tool's result, as text."""
        name, arguments = request.tool_call["name"], request.tool_call["args"]
        if not self._policy.covers(name, arguments):
            return handler(request)
        may_pause, options = self._plan(request)
        pauses = 0
        while True:
            with ExitStack() as opened:
                try:
                    relay = opened.enter_context(blocking(self._policy.relay))
                    permit = opened.enter_context(self._policy.ask(relay, name, arguments, options))
                except RelayError as refused:
                    fault = refused
                else:
                    opened.enter_context(self._ending(options, permit))
                    self._skip_own(request, options, pauses)
                    return _seen(permit, handler(_approved(request, permit)))
            if not may_pause or not isinstance(fault, StillPending):
                return _refusal(request, fault)
            _pause(name, fault)
            pauses += 1

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[_Result]]
    ) -> _Result:
        """As `wrap_tool_call`."""
        name, arguments = request.tool_call["name"], request.tool_call["args"]
        if not self._policy.covers(name, arguments):
            return await handler(request)
        may_pause, options = self._plan(request)
        pauses = 0
        while True:
            async with AsyncExitStack() as opened:
                try:
                    relay = await opened.enter_async_context(awaiting(self._policy.relay))
                    permit = await opened.enter_async_context(self._policy.ask_async(relay, name, arguments, options))
                except RelayError as refused:
                    fault = refused
                else:
                    opened.enter_context(self._ending(options, permit))
                    self._skip_own(request, options, pauses)
                    return _seen(permit, await handler(_approved(request, permit)))
            if not may_pause or not isinstance(fault, StillPending):
                return _refusal(request, fault)
            _pause(name, fault)
            pauses += 1

    def _plan(self, request: ToolCallRequest) -> tuple[bool, dict[str, Any]]:
        """Whether an undecided call interrupts the graph, and the options of its question."""
        known = request.runtime.config.get("configurable", {})
        may_pause = self._interrupts if self._interrupts is not None else bool(known.get(_CHECKPOINTER))
        run = known.get("thread_id") or self._policy.relay.run_id
        call, arguments = request.tool_call, request.tool_call["args"]
        key = call_key("langchain", str(run), call["id"] or "-", call["name"], arguments)
        options = self._policy.options(arguments, key, ALL_ANSWERS)
        return may_pause, {**options, "timeout": 0} if may_pause else options

    def _skip_own(self, request: ToolCallRequest, options: dict[str, Any], already: int) -> None:
        """LangGraph hands the values of its resumes to a call's interrupts in their order. Those that answered this
        middleware's interrupts must not answer the tool's own: they are all that came before the tool first ran.
        """
        pad = request.runtime.config.get("configurable", {}).get(_SCRATCHPAD)
        if pad is None:
            return
        own = self._own.get(options["key"])
        if own is None:
            own = len(pad.resume) + (pad.get_null_resume(False) is not None)
            keep(self._own, options["key"], own)
        for _ in range(own - already):
            interrupt(None)

    @contextmanager
    def _ending(self, options: dict[str, Any], permit: PermitInUse) -> Iterator[None]:
        """What LangGraph throws is not always a failure: a handoff ends a run well, an interrupt does not end it."""
        try:
            yield
        except ParentCommand:
            permit.succeed("handed over to another agent")
            raise
        except GraphBubbleUp:
            self._policy.hold(options, permit)
            raise


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
