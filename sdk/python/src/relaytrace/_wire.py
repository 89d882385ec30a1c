"""What the core asks of the outside, and what comes back: the core itself does no input or output.

A `Flow` is a generator. It yields a `Send` or a `Sleep`, is sent what came of it, and returns its result. `run` in
`_client` and `run` in `_async_client` are the only two places that touch a network or a clock's passing.
"""

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")
Json: TypeAlias = dict[str, Any]

MAX_ANSWER_BYTES = 4 << 20
"""Longest answer that is read; the contract keeps answers below 2 MB."""


@dataclass(frozen=True)
class Send:
    """One HTTP request, to be answered within `timeout` seconds in all."""

    method: str
    url: str
    headers: dict[str, str] = field(repr=False)
    body: bytes | None = field(repr=False)
    timeout: float


@dataclass(frozen=True)
class Sleep:
    """A pause."""

    seconds: float


@dataclass(frozen=True)
class Received:
    """A whole response, with its exact bytes."""

    status: int
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)

    def header(self, name: str) -> str | None:
        """The one value of a header; none where there are several."""
        values = [value for known, value in self.headers if known.lower() == name]
        return values[0].strip() if len(values) == 1 else None


@dataclass(frozen=True)
class Lost:
    """No response, or not a whole one."""

    why: str
    was_slow: bool = False
    is_elsewhere: bool = False
    """No such host, or it does not speak TLS as it should: the address is wrong."""


Step: TypeAlias = Send | Sleep
Flow: TypeAlias = Generator[Step, Received | Lost | None, T]
