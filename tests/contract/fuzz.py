"""Calls made up from openapi.json, valid and not, with every kind of token: no answer is a server error, every error
is a problem document, and what is served is what the document says.

Not collected by default. FUZZ_EXAMPLES is the number of made-up calls for each route. Bodies made to cost memory are
sent for FUZZ_SECONDS, and judged by the memory of the process FUZZ_PID."""

import concurrent.futures
import itertools
import os
import random
import time

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import checks

from conftest import read_stack
from support import INNARDS, check_problem_document, new_key_id, register_agent, submit, submit_decided
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
        "owner": stack["owner"]["token"],
    }
    # Now and then with another's token.
    kind = list(tokens)[turn // 16 % 4] if turn % 16 == 5 else who(case.method, case.path)
    response = case.call(base_url=BASE_URL, headers={"authorization": f"Bearer {tokens[kind]}"})
    assert response.status_code < 500, response.text
    if response.status_code >= 400 and case.method != "HEAD":
        headers = [(name, value) for name, values in response.headers.items() for value in values]
        request = httpx.Request(case.method, f"{BASE_URL}{case.path}")
        check_refusal(case.path, httpx.Response(response.status_code, headers=headers, content=response.content,
                                                request=request))
    elif response.status_code < 300:
        case.validate_response(response, checks=CHECKS)


def check_refusal(path: str, response: httpx.Response) -> None:
    """A problem document, or what the protocol of a bridge has for one."""
    if not path.startswith("/aap/v1/"):
        return check_problem_document(response)
    error = response.json()["error"]
    assert set(error) == {"type", "code", "message", "request_id"}, response.text
    assert all(isinstance(member, str) and member for member in error.values()), response.text
    assert not [word for word in INNARDS if word in response.text], response.text


# What a body may cost, whatever it holds (contract, "Limits").
MIB = 1024 * 1024
LONGEST_ANSWER = 1_000_000
MOST_MEMORY = 128 * MIB
# The process that is asked; without it only the answers are judged.
PID = os.environ.get("FUZZ_PID")
SECONDS = float(os.environ.get("FUZZ_SECONDS", 3))


def bodies(chance: random.Random):
    """Bodies of up to 1 MiB, for ever: what is long where an answer or a fault might repeat it."""
    while True:
        size = chance.choice([1_000, 24_000, 60_000, 250_000, 500_000, MIB - 64])
        key = "k" * chance.randrange(1, size // 2)
        depth = chance.randrange(1, 40)
        empty = chance.choice(["[]", "{}", "0", '""', "null", "1e999", "9007199254740993", '"\\u0000"', '"\\ud800"'])
        many = ",".join([empty] * max(1, (size - len(key)) // (len(empty) + 1)))
        members = ",".join(f'"m{n}":{empty}' for n in range(size // (len(empty) + 9)))
        bytes_ = chance.randbytes(min(size, 200_000))
        body = chance.choice([
            f'{{"{key}":' + "[" * depth + many + "]" * depth + "}",
            f'{{"action":{{"{key}":[{many}]}}}}',
            f'{{{members}}}',
            f'{{"decisions":[{many}]}}',
            f'{{"scope":{{"request_ids":[{many}]}}}}',
            f'{{"title":"{"x" * (size - 20)}"}}',
            f'{{"reason":"{"/~" * (size // 2 - 20)}"}}',
            "{" + ",".join(['"a":0'] * (size // 6)) + "}",
            "[" * size,
            '{"a":' * (size // 5),
            '"' + "\\u0041" * (size // 6 - 2) + '"',
            "1" * size,
            f'{{"{key}',
            bytes_,
            b'{"title":"' + bytes_ + b'"}',
        ])
        yield (body.encode() if isinstance(body, str) else body)[:MIB]


def memory(name: str) -> int:
    """A figure of the process in bytes: VmRSS now, VmHWM the most since it was last asked to forget."""
    with open(f"/proc/{PID}/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(f"{name}:"))


def test_no_body_costs_much(stack, agent_of_fuzz, known):
    """On every route that takes a body, four at once."""
    tokens = {"operator": stack["operator"]["token"], "admin": stack["admin"]["token"], "owner": stack["owner"]["token"]}
    routes = [(method.upper(), path.format_map(Names(known[0], agent_of_fuzz.agent_id)), who(method.upper(), path))
              for path, item in schema.raw_schema["paths"].items() for method in item
              if method in ("post", "put", "patch", "delete")]
    assert len(routes) >= 15
    longest, calls = 0, 0

    def send(seed: int) -> tuple[int, int]:
        chance, longest, calls = random.Random(seed), 0, 0
        ends = time.monotonic() + SECONDS
        turns = itertools.cycle(chance.sample(routes, len(routes)))
        with httpx.Client(base_url=BASE_URL, timeout=30) as client:
            for (method, path, kind), body in zip(turns, bodies(chance)):
                if time.monotonic() > ends and calls >= len(routes):
                    return longest, calls
                token = tokens.get(kind) or agent_of_fuzz.token()
                headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
                try:
                    response = client.request(method, path, content=body, headers=headers)
                except httpx.TransportError:
                    # What is refused unread may end the connection.
                    calls += 1
                    continue
                assert response.status_code < 500 or response.status_code == 503, (method, path, response.text[:500])
                longest, calls = max(longest, len(response.content)), calls + 1

    if PID:
        # From here on the most counts.
        with open(f"/proc/{PID}/clear_refs", "w") as forget:
            forget.write("5")
        at_rest = memory("VmRSS")
    with concurrent.futures.ThreadPoolExecutor(4) as callers:
        for of_one, count in callers.map(send, range(4) if EXAMPLES < 50 else [random.random() for _ in range(4)]):
            longest, calls = max(longest, of_one), calls + count
    assert longest < LONGEST_ANSWER, longest
    if PID:
        above = memory("VmHWM") - at_rest
        assert above < MOST_MEMORY, f"{above // MIB} MiB above rest"
        print(f"{calls} hostile bodies, answers of {longest} bytes at the most, {above // MIB} MiB above rest")


class Names(dict):
    """Values of a path's parameters, where they are known."""

    def __init__(self, request_id: str, agent_id: str):
        super().__init__(request_id=request_id, agent_id=agent_id)

    def __missing__(self, name: str) -> str:
        return "00000000-0000-7000-8000-000000000000"
