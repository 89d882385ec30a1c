"""An agent that asks a person through RelayTrace and acts only on a signed answer.

Written from the contract alone, with off-the-shelf libraries. Beside a running stack:

    python tests/contract/agent.py

submits one request, waits until an operator has decided it, verifies the answer and its
receipt, and acknowledges it. RELAYTRACE_DEV_JSON names the stack's description
(default: .local/dev.json).
"""

import base64
import hashlib
import json
import os
import re
import secrets
import time
import uuid
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import httpx
import jwt
import rfc8785
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from http_message_signatures import (
    HTTPMessageSignaturesException,
    HTTPMessageVerifier,
    MappingKeyResolver,
    VerifyResult,
)
from http_message_signatures.algorithms import HMAC_SHA256

SIGNATURE_TAG = "relaytrace-response"
SIGNED_COMPONENTS = ("@status", "content-type", "content-digest", '"@method";req')
SIGNED_NONCE = '"relaytrace-nonce";req'
LONGEST_WAIT_SECONDS = 20
# How far the two clocks may be apart: as far as the service's for tokens.
CLOCK_SKEW_SECONDS = 30
# A lease of the service and the first pause after it: what is handed to nobody for so long is acknowledged, or another worker's.
PASSED_OVER_SECONDS = 35
# From a deadline to the end of the sweep that decides what nobody has answered.
SWEEP_SECONDS = 120


class Unverified(Exception):
    """The message does not prove that it answers our question: treat it as a lost connection."""


def action_digest(action: dict) -> str:
    """The digest that binds a decision to the exact action (RFC 8785, SHA-256)."""
    return "sha256:" + hashlib.sha256(rfc8785.dumps(action)).hexdigest()


def sign_token(agent_id: str, key_id: str, private_key, alg: str, lifetime: int = 300) -> str:
    """A short-lived token that the agent makes for itself."""
    now = int(time.time())
    claims = {"iss": agent_id, "sub": agent_id, "aud": "relaytrace", "iat": now, "exp": now + lifetime}
    return jwt.encode(claims, private_key, algorithm=alg, headers={"kid": key_id})


def verify_response(
    response: httpx.Response, key_id: str, secret: bytes, with_nonce: bool = True
) -> VerifyResult:
    """Raise `Unverified` unless `response` was signed for this very request and these bytes."""
    verifier = HTTPMessageVerifier(
        signature_algorithm=HMAC_SHA256,
        key_resolver=MappingKeyResolver(public_keys={key_id: secret}, private_keys={}),
    )
    verifier.max_clock_skew = timedelta(seconds=CLOCK_SKEW_SECONDS)
    required = (*SIGNED_COMPONENTS, SIGNED_NONCE) if with_nonce else SIGNED_COMPONENTS
    try:
        [result] = verifier.verify(
            response,
            expect_tag=SIGNATURE_TAG,
            require_components=required,
            max_age=timedelta(seconds=60),
            body=response.content,
        )
    except (HTTPMessageSignaturesException, ValueError) as fault:
        raise Unverified(f"{fault}{clock_difference(response)}") from fault
    return result


def clock_difference(response: httpx.Response) -> str:
    """What the signature says of the two clocks, where that is why it does not count."""
    created = re.search(r";created=(\d{1,12})(;|$)", response.headers.get("signature-input", ""))
    ahead = int(time.time()) - int(created[1]) if created else 0
    if -CLOCK_SKEW_SECONDS <= ahead <= CLOCK_SKEW_SECONDS + 60:
        return ""
    side = "ahead of" if ahead > 0 else "behind"
    return (f": this machine's clock is {abs(ahead)} s {side} the time of the signature, "
            f"and {CLOCK_SKEW_SECONDS} s are allowed")


