"""What the adapters share: which calls are asked about, under which key, and on whose event loop."""

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeAlias

from . import _flows as flows
from ._async_relay import AsyncRelay, AsyncUsing
from ._digest import Action, key_of
from ._permit import PermitInUse, Use
from ._relay import Relay, Using
from ._wire import Json

AnyRelay: TypeAlias = Relay | AsyncRelay
Tools: TypeAlias = Collection[str] | Callable[[str, Json], bool] | None
"""Names of tools, or a function of a tool's name and arguments; None: every tool."""

ALL_ANSWERS = ("approve", "reject", "edit", "respond")
# Calls that are kept at once. What falls out is recorded as unknown by the relay itself.
MAX_KEPT = 1000


class Policy:
    """Which calls are asked about, and what their questions say."""

    def __init__(self, relay: AnyRelay, tools: Tools, timeout: float | None, options: Mapping[str, Any]):
        self.relay, self.tools, self.timeout = relay, tools, timeout
        self._options = dict(options)
        self._held: OrderedDict[str, Use] = OrderedDict()

    def covers(self, name: str, arguments: Json) -> bool:
        """Whether this call is asked about."""
        if self.tools is None:
            return True
        return self.tools(name, arguments) if callable(self.tools) else name in self.tools

    def options(self, arguments: Json, key: str, answers: Collection[str]) -> dict[str, Any]:
        """The options of `ask`; a function among them is called with the arguments."""
        made = {name: value(**arguments) if callable(value) else value for name, value in self._options.items()}
        return {"answers": answers, "timeout": self.timeout, "key": key, **made}

    def ask(self, relay: Relay, name: str, arguments: Json, options: Mapping[str, Any]) -> Using:
        """As `Relay.ask`; a run that interrupted itself goes on under the approval that it has consumed."""
        held = self._held.pop(options["key"], None)
        return Using(relay, flows.again(held)) if held else relay.ask(name, arguments, **options)

    def ask_async(self, relay: AsyncRelay, name: str, arguments: Json, options: Mapping[str, Any]) -> AsyncUsing:
        """As `ask`."""
        held = self._held.pop(options["key"], None)
        return AsyncUsing(relay, flows.again(held)) if held else relay.ask(name, arguments, **options)

    def hold(self, options: Mapping[str, Any], permit: PermitInUse) -> None:
        """The tool interrupted itself after its approval was used: that is no outcome. The same call goes on under
        this approval in this process; in another one it is `AlreadyUsed`, since nobody there knows what has run.
        """
        permit.leave_open()
        keep(self._held, options["key"], permit.use)


def keep(kept: OrderedDict[Any, Any], name: object, value: object) -> None:
    """Keep a value, and not more than `MAX_KEPT` of them."""
    kept[name] = value
    while len(kept) > MAX_KEPT:
        kept.popitem(last=False)


def call_key(framework: str, run: str | None, call_id: str, name: str, arguments: Json) -> str:
    """The key of one call of one run. The digest is part of it: a framework that numbers its calls anew in each
    process cannot find another call's approval.
    """
    return key_of(framework, run or "-", call_id, Action.make(name, arguments).digest.removeprefix("sha256:")[:24])


@contextmanager
def blocking(relay: AnyRelay) -> Iterator[Relay]:
    """The relay for code that blocks. An `AsyncRelay` gets connections of its own for the one call."""
    if isinstance(relay, Relay):
        yield relay
        return
    with Relay._of(relay._session) as own:
        yield own


@asynccontextmanager
async def awaiting(relay: AnyRelay) -> AsyncIterator[AsyncRelay]:
    """The relay for code that awaits. A `Relay` gets connections for the one call: they belong to its event loop."""
    if isinstance(relay, AsyncRelay):
        yield relay
        return
    async with AsyncRelay._of(relay._session) as own:
        yield own
