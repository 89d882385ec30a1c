"""Answers beyond yes and no: edit and respond, groups, and for whom an agent asks."""

import hashlib
import json
import secrets

import jwt
import pytest
import rfc8785

from support import (
    ACTION,
    REQUESTS,
    deliver,
    expect,
    expect_problem,
    new_envelope,
    pointers,
    race,
    submit,
)

EDIT = ["approve", "reject", "edit"]
SCHEMA = {
    "type": "object",
    "properties": {"amount": {"type": "string", "pattern": "^[0-9]+[.][0-9]{2}$"}, "customer": {"type": "string"}},
    "required": ["amount", "customer"],
    "additionalProperties": False,
}


@pytest.fixture
def other_operator(operators):
    return operators[1]


def digest(value) -> str:
    return f"sha256:{hashlib.sha256(rfc8785.dumps(value)).hexdigest()}"


def edited_digest(arguments: dict) -> str:
    return digest({"type": ACTION["type"], "arguments": arguments})


def edit(operator, request_id: str, arguments: dict, **members):
    body = {"arguments": arguments, "edited_action_digest": edited_digest(arguments)} | members
    return operator.decide(request_id, "edit", **body)


def claims_of(decision: dict) -> dict:
    return jwt.decode(decision["receipt"], options={"verify_signature": False})


def refused(agent, **members) -> set[str]:
    return pointers(expect_problem(agent.submit(new_envelope(agent.agent_id, **members)), 422, "validation-failed"))


def look(agent, request_id: str) -> dict:
    return expect(agent.call("GET", f"{agent.path}/requests/{request_id}"), 200)


# ---------------------------------------------------------------- what an envelope offers


def test_by_default_an_agent_takes_approve_and_reject(agent, operator):
    request_id = submit(agent)["request_id"]
    detail = operator.detail(request_id)
    assert detail["answers"] == ["approve", "reject"]
    assert detail["you"] == {"may": ["approve", "reject"], "why_not": None}
    assert pointers(expect_problem(edit(operator, request_id, {"amount": "1"}), 422, "validation-failed")) == {"/decision"}
    response = operator.decide(request_id, "respond", response="yes")
    assert pointers(expect_problem(response, 422, "validation-failed")) == {"/decision"}


def test_reject_is_always_there(agent, operator):
    request_id = submit(agent, answers=["respond"])["request_id"]
    assert operator.detail(request_id)["you"]["may"] == ["reject", "respond"]
    assert pointers(expect_problem(operator.decide(request_id, "approve"), 422, "validation-failed")) == {"/decision"}
    expect(operator.decide(request_id, "reject", reason="no"), 201)


def test_edit_needs_approve(agent):
    assert refused(agent, answers=["edit"]) == {"/answers"}


def test_a_schema_needs_its_answer(agent):
    assert refused(agent, edit_schema={}, respond_schema={}) == {"/edit_schema", "/respond_schema"}
    assert refused(agent, answers=EDIT, respond_schema={}) == {"/respond_schema"}


@pytest.mark.parametrize(
    "schema, pointer",
    [
        ({"type": "nothing"}, "/edit_schema/type"),
        ({"properties": {"x": {"pattern": "(?=a)"}}}, "/edit_schema/properties/x/pattern"),
        ({"properties": {"x": {"$ref": "https://example.com/x"}}}, "/edit_schema/properties/x/$ref"),
        ({"title": "x" * 65_536}, "/edit_schema"),
        ({"$ref": "#"}, "/edit_schema"),
        (7, "/edit_schema"),
    ],
)
def test_a_schema_that_does_not_compile_is_refused_with_its_pointer(agent, schema, pointer):
    assert refused(agent, answers=EDIT, edit_schema=schema) == {pointer}


