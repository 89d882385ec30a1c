"""Agents' keys: registration, rotation, revocation, and agents that are switched off."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from agent import Agent
from support import (
    deliver,
    expect,
    expect_problem,
    key_registration,
    keys_path,
    new_agent_id,
    new_private_key,
    pointers,
    public_pem,
    register_agent,
    register_key,
    submit,
    submit_decided,
    wait_until,
)

SOON = 60
"""Seconds within which a revoked key or disabled agent has stopped working everywhere."""


def poll_status(agent: Agent) -> int:
    """How a poll is answered; not verified, since who is refused gets no signature."""
    headers = {"authorization": f"Bearer {agent.token()}"}
    return agent.http.get(f"{agent.path}/decisions/poll", headers=headers).status_code


def set_status(admin, agent: Agent, status: str) -> None:
    expect(admin.call("PATCH", f"/v1/admin/agents/{agent.agent_id}", json={"status": status}), 200)


# ---------------------------------------------------------------- registration


@pytest.mark.parametrize("alg", ["EdDSA", "ES256"])
def test_a_registered_key_gets_its_response_secret(admin, alg):
    agent = register_agent(admin)
    body = key_registration(new_private_key(alg), alg)
    registered = expect(admin.post(keys_path(agent.agent_id), json=body), 201)
    assert registered["agent_id"] == agent.agent_id
    assert (registered["key_id"], registered["alg"]) == (body["key_id"], alg)
    secret = base64.b64decode(registered["response_secret"], validate=True)
    assert len(secret) >= 32
    assert secret != agent.secret


def test_a_repeated_registration_gets_the_same_secret(admin, agent):
    body = key_registration(new_private_key())
    first = expect(admin.post(keys_path(agent.agent_id), json=body), 201)
    again = expect(admin.post(keys_path(agent.agent_id), json=body), 200)
    assert again == first


def test_the_secret_is_not_told_again_once_the_key_was_used(admin, agent):
    expect(agent.submit({}), 422)
    body = key_registration(agent.private_key, key_id=agent.key_id)
    response = wait_until(lambda: (
        answer := admin.post(keys_path(agent.agent_id), json=body)
    ).status_code != 200 and answer)
    expect_problem(response, 409, "conflict")
    assert "response_secret" not in response.text


@pytest.mark.parametrize("alg", ["EdDSA", "ES256"])
def test_another_key_under_the_same_key_id_is_refused(admin, agent, alg):
    body = key_registration(new_private_key())
    expect(admin.post(keys_path(agent.agent_id), json=body), 201)
    other = body | {"alg": alg, "public_key": public_pem(new_private_key(alg))}
    expect_problem(admin.post(keys_path(agent.agent_id), json=other), 409, "conflict")


def test_a_key_id_belongs_to_one_agent(admin, agent):
    other = register_agent(admin)
    body = key_registration(new_private_key(), key_id=other.key_id)
    expect_problem(admin.post(keys_path(agent.agent_id), json=body), 409, "conflict")
    assert poll_status(other) == 200


def private_pem(key) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.mark.parametrize("changes, pointer", [
    ({"public_key": "nonsense"}, "/public_key"),
    ({"public_key": ""}, "/public_key"),
    ({"public_key": 7}, "/public_key"),
    ({"public_key": public_pem(new_private_key())[:60]}, "/public_key"),
    ({"public_key": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"}, "/public_key"),
    ({"public_key": private_pem(new_private_key())}, "/public_key"),
    ({"public_key": public_pem(rsa.generate_private_key(65537, 2048))}, "/public_key"),
    ({"public_key": public_pem(ed448.Ed448PrivateKey.generate())}, "/public_key"),
    ({"public_key": public_pem(new_private_key("ES256"))}, "/public_key"),
    ({"alg": "ES256"}, "/public_key"),
    ({"alg": "ES256", "public_key": public_pem(ec.generate_private_key(ec.SECP384R1()))}, "/public_key"),
    ({"alg": "HS256"}, "/alg"),
    ({"alg": "none"}, "/alg"),
    ({"alg": "RS256"}, "/alg"),
    ({"alg": None}, "/alg"),
    ({"key_id": ""}, "/key_id"),
    ({"key_id": "k" * 129}, "/key_id"),
    ({"key_id": "a b"}, "/key_id"),
    ({"key_id": "a/b"}, "/key_id"),
    ({"key_id": "é"}, "/key_id"),
    ({"response_secret": "AAAA"}, "/response_secret"),
], ids=lambda value: str(value).replace("\n", " ")[:60])
def test_a_bad_key_is_refused(admin, shared_agent, changes, pointer):
    body = key_registration(new_private_key()) | changes
    problem = expect_problem(admin.post(keys_path(shared_agent.agent_id), json=body), 422, "validation-failed")
    allowed = {pointer, "/alg"} if pointer == "/public_key" else {pointer}
    assert pointers(problem) and pointers(problem) <= allowed
    assert poll_status(shared_agent) == 200


def test_a_key_needs_an_agent(admin):
    expect_problem(admin.post(keys_path(new_agent_id()), json=key_registration(new_private_key())), 404, "not-found")


# ---------------------------------------------------------------- rotation and revocation


def test_two_keys_work_side_by_side_until_one_is_revoked(admin, operator, agent):
    newer = register_key(admin, agent.agent_id, "ES256")
    assert newer.secret != agent.secret
    request_id = submit(agent)["request_id"]
    assert expect(newer.view(request_id), 200)["request_id"] == request_id

    revoked = admin.call("DELETE", f"{keys_path(agent.agent_id)}/{agent.key_id}")
    assert revoked.status_code == 204 and revoked.content == b""
    wait_until(lambda: poll_status(agent) == 401, timeout=SOON)

    expect(operator.decide(request_id, "approve"), 201)
    delivery = deliver(newer, request_id)
    expect(newer.acknowledge(delivery), 200)
    assert poll_status(agent) == 401


def test_a_revoked_key_is_never_used_again(admin, agent):
    register_key(admin, agent.agent_id)
    assert admin.call("DELETE", f"{keys_path(agent.agent_id)}/{agent.key_id}").status_code == 204
    wait_until(lambda: poll_status(agent) == 401, timeout=SOON)
    for key in (agent.private_key, new_private_key()):
        body = key_registration(key, key_id=agent.key_id)
        expect_problem(admin.post(keys_path(agent.agent_id), json=body), 409, "conflict")
    assert poll_status(agent) == 401


def test_a_key_that_is_not_there_cannot_be_revoked(admin, agent):
    other = register_agent(admin)
    for agent_id, key_id in ((agent.agent_id, "unknown"), (new_agent_id(), "unknown"), (agent.agent_id, other.key_id)):
        expect_problem(admin.call("DELETE", f"{keys_path(agent_id)}/{key_id}"), 404, "not-found")
    assert poll_status(other) == 200


def test_a_disabled_agent_stops_working_until_it_is_enabled(admin, agent, operator):
    request_id = submit_decided(agent, operator)["request_id"]
    set_status(admin, agent, "disabled")
    wait_until(lambda: poll_status(agent) == 401, timeout=SOON)
    set_status(admin, agent, "active")
    wait_until(lambda: poll_status(agent) == 200, timeout=SOON)
    assert expect(agent.view(request_id), 200)["decision"]["outcome"] == "approved"


def test_revocation_touches_one_agent_only(admin, agent):
    other = register_agent(admin)
    assert admin.call("DELETE", f"{keys_path(agent.agent_id)}/{agent.key_id}").status_code == 204
    wait_until(lambda: poll_status(agent) == 401, timeout=SOON)
    assert poll_status(other) == 200
