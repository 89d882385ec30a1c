"""An action, its digest (RFC 8785, SHA-256), and the key that a call is asked under."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import rfc8785

from ._errors import UnsupportedValue
from ._wire import Json

_PLAIN = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ILLEGAL = re.compile(r"[^A-Za-z0-9._:-]")


@dataclass(frozen=True)
class Action:
    """What is about to run: a type and its arguments, as they were when the action was made."""

    type: str
    digest: str
    """`sha256:` and the hexadecimal digest of the canonical form of `{type, arguments}`."""
    text: str = field(repr=False)
    """The arguments as JSON; what the caller does to its own object later changes nothing here."""

    @property
    def arguments(self) -> Json:
        """The arguments, a new object each time."""
        arguments: Json = json.loads(self.text)
        return arguments

    @classmethod
    def make(cls, type: str, arguments: Mapping[str, Any]) -> "Action":
        """The action of these arguments. Raises `UnsupportedValue`."""
        try:
            text = json.dumps(dict(arguments), allow_nan=False)
            canonical = rfc8785.dumps({"type": type, "arguments": json.loads(text)})
        except (TypeError, ValueError, RecursionError) as fault:
            raise UnsupportedValue(
                f"the arguments of {type} cannot be digested: {fault}. Use strings for large or exact numbers, "
                "times and other objects"
            ) from fault
        return cls(type, "sha256:" + hashlib.sha256(canonical).hexdigest(), text)

    @classmethod
    def of(cls, raw: Json) -> "Action":
        """The action that an answer carries."""
        return cls.make(raw["type"], raw["arguments"])


def key_of(*parts: str) -> str:
    """A legal `client_request_key` that the same parts always give. Parts that are short and plain stay readable."""
    plain = [part if _PLAIN.fullmatch(part) else hashlib.sha256(part.encode()).hexdigest()[:32] for part in parts]
    key = ":".join(plain)
    return key if len(key) <= 120 else hashlib.sha256("\0".join(parts).encode()).hexdigest()


def is_legal_key(key: str) -> bool:
    """Whether the contract admits it, with room for the suffix of a repeated question."""
    return 1 <= len(key) <= 125 and not _ILLEGAL.search(key)
