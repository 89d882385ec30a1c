"""What the relay answers, as values. Members that this version does not know are kept in `raw` and not acted on."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ._digest import Action
from ._wire import Json


def instant(text: str) -> datetime:
    """An RFC 3339 time; Python 3.10 does not read the `Z` by itself."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


@dataclass(frozen=True)
class Actor:
    """Who did something."""

    kind: str
    """operator, admin, agent or system; another value may come."""
    id: str
    """The id of that kind; of a rule `rule:<name>@<version>`."""
    name: str | None = None
    """The person's name."""

    def __str__(self) -> str:
        return self.name or self.id

    @classmethod
    def parse(cls, raw: Json) -> "Actor":
        """From a `decided_by`."""
        return cls(str(raw["kind"]), str(raw["id"]), raw.get("name"))


@dataclass(frozen=True)
class Problem:
    """A problem document (RFC 9457)."""

    code: str
    """The code that programs compare."""
    status: int
    """HTTP status."""
    detail: str
    """What is wrong with the call, in words."""
    retryable: bool
    """The same call may succeed later."""
    retry_after: float | None
    """When, in seconds."""
    errors: tuple[tuple[str, str], ...]
    """All faults of the body: JSON pointer and words."""
    trace_id: str | None
    """Finds the call in the relay's logs."""
    raw: Json = field(repr=False)
    """The document."""

    def __str__(self) -> str:
        faults = "".join(f"; {pointer or 'the body'}: {detail}" for pointer, detail in self.errors)
        return f"{self.status} {self.code}: {self.detail}{faults}"

    @classmethod
    def parse(cls, raw: Json) -> "Problem":
        """From a verified body."""
        after = raw.get("retry_after_ms")
        return cls(
            code=str(raw["code"]),
            status=int(raw["status"]),
            detail=str(raw["detail"]),
            retryable=raw["retryable"] is True,
            retry_after=None if after is None else float(after) / 1000,
            errors=tuple((str(fault["pointer"]), str(fault["detail"])) for fault in raw.get("errors") or ()),
            trace_id=raw.get("trace_id"),
            raw=raw,
        )


@dataclass(frozen=True)
class Permit:
    """How long an approval may be used."""

    expires_at: datetime
    """After it the approval is not consumed any more."""


@dataclass(frozen=True)
class Decision:
    """The one decision on a request."""

    request_id: str
    client_request_key: str
    outcome: str
    """approved, rejected, cancelled or responded. A value that is none of these is not an approval."""
    cause: str
    """operator, timeout, admin, agent or policy; another value may come."""
    decided_at: datetime
    decided_by: Actor
    reason: str | None
    action_digest: str
    """Digest of the action that was decided on: the edited one where `edited`."""
    edited: bool
    """A person changed the arguments."""
    action: Action | None
    """What was approved, where it is known: the edited action, or the one that was asked."""
    response: Any
    """What a person answered, where `outcome` is responded."""
    permit: Permit | None
    """Where it is an approval."""
    receipt: str | None = field(repr=False)
    """The decision as a compact JWS that anyone can verify offline (`verify_receipt`)."""
    resume: Json | None
    """What the agent gave with the request, untouched."""
    delivery_id: str | None
    """Where this answer leases it."""
    attempt: int | None
    raw: Json = field(repr=False)
    """The decision as it came."""

    @property
    def approved(self) -> bool:
        """Whether it is an approval. It may be used up or expired all the same: consume it before a run."""
        return self.outcome == "approved"

    @property
    def arguments(self) -> Json | None:
        """The approved arguments, where they are known."""
        return None if self.action is None else self.action.arguments

    @classmethod
    def parse(cls, raw: Json, asked: Action | None = None) -> "Decision":
        """From a poll item or a view. Raises `ValueError` where what it approves is not what its digest says."""
        edited = raw.get("edited") is True
        action = Action.of(raw["action"]) if raw.get("action") else asked
        if action is not None and action.digest != raw["action_digest"]:
            raise ValueError(f"its action is {action.digest}, and its action_digest {raw['action_digest']}")
        if asked is not None:
            of = raw.get("requested_action_digest") if edited else raw["action_digest"]
            if of != asked.digest or (action is not None and action.type != asked.type):
                raise ValueError(f"it decides on {of}, asked was {asked.digest}")
        permit = raw.get("permit")
        return cls(
            request_id=str(raw["request_id"]),
            client_request_key=str(raw["client_request_key"]),
            outcome=str(raw["outcome"]),
            cause=str(raw["cause"]),
            decided_at=instant(raw["decided_at"]),
            decided_by=Actor.parse(raw["decided_by"]),
            reason=raw.get("reason"),
            action_digest=str(raw["action_digest"]),
            edited=edited,
            action=action,
            response=raw.get("response"),
            permit=Permit(instant(permit["expires_at"])) if permit else None,
            receipt=raw.get("receipt"),
            resume=raw.get("resume"),
            delivery_id=raw.get("delivery_id"),
            attempt=raw.get("attempt"),
            raw=raw,
        )


