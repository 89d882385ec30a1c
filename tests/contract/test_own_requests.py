"""An agent's own requests: waiting for one to be decided, and its lists."""

import copy
import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import httpx
import pytest

from support import (
    ACTION,
    deliver,
    expect,
    expect_problem,
    in_seconds,
    instant,
    pointers,
    race,
    register_agent,
    submit,
    submit_decided,
    wait_until,
)


def look(agent, request_id: str, headers: dict | None = None, **query):
    return agent.call("GET", f"{agent.path}/requests/{request_id}", params=query, headers=headers, timeout=70)


def listed(agent, **query) -> dict:
    page = expect(agent.call("GET", f"{agent.path}/requests", params=query), 200)
    assert page["agent_id"] == agent.agent_id
    return page


def all_pending(agent, **query) -> list[dict]:
    items, cursor = [], {}
    while True:
        page = listed(agent, status="pending", **query, **cursor)
        items += page["items"]
        if page["next_cursor"] is None:
            return items
        cursor = {"cursor": page["next_cursor"]}


# ---------------------------------------------------------------- waiting for one


def test_a_look_waits_until_the_request_is_decided(agent, operator, jwks):
    request_id = submit(agent, resume={"step": 2})["request_id"]

    def decide():
        time.sleep(0.5)
        return operator.decide(request_id, "approve")

    seen, decided = race([lambda: look(agent, request_id, wait_seconds=30), decide])
    expect(decided, 201)
    view = expect(seen, 200)
    assert seen.elapsed < timedelta(seconds=10)
    assert (view["request_id"], view["status"]) == (request_id, "decided")
    assert view["decision"]["outcome"] == "approved" and view["decision"]["resume"] == {"step": 2}
    agent.check_decision(view["decision"], ACTION, jwks)


def test_a_look_takes_no_lease_and_no_polls_wake_up(agent, operator):
    request_id = submit(agent)["request_id"]

    def decide():
        time.sleep(0.5)
        return operator.decide(request_id, "approve")

    looks = [lambda: look(agent, request_id, wait_seconds=30)] * 3
    polled, decided, *seen = race([lambda: agent.poll(30, [request_id]), decide, *looks])
    expect(decided, 201)
    assert [expect(response, 200)["decision"]["outcome"] for response in seen] == ["approved"] * 3
    [decision] = polled["decisions"]
    assert decision["attempt"] == 1
    for response in seen:
        assert not {"delivery_id", "lease_expires_at"} & {name for name, value in response.json()["decision"].items() if value}


def test_a_look_at_a_decided_request_does_not_wait(agent, operator):
    request_id = submit_decided(agent, operator)["request_id"]
    seen = look(agent, request_id, wait_seconds=50)
    assert expect(seen, 200)["decision"]["outcome"] == "approved"
    assert seen.elapsed < timedelta(seconds=5)


def test_a_look_ends_when_its_time_is_over(agent):
    request_id = submit(agent)["request_id"]
    for query, headers in (({"wait_seconds": 1}, None), ({}, {"prefer": "wait=1"})):
        seen = look(agent, request_id, headers, **query)
        assert expect(seen, 200)["decision"] is None
        assert timedelta(seconds=0.9) < seen.elapsed < timedelta(seconds=5)
    for query, headers in (({}, None), ({"wait_seconds": 0}, {"prefer": "wait=20"})):
        seen = look(agent, request_id, headers, **query)
        assert expect(seen, 200)["decision"] is None
        assert seen.elapsed < timedelta(seconds=5)


def test_a_look_tells_of_a_timeout(agent):
    request_id = submit(agent, respond_by=in_seconds(1))["request_id"]
    view = expect(look(agent, request_id, wait_seconds=30), 200)
    assert (view["decision"]["outcome"], view["decision"]["cause"]) == ("rejected", "timeout")
    assert view["approvals"] == {"required": 1, "given": 0}


@pytest.mark.parametrize("value", ["ten", "-1", "1.5", ""])
def test_a_looks_wait_must_be_a_number(agent, value):
    request_id = submit(agent)["request_id"]
    problem = expect_problem(look(agent, request_id, wait_seconds=value), 422, "validation-failed")
    assert pointers(problem) == {"/wait_seconds"}


def test_another_agents_request_is_not_waited_for(admin, agent):
    theirs = submit(register_agent(admin))["request_id"]
    seen = look(agent, theirs, wait_seconds=30)
    expect_problem(seen, 404, "not-found")
    assert seen.elapsed < timedelta(seconds=5)