def check_answer(response: httpx.Response, agent_id: str) -> None:
    """Raise `Unverified` unless the answer is about what was asked.

    The signature covers our nonce, and not path and body, so that proxies may rewrite paths. A proxy that sends our
    nonce with another path gets a signed answer to another question: only the answer's members tell the difference.
    """
    request = response.request
    asked = urlsplit(str(request.url))
    answer = response.json() if response.content else {}

    def compare(member: str, answered, expected) -> None:
        if answered not in expected:
            raise Unverified(f"answers another question: its {member} is {answered}, asked was {', '.join(expected)}")

    if response.status_code >= 400:
        # A proxy may serve the API below a path of its own, and the service does not see that.
        if not urlsplit(answer["instance"]).path.endswith(asked.path) and not asked.path.endswith(answer["instance"]):
            compare("instance", answer["instance"], [asked.path])
        return
    # Who uses another agent's approval is told whose it is: the key of the signature says whom the answer is for.
    if not re.search(r"/v1/hitl/requests/[^/]+/(consume|outcome)$", asked.path):
        compare("agent_id", answer.get("agent_id"), [agent_id])
    ids = re.findall(r"/(?:requests|decisions)/([^/]+)", unquote(asked.path).split("/v1/", 1)[-1])
    ids = [str(uuid.UUID(known)) for known in ids if known != "poll"]
    keys = []
    if asked.path.endswith("/v1/hitl/requests"):
        header = request.headers.get("idempotency-key")
        keys = [json.loads(request.content).get("client_request_key", header)]
    if asked.path.endswith("/poll"):
        ids = [str(uuid.UUID(known)) for known in parse_qs(asked.query).get("request_id", [])]
    # Only a poll's answer names no request of its own.
    about = answer.get("decisions", [answer])
    for item in about + [item["decision"] for item in about if item.get("decision")]:
        if ids:
            compare("request_id", item["request_id"], ids)
        if keys:
            compare("client_request_key", item["client_request_key"], keys)
    if asked.path.endswith("/ack"):
        delivery_id = json.loads(request.content).get("delivery_id")
        if answer["delivery_id"] != delivery_id:
            raise Unverified(f"answers another question: its delivery_id is {answer['delivery_id']}, asked was {delivery_id}")
    if decision := answer.get("decision"):
        for member in ("request_id", "client_request_key"):
            compare(f"decision's {member}", decision[member], [answer[member]])
        compare("decision's requested_action_digest", decision["requested_action_digest"], [answer["action_digest"]])


def verify_receipt(receipt: str, jwks: dict) -> dict:
    """The claims of a receipt, or `Unverified`. Needs no connection: keep `jwks` and check later."""
    try:
        header = jwt.get_unverified_header(receipt)
        if header.get("typ") != "relaytrace-receipt+jwt":
            raise Unverified("this JWS is not a receipt")
        key = jwt.PyJWKSet.from_dict(jwks)[header["kid"]]
        return jwt.decode(
            receipt,
            key,
            algorithms=["EdDSA"],
            options={"require": ["iss", "sub", "iat"], "verify_aud": False},
        )
    except (jwt.PyJWTError, KeyError) as fault:
        raise Unverified(f"receipt: {fault!r}") from fault


class Agent:
    """One agent with one key. Every method returns only what has been verified."""

    def __init__(self, http: httpx.Client, agent_id: str, key_id: str, private_key, response_secret: str,
                 alg: str = "EdDSA"):
        self.http = http
        self.agent_id = agent_id
        self.key_id = key_id
        self.private_key = private_key
        self.alg = alg
        self.secret = base64.b64decode(response_secret, validate=True)
        self.path = f"/v1/agents/{agent_id}"

    def token(self, lifetime: int = 300) -> str:
        return sign_token(self.agent_id, self.key_id, self.private_key, self.alg, lifetime)

    def call(self, method: str, path: str, headers: dict | None = None, **request) -> httpx.Response:
        """One signed-for request; errors come back like any answer, once they verify."""
        ours = {
            "authorization": f"Bearer {self.token()}",
            "relaytrace-nonce": secrets.token_urlsafe(16),
        }
        response = self.http.request(method, path, headers=ours | (headers or {}), **request)
        verify_response(response, self.key_id, self.secret)
        check_answer(response, self.agent_id)
        return response

    def submit(self, envelope: dict | bytes, headers: dict | None = None) -> httpx.Response:
        """Ask. Safe to repeat with the same bytes until it answers."""
        body = envelope if isinstance(envelope, bytes) else json.dumps(envelope).encode()
        return self.call(
            "POST", "/v1/hitl/requests", content=body, headers={"content-type": "application/json"} | (headers or {})
        )

    def poll(self, wait_seconds: int = 0, request_ids=(), **query) -> dict:
        """The decisions that are ready, leased to this caller."""
        query |= {"wait_seconds": wait_seconds}
        if request_ids:
            query["request_id"] = list(request_ids)
        response = self.call(
            "GET", f"{self.path}/decisions/poll", params=query, timeout=wait_seconds + 10
        )
        return response.raise_for_status().json()

    def acknowledge(self, decision: dict, result: str = "accepted", error: dict | None = None) -> httpx.Response:
        """Say what became of a delivered decision: accepted, retry or failed."""
        body = {"delivery_id": decision["delivery_id"], "result": result}
        if error:
            body["error"] = error
        return self.call("POST", f"{self.path}/decisions/{decision['request_id']}/ack", json=body)

    def cancel(self, request_id: str, reason: str | None = None) -> httpx.Response:
        body = {"reason": reason} if reason else {}
        return self.call("POST", f"{self.path}/requests/{request_id}/cancel", json=body)

    def view(self, request_id: str) -> httpx.Response:
        """The request as it now stands, decision included: how a crashed agent recovers."""
        return self.call("GET", f"{self.path}/requests/{request_id}")

    def receipt_keys(self) -> dict:
        return self.http.get("/.well-known/jwks.json").raise_for_status().json()

    def wait_for_decision(self, submission: dict) -> dict:
        """Long-poll until the decision is there; nobody's silence outlasts `respond_by` by much.

        A decision that was acknowledged before, or that another worker has, is not handed out again: it comes back
        without `delivery_id`, and who holds or held its delivery acts on it.
        """
        if "delivery_id" in (submission.get("decision") or {}):
            return submission["decision"]
        request_id = submission["request_id"]
        decided_since = None if submission["status"] == "pending" else time.monotonic()
        while True:
            wait = LONGEST_WAIT_SECONDS if decided_since is None else min(5, PASSED_OVER_SECONDS)
            polled = self.poll(wait, [request_id])
            for decision in polled["decisions"]:
                if decision["client_request_key"] == submission["client_request_key"]:
                    return decision
            state = self.view(request_id).raise_for_status().json()
            swept_at = datetime.fromisoformat(state["respond_by"]).timestamp() + SWEEP_SECONDS
            if state["decision"]:
                decided_since = decided_since or time.monotonic()
                if time.monotonic() - decided_since >= PASSED_OVER_SECONDS:
                    return state["decision"]
            elif time.time() > swept_at:
                raise TimeoutError(f"{request_id} is pending after its deadline: the service's sweep does not run")
            time.sleep(polled.get("retry_after_ms", 0) / 1000)

    def check_decision(self, decision: dict, action: dict, jwks: dict) -> dict:
        """The receipt's claims, after making sure that they are about this decision and `action`."""
        claims = verify_receipt(decision["receipt"], jwks)
        expected = {
            "sub": decision["request_id"],
            "agent_id": self.agent_id,
            "client_request_key": decision["client_request_key"],
            "action_type": action["type"],
            "action_digest": action_digest(action),
            "outcome": decision["outcome"],
            "cause": decision["cause"],
            "chain_head": decision["chain"]["head"],
            "chain_length": decision["chain"]["length"],
        }
        stated = {name: claims.get(name) for name in expected}
        if stated != expected or decision["action_digest"] != expected["action_digest"]:
            raise Unverified(f"the receipt says {stated}, the decision {expected}")
        return claims


