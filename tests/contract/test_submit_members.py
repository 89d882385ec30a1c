"""What an envelope may hold, member by member."""

import secrets

import pytest

from support import (
    ACTION,
    assert_nothing_stored,
    expect,
    expect_problem,
    in_seconds,
    new_envelope,
    pointers,
    register_agent,
    submit,
)

REQUIRED = ["envelope_version", "agent_id", "client_request_key", "priority", "title", "action"]
OPTIONAL = ["summary", "context", "resume", "respond_by"]
MINUTE, HOUR = 60, 3600


@pytest.fixture
def refuse(shared_agent, operator):
    """Submits what must be refused, and nothing of it stored; returns the faults' pointers."""

    def submit_and_check(envelope: dict) -> set[str]:
        problem = expect_problem(shared_agent.submit(envelope), 422, "validation-failed")
        assert_nothing_stored(shared_agent, operator)
        return pointers(problem)

    return submit_and_check


@pytest.mark.parametrize("changes", [
    {},
    {"client_request_key": "k" * 128},
    {"client_request_key": "A-z.0_9:-"},
    {"client_request_key": "-"},
    {"priority": "P1"},
    {"priority": "P3"},
    {"title": "x"},
    {"title": "x" * 200},
    {"title": "ü" * 200},
    {"title": "\N{GRINNING FACE}" * 200},
    {"title": "مرحبا <b>&amp;</b> ' \" \\"},
    {"summary": "# Why\n\n- one\n\ttwo\r\n"},
    {"summary": "ß" * 8000},
    {"action": {"type": "x", "arguments": {}}},
    {"action": {"type": "Bash", "arguments": {}}},
    {"action": {"type": "mcp__github__create_issue", "arguments": {}}},
    {"action": {"type": "server/tool:a%20b~c-d.e", "arguments": {}}},
    {"action": {"type": "_" + "Z" * 127, "arguments": {"nothing": None, "list": [None, {}]}}},
    {"context": {}, "resume": {}},
    {"context": {"deep": [{"er": [1, 2.5, "three", None, True]}]}},
    {"resume": {"": "an empty name"}},
    {"respond_by": in_seconds(3 * HOUR)},
    {"respond_by": in_seconds(HOUR).replace("Z", "000Z")},
    {"priority": "P1", "respond_by": in_seconds(14 * MINUTE)},
    {"priority": "P3", "respond_by": in_seconds(23 * HOUR)},
], ids=lambda changes: str(changes)[:60])
def test_a_good_envelope_is_accepted(agent, operator, changes):
    submission = submit(agent, **changes)
    item = operator.detail(submission["request_id"])
    for member, value in changes.items():
        if member not in ("resume", "respond_by"):
            assert item[member] == value


def test_a_shorter_time_than_the_policys_is_kept(agent):
    wanted = in_seconds(HOUR)
    assert submit(agent, respond_by=wanted)["respond_by"][:19] == wanted[:19]


@pytest.mark.parametrize("length", [8, 63])
def test_agent_ids_of_any_allowed_length_work(admin, length):
    agent_id = (secrets.token_hex(4) + "_-" * 32)[:length]
    assert submit(register_agent(admin, agent_id=agent_id))["agent_id"] == agent_id


@pytest.mark.parametrize("member", REQUIRED)
def test_a_required_member_may_not_be_missing(shared_agent, refuse, member):
    envelope = new_envelope(shared_agent.agent_id)
    del envelope[member]
    assert refuse(envelope) == {f"/{member}"}


@pytest.mark.parametrize("member", REQUIRED + OPTIONAL)
def test_null_is_not_absence(shared_agent, refuse, member):
    assert refuse(new_envelope(shared_agent.agent_id, **{member: None})) == {f"/{member}"}


@pytest.mark.parametrize("member", REQUIRED + OPTIONAL)
@pytest.mark.parametrize("value", [True, 7, ["list"]], ids=["boolean", "number", "list"])
def test_a_member_of_another_type_is_refused(shared_agent, refuse, member, value):
    assert refuse(new_envelope(shared_agent.agent_id, **{member: value})) == {f"/{member}"}


@pytest.mark.parametrize("member", ["action", "context", "resume"])
def test_text_is_no_object(shared_agent, refuse, member):
    assert refuse(new_envelope(shared_agent.agent_id, **{member: "{}"})) == {f"/{member}"}


@pytest.mark.parametrize("member, value", [
    ("envelope_version", "2"),
    ("envelope_version", ""),
    ("client_request_key", ""),
    ("client_request_key", "k" * 129),
    ("client_request_key", "a b"),
    ("client_request_key", " padded"),
    ("client_request_key", "padded "),
    ("client_request_key", "line\n"),
    ("client_request_key", "a/b"),
    ("client_request_key", "é"),
    ("priority", "P0"),
    ("priority", "P4"),
    ("priority", "p1"),
    ("priority", ""),
    ("title", ""),
    ("title", "x" * 201),
    ("title", "ü" * 201),
    ("title", "two\nlines"),
    ("title", "a\ttab"),
    ("title", "bell\x07"),
    ("title", "delete\x7f"),
    ("title", "next line\x85"),
    ("summary", "x" * 8001),
    ("respond_by", "tomorrow"),
    ("respond_by", ""),
    ("respond_by", "2096-11-22"),
    ("respond_by", "2096-13-45T12:00:00Z"),
    ("respond_by", "2096-11-22T12:00:00"),
    ("respond_by", "2020-01-01T00:00:00Z"),
    ("respond_by", "2096-11-22T12:00:00Z"),
    ("respond_by", "9999-12-31T23:59:59Z"),
], ids=lambda value: repr(value)[:40])
def test_a_value_outside_its_range_is_refused(shared_agent, refuse, member, value):
    assert refuse(new_envelope(shared_agent.agent_id, **{member: value})) == {f"/{member}"}