@pytest.mark.skipif("RELAYTRACE_IN_EMULATOR" in os.environ, reason="in the emulator each waiting call is a process")
def test_only_256_calls_of_an_agent_wait(stack, admin, agent, operator):
    request_id = submit(agent)["request_id"]
    limits = httpx.Limits(max_connections=300)
    with (httpx.Client(base_url=stack["base_url"], timeout=90, limits=limits) as http, ThreadPoolExecutor(300) as pool):
        crowd = copy.copy(agent)
        crowd.http = http
        query = {"wait_seconds": 55}
        calls = [pool.submit(crowd.call, "GET", f"{agent.path}/requests/{request_id}", params=query) for _ in range(300)]
        wait_until(lambda: sum(call.done() for call in calls) == 44, timeout=50)
        refused = [call.result() for call in calls if call.done()]
        refused.append(agent.call("GET", f"{agent.path}/decisions/poll", params=query))
        for response in refused:
            expect_problem(response, 429, "rate-limited")
            assert int(response.headers["retry-after"]) > 0
        # What does not wait is answered, and other agents wait as before.
        assert expect(agent.view(request_id), 200)["status"] == "pending"
        assert register_agent(admin).poll(1)["decisions"] == []
        expect(operator.decide(request_id, "approve"), 201)
        seen = [response for response in (call.result() for call in calls) if response.status_code == 200]
        assert [response.json()["status"] for response in seen] == ["decided"] * 256


# ---------------------------------------------------------------- lists


def test_the_request_of_a_key_is_found(agent, operator):
    submission = submit(agent, client_request_key="refund-1042", resume={"step": 2})
    page = listed(agent, client_request_key="refund-1042")
    [item] = page["items"]
    assert page["next_cursor"] is None
    assert item == expect(agent.view(submission["request_id"]), 200)
    assert item["status"] == "pending" and item["decision"] is None
    expect(operator.decide(submission["request_id"], "approve"), 201)
    [item] = listed(agent, client_request_key="refund-1042")["items"]
    assert item["decision"]["outcome"] == "approved" and item["decision"]["resume"] == {"step": 2}
    assert deliver(agent, submission["request_id"])["attempt"] == 1


def test_a_key_that_stands_for_nothing_is_an_empty_list(admin, agent):
    submit(register_agent(admin), client_request_key="theirs")
    for key in ("theirs", "nobodys"):
        assert listed(agent, client_request_key=key) == {"agent_id": agent.agent_id, "items": [], "next_cursor": None}


def test_a_group_without_requests_is_an_empty_list(agent):
    submit(agent)
    assert listed(agent, group="turn:7") == {"agent_id": agent.agent_id, "items": [], "next_cursor": None}


def test_pending_requests_are_listed_in_the_queues_order(admin, agent, operator):
    submitted = [submit(agent, priority=priority) for priority in ("P3", "P1", "P2", "P1", "P3")]
    soon = submit(agent, priority="P3", respond_by=in_seconds(600))
    submit(register_agent(admin))
    submit_decided(agent, operator)
    wanted = sorted([*submitted, soon], key=lambda item: (item["priority"], instant(item["respond_by"]), item["request_id"]))
    for limit in (1, 4, 200):
        items = all_pending(agent, limit=limit)
        assert [item["request_id"] for item in items] == [item["request_id"] for item in wanted]
    assert items[0] == expect(agent.view(wanted[0]["request_id"]), 200)
    assert len(listed(agent, status="pending", limit=4)["items"]) <= 4


def test_what_is_decided_is_not_listed_any_more(agent, operator):
    request_id = submit(agent)["request_id"]
    assert [item["request_id"] for item in all_pending(agent)] == [request_id]
    expect(operator.decide(request_id, "approve"), 201)
    assert all_pending(agent) == []


@pytest.mark.parametrize("query, pointer", [
    ({"status": "decided"}, "/status"),
    ({"status": ""}, "/status"),
    ({"status": "pending", "cursor": "nonsense"}, "/cursor"),
    ({"status": "pending", "limit": "many"}, "/limit"),
    ({"client_request_key": "sla/sh"}, "/client_request_key"),
    ({"client_request_key": ""}, "/client_request_key"),
    ({"client_request_key": "a" * 129}, "/client_request_key"),
    ({"group": "with space"}, "/group"),
    ({"group": "a\x00"}, "/group"),
    ({"client_request_key": "a", "status": "pending"}, ""),
    ({"client_request_key": "a", "group": "b"}, ""),
    ({"everything": "1"}, "/everything"),
], ids=str)
def test_a_list_that_cannot_be_meant_is_refused(shared_agent, query, pointer):
    response = shared_agent.call("GET", f"{shared_agent.path}/requests", params=query)
    assert pointers(expect_problem(response, 422, "validation-failed")) == {pointer}


def test_an_agent_lists_only_its_own(admin, agent):
    other = register_agent(admin)
    expect_problem(agent.call("GET", f"{other.path}/requests"), 403, "forbidden")
