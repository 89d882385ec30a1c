"""Several answers in one call: each as if it were sent alone, in their order, and what refuses the call as a whole."""

import json
import time
from collections import Counter

import pytest

from support import (
    check_problem_document,
    deliver,
    expect,
    expect_problem,
    in_seconds,
    pointers,
    race,
    register_agent,
    submit,
    submit_decided,
    uuid_spellings,
)
from test_answers import edit
from test_decide import OTHER_DIGEST
from test_votes import approve, asking, entries_of, vote, voters

DECISIONS = "/v1/hitl/decisions"
NOBODYS = "0192f5c4-6a3e-7c11-9d2f-2f0c5a8e4b17"


def answer(request: dict, decision: str = "approve", **members) -> dict:
    members = {"reason": "No"} | members if decision == "reject" else members
    return {"request_id": request["request_id"], "decision": decision, "action_digest": request["action_digest"]} | members


def send(person, answers: list):
    return person.post(DECISIONS, json={"decisions": answers})


def results(person, answers: list) -> list[dict]:
    """Of a call that is well formed; each result is one of a single call."""
    found = expect(send(person, answers), 200)["results"]
    assert [one["request_id"] for one in found] == [one["request_id"] for one in answers]
    for one in found:
        assert len({"decision", "vote", "problem"} & set(one)) == 1, one
        if problem := one.get("problem"):
            assert (problem["status"], one["http_status"]) == (one["http_status"], problem["status"])
            assert problem["type"] == f"urn:relaytrace:problem:{problem['code']}"
            assert problem["instance"] == f"/v1/hitl/requests/{one['request_id']}/decision"
            assert problem["trace_id"] and problem["title"] and problem["detail"]
    return found


def told(one: dict) -> tuple:
    return one["http_status"], one["problem"]["code"]


# ---------------------------------------------------------------- as if sent alone


def test_each_is_answered_in_its_order_as_if_it_were_sent_alone(admin, agent, operators, jwks):
    operator, other = operators[:2]
    pair = asking(admin, 2)
    plain, rejected, voted, own = submit(agent), submit(agent), submit(pair), submit(agent, on_behalf_of={"id": operator.id})
    unoffered = submit(agent, answers=["respond"], respond_schema={"type": "string"})
    decided = submit_decided(agent, other)
    answers = [answer(plain, reason="Checked"), answer(rejected, "reject"), answer(voted), answer(own), answer(unoffered),
               answer(decided), answer({"request_id": NOBODYS, "action_digest": OTHER_DIGEST}),
               answer(submit(agent), action_digest=OTHER_DIGEST)]
    found = results(operator, answers)
    assert [one["http_status"] for one in found] == [201, 201, 201, 403, 422, 409, 404, 409]
    made = found[0]["decision"]
    assert (made["outcome"], made["reason"], made["decided_by"]["id"]) == ("approved", "Checked", operator.id)
    assert made["request_id"] == plain["request_id"] and made["action_digest"] == plain["action_digest"]
    assert found[1]["decision"]["outcome"] == "rejected"
    assert found[2]["vote"] == {"request_id": voted["request_id"], "status": "pending",
                                "approvals": {"required": 2, "given": 1}, "action_digest": voted["action_digest"]}
    assert [told(one) for one in found[3:]] == [(403, "own-request"), (422, "validation-failed"), (409, "already-decided"),
                                               (404, "not-found"), (409, "action-mismatch")]
    assert found[5]["problem"]["decision"]["decided_by"]["id"] == other.id
    assert pointers(found[4]["problem"]) == {"/decision"}
    # The very same as single calls say.
    alone = expect(approve(operator, plain, reason="Checked"), 200)
    assert alone == made
    item = deliver(agent, plain["request_id"])
    agent.check_decision(item, {"type": "refund.create", "arguments": {"customer": "88213", "amount": "1240.00"}}, jwks)
    assert [entry["kind"] for entry in entries_of(admin, plain)][:2] == ["submitted", "decided"]


def test_the_same_call_again_is_200_for_each_that_was_made(admin, agent, operator):
    pair = asking(admin, 2)
    answers = [answer(submit(agent)), answer(submit(agent), "reject"), answer(submit(pair))]
    first, again = results(operator, answers), results(operator, answers)
    assert [one["http_status"] for one in first] == [201] * 3
    assert [one["http_status"] for one in again] == [200] * 3
    assert [one | {"http_status": 0} for one in first] == [one | {"http_status": 0} for one in again]


