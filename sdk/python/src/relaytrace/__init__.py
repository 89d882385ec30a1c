"""RelayTrace: ask a person before an AI agent acts.

```python
from relaytrace import Relay, Rejected, TimedOut

relay = Relay.from_env()
with relay.ask("refund.create", {"customer": "88213", "amount": "1240.00"}, title="Refund 1,240 EUR") as permit:
    refund(**permit.arguments)
```

The block runs only under an approval that is signed, that is for exactly these arguments, and that this very block has
used up; its end is the outcome on record. Anything else is an exception, and says what to do.
"""

from ._async_relay import AsyncRelay
from ._errors import (
    AlreadyUsed,
    Cancelled,
    ConfigurationError,
    ContractBroken,
    Frozen,
    KeyReused,
    NoAnswer,
    NotApproved,
    OtherAnswer,
    PermitExpired,
    PermitRevoked,
    Refused,
    Rejected,
    RelayError,
    Responded,
    StillPending,
    TimedOut,
    TooSlow,
    Unavailable,
    Undecided,
    UnknownOutcome,
    Unreachable,
    UnsupportedValue,
    Unverified,
    WrongClock,
    WrongDeployment,
    WrongKey,
    WrongReceipt,
    WrongSecret,
    WrongUrl,
)
from ._models import Acknowledged, Actor, Decision, Permit, Problem, Receipt, Request, Vote
from ._permit import PermitInUse
from ._receipt import verify_receipt
from ._relay import Relay
from ._version import __version__

__all__ = [
    "Acknowledged",
    "Actor",
    "AlreadyUsed",
    "AsyncRelay",
    "Cancelled",
    "ConfigurationError",
    "ContractBroken",
    "Decision",
    "Frozen",
    "KeyReused",
    "NoAnswer",
    "NotApproved",
    "OtherAnswer",
    "Permit",
    "PermitExpired",
    "PermitInUse",
    "PermitRevoked",
    "Problem",
    "Receipt",
    "Refused",
    "Rejected",
    "Relay",
    "RelayError",
    "Request",
    "Responded",
    "StillPending",
    "TimedOut",
    "TooSlow",
    "Unavailable",
    "Undecided",
    "UnknownOutcome",
    "Unreachable",
    "UnsupportedValue",
    "Unverified",
    "Vote",
    "WrongClock",
    "WrongDeployment",
    "WrongKey",
    "WrongReceipt",
    "WrongSecret",
    "WrongUrl",
    "__version__",
    "verify_receipt",
]
