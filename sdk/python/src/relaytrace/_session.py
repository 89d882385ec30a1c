"""What all calls of one client share. No global state: everything is here."""

import os
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ._credentials import BearerKey, Credentials, SigningKey, response_secret
from ._digest import Action, key_of
from ._errors import ConfigurationError
from ._version import __version__
from ._wire import Json

USER_AGENT = f"relaytrace-python/{__version__}"


@dataclass
class Session:
    """One agent at one relay."""

    url: str
    agent_id: str
    credentials: Credentials
    secret: bytes | None = field(repr=False)
    """None: answers are not verified, as the caller said aloud."""
    run_id: str
    patience: float
    per_try: float
    receipt_keys: Json | None = None
    """Pinned keys: then every decision's receipt is verified with them."""
    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    fetched_keys: Json | None = None
    was_answered: bool = False
    asked: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def next_key(self, action: Action) -> str:
        """The key of this call: run, digest, and the ordinal of equal calls in the run."""
        with self.lock:
            self.asked[action.digest] += 1
            ordinal = self.asked[action.digest]
        return key_of(self.run_id, action.digest.removeprefix("sha256:")[:32], str(ordinal))


def make_session(
    url: str,
    *,
    token: str | None,
    agent_id: str | None,
    key_id: str | None,
    private_key: str | None,
    response_secret_text: str | None,
    verify: bool,
    run_id: str | None,
    patience: float,
    per_try: float,
    audience: str,
    receipt_keys: Json | None,
) -> Session:
    """Check everything that was given. Raises `ConfigurationError`."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ConfigurationError(
            f"RELAYTRACE_URL is {url!r}, and no http or https address such as https://relay.example"
        )
    if verify and not response_secret_text:
        raise ConfigurationError(
            "RELAYTRACE_RESPONSE_SECRET is not set, so answers cannot be verified. It was given when the key was "
            "registered; to trust the connection instead, say verify=False"
        )
    if token and private_key:
        raise ConfigurationError(
            "both RELAYTRACE_TOKEN and RELAYTRACE_PRIVATE_KEY are set: unset the one that is not meant"
        )
    credentials: Credentials
    if token:
        credentials = BearerKey(token)
        if not agent_id:
            raise ConfigurationError(
                "RELAYTRACE_AGENT_ID is not set: it names the agent that the bearer key belongs to"
            )
    elif agent_id and key_id and private_key:
        credentials = SigningKey(agent_id, key_id, private_key, audience)
    else:
        given = {"RELAYTRACE_AGENT_ID": agent_id, "RELAYTRACE_KEY_ID": key_id, "RELAYTRACE_PRIVATE_KEY": private_key}
        missing = ", ".join(name for name, value in given.items() if not value)
        raise ConfigurationError(f"there is no key: set RELAYTRACE_TOKEN to a bearer key, or set {missing} as well")
    return Session(
        url=url.rstrip("/"),
        agent_id=agent_id,
        credentials=credentials,
        secret=response_secret(response_secret_text) if verify and response_secret_text else None,
        run_id=run_id or secrets.token_urlsafe(12),
        patience=patience,
        per_try=per_try,
        receipt_keys=receipt_keys,
    )


def from_environment(environment: Mapping[str, str] | None = None) -> dict[str, str | None]:
    """What the variables say, by the names of `make_session`; an empty one counts as unset."""
    known = os.environ if environment is None else environment

    def read(name: str) -> str | None:
        return known.get(f"RELAYTRACE_{name}", "").strip() or None

    url = read("URL")
    if url is None:
        raise ConfigurationError("RELAYTRACE_URL is not set: the relay's address, such as http://127.0.0.1:8080")
    return {
        "url": url,
        "token": read("TOKEN"),
        "agent_id": read("AGENT_ID"),
        "key_id": read("KEY_ID"),
        "private_key": read("PRIVATE_KEY"),
        "response_secret": read("RESPONSE_SECRET"),
    }
