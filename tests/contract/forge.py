"""Tokens that nobody should accept, and the parts to make them of."""

import base64
import hmac
import json
import time

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature


def b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def compact(header: dict, claims: dict, sign) -> str:
    """A compact JWS of whatever it is given: no library that would refuse to make it."""
    signed = ".".join(b64url(json.dumps(part).encode()) for part in (header, claims))
    return f"{signed}.{b64url(sign(signed.encode()))}"


def unsigned(_: bytes) -> bytes:
    return b""


def with_secret(secret: bytes):
    return lambda data: hmac.digest(secret, data, "sha256")


def with_key(private_key):
    """EdDSA or ES256, as the key is."""
    if not isinstance(private_key, ec.EllipticCurvePrivateKey):
        return private_key.sign

    def sign(data: bytes) -> bytes:
        r, s = decode_dss_signature(private_key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    return sign


def claims_of(agent, **changes) -> dict:
    """The claims of a good token, changed; None leaves one out."""
    now = int(time.time())
    claims = {"iss": agent.agent_id, "sub": agent.agent_id, "aud": "relaytrace", "iat": now, "exp": now + 300}
    return {name: value for name, value in (claims | changes).items() if value is not None}


def header_of(agent, **changes) -> dict:
    """The header of a good token, changed; None leaves one out."""
    header = {"alg": agent.alg, "typ": "JWT", "kid": agent.key_id}
    return {name: value for name, value in (header | changes).items() if value is not None}


def token_with(agent, header: dict | None = None, claims: dict | None = None, key=None) -> str:
    """A token of `agent` with another header, other claims or another key."""
    return compact(
        header_of(agent, **(header or {})), claims_of(agent, **(claims or {})), with_key(key or agent.private_key)
    )
