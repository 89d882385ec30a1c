"""Every answer to an agent is signed for its question, errors too, and nothing else passes for it."""

import base64
import re
import time

import httpx
import pytest

from agent import Unverified, verify_response
from support import (
    REQUESTS,
    assert_nothing_stored,
    deliver,
    expect,
    expect_problem,
    new_envelope,
    register_agent,
    sha256,
    submit,
    submit_decided,
)

UNKNOWN = "0192f5c4-6a3e-7c11-9d2f-2f0c5a8e4b17"
NONCE = "c2VlZC1ub25jZS0wMDAx"


def ask(agent, method: str, path: str, nonces: tuple = (), headers: dict | None = None, **request) -> httpx.Response:
    """An authenticated call with these very nonces, its answer not verified."""
    sent = [("authorization", f"Bearer {agent.token()}"), *(("relaytrace-nonce", nonce) for nonce in nonces)]
    return agent.http.request(method, path, headers=sent + list((headers or {}).items()), **request)


def signature_input(response: httpx.Response) -> tuple[list[str], dict]:
    """Components and parameters of the one signature, read without a library."""
    shape = re.fullmatch(r"relaytrace=\(([^)]*)\)((?:;[a-z]+=(?:\d+|\"[^\"]*\"))+)", response.headers["signature-input"])
    assert shape, response.headers["signature-input"]
    parameters = dict(part.split("=", 1) for part in shape[2][1:].split(";"))
    return shape[1].split(" "), parameters


def json_body(**members) -> dict:
    return {"json": members}


JSON = {"content-type": "application/json"}
ANSWERS = {
    "200 poll": (200, "GET", "{agent}/decisions/poll", {}),
    "200 view": (200, "GET", "{agent}/requests/{decided}", {}),
    "200 cancel": (200, "POST", "{agent}/requests/{pending}/cancel", json_body()),
    "200 ack": (200, "POST", "{agent}/decisions/{decided}/ack", json_body(delivery_id="{delivery}", result="accepted")),
    "400 submit": (400, "POST", REQUESTS, {"content": b"nonsense", "headers": JSON}),
    "400 ack": (400, "POST", "{agent}/decisions/{decided}/ack", {"content": b"", "headers": JSON}),
    "403 poll": (403, "GET", "/v1/agents/another-agent/decisions/poll", {}),
    "403 submit": (403, "POST", REQUESTS, json_body(**new_envelope("another-agent"))),
    "404 view": (404, "GET", f"{{agent}}/requests/{UNKNOWN}", {}),
    "404 no UUID": (404, "GET", "{agent}/requests/nope", {}),
    "404 cancel": (404, "POST", f"{{agent}}/requests/{UNKNOWN}/cancel", json_body()),
    "404 ack": (404, "POST", f"{{agent}}/decisions/{UNKNOWN}/ack", json_body(delivery_id=UNKNOWN, result="accepted")),
    "404 route": (404, "GET", "{agent}/nothing", {}),
    "405 poll": (405, "DELETE", "{agent}/decisions/poll", {}),
    "405 ack": (405, "GET", "{agent}/decisions/{decided}/ack", {}),
    "405 submit": (405, "PUT", REQUESTS, json_body()),
    "409 cancel": (409, "POST", "{agent}/requests/{decided}/cancel", json_body()),
    "409 ack": (409, "POST", "{agent}/decisions/{decided}/ack", json_body(delivery_id=UNKNOWN, result="accepted")),
    "413 submit": (413, "POST", REQUESTS, {"content": b'{"x": "' + b"x" * 600 * 1024 + b'"}', "headers": JSON}),
    "415 submit": (415, "POST", REQUESTS, {"content": b"{}", "headers": {"content-type": "text/plain"}}),
    "422 submit": (422, "POST", REQUESTS, json_body()),
    "422 poll": (422, "GET", "{agent}/decisions/poll?limit=ten", {}),
    "422 ack": (422, "POST", "{agent}/decisions/{decided}/ack", json_body()),
}


@pytest.fixture
def asked(agent, operator):
    """Fills in this agent's path and requests of its own."""
    decided = submit_decided(agent, operator)["request_id"]
    values = {
        "agent": agent.path,
        "decided": decided,
        "delivery": deliver(agent, decided)["delivery_id"],
        "pending": submit(agent)["request_id"],
    }

    def fill(value):
        if isinstance(value, str):
            return re.sub(r"{(\w+)}", lambda name: values[name[1]], value)
        if isinstance(value, dict):
            return {name: fill(member) for name, member in value.items()}
        return value

    return fill


