"""Agents' push: an agent hears that something was resolved, and asks."""

import json
import time

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from receivers import Receiver, echo_challenge
from support import expect, expect_problem, submit, submit_decided, wait_until


def path_of(agent) -> str:
    return f"/v1/admin/agents/{agent.agent_id}"


def make_secret(admin, agent) -> str:
    made = expect(admin.post(f"{path_of(agent)}/push/secret"), 200)
    assert made["secret"].startswith("whsec_")
    return made["secret"]


def change(admin, agent, **members):
    return admin.call("PATCH", path_of(agent), json=members, timeout=20)


@pytest.fixture
def receiver():
    with Receiver(echo_challenge) as receiver:
        yield receiver


def test_an_agent_is_told_of_what_was_resolved_and_nothing_more(admin, agent, operator, receiver):
    secret = make_secret(admin, agent)
    changed = expect(change(admin, agent, push={"url": f"{receiver.url}/agent"}), 200)
    assert changed["push"] == {"url": f"{receiver.url}/agent"}
    [verification] = receiver.told("/agent")
    asked = Webhook(secret).verify(verification["bytes"], verification["headers"])
    assert asked["type"] == "webhook.verification" and set(asked) == {"type", "timestamp", "data"}

    submitted = submit_decided(agent, operator)
    told = wait_until(lambda: receiver.told("/agent")[1:])[0]
    message = Webhook(secret).verify(told["bytes"], told["headers"])
    assert message["type"] == "request.resolved"
    assert message["data"] == {
        "agent_id": agent.agent_id, "request_id": submitted["request_id"],
        "client_request_key": submitted["client_request_key"], "status": "decided", "outcome": "approved",
    }
    # It asks, and gets what it was not told.
    [decision] = agent.poll(5, [submitted["request_id"]])["decisions"]
    assert decision["outcome"] == "approved"
    # A cancellation is a resolution too; another agent's is none of its business.
    cancelled = submit(agent)
    expect(agent.cancel(cancelled["request_id"]), 200)
    wait_until(lambda: len(receiver.told("/agent")) == 3)
    assert receiver.told("/agent")[-1]["body"]["data"]["outcome"] == "cancelled"


def test_a_secret_is_rotated_with_a_day_of_both(admin, agent, operator, receiver):
    first = make_secret(admin, agent)
    expect(change(admin, agent, push={"url": f"{receiver.url}/agent"}), 200)
    second = make_secret(admin, agent)
    assert first != second
    submit_decided(agent, operator)
    told = wait_until(lambda: receiver.told("/agent")[1:])[0]
    for secret in (first, second):
        Webhook(secret).verify(told["bytes"], told["headers"])
    shown = admin.get(path_of(agent)).text + admin.get("/v1/admin/log", params={"limit": 200}).text
    assert first not in shown and second not in shown


def test_a_receiver_that_does_not_answer_with_the_challenge_is_refused(admin, agent):
    make_secret(admin, agent)
    challenge = {}

    def answer(path, body):
        challenge["is"] = json.loads(body)["data"]["challenge"]
        return {
            "/empty": (200, b""),
            "/wrong": (200, json.dumps({"challenge": "x"}).encode()),
            "/more": (200, json.dumps({"challenge": challenge["is"], "more": 1}).encode()),
            "/bare": (200, json.dumps(challenge["is"]).encode()),
            "/failed": (500, json.dumps({"challenge": challenge["is"]}).encode()),
            "/long": (200, json.dumps({"challenge": challenge["is"]}).encode() + b" " * 100_000),
            "/redirect": (307, b"/right"),
            "/right": (200, json.dumps({"challenge": challenge["is"]}).encode()),
        }[path]

    with Receiver(answer) as receiver:
        details = set()
        paths = ["/empty", "/wrong", "/more", "/bare", "/failed", "/long", "/redirect"]
        for url in [receiver.url + path for path in paths] + ["http://127.0.0.1:9/", "https://10.0.0.1/", "no url"]:
            problem = expect_problem(change(admin, agent, push={"url": url}), 422, "validation-failed")
            details.add(str(problem["errors"]))
        assert len(details) == 1 and "/push/url" in details.pop()
        assert [call["path"] for call in receiver.calls] == paths
        assert expect(admin.get(path_of(agent)), 200)["push"] is None
        expect(change(admin, agent, push={"url": f"{receiver.url}/right"}), 200)


def test_a_receiver_that_is_silent_is_refused_within_ten_seconds(admin, agent):
    make_secret(admin, agent)

    def silent(path, body):
        time.sleep(12)
        return echo_challenge(path, body)

    with Receiver(silent) as receiver:
        begun = time.monotonic()
        expect_problem(change(admin, agent, push={"url": f"{receiver.url}/"}), 422, "validation-failed")
        assert time.monotonic() - begun < 15


def test_without_a_secret_there_is_no_push(admin, agent, receiver):
    expect_problem(change(admin, agent, push={"url": f"{receiver.url}/"}), 422, "validation-failed")
    assert receiver.calls == []
    expect(change(admin, agent, push=None), 200)
    expect_problem(admin.post("/v1/admin/agents/nobody-here/push/secret"), 404, "not-found")
    expect_problem(admin.call("PATCH", "/v1/admin/agents/nobody-here", json={"push": None}), 404, "not-found")


def test_410_turns_it_off(admin, agent, operator):
    def gone(path, body):
        status, answer = echo_challenge(path, body)
        return (status, answer) if answer else (410, b"")

    with Receiver(gone) as receiver:
        secret = make_secret(admin, agent)
        expect(change(admin, agent, push={"url": f"{receiver.url}/agent"}), 200)
        submit_decided(agent, operator)
        wait_until(lambda: expect(admin.get(path_of(agent)), 200)["push"] is None)
        submit_decided(agent, operator)
        time.sleep(1)
        assert len(receiver.calls) == 2
    with Receiver(echo_challenge) as receiver:
        # The secret stays.
        expect(change(admin, agent, push={"url": f"{receiver.url}/agent"}), 200)
        [call] = receiver.calls
        Webhook(secret).verify(call["bytes"], call["headers"])
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(call["bytes"] + b" ", call["headers"])


def test_the_same_again_asks_nobody(admin, agent, receiver):
    make_secret(admin, agent)
    for _ in range(2):
        expect(change(admin, agent, push={"url": f"{receiver.url}/agent"}), 200)
    assert len(receiver.calls) == 1
    assert expect(change(admin, agent, push=None), 200)["push"] is None


def test_an_agent_has_a_priority_for_protocols_without_priorities(admin, agent):
    assert expect(admin.get(path_of(agent)), 200)["default_priority"] == "P2"
    assert expect(change(admin, agent, default_priority="P1"), 200)["default_priority"] == "P1"
    expect_problem(change(admin, agent, default_priority="P7"), 422, "validation-failed")
