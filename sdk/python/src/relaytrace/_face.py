"""What the blocking and the asynchronous client have in common: everything but the waiting."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from typing_extensions import Self

from ._models import Request
from ._session import Session, from_environment, make_session
from ._wire import Json

Client = TypeVar("Client")

PATIENCE_SECONDS = 60.0
PER_TRY_SECONDS = 10.0


class Face(ABC, Generic[Client]):
    """One agent at one relay, over a client of httpx."""

    _session: Session

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        agent_id: str | None = None,
        key_id: str | None = None,
        private_key: str | None = None,
        response_secret: str | None = None,
        verify: bool = True,
        run_id: str | None = None,
        receipt_keys: Json | None = None,
        patience: float = PATIENCE_SECONDS,
        per_try: float = PER_TRY_SECONDS,
        audience: str = "relaytrace",
        http_client: Client | None = None,
    ):
        """Raise `ConfigurationError` where what is given cannot be used. Connects with its first call.

        `agent_id` is the agent; `token` its bearer key, or `key_id` and `private_key` (PEM, or a file's path).
        `response_secret` verifies answers; without it, only `verify=False` starts. `run_id` makes the keys of this
        run's calls, so that a repeated run finds its questions again; `receipt_keys` pins the keys (`jwks.json`) that
        every decision's receipt must verify with. A call is tried for `patience` seconds, each try for `per_try`.
        """
        self._session = make_session(
            url,
            token=token,
            agent_id=agent_id,
            key_id=key_id,
            private_key=private_key,
            response_secret_text=response_secret,
            verify=verify,
            run_id=run_id,
            patience=patience,
            per_try=per_try,
            audience=audience,
            receipt_keys=receipt_keys,
        )
        self._connect(http_client)

    @classmethod
    def from_env(cls, environment: Mapping[str, str] | None = None, **options: Any) -> Self:
        """From `RELAYTRACE_URL`, `RELAYTRACE_RESPONSE_SECRET`, and either `RELAYTRACE_TOKEN` or `RELAYTRACE_AGENT_ID`,
        `RELAYTRACE_KEY_ID` and `RELAYTRACE_PRIVATE_KEY`. `options` are those of `Relay`, and win.
        """
        return cls(**{**from_environment(environment), **options})

    @classmethod
    def _of(cls, session: Session) -> Self:
        """Another face of the same session, with connections of its own."""
        made = cls.__new__(cls)
        made._session = session
        made._connect()
        return made

    @abstractmethod
    def _connect(self, given: Client | None = None) -> None:
        """Take the client that was given, or make one."""

    @property
    def run_id(self) -> str:
        """The run that keys are made for."""
        return self._session.run_id

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._session.url!r}, key_id={self._session.credentials.key_id!r})"


def id_of(request: Request | str) -> str:
    """The id of a request that is given either way."""
    return request if isinstance(request, str) else request.request_id
