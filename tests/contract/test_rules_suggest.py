"""The rule that is exactly a request, as a start for a wider one (contract, "Trying rules")."""

import copy
import json
import secrets
import uuid

import pytest

from support import Person, expect, expect_problem, new_envelope, pointers, register_agent, submit, uuid_spellings

RULES, SUGGEST, TRY = "/v1/admin/rules", "/v1/admin/rules/suggest", "/v1/admin/rules/try"


def suggested(admin, request: dict) -> dict:
    return expect(admin.post(SUGGEST, json={"request_id": request["request_id"]}), 200)


def may_be_set(admin, rule: dict) -> None:
    """It is taken as it is; then there are none again."""
    for rules in ([rule], []):
        etag = admin.get(RULES).headers["etag"]
        expect(admin.call("PUT", RULES, json={"rules": rules, "note": "Test"}, headers={"if-match": etag}), 200)


def applies(admin, rule: dict, request: dict) -> bool:
    """Whether the rule, enforced, is what applies to a stored request."""
    asks = rule | {"mode": "enforce", "then": {"decide": "reject", "reason": "Tried"}}
    body = {"rules": [asks], "from": request["created_at"], "to": "9999-12-31T00:00:00Z"}
    examples = expect(admin.post(TRY, json=body), 200)["examples"]
    return any((example["request_id"], example["would"]) == (request["request_id"], "rejected") for example in examples)


def ask(agent, arguments: dict, **changes) -> dict:
    return submit(agent, action={"type": "refund.create", "arguments": arguments}, **changes)


def test_it_names_agent_type_and_every_argument(agent, admin, operator):
    request = ask(agent, {"amount": "1240.00", "currency": "EUR", "gift": False})
    expect(operator.decide(request["request_id"], "approve", reason="A regular customer"), 201)
    rule = suggested(admin, request)
    assert rule["match"] == {
        "agents": [agent.agent_id], "action_types": ["refund.create"],
        "arguments": {"/amount": {"equals": "1240.00"}, "/currency": {"equals": "EUR"}, "/gift": {"equals": False}}}
    assert (rule["mode"], rule["then"]) == ("shadow", {"decide": "approve", "reason": "A regular customer"})
    assert set(rule) == {"name", "mode", "match", "then"} and request["request_id"] in rule["name"]
    may_be_set(admin, rule)
    assert applies(admin, rule, request)


ARGUMENTS = [
    {},
    {"a": {}}, {"a": []}, {"a": None}, {"a": True}, {"a": ""},
    {"a": 0}, {"a": -0.5}, {"a": 1e-7}, {"a": 1.7976931348623157e308}, {"a": 9007199254740991},
    {"a": "007"}, {"a": "1e5"}, {"a": "1240.00"}, {"a": "-0"}, {"a": "9" * 500}, {"a": "NaN"},
    {"a": [1, "1.0", {"b": None}], "b": {"c": {"d": [[]]}}},
    {"a/b": 1, "a~b": 2, "~1": 3, "": 4, "/": 5, " ": 6, "é": 7, "-": 8, "0": 9},
    {"": {"": {"": "deep"}}},
    {"to": {"iban": "DE02", "name": {"first": "Maria", "last": "K."}}, "lines": [{"sku": "A1", "n": 2}]},
    {str(number): number for number in range(1500)},
]


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=lambda arguments: json.dumps(arguments)[:40])
def test_it_may_be_set_and_holds_for_its_own_request_and_for_none_that_differs(agent, admin, arguments):
    request = ask(agent, arguments)
    rule = suggested(admin, request)
    assert rule["then"] == {"ask": {}}, "nobody has decided it"
    may_be_set(admin, rule)
    assert applies(admin, rule, request)
    for other in others(arguments):
        assert not applies(admin, rule, ask(agent, other)), other
    assert not applies(admin, rule, submit(agent, action={"type": "refund.creates", "arguments": arguments}))
    assert not applies(admin, rule, ask(register_agent(admin), arguments))


def others(arguments: dict) -> list[dict]:
    """Arguments with one value changed, one left out, or one more within an object."""
    if not arguments:
        return [{"a": 1}]
    name = next(iter(arguments))
    changed, without = copy.deepcopy(arguments), copy.deepcopy(arguments)
    changed[name] = {"other": secrets.token_hex(4)}
    del without[name]
    within = [{**arguments, name: {**value, "more": 1}} for name, value in arguments.items() if isinstance(value, dict)]
    return [changed, without, *within[:1]]


def test_numbers_keep_their_literals(agent, admin):
    envelope = json.dumps(new_envelope(agent.agent_id, action={"type": "x", "arguments": {"a": "@"}})).replace('"@"', "1.50")
    request = expect(agent.submit(envelope.encode()), 201)
    answer = admin.post(SUGGEST, json={"request_id": request["request_id"]})
    assert '{"/a":{"equals":1.50}}' in answer.text


