"""Bearer keys: opaque secrets that an agent sends as they are."""

import base64
import hashlib
import os
import re
import secrets
from datetime import datetime, timedelta, timezone
from pathlib import Path

import psycopg
import pytest

from agent import Agent, sign_token
from support import (
    deliver,
    expect,
    expect_problem,
    key_registration,
    keys_path,
    new_envelope,
    new_key_id,
    new_private_key,
    pointers,
    public_pem,
    register_agent,
    submit,
    submit_decided,
    wait_until,
)


class BearerAgent(Agent):
    """The same agent with a key that is sent, not signed with."""

    def __init__(self, http, registered: dict):
        super().__init__(http, registered["agent_id"], registered["key_id"], None, registered["response_secret"])
        self.bearer = registered["token"]

    def token(self, lifetime: int = 300) -> str:
        return self.bearer


def bearer_registration(**changes) -> dict:
    return {"key_id": new_key_id(), "alg": "bearer"} | changes


def register_bearer(admin, agent_id: str, **changes) -> BearerAgent:
    registered = expect(admin.post(keys_path(agent_id), json=bearer_registration(**changes)), 201)
    return BearerAgent(admin.http, registered)


def status_with(http, token: str, agent: Agent) -> int:
    headers = {"authorization": f"Bearer {token}"}
    return http.get(f"{agent.path}/decisions/poll", headers=headers).status_code


@pytest.fixture
def bearer(admin, agent) -> BearerAgent:
    return register_bearer(admin, agent.agent_id)


@pytest.mark.parametrize("key_id", ["k", "a_b", "_-_", "..", "k" * 100])
def test_the_token_is_rtk_the_key_id_and_43_characters(admin, agent, key_id):
    key_id = f"{key_id}-{secrets.token_hex(8)}_"
    registered = expect(admin.post(keys_path(agent.agent_id), json=bearer_registration(key_id=key_id)), 201)
    assert re.fullmatch(rf"rtk_{re.escape(key_id)}_[A-Za-z0-9_-]{{43}}", registered["token"])
    assert len(base64.b64decode(registered["response_secret"], validate=True)) >= 32
    assert (registered["agent_id"], registered["key_id"], registered["alg"]) == (agent.agent_id, key_id, "bearer")
    assert registered["scopes"] == ["ask", "execute"]
    submit(BearerAgent(admin.http, registered))


def test_a_whole_handoff_with_signed_responses(operator, bearer):
    request_id = submit_decided(bearer, operator)["request_id"]
    decision = deliver(bearer, request_id)
    assert decision["outcome"] == "approved"
    assert expect(bearer.acknowledge(decision), 200)["state"] == "acknowledged"
    assert expect(bearer.view(request_id), 200)["decision"]["outcome"] == "approved"


def test_the_answer_is_repeated_until_the_first_use_and_never_after(admin, agent):
    body = bearer_registration()
    first = expect(admin.post(keys_path(agent.agent_id), json=body), 201)
    assert expect(admin.post(keys_path(agent.agent_id), json=body), 200) == first
    submit(BearerAgent(admin.http, first))
    again = admin.post(keys_path(agent.agent_id), json=body)
    expect_problem(again, 409, "conflict")
    assert first["token"] not in again.text and first["response_secret"] not in again.text


def test_a_token_of_another_secret_is_refused_and_no_use(admin, agent):
    body = bearer_registration()
    registered = expect(admin.post(keys_path(agent.agent_id), json=body), 201)
    token, other = registered["token"], register_bearer(admin, register_agent(admin).agent_id)
    wrong = [
        token[:-1] + ("A" if token[-1] != "A" else "B"),
        token[:-43] + other.bearer[-43:],
        token[:-43] + secrets.token_urlsafe(32),
        token + "A",
        token[:-1],
        token[:-44] + token[-43:],
        token.upper(),
        "rtk_" + token,
        token[4:],
        "rtk_",
    ]
    for bad in wrong:
        assert status_with(admin.http, bad, agent) == 401, bad
    assert expect(admin.post(keys_path(agent.agent_id), json=body), 200) == registered
    assert status_with(admin.http, token, agent) == 200


def test_a_jwt_whose_kid_names_a_bearer_key_is_refused(http, agent, bearer):
    expect(bearer.submit(new_envelope(agent.agent_id)), 201)
    for key, alg in [(agent.private_key, "EdDSA"), (new_private_key("ES256"), "ES256"), (bearer.bearer, "HS256")]:
        assert status_with(http, sign_token(agent.agent_id, bearer.key_id, key, alg), agent) == 401


