"""What the service signs, checked by libraries of another language (tests/verifiers, Node)."""

import base64
import json
import subprocess

import httpx
import pytest

from conftest import TESTS
from support import deliver, submit_decided

VERIFIERS = TESTS / "verifiers"


def accepted(script: str, message: dict) -> bool:
    """Whether the Node script accepts the message; anything but yes or no is an error."""
    assert (VERIFIERS / "node_modules").is_dir(), "run `npm ci` in tests/verifiers first"
    run = subprocess.run(
        ["node", VERIFIERS / script], input=json.dumps(message), capture_output=True, text=True, timeout=30
    )
    assert run.returncode in (0, 1), run.stderr
    return run.returncode == 0


def exchange(response: httpx.Response, secret: bytes, /, **changes) -> dict:
    """A request and its response, as the verifier reads them."""
    request = response.request
    nonce = changes.get("nonce", request.headers["relaytrace-nonce"])
    return {
        "request": {
            "method": changes.get("method", request.method),
            "url": str(request.url),
            "headers": {"relaytrace-nonce": nonce},
        },
        "response": {
            "status": changes.get("status", response.status_code),
            "headers": dict(response.headers) | changes.get("headers", {}),
            "body_base64": base64.b64encode(changes.get("body", response.content)).decode(),
        },
        "secret_base64": base64.b64encode(changes.get("secret", secret)).decode(),
    }


def changed_byte(body: bytes) -> bytes:
    return body[:20] + bytes([body[20] ^ 1]) + body[21:]


@pytest.fixture(params=["200 decision", "404 problem"])
def answered(request, agent, operator) -> httpx.Response:
    if request.param == "404 problem":
        return agent.view("0192f5c4-6a3e-7c11-9d2f-2f0c5a8e4b17")
    submit_decided(agent, operator)
    return agent.call("GET", f"{agent.path}/decisions/poll")


def test_a_live_answer_is_accepted(agent, answered):
    assert accepted("verify.mjs", exchange(answered, agent.secret))


@pytest.mark.parametrize("change", [
    lambda response: {"body": changed_byte(response.content)},
    lambda response: {"status": response.status_code + 1},
    lambda response: {"method": "POST"},
    lambda response: {"nonce": "another-nonce-0000001"},
    lambda response: {"secret": b"another secret, 32 bytes long..."},
    lambda response: {"headers": {"content-type": "text/html"}},
], ids=["byte", "status", "method", "nonce", "secret", "content type"])
def test_a_changed_live_answer_is_refused(agent, answered, change):
    assert not accepted("verify.mjs", exchange(answered, agent.secret, **change(answered)))


def test_a_live_receipt_is_accepted_and_a_changed_one_refused(agent, operator, jwks):
    submission = submit_decided(agent, operator)
    receipt = deliver(agent, submission["request_id"])["receipt"]
    expected = {"sub": submission["request_id"], "action_digest": submission["action_digest"], "outcome": "approved"}
    assert accepted("receipt.mjs", {"receipt": receipt, "jwks": jwks, "expected": expected})
    assert not accepted("receipt.mjs", {"receipt": receipt, "jwks": jwks, "expected": expected | {"outcome": "rejected"}})
    header, claims, signature = receipt.split(".")
    forged = claims[:40] + ("A" if claims[40] != "A" else "B") + claims[41:]
    assert not accepted("receipt.mjs", {"receipt": f"{header}.{forged}.{signature}", "jwks": jwks, "expected": {}})
