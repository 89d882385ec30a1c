"""Receipts, verified offline (contract, "Receipts")."""

import jwt

from ._errors import WrongDeployment, WrongReceipt
from ._models import Decision, Receipt
from ._wire import Json

_TYPE = "relaytrace-receipt+jwt"


def verify_receipt(receipt: str, keys: Json, issuer: str | None = None) -> Receipt:
    """The claims of a receipt by the published keys (`/.well-known/jwks.json`); no connection is needed.

    Raises `WrongReceipt`, or `WrongDeployment` where another deployment signed it.
    `issuer` is the deployment whose receipts count; without it, any that has these keys.
    """
    try:
        header = jwt.get_unverified_header(receipt)
        if header.get("typ") != _TYPE:
            raise WrongReceipt("this is a JWS, and no receipt")
        named = [key for key in keys["keys"] if key.get("kid") == header.get("kid") and key.get("use") != "attestation"]
        if not named:
            raise WrongDeployment(f"no key here is called {header.get('kid')}: is it another deployment's receipt?")
        claims = jwt.decode(
            receipt,
            jwt.PyJWK(named[0]),
            algorithms=["EdDSA"],
            issuer=issuer,
            leeway=30,
            options={"require": ["iss", "sub", "iat"], "verify_aud": False},
        )
        parsed = Receipt.parse(claims)
    except jwt.InvalidIssuerError as fault:
        raise WrongDeployment(f"the receipt is not from the deployment {issuer}") from fault
    except (jwt.PyJWTError, KeyError, TypeError, ValueError) as fault:
        raise WrongReceipt(f"the receipt does not verify: {fault}") from fault
    _check_votes(parsed)
    return parsed


def _check_votes(receipt: Receipt) -> None:
    """Nobody counts twice, and of an approval the last vote is the decision."""
    voters = [vote.voted_by.id for vote in receipt.votes]
    if len(set(voters)) != len(voters):
        raise WrongReceipt("the receipt lists somebody twice among its voters")
    if voters and receipt.outcome == "approved" and receipt.votes[-1].voted_by != receipt.decided_by:
        raise WrongReceipt("the receipt's last vote is not its decision")


def check_decision(decision: Decision, keys: Json, issuer: str | None = None) -> Receipt:
    """The receipt of a decision, after making sure that it is about that decision."""
    if decision.receipt is None:
        raise WrongReceipt(f"the decision on request {decision.request_id} has no receipt")
    receipt = verify_receipt(decision.receipt, keys, issuer)
    for member in ("request_id", "client_request_key", "outcome", "action_digest"):
        stated, decided = getattr(receipt, member), getattr(decision, member)
        if stated != decided:
            raise WrongReceipt(f"the receipt's {member} is {stated}, the decision's {decided}")
    return receipt
