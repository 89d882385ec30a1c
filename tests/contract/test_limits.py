"""An answer's size does not follow its question's, and what cannot be meant is refused at the door."""

import base64
import json
import re

import pytest

from support import REQUESTS, Person, expect, expect_problem, new_envelope, pointers
from test_routes import BRIDGES, UNKNOWN, operations, who
from test_scopes import ALL, agent_with

MOST = 1_000_000
# Where a body is read. What is in it is wrong everywhere.
BODIES = [
    ("POST", REQUESTS, "agent"),
    ("POST", "/v1/agents/{agent_id}/requests/{request_id}/cancel", "agent"),
    ("POST", "/v1/agents/{agent_id}/decisions/{request_id}/ack", "agent"),
    ("POST", "/v1/agents/{agent_id}/requests/{request_id}/consume", "agent"),
    ("POST", "/v1/agents/{agent_id}/requests/{request_id}/outcome", "agent"),
    ("POST", REQUESTS + "/{request_id}/consume", "agent"),
    ("POST", REQUESTS + "/{request_id}/outcome", "agent"),
    ("POST", REQUESTS + "/{request_id}/decision", "operator"),
    ("POST", "/v1/admin/replay", "admin"),
    ("POST", "/v1/admin/agents", "admin"),
    ("PATCH", "/v1/admin/agents/{agent_id}", "admin"),
    ("POST", "/v1/admin/agents/{agent_id}/keys", "admin"),
    ("POST", "/v1/admin/requests/{request_id}/disposition", "admin"),
    ("PUT", "/v1/admin/timeout-policies", "admin"),
    ("PUT", "/v1/admin/freezes/incident-7", "admin"),
]


def deep(levels: int, inner: str) -> str:
    return "[" * levels + inner + "]" * levels


