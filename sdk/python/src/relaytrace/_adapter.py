"""What the adapters share: which calls are asked about, under which key, and on whose event loop."""

from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeAlias

from ._async_relay import AsyncRelay
from ._digest import Action, key_of
from ._relay import Relay
from ._wire import Json

AnyRelay: TypeAlias = Relay | AsyncRelay
Tools: TypeAlias = Collection[str] | Callable[[str, Json], bool] | None
"""Names of tools, or a function of a tool's name and arguments; None: every tool."""

ALL_ANSWERS = ("approve", "reject", "edit", "respond")


class Policy:
    """Which calls are asked about, and what their questions say."""

    def __init__(self, relay: AnyRelay, tools: Tools, timeout: float | None, options: Mapping[str, Any]):
        self.relay, self.tools, self.timeout = relay, tools, timeout
        self._options = dict(options)

    def covers(self, name: str, arguments: Json) -> bool:
        """Whether this call is asked about."""
        if self.tools is None:
            return True
        return self.tools(name, arguments) if callable(self.tools) else name in self.tools

    def options(self, arguments: Json, key: str, answers: Collection[str]) -> dict[str, Any]:
        """The options of `ask`; a function among them is called with the arguments."""
        made = {name: value(**arguments) if callable(value) else value for name, value in self._options.items()}
        return {"answers": answers, "timeout": self.timeout, "key": key, **made}


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