@pytest.mark.parametrize("answer", ANSWERS)
def test_every_answer_to_an_agent_verifies(agent, asked, answer):
    status, method, path, request = ANSWERS[answer]
    response = agent.call(method, asked(path), **asked(request))
    assert response.status_code == status, response.text
    if status < 300:
        body = response.json()
        assert body["agent_id"] == agent.agent_id
        assert "/decisions/poll" in path or body["request_id"]


@pytest.mark.parametrize("answer", ["200 poll", "404 view", "409 cancel", "422 submit"])
def test_without_a_nonce_the_component_is_left_out(agent, asked, answer):
    status, method, path, request = ANSWERS[answer]
    response = ask(agent, method, asked(path), **asked(request))
    assert response.status_code == status, response.text
    verify_response(response, agent.key_id, agent.secret, with_nonce=False)
    assert signature_input(response)[0] == ['"@status"', '"content-type"', '"content-digest"', '"@method";req']
    with pytest.raises(Unverified):
        verify_response(response, agent.key_id, agent.secret)


def test_a_created_and_a_repeated_submission_verify(agent):
    envelope = new_envelope(agent.agent_id)
    assert [agent.submit(envelope).status_code for _ in range(2)] == [201, 200]
    assert agent.submit(envelope | {"title": "Another"}).status_code == 422


def test_the_signature_has_the_contracts_form(agent):
    before = int(time.time())
    response = ask(agent, "GET", f"{agent.path}/decisions/poll", [NONCE])
    components, parameters = signature_input(response)
    assert components == [
        '"@status"', '"content-type"', '"content-digest"', '"@method";req', '"relaytrace-nonce";req',
    ]
    assert set(parameters) == {"created", "expires", "nonce", "keyid", "alg", "tag"}
    assert before - 1 <= int(parameters["created"]) <= time.time() + 1
    assert int(parameters["expires"]) == int(parameters["created"]) + 60
    assert parameters["keyid"] == f'"{agent.key_id}"'
    assert parameters["alg"] == '"hmac-sha256"'
    assert parameters["tag"] == '"relaytrace-response"'
    assert len(parameters["nonce"]) > 2
    digest = base64.b64encode(sha256(response.content)).decode()
    assert response.headers["content-digest"] == f"sha-256=:{digest}:"
    assert re.fullmatch(r"relaytrace=:[A-Za-z0-9+/]{43}=:", response.headers["signature"])


def test_no_two_signatures_share_a_nonce(agent):
    nonces = [
        signature_input(ask(agent, "GET", f"{agent.path}/decisions/poll", [NONCE]))[1]["nonce"] for _ in range(10)
    ]
    assert len(set(nonces)) == 10


# ---------------------------------------------------------------- nonces


@pytest.mark.parametrize("nonce", ["A" * 16, "z" * 64, "-_-_-_-_-_-_-_-_0189", "0" * 40])
def test_a_well_formed_nonce_is_covered(agent, nonce):
    response = ask(agent, "GET", f"{agent.path}/decisions/poll", [nonce])
    expect(response, 200)
    covered = verify_response(response, agent.key_id, agent.secret).covered_components
    assert covered['"relaytrace-nonce";req'] == nonce


@pytest.mark.parametrize("nonces", [
    [""], ["A" * 15], ["A" * 65], ["A" * 5000], ["with spaces in it ok"], ["semicolon;semicolon"],
    ['"quoted-nonce-0001"'], ["padded-base64-nonce="], ["plus+plus+plus+plus"], [b"\xfc" * 16],
    [NONCE, NONCE], [NONCE, "another-nonce-0000001"], [f"{NONCE}, {NONCE}"],
], ids=lambda nonces: str(nonces)[:40])
def test_a_malformed_nonce_is_refused_and_not_covered(agent, operator, nonces):
    answers = [
        ask(agent, "GET", f"{agent.path}/decisions/poll", nonces),
        ask(agent, "POST", REQUESTS, nonces, json=new_envelope(agent.agent_id)),
    ]
    for response in answers:
        expect_problem(response, 422, "validation-failed")
        covered = verify_response(response, agent.key_id, agent.secret, with_nonce=False).covered_components
        assert '"relaytrace-nonce";req' not in covered
        with pytest.raises(Unverified):
            verify_response(response, agent.key_id, agent.secret)
    assert_nothing_stored(agent, operator)


# ---------------------------------------------------------------- compression


