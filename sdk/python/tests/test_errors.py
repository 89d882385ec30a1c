"""Errors that the table of `test_bad_input` has no row for: settings, receipts, other versions, a moment's absence."""

import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

from conftest import Agent, Json, People
from relaytrace import (
    ConfigurationError,
    ContractBroken,
    NotApproved,
    Relay,
    RelayError,
    WrongClock,
    WrongDeployment,
    WrongReceipt,
    WrongUrl,
    verify_receipt,
)

QUICK: Json = {"patience": 2.0, "per_try": 1.0}
SECRET = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I="


class Proxy(httpx.HTTPTransport):
    """Changes what passes."""

    def __init__(self, change: Callable[[httpx.Request, Callable[[httpx.Request], httpx.Response]], httpx.Response]):
        super().__init__()
        self._change = change

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._change(request, super().handle_request)


def through(agent: Agent, change: Any, **options: Any) -> Relay:
    return agent.relay(http_client=httpx.Client(transport=Proxy(change)), **{**QUICK, **options})


def ask_all(relay: Relay) -> RelayError:
    """Every way of asking ends in the same error, and runs nothing."""
    with relay, pytest.raises(RelayError) as caught, relay.ask("a.b", {}, key="k"):
        pytest.fail("ran without an approval")
    assert "Not run" in caught.value.for_model
    return caught.value


@pytest.mark.parametrize("status", [200, 302, 404])
def test_an_address_of_something_else(agent: Agent, status: int) -> None:
    def page(request: httpx.Request, _: Any) -> httpx.Response:
        return httpx.Response(status, html="<h1>hello</h1>", headers={"location": "https://relay.example"})

    for verify in (True, False):
        fault = ask_all(through(agent, page, verify=verify))
        assert isinstance(fault, WrongUrl)


def test_a_signature_of_another_time(agent: Agent) -> None:
    relay = agent.relay(**QUICK)
    token = relay._session.credentials.token(time.time())
    relay._session.now = lambda: time.time() - 3600
    relay._session.credentials.token = lambda _: token  # type: ignore[method-assign, assignment]
    assert isinstance(ask_all(relay), WrongClock)


def test_a_relay_that_was_down_for_a_moment(agent: Agent) -> None:
    calls = []

    def flicker(request: httpx.Request, send: Any) -> httpx.Response:
        calls.append(request)
        if len(calls) < 3:
            raise httpx.ConnectError("refused")
        if len(calls) == 3:
            send(request).read()
            raise httpx.ReadError("cut off")
        answer: httpx.Response = send(request)
        return answer

    with through(agent, flicker, patience=20.0) as relay:
        request = relay.submit("a.b", {})
    assert request.duplicate
    assert len(calls) == 4


def test_a_relay_without_the_contracts_members(agent: Agent) -> None:
    def empty(request: httpx.Request, _: Any) -> httpx.Response:
        return httpx.Response(200, json={"agent_id": agent.agent_id, "client_request_key": "k"})

    assert isinstance(ask_all(through(agent, empty, verify=False)), ContractBroken)


@pytest.mark.parametrize("outcome", ["allowed", "APPROVED", "approved_later", True, None])
def test_an_outcome_of_another_version_is_no_approval(agent: Agent, people: People, outcome: Any) -> None:
    with agent.relay() as relay:
        asked = relay.submit("a.b", {}, key="k")
        people.decide(asked.request_id)

    def rename(request: httpx.Request, send: Any) -> httpx.Response:
        answer = send(request)
        body = json.loads(answer.read())
        if body.get("decision"):
            body["decision"]["outcome"] = outcome
        return httpx.Response(answer.status_code, json=body)

    assert isinstance(ask_all(through(agent, rename, verify=False)), NotApproved)


def test_pinned_keys_and_a_receipt_that_is_not_theirs(agent: Agent, people: People, stack: Json) -> None:
    keys = httpx.get(f"{stack['base_url']}/.well-known/jwks.json").json()
    with agent.relay() as relay:
        asked = relay.submit("a.b", {}, key="k")
        people.decide(asked.request_id)
        decision = relay.request(asked.request_id).decision
    assert decision
    assert decision.receipt
    assert verify_receipt(decision.receipt, keys, "relaytrace-local").request_id == asked.request_id
    with pytest.raises(WrongDeployment):
        verify_receipt(decision.receipt, keys, "another-deployment")
    with pytest.raises(WrongDeployment, match="another deployment"):
        verify_receipt(decision.receipt, {"keys": []})
    head, claims, signature = decision.receipt.split(".")
    with pytest.raises(WrongReceipt):
        verify_receipt(f"{head}.{claims[:-4]}AAAA.{signature}", keys)
    with agent.relay(receipt_keys=keys) as relay:
        assert relay.request(asked.request_id).decision
    assert isinstance(ask_all(agent.relay(receipt_keys={"keys": []})), WrongDeployment)


