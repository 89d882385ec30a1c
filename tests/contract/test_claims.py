"""Claims: who says to be at a request. Advice, no lock (contract, "Who may decide")."""

import psycopg
import pytest

from people import asked_of, finance, of_group, ops  # noqa: F401
from support import REQUESTS, expect, expect_problem, instant, pointers, submit
from test_rules import ruled, without_rules_afterwards  # noqa: F401


def claim(person, request: dict, seconds=60, method: str = "PUT"):
    body = {"json": {"seconds": seconds}} if method == "PUT" else {}
    return person.call(method, f"{REQUESTS}/{request['request_id']}/claim", **body)


def claimed(person, request: dict) -> tuple:
    detail = person.detail(request["request_id"])
    return detail["claimed_by"] and detail["claimed_by"]["id"], detail["claimed_until"]


def test_a_claim_says_who_is_at_it_until_when(agent, operators):
    request = submit(agent)
    assert claimed(operators[1], request) == (None, None)
    answer = expect(claim(operators[0], request, 600), 200)
    assert answer["claimed_by"] == {"kind": "operator", "id": operators[0].id, "name": operators[0].name}
    assert claimed(operators[1], request) == (operators[0].id, answer["claimed_until"])
    [item] = operators[1].queue(agent_id=agent.agent_id)["items"]
    assert (item["claimed_by"], item["claimed_until"]) == (answer["claimed_by"], answer["claimed_until"])
    # Again: for longer.
    assert instant(expect(claim(operators[0], request, 3600), 200)["claimed_until"]) > instant(answer["claimed_until"])


def test_it_is_advice_and_no_lock(agent, operators):
    request = submit(agent)
    expect(claim(operators[0], request), 200)
    expect(claim(operators[1], request), 200)
    assert claimed(operators[2], request)[0] == operators[1].id
    # Nobody takes back another's.
    assert claim(operators[0], request, method="DELETE").status_code == 204
    assert claimed(operators[2], request)[0] == operators[1].id
    expect(operators[2].decide(request["request_id"], "approve"), 201)


def test_it_is_released_by_its_owner_by_its_end_and_by_the_decision(agent, operators, stack):
    request = submit(agent)
    expect(claim(operators[0], request), 200)
    for _ in range(2):
        assert claim(operators[0], request, method="DELETE").status_code == 204
    assert claimed(operators[1], request) == (None, None)
    expect(claim(operators[0], request), 200)
    with psycopg.connect(stack["database_url"]) as owner:
        # Its minute is over.
        owner.execute("UPDATE claims SET claimed_until = now() WHERE request_id = %s", [request["request_id"]])
    assert claimed(operators[1], request) == (None, None)
    expect(claim(operators[0], request), 200)
    expect(operators[1].decide(request["request_id"], "approve"), 201)
    assert claimed(operators[1], request) == (None, None)
    [item] = operators[1].queue(agent_id=agent.agent_id, status="decided")["items"]
    assert (item["claimed_by"], item["claimed_until"]) == (None, None)
    expect_problem(claim(operators[0], request), 409, "already-decided")


@pytest.mark.parametrize("seconds", [59, 3601, "60", None, 60.5])
def test_it_lasts_a_minute_to_an_hour(agent, operators, seconds):
    problem = expect_problem(claim(operators[0], submit(agent), seconds), 422, "validation-failed")
    assert pointers(problem) == {"/seconds"}


def test_it_is_for_those_who_may_decide(asked_of, finance, ops, admin, agent):
    request = asked_of(groups=["finance"])
    expect_problem(claim(ops[0], request), 403, "not-assigned")
    expect(claim(finance[0], request), 200)
    for caller in (admin, agent):
        expect_problem(claim(caller, request), 403, "forbidden")
    unknown = {"request_id": "0192f5c4-6a3e-7c11-9d2f-2f0c5a8e4b17"}
    expect_problem(claim(finance[0], unknown), 404, "not-found")
    expect_problem(claim(finance[0], unknown, method="DELETE"), 404, "not-found")