@pytest.mark.parametrize("encodings", ["gzip", "br", "zstd", "gzip, deflate, br, zstd", "*", "identity;q=0, gzip"])
def test_an_answer_to_an_agent_is_never_compressed(agent, operator, encodings):
    submission = submit(agent, resume={"padding": "x" * 50_000})
    expect(operator.decide(submission["request_id"], "approve"), 201)
    for path in (f"{agent.path}/requests/{submission['request_id']}", f"{agent.path}/requests/{UNKNOWN}"):
        response = agent.call("GET", path, headers={"accept-encoding": encodings})
        assert response.headers.get("content-encoding", "identity") == "identity"
        assert response.headers["content-type"].startswith("application/")
    polled = agent.call("GET", f"{agent.path}/decisions/poll", headers={"accept-encoding": encodings})
    assert len(polled.content) > 50_000
    assert "content-encoding" not in polled.headers


# ---------------------------------------------------------------- what does not pass for an answer


def altered(response: httpx.Response, **changes) -> httpx.Response:
    """The response, changed on its way."""
    request = httpx.Request(
        changes.get("method", response.request.method),
        response.request.url,
        headers=dict(response.request.headers) | changes.get("request_headers", {}),
    )
    headers = {name: value for name, value in (dict(response.headers) | changes.get("headers", {})).items() if value}
    return httpx.Response(
        changes.get("status", response.status_code),
        headers=headers,
        content=changes.get("content", response.content),
        request=request,
    )


@pytest.fixture
def answered(agent, operator) -> httpx.Response:
    """A verified answer: the delivery of an approval."""
    submit_decided(agent, operator)
    response = agent.call("GET", f"{agent.path}/decisions/poll")
    verify_response(altered(response), agent.key_id, agent.secret)
    return response


@pytest.mark.parametrize("changes", [
    {"status": 201},
    {"status": 404},
    {"method": "POST"},
    {"request_headers": {"relaytrace-nonce": "another-nonce-0000001"}},
    {"request_headers": {"relaytrace-nonce": ""}},
    {"headers": {"content-type": "application/problem+json"}},
    {"headers": {"content-digest": None}},
    {"headers": {"content-digest": f"sha-256=:{base64.b64encode(sha256(b'')).decode()}:"}},
    {"headers": {"signature": None}},
    {"headers": {"signature-input": None}},
    {"headers": {"signature": None, "signature-input": None}},
    {"headers": {"signature": f"relaytrace=:{base64.b64encode(sha256(b'')).decode()}:"}},
    {"content": b""},
    {"content": b'{"decisions": []}'},
], ids=str)
def test_a_changed_answer_is_refused(agent, answered, changes):
    with pytest.raises(Unverified):
        verify_response(altered(answered, **changes), agent.key_id, agent.secret)


def test_every_changed_byte_of_an_answer_is_refused(agent, answered):
    content = answered.content
    for position in range(0, len(content), 11):
        changed = content[:position] + bytes([content[position] ^ 1]) + content[position + 1:]
        with pytest.raises(Unverified):
            verify_response(altered(answered, content=changed), agent.key_id, agent.secret)


def test_every_changed_parameter_of_the_signature_is_refused(agent, answered):
    given = answered.headers["signature-input"]
    changes = [
        given.replace('tag="relaytrace-response"', 'tag="another-purpose"'),
        given.replace(agent.key_id, "another-key"),
        given.replace('"content-digest" ', ""),
        given.replace(' "relaytrace-nonce";req', ""),
        given.replace("relaytrace=", "another="),
        re.sub(r"created=(\d+)", lambda created: f"created={int(created[1]) - 1}", given),
        re.sub(r"expires=(\d+)", lambda expires: f"expires={int(expires[1]) + 3600}", given),
        re.sub(r";nonce=\"[^\"]*\"", ';nonce="another"', given),
        given.replace("hmac-sha256", "ed25519"),
    ]
    for changed in changes:
        assert changed != given
        with pytest.raises(Unverified):
            verify_response(altered(answered, headers={"signature-input": changed}), agent.key_id, agent.secret)


def test_the_answer_to_another_question_is_refused(agent, operator):
    """A captured approval cannot stand in for the answer that the agent waits for."""
    submit_decided(agent, operator)
    captured = agent.call("GET", f"{agent.path}/decisions/poll")
    current = agent.call("GET", f"{agent.path}/decisions/poll")
    replayed = httpx.Response(200, headers=captured.headers, content=captured.content, request=current.request)
    with pytest.raises(Unverified):
        verify_response(replayed, agent.key_id, agent.secret)


def test_an_answer_to_another_agent_is_refused(admin, agent):
    other = register_agent(admin)
    response = ask(other, "GET", f"{other.path}/decisions/poll", [NONCE])
    verify_response(response, other.key_id, other.secret)
    for key_id in (agent.key_id, other.key_id):
        with pytest.raises(Unverified):
            verify_response(response, key_id, agent.secret)