def test_votes_of_several_batches_decide(admin, operators):
    trio = asking(admin, 3)
    requests = [submit(trio) for _ in range(5)]
    for given, person in enumerate(operators[:2], start=1):
        found = results(person, [answer(request) for request in requests])
        assert [one["vote"]["approvals"]["given"] for one in found] == [given] * 5
    found = results(operators[2], [answer(request) for request in requests])
    assert [one["decision"]["outcome"] for one in found] == ["approved"] * 5
    for request in requests:
        detail = operators[3].detail(request["request_id"])
        assert voters(detail["votes"]) == [person.id for person in operators[:3]]


def test_a_batch_with_another_vote_and_a_decision_of_a_voter(admin, operators):
    pair = asking(admin, 2)
    voted, decided = submit(pair), submit(pair)
    for request in (voted, decided):
        vote(operators[0], request, 1, 2)
    expect(approve(operators[1], decided), 201)
    found = results(operators[0], [answer(voted, reason="Another"), answer(decided)])
    assert told(found[0]) == (409, "already-voted")
    assert (found[1]["http_status"], found[1]["decision"]["decided_by"]["id"]) == (200, operators[1].id)


def test_what_is_over_is_expired(agent, operator, wait_for):
    request = submit(agent, respond_by=in_seconds(1))
    wait_for(request["respond_by"])
    [one] = results(operator, [answer(request)])
    assert told(one) in {(409, "expired"), (409, "already-decided")}


def test_a_request_is_named_in_any_spelling(agent, operator):
    request = submit(agent)
    spelling = uuid_spellings(request["request_id"])[1]
    [one] = expect(send(operator, [answer(request) | {"request_id": spelling}]), 200)["results"]
    assert (one["request_id"], one["http_status"]) == (request["request_id"], 201)


def test_a_hundred_at_once(agent, operator):
    requests = [submit(agent) for _ in range(100)]
    found = results(operator, [answer(request) for request in requests])
    assert Counter(one["http_status"] for one in found) == {201: 100}
    assert len({one["decision"]["request_id"] for one in found}) == 100
    delivered = set()
    deadline = time.monotonic() + 30
    while len(delivered) < 100 and time.monotonic() < deadline:
        decisions = agent.poll(5, limit=100)["decisions"]
        delivered |= {one["request_id"] for one in decisions}
        for one in decisions:
            expect(agent.acknowledge(one), 200)
    assert delivered == {request["request_id"] for request in requests}


# ---------------------------------------------------------------- the call as a whole


@pytest.mark.parametrize("change, pointer", [
    (lambda answers: [], "/decisions"),
    (lambda answers: answers * 50 + [answers[0]], "/decisions"),
    (lambda answers: answers + [answers[0]], "/decisions/2/request_id"),
    (lambda answers: answers + [answers[0] | {"request_id": answers[0]["request_id"].upper()}], "/decisions/2/request_id"),
    (lambda answers: [answers[0] | {"decision": "edit"}], "/decisions/0/decision"),
    (lambda answers: [answers[0] | {"decision": "respond"}], "/decisions/0/decision"),
    (lambda answers: [answers[0], answers[1] | {"decision": "reject"}], "/decisions/1/reason"),
    (lambda answers: [answers[0] | {"reason": "x" * 2001}], "/decisions/0/reason"),
    (lambda answers: [answers[0] | {"surprise": 1}], "/decisions/0/surprise"),
    (lambda answers: [answers[0] | {"request_id": "none"}], "/decisions/0/request_id"),
    (lambda answers: [{**answers[0], "action_digest": None}], "/decisions/0/action_digest"),
    (lambda answers: [{name: value for name, value in answers[0].items() if name != "action_digest"}],
     "/decisions/0/action_digest"),
], ids=["none", "101", "twice", "twice in another spelling", "edit", "respond", "no reason", "long reason", "member",
        "no id", "null digest", "no digest"])
def test_a_fault_of_one_refuses_the_call_as_a_whole(agent, operator, change, pointer):
    requests = [submit(agent), submit(agent)]
    answers = change([answer(request) for request in requests])
    problem = expect_problem(send(operator, answers), 422, "validation-failed")
    assert pointer in pointers(problem)
    for request in requests:
        assert operator.detail(request["request_id"])["decision"] is None


