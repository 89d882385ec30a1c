"""Calls made up from openapi.json, valid and not, with every kind of token: no answer is a server error, every error
is a problem document, and what is served is what the document says.

Not collected by default. FUZZ_EXAMPLES is the number of made-up calls for each route."""

import itertools
import os

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import checks

from conftest import read_stack
from support import check_problem_document, new_key_id, register_agent, submit, submit_decided
from test_routes import who

BASE_URL = read_stack()["base_url"]
schema = schemathesis.openapi.from_url(f"{BASE_URL}/openapi.json")
# Whether what was made up is accepted, is the contract tests' business; whether it does harm, is this one's.
CHECKS = [checks.not_a_server_error, checks.response_schema_conformance, checks.content_type_conformance,
          checks.status_code_conformance]
number = itertools.count()
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", 10))


@pytest.fixture(scope="module")
def known(admin, operators, agent_of_fuzz):
    """What exists: so that calls reach more than the first check."""
    requests = [submit(agent_of_fuzz)["request_id"] for _ in range(30)]
    requests += [submit_decided(agent_of_fuzz, operators[0])["request_id"] for _ in range(10)]
    return requests


@pytest.fixture(scope="module")
def agent_of_fuzz(admin):
    return register_agent(admin)


@pytest.fixture(scope="module")
def victim(admin) -> str:
    """An agent that administrators may disable, and whose keys they may revoke."""
    return register_agent(admin).agent_id


def aimed(case, turn: int, agent_id: str, victim: str, requests: list[str]) -> None:
    """Three calls of four are about something that exists."""
    # Nobody waits here.
    if case.query and str(case.query.get("wait_seconds", "x")).isdigit():
        case.query["wait_seconds"] = 0
    if turn % 4 == 0:
        return
    if "agent_id" in case.path_parameters:
        case.path_parameters["agent_id"] = victim if case.path.startswith("/v1/admin") else agent_id
    if "request_id" in case.path_parameters:
        case.path_parameters["request_id"] = requests[turn % len(requests)]
    if isinstance(case.body, dict) and "agent_id" in case.body:
        case.body["agent_id"] = agent_id if case.path.startswith("/v1/hitl") else victim
    if isinstance(case.body, dict) and "key_id" in case.body and turn % 4 == 1:
        case.body["key_id"] = new_key_id()


@schema.parametrize()
# Few are the same each time: what is found by chance is for the long run.
@settings(max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES < 50, database=None,
          phases=[Phase.explicit, Phase.generate, Phase.shrink], suppress_health_check=list(HealthCheck))
def test_no_made_up_call_does_harm(case, stack, agent_of_fuzz, victim, known):
    turn = next(number)
    aimed(case, turn, agent_of_fuzz.agent_id, victim, known)
    tokens = {
        "agent": agent_of_fuzz.token(),
        "operator": stack["operator"]["token"],
        "admin": stack["admin"]["token"],
    }
    # Now and then with another's token.
    kind = list(tokens)[turn // 16 % 3] if turn % 16 == 5 else who(case.method, case.path)
    response = case.call(base_url=BASE_URL, headers={"authorization": f"Bearer {tokens[kind]}"})
    assert response.status_code < 500, response.text
    if response.status_code >= 400 and case.method != "HEAD":
        headers = [(name, value) for name, values in response.headers.items() for value in values]
        request = httpx.Request(case.method, f"{BASE_URL}{case.path}")
        check_problem_document(httpx.Response(response.status_code, headers=headers, content=response.content,
                                              request=request))
    elif response.status_code < 300:
        case.validate_response(response, checks=CHECKS)
