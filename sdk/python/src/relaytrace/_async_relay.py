"""The asynchronous client: the surface of `_relay`, awaited."""

import functools
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from types import TracebackType
from typing import Any, Literal, ParamSpec, TypeVar

import anyio
import httpx
from typing_extensions import Self, Unpack

from . import _flows as flows
from ._asking import AskOptions, question
from ._digest import Action
from ._face import Face, id_of
from ._guard import Signature, options_for, refuse_generators
from ._models import Acknowledged, Decision, Receipt, Request
from ._permit import PermitInUse, Use
from ._receipt import verify_receipt
from ._transport import new_async_client, play_async
from ._wire import Flow, Json

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class AsyncRelay(Face[httpx.AsyncClient]):
    """An agent's asynchronous client of RelayTrace: ask a person, wait, use the approval once, report the outcome.

    ```python
    relay = AsyncRelay.from_env()
    async with relay.ask("refund.create", {"customer": "88213", "amount": "1240.00"}) as permit:
        await refund(**permit.arguments)
    ```

    The tasks of one event loop may share it; it keeps a pool of connections. Every answer is verified, or counts as
    none.
    """

    _client: httpx.AsyncClient

    def _connect(self, given: httpx.AsyncClient | None = None) -> None:
        self._client = given or new_async_client()

    def ask(
        self, type: str, arguments: Mapping[str, Any], *, timeout: float | None = None, **options: Unpack[AskOptions]
    ) -> "AsyncUsing":
        """Ask, wait, and use the approval up: `async with relay.ask(…) as permit:` runs its block only then.

        Raises `Rejected`, `TimedOut`, `Cancelled`, `Responded`, `AlreadyUsed` or another `NotApproved`, `StillPending`
        after `timeout` seconds, or a `NoAnswer` where no answer counts. The block's end is reported as the outcome.
        """
        return AsyncUsing(self, flows.ask(self._session, question(self._session, type, arguments, **options), timeout))

    def use(self, decision: Decision, type: str, arguments: Mapping[str, Any]) -> "AsyncUsing":
        """Use an approval that came by `decisions()` or `wait()`: `async with relay.use(…) as permit:`.

        `type` and `arguments` are what is about to run; an approval of anything else is refused.
        """
        return AsyncUsing(self, flows.use(self._session, decision, Action.make(type, arguments)))

    def guard(
        self, type: str, *, exclude: Collection[str] = (), timeout: float | None = None, **options: Any
    ) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Awaitable[R]]]:
        """A decorator: each call of the function asks, waits, consumes, runs with the approved arguments, reports.

        The arguments are the action; `self`, `cls` and those in `exclude` are not part of it. An option (of `ask`) that
        is a function is called with the arguments: `title=lambda to, **_: f"Mail {to}"`.
        """

        def decorate(function: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
            refuse_generators(function)
            signature = Signature(function, exclude)

            @functools.wraps(function)
            async def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
                arguments, others = signature.action(args, kwargs)
                async with self.ask(type, arguments, timeout=timeout, **options_for(options, arguments)) as permit:
                    approved, named = signature.call(permit.arguments, others)
                    # A function that does not await anything is guarded as well as one that does.
                    result = function(*approved, **named)
                    return await result if inspect.isawaitable(result) else result

            return guarded

        return decorate

    async def submit(self, type: str, arguments: Mapping[str, Any], **options: Unpack[AskOptions]) -> Request:
        """Ask, and do not wait. The same `key` finds the same request again."""
        return await self._play(flows.submit(self._session, question(self._session, type, arguments, **options)))

    async def wait(self, request: Request, timeout: float | None = None) -> Decision:
        """The decision on a request, whatever it is. Raises `StillPending` after `timeout` seconds."""
        return await self._play(flows.wait(self._session, request, timeout))

    async def request(self, request_id: str) -> Request:
        """A request of this agent as it now stands, its decision and receipt included."""
        return await self._play(flows.view(self._session, request_id))

    async def decisions(self, *, timeout: float | None = None, limit: int = 10) -> AsyncIterator[Decision]:
        """The agent's deliveries as they come, each leased to this caller: use it, or `acknowledge` it.

        Ends when nothing has come for `timeout` seconds; without it, never.
        """
        quiet_since = time.monotonic()
        while True:
            left = flows.LONGEST_POLL_SECONDS if timeout is None else timeout - (time.monotonic() - quiet_since)
            decisions, pause = await self._play(flows.poll(self._session, max(left, 0), limit))
            for decision in decisions:
                yield decision
                quiet_since = time.monotonic()
            if not decisions and timeout is not None and time.monotonic() - quiet_since >= timeout:
                return
            if not decisions:
                await anyio.sleep(pause)

    async def acknowledge(
        self,
        decision: Decision,
        result: Literal["accepted", "retry", "failed"] = "accepted",
        error: Mapping[str, str] | None = None,
    ) -> Acknowledged:
        """Say what became of a delivery; `error` is `{code, message}`. A used approval needs none.

        `retry` and `failed` need a delivery, which `decisions()` gives; `wait()` only looks.
        """
        return await self._play(flows.acknowledge(self._session, decision, result, error))

    async def cancel(self, request: Request | str, reason: str | None = None) -> None:
        """Withdraw a question. Raises `Refused` with the code `already-decided` where it is decided otherwise."""
        return await self._play(flows.cancel(self._session, id_of(request), reason))

    async def verify_receipt(self, receipt: str, keys: Json | None = None, issuer: str | None = None) -> Receipt:
        """The verified claims of a receipt. With `keys` offline; without, the relay's are fetched once."""
        known = keys if keys is not None else await self._play(flows.receipt_keys(self._session))
        return verify_receipt(receipt, known, issuer)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _play(self, flow: Flow[T]) -> T:
        return await play_async(self._client, flow)


class AsyncUsing:
    """`async with relay.ask(…) as permit:` or `relay.use(…)`: the approval is consumed as the block is entered."""

    def __init__(self, relay: AsyncRelay, flow: Flow[Use]):
        self._relay, self._flow = relay, flow
        self._permit: PermitInUse | None = None

    async def __aenter__(self) -> PermitInUse:
        self._permit = PermitInUse(await self._relay._play(self._flow))
        return self._permit

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, _: TracebackType | None
    ) -> None:
        if self._permit:
            await self._relay._play(flows.end(self._relay._session, self._permit, fault))
