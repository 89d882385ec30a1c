"""Whether a response was signed for this very request and these bytes (contract, "Signed responses"; RFC 9421)."""

import base64
import hashlib
import re
from dataclasses import dataclass
from datetime import timedelta

from http_message_signatures import (
    HTTPMessageSignaturesException,
    HTTPMessageVerifier,
    MappingKeyResolver,
    algorithms,
)

from ._errors import Unverified, WrongClock, WrongDeployment, WrongSecret
from ._wire import Received, Send

NONCE = "relaytrace-nonce"
LEEWAY_SECONDS = 30
_TAG = "relaytrace-response"
_LIFETIME_SECONDS = 60
_COVERED = ("@status", "content-type", "content-digest", '"@method";req', f'"{NONCE}";req')
# Looked at here instead, so that a genuine signature of another time is told from a forged one.
_ANY_TIME = timedelta(days=365 * 50)


@dataclass(frozen=True)
class _Fields:
    """Header lines, as the verifier reads them: each line counts, so that a second value is not looked past."""

    lines: tuple[tuple[str, str], ...]

    def items(self) -> tuple[tuple[str, str], ...]:
        return self.lines


@dataclass(frozen=True)
class _Request:
    method: str
    url: str
    headers: _Fields


@dataclass(frozen=True)
class _Response:
    status_code: int
    headers: _Fields
    request: _Request


def verify(sent: Send, received: Received, key_id: str, secret: bytes, now: float) -> None:
    """Raise `Unverified`, `WrongSecret`, `WrongDeployment` or `WrongClock` unless `received` answers `sent`."""
    if received.header("signature-input") is None or received.header("signature") is None:
        raise Unverified(f"the answer ({received.status}) is not signed: a proxy wrote it, or this is no relay")
    nonce = ((NONCE, sent.headers[NONCE]),)
    message = _Response(received.status, _Fields(received.headers), _Request(sent.method, sent.url, _Fields(nonce)))
    verifier = HTTPMessageVerifier(
        signature_algorithm=algorithms.HMAC_SHA256,
        key_resolver=MappingKeyResolver(public_keys={key_id: secret}, private_keys={}),
    )
    verifier.max_clock_skew = _ANY_TIME
    try:
        [result] = verifier.verify(
            message, expect_tag=_TAG, require_components=_COVERED, max_age=None, body=received.body
        )
    except (HTTPMessageSignaturesException, ValueError) as fault:
        named = _key_named(received)
        if named is not None and named != key_id:
            raise WrongDeployment(
                f"the answer is signed for the key {named}, not for {key_id}: it is not from the relay that issued "
                "this key. Check RELAYTRACE_URL"
            ) from fault
        if named is not None and _digest_holds(received):
            raise WrongSecret(
                "the answer is signed with another secret: RELAYTRACE_RESPONSE_SECRET is not that of this key, or "
                "the answer was changed on its way"
            ) from fault
        raise Unverified(
            f"the answer ({received.status}) does not verify: {fault}. Something between has changed or replaced it"
        ) from fault
    _check_times(result.parameters, now)


def _check_times(parameters: dict[str, int | str], now: float) -> None:
    created, expires = parameters.get("created"), parameters.get("expires")
    if not isinstance(created, int) or not isinstance(expires, int) or not 0 <= expires - created <= _LIFETIME_SECONDS:
        raise Unverified("the signature of the answer says no time, or one that is too long")
    if not created - LEEWAY_SECONDS <= now <= expires + LEEWAY_SECONDS:
        raise WrongClock(round(now - created))


def _key_named(received: Received) -> str | None:
    """The key that the relay says it has signed for."""
    stated = received.header("signature-input") or ""
    found = re.search(r';keyid="([^"]*)"', stated)
    return found[1] if found and f';tag="{_TAG}"' in stated else None


def _digest_holds(received: Received) -> bool:
    """Whether the body is the one that its own digest names: then it is the secret that differs."""

    digest = base64.b64encode(hashlib.sha256(received.body).digest()).decode()
    return f"sha-256=:{digest}:" in (received.header("content-digest") or "")
