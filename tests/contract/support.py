"""What the contract tests share: people, agents, problem documents, chains, races and waiting."""

import base64
import hashlib
import json
import secrets
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import httpx
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agent import Agent

REQUESTS = "/v1/hitl/requests"

# ---------------------------------------------------------------- problem documents

CODES = {
    400: {"malformed-json"},
    401: {"unauthenticated"},
    403: {"forbidden", "own-request", "not-assigned"},
    404: {"not-found"},
    405: {"method-not-allowed"},
    409: {"already-decided", "expired", "action-mismatch", "stale-delivery", "conflict", "not-approved",
          "already-consumed", "permit-revoked", "frozen", "permit-expired", "not-consumed", "outcome-conflict",
          "already-voted"},
    412: {"version-changed"},
    413: {"payload-too-large"},
    415: {"unsupported-media-type"},
    422: {"validation-failed", "idempotency-key-reused"},
    428: {"version-required"},
    429: {"rate-limited"},
    500: {"internal"},
    503: {"unavailable"},
}
RETRYABLE = {"rate-limited", "unavailable", "frozen"}
INNARDS = ("sqlx", "panicked at", "error returned from database", "stack backtrace", "serde_json::")


def check_problem_document(response: httpx.Response) -> None:
    """The shape that every error response has, wherever it comes from."""
    said = f"{response.request.method} {response.request.url} -> {response.status_code} {response.text}"
    assert response.headers["content-type"] == "application/problem+json", said
    problem = response.json()
    code = problem["code"]
    assert code in CODES.get(response.status_code, ()), said
    assert problem["type"] == f"urn:relaytrace:problem:{code}", said
    assert problem["status"] == response.status_code, said
    for member in ("title", "detail", "instance", "trace_id"):
        assert isinstance(problem[member], str) and problem[member], f"{member}: {said}"
    assert problem["retryable"] is (code in RETRYABLE), said
    assert problem.get("retry_after_ms", 0) >= 0, said
    for fault in problem.get("errors", []):
        assert fault["pointer"] == "" or fault["pointer"].startswith("/"), said
        assert isinstance(fault["detail"], str) and fault["detail"], said
    assert not [word for word in INNARDS if word in response.text], said
    if response.status_code == 401:
        assert response.headers["www-authenticate"] == "Bearer", said
    if response.status_code == 405:
        assert response.headers["allow"], said
    if response.status_code in (429, 503):
        assert int(response.headers["retry-after"]) >= 0, said


def check_if_error(response: httpx.Response) -> None:
    """Hook of every client in the suite: no error response goes unchecked."""
    if response.status_code >= 400 and response.request.method != "HEAD":
        response.read()
        check_problem_document(response)


def expect(response: httpx.Response, status: int) -> dict:
    assert response.status_code == status, f"{response.status_code} {response.text}"
    return response.json()


def expect_problem(response: httpx.Response, status: int, code: str) -> dict:
    problem = expect(response, status)
    assert problem["code"] == code, response.text
    return problem


def pointers(problem: dict) -> set[str]:
    return {fault["pointer"] for fault in problem["errors"]}


# ---------------------------------------------------------------- people and agents


class Person:
    """An operator or administrator: someone with a token of the configured issuer."""

    def __init__(self, http: httpx.Client, token: str, id: str = "", name: str = ""):
        self.http, self.token, self.id, self.name = http, token, id, name

    def call(self, method: str, path: str, headers: dict | None = None, **request) -> httpx.Response:
        ours = {"authorization": f"Bearer {self.token}"}
        return self.http.request(method, path, headers=ours | (headers or {}), **request)

    def get(self, path: str, **request) -> httpx.Response:
        return self.call("GET", path, **request)

    def post(self, path: str, **request) -> httpx.Response:
        return self.call("POST", path, **request)

    def decide(self, request_id: str, decision: str, **members) -> httpx.Response:
        return self.post(f"{REQUESTS}/{request_id}/decision", json={"decision": decision} | members)

    def detail(self, request_id: str) -> dict:
        return expect(self.get(f"{REQUESTS}/{request_id}"), 200)

    def queue(self, **query) -> dict:
        return expect(self.get(REQUESTS, params=query), 200)


def public_pem(private_key) -> str:
    return private_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def new_private_key(alg: str = "EdDSA"):
    return ed25519.Ed25519PrivateKey.generate() if alg == "EdDSA" else ec.generate_private_key(ec.SECP256R1())


def new_agent_id() -> str:
    return f"t-{secrets.token_hex(8)}"


def new_key_id() -> str:
    return f"k-{secrets.token_hex(8)}"


def key_registration(private_key, alg: str = "EdDSA", **changes) -> dict:
    return {"key_id": new_key_id(), "alg": alg, "public_key": public_pem(private_key)} | changes


def keys_path(agent_id: str) -> str:
    return f"/v1/admin/agents/{agent_id}/keys"


def register_key(admin: Person, agent_id: str, alg: str = "EdDSA") -> Agent:
    """The agent, holding a new key of its own."""
    private_key = new_private_key(alg)
    registered = expect(admin.post(keys_path(agent_id), json=key_registration(private_key, alg)), 201)
    return Agent(admin.http, agent_id, registered["key_id"], private_key, registered["response_secret"], alg)


