"""Asking twice is asking once: repeated submissions, and the one request_id in all its spellings."""

import base64
import json
import uuid

import pytest

from support import (
    ACTION,
    REQUESTS,
    assert_nothing_stored,
    decision_in,
    deliver,
    expect,
    expect_problem,
    export_chain,
    in_seconds,
    instant,
    new_envelope,
    pointers,
    race,
    register_agent,
    submit,
    uuid_spellings,
    verify_chain,
    wait_until,
    with_literals,
)


def with_number(agent, literal: str, key: str) -> bytes:
    envelope = new_envelope(agent.agent_id, client_request_key=key, context={"n": "NUMBER"})
    return json.dumps(envelope).replace('"NUMBER"', literal).encode()


def test_a_repeated_submission_is_the_same_request(agent, operator):
    envelope = new_envelope(agent.agent_id)
    first = expect(agent.submit(envelope), 201)
    again = expect(agent.submit(envelope), 200)
    assert again == first | {"duplicate": True}
    assert len(operator.queue(status="all", agent_id=agent.agent_id)["items"]) == 1


def test_a_repeated_submission_tells_how_the_request_stands(agent, operator, jwks):
    envelope = new_envelope(agent.agent_id)
    first = expect(agent.submit(envelope), 201)
    expect(operator.decide(first["request_id"], "approve"), 201)
    again = expect(agent.submit(envelope), 200)
    decision = again["decision"]
    changed = {"duplicate": True, "status": "decided", "decision": decision, "approvals": {"required": 1, "given": 1}}
    changed |= {"permit": decision["permit"], "execution": "waiting"}
    assert again == first | changed
    assert (decision["outcome"], decision["cause"]) == ("approved", "operator")
    assert agent.check_decision(decision, ACTION, jwks)["sub"] == first["request_id"]


def test_the_answer_to_a_new_request_has_no_decision(agent):
    answer = submit(agent)
    assert answer["decision"] is None and answer["rule"] is None and answer["permit"] is None
    assert answer["approvals"] == {"required": 1, "given": 0}


def test_a_repetition_leases_nothing(agent, operator):
    """An agent that asks again after it accepted the decision learns it, and nothing is delivered anew."""
    envelope = new_envelope(agent.agent_id, resume={"step": 2})
    request_id = expect(agent.submit(envelope), 201)["request_id"]
    expect(operator.decide(request_id, "reject", reason="No"), 201)
    delivered = deliver(agent, request_id)
    expect(agent.acknowledge(delivered), 200)
    decision = expect(agent.submit(envelope), 200)["decision"]
    for member in ("request_id", "outcome", "cause", "decided_by", "reason", "resume", "chain", "receipt"):
        assert decision[member] == delivered[member]
    assert not decision.get("delivery_id") and not decision.get("lease_expires_at")
    assert agent.poll(request_ids=[request_id])["decisions"] == []
    assert expect(agent.submit(envelope), 200)["approvals"]["given"] == 0


# ---------------------------------------------------------------- Idempotency-Key


def without_key(agent, **changes) -> dict:
    envelope = new_envelope(agent.agent_id, **changes)
    del envelope["client_request_key"]
    return envelope


def test_the_key_may_come_as_a_header(agent, admin):
    key, envelope = f"key:{uuid.uuid4()}", without_key(agent)
    submission = expect(agent.submit(envelope, {"Idempotency-Key": key}), 201)
    assert submission["client_request_key"] == key
    assert expect(agent.view(submission["request_id"]), 200)["client_request_key"] == key
    export = export_chain(admin, submission["request_id"])
    [submitted] = verify_chain(export, export["length"], export["head"])
    assert submitted["client_request_key"] == key
    assert json.loads(base64.b64decode(export["envelope"])) == envelope, "what was received is what is stored"


def test_a_key_in_the_header_counts_as_the_member(agent):
    key = f"refund-{uuid.uuid4()}"
    envelope = without_key(agent)
    first = expect(agent.submit(envelope, {"Idempotency-Key": key}), 201)
    for again in (agent.submit(envelope, {"Idempotency-Key": key}),
                  agent.submit(envelope | {"client_request_key": key}),
                  agent.submit(envelope | {"client_request_key": key}, {"Idempotency-Key": key})):
        assert expect(again, 200) == first | {"duplicate": True}
    other = envelope | {"title": "Another title"}
    expect_problem(agent.submit(other, {"Idempotency-Key": key}), 422, "idempotency-key-reused")


def test_the_submitted_entry_names_the_key(agent, admin):
    submission = submit(agent)
    export = export_chain(admin, submission["request_id"])
    [submitted] = verify_chain(export, export["length"], export["head"])
    assert submitted["client_request_key"] == submission["client_request_key"]


