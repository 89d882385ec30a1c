"""What an agent says of a delivery, and what follows from it."""

import uuid

import pytest

from support import (
    deliver,
    expect,
    expect_problem,
    export_chain,
    pointers,
    race,
    register_agent,
    submit,
    submit_decided,
    verify_chain,
)

FAULT = {"code": "ledger-down", "message": "The ledger did not answer"}


@pytest.fixture
def delivery(agent, operator) -> dict:
    return deliver(agent, submit_decided(agent, operator)["request_id"])


def kinds(admin, request_id: str) -> list[str]:
    export = export_chain(admin, request_id)
    return [entry["kind"] for entry in verify_chain(export, export["length"], export["head"])]


def ack_path(agent, delivery: dict) -> str:
    return f"{agent.path}/decisions/{delivery['request_id']}/ack"


def test_an_accepted_delivery_ends_it(agent, admin, delivery):
    assert expect(agent.acknowledge(delivery), 200)["state"] == "acknowledged"
    assert agent.poll()["decisions"] == []
    assert kinds(admin, delivery["request_id"]) == ["submitted", "decided", "acknowledged"]


def test_a_retried_delivery_comes_again(agent, delivery):
    answer = expect(agent.acknowledge(delivery, "retry", FAULT), 200)
    assert (answer["state"], answer["attempt"]) == ("ready", 1)
    again = deliver(agent, delivery["request_id"])
    assert again["attempt"] == 2
    assert again["delivery_id"] != delivery["delivery_id"]
    assert again["receipt"] == delivery["receipt"]
    accepted = expect(agent.acknowledge(again), 200)
    assert (accepted["state"], accepted["attempt"]) == ("acknowledged", 2)


def test_a_failed_delivery_is_dead_lettered_at_once(agent, operator, admin, delivery):
    answer = expect(agent.acknowledge(delivery, "failed", FAULT), 200)
    assert (answer["state"], answer["attempt"]) == ("dead_lettered", 1)
    assert agent.poll(wait_seconds=2)["decisions"] == []
    assert operator.detail(delivery["request_id"])["delivery"]["state"] == "dead_lettered"
    assert kinds(admin, delivery["request_id"]) == ["submitted", "decided", "dead_lettered"]


@pytest.mark.parametrize("result, state", [("accepted", "acknowledged"), ("failed", "dead_lettered"), ("retry", "ready")])
def test_a_repeated_acknowledgement_answers_the_same(agent, admin, delivery, result, state):
    first = expect(agent.acknowledge(delivery, result), 200)
    before = kinds(admin, delivery["request_id"])
    assert expect(agent.acknowledge(delivery, result), 200) == first
    assert first["state"] == state
    assert kinds(admin, delivery["request_id"]) == before


def test_racing_acknowledgements_are_one(agent, admin, delivery):
    answers = race([lambda: agent.acknowledge(delivery)] * 10)
    assert [expect(answer, 200)["state"] for answer in answers] == ["acknowledged"] * 10
    assert kinds(admin, delivery["request_id"]).count("acknowledged") == 1


def test_an_unknown_delivery_is_stale(agent, delivery):
    stale = delivery | {"delivery_id": str(uuid.uuid4())}
    expect_problem(agent.acknowledge(stale), 409, "stale-delivery")
    expect(agent.acknowledge(delivery), 200)


def test_an_earlier_delivery_is_stale_once_it_came_again(agent, delivery):
    expect(agent.acknowledge(delivery, "retry"), 200)
    again = deliver(agent, delivery["request_id"])
    for result in ("accepted", "retry", "failed"):
        expect_problem(agent.acknowledge(delivery, result), 409, "stale-delivery")
    assert expect(agent.acknowledge(again), 200)["state"] == "acknowledged"


def test_a_delivery_of_another_request_is_stale(agent, operator, delivery):
    other = deliver(agent, submit_decided(agent, operator)["request_id"])
    crossed = delivery | {"delivery_id": other["delivery_id"]}
    expect_problem(agent.acknowledge(crossed), 409, "stale-delivery")


def test_what_was_never_delivered_cannot_be_acknowledged(agent, operator):
    request_id = submit_decided(agent, operator)["request_id"]
    response = agent.acknowledge({"request_id": request_id, "delivery_id": str(uuid.uuid4())})
    expect_problem(response, 409, "stale-delivery")


