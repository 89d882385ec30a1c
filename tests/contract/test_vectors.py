"""The agent's and the suite's own verification against fixed vectors. Needs no server."""

import base64
import copy
import datetime
import json
import types

import http_message_signatures.signatures
import httpx
import pytest
import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent import Unverified, action_digest, verify_response
from conftest import VECTORS
from support import BrokenChain, sha256, verify_chain

SIGNATURES = json.loads((VECTORS / "response-signatures.json").read_text())
DIGESTS = json.loads((VECTORS / "action-digests.json").read_text())
CHAIN = json.loads((VECTORS / "chain.json").read_text())
DECISIONS = json.loads((VECTORS / "decisions.json").read_text())

by_name = pytest.mark.parametrize("vector", SIGNATURES, ids=lambda vector: vector["name"])


@pytest.fixture
def set_clock(monkeypatch):
    """Moves the verifier's clock to a Unix time."""

    def move(seconds: int) -> None:
        class Frozen(datetime.datetime):
            @classmethod
            def now(cls, tz=None):
                return datetime.datetime.fromtimestamp(seconds, tz)

        frozen = types.SimpleNamespace(datetime=Frozen, timedelta=datetime.timedelta, timezone=datetime.timezone)
        monkeypatch.setattr(http_message_signatures.signatures, "datetime", frozen)
        monkeypatch.setattr("agent.time.time", lambda: seconds)

    return move


def response_of(vector: dict, **changes) -> httpx.Response:
    asked, answered = vector["request"], vector["response"]
    request = httpx.Request(
        changes.get("method", asked["method"]), asked["url"], headers=changes.get("request_headers", asked["headers"])
    )
    headers = {"content-type": answered["content_type"]} | vector["expected"] | changes.get("headers", {})
    return httpx.Response(
        changes.get("status", answered["status"]),
        headers={name: value for name, value in headers.items() if name != "signature_base"},
        content=changes.get("body", answered["body"].encode()),
        request=request,
    )


def verify(vector: dict, key_id: str | None = None, secret: bytes | None = None, **changes):
    return verify_response(
        response_of(vector, **changes),
        key_id or vector["key_id"],
        secret or base64.b64decode(vector["secret_base64"]),
        with_nonce=bool(vector["request"]["headers"]),
    )


@by_name
def test_a_signed_response_verifies(vector, set_clock):
    set_clock(vector["created"])
    result = verify(vector)
    base = "\n".join(f"{component}: {value}" for component, value in result.covered_components.items())
    assert base == vector["expected"]["signature_base"]
    assert result.nonce == vector["nonce"]
    assert result.body == vector["response"]["body"].encode()



@by_name
@pytest.mark.parametrize("change", [
    {"status": 299},
    {"method": "PUT"},
    {"headers": {"content-type": "text/html"}},
    {"headers": {"signature": "relaytrace=:AAAA:"}},
    {"headers": {"signature-input": ""}},
    {"secret": b"another secret, 32 bytes long..."},
    {"key_id": "another-key"},
], ids=str)
def test_a_changed_response_is_refused(vector, change, set_clock):
    set_clock(vector["created"])
    with pytest.raises(Unverified):
        verify(vector, **change)


@by_name
def test_every_changed_byte_of_the_body_is_refused(vector, set_clock):
    set_clock(vector["created"])
    body = vector["response"]["body"].encode()
    for position in range(len(body)):
        changed = body[:position] + bytes([body[position] ^ 1]) + body[position + 1:]
        with pytest.raises(Unverified):
            verify(vector, body=changed)


@by_name
def test_a_body_with_a_matching_but_unsigned_digest_is_refused(vector, set_clock):
    set_clock(vector["created"])
    forged = base64.b64encode(sha256(b"{}")).decode()
    with pytest.raises(Unverified):
        verify(vector, body=b"{}", headers={"content-digest": f"sha-256=:{forged}:"})


@by_name
@pytest.mark.parametrize("late_seconds", [-29, -8, 60, 89])
def test_clocks_may_differ_by_30_seconds(vector, late_seconds, set_clock):
    set_clock(vector["created"] + late_seconds)
    verify(vector)


@by_name
@pytest.mark.parametrize(("late_seconds", "named"), [
    (-3600, "3600 s behind"), (-45, "45 s behind"), (-31, "31 s behind"), (91, "91 s ahead of"), (3600, "3600 s ahead of"),
])
def test_a_response_of_another_time_is_refused_and_the_clock_is_named(vector, late_seconds, named, set_clock):
    set_clock(vector["created"] + late_seconds)
    with pytest.raises(Unverified, match=f"clock is {named}"):
        verify(vector)


def test_an_answer_to_another_question_is_refused(set_clock):
    vector = SIGNATURES[0]
    set_clock(vector["created"])
    with pytest.raises(Unverified):
        verify(vector, request_headers={"relaytrace-nonce": "another-nonce-00001"})


def test_an_answer_without_our_nonce_is_refused_where_we_sent_one(set_clock):
    vector = SIGNATURES[2]
    set_clock(vector["created"])
    response = response_of(vector, request_headers={"relaytrace-nonce": "c2VlZC1ub25jZS0wMDAx"})
    with pytest.raises(Unverified):
        verify_response(response, vector["key_id"], base64.b64decode(vector["secret_base64"]))


