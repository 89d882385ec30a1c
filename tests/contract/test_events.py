"""The sample events of local/events, through the emulator of cargo-lambda: what `cargo lambda invoke` is given."""

import base64
import json
import os
import secrets
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from agent import Agent, Unverified, verify_response
from support import ACTION, verify_chain

CHECKOUT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(not os.environ.get("RELAYTRACE_IN_EMULATOR"), reason="there is no emulator")


@pytest.fixture
def known(http, stack) -> Agent:
    """The agent that the sample events are of."""
    agent = stack["agent"]
    key = load_pem_private_key(agent["private_key_pem"].encode(), password=None)
    return Agent(http, agent["agent_id"], agent["key_id"], key, agent["response_secret"])


def invoke(stack: dict, function: str, sample: str, **values) -> dict:
    """What `cargo lambda invoke` prints, for a sample event with these values in place of its placeholders."""
    event = (CHECKOUT / "local" / "events" / f"{sample}.json").read_text()
    for name, value in values.items():
        assert name in event, f"{sample}.json has no {name}"
        event = event.replace(name, value)
    address = urlsplit(stack["base_url"])
    command = ["cargo", "lambda", "invoke", function, "--data-ascii", event]
    command += ["--invoke-address", address.hostname, "--invoke-port", str(address.port)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def response_to(sample: str, answer: dict, **values) -> httpx.Response:
    """The answer as API Gateway gives it to the caller."""
    event = json.loads((CHECKOUT / "local" / "events" / f"{sample}.json").read_text())
    body = base64.b64decode(answer["body"]) if answer["isBase64Encoded"] else answer["body"].encode()
    request = httpx.Request(event["requestContext"]["http"]["method"], "https://api.example.com", headers={
        name: value for name, value in event["headers"].items() if name == "relaytrace-nonce"
    })
    return httpx.Response(answer["statusCode"], headers=answer["headers"], content=body, request=request)


def test_the_schedules_event_is_a_sweep(stack):
    counts = invoke(stack, "timeout-sweep", "schedule")
    assert counts and all(isinstance(count, int) for count in counts.values())


def test_a_function_is_ready(stack):
    answer = invoke(stack, "decide", "ready")
    assert (answer["statusCode"], json.loads(answer["body"])["status"]) == (200, "ready")


def test_an_event_without_a_good_token_is_refused(stack):
    for function, sample in [("ingest", "submit"), ("decide", "decide"), ("poll", "poll"), ("admin", "chain")]:
        assert invoke(stack, function, sample)["statusCode"] == 401


def test_a_handoff_by_events(stack, known, http):
    operator, admin = stack["operator"]["token"], stack["admin"]["token"]

    def as_agent(function: str, sample: str, **values) -> dict:
        response = response_to(sample, invoke(stack, function, sample, TOKEN=known.token(), **values))
        verify_response(response, known.key_id, known.secret)
        assert response.is_success, response.text
        return response.json()

    request_id = as_agent("ingest", "submit", KEY=f"sample-{secrets.token_hex(8)}")["request_id"]
    decided = invoke(stack, "decide", "decide", TOKEN=operator, REQUEST_ID=request_id)
    assert decided["statusCode"] == 201, decided
    [decision] = as_agent("poll", "poll", REQUEST_ID=request_id)["decisions"]
    action = ACTION | {"arguments": ACTION["arguments"] | {"currency": "EUR"}}
    known.check_decision(decision, action, known.receipt_keys())
    assert (decision["outcome"], decision["resume"]) == ("approved", {"ticket": 7})
    acknowledged = as_agent("poll", "acknowledge", REQUEST_ID=request_id, DELIVERY_ID=decision["delivery_id"])
    assert acknowledged["state"] == "acknowledged"
    # As an API that asks for IAM passes it on: the token is beside the signature of AWS.
    answer = invoke(stack, "admin", "chain", TOKEN=admin, REQUEST_ID=request_id)
    assert answer["statusCode"] == 200, answer
    chain = json.loads(answer["body"])
    verify_chain(chain, decision["chain"]["length"], decision["chain"]["head"])
    assert [entry["kind"] for entry in chain["entries"]] == ["submitted", "decided", "acknowledged"]


def test_an_answer_that_was_changed_on_its_way_does_not_verify(stack, known):
    answer = invoke(stack, "ingest", "submit", TOKEN=known.token(), KEY=f"sample-{secrets.token_hex(8)}")
    answer["body"] = answer["body"].replace("P2", "P1")
    with pytest.raises(Unverified):
        verify_response(response_to("submit", answer), known.key_id, known.secret)