def register_agent(admin: Person, alg: str = "EdDSA", agent_id: str | None = None) -> Agent:
    agent_id = agent_id or new_agent_id()
    expect(admin.post("/v1/admin/agents", json={"agent_id": agent_id, "name": "Contract test"}), 201)
    return register_key(admin, agent_id, alg)


# ---------------------------------------------------------------- requests and decisions

ACTION = {"type": "refund.create", "arguments": {"customer": "88213", "amount": "1240.00"}}


def new_envelope(agent_id: str, /, **changes) -> dict:
    return {
        "envelope_version": "1",
        "agent_id": agent_id,
        "client_request_key": f"refund-{secrets.token_hex(8)}",
        "priority": "P2",
        "title": "Refund 1,240 EUR to customer 88213",
        "action": ACTION,
    } | changes


def submit(agent: Agent, **changes) -> dict:
    """A new request: what its submission answered."""
    return expect(agent.submit(new_envelope(agent.agent_id, **changes)), 201)


def submit_decided(agent: Agent, operator: Person, **changes) -> dict:
    """A new request that `operator` has already approved."""
    submission = submit(agent, **changes)
    expect(operator.decide(submission["request_id"], "approve"), 201)
    return submission


def deliver(agent: Agent, request_id: str, wait_seconds: int = 5) -> dict:
    """The next delivery of the decision on `request_id`."""
    polled = agent.poll(wait_seconds, [request_id])
    [decision] = polled["decisions"]
    assert decision["request_id"] == request_id
    return decision


def decision_in(body: dict) -> dict:
    """The decision of a body that is one, or has one."""
    return body.get("decision") or body


def assert_nothing_stored(agent: Agent, operator: Person) -> None:
    assert operator.queue(status="all", agent_id=agent.agent_id)["items"] == []


# ---------------------------------------------------------------- times and numbers


def instant(text: str) -> datetime:
    """An RFC 3339 time in UTC."""
    moment = datetime.fromisoformat(text)
    assert moment.utcoffset() == timedelta(0), text
    return moment


def in_seconds(seconds: float) -> str:
    """RFC 3339 for the moment `seconds` from now."""
    moment = datetime.now(timezone.utc) + timedelta(seconds=seconds)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Number(str):
    """A JSON number as it was written."""


def with_literals(text: str | bytes):
    """JSON whose numbers compare by their literals."""
    return json.loads(text, parse_int=Number, parse_float=Number)


# ---------------------------------------------------------------- waiting and racing


def wait_until(condition, timeout: float = 10):
    """The first true value of `condition()`; fails when there is none in time."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.03)
    return value


def race(calls: list) -> list:
    """The results of calls that start together, in their order."""
    start = threading.Barrier(len(calls))

    def run(call):
        start.wait(timeout=30)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


# ---------------------------------------------------------------- chains


class BrokenChain(Exception):
    """A chain that is not what was recorded."""


def until_each_side_wins(play, sides: set, rounds: int = 80) -> None:
    """Plays a race until each side has won it once. `play` gets the seconds by which each of two sides is late."""
    won = set()
    for number in range(rounds):
        head_start = (number % 9 - 4) / 500
        won.add(play(max(0, head_start), max(0, -head_start)))
        if won == sides:
            return
    raise AssertionError(f"of {rounds} races only {won} won any: the other side was never in time")


def check(holds: bool, what: str) -> None:
    if not holds:
        raise BrokenChain(what)


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def verify_chain(export: dict, length: int, head: str) -> list[dict]:
    """The entries of an exported chain, recomputed, and compared with a length and head known otherwise."""
    previous = sha256(f"relaytrace-chain-v1:{export['request_id']}".encode())
    latest = datetime.min.replace(tzinfo=timezone.utc)
    entries = []
    for position, link in enumerate(export["entries"], start=1):
        stored = base64.b64decode(link["entry"], validate=True)
        check(link["prev_hash"] == f"sha256:{previous.hex()}", f"entry {position}: prev_hash")
        previous = sha256(previous, stored)
        check(link["hash"] == f"sha256:{previous.hex()}", f"entry {position}: hash")
        entry = json.loads(stored)
        for member in ("seq", "kind", "at", "actor"):
            check(entry[member] == link[member], f"entry {position}: {member}")
        check(entry["request_id"] == export["request_id"], f"entry {position}: request_id")
        check(entry["seq"] == position, f"entry {position}: seq")
        check(instant(entry["at"]) >= latest, f"entry {position}: time goes backwards")
        latest = instant(entry["at"])
        entries.append(entry)
    check(entries[0]["kind"] == "submitted", "the first entry")
    envelope = base64.b64decode(export["envelope"], validate=True)
    check(entries[0]["envelope_sha256"] == f"sha256:{sha256(envelope).hex()}", "envelope_sha256")
    check(export["length"] == len(entries), "length")
    check(export["head"] == export["entries"][-1]["hash"], "head")
    check(len(entries) >= length, "the chain is shorter than was stated")
    check(export["entries"][length - 1]["hash"] == head, "the head is not the one that was stated")
    return entries


def export_chain(admin: Person, request_id: str) -> dict:
    return expect(admin.get(f"/v1/admin/requests/{request_id}/chain"), 200)


def uuid_spellings(request_id: str) -> list[str]:
    """The usual ways to write one UUID."""
    value = uuid.UUID(request_id)
    return [request_id.upper(), value.hex, value.hex.upper(), f"{{{request_id}}}", value.urn]