@pytest.mark.parametrize(
    "members, pointer",
    [
        ({"answers": ["maybe"]}, "/answers/0"),
        ({"answers": "edit"}, "/answers"),
        ({"group": "a b"}, "/group"),
        ({"group": "x" * 129}, "/group"),
        ({"on_behalf_of": {}}, "/on_behalf_of/id"),
        ({"on_behalf_of": {"id": "x", "mail": "y"}}, "/on_behalf_of/mail"),
        ({"permit_seconds": 9}, "/permit_seconds"),
        ({"permit_seconds": 86_401}, "/permit_seconds"),
        ({"permit_seconds": "60"}, "/permit_seconds"),
    ],
)
def test_members_that_are_wrong_are_named(agent, members, pointer):
    assert refused(agent, **members) == {pointer}


# ---------------------------------------------------------------- edit


def test_an_edit_is_an_approval_of_another_action(agent, operator):
    request_id = submit(agent, answers=EDIT, edit_schema=SCHEMA)["request_id"]
    arguments = {"amount": "12.00", "customer": "88213"}
    seen = operator.detail(request_id)["action_digest"]
    decision = expect(edit(operator, request_id, arguments, action_digest=seen), 201)
    assert (decision["outcome"], decision["edited"]) == ("approved", True)
    assert decision["action_digest"] == edited_digest(arguments)
    assert decision["requested_action_digest"] == seen

    polled = deliver(agent, request_id)
    for told in (polled, look(agent, request_id)["decision"], operator.detail(request_id)["decision"]):
        assert told["edited"] is True
        assert told["action"] == {"type": ACTION["type"], "arguments": arguments}
        assert told["action_digest"] == digest(told["action"])
        assert told["requested_action_digest"] == digest(ACTION)
    claims = claims_of(polled)
    assert claims["action_digest"] == edited_digest(arguments)
    assert claims["requested_action_digest"] == digest(ACTION) and claims["edited"] is True
    assert operator.detail(request_id)["receipt"] == polled["receipt"]


def test_an_edited_action_arrives_byte_for_byte(agent, operator):
    request_id = submit(agent, answers=EDIT)["request_id"]
    text = '{ "n": 1.50e+0,\t"b":{} }'
    body = json.dumps({"decision": "edit", "edited_action_digest": edited_digest({"n": 1.5, "b": {}})})
    body = body[:-1] + f', "arguments": {text}}}'
    headers = {"content-type": "application/json"}
    expect(operator.post(f"{REQUESTS}/{request_id}/decision", content=body, headers=headers), 201)
    response = agent.call("GET", f"{agent.path}/requests/{request_id}")
    assert text in response.text


def test_an_edit_that_changes_nothing_is_not_edited(agent, operator):
    request_id = submit(agent, answers=EDIT)["request_id"]
    decision = expect(edit(operator, request_id, ACTION["arguments"]), 201)
    assert (decision["edited"], decision["action_digest"]) == (False, decision["requested_action_digest"])
    assert deliver(agent, request_id)["action"] == ACTION


def test_arguments_against_the_schema_are_refused_with_pointers_into_the_body(agent, operator):
    request_id = submit(agent, answers=EDIT, edit_schema=SCHEMA)["request_id"]
    problem = expect_problem(edit(operator, request_id, {"amount": "x"}), 422, "validation-failed")
    assert pointers(problem) == {"/arguments/amount", "/arguments/customer"}
    assert operator.detail(request_id)["status"] == "pending"


def test_at_most_a_hundred_faults_are_told(agent, operator):
    schema = {"additionalProperties": {"type": "string"}}
    request_id = submit(agent, answers=EDIT, edit_schema=schema)["request_id"]
    arguments = {f"a{number}": number for number in range(300)}
    problem = expect_problem(edit(operator, request_id, arguments), 422, "validation-failed")
    assert len(problem["errors"]) == 100


def test_format_annotates_and_defaults_are_not_filled_in(agent, operator):
    schema = {"properties": {"when": {"format": "date"}, "more": {"default": 1}}}
    request_id = submit(agent, answers=EDIT, edit_schema=schema)["request_id"]
    expect(edit(operator, request_id, {"when": "no date"}), 201)
    assert deliver(agent, request_id)["action"]["arguments"] == {"when": "no date"}


