"""What JSON an envelope may be written in: sizes, depth, numbers, text, content types."""

import json

import pytest

from agent import action_digest
from conftest import VECTORS
from support import (
    REQUESTS,
    assert_nothing_stored,
    expect,
    expect_problem,
    new_envelope,
    pointers,
    submit,
)

LIMIT = 512 * 1024
MEMBER_LIMIT = 256 * 1024
LARGEST = 2**53 - 1
PLACES = {
    "/action/arguments": '"action": {"type": "x", "arguments": %s}',
    "/context": '"action": {"type": "x", "arguments": {}}, "context": %s',
    "/resume": '"action": {"type": "x", "arguments": {}}, "resume": %s',
}
anywhere = pytest.mark.parametrize("place", PLACES)


def written(agent, place: str, text: str) -> bytes:
    """An envelope with `text`, as it is, as the value at `place`."""
    head = json.dumps({name: value for name, value in new_envelope(agent.agent_id).items() if name != "action"})
    return (head[:-1] + ", " + PLACES[place] % text + "}").encode()


def padded(agent, size: int) -> bytes:
    envelope = new_envelope(agent.agent_id, context={"padding": ""})
    padding = "x" * (size - len(json.dumps(envelope)))
    return json.dumps(envelope | {"context": {"padding": padding}}).encode()


@pytest.fixture
def refuse(shared_agent, operator):
    """Submits bytes that must be refused, and nothing of them stored."""

    def submit_and_check(body: bytes, status: int, code: str) -> dict:
        problem = expect_problem(shared_agent.submit(body), status, code)
        assert_nothing_stored(shared_agent, operator)
        return problem

    return submit_and_check


# ---------------------------------------------------------------- not JSON at all


@pytest.mark.parametrize("body", [
    b"",
    b" \n ",
    b"nonsense",
    b"{",
    b'{"title": "open',
    b"{} {}",
    b"{}x",
    b"{'title': 'x'}",
    b'{"title": "x",}',
    b'{"title": "x" /* why */}',
    b'{"a": 01}',
    b'{"a": +1}',
    b'{"a": .5}',
    b'{"a": 1.}',
    b'{"a": NaN}',
    b'{"a": Infinity}',
    b'{"a": "raw \x00"}',
    b'{"a": "raw \n"}',
    b'{"a": "\\x41"}',
    b'{"a": "\xff"}',
    b'{"a": "\xc0\x80"}',
    b'{"a": "\xed\xa0\x80"}',
    b'{"a": "\xf4\x90\x80\x80"}',
    b'{"a": "\xe2\x82"}',
    '{"a": 1}'.encode("utf-16"),
], ids=repr)
def test_what_is_no_json_is_refused(refuse, body):
    refuse(body, 400, "malformed-json")


@anywhere
@pytest.mark.parametrize("text", [
    '{"a": 1, "a": 2}',
    '{"a": 1, "a": 1}',
    '{"a": 1, "\\u0061": 1}',
    '{"in": [{"a": 1, "b": 2, "a": 3}]}',
], ids=str)
def test_a_duplicate_member_is_refused(shared_agent, refuse, place, text):
    refuse(written(shared_agent, place, text), 400, "malformed-json")


def test_a_duplicate_member_of_the_envelope_is_refused(shared_agent, refuse):
    envelope = json.dumps(new_envelope(shared_agent.agent_id))
    refuse(f'{envelope[:-1]}, "title": "Another title"}}'.encode(), 400, "malformed-json")


def test_a_duplicate_member_of_the_action_is_refused(shared_agent, refuse):
    envelope = json.dumps(new_envelope(shared_agent.agent_id, action={"type": "x", "arguments": {}}))
    twice = envelope.replace('{"type": "x"', '{"type": "y", "type": "x"')
    assert twice != envelope
    refuse(twice.encode(), 400, "malformed-json")


# ---------------------------------------------------------------- text


@anywhere
@pytest.mark.parametrize("text", ['{"a": "x\\u0000"}', '{"a": ["\\u0000"]}', '{"\\u0000": 1}'], ids=str)
def test_u0000_is_refused(shared_agent, refuse, place, text):
    problem = refuse(written(shared_agent, place, text), 422, "validation-failed")
    assert all(pointer.startswith(place) for pointer in pointers(problem)) and pointers(problem)


@pytest.mark.parametrize("member", ["title", "summary", "client_request_key"])
def test_u0000_is_refused_in_the_envelopes_own_text(shared_agent, refuse, member):
    envelope = new_envelope(shared_agent.agent_id, **{member: "x\0y"})
    assert pointers(refuse(json.dumps(envelope).encode(), 422, "validation-failed")) == {f"/{member}"}


@anywhere
@pytest.mark.parametrize("text", [
    '{"a": "\\ud800"}',
    '{"a": "\\udc00 trail"}',
    '{"a": "\\udc00\\ud800"}',
    '{"a": "\\ud83d\\ud83d\\ude00"}',
    '{"\\udfff": 1}',
], ids=str)
def test_a_lone_surrogate_is_refused(shared_agent, operator, place, text):
    response = shared_agent.submit(written(shared_agent, place, text))
    assert (response.status_code, response.json()["code"]) in ((400, "malformed-json"), (422, "validation-failed"))
    assert_nothing_stored(shared_agent, operator)


@anywhere
def test_text_beyond_the_basic_plane_is_accepted(agent, place):
    expect(agent.submit(written(agent, place, '{"a": "\\ud83d\\ude00 \U0001f600 \\u0001 \\uffff"}')), 201)