@pytest.mark.parametrize("priority, seconds", [
    ("P1", -1), ("P1", 16 * MINUTE), ("P2", -1), ("P2", 4 * HOUR + MINUTE), ("P3", -1), ("P3", 24 * HOUR + MINUTE),
])
def test_respond_by_is_in_the_future_and_never_beyond_the_policy(shared_agent, refuse, priority, seconds):
    envelope = new_envelope(shared_agent.agent_id, priority=priority, respond_by=in_seconds(seconds))
    assert refuse(envelope) == {"/respond_by"}


@pytest.mark.parametrize("action, pointer", [
    ({"arguments": {}}, "/action/type"),
    ({"type": None, "arguments": {}}, "/action/type"),
    ({"type": "", "arguments": {}}, "/action/type"),
    ({"type": "-refund", "arguments": {}}, "/action/type"),
    ({"type": "/refund", "arguments": {}}, "/action/type"),
    ({"type": "refund\n", "arguments": {}}, "/action/type"),
    ({"type": "re fund", "arguments": {}}, "/action/type"),
    ({"type": "réfund", "arguments": {}}, "/action/type"),
    ({"type": "x" * 129, "arguments": {}}, "/action/type"),
    ({"type": 1, "arguments": {}}, "/action/type"),
    ({"type": "x"}, "/action/arguments"),
    ({"type": "x", "arguments": None}, "/action/arguments"),
    ({"type": "x", "arguments": []}, "/action/arguments"),
    ({"type": "x", "arguments": "{}"}, "/action/arguments"),
    ({"type": "x", "arguments": {}, "extra": 1}, "/action/extra"),
], ids=lambda value: str(value)[:40])
def test_an_action_is_a_type_and_arguments(shared_agent, refuse, action, pointer):
    assert refuse(new_envelope(shared_agent.agent_id, action=action)) == {pointer}


@pytest.mark.parametrize("name, pointer", [
    ("surprise", "/surprise"),
    ("Title", "/Title"),
    ("request_id", "/request_id"),
    ("a/b~c", "/a~1b~0c"),
    ("", "/"),
])
def test_an_unknown_member_is_refused(shared_agent, refuse, name, pointer):
    assert refuse(new_envelope(shared_agent.agent_id, **{name: "x"})) == {pointer}


def test_all_faults_are_told_together(shared_agent, refuse):
    envelope = new_envelope(
        shared_agent.agent_id,
        client_request_key="a b",
        priority="urgent",
        title="",
        action={"type": "re fund", "arguments": [], "extra": True},
        context=[],
        resume=None,
        surprise=1,
        respond_by="tomorrow",
    )
    del envelope["envelope_version"]
    assert refuse(envelope) == {
        "/envelope_version", "/client_request_key", "/priority", "/title", "/action/type", "/action/arguments",
        "/action/extra", "/context", "/resume", "/surprise", "/respond_by",
    }


def test_an_agent_asks_only_for_itself(admin, shared_agent, operator):
    other = register_agent(admin)
    expect_problem(shared_agent.submit(new_envelope(other.agent_id)), 403, "forbidden")
    assert_nothing_stored(other, operator)
    assert_nothing_stored(shared_agent, operator)


@pytest.mark.parametrize("agent_id", ["", "Upper", "-lead", "a" * 64, "a b", "é"])
def test_a_malformed_agent_id_is_refused(shared_agent, operator, agent_id):
    assert shared_agent.submit(new_envelope(agent_id)).status_code in (403, 422)
    assert_nothing_stored(shared_agent, operator)


def test_a_refused_key_is_still_free(agent):
    envelope = new_envelope(agent.agent_id)
    expect_problem(agent.submit(envelope | {"title": ""}), 422, "validation-failed")
    assert expect(agent.submit(envelope), 201)["duplicate"] is False


@pytest.mark.parametrize("body", [b"[]", b'"text"', b"7", b"null", b"true"], ids=repr)
def test_an_envelope_is_an_object(shared_agent, operator, body):
    expect_problem(shared_agent.submit(body), 422, "validation-failed")
    assert_nothing_stored(shared_agent, operator)


def test_the_action_is_digested_in_its_canonical_form(agent):
    reordered = {"arguments": dict(reversed(ACTION["arguments"].items())), "type": ACTION["type"]}
    assert submit(agent)["action_digest"] == submit(agent, action=reordered)["action_digest"]