def test_another_digest_is_another_action(agent, operator):
    request_id = submit(agent, answers=EDIT)["request_id"]
    for members in ({"edited_action_digest": digest(ACTION)}, {"action_digest": digest({})}):
        expect_problem(edit(operator, request_id, {"amount": "1"}, **members), 409, "action-mismatch")


def test_the_same_edit_again_is_the_same_and_another_answer_is_not(agent, operator, other_operator):
    request_id = submit(agent, answers=EDIT)["request_id"]
    first = expect(edit(operator, request_id, {"amount": "1"}, reason="less"), 201)
    assert expect(edit(operator, request_id, {"amount": "1"}, reason="less"), 200) == first
    problem = expect_problem(edit(operator, request_id, {"amount": "2"}, reason="less"), 409, "already-decided")
    assert problem["decision"] == first
    expect_problem(operator.decide(request_id, "approve", reason="less"), 409, "already-decided")
    expect_problem(edit(other_operator, request_id, {"amount": "1"}, reason="less"), 409, "already-decided")


def test_an_edit_and_an_approval_race_for_one_decision(agent, operator, other_operator):
    for _ in range(5):
        request_id = submit(agent, answers=EDIT)["request_id"]
        answers = race(
            [lambda: edit(operator, request_id, {"amount": "1"}), lambda: other_operator.decide(request_id, "approve")]
        )
        assert sorted(answer.status_code for answer in answers) == [201, 409]
        [made] = [answer.json() for answer in answers if answer.status_code == 201]
        told = deliver(agent, request_id)
        assert (told["edited"], told["action_digest"]) == (made["edited"], made["action_digest"])


@pytest.mark.parametrize(
    "body, pointer",
    [
        ({"decision": "edit"}, "/arguments"),
        ({"decision": "edit", "arguments": {}}, "/edited_action_digest"),
        ({"decision": "edit", "arguments": []}, "/arguments"),
        ({"decision": "approve", "arguments": {}}, "/arguments"),
        ({"decision": "respond"}, "/response"),
        ({"decision": "approve", "response": 1}, "/response"),
        ({"decision": "perhaps"}, "/decision"),
    ],
)
def test_answers_that_are_not_whole_are_refused(agent, operator, body, pointer):
    request_id = submit(agent, answers=EDIT + ["respond"])["request_id"]
    response = operator.post(f"{REQUESTS}/{request_id}/decision", json=body)
    assert pointer in pointers(expect_problem(response, 422, "validation-failed"))


# ---------------------------------------------------------------- respond


def test_a_response_is_told_to_its_agent_and_is_no_approval(agent, operator):
    schema = {"type": "object", "properties": {"port": {"type": "integer"}}}
    request_id = submit(agent, answers=["approve", "respond"], respond_schema=schema)["request_id"]
    problem = operator.decide(request_id, "respond", response={"port": "x"})
    assert pointers(expect_problem(problem, 422, "validation-failed")) == {"/response/port"}
    decision = expect(operator.decide(request_id, "respond", response={"port": 8080}), 201)
    assert (decision["outcome"], decision["cause"]) == ("responded", "operator")
    assert expect(operator.decide(request_id, "respond", response={"port": 8080}), 200) == decision
    polled = deliver(agent, request_id)
    for told in (polled, look(agent, request_id)["decision"], operator.detail(request_id)["decision"]):
        assert (told["outcome"], told["response"]) == ("responded", {"port": 8080})
    claims = claims_of(polled)
    assert (claims["outcome"], claims["response_digest"]) == ("responded", digest({"port": 8080}))
    found = operator.queue(outcome="responded", agent_id=agent.agent_id)["items"]
    assert [item["request_id"] for item in found] == [request_id]