def test_two_different_keys_are_refused(agent, operator):
    problem = expect_problem(agent.submit(new_envelope(agent.agent_id), {"Idempotency-Key": "another"}), 422,
                             "validation-failed")
    assert pointers(problem) == {"/client_request_key"}
    assert_nothing_stored(agent, operator)


@pytest.mark.parametrize("key", ['"quoted"', "with space", "", "a" * 129, "sla/sh"])
def test_a_malformed_key_in_the_header_is_refused(agent, operator, key):
    expect_problem(agent.submit(without_key(agent), {"Idempotency-Key": key}), 422, "validation-failed")
    assert_nothing_stored(agent, operator)


def test_a_key_is_needed_somewhere(agent):
    problem = expect_problem(agent.submit(without_key(agent)), 422, "validation-failed")
    assert pointers(problem) == {"/client_request_key"}


def test_the_header_is_for_submissions_only(agent):
    request_id = submit(agent)["request_id"]
    response = agent.call("POST", f"{agent.path}/requests/{request_id}/cancel", json={},
                          headers={"Idempotency-Key": "not a key"})
    assert decision_in(expect(response, 200))["outcome"] == "cancelled"


def reordered(value):
    if isinstance(value, dict):
        return {name: reordered(value[name]) for name in reversed(value)}
    return value


@pytest.mark.parametrize("rewrite", [
    lambda envelope: json.dumps(reordered(envelope)),
    lambda envelope: json.dumps(envelope, indent=4),
    lambda envelope: json.dumps(envelope, separators=(",", ":")) + "\r\n",
    lambda envelope: json.dumps(envelope, ensure_ascii=False),
    lambda envelope: json.dumps(envelope).replace("Refund", "\\u0052efund"),
], ids=["member order", "indented", "compact", "unescaped", "escaped"])
def test_the_same_envelope_written_otherwise_is_a_repetition(agent, rewrite):
    envelope = new_envelope(agent.agent_id, context={"b": [1, {"d": "Grüße", "c": None}], "a": True})
    first = expect(agent.submit(envelope), 201)
    rewritten = rewrite(envelope).encode()
    assert rewritten != json.dumps(envelope).encode()
    again = expect(agent.submit(rewritten), 200)
    assert (again["request_id"], again["duplicate"]) == (first["request_id"], True)


@pytest.mark.parametrize("first, second", [("1.0", "1.00"), ("1", "1.0"), ("100", "1e2"), ("1e2", "1E2"), ("0", "-0")])
def test_a_number_written_otherwise_is_another_envelope(agent, first, second):
    submission = expect(agent.submit(with_number(agent, first, "key")), 201)
    expect_problem(agent.submit(with_number(agent, second, "key")), 422, "idempotency-key-reused")
    again = expect(agent.submit(with_number(agent, first, "key")), 200)
    assert again["request_id"] == submission["request_id"]


@pytest.mark.parametrize("changes", [
    {"title": "Another title"},
    {"priority": "P1"},
    {"summary": "added"},
    {"summary": ""},
    {"action": {"type": "refund.create", "arguments": {"customer": "88213", "amount": "1240.01"}}},
    {"action": {"type": "refund.other", "arguments": {"customer": "88213", "amount": "1240.00"}}},
    {"context": {}},
    {"resume": {}},
    {"respond_by": in_seconds(1800)},
], ids=lambda changes: str(changes)[:50])
def test_the_same_key_for_another_envelope_is_refused(agent, operator, changes):
    envelope = new_envelope(agent.agent_id)
    first = expect(agent.submit(envelope), 201)
    before = operator.detail(first["request_id"])
    expect_problem(agent.submit(envelope | changes), 422, "idempotency-key-reused")
    assert operator.detail(first["request_id"]) == before
    assert len(operator.queue(status="all", agent_id=agent.agent_id)["items"]) == 1


def test_the_order_of_a_list_matters(agent):
    envelope = new_envelope(agent.agent_id, context={"list": [1, 2]})
    expect(agent.submit(envelope), 201)
    expect_problem(agent.submit(envelope | {"context": {"list": [2, 1]}}), 422, "idempotency-key-reused")


def test_keys_are_case_sensitive(agent):
    ids = {submit(agent, client_request_key=key)["request_id"] for key in ("refund-a", "refund-A", "REFUND-A")}
    assert len(ids) == 3


def test_keys_belong_to_their_agent(admin, agent):
    other = register_agent(admin)
    first = submit(agent, client_request_key="shared-key")
    second = submit(other, client_request_key="shared-key")
    assert first["request_id"] != second["request_id"]


def test_a_late_repetition_still_gets_its_answer(agent):
    envelope = new_envelope(agent.agent_id, respond_by=in_seconds(1))
    first = expect(agent.submit(envelope), 201)
    decision = wait_until(lambda: expect(agent.view(first["request_id"]), 200)["decision"])
    assert decision["cause"] == "timeout"
    again = expect(agent.submit(envelope), 200)
    assert (again["request_id"], again["duplicate"], again["status"]) == (first["request_id"], True, "decided")


