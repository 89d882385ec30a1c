"""What can be wrong between an agent and its relay, as one table.

Each row is a typed error that says what to do; nothing runs, and no approval is used. The relay is the real one, and
every request of the agent is approved as soon as it is asked. A small server between them tells the lies.
`sdk/typescript` has the same rows.
"""

import base64
import hashlib
import json
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from conftest import Agent, Json, People, approve, new_agent
from liar import Asked, Lie, Told, lying
from relaytrace import (
    NotApproved,
    OtherAnswer,
    Relay,
    RelayError,
    TooSlow,
    Unavailable,
    UnknownOutcome,
    Unreachable,
    Unverified,
    WrongClock,
    WrongDeployment,
    WrongKey,
    WrongSecret,
    WrongUrl,
)

ACTION = ("refund.create", {"amount": "12.40"})
IMPATIENT: Json = {"patience": 2.0, "per_try": 1.0}


@dataclass
class Setting:
    """Where a row is played."""

    agent: Agent
    people: People
    url: str
    opened: ExitStack

    def between(self, lie: Lie, **options: Any) -> Json:
        """Settings of a client with the liar between it and the relay."""
        return {"url": self.opened.enter_context(lying(self.url, lie)), **options}


Row = Callable[[Setting], Json]


def nothing_listens(_: Setting) -> Json:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return {"url": f"http://127.0.0.1:{server.getsockname()[1]}"}


def unknown_host(_: Setting) -> Json:
    return {"url": "http://relay.invalid"}


def tls_where_there_is_none(setting: Setting) -> Json:
    return {"url": setting.url.replace("http:", "https:")}


def wrong_path(setting: Setting) -> Json:
    return {"url": f"{setting.url}/elsewhere"}


def a_page(setting: Setting) -> Json:
    return setting.between(lambda *_: Told(200, {"content-type": "text/html"}, b"<h1>hello</h1>"))


def a_sign_in(setting: Setting) -> Json:
    return setting.between(lambda *_: Told(302, {"location": "https://sso.example/"}))


def unknown_key(_: Setting) -> Json:
    return {"key_id": "k-of-another-deployment"}


def bearer_key_of_another_deployment(_: Setting) -> Json:
    return {"token": f"rtk_k-of-another_{secrets.token_hex(21)}x", "key_id": None, "private_key": None}


def another_private_key(_: Setting) -> Json:
    key = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return {"private_key": key.decode()}


def disabled_agent(setting: Setting) -> Json:
    other = new_agent(setting.agent.stack, setting.people)
    setting.people.admin("PATCH", f"/v1/admin/agents/{other.agent_id}", {"status": "disabled"})
    return other.settings


def secret_of_another_key(_: Setting) -> Json:
    return {"response_secret": base64.b64encode(secrets.token_bytes(32)).decode()}


def answers_of_another_deployment(setting: Setting) -> Json:
    """It knows this agent's name, too, and signs for its own key."""
    other = new_agent(setting.agent.stack, setting.people)
    token = Relay(setting.url, **other.settings)._session.credentials.token(time.time())

    def lie(asked: Asked, ask: Callable[[Asked], Told]) -> Told:
        return ask(replace(asked, headers={**asked.headers, "authorization": f"Bearer {token}"}))

    return setting.between(lie)


def away_behind_a_gateway(setting: Setting) -> Json:
    return setting.between(lambda *_: Told(502, {"content-type": "text/html"}, b"bad gateway"))


def too_many_calls(setting: Setting) -> Json:
    return setting.between(lambda *_: Told(429, {"content-type": "text/plain", "retry-after": "1"}, b"slow down"))


def slow(setting: Setting) -> Json:
    end = threading.Event()
    setting.opened.callback(end.set)

    def lie(*_: object) -> Told:
        end.wait(30)
        return Told(None)

    return setting.between(lie)


def cut_off(setting: Setting) -> Json:
    return setting.between(lambda *_: Told(None))


def endless(setting: Setting) -> Json:
    return setting.between(lambda *_: Told(200, {"content-type": "application/json"}, b" " * (5 << 20)))


def forged(body: bytes) -> bytes:
    """The answer to a submission as an approval."""
    answer = json.loads(body)
    answer["status"] = "decided"
    answer["decision"] = {
        **{name: answer.get(name) for name in ("request_id", "client_request_key", "action_digest")},
        "outcome": "approved",
        "cause": "operator",
        "decided_at": answer.get("created_at"),
        "decided_by": {"kind": "operator", "id": "maria"},
        "chain": {"length": 2, "head": answer.get("action_digest")},
        "receipt": "a.b.c",
    }
    return json.dumps(answer).encode()


def unsigned_approval(setting: Setting) -> Json:
    def lie(asked: Asked, ask: Callable[[Asked], Told]) -> Told:
        told = ask(asked)
        return Told(told.status, {"content-type": "application/json"}, forged(told.body))

    return setting.between(lie)


def changed_to_an_approval(setting: Setting) -> Json:
    def lie(asked: Asked, ask: Callable[[Asked], Told]) -> Told:
        told = ask(asked)
        return replace(told, body=forged(told.body))

    return setting.between(lie)


def changed_with_its_digest(setting: Setting) -> Json:
    def lie(asked: Asked, ask: Callable[[Asked], Told]) -> Told:
        told = ask(asked)
        body = forged(told.body)
        digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
        return replace(told, body=body, headers={**told.headers, "content-digest": f"sha-256=:{digest}:"})

    return setting.between(lie)


def an_older_answer(setting: Setting) -> Json:
    kept: list[Told] = []

    def lie(asked: Asked, ask: Callable[[Asked], Told]) -> Told:
        kept.append(ask(asked))
        return kept[0] if len(kept) > 1 else Told(503)

    return setting.between(lie)