@pytest.mark.parametrize("changes, pointer", [
    ({"result": "done"}, "/result"),
    ({"result": None}, "/result"),
    ({"result": 1}, "/result"),
    ({"delivery_id": None}, "/delivery_id"),
    ({"delivery_id": 7}, "/delivery_id"),
    ({"error": "text"}, "/error"),
    ({"surprise": 1}, "/surprise"),
], ids=str)
def test_a_malformed_acknowledgement_is_refused(agent, operator, delivery, changes, pointer):
    body = {"delivery_id": delivery["delivery_id"], "result": "accepted"} | changes
    problem = expect_problem(agent.call("POST", ack_path(agent, delivery), json=body), 422, "validation-failed")
    assert pointers(problem) == {pointer}
    assert operator.detail(delivery["request_id"])["delivery"]["state"] == "leased"


def test_an_acknowledgement_needs_a_result(agent, delivery):
    body = {"delivery_id": delivery["delivery_id"]}
    problem = expect_problem(agent.call("POST", ack_path(agent, delivery), json=body), 422, "validation-failed")
    assert pointers(problem) == {"/result"}


# ---------------------------------------------------------------- accepted, and whichever delivery it is


@pytest.mark.parametrize("result", ["retry", "failed"])
def test_only_accepted_may_leave_the_delivery_out(agent, operator, delivery, result):
    problem = expect_problem(agent.call("POST", ack_path(agent, delivery), json={"result": result}), 422,
                             "validation-failed")
    assert pointers(problem) == {"/delivery_id"}
    assert operator.detail(delivery["request_id"])["delivery"]["state"] == "leased"


@pytest.mark.parametrize("said", [None, "retry", "failed"])
def test_accepted_without_a_delivery_ends_it(agent, admin, delivery, said):
    if said:
        expect(agent.acknowledge(delivery, said), 200)
    for _ in range(2):
        answer = expect(agent.call("POST", ack_path(agent, delivery), json={"result": "accepted"}), 200)
        assert (answer["state"], answer["attempt"], answer["delivery_id"]) == ("acknowledged", 1, None)
        assert (answer["agent_id"], answer["request_id"]) == (agent.agent_id, delivery["request_id"])
    assert agent.poll(2, [delivery["request_id"]])["decisions"] == []
    assert kinds(admin, delivery["request_id"]).count("acknowledged") == 1


def test_accepted_ends_what_was_never_delivered(agent, operator):
    request_id = submit_decided(agent, operator)["request_id"]
    path = ack_path(agent, {"request_id": request_id})
    answer = expect(agent.call("POST", path, json={"result": "accepted"}), 200)
    assert (answer["state"], answer["attempt"], answer["delivery_id"]) == ("acknowledged", 0, None)
    assert agent.poll()["decisions"] == []


def test_nothing_is_accepted_before_the_decision(agent):
    path = ack_path(agent, submit(agent))
    assert agent.call("POST", path, json={"result": "accepted"}).status_code == 409


def test_another_agents_delivery_is_not_accepted(admin, agent, delivery):
    other = register_agent(admin)
    path = ack_path(other, delivery)
    expect_problem(other.call("POST", path, json={"result": "accepted"}), 404, "not-found")
    assert expect(agent.acknowledge(delivery), 200)["state"] == "acknowledged"


@pytest.mark.parametrize("said", ["retry", "failed"])
def test_accepted_wins_over_what_was_said_before(agent, operator, admin, delivery, said):
    expect(agent.acknowledge(delivery, said), 200)
    for _ in range(2):
        assert expect(agent.acknowledge(delivery), 200)["state"] == "acknowledged"
    assert agent.poll(3, [delivery["request_id"]])["decisions"] == []
    assert operator.detail(delivery["request_id"])["delivery"]["state"] == "acknowledged"
    assert kinds(admin, delivery["request_id"])[-1] == "acknowledged"
    open_letters = expect(admin.get("/v1/admin/dead-letters", params={"agent_id": agent.agent_id}), 200)
    assert open_letters["items"] == []


@pytest.mark.parametrize("said", ["retry", "failed"])
def test_nothing_wins_over_accepted(agent, admin, delivery, said):
    expect(agent.acknowledge(delivery), 200)
    assert expect(agent.acknowledge(delivery, said), 200)["state"] == "acknowledged"
    assert kinds(admin, delivery["request_id"])[-1] == "acknowledged"


def test_the_backoff_delays_only_what_failed(agent, operator, delivery):
    expect(agent.acknowledge(delivery, "retry"), 200)
    fresh = submit_decided(agent, operator)["request_id"]
    assert deliver(agent, fresh)["attempt"] == 1
    assert deliver(agent, delivery["request_id"])["attempt"] == 2


def test_attempts_are_counted(agent, operator, delivery):
    for attempt in (1, 2):
        answer = expect(agent.acknowledge(delivery, "retry"), 200)
        assert answer["attempt"] == attempt
        delivery = deliver(agent, delivery["request_id"])
        assert delivery["attempt"] == attempt + 1
    shown = operator.detail(delivery["request_id"])["delivery"]
    assert (shown["state"], shown["attempt"]) == ("leased", 3)