@by_name
def test_a_signature_for_another_purpose_is_refused(vector, set_clock):
    set_clock(vector["created"])
    retagged = vector["expected"]["signature-input"].replace("relaytrace-response", "another-purpose")
    with pytest.raises(Unverified):
        verify(vector, headers={"signature-input": retagged})


@pytest.mark.parametrize("vector", DIGESTS, ids=lambda vector: vector["action"]["type"])
def test_an_action_has_its_digest(vector):
    assert base64.b64encode(rfc8785.dumps(vector["action"])).decode() == vector["canonical_utf8_base64"]
    assert action_digest(vector["action"]) == vector["action_digest"]


def test_an_exported_chain_verifies():
    entries = verify_chain(CHAIN, CHAIN["length"], CHAIN["head"])
    assert [entry["kind"] for entry in entries] == ["submitted", "decided", "acknowledged"]


def test_every_changed_byte_of_a_chain_is_found():
    for index, link in enumerate(CHAIN["entries"]):
        stored = base64.b64decode(link["entry"])
        for position in range(len(stored)):
            changed = stored[:position] + bytes([stored[position] ^ 1]) + stored[position + 1:]
            tampered = copy.deepcopy(CHAIN)
            tampered["entries"][index]["entry"] = base64.b64encode(changed).decode()
            with pytest.raises(BrokenChain, match=f"entry {index + 1}: hash"):
                verify_chain(tampered, CHAIN["length"], CHAIN["head"])


def test_a_chain_without_one_of_its_entries_is_found():
    for index in range(CHAIN["length"]):
        tampered = copy.deepcopy(CHAIN)
        del tampered["entries"][index]
        with pytest.raises(BrokenChain):
            verify_chain(tampered, CHAIN["length"], CHAIN["head"])


def test_another_envelope_is_found():
    with pytest.raises(BrokenChain, match="envelope_sha256"):
        verify_chain(CHAIN | {"envelope": "eyB9"}, CHAIN["length"], CHAIN["head"])


def test_a_chain_recomputed_as_a_whole_is_found_by_its_head():
    rewritten = copy.deepcopy(CHAIN)
    previous = sha256(f"relaytrace-chain-v1:{CHAIN['request_id']}".encode())
    for link in rewritten["entries"]:
        stored = base64.b64decode(link["entry"]).replace(b'"approved"', b'"rejected"')
        link["entry"] = base64.b64encode(stored).decode()
        link["prev_hash"] = f"sha256:{previous.hex()}"
        previous = sha256(previous, stored)
        link["hash"] = rewritten["head"] = f"sha256:{previous.hex()}"
    verify_chain(rewritten, rewritten["length"], rewritten["head"])
    with pytest.raises(BrokenChain, match="stated"):
        verify_chain(rewritten, CHAIN["length"], CHAIN["head"])


by_decision = pytest.mark.parametrize("vector", DECISIONS["decisions"], ids=lambda vector: vector["name"])


def private_key(key_id: str) -> Ed25519PrivateKey:
    [key] = [key for key in DECISIONS["keys"] if key["kid"] == key_id]
    return Ed25519PrivateKey.from_private_bytes(base64.urlsafe_b64decode(key["seed"] + "="))


def attested_bytes(entry: dict) -> bytes:
    signed = {name: value for name, value in entry.items() if name not in ("seq", "at", "attestation")}
    return rfc8785.dumps(signed | {"typ": "relaytrace-attestation-v1"})


@by_decision
def test_a_decision_is_attested_by_the_key_that_may_speak_for_its_cause(vector):
    entry = json.loads(base64.b64decode(vector["entry"]))
    attestation, signed = entry["attestation"], attested_bytes(entry)
    assert base64.b64encode(signed).decode() == vector["signed_utf8_base64"]
    assert [key["kid"] for key in DECISIONS["keys"] if entry["cause"] in key["causes"]] == [attestation["kid"]]
    key = private_key(attestation["kid"])
    made = base64.urlsafe_b64encode(key.sign(signed)).rstrip(b"=").decode()
    assert made == attestation["sig"]
    for position in range(len(signed)):
        changed = signed[:position] + bytes([signed[position] ^ 1]) + signed[position + 1:]
        with pytest.raises(InvalidSignature):
            key.public_key().verify(base64.urlsafe_b64decode(made + "=="), changed)


@by_decision
def test_what_an_operator_wrote_has_the_digest_that_the_decision_names(vector):
    asked = DECISIONS["asked_digest"]
    assert action_digest(json.loads(DECISIONS["asked"])) == asked
    entry = json.loads(base64.b64decode(vector["entry"]))
    digests = (entry["action_digest"], entry.get("requested_action_digest"), entry.get("edited"), entry.get("response_digest"))
    if "written" not in vector:
        assert digests == (asked, None, None, None)
        return
    written = f"sha256:{sha256(rfc8785.dumps(json.loads(vector['written']))).hex()}"
    assert written == vector["digest"]
    if entry["outcome"] == "responded":
        assert digests == (asked, None, None, written)
    else:
        assert digests == (written, asked, written != asked, None)
