"""A permit in use: what the block below `with relay.ask(...)` holds, and what its end means."""

from dataclasses import dataclass
from typing import Literal

from ._digest import Action
from ._models import Decision, Request
from ._wire import Json


@dataclass(frozen=True)
class Use:
    """A consumed approval: `action` may run now, once, in this process."""

    request: Request
    decision: Decision
    action: Action


class PermitInUse:
    """An approval that was consumed for this block. Its end is the outcome on record.

    The block returned: succeeded. It raised an `Exception`: failed. It was interrupted (`KeyboardInterrupt`, a
    cancelled task): nothing is reported, and the relay records the outcome as unknown. `succeed`, `fail` and
    `leave_open` say otherwise.
    """

    def __init__(self, use: Use):
        self.use = use
        """The consumed approval."""
        self.request: Request = use.request
        """What was asked."""
        self.decision: Decision = use.decision
        """What was decided, by whom."""
        self.arguments: Json = use.action.arguments
        """The approved arguments, edited or not: run these."""
        self.action_digest: str = use.action.digest
        """Digest of what was approved and consumed."""
        self.note: str | None = None
        """Goes on record with the outcome; up to 2,000 characters."""
        self.evidence_sha256: str | None = None
        """`sha256:` and the hexadecimal digest of what proves the outcome."""
        self._ending: Literal["succeeded", "failed", "open"] | None = None

    @property
    def edited(self) -> bool:
        """Whether a person changed the arguments."""
        return self.decision.edited

    @property
    def receipt(self) -> str | None:
        """The decision as a JWS that anyone can verify offline."""
        return self.decision.receipt

    def fail(self, note: str | None = None) -> None:
        """The run failed without raising: report it as failed."""
        self._ending = "failed"
        self.note = note or self.note

    def succeed(self, note: str | None = None) -> None:
        """The run succeeded, whatever the block raises: report it as succeeded."""
        self._ending = "succeeded"
        self.note = note or self.note

    def leave_open(self) -> None:
        """The run does not end with the block, or nobody knows how it ended: report nothing."""
        self._ending = "open"

    def ending(self, fault: BaseException | None) -> tuple[str, str | None] | None:
        """State and note to report; None where nobody can know the outcome."""
        if self._ending == "open":
            return None
        if self._ending is not None or fault is None:
            return self._ending or "succeeded", self.note
        if isinstance(fault, Exception):
            return "failed", self.note or f"{type(fault).__name__}: {fault}"
        return None

    def __repr__(self) -> str:
        return f"PermitInUse(request_id={self.request.request_id!r}, arguments={self.arguments!r})"
