"""One call: sent, verified, and sent again while that may help (contract, "Errors")."""

import json
import random
import secrets
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime

from ._about import About
from ._errors import (
    ContractBroken,
    Frozen,
    KeyReused,
    NoAnswer,
    OtherAnswer,
    Refused,
    RelayError,
    TooSlow,
    Unavailable,
    Unreachable,
    Unverified,
    WrongClock,
    WrongDeployment,
    WrongKey,
    WrongSecret,
    WrongUrl,
)
from ._models import Problem
from ._session import USER_AGENT, Session
from ._signature import LEEWAY_SECONDS, NONCE, verify
from ._wire import Flow, Json, Lost, Received, Send, Sleep

# What is wrong so often will not be right by trying: a key, a secret, a clock, an address.
_HOPELESS_TRIES = 3
_HOPELESS = (OtherAnswer, Unverified, WrongClock, WrongDeployment, WrongKey, WrongSecret, WrongUrl)
# How long an address is tried that has never answered: long enough for a relay that is starting.
_FIRST_CONTACT_SECONDS = 10.0
_MAX_PAUSE_SECONDS = 10.0


@dataclass(frozen=True)
class Call:
    """What is asked."""

    method: str
    path: str
    """Below the relay's address, with its query."""
    about: About
    body: Json | None = None
    waits: float = 0.0
    """How long the relay may wait before it answers."""
    is_open: bool = False
    """Anyone may ask, and the answer is not signed."""
    headers: dict[str, str] = field(default_factory=dict)


def call(session: Session, asked: Call) -> Flow[Json]:
    """The verified body of a 2xx answer. Raises `Refused`, `Frozen` or a `NoAnswer`."""
    started = session.monotonic()
    hopeless = tries = 0
    while True:
        tries += 1
        try:
            return (yield from _once(session, asked))
        except (NoAnswer, _Retryable) as fault:
            last: RelayError = fault.error if isinstance(fault, _Retryable) else fault
            after = fault.after if isinstance(fault, _Retryable) else None
        hopeless += isinstance(last, _HOPELESS)
        pause = random.uniform(0.5, 1) * min(_MAX_PAUSE_SECONDS, 0.1 * 2 ** min(tries, 10))  # noqa: S311
        pause = max(pause, after or 0.0)
        patience = session.patience if session.was_answered else min(session.patience, _FIRST_CONTACT_SECONDS)
        if hopeless >= _HOPELESS_TRIES or session.monotonic() - started + pause > patience + asked.waits:
            raise last
        yield Sleep(pause)


class _Retryable(Exception):
    """An error that the relay said may pass, and when."""

    def __init__(self, error: RelayError, after: float | None):
        self.error, self.after = error, after


def _once(session: Session, asked: Call) -> Flow[Json]:
    send = _request(session, asked)
    received = yield send
    if isinstance(received, Lost):
        raise _lost(session, received)
    if not isinstance(received, Received):
        raise TypeError("a flow was sent something else than a response")
    if asked.is_open:
        if received.status != 200:
            raise WrongUrl(_unsigned(session, received))
        return _parsed(received)
    is_signed = received.header("signature") is not None
    if session.secret is not None:
        try:
            verify(send, received, session.credentials.key_id, session.secret, session.now())
        except Unverified as fault:
            raise (fault if is_signed else _why_unsigned(session, received, fault)) from None
    elif not _is_json(received) or (received.status >= 400 and not _is_problem(received)):
        raise _why_unsigned(session, received, Unverified(_unsigned(session, received)))
    session.was_answered = True
    answer = _parsed(received)
    if received.status >= 400:
        asked.about.check_problem(answer, asked.path)
        raise _refused(session, answer, received, asked)
    asked.about.check(answer)
    return answer


