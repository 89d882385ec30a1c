"""Onboarding agents, and exporting what happened to a request."""

import base64
import json
import uuid

import pytest

from support import (
    deliver,
    expect,
    expect_problem,
    export_chain,
    new_agent_id,
    new_envelope,
    pointers,
    submit,
    submit_decided,
    verify_chain,
)

AGENTS = "/v1/admin/agents"


def test_an_agent_is_registered(admin):
    agent_id = new_agent_id()
    made = expect(admin.post(AGENTS, json={"agent_id": agent_id, "name": "Billing agent"}), 201)
    assert (made["agent_id"], made["name"]) == (agent_id, "Billing agent")
    seen = expect(admin.get(f"{AGENTS}/{agent_id}"), 200)
    assert (seen["agent_id"], seen["name"], seen["status"]) == (agent_id, "Billing agent", "active")


def test_agents_are_listed(admin, agent):
    """Page by page, where there are pages."""
    query, found = {}, ""
    while True:
        page = admin.get(AGENTS, params=query)
        found += page.text
        if not (cursor := expect(page, 200).get("next_cursor")):
            break
        assert cursor != query.get("cursor"), "the pages do not go on"
        query["cursor"] = cursor
    assert f'"{agent.agent_id}"' in found


def test_an_agents_keys_are_shown_without_their_secrets(admin, agent):
    seen = admin.get(f"{AGENTS}/{agent.agent_id}")
    assert agent.key_id in json.dumps(expect(seen, 200))
    assert "response_secret" not in seen.text
    assert base64.b64encode(agent.secret).decode() not in seen.text


def test_an_agent_id_is_taken_once(admin, agent):
    again = admin.post(AGENTS, json={"agent_id": agent.agent_id, "name": "Another agent"})
    expect_problem(again, 409, "conflict")
    assert expect(admin.get(f"{AGENTS}/{agent.agent_id}"), 200)["name"] != "Another agent"


@pytest.mark.parametrize("agent_id", ["", "Upper", "-lead", "_lead", "a" * 64, "a b", "a.b", "é", 7, None])
def test_a_malformed_agent_id_is_not_registered(admin, agent_id):
    response = admin.post(AGENTS, json={"agent_id": agent_id, "name": "x"})
    assert pointers(expect_problem(response, 422, "validation-failed")) == {"/agent_id"}


@pytest.mark.parametrize("body, pointer", [
    ({"name": "x"}, "/agent_id"),
    ({"agent_id": "t-without-a-name"}, "/name"),
    ({"agent_id": "t-surprising", "name": "x", "surprise": 1}, "/surprise"),
])
def test_a_malformed_registration_is_refused(admin, body, pointer):
    assert pointers(expect_problem(admin.post(AGENTS, json=body), 422, "validation-failed")) == {pointer}


def test_an_agent_is_renamed(admin, agent):
    path = f"{AGENTS}/{agent.agent_id}"
    expect(admin.call("PATCH", path, json={"name": "Renamed"}), 200)
    seen = expect(admin.get(path), 200)
    assert (seen["name"], seen["status"]) == ("Renamed", "active")


@pytest.mark.parametrize("body, pointer", [
    ({"status": "asleep"}, "/status"),
    ({"status": None}, "/status"),
    ({"agent_id": "t-another"}, "/agent_id"),
], ids=str)
def test_a_malformed_change_is_refused(admin, agent, body, pointer):
    response = admin.call("PATCH", f"{AGENTS}/{agent.agent_id}", json=body)
    assert pointers(expect_problem(response, 422, "validation-failed")) == {pointer}
    assert expect(admin.get(f"{AGENTS}/{agent.agent_id}"), 200)["status"] == "active"


def test_an_unknown_agent_is_not_found(admin):
    path = f"{AGENTS}/{new_agent_id()}"
    expect_problem(admin.get(path), 404, "not-found")
    expect_problem(admin.call("PATCH", path, json={"name": "x"}), 404, "not-found")


def test_an_exported_chain_verifies_at_every_stage(admin, agent, operator):
    envelope = new_envelope(agent.agent_id)
    request_id = expect(agent.submit(envelope), 201)["request_id"]
    heads = []

    def stage(*kinds):
        export = export_chain(admin, request_id)
        entries = verify_chain(export, export["length"], export["head"])
        assert tuple(entry["kind"] for entry in entries) == kinds
        heads.append((export["length"], export["head"]))
        for length, head in heads:
            verify_chain(export, length, head)

    stage("submitted")
    expect(operator.decide(request_id, "approve"), 201)
    stage("submitted", "decided")
    delivery = deliver(agent, request_id)
    expect(agent.acknowledge(delivery), 200)
    stage("submitted", "decided", "acknowledged")
    assert (delivery["chain"]["length"], delivery["chain"]["head"]) == heads[1]


def test_an_entry_names_who_did_what(admin, agent, operator):
    submission = submit_decided(agent, operator)
    export = export_chain(admin, submission["request_id"])
    submitted, decided = verify_chain(export, 2, export["head"])
    assert submitted["actor"].items() >= {"kind": "agent", "id": agent.agent_id}.items()
    assert decided["actor"].items() >= {"kind": "operator", "id": operator.id}.items()
    assert (decided["outcome"], decided["cause"], decided["reason"]) == ("approved", "operator", None)
    assert decided["action_digest"] == submission["action_digest"]


def test_a_refused_attempt_leaves_no_entry(admin, agent, operator):
    request_id = submit(agent)["request_id"]
    before = export_chain(admin, request_id)
    expect(operator.decide(request_id, "approve", action_digest="sha256:" + "0" * 64), 409)
    expect(operator.decide(request_id, "reject"), 422)
    assert export_chain(admin, request_id) == before


def test_an_unknown_requests_chain_is_not_found(admin):
    expect_problem(admin.get(f"/v1/admin/requests/{uuid.uuid4()}/chain"), 404, "not-found")


# ---------------------------------------------------------------- caps


def test_a_capped_agent_is_refused_until_a_person_has_decided(admin, agent, operator):
    path = f"/v1/admin/agents/{agent.agent_id}"
    assert expect(admin.call("PATCH", path, json={"max_pending": 1}), 200)["max_pending"] == 1
    first = new_envelope(agent.agent_id)
    request_id = expect(agent.submit(first), 201)["request_id"]
    second = new_envelope(agent.agent_id)
    refused = agent.submit(second)
    assert expect_problem(refused, 429, "rate-limited")["retry_after_ms"] > 0
    assert expect(agent.submit(first), 200)["duplicate"] is True
    expect(operator.decide(request_id, "approve"), 201)
    expect(agent.submit(second), 201)