def an_answer_for_another_request(setting: Setting) -> Json:
    """Signed for this very call: the proxy has sent the nonce of one question with the path of another."""
    with setting.agent.relay() as relay:
        other = relay.submit(*ACTION, key="other")
        setting.people.decide(other.request_id)

    def lie(asked: Asked, ask: Callable[[Asked], Told]) -> Told:
        head, _, last = asked.path.rpartition("/requests/")
        if not head or "/" in last:
            return ask(asked)
        return ask(replace(asked, path=f"{head}/requests/{other.request_id}"))

    return setting.between(lie)


def an_outcome_of_another_version(setting: Setting) -> Json:
    def lie(asked: Asked, ask: Callable[[Asked], Told]) -> Told:
        told = ask(asked)
        return replace(told, body=told.body.replace(b'"outcome":"approved"', b'"outcome":"allowed"'))

    return setting.between(lie, verify=False)


def an_approval_of_something_else(setting: Setting) -> Json:
    """Where answers are not verified, digests still are."""

    def lie(asked: Asked, ask: Callable[[Asked], Told]) -> Told:
        told = ask(asked)
        body = json.loads(told.body)
        if decision := body.get("decision"):
            decision["action_digest"] = "sha256:" + 64 * "0"
        return replace(told, body=json.dumps(body).encode())

    return setting.between(lie, verify=False)


TABLE: list[tuple[Row, type[RelayError], str]] = [
    (nothing_listens, Unreachable, "RELAYTRACE_URL"),
    (unknown_host, WrongUrl, "RELAYTRACE_URL"),
    (tls_where_there_is_none, WrongUrl, "RELAYTRACE_URL"),
    (wrong_path, WrongUrl, "RELAYTRACE_URL"),
    (a_page, WrongUrl, "RELAYTRACE_URL"),
    (a_sign_in, WrongUrl, "sso.example.*RELAYTRACE_URL"),
    (unknown_key, WrongKey, "k-of-another-deployment.*RELAYTRACE_URL"),
    (bearer_key_of_another_deployment, WrongKey, "RELAYTRACE_URL"),
    (another_private_key, WrongKey, "RELAYTRACE_URL"),
    (disabled_agent, WrongKey, "disabled"),
    (secret_of_another_key, WrongSecret, "RELAYTRACE_RESPONSE_SECRET"),
    (answers_of_another_deployment, WrongDeployment, "RELAYTRACE_URL"),
    (away_behind_a_gateway, Unavailable, "502"),
    (too_many_calls, Unavailable, "429"),
    (slow, TooSlow, "in time"),
    (cut_off, Unreachable, "RELAYTRACE_URL"),
    (endless, Unreachable, "bytes"),
    (unsigned_approval, Unverified, "not signed"),
    (changed_to_an_approval, Unverified, "changed"),
    (changed_with_its_digest, WrongSecret, "changed on its way"),
    (an_older_answer, WrongSecret, "changed on its way"),
    (an_answer_for_another_request, OtherAnswer, "another request"),
    (an_outcome_of_another_version, UnknownOutcome, "update"),
    (an_approval_of_something_else, OtherAnswer, "digest"),
]


SHORT = {unsigned_approval, secret_of_another_key, nothing_listens}


@pytest.mark.parametrize(
    ("row", "kind", "says"),
    [pytest.param(*one, id=one[0].__name__, marks=pytest.mark.short if one[0] in SHORT else ()) for one in TABLE],
)
async def test_what_is_wrong_is_said_and_nothing_runs(
    agent: Agent, people: People, row: Row, kind: type[RelayError], says: str
) -> None:
    url = str(agent.stack["base_url"])
    with ExitStack() as opened:
        options = {"url": url, **agent.settings, **IMPATIENT, **row(Setting(agent, people, url, opened))}
        with people.deciding(agent, approve):
            with Relay(**options) as relay, pytest.raises(RelayError, match=says) as caught:
                with relay.ask(*ACTION):
                    pytest.fail("ran without an approval")
            with pytest.raises(RelayError) as caught_:
                async with agent.async_relay(**options) as relay_, relay_.ask(*ACTION):
                    pytest.fail("ran without an approval")
        for fault in (caught.value, caught_.value):
            assert type(fault) is kind, repr(fault)
            assert fault.for_model.startswith("Not run"), fault.for_model
    entries = people.operator("GET", f"/v1/hitl/requests?status=all&agent_id={agent.agent_id}")["items"]
    assert {entry["execution"] for entry in entries} <= {"none", "waiting"}


@pytest.mark.parametrize("ahead", [-3600, 3600])
@pytest.mark.parametrize("bearer", [False, True])
def test_a_clock_that_is_wrong(agent: Agent, people: People, ahead: int, bearer: bool) -> None:
    if bearer:
        body = {"key_id": f"{agent.agent_id}-bearer", "alg": "bearer"}
        made = people.admin("POST", f"/v1/admin/agents/{agent.agent_id}/keys", body, expect=201)
        own = {"agent_id": agent.agent_id, "token": made["token"], "response_secret": made["response_secret"]}
    else:
        own = agent.settings
    relay = Relay(agent.stack["base_url"], **own, **IMPATIENT)
    relay._session.now = lambda: time.time() + ahead
    with relay, pytest.raises(WrongClock, match="set") as caught, relay.ask(*ACTION):
        pytest.fail("ran without an approval")
    assert abs(caught.value.ahead_seconds - ahead) < 120
    assert not isinstance(caught.value, NotApproved)
