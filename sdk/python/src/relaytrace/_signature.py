"""Whether a response was signed for this very request and these bytes (contract, "Signed responses"; RFC 9421)."""

import base64
import hashlib
from dataclasses import dataclass
from datetime import timedelta

from http_message_signatures import (
    HTTPMessageSignaturesException,
    HTTPMessageVerifier,
    MappingKeyResolver,
    algorithms,
)

from ._errors import ClockSkew, Unverified, WrongSecret
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
    """Raise `Unverified`, `WrongSecret` or `ClockSkew` unless `received` answers `sent`."""
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
        if _names_key(received, key_id) and _digest_holds(received):
            raise WrongSecret(
                "the answer is signed with another secret: RELAYTRACE_RESPONSE_SECRET is not that of this key, or "
                "the answer was changed on its way"
            ) from fault
        raise Unverified(f"the answer ({received.status}) does not verify: {fault}") from fault
    _check_times(result.parameters, now)


def _check_times(parameters: dict[str, int | str], now: float) -> None:
    created, expires = parameters.get("created"), parameters.get("expires")
    if not isinstance(created, int) or not isinstance(expires, int) or not 0 <= expires - created <= _LIFETIME_SECONDS:
        raise Unverified("the signature of the answer says no time, or one that is too long")
    if not created - LEEWAY_SECONDS <= now <= expires + LEEWAY_SECONDS:
        raise ClockSkew(round(now - created))


def _names_key(received: Received, key_id: str) -> bool:
    return f';keyid="{key_id}";' in (received.header("signature-input") or "") + ";"


def _digest_holds(received: Received) -> bool:
    """Whether the body is the one that its own digest names: then it is the secret that differs."""

    digest = base64.b64encode(hashlib.sha256(received.body).digest()).decode()
    return f"sha-256=:{digest}:" in (received.header("content-digest") or "")
