"""Who the agent is: a bearer key, or a private key that it signs short-lived tokens with (contract, "Tokens")."""

import base64
import binascii
import re
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ._errors import ConfigurationError

_BEARER = re.compile(r"rtk_([A-Za-z0-9._-]{1,128})_[A-Za-z0-9_-]{43}")
_TOKEN_SECONDS = 300
_RENEW_BEFORE_SECONDS = 60


class Credentials(Protocol):
    """What every call carries."""

    @property
    def key_id(self) -> str:
        """The key that answers must be signed for."""

    def token(self, now: float) -> str:
        """The token at this time, in seconds since the epoch."""


@dataclass(frozen=True)
class BearerKey:
    """`rtk_<key_id>_<secret>`: opaque, sent as it is."""

    secret_token: str = field(repr=False)
    key_id: str = field(init=False)

    def __post_init__(self) -> None:
        found = _BEARER.fullmatch(self.secret_token)
        if not found:
            raise ConfigurationError(
                "RELAYTRACE_TOKEN is no bearer key: it begins with rtk_ and has 43 characters at its end"
            )
        object.__setattr__(self, "key_id", found[1])

    def token(self, now: float) -> str:  # noqa: ARG002
        """The key itself."""
        return self.secret_token


class SigningKey:
    """An Ed25519 or P-256 private key. Its tokens live for five minutes."""

    def __init__(self, agent_id: str, key_id: str, private_key: str, audience: str = "relaytrace"):
        self._agent_id = agent_id
        self.key_id = key_id
        self._key, self._alg = _load(private_key)
        self._audience = audience
        self._lock = threading.Lock()
        self._made: tuple[str, float] = ("", 0.0)

    def token(self, now: float) -> str:
        """A token that is good for a minute at least."""
        with self._lock:
            token, until = self._made
            # Also where the clock was set back: `iat` must not lie ahead.
            if not until - _TOKEN_SECONDS <= now < until - _RENEW_BEFORE_SECONDS:
                token, until = self._sign(int(now)), int(now) + _TOKEN_SECONDS
                self._made = (token, until)
            return token

    def _sign(self, now: int) -> str:
        claims = {
            "iss": self._agent_id,
            "sub": self._agent_id,
            "aud": self._audience,
            "iat": now,
            "exp": now + _TOKEN_SECONDS,
        }
        return jwt.encode(claims, self._key, algorithm=self._alg, headers={"kid": self.key_id})


def _load(text: str) -> tuple[Any, str]:
    """The key of a PEM text or of the file at this path, and its algorithm."""
    if not text.lstrip().startswith("-----BEGIN"):
        try:
            text = Path(text).expanduser().read_text()
        except OSError as fault:
            raise ConfigurationError(
                f"RELAYTRACE_PRIVATE_KEY is neither PEM nor a file that can be read: {fault.strerror}"
            ) from None
    try:
        # Environment files often carry the line ends as \n.
        key = load_pem_private_key(text.replace("\\n", "\n").encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigurationError("RELAYTRACE_PRIVATE_KEY is no unencrypted private key in PEM (PKCS#8)") from None
    if isinstance(key, Ed25519PrivateKey):
        return key, "EdDSA"
    if isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1):
        return key, "ES256"
    raise ConfigurationError("RELAYTRACE_PRIVATE_KEY is neither an Ed25519 nor a P-256 key")


def response_secret(text: str) -> bytes:
    """The secret that answers are signed with, from its standard base64."""
    try:
        secret = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if len(secret) < 16:
        raise ConfigurationError(
            "RELAYTRACE_RESPONSE_SECRET is not the standard base64 that the key was registered with"
        )
    return secret