def test_a_hundred_identical_submissions_at_once_are_one_request(agent, operator):
    body = json.dumps(new_envelope(agent.agent_id)).encode()
    responses = race([lambda: agent.submit(body)] * 100)
    assert sorted(response.status_code for response in responses) == [200] * 99 + [201]
    assert len({response.json()["request_id"] for response in responses}) == 1
    assert [response.json()["duplicate"] for response in responses].count(False) == 1
    assert len(operator.queue(status="all", agent_id=agent.agent_id)["items"]) == 1


def test_two_envelopes_racing_for_one_key_leave_one_request(agent, operator):
    envelope = new_envelope(agent.agent_id)
    bodies = [json.dumps(envelope | {"title": title}).encode() for title in ("This", "That")]
    responses = race([lambda body=body: agent.submit(body) for body in bodies * 20])
    statuses = [response.status_code for response in responses]
    assert statuses.count(201) == 1
    winner = statuses.index(201) % 2
    for position, response in enumerate(responses):
        if position % 2 != winner:
            expect_problem(response, 422, "idempotency-key-reused")
    assert statuses.count(200) == 19
    [item] = operator.queue(status="all", agent_id=agent.agent_id)["items"]
    assert item["title"] == ("This", "That")[winner]


def test_resume_comes_back_untouched(agent, operator):
    literals = '{"n": [1.00, 1e2, -0.0, 1E+2, 0.10, 12345678901234567890.0, 7], "t": "Grüße \\u00e9", "": {"null": null}}'
    body = json.dumps(new_envelope(agent.agent_id, resume="RESUME")).replace('"RESUME"', literals).encode()
    submission = expect(agent.submit(body), 201)
    expect(operator.decide(submission["request_id"], "approve"), 201)
    polled = agent.call("GET", f"{agent.path}/decisions/poll")
    [decision] = with_literals(polled.content)["decisions"]
    assert decision["resume"] == with_literals(literals)
    viewed = with_literals(agent.view(submission["request_id"]).content)["decision"]
    assert viewed["resume"] == with_literals(literals)


# ---------------------------------------------------------------- request_id in a path


def test_a_request_id_is_minted_here_and_canonical(agent):
    submission = submit(agent)
    request_id = uuid.UUID(submission["request_id"])
    assert submission["request_id"] == str(request_id)
    assert request_id.version == 7 and request_id.variant == uuid.RFC_4122
    minted = int(request_id.hex[:12], 16) / 1000
    assert abs(minted - instant(submission["created_at"]).timestamp()) < 5


def test_any_spelling_of_a_request_id_finds_it(agent, operator, admin):
    submission = submit(agent)
    request_id = submission["request_id"]
    expect(operator.decide(request_id, "approve"), 201)
    delivery = deliver(agent, request_id)
    for spelling in uuid_spellings(request_id):
        answers = [
            agent.view(spelling),
            agent.call("POST", f"{agent.path}/decisions/{spelling}/ack",
                       json={"delivery_id": delivery["delivery_id"], "result": "accepted"}),
            operator.get(f"{REQUESTS}/{spelling}"),
            operator.decide(spelling, "approve"),
            admin.get(f"/v1/admin/requests/{spelling}/chain"),
        ]
        assert [expect(answer, 200)["request_id"] for answer in answers] == [request_id] * 5, spelling


def test_any_spelling_of_a_request_id_can_be_cancelled_and_polled_for(agent):
    for spelling in range(5):
        request_id = submit(agent)["request_id"]
        spelled = uuid_spellings(request_id)[spelling]
        assert decision_in(expect(agent.cancel(spelled), 200))["outcome"] == "cancelled"
        [decision] = agent.poll(request_ids=[spelled])["decisions"]
        assert decision["request_id"] == request_id


@pytest.mark.parametrize("request_id", [
    "nope", "1", "00000000-0000-0000-0000-00000000000g", "00000000-0000-0000-0000-0000000000000",
    "0192f5c4-6a3e-7c11-9d2f", "' OR 1=1 --", "%00", "null", "0192f5c4-6a3e-7c11-9d2f-2f0c5a8e4b17",
])
def test_what_is_no_request_is_not_found(shared_agent, operator, admin, request_id):
    answers = [
        shared_agent.view(request_id),
        shared_agent.cancel(request_id),
        shared_agent.acknowledge({"request_id": request_id, "delivery_id": str(uuid.uuid4())}),
        operator.get(f"{REQUESTS}/{request_id}"),
        operator.decide(request_id, "approve"),
        admin.get(f"/v1/admin/requests/{request_id}/chain"),
    ]
    for answer in answers:
        expect_problem(answer, 404, "not-found")