def test_a_bearer_token_that_names_a_signing_key_is_refused(http, agent):
    spki = base64.urlsafe_b64encode(hashlib.sha256(public_pem(agent.private_key).encode()).digest()).decode()[:43]
    assert status_with(http, f"rtk_{agent.key_id}_{spki}", agent) == 401


def test_a_bearer_key_speaks_for_its_own_agent_only(admin, bearer):
    other = register_agent(admin)
    expect_problem(bearer.submit(new_envelope(other.agent_id)), 403, "forbidden")
    assert status_with(admin.http, bearer.bearer, other) == 403


def test_a_revoked_bearer_key_stops_working(admin, agent, bearer):
    submit(bearer)
    assert admin.call("DELETE", f"{keys_path(agent.agent_id)}/{bearer.key_id}").status_code == 204
    wait_until(lambda: status_with(admin.http, bearer.bearer, agent) == 401, timeout=60)
    assert status_with(admin.http, agent.token(), agent) == 200


def test_a_key_stops_working_when_it_expires(admin, agent):
    expires_at = (datetime.now(timezone.utc) + timedelta(seconds=4)).isoformat().replace("+00:00", "Z")
    bearer = register_bearer(admin, agent.agent_id, expires_at=expires_at)
    assert status_with(admin.http, bearer.bearer, agent) == 200
    wait_until(lambda: status_with(admin.http, bearer.bearer, agent) == 401, timeout=60)


@pytest.mark.parametrize("changes, pointer", [
    ({"public_key": public_pem(new_private_key())}, "/public_key"),
    ({"expires_at": "2020-01-01T00:00:00Z"}, "/expires_at"),
    ({"expires_at": "soon"}, "/expires_at"),
    ({"expires_at": None}, "/expires_at"),
    ({"token": "rtk_mine"}, "/token"),
    ({"key_id": "a/b"}, "/key_id"),
])
def test_a_bad_bearer_key_is_refused(admin, shared_agent, changes, pointer):
    problem = expect_problem(
        admin.post(keys_path(shared_agent.agent_id), json=bearer_registration(**changes)), 422, "validation-failed")
    assert pointers(problem) == {pointer}


def test_a_signing_key_still_needs_its_public_half(admin, shared_agent):
    body = key_registration(new_private_key())
    del body["public_key"]
    problem = expect_problem(admin.post(keys_path(shared_agent.agent_id), json=body), 422, "validation-failed")
    assert pointers(problem) == {"/public_key"}


@pytest.mark.parametrize("changes", [{"scopes": ["ask"]}, {"expires_at": "2100-01-01T00:00:00Z"}])
def test_a_key_id_is_never_another_key(admin, agent, changes):
    body = bearer_registration()
    expect(admin.post(keys_path(agent.agent_id), json=body), 201)
    expect_problem(admin.post(keys_path(agent.agent_id), json=body | changes), 409, "conflict")
    signing = key_registration(new_private_key(), key_id=body["key_id"])
    expect_problem(admin.post(keys_path(agent.agent_id), json=signing), 409, "conflict")


def test_only_the_sha256_of_a_token_is_stored(stack, bearer):
    with psycopg.connect(stack["database_url"]) as connection:
        [(stored, row)] = connection.execute(
            "SELECT public_key, row_to_json(k)::text FROM agent_keys k WHERE key_id = %s", [bearer.key_id]).fetchall()
        logged = connection.execute("SELECT details::text FROM admin_log WHERE subject = %s", [bearer.key_id]).fetchall()
    assert bytes(stored) == hashlib.sha256(bearer.bearer.encode()).digest()
    for text in [row, *(details for (details,) in logged)]:
        assert bearer.bearer[-43:] not in text


def test_a_token_is_never_in_the_log(http, operator, agent, bearer):
    submit_decided(bearer, operator)
    wrong = bearer.bearer[:-1] + ("A" if bearer.bearer[-1] != "A" else "B")
    assert status_with(http, wrong, agent) == 401
    http.post("/v1/hitl/requests", headers={"authorization": f"Bearer {bearer.bearer}"}, content=b"{")
    log = Path(os.environ.get("RELAYTRACE_DEV_JSON", ".local/dev.json")).with_name("relaytrace.log")
    if not log.exists():
        pytest.skip("this stack logs elsewhere")
    text = log.read_text()
    assert agent.agent_id in text
    assert bearer.bearer[-43:-1] not in text and base64.b64encode(bearer.secret).decode() not in text


def test_the_local_agent_has_a_bearer_key(http, stack):
    known = stack["agent"]
    local = BearerAgent(http, {
        "agent_id": known["agent_id"],
        "key_id": known["bearer_token"][len("rtk_"):-44],
        "token": known["bearer_token"],
        "response_secret": known["bearer_response_secret"],
    })
    expect(local.cancel(submit(local)["request_id"]), 200)
