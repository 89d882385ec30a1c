"""One handoff from end to end, as the agent, the operator, the auditor and a listener see it."""

import asyncio
import json
import threading
from base64 import b64decode
from datetime import timedelta

import nats
import pytest

from agent import action_digest
from support import (
    ACTION,
    deliver,
    expect,
    export_chain,
    instant,
    new_envelope,
    race,
    register_agent,
    submit,
    verify_chain,
)

SECRETS = {"context": {"note": "for-the-operators-eyes"}, "resume": {"step": "for-the-agent-only"}}


def events_of(nats_url: str, agent_id: str, count: int, timeout: float = 10) -> list:
    """The first `count` messages about an agent on the stream."""

    async def read():
        connection = await nats.connect(nats_url)
        try:
            subscription = await connection.jetstream().subscribe(
                f"handoff.*.{agent_id}", stream="RELAYTRACE", ordered_consumer=True
            )
            return [await subscription.next_msg(timeout=timeout) for _ in range(count)]
        finally:
            await connection.close()

    return asyncio.run(read())


@pytest.mark.parametrize("alg", ["EdDSA", "ES256"])
def test_an_agent_gets_the_signed_answer_to_its_question(admin, operator, jwks, alg):
    agent = register_agent(admin, alg)
    envelope = new_envelope(agent.agent_id, **SECRETS)
    response = agent.submit(envelope)
    submission = expect(response, 201)
    assert response.headers["location"].endswith(submission["request_id"])
    assert submission["agent_id"] == agent.agent_id
    assert submission["client_request_key"] == envelope["client_request_key"]
    assert submission["status"] == "pending"
    assert submission["priority"] == "P2"
    assert submission["duplicate"] is False
    assert submission["action_digest"] == action_digest(ACTION)
    time_to_answer = instant(submission["respond_by"]) - instant(submission["created_at"])
    assert abs(time_to_answer - timedelta(hours=4)) < timedelta(seconds=5)

    approved = expect(
        operator.decide(submission["request_id"], "approve", action_digest=submission["action_digest"]), 201
    )
    decision = deliver(agent, submission["request_id"])
    assert decision["client_request_key"] == envelope["client_request_key"]
    assert decision["outcome"] == "approved"
    assert decision["cause"] == "operator"
    assert decision["decided_by"] == {"kind": "operator", "id": operator.id, "name": operator.name}
    assert instant(decision["decided_at"]) == instant(approved["decided_at"])
    assert decision["reason"] is None
    assert decision["action_digest"] == submission["action_digest"]
    assert decision["resume"] == envelope["resume"]
    assert decision["attempt"] == 1
    assert decision["replayed"] is False
    assert instant(decision["lease_expires_at"]) > instant(decision["decided_at"])

    claims = agent.check_decision(decision, ACTION, jwks)
    assert claims["iss"]
    assert claims["decided_by"]["id"] == operator.id
    assert instant(claims["decided_at"]) == instant(decision["decided_at"])
    assert claims["iat"] == int(instant(decision["decided_at"]).timestamp())

    acknowledged = expect(agent.acknowledge(decision), 200)
    assert acknowledged.items() >= {
        "agent_id": agent.agent_id,
        "request_id": submission["request_id"],
        "delivery_id": decision["delivery_id"],
        "state": "acknowledged",
        "attempt": 1,
    }.items()
    assert agent.poll()["decisions"] == []


def test_a_waiting_agent_is_woken_by_the_decision(agent, operator):
    submission = submit(agent)
    asked = threading.Event()

    def notice(event, _):
        if event == "http11.send_request_body.complete":
            asked.set()

    def wait():
        return agent.call(
            "GET", f"{agent.path}/decisions/poll", params={"wait_seconds": 20}, extensions={"trace": notice}
        )

    def approve():
        assert asked.wait(timeout=10)
        return operator.decide(submission["request_id"], "approve")

    polled, approved = race([wait, approve])
    expect(approved, 201)
    [decision] = expect(polled, 200)["decisions"]
    assert decision["request_id"] == submission["request_id"]
    assert polled.elapsed < timedelta(seconds=3)