def until_answered(ask, attempts: int = 5):
    """Repeat what is safe to repeat (here: everything) while there is no verified answer."""
    for attempt in range(attempts):
        try:
            return ask()
        except (httpx.TransportError, Unverified) as fault:
            lost, wait_seconds = fault, 2**attempt
        except httpx.HTTPStatusError as fault:
            if fault.response.status_code not in (429, 503):
                raise
            lost, wait_seconds = fault, int(fault.response.headers["retry-after"])
        time.sleep(wait_seconds)
    raise lost


def main() -> None:
    stack = json.loads(Path(os.environ.get("RELAYTRACE_DEV_JSON", ".local/dev.json")).read_text())
    known = stack["agent"]
    http = httpx.Client(base_url=stack["base_url"])
    key = load_pem_private_key(known["private_key_pem"].encode(), password=None)
    agent = Agent(http, known["agent_id"], known["key_id"], key, known["response_secret"])

    action = {"type": "refund.create", "arguments": {"customer": "88213", "amount": "12.40", "currency": "EUR"}}
    envelope = {
        "envelope_version": "1",
        "agent_id": agent.agent_id,
        "client_request_key": f"refund-{secrets.token_hex(4)}",
        "priority": "P1",
        "title": "Refund 12.40 EUR to customer 88213",
        "action": action,
        "resume": {"step": "after-approval"},
    }
    submission = until_answered(lambda: agent.submit(envelope).raise_for_status().json())
    print(f"submitted     {submission['request_id']}, respond_by {submission['respond_by']}")
    print(f"waiting       for an operator at {stack['base_url']}/", flush=True)

    decision = until_answered(lambda: agent.wait_for_decision(submission))
    print(f"{decision['outcome']:<13} by {decision['decided_by']['id']} (cause {decision['cause']})")

    claims = agent.check_decision(decision, action, agent.receipt_keys())
    print(f"verified      response signature, and receipt of {claims['iss']}: {claims['action_digest']}")

    if "delivery_id" not in decision:
        print("acknowledged  before: there is nothing to do")
        return
    if decision["outcome"] == "approved":
        print(f"acting        on {action['type']}, resuming with {decision['resume']}")
    acknowledged = until_answered(lambda: agent.acknowledge(decision).raise_for_status().json())
    print(f"{acknowledged['state']:<13} attempt {acknowledged['attempt']}")


if __name__ == "__main__":
    main()