def many(item: str, size: int) -> str:
    return ",".join([item] * (size // (len(item) + 1)))


LONG = "k" * 10_000
HOSTILE = {
    "a long name over many that are too deep": '{"%s":%s}' % (LONG, deep(31, many("[]", 13_000))),
    "many that are too deep": '{"x":%s}' % deep(30, many("[[]]", 200_000)),
    "many unknown members": "{" + ",".join(f'"{number:x}":0' for number in range(40_000)) + "}",
    "long unknown members": "{" + ",".join(f'"{number}{LONG}":0' for number in range(40)) + "}",
    "names of slashes": "{" + ",".join(f'"{number}{"/" * 5_000}":0' for number in range(80)) + "}",
    "many numbers out of range": '{"x":[%s]}' % many("9007199254740993", 400_000),
    "many with U+0000": '{"x":[%s]}' % many('"\\u0000"', 400_000),
    "names with U+0000": "{" + ",".join('"%s%d":0' % ("\\u0000" * 500, number) for number in range(100)) + "}",
    "a long duplicate": '{"%s":0,"%s":0}' % (LONG * 20, LONG * 20),
    "small lists": '{"x":[%s]}' % many("[0]", 400_000),
    "1 MiB of brackets": "[" * (1024 * 1024),
}


@pytest.fixture(scope="module")
def callers(http, stack, admin, operator, shared_agent):
    owner = Person(http, stack["owner"]["token"])
    return {"admin": admin, "operator": operator, "owner": owner, "agent": agent_with(admin, shared_agent.agent_id, ALL)}


@pytest.mark.parametrize("method, path, caller", BODIES, ids=lambda value: value if "/" in value else "")
@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_the_answer_to_a_hostile_body_is_small(callers, shared_agent, method, path, caller, body):
    path = path.format(agent_id=shared_agent.agent_id, request_id=UNKNOWN)
    headers = {"content-type": "application/json"}
    response = callers[caller].call(method, path, content=body.encode(), headers=headers)
    assert response.status_code in (400, 413, 422), response.text[:1_000]
    assert len(response.content) < MOST
    faults = response.json().get("errors", [])
    assert len(faults) <= 100
    for fault in faults:
        assert len(fault["pointer"]) <= 256
        assert not re.search("~(?![01])", fault["pointer"]), fault


def test_faults_that_are_not_listed_are_counted(shared_agent):
    envelope = new_envelope(shared_agent.agent_id) | {f"unknown{number}": 0 for number in range(250)}
    problem = expect_problem(shared_agent.submit(envelope), 422, "validation-failed")
    assert len(problem["errors"]) == 100
    assert "150 more" in problem["detail"]


# ---------------------------------------------------------------- queries


@pytest.fixture(scope="module")
def document(http) -> dict:
    return expect(http.get("/openapi.json"), 200)


def document_operations(document):
    for method, path in operations(document):
        if path.startswith(("/v1/", "/internal/")) and not path.startswith(BRIDGES):
            yield method, path


def test_every_route_refuses_a_parameter_that_it_does_not_know(document, callers, shared_agent):
    asked = 0
    for method, path in document_operations(document):
        concrete = re.sub(r"\{agent_id\}", shared_agent.agent_id, path)
        concrete = re.sub(r"\{[a-z_]+\}", UNKNOWN, concrete)
        response = callers[who(method, path)].call(method, concrete, params={"form": "2026-11-01"})
        problem = expect_problem(response, 422, "validation-failed")
        assert pointers(problem) == {"/form"}, path
        described = document["paths"][path][method.lower()].get("parameters", [])
        for parameter in described:
            if parameter["in"] == "query":
                assert parameter["name"] in problem["errors"][0]["detail"], path
        asked += 1
    assert asked > 20


def test_who_calls_matters_before_what_is_asked(http):
    expect_problem(http.get(REQUESTS, params={"form": "x"}), 401, "unauthenticated")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/", "/openapi.json", "/.well-known/jwks.json"])
def test_public_pages_ignore_parameters(http, path):
    assert http.get(path, params={"utm_source": "mail"}).status_code == 200


@pytest.mark.parametrize("path", [REQUESTS, "/v1/admin/dead-letters"])
@pytest.mark.parametrize("agent_id", ["a,", "", ",b", "A", "a,A", "a b", "a\x00"])
def test_an_agent_to_filter_by_is_an_agent(admin, operator, path, agent_id):
    caller = operator if path == REQUESTS else admin
    problem = expect_problem(caller.get(path, params={"agent_id": agent_id}), 422, "validation-failed")
    assert pointers(problem) == {"/agent_id"}


@pytest.mark.parametrize("query", ["priority=", "priority=P1,", "status=", "limit=", "cursor=", "q=%00"])
def test_an_empty_value_is_not_absence(operator, query):
    expect_problem(operator.get(f"{REQUESTS}?{query}"), 422, "validation-failed")


@pytest.mark.parametrize("query", ["kind=", "kind=delivery,event", "status=", "cursor="])
def test_an_empty_value_of_a_dead_letter_is_not_absence(admin, query):
    expect_problem(admin.get(f"/v1/admin/dead-letters?{query}"), 422, "validation-failed")


def cursor(value) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


TIME = "2026-11-01T00:00:00Z"


@pytest.mark.parametrize("path, position", [
    ("/v1/admin/stale", [TIME, "pending", "a\x00"]),
    ("/v1/admin/stale", [TIME, "not_polling", "\x00"]),
    ("/v1/admin/stale", ["0000-01-01T00:00:00Z", "not_polling", "a"]),
    ("/v1/admin/dead-letters", ["0000-01-01T00:00:00Z", UNKNOWN]),
    ("/v1/admin/dead-letters", ["+99999-01-01T00:00:00Z", UNKNOWN]),
    ("/v1/admin/freezes", [TIME, "a b"]),
    ("/v1/admin/freezes", ["0000-01-01T00:00:00Z", "a"]),
    ("/v1/admin/agents", ["a\x00"]),
    ("/v1/admin/agents", "a\x00"),
    (REQUESTS, ["P1", "0000-01-01T00:00:00Z", UNKNOWN]),
    (REQUESTS, ["P1", TIME, "\x00"]),
])
def test_a_made_up_cursor_is_refused(admin, operator, path, position):
    caller = operator if path == REQUESTS else admin
    problem = expect_problem(caller.get(path, params={"cursor": cursor(position)}), 422, "validation-failed")
    assert pointers(problem) == {"/cursor"}


@pytest.mark.parametrize("start", ["0000-01-01T00:00:00Z", "0000-12-31T23:59:59Z", "+10000-01-01T00:00:00Z"])
def test_a_period_is_one_that_the_database_has(admin, start):
    order = {"replay_key": "year-zero", "target": "events", "reason": "no such year", "dry_run": True,
             "scope": {"from": start, "to": "2026-01-01T00:00:00Z"}}
    expect_problem(admin.post("/v1/admin/replay", json=order), 422, "validation-failed")


# ---------------------------------------------------------------- Prefer: wait


def test_prefer_wait_means_wait_seconds(agent):
    path = f"/v1/agents/{agent.agent_id}/decisions/poll"
    waited = agent.call("GET", path, headers={"prefer": "respond-async, wait=1"})
    assert waited.status_code == 200
    assert waited.elapsed.total_seconds() >= 1
    # The parameter wins.
    at_once = agent.call("GET", path, params={"wait_seconds": 0}, headers={"prefer": "wait=20"})
    assert at_once.status_code == 200
    assert at_once.elapsed.total_seconds() < 15