def test_the_chain_recomputes_to_what_the_receipt_says(agent, operator, admin):
    envelope = json.dumps(new_envelope(agent.agent_id, **SECRETS), indent=3).encode()
    submission = expect(agent.submit(envelope), 201)
    expect(operator.decide(submission["request_id"], "reject", reason="Wrong customer"), 201)
    decision = deliver(agent, submission["request_id"])
    expect(agent.acknowledge(decision), 200)

    export = export_chain(admin, submission["request_id"])
    assert export["request_id"] == submission["request_id"]
    submitted, decided, acknowledged = verify_chain(export, decision["chain"]["length"], decision["chain"]["head"])
    assert decision["chain"]["length"] == 2 and export["length"] == 3
    assert submitted["kind"] == "submitted" and submitted["actor"]["id"] == agent.agent_id
    assert decided["kind"] == "decided" and decided["actor"]["id"] == operator.id
    assert decided["outcome"] == "rejected" and decided["cause"] == "operator"
    assert decided["action_digest"] == submission["action_digest"]
    assert decided["reason"] == "Wrong customer"
    assert instant(decided["at"]) == instant(decision["decided_at"])
    assert acknowledged["kind"] == "acknowledged" and acknowledged["actor"]["id"] == agent.agent_id


def test_the_chain_keeps_the_envelope_as_it_was_received(agent, admin):
    envelope = json.dumps(new_envelope(agent.agent_id), indent=3).encode() + b"\r\n"
    submission = expect(agent.submit(envelope), 201)
    export = export_chain(admin, submission["request_id"])
    verify_chain(export, 1, export["head"])
    assert b64decode(export["envelope"]) == envelope


def test_a_receipt_is_the_same_bytes_every_time(agent, operator):
    submission = submit(agent)
    expect(operator.decide(submission["request_id"], "approve"), 201)
    delivered = deliver(agent, submission["request_id"])["receipt"]
    viewed = expect(agent.view(submission["request_id"]), 200)["decision"]["receipt"]
    assert delivered == viewed


def test_every_step_is_an_event_on_the_stream(agent, operator, admin, stack):
    envelope = new_envelope(agent.agent_id, **SECRETS)
    submission = expect(agent.submit(envelope), 201)
    request_id = submission["request_id"]
    expect(operator.decide(request_id, "approve"), 201)
    expect(agent.acknowledge(deliver(agent, request_id)), 200)

    messages = events_of(stack["nats_url"], agent.agent_id, 3)
    chain = {link["seq"]: link for link in export_chain(admin, request_id)["entries"]}
    events = {json.loads(message.data)["type"]: message for message in messages}
    steps = {"requested": 1, "decided": 2, "acknowledged": 3}
    assert set(events) == {f"handoff.{what}" for what in steps}
    for what, seq in steps.items():
        message = events[f"handoff.{what}"]
        event = json.loads(message.data)
        assert message.subject == f"handoff.{what}.{agent.agent_id}"
        assert message.headers["Nats-Msg-Id"] == event["id"] == f"{request_id}/{seq}"
        assert event["specversion"] == "1.0"
        assert event["source"]
        assert event["subject"] == request_id
        assert str(event["sequence"]) == str(seq)
        data = event["data"]
        assert data["agent_id"] == agent.agent_id
        assert data["client_request_key"] == envelope["client_request_key"]
        assert data["priority"] == "P2"
        assert data["action_digest"] == submission["action_digest"]
        assert data["chain"] == {"length": seq, "head": chain[seq]["hash"]}
        assert b"for-the-operators-eyes" not in message.data
        assert b"for-the-agent-only" not in message.data
    decided = json.loads(events["handoff.decided"].data)["data"]
    assert (decided["outcome"], decided["cause"]) == ("approved", "operator")


def test_the_stream_keeps_events_on_disk_for_a_week(stack):
    async def read():
        connection = await nats.connect(stack["nats_url"])
        try:
            return (await connection.jetstream().stream_info("RELAYTRACE")).config
        finally:
            await connection.close()

    config = asyncio.run(read())
    assert config.retention == "limits"
    assert config.storage == "file"
    assert config.max_age == 0 or config.max_age >= 7 * 24 * 3600
    assert config.num_replicas >= 1
