"""Why there is no permit to run: what was decided, or why no decision could be had.

Every error says what to do. None of them is an approval: code below `with relay.ask(...)` runs only where none was
raised. `for_model` is the text that an adapter gives to the model in place of the tool's result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._models import Actor, Decision, Problem, Request


class RelayError(Exception):
    """The base of every error of this package."""

    @property
    def for_model(self) -> str:
        """What a model is told: the tool did not run, and why."""
        return f"Not run: no valid decision could be obtained ({self}). This says nothing about whether it is allowed."


# ---------------------------------------------------------------- what was decided


class NotApproved(RelayError):
    """There is no approval that could be used now. The base of the outcomes below."""

    def __init__(self, message: str, *, request: Request | None = None, decision: Decision | None = None):
        super().__init__(message)
        self.request = request
        """The request, where it is known."""
        self.decision = decision
        """The decision, where there is one."""


class Rejected(NotApproved):
    """A person, an administrator or a rule said no."""

    def __init__(
        self, reason: str | None, by: Actor, *, request: Request | None = None, decision: Decision | None = None
    ):
        self.reason = reason
        """Why, in the words of who rejected it."""
        self.by = by
        """Who: `by.kind` is operator or admin, or system where it was a rule."""
        super().__init__(f"rejected by {by}: {reason or 'no reason was given'}", request=request, decision=decision)

    @property
    def for_model(self) -> str:
        """Different for a person's no and a rule's."""
        reason = self.reason or "no reason was given"
        if self.by.kind == "system":
            return f"Not run: a rule forbids this call ({self.by}): {reason}. No person looked at it."
        return f"Not run: {self.by} rejected this call: {reason}. Do not try it again unchanged."


class TimedOut(NotApproved):
    """Nobody decided before the request's deadline. It is not a person's no."""

    @property
    def for_model(self) -> str:
        """Says that nobody said no."""
        return "Not run: nobody answered in time. No person said no; asking again later is possible."


class Cancelled(NotApproved):
    """The question was withdrawn, by the agent or by an administrator."""

    @property
    def for_model(self) -> str:
        """Says that it was withdrawn."""
        return f"Not run: the question was withdrawn before a decision ({self})."


class Responded(NotApproved):
    """A person answered in place of a run: `value` is what the call would have returned."""

    def __init__(self, value: Any, *, request: Request | None = None, decision: Decision | None = None):
        self.value = value
        """The answer, as the person gave it."""
        super().__init__("a person answered instead; nothing is to be run", request=request, decision=decision)

    @property
    def for_model(self) -> str:
        """The answer itself, said to be one."""
        return f"Not run: a person answered instead: {self.value}"


class UnknownOutcome(NotApproved):
    """The outcome is one that this version of the package does not know. It is not an approval; update the package."""


class StillPending(NotApproved):
    """The caller's own patience ended before anybody decided. The request stands, and the same key finds it again."""

    @property
    def for_model(self) -> str:
        """Says that a decision may still come."""
        return "Not run yet: a person has not decided so far. The question stands; the same call again finds it."


class Undecided(NotApproved):
    """The deadline has passed, and the relay has not decided by itself: its timeout sweep does not run."""


class AlreadyUsed(NotApproved):
    """The approval was used before, by this or another process: whether it took effect is on record, or unknown."""

    @property
    def for_model(self) -> str:
        """Says that it is not run twice."""
        return "Not run again: this approval was used already. Find out whether it took effect before asking anew."


class PermitExpired(NotApproved):
    """The approval was not used in the time that it was good for."""


class PermitRevoked(NotApproved):
    """An administrator stopped what was approved."""

    @property
    def for_model(self) -> str:
        """Says who stopped it."""
        return f"Not run: an administrator has stopped calls like this one ({self})."


class Frozen(NotApproved):
    """An administrator holds calls like this one. The approval stands; try again when the hold has ended."""

    @property
    def for_model(self) -> str:
        """Says that it is a hold."""
        return "Not run yet: an administrator holds calls like this one for now. Its approval stands."


# ---------------------------------------------------------------- why there is no decision


class ConfigurationError(RelayError, ValueError):
    """Something given to the client cannot be used; the message names it."""


class UnsupportedValue(ConfigurationError):
    """The arguments cannot be carried as JSON exactly (I-JSON, RFC 7493); the message names the fault."""


class NoAnswer(RelayError):
    """There is no answer that counts. Whether the call had an effect is not known; it may be sent again as it was."""


class Unreachable(NoAnswer):
    """Nothing answers at the address. Check RELAYTRACE_URL, and that the relay runs."""


class WrongUrl(NoAnswer):
    """Something else than a relay answers at the address. Check RELAYTRACE_URL."""


class TooSlow(NoAnswer):
    """No answer came in time."""


class Unavailable(NoAnswer):
    """The relay cannot serve the call now (502 to 504), or not so often (429). Try again later."""


class WrongKey(NoAnswer):
    """The relay does not accept this key: of another deployment, revoked, expired, or its agent is disabled."""


class WrongSecret(NoAnswer):
    """The answer is signed with another secret. Is RELAYTRACE_RESPONSE_SECRET this key's, and the relay the one?"""


class WrongClock(NoAnswer):
    """The two clocks differ by more than the 30 s that are allowed. Set this machine's clock."""

    def __init__(self, ahead_seconds: int):
        self.ahead_seconds = ahead_seconds
        """How far this machine's clock is ahead of the relay's; negative where it is behind."""
        side = "ahead of" if ahead_seconds > 0 else "behind"
        super().__init__(
            f"this machine's clock is {abs(ahead_seconds)} s {side} the relay's, and 30 s are allowed: set the clock"
        )


class WrongDeployment(NoAnswer):
    """The answer or receipt comes from another deployment than the one that issued this key. Check RELAYTRACE_URL."""


class Unverified(NoAnswer):
    """The answer is not signed, or not as the contract says. A proxy may have written it; it is no outcome."""


class OtherAnswer(NoAnswer):
    """The answer is signed, and is about another request. A proxy or cache mixes answers up; it is no outcome."""


class ContractBroken(RelayError):
    """A verified answer is not as the contract says: the relay is of a version that this package does not know."""


class WrongReceipt(RelayError):
    """A receipt does not verify, or states another decision."""


class Refused(RelayError):
    """The relay refused the call, signed; the same call would be refused again."""

    def __init__(self, problem: Problem):
        self.problem = problem
        """The problem document."""
        super().__init__(f"refused: {problem}")

    @property
    def code(self) -> str:
        """The code that programs compare, such as `forbidden`."""
        return self.problem.code


class KeyReused(Refused):
    """The key stands for another question. Use another `key`, or ask with the same title, priority and context."""