@dataclass(frozen=True)
class Request:
    """A question that the relay has stored."""

    agent_id: str
    request_id: str
    client_request_key: str
    status: str
    priority: str
    created_at: datetime
    respond_by: datetime
    action_digest: str
    duplicate: bool
    """The key had been asked with before: this is the request of then."""
    decision: Decision | None
    """Where it is decided already."""
    action: Action | None = field(repr=False)
    """What was asked, where this process knows it."""
    raw: Json = field(repr=False)
    """The answer as it came."""

    @property
    def pending(self) -> bool:
        """Whether nobody has decided yet."""
        return self.decision is None

    @classmethod
    def parse(cls, raw: Json, action: Action | None = None) -> "Request":
        """From the answer to a submission, or a view. Raises `ValueError` where it is about another action."""
        if action is not None and raw["action_digest"] not in {action.digest, _edited_digest(raw)}:
            raise ValueError(f"its action_digest is {raw['action_digest']}, asked was {action.digest}")
        decision = raw.get("decision")
        return cls(
            agent_id=str(raw["agent_id"]),
            request_id=str(raw["request_id"]),
            client_request_key=str(raw["client_request_key"]),
            status=str(raw["status"]),
            priority=str(raw["priority"]),
            created_at=instant(raw["created_at"]),
            respond_by=instant(raw["respond_by"]),
            action_digest=str(raw["action_digest"]),
            duplicate=raw.get("duplicate") is True,
            decision=Decision.parse(decision, action) if decision else None,
            action=action,
            raw=raw,
        )


def _edited_digest(raw: Json) -> str | None:
    """The digest that a view has after an edit; `Decision.parse` then compares the one that was asked."""
    decision = raw.get("decision") or {}
    return decision.get("action_digest") if decision.get("edited") is True else None


@dataclass(frozen=True)
class Acknowledged:
    """What became of a delivery."""

    request_id: str
    delivery_id: str | None
    state: str
    """acknowledged, ready or dead_lettered."""
    attempt: int


@dataclass(frozen=True)
class Vote:
    """One of several approvals."""

    voted_by: Actor
    voted_at: datetime


@dataclass(frozen=True)
class Receipt:
    """The verified claims of a receipt."""

    request_id: str
    agent_id: str
    client_request_key: str
    outcome: str
    action_digest: str
    decided_by: Actor
    decided_at: datetime
    issuer: str
    """The deployment's name."""
    claims: Json = field(repr=False)
    """All claims."""
    votes: tuple[Vote, ...] = ()
    """The operators' approvals where one was not enough, the deciding one last."""

    @classmethod
    def parse(cls, claims: Json) -> "Receipt":
        """From verified claims."""
        return cls(
            request_id=str(claims["sub"]),
            agent_id=str(claims["agent_id"]),
            client_request_key=str(claims["client_request_key"]),
            outcome=str(claims["outcome"]),
            action_digest=str(claims["action_digest"]),
            decided_by=Actor.parse(claims["decided_by"]),
            decided_at=instant(claims["decided_at"]),
            issuer=str(claims["iss"]),
            claims=claims,
            votes=tuple(
                Vote(Actor.parse(vote["voted_by"]), instant(vote["voted_at"])) for vote in claims.get("votes") or ()
            ),
        )