def test_it_does_what_a_person_decided_and_asks_where_none_did(agent, admin, operator, operators):
    def of(decide, **changes):
        request = ask(agent, {"a": 1}, **changes)
        decide(request["request_id"])
        rule = suggested(admin, request)
        may_be_set(admin, rule)
        return rule["then"]

    approved = of(lambda id: expect(operator.decide(id, "approve"), 201))
    assert approved["decide"] == "approve" and approved["reason"].strip()
    rejected = of(lambda id: expect(operator.decide(id, "reject", reason="Too much"), 201))
    assert rejected == {"decide": "reject", "reason": "Too much"}
    disposed = {"action": "reject", "reason": "Gone"}
    assert of(lambda id: admin.post(f"/v1/admin/requests/{id}/disposition", json=disposed).raise_for_status()) == {
        "decide": "reject", "reason": "Gone"}
    assert of(lambda id: expect(agent.cancel(id), 200)) == {"ask": {}}
    # No rule approves a P1; and what was edited is not what was asked.
    assert of(lambda id: expect(operator.decide(id, "approve"), 201), priority="P1") == {"ask": {}}
    edit = lambda id: expect(operator.decide(id, "edit", arguments={"a": 2}, edited_action_digest=digest({"a": 2})), 201)
    assert of(edit, answers=["approve", "edit"]) == {"ask": {}}
    assert of(lambda id: expect(operator.decide(id, "respond", response="Later"), 201), answers=["respond"]) == {"ask": {}}


def digest(arguments: dict) -> str:
    from agent import action_digest

    return action_digest({"type": "refund.create", "arguments": arguments})


def test_what_several_had_to_approve_is_asked_of_as_many(agent, admin, operators):
    policy = {"agent_id": agent.agent_id, "priority": "P2", "respond_within_seconds": 600, "approvals": 2}
    expect(admin.call("PUT", "/v1/admin/timeout-policies", json=policy), 200)
    request = ask(agent, {"a": 1})
    for person in operators[:2]:
        expect(person.decide(request["request_id"], "approve", action_digest=request["action_digest"]), 201)
    assert suggested(admin, request)["then"] == {"ask": {"approvals": 2}}


def test_bridged_requests_are_matched_as_people_see_them(admin, operator, http, stack):
    bearer = Person(http, stack["agent"]["bearer_token"])
    made = expect(bearer.post("/aap/v1/requests", headers={"idempotency-key": secrets.token_hex(8)},
                              json={"tool": "create issue", "server": "github", "arguments": {"n": 1}, "timeout": "1h"}), 201)
    rule = suggested(admin, {"request_id": made["id"]})
    assert rule["match"] == {"agents": [stack["agent"]["agent_id"]], "action_types": ["github/create%20issue"],
                             "arguments": {"/n": {"equals": 1}}}
    expect(operator.decide(made["id"], "reject", reason="Test"), 201)


# ---------------------------------------------------------------- refusals


def test_what_rules_cannot_compare_is_refused(agent, admin):
    # A tool that ignores case may take the other one.
    request = ask(agent, {"amount": 1, "Amount": 2})
    expect_problem(admin.post(SUGGEST, json={"request_id": request["request_id"]}), 409, "conflict")


def test_more_than_a_document_holds_is_refused(agent, admin):
    request = ask(agent, {f"{number:05}" * 8: "x" * 70 for number in range(2200)})
    answer = admin.post(SUGGEST, json={"request_id": request["request_id"]})
    assert answer.status_code == 409 and answer.json()["code"] == "conflict"


@pytest.mark.parametrize("body, found", [
    ({}, {"/request_id"}), ({"request_id": None}, {"/request_id"}), ({"request_id": 5}, {"/request_id"}),
    ({"request_id": "x"}, {"/request_id"}), ({"request_id": ""}, {"/request_id"}),
    ({"request_id": str(uuid.uuid4()), "mode": "shadow"}, {"/mode"}), ([], {""}),
])
def test_a_body_is_refused_with_the_place_of_its_faults(admin, body, found):
    assert pointers(expect_problem(admin.post(SUGGEST, json=body), 422, "validation-failed")) == found


def test_what_is_not_there_and_what_is_anothers_are_the_same(admin, http, stack):
    [other] = [Person(http, known["token"]) for known in stack["admins"] if known["tenant"] == "acme"]
    theirs = submit(register_agent(other))
    expect(other.post(SUGGEST, json={"request_id": theirs["request_id"]}), 200)
    for request_id in (theirs["request_id"], str(uuid.uuid4())):
        expect_problem(admin.post(SUGGEST, json={"request_id": request_id}), 404, "not-found")


def test_any_spelling_of_an_id_is_taken(agent, admin):
    request = submit(agent)
    rules = [expect(admin.post(SUGGEST, json={"request_id": spelt}), 200) for spelt in uuid_spellings(request["request_id"])]
    assert all(rule == rules[0] for rule in rules)


def test_only_administrators_are_suggested_rules(operator, agent):
    request = submit(agent)
    for caller in (operator, agent):
        expect_problem(caller.call("POST", SUGGEST, json={"request_id": request["request_id"]}), 403, "forbidden")