def test_votes_of_a_receipt_are_of_different_operators_and_end_with_its_decision() -> None:
    key = Ed25519PrivateKey.generate()
    keys = {"keys": [json.loads(OKPAlgorithm.to_jwk(key.public_key())) | {"kid": "k", "use": "sig"}]}
    at = "2026-11-27T10:00:00Z"

    def receipt(*voters: str, outcome: str = "approved") -> str:
        def by(name: str) -> Json:
            return {"kind": "operator", "id": name, "name": None}

        claims = {"iss": "relay", "sub": "r", "iat": 1, "agent_id": "a", "client_request_key": "k", "outcome": outcome}
        claims |= {"action_digest": "d", "decided_by": by("cem"), "decided_at": at}
        claims |= {"votes": [{"voted_by": by(name), "voted_at": at} for name in voters]} if voters else {}
        return jwt.encode(claims, key, algorithm="EdDSA", headers={"kid": "k", "typ": "relaytrace-receipt+jwt"})

    votes = verify_receipt(receipt("ana", "ben", "cem"), keys).votes
    assert [vote.voted_by.id for vote in votes] == ["ana", "ben", "cem"]
    assert verify_receipt(receipt(), keys).votes == ()
    assert len(verify_receipt(receipt("ana", outcome="rejected"), keys).votes) == 1
    for voters in (("ana", "ana", "cem"), ("ana", "ben")):
        with pytest.raises(WrongReceipt):
            verify_receipt(receipt(*voters), keys)


GOOD: Json = {"url": "http://127.0.0.1:1", "token": "rtk_k.1_" + 43 * "x", "agent_id": "a", "response_secret": SECRET}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"url": "relay.example"}, "RELAYTRACE_URL"),
        ({"url": "ftp://relay.example"}, "RELAYTRACE_URL"),
        ({"response_secret": None}, "verify=False"),
        ({"response_secret": "not base64!"}, "RELAYTRACE_RESPONSE_SECRET"),
        ({"token": "rtk_short"}, "RELAYTRACE_TOKEN"),
        ({"token": None}, "RELAYTRACE_KEY_ID"),
        ({"agent_id": None}, "RELAYTRACE_AGENT_ID"),
        ({"token": None, "key_id": "k", "private_key": "/nowhere"}, "RELAYTRACE_PRIVATE_KEY"),
        ({"token": None, "key_id": "k", "private_key": "-----BEGIN x"}, "RELAYTRACE_PRIVATE_KEY"),
        ({"private_key": "-----BEGIN x"}, "RELAYTRACE_TOKEN"),
    ],
)
def test_a_setting_that_cannot_be_used(change: Json, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        Relay(**{**GOOD, **change})


def test_settings_from_the_environment(agent: Agent, stack: Json) -> None:
    environment = {"RELAYTRACE_URL": stack["base_url"]}
    environment |= {f"RELAYTRACE_{name.upper()}": value for name, value in agent.settings.items()}
    with Relay.from_env(environment) as relay:
        assert relay.submit("a.b", {}).agent_id == agent.agent_id
        assert agent.settings["private_key"] not in repr(relay)
    with pytest.raises(ConfigurationError, match="RELAYTRACE_URL"):
        Relay.from_env({})
    with pytest.raises(ConfigurationError, match="verify=False"):
        Relay.from_env({**environment, "RELAYTRACE_RESPONSE_SECRET": ""})
    assert Relay.from_env({**environment, "RELAYTRACE_RESPONSE_SECRET": ""}, verify=False)


@pytest.mark.parametrize("arguments", [{"n": 2**60}, {"x": float("nan")}, {"o": object()}, {"s": "\ud800"}])
def test_arguments_that_json_cannot_carry(arguments: Json) -> None:
    with pytest.raises(ConfigurationError, match="Use strings"):
        Relay(**GOOD).submit("a.b", arguments)
