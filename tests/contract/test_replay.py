"""Replaying: deliveries and events go out again, by order of an administrator."""

import secrets
import uuid

import pytest

from support import (
    deliver,
    expect,
    expect_problem,
    export_chain,
    in_seconds,
    pointers,
    race,
    submit,
    submit_decided,
    verify_chain,
)

REPLAY = "/v1/admin/replay"
PERIOD = {"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"}


def new_order(scope: dict, **changes) -> dict:
    return {
        "replay_key": f"replay-{secrets.token_hex(8)}",
        "target": "deliveries",
        "scope": scope,
        "reason": "The agent lost its disk.",
    } | changes


def shown(admin, replay: dict) -> dict:
    return expect(admin.get(f"/v1/admin/replays/{replay['replay_id']}"), 200)


def progress(replay: dict) -> tuple:
    return replay["state"], replay["matched"], replay["done"]


def test_an_acknowledged_delivery_goes_out_again_when_it_is_named(admin, agent, operator):
    request_id = submit_decided(agent, operator)["request_id"]
    first = deliver(agent, request_id)
    expect(agent.acknowledge(first), 200)
    replay = expect(admin.post(REPLAY, json=new_order({"request_ids": [request_id]})), 202)
    assert progress(replay) == progress(shown(admin, replay)) == ("finished", 1, 1)
    second = deliver(agent, request_id)
    assert (second["attempt"], second["replayed"], first["replayed"]) == (2, True, False)
    assert (second["receipt"], second["chain"]) == (first["receipt"], first["chain"])
    expect(agent.acknowledge(second), 200)
    export = export_chain(admin, request_id)
    entries = verify_chain(export, export["length"], export["head"])
    assert [entry["kind"] for entry in entries] == ["submitted", "decided", "acknowledged", "replayed", "acknowledged"]
    assert entries[3]["actor"]["kind"] == "admin"
    assert (entries[3]["reason"], entries[3]["replay_id"]) == ("The agent lost its disk.", replay["replay_id"])


def test_a_period_replays_what_is_not_acknowledged(admin, agent, operator):
    acknowledged, open_one = (submit_decided(agent, operator)["request_id"] for _ in range(2))
    expect(agent.acknowledge(deliver(agent, acknowledged)), 200)
    deliver(agent, open_one)
    scope = {"agent_id": agent.agent_id, "from": in_seconds(-60), "to": in_seconds(60)}
    replay = expect(admin.post(REPLAY, json=new_order(scope)), 202)
    assert progress(replay) == ("finished", 1, 1)
    assert deliver(agent, open_one)["replayed"] is True


def test_events_go_out_again(admin, agent, operator):
    request_id = submit_decided(agent, operator)["request_id"]
    order = new_order({"request_ids": [request_id]}, target="events")
    assert progress(expect(admin.post(REPLAY, json=order), 202)) == ("finished", 2, 2)
    assert export_chain(admin, request_id)["length"] == 2


def test_a_dry_run_only_counts(admin, agent, operator):
    request_id = submit_decided(agent, operator)["request_id"]
    replay = expect(admin.post(REPLAY, json=new_order({"request_ids": [request_id]}, dry_run=True)), 202)
    assert progress(replay) == ("finished", 1, 0)
    assert export_chain(admin, request_id)["length"] == 2


def test_the_same_key_is_the_same_replay(admin, agent, operator):
    request_id = submit_decided(agent, operator)["request_id"]
    order = new_order({"request_ids": [request_id]})
    answers = race([lambda: admin.post(REPLAY, json=order)] * 5)
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["replay_id"] for answer in answers}) == 1
    assert progress(shown(admin, answers[0].json())) == ("finished", 1, 1)
    assert export_chain(admin, request_id)["length"] == 3
    expect_problem(admin.post(REPLAY, json=order | {"reason": "another"}), 409, "conflict")


def test_what_is_unknown_or_pending_matches_nothing(admin, agent):
    scope = {"request_ids": [submit(agent)["request_id"], str(uuid.uuid4())]}
    assert progress(expect(admin.post(REPLAY, json=new_order(scope)), 202)) == ("finished", 0, 0)


@pytest.mark.parametrize("scope, found", [
    ({}, {"/scope"}),
    (None, {"/scope"}),
    (PERIOD | {"dead_letters": True}, {"/scope"}),
    ({"dead_letters": False}, {"/scope/dead_letters"}),
    ({"request_ids": []}, {"/scope/request_ids"}),
    ({"request_ids": [str(uuid.uuid4())] * 1_001}, {"/scope/request_ids"}),
    ({"request_ids": ["x"]}, {"/scope/request_ids/0"}),
    ({"agent_id": "a"}, {"/scope/from", "/scope/to"}),
    ({"from": PERIOD["to"], "to": PERIOD["from"]}, {"/scope/to"}),
    ({"from": PERIOD["from"], "to": PERIOD["from"]}, {"/scope/to"}),
    (PERIOD | {"agent_id": "no-such-agent"}, {"/scope/agent_id"}),
], ids=lambda value: str(value)[:60])
def test_a_scope_is_exactly_one(admin, scope, found):
    problem = expect_problem(admin.post(REPLAY, json=new_order(scope)), 422, "validation-failed")
    assert pointers(problem) == found


def test_all_faults_of_an_order_are_said_together(admin):
    body = {"replay_key": "a b", "target": "people", "scope": {}, "dry_run": "no", "surprise": 1}
    problem = expect_problem(admin.post(REPLAY, json=body), 422, "validation-failed")
    assert pointers(problem) == {"/replay_key", "/target", "/scope", "/dry_run", "/surprise", "/reason"}


def test_an_unknown_replay_is_not_found(admin):
    expect_problem(admin.get(f"/v1/admin/replays/{uuid.uuid4()}"), 404, "not-found")
    expect_problem(admin.get("/v1/admin/replays/nothing"), 404, "not-found")