# ---------------------------------------------------------------- numbers


@anywhere
@pytest.mark.parametrize("number", [
    f"{LARGEST}", f"{-LARGEST}", "0", "-0", "-0.0", "1.00", "1e2", "1E+2", "1e21", "0.1e-6", f"{LARGEST + 2}.0",
    "12345678901234567890e0", "1.7976931348623157e308", "-1.7976931348623157e308", "2.2250738585072014e-308",
])
def test_a_number_within_range_is_accepted(agent, place, number):
    expect(agent.submit(written(agent, place, f'{{"n": {number}}}')), 201)


@anywhere
@pytest.mark.parametrize("number", [
    f"{LARGEST + 1}", f"{-LARGEST - 1}", "9" * 20, "-" + "9" * 400, "1e400", "-1e400", "1.8e308", "1e99999999999",
])
def test_a_number_beyond_range_is_refused(shared_agent, refuse, place, number):
    body = written(shared_agent, place, f'{{"list": [0, {{"n": {number}}}]}}')
    assert pointers(refuse(body, 422, "validation-failed")) == {f"{place}/list/1/n"}


@pytest.mark.parametrize(
    "vector", json.loads((VECTORS / "action-digests.json").read_text()), ids=lambda v: v["action"]["type"]
)
def test_an_actions_digest_is_that_of_its_canonical_form(agent, vector):
    submission = submit(agent, action=vector["action"])
    assert submission["action_digest"] == vector["action_digest"] == action_digest(vector["action"])


# ---------------------------------------------------------------- depth and size


def nested(place: str, depth: int) -> str:
    """Objects within objects, so that the envelope (itself: 1) is `depth` deep at `place`."""
    within = depth - place.count("/") - 1
    return '{"a":' * within + "{}" + "}" * within


@anywhere
def test_depth_32_is_accepted(agent, place):
    expect(agent.submit(written(agent, place, nested(place, 32))), 201)


@anywhere
@pytest.mark.parametrize("depth", [33, 34, 100, 10_000])
def test_a_deeper_envelope_is_refused(shared_agent, refuse, place, depth):
    refuse(written(shared_agent, place, nested(place, depth)), 422, "validation-failed")


def test_lists_count_towards_the_depth(agent):
    lists = '{"a":' + "[" * 30 + "]" * 30 + "}"
    expect(agent.submit(written(agent, "/context", lists)), 201)
    deeper = '{"a":' + "[" * 31 + "]" * 31 + "}"
    expect_problem(agent.submit(written(agent, "/context", deeper)), 422, "validation-failed")


def test_a_hundred_thousand_brackets_are_refused(refuse):
    refuse(b"[" * 100_000 + b"]" * 100_000, 422, "validation-failed")


def test_a_body_of_512_kib_is_accepted(agent):
    body = padded(agent, LIMIT)
    assert len(body) == LIMIT
    expect(agent.submit(body), 201)


def object_of(size: int) -> dict:
    """An object that is written in so many bytes."""
    return {"x": "y" * (size - len('{"x": ""}'))}


@pytest.mark.parametrize("excess", [0, 1])
def test_action_and_resume_are_up_to_256_kib_each(agent, excess):
    arguments = object_of(MEMBER_LIMIT - len('{"type": "x", "arguments": }') + excess)
    members = {"action": {"type": "x", "arguments": arguments}, "resume": object_of(MEMBER_LIMIT - 1024)}
    if excess:
        problem = expect_problem(agent.submit(new_envelope(agent.agent_id, **members)), 422, "validation-failed")
        assert pointers(problem) == {"/action"}
        longer = new_envelope(agent.agent_id, resume=object_of(MEMBER_LIMIT + excess))
        problem = expect_problem(agent.submit(longer), 422, "validation-failed")
        assert pointers(problem) == {"/resume"}
    else:
        body = json.dumps(new_envelope(agent.agent_id, **members)).encode()
        assert MEMBER_LIMIT < len(body) <= LIMIT
        expect(agent.submit(body), 201)


@pytest.mark.parametrize("size", [LIMIT + 1, 2 * LIMIT, 8 * LIMIT])
def test_a_larger_body_is_refused(shared_agent, refuse, size):
    refuse(padded(shared_agent, size), 413, "payload-too-large")


def test_a_larger_body_of_undeclared_length_is_refused(shared_agent, operator):
    body = padded(shared_agent, LIMIT + 1)
    pieces = (body[start:start + 8192] for start in range(0, len(body), 8192))
    response = shared_agent.call("POST", REQUESTS, content=pieces, headers={"content-type": "application/json"})
    assert "content-length" not in response.request.headers
    expect_problem(response, 413, "payload-too-large")
    assert_nothing_stored(shared_agent, operator)


# ---------------------------------------------------------------- content types


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
def test_json_is_accepted(agent, content_type):
    body = json.dumps(new_envelope(agent.agent_id)).encode()
    expect(agent.call("POST", REQUESTS, content=body, headers={"content-type": content_type}), 201)


@pytest.mark.parametrize("content_type", [
    None, "text/plain", "text/json", "application/xml", "application/x-www-form-urlencoded", "application/jsonx",
    "multipart/form-data; boundary=x", "json",
])
def test_another_content_type_is_refused(shared_agent, operator, content_type):
    body = json.dumps(new_envelope(shared_agent.agent_id)).encode()
    headers = {"content-type": content_type} if content_type else {}
    response = shared_agent.call("POST", REQUESTS, content=body, headers=headers)
    expect_problem(response, 415, "unsupported-media-type")
    assert_nothing_stored(shared_agent, operator)
