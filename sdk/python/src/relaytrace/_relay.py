"""The blocking client. `_async_relay` has the same surface, word for word."""

import functools
import inspect
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from types import TracebackType
from typing import Any, Literal, ParamSpec, TypeVar

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
from ._transport import new_client, play
from ._wire import Flow, Json

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Relay(Face[httpx.Client]):
    """An agent's client of RelayTrace: ask a person, wait, use the approval once, report the outcome.

    ```python
    relay = Relay.from_env()
    with relay.ask("refund.create", {"customer": "88213", "amount": "1240.00"}, title="Refund 1,240 EUR") as permit:
        refund(**permit.arguments)
    ```

    Threads may share it; it keeps a pool of connections. Every answer is verified, or counts as none.
    """

    _client: httpx.Client

    def _connect(self, given: httpx.Client | None = None) -> None:
        self._client = given or new_client()

    def ask(
        self, type: str, arguments: Mapping[str, Any], *, timeout: float | None = None, **options: Unpack[AskOptions]
    ) -> "Using":
        """Ask, wait, and use the approval up: `with relay.ask(…) as permit:` runs its block only then.

        Raises `Rejected`, `TimedOut`, `Cancelled`, `Responded`, `AlreadyUsed` or another `NotApproved`, `StillPending`
        after `timeout` seconds, or a `NoAnswer` where no answer counts. The block's end is reported as the outcome.
        """
        return Using(self, flows.ask(self._session, question(self._session, type, arguments, **options), timeout))

    def use(self, decision: Decision, type: str, arguments: Mapping[str, Any]) -> "Using":
        """Use an approval that came by `decisions()` or `wait()`: `with relay.use(…) as permit:`.

        `type` and `arguments` are what is about to run; an approval of anything else is refused.
        """
        return Using(self, flows.use(self._session, decision, Action.make(type, arguments)))

    def guard(
        self, type: str, *, exclude: Collection[str] = (), timeout: float | None = None, **options: Any
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """A decorator: each call of the function asks, waits, consumes, runs with the approved arguments, reports.

        The arguments are the action; `self`, `cls` and those in `exclude` are not part of it. An option (of `ask`) that
        is a function is called with the arguments: `title=lambda to, **_: f"Mail {to}"`.
        """

        def decorate(function: Callable[P, R]) -> Callable[P, R]:
            refuse_generators(function)
            if inspect.iscoroutinefunction(function):
                raise TypeError(f"{function.__qualname__} is asynchronous: guard it with AsyncRelay.guard")
            signature = Signature(function, exclude)

            @functools.wraps(function)
            def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
                arguments, others = signature.action(args, kwargs)
                with self.ask(type, arguments, timeout=timeout, **options_for(options, arguments)) as permit:
                    approved, named = signature.call(permit.arguments, others)
                    return function(*approved, **named)

            return guarded

        return decorate

    def submit(self, type: str, arguments: Mapping[str, Any], **options: Unpack[AskOptions]) -> Request:
        """Ask, and do not wait. The same `key` finds the same request again."""
        return self._play(flows.submit(self._session, question(self._session, type, arguments, **options)))

    def wait(self, request: Request, timeout: float | None = None) -> Decision:
        """The decision on a request, whatever it is. Raises `StillPending` after `timeout` seconds."""
        return self._play(flows.wait(self._session, request, timeout))

    def request(self, request_id: str) -> Request:
        """A request of this agent as it now stands, its decision and receipt included."""
        return self._play(flows.view(self._session, request_id))

    def decisions(self, *, timeout: float | None = None, limit: int = 10) -> Iterator[Decision]:
        """The agent's deliveries as they come, each leased to this caller: use it, or `acknowledge` it.

        Ends when nothing has come for `timeout` seconds; without it, never.
        """
        quiet_since = time.monotonic()
        while True:
            left = flows.LONGEST_POLL_SECONDS if timeout is None else timeout - (time.monotonic() - quiet_since)
            decisions, pause = self._play(flows.poll(self._session, max(left, 0), limit))
            for decision in decisions:
                yield decision
                quiet_since = time.monotonic()
            if not decisions and timeout is not None and time.monotonic() - quiet_since >= timeout:
                return
            if not decisions:
                time.sleep(pause)

    def acknowledge(
        self,
        decision: Decision,
        result: Literal["accepted", "retry", "failed"] = "accepted",
        error: Mapping[str, str] | None = None,
    ) -> Acknowledged:
        """Say what became of a delivery; `error` is `{code, message}`. A used approval needs none.

        `retry` and `failed` need a delivery, which `decisions()` gives; `wait()` only looks.
        """
        return self._play(flows.acknowledge(self._session, decision, result, error))

    def cancel(self, request: Request | str, reason: str | None = None) -> None:
        """Withdraw a question. Raises `Refused` with the code `already-decided` where it is decided otherwise."""
        return self._play(flows.cancel(self._session, id_of(request), reason))

    def verify_receipt(self, receipt: str, keys: Json | None = None, issuer: str | None = None) -> Receipt:
        """The verified claims of a receipt. With `keys` offline; without, the relay's are fetched once."""
        known = keys if keys is not None else self._play(flows.receipt_keys(self._session))
        return verify_receipt(receipt, known, issuer)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _play(self, flow: Flow[T]) -> T:
        return play(self._client, flow)


class Using:
    """`with relay.ask(…) as permit:` or `relay.use(…)`: the approval is consumed as the block is entered."""

    def __init__(self, relay: Relay, flow: Flow[Use]):
        self._relay, self._flow = relay, flow
        self._permit: PermitInUse | None = None

    def __enter__(self) -> PermitInUse:
        self._permit = PermitInUse(self._relay._play(self._flow))
        return self._permit

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, _: TracebackType | None) -> None:
        if self._permit:
            self._relay._play(flows.end(self._relay._session, self._permit, fault))