@pytest.mark.parametrize("response", ["", "x" * 8_001, 7, None, {}])
def test_without_a_schema_a_response_is_a_text_of_1_to_8000_characters(agent, operator, response):
    request_id = submit(agent, answers=["respond"])["request_id"]
    problem = operator.decide(request_id, "respond", response=response)
    assert pointers(expect_problem(problem, 422, "validation-failed")) == {"/response"}
    expect(operator.decide(request_id, "respond", response="x" * 8_000), 201)


def test_a_response_is_at_most_64_kib_long(agent, operator):
    request_id = submit(agent, answers=["respond"], respond_schema=True)["request_id"]
    problem = operator.decide(request_id, "respond", response="x" * 65_535)
    assert pointers(expect_problem(problem, 422, "validation-failed")) == {"/response"}
    expect(operator.decide(request_id, "respond", response=None), 201)
    told = deliver(agent, request_id)
    assert told["response"] is None and told["outcome"] == "responded"


# ---------------------------------------------------------------- for whom


def test_the_person_for_whom_an_agent_acts_may_not_approve(agent, operator, other_operator):
    person = {"id": operator.id.upper(), "name": "Maria"}
    request_id = submit(agent, answers=EDIT, on_behalf_of=person)["request_id"]
    detail = operator.detail(request_id)
    assert detail["on_behalf_of"] == person
    assert detail["you"] == {"may": ["reject"], "why_not": "own-request"}
    expect_problem(operator.decide(request_id, "approve"), 403, "own-request")
    expect_problem(edit(operator, request_id, {"amount": "1"}), 403, "own-request")
    expect(other_operator.decide(request_id, "approve"), 201)


def test_the_person_for_whom_an_agent_acts_may_reject(agent, operator):
    request_id = submit(agent, on_behalf_of={"id": operator.id})["request_id"]
    expect(operator.decide(request_id, "reject", reason="not mine"), 201)


# ---------------------------------------------------------------- groups


def test_one_rejection_in_a_group_leaves_the_others_their_own_answers(agent, operator):
    group = f"turn-{secrets.token_hex(4)}"
    ids = [submit(agent, group=group)["request_id"] for _ in range(3)]
    items = operator.queue(group=group)["items"]
    assert {item["request_id"] for item in items} == set(ids) and {item["group"] for item in items} == {group}
    expect(operator.decide(ids[0], "approve"), 201)
    expect(operator.decide(ids[1], "reject", reason="not this one"), 201)
    expect(operator.decide(ids[2], "approve"), 201)
    assert [deliver(agent, request_id)["outcome"] for request_id in ids] == ["approved", "rejected", "approved"]


def test_an_agent_sees_the_requests_of_a_group_page_by_page(agent, operator):
    group = f"turn-{secrets.token_hex(4)}"
    ids = [submit(agent, group=group)["request_id"] for _ in range(3)]
    submit(agent, group=f"{group}-other")
    expect(operator.decide(ids[0], "approve"), 201)
    expect(operator.decide(ids[1], "reject", reason="not this one"), 201)
    told, cursor = [], {}
    while cursor is not None:
        query = {"group": group, "limit": 2} | cursor
        page = expect(agent.call("GET", f"{agent.path}/requests", params=query), 200)
        assert len(page["items"]) <= 2
        told += [(item["request_id"], (item["decision"] or {}).get("outcome")) for item in page["items"]]
        cursor = {"cursor": page["next_cursor"]} if page["next_cursor"] else None
    assert told == list(zip(ids, ["approved", "rejected", None]))
    other = expect(agent.call("GET", f"{agent.path}/requests", params={"group": "none"}), 200)
    assert (other["items"], other["next_cursor"]) == ([], None)


def test_a_group_is_not_asked_for_beside_another_selector(agent):
    query = {"group": "a", "status": "pending"}
    expect_problem(agent.call("GET", f"{agent.path}/requests", params=query), 422, "validation-failed")