def _request(session: Session, asked: Call) -> Send:
    headers = {"user-agent": USER_AGENT, "accept": "application/json", "accept-encoding": "identity", **asked.headers}
    if not asked.is_open:
        headers["authorization"] = f"Bearer {session.credentials.token(session.now())}"
        headers[NONCE] = secrets.token_urlsafe(16)
    body = None
    if asked.body is not None:
        headers["content-type"] = "application/json"
        body = json.dumps(asked.body, ensure_ascii=False, separators=(",", ":")).encode()
    return Send(asked.method, session.url + asked.path, headers, body, session.per_try + asked.waits)


def _lost(session: Session, lost: Lost) -> NoAnswer:
    if lost.was_slow:
        return TooSlow(
            f"{session.url} did not answer in time ({lost.why}); whether the call had an effect is not known"
        )
    if lost.is_elsewhere:
        return WrongUrl(f"there is no relay at {session.url} ({lost.why}): check scheme and host of RELAYTRACE_URL")
    return Unreachable(f"{session.url} cannot be reached: {lost.why}. Check RELAYTRACE_URL, and that the relay runs")


def _unsigned(session: Session, received: Received) -> str:
    kind = received.header("content-type") or "nothing"
    return f"{session.url} answered {received.status} with {kind}, and no signature"


def _why_unsigned(session: Session, received: Received, fault: Unverified) -> "NoAnswer | _Retryable":
    """What an answer means that the relay has not signed: it is no outcome, whatever it says."""
    if 300 <= received.status < 400:
        where = received.header("location") or "elsewhere"
        return WrongUrl(f"{session.url} redirects to {where}: set RELAYTRACE_URL to where the relay is")
    if received.status == 401:
        return _unauthenticated(session, received)
    if received.status == 429 or received.status >= 500:
        after = received.header("retry-after") or ""
        away = Unavailable(f"{_unsigned(session, received)}: the relay behind that proxy is away or busy")
        return _Retryable(away, float(after) if after.isdigit() else None)
    if received.status in {404, 405} or not _is_json(received):
        return WrongUrl(
            f"{_unsigned(session, received)}: it is no relay, or a proxy answers for it. Check RELAYTRACE_URL"
        )
    return fault


def _unauthenticated(session: Session, received: Received) -> NoAnswer:
    """Why a token was refused, as far as this can be told. A wrong clock is the usual reason for a signed token."""
    date = received.header("date")
    try:
        ahead = session.now() - parsedate_to_datetime(date).timestamp() if date else 0.0
    except ValueError:
        ahead = 0.0
    if abs(ahead) > LEEWAY_SECONDS:
        return WrongClock(round(ahead))
    return WrongKey(
        f"{session.url} does not accept the key {session.credentials.key_id}: it is of another deployment, revoked or "
        "expired, or its agent is disabled. Check RELAYTRACE_URL and the key; an administrator registers a new one"
    )


def _refused(session: Session, answer: Json, received: Received, asked: Call) -> RelayError | _Retryable:
    try:
        problem = Problem.parse(answer)
    except (KeyError, TypeError, ValueError) as fault:
        raise ContractBroken(f"{received.status} with a body that is no problem document: {fault!r}") from fault
    if problem.status == 401:
        return _unauthenticated(session, received)
    if problem.code in {"not-found", "method-not-allowed"} and not asked.about.request_ids:
        return WrongUrl(
            f"the relay has nothing at {answer.get('instance')}: RELAYTRACE_URL must be its address, without "
            "another path"
        )
    if not problem.retryable:
        return KeyReused(problem) if problem.code == "idempotency-key-reused" else Refused(problem)
    if problem.code == "frozen":
        return _Retryable(Frozen(problem.detail), problem.retry_after)
    return _Retryable(Unavailable(f"the relay says {problem}"), problem.retry_after)


def _is_json(received: Received) -> bool:
    return "json" in (received.header("content-type") or "")


def _is_problem(received: Received) -> bool:
    return received.header("content-type") == "application/problem+json"


def _parsed(received: Received) -> Json:
    try:
        answer = json.loads(received.body)
    except (ValueError, RecursionError) as fault:
        raise ContractBroken(f"{received.status} with a body that is no JSON: {fault}") from fault
    if not isinstance(answer, dict):
        raise ContractBroken(f"{received.status} with a body that is no object")
    return answer