@pytest.mark.parametrize("body, content_type, status, code", [
    (b"", "application/json", 400, "malformed-json"),
    (b"[]", "application/json", 422, "validation-failed"),
    (b"{}", "application/json", 422, "validation-failed"),
    (b'{"decisions": {}}', "application/json", 422, "validation-failed"),
    (b'{"decisions": [], "more": 1}', "application/json", 422, "validation-failed"),
    (b'{"decisions": []}', "text/plain", 415, "unsupported-media-type"),
    (b'{"decisions": []}', "application/x-www-form-urlencoded", 415, "unsupported-media-type"),
    (b'{"decisions": [' + b" " * (512 * 1024) + b"]}", "application/json", 413, "payload-too-large"),
])
def test_a_body_that_is_none_is_refused(operator, body, content_type, status, code):
    expect_problem(operator.post(DECISIONS, content=body, headers={"content-type": content_type}), status, code)


def test_only_operators_answer(agent, admin, operator):
    request = submit(agent)
    body = {"decisions": [answer(request)]}
    expect_problem(agent.call("POST", DECISIONS, json=body), 403, "forbidden")
    expect_problem(admin.post(DECISIONS, json=body), 403, "forbidden")
    expect_problem(operator.http.post(DECISIONS, json=body), 401, "unauthenticated")
    response = operator.call("GET", DECISIONS)
    check_problem_document(response)
    assert response.status_code == 405 and response.headers["allow"] == "POST"
    assert operator.detail(request["request_id"])["decision"] is None


# ---------------------------------------------------------------- its size, races


def test_the_answer_stays_below_a_megabyte(agent, operators):
    """Decisions that stand may hold edits of 250 KiB and reasons of 12 KB of JSON: what is too long is left out, and said."""
    writer, reader = operators[:2]
    requests = [submit(agent, answers=["approve", "edit"]) for _ in range(5)]
    for request in requests:
        arguments = {"text": "x" * 250_000}
        expect(edit(writer, request["request_id"], arguments, action_digest=request["action_digest"]), 201)
    many = [submit(agent) for _ in range(95)]
    for start in range(0, 95, 20):
        results(writer, [answer(request, "reject", reason="\u0001" * 2000) for request in many[start:start + 20]])
    response = send(reader, [answer(request) for request in requests + many])
    found = expect(response, 200)["results"]
    assert len(response.content) < 1_000_000
    assert {one["http_status"] for one in found} == {409}
    short = [one for one in found if one.get("shortened")]
    assert 0 < len(short) < 100
    for one in short:
        decision = one["problem"]["decision"]
        assert decision["reason"] is None and "action" not in decision
        assert decision["decided_by"]["id"] == writer.id
    assert found[0]["problem"]["decision"]["action"]["arguments"] == {"text": "x" * 250_000}
    assert "shortened" not in found[0]


def test_two_batches_of_the_same_requests_decide_each_once(admin, operators):
    agent, pair = register_agent(admin), asking(admin, 2)
    requests = [submit(agent) for _ in range(20)] + [submit(pair) for _ in range(10)]
    orders = [requests, requests[::-1], requests[10:] + requests[:10]]
    calls = [lambda person=person, order=order: results(person, [answer(request) for request in order])
             for person, order in zip(operators, orders, strict=False)]
    by_request = {request["request_id"]: Counter() for request in requests}
    for found in race(calls):
        for one in found:
            by_request[one["request_id"]][one["http_status"], "decision" in one, "vote" in one] += 1
    for request in requests:
        required = request["approvals"]["required"]
        said = by_request[request["request_id"]]
        assert said[201, True, False] == 1, said
        assert said[201, False, True] == required - 1, said
        assert said[409, False, False] == 3 - required, said
        assert Counter(entry["kind"] for entry in entries_of(admin, request))["decided"] == 1


def test_a_poll_that_waits_gets_what_a_batch_decides(agent, operator):
    request, others = submit(agent), [submit(agent) for _ in range(3)]

    def decide():
        time.sleep(0.3)
        return results(operator, [answer(one) for one in [request, *others]])

    polled, found = race([lambda: agent.poll(20, [request["request_id"]]), decide])
    assert [one["http_status"] for one in found] == [201] * 4
    [decision] = polled["decisions"]
    assert (decision["request_id"], decision["outcome"], decision["attempt"]) == (request["request_id"], "approved", 1)
    assert json.dumps(decision)
