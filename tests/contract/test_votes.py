"""Several approvals where one is not enough: what each answers, who counts, what is told of it, and that it decides once."""

import base64
import json
import subprocess
from collections import Counter

import pytest

from agent import verify_receipt
from people import finance, of_group, ops  # noqa: F401
from support import (
    REQUESTS,
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
    verify_chain,
)
from test_answers import edit
from test_delegations import decide_for, delegated  # noqa: F401
from test_decide import OTHER_DIGEST, refused_as_decided
from test_verifiers import VERIFIERS

POLICIES = "/v1/admin/timeout-policies"


def set_policy(admin, agent, approvals: int | None, **changes):
    rule = {"agent_id": agent.agent_id, "priority": "P2", "respond_within_seconds": 600, "approvals": approvals}
    return admin.call("PUT", POLICIES, json=rule | changes)


def asking(admin, approvals: int):
    """An agent whose requests need so many approvals."""
    agent = register_agent(admin)
    assert expect(set_policy(admin, agent, approvals), 200)["approvals"] == approvals
    return agent


@pytest.fixture(scope="module")
def pair(admin):
    return asking(admin, 2)


@pytest.fixture(scope="module")
def trio(admin):
    return asking(admin, 3)


def approve(person, request: dict, **members):
    members = {"action_digest": request["action_digest"]} | members
    return person.decide(request["request_id"], "approve", **members)


def vote(person, request: dict, given: int, required: int, **members) -> dict:
    """An approval that does not decide."""
    voted = expect(approve(person, request, **members), 201)
    assert voted == {"request_id": request["request_id"], "status": "pending", "action_digest": request["action_digest"],
                     "approvals": {"required": required, "given": given}}
    return voted


def voters(votes: list, by: str = "voted_by") -> list:
    return [one[by]["id"] for one in votes]


def entries_of(admin, request: dict) -> list[dict]:
    export = export_chain(admin, request["request_id"])
    return verify_chain(export, export["length"], export["head"])


def attested(chain: dict, jwks: dict) -> bool:
    """Whether the decisions and votes of an export hold: tests/verifiers/chain.mjs, node:crypto alone."""
    message = json.dumps({"chain": chain, "jwks": jwks})
    run = subprocess.run(["node", VERIFIERS / "chain.mjs"], input=message, capture_output=True, text=True, timeout=30)
    assert run.returncode in (0, 1), run.stderr
    return run.returncode == 0


# ---------------------------------------------------------------- how many


def test_a_submission_says_how_many_are_required(pair, agent, admin):
    several = submit(pair)
    assert several["approvals"] == {"required": 2, "given": 0}
    assert submit(agent)["approvals"] == {"required": 1, "given": 0}
    said = entries_of(admin, several)[0]
    assert said["approvals"] == 2
    assert "approvals" not in entries_of(admin, submit(agent))[0]


@pytest.mark.parametrize("approvals", [1, 10])
def test_a_policy_asks_for_1_to_10(admin, agent, approvals):
    assert expect(set_policy(admin, agent, approvals), 200)["approvals"] == approvals
    [policy] = [policy for policy in expect(admin.get(POLICIES), 200)["items"] if policy["agent_id"] == agent.agent_id]
    assert policy["approvals"] == approvals
    assert submit(agent)["approvals"] == {"required": approvals, "given": 0}


@pytest.mark.parametrize("approvals", [0, 11, -1, 1.5, "2"])
def test_another_number_is_refused(admin, agent, approvals):
    problem = expect_problem(set_policy(admin, agent, approvals), 422, "validation-failed")
    assert pointers(problem) == {"/approvals"}


def test_what_a_policy_leaves_out_is_one(admin, agent):
    expect(set_policy(admin, agent, 3), 200)
    before = submit(agent)
    assert expect(set_policy(admin, agent, None), 200)["approvals"] is None
    assert submit(agent)["approvals"]["required"] == 1
    assert expect(agent.view(before["request_id"]), 200)["approvals"]["required"] == 3, "what was asked before stays"


# ---------------------------------------------------------------- votes


def test_each_approval_but_the_last_is_a_vote_and_the_last_decides(trio, operators, admin):
    request = submit(trio, resume={"step": 1})
    first, second, third = operators[:3]
    vote(first, request, 1, 3)
    vote(second, request, 2, 3, reason="Looks right")
    view = expect(trio.view(request["request_id"]), 200)
    assert (view["status"], view["decision"], view["approvals"]) == ("pending", None, {"required": 3, "given": 2})
    made = expect(approve(third, request, reason="Third"), 201)
    assert (made["outcome"], made["cause"], made["decided_by"]["id"]) == ("approved", "operator", third.id)
    view = expect(trio.view(request["request_id"]), 200)
    assert (view["status"], view["approvals"]) == ("decided", {"required": 3, "given": 3})
    item = deliver(trio, request["request_id"])
    assert (item["outcome"], item["reason"], item["decided_by"]["id"]) == ("approved", "Third", third.id)
    assert item["chain"]["length"] == 4
    kinds = [entry["kind"] for entry in entries_of(admin, request)]
    assert kinds[:4] == ["submitted", "voted", "voted", "decided"]


def test_a_duplicate_submission_tells_the_votes(pair, operator):
    envelope = new_envelope(pair.agent_id)
    request = expect(pair.submit(envelope), 201)
    vote(operator, request, 1, 2)
    again = expect(pair.submit(envelope), 200)
    assert again["approvals"] == {"required": 2, "given": 1}
    [listed] = [one for one in expect(pair.call("GET", f"{pair.path}/requests?status=pending"), 200)["items"]
                if one["request_id"] == request["request_id"]]
    assert listed["approvals"] == {"required": 2, "given": 1}


def test_one_rejection_decides(trio, operators):
    request = submit(trio)
    vote(operators[0], request, 1, 3)
    made = expect(operators[1].decide(request["request_id"], "reject", reason="No"), 201)
    assert (made["outcome"], made["decided_by"]["id"]) == ("rejected", operators[1].id)
    detail = operators[2].detail(request["request_id"])
    assert detail["approvals"] == {"required": 3, "given": 1}
    assert voters(detail["votes"]) == [operators[0].id]


def test_who_has_approved_may_still_reject(pair, operator):
    request = submit(pair)
    vote(operator, request, 1, 2)
    assert expect(operator.decide(request["request_id"], "reject", reason="I was wrong"), 201)["outcome"] == "rejected"


def test_a_vote_needs_the_digest_and_a_rejection_does_not(pair, operators):
    request = submit(pair)
    for person in operators[:2]:
        problem = expect_problem(person.decide(request["request_id"], "approve"), 422, "validation-failed")
        assert pointers(problem) == {"/action_digest"}
        expect_problem(approve(person, request, action_digest=OTHER_DIGEST), 409, "action-mismatch")
        if person is operators[0]:
            vote(person, request, 1, 2)
    assert expect(operators[1].decide(request["request_id"], "reject", reason="No"), 201)["outcome"] == "rejected"


@pytest.mark.parametrize("reason", [None, "Looks right"])
def test_the_same_vote_again_is_200_with_the_approvals_as_they_stand(trio, operators, admin, reason):
    request = submit(trio)
    members = {} if reason is None else {"reason": reason}
    voted = vote(operators[0], request, 1, 3, **members)
    assert expect(approve(operators[0], request, **members), 200) == voted
    vote(operators[1], request, 2, 3)
    again = expect(approve(operators[0], request, **members), 200)
    assert again["approvals"] == {"required": 3, "given": 2}
    assert [entry["kind"] for entry in entries_of(admin, request)] == ["submitted", "voted", "voted"]


@pytest.mark.parametrize("first, second", [(None, "Another"), ("One", "Another"), ("One", None)])
def test_a_vote_with_another_reason_is_already_voted(pair, operator, admin, first, second):
    request = submit(pair)
    vote(operator, request, 1, 2, **({"reason": first} if first else {}))
    members = {"reason": second} if second else {}
    expect_problem(approve(operator, request, **members), 409, "already-voted")
    assert len(entries_of(admin, request)) == 2, "nobody counts twice"


def test_after_the_decision_any_voters_same_vote_is_200(trio, operators):
    request = submit(trio)
    reasons = [{"reason": "One"}, {}, {"reason": "Three"}]
    for given, members in enumerate(reasons[:2], start=1):
        vote(operators[given - 1], request, given, 3, **members)
    made = expect(approve(operators[2], request, **reasons[2]), 201)
    for person, members in zip(operators[:3], reasons, strict=True):
        assert expect(approve(person, request, **members), 200) == made
    refused_as_decided(approve(operators[0], request, reason="Another"), made)
    refused_as_decided(approve(operators[3], request), made)
    refused_as_decided(operators[0].decide(request["request_id"], "reject", reason="No"), made)


def test_a_voter_learns_of_a_rejection_by_the_same_vote(pair, operators):
    request = submit(pair)
    vote(operators[0], request, 1, 2)
    made = expect(operators[1].decide(request["request_id"], "reject", reason="No"), 201)
    assert expect(approve(operators[0], request), 200) == made


def test_edits_and_responses_need_a_request_that_one_decides(pair, operator):
    request = submit(pair, answers=["approve", "edit", "respond"])
    detail = operator.detail(request["request_id"])
    assert set(detail["you"]["may"]) == {"approve", "reject"}
    edited = edit(operator, request["request_id"], {"amount": "1.00"}, action_digest=request["action_digest"])
    expect_problem(edited, 409, "conflict")
    expect_problem(edit(operator, request["request_id"], {"amount": "1.00"}), 409, "conflict")
    response = operator.decide(request["request_id"], "respond", response="Yes", action_digest=request["action_digest"])
    expect_problem(response, 409, "conflict")


def test_who_asked_approves_nothing(pair, operators):
    own, other, third = operators[:3]
    request = submit(pair, on_behalf_of={"id": own.id.upper()})
    expect_problem(approve(own, request), 403, "own-request")
    vote(other, request, 1, 2)
    expect_problem(approve(own, request), 403, "own-request")
    expect(approve(third, request), 201)


def test_nobody_counts_twice_neither_as_themselves_nor_as_the_one_acted_for(trio, delegated, finance, ops, admin, jwks):
    boss, other, third = finance[3:6]
    deputy, second = ops[3:5]
    for delegator, delegate in [(boss, deputy), (other, deputy), (boss, second), (third, second)]:
        delegated(delegator, delegate)
    request = submit(trio)
    saw = {"action_digest": request["action_digest"]}
    voted = expect(decide_for(deputy, request, boss.id, **saw), 201)
    assert voted["approvals"] == {"required": 3, "given": 1}
    assert expect(decide_for(deputy, request, boss.id, **saw), 200) == voted
    expect_problem(approve(boss, request), 409, "already-voted")
    expect_problem(approve(deputy, request), 409, "already-voted")
    expect_problem(decide_for(deputy, request, other.id, **saw), 409, "already-voted")
    vote(other, request, 2, 3)
    # It would be the last one.
    expect_problem(decide_for(second, request, boss.id, **saw), 409, "already-voted")
    expect_problem(approve(deputy, request), 409, "already-voted")
    made = expect(decide_for(second, request, third.id, **saw), 201)
    assert (made["outcome"], made["decided_by"]["for"]["id"]) == ("approved", third.id)
    votes = boss.detail(request["request_id"])["votes"]
    assert [(one["voted_by"]["id"], one["voted_by"].get("for", {}).get("id")) for one in votes] == [
        (deputy.id, boss.id), (other.id, None), (second.id, third.id)]
    claims = verify_receipt(deliver(trio, request["request_id"])["receipt"], jwks)
    assert claims["votes"][-1]["voted_by"] == claims["decided_by"] == made["decided_by"]
    assert attested(export_chain(admin, request["request_id"]), jwks)


def test_who_acts_for_the_requester_is_own_request(pair, delegated, finance, ops):
    boss, deputy = finance[6], ops[6]
    delegated(boss, deputy)
    request = submit(pair, on_behalf_of={"id": boss.id})
    saw = {"action_digest": request["action_digest"]}
    expect_problem(decide_for(deputy, request, boss.id, **saw), 403, "own-request")
    vote(deputy, request, 1, 2)


def test_a_vote_past_respond_by_is_expired(admin, operator, wait_for):
    agent = asking(admin, 2)
    request = submit(agent, respond_by=in_seconds(1.5))
    vote(operator, request, 1, 2)
    wait_for(request["respond_by"])
    response = approve(operator, request, reason="Late")
    assert response.json()["code"] in ("expired", "already-decided")
    view = expect(agent.call("GET", f"{agent.path}/requests/{request['request_id']}?wait_seconds=20"), 200)
    assert (view["decision"]["outcome"], view["decision"]["cause"]) == ("rejected", "timeout")
    assert view["approvals"] == {"required": 2, "given": 1}


def test_a_timeout_never_approves_where_several_are_required(admin, agent):
    narrow = {"action_type": "refund.create", "on_timeout": "auto_approve"}
    problem = expect_problem(set_policy(admin, agent, 2, **narrow), 422, "validation-failed")
    assert pointers(problem) == {"/on_timeout"}
    expect(set_policy(admin, agent, 1, **narrow), 200)


def test_a_stop_admits_no_vote(admin, operators):
    agent = asking(admin, 2)
    request = submit(agent)
    freeze = f"/v1/admin/freezes/{agent.agent_id}"
    expect(admin.call("PUT", freeze, json={"agent_id": agent.agent_id, "mode": "stop", "until": in_seconds(60),
                                              "reason": "Stopped"}), 200)
    answer = approve(operators[0], request)
    assert (answer.status_code, answer.json()["code"]) in {(409, "frozen"), (409, "already-decided")}
    assert admin.call("DELETE", freeze).status_code == 204


# ---------------------------------------------------------------- who sees what


def test_the_detail_lists_the_votes(trio, operators):
    request = submit(trio)
    assert operators[0].detail(request["request_id"])["votes"] == []
    vote(operators[0], request, 1, 3)
    vote(operators[1], request, 2, 3, reason="Looks right")
    made = expect(approve(operators[2], request), 201)
    detail = operators[3].detail(request["request_id"])
    assert detail["approvals"] == {"required": 3, "given": 3}
    assert voters(detail["votes"]) == [person.id for person in operators[:3]]
    assert [one["reason"] for one in detail["votes"]] == [None, "Looks right", None]
    assert detail["votes"][-1] == {"voted_by": made["decided_by"], "voted_at": made["decided_at"], "reason": None}
    times = [instant(one["voted_at"]) for one in detail["votes"]]
    assert times == sorted(times)


def test_an_operator_sees_what_they_may_do(pair, operators):
    request = submit(pair)
    vote(operators[0], request, 1, 2)
    voted = operators[0].detail(request["request_id"])["you"]
    assert (voted["may"], voted["why_not"]) == (["reject"], "already-voted")
    other = operators[1].detail(request["request_id"])["you"]
    assert (other["may"], other["why_not"]) == (["approve", "reject"], None)


def test_a_plain_approval_is_a_list_of_one(agent, operator):
    request = submit(agent)
    expect(operator.decide(request["request_id"], "approve"), 201)
    detail = operator.detail(request["request_id"])
    assert (detail["approvals"], voters(detail["votes"])) == ({"required": 1, "given": 1}, [operator.id])


def test_receipt_and_chain_list_the_votes(trio, operators, admin, jwks):
    request = submit(trio)
    for given, person in enumerate(operators[:2], start=1):
        vote(person, request, given, 3, reason=f"Seen by {given}")
    expect(approve(operators[2], request, reason="Seen by 3"), 201)
    item = deliver(trio, request["request_id"])
    claims = verify_receipt(item["receipt"], jwks)
    assert voters(claims["votes"]) == [person.id for person in operators[:3]]
    assert claims["votes"][-1]["voted_by"] == claims["decided_by"]
    assert claims["votes"][-1]["voted_at"] == claims["decided_at"]
    submitted, *voted, decided = entries_of(admin, request)[:4]
    for entry, person in zip(voted, operators, strict=False):
        assert (entry["kind"], entry["actor"]["id"], entry["cause"]) == ("voted", person.id, "operator")
        assert (entry["decision"], entry["action_digest"]) == ("approve", request["action_digest"])
        assert entry["attestation"]["kid"] in {key["kid"] for key in jwks["keys"] if key.get("use") == "attestation"}
    assert voters(decided["votes"], "actor") == [person.id for person in operators[:3]]
    assert [one["seq"] for one in decided["votes"]] == [2, 3, 4]
    assert [one["reason"] for one in decided["votes"]] == ["Seen by 1", "Seen by 2", "Seen by 3"]
    assert submitted["approvals"] == 3


def test_a_receipt_of_a_plain_decision_says_nothing_of_votes(agent, operator, jwks):
    request = submit(agent)
    expect(operator.decide(request["request_id"], "approve"), 201)
    assert "votes" not in verify_receipt(deliver(agent, request["request_id"])["receipt"], jwks)


def test_attestations_of_votes_hold_for_a_library_of_another_language(pair, operators, admin, jwks):
    request = submit(pair)
    vote(operators[0], request, 1, 2, reason="für heute")
    expect(approve(operators[1], request), 201)
    export = export_chain(admin, request["request_id"])
    assert attested(export, jwks)
    for position in (1, 2):
        forged = json.loads(json.dumps(export))
        entry = json.loads(base64.b64decode(forged["entries"][position]["entry"]))
        entry["actor"]["id"] = operators[5].id
        forged["entries"][position]["entry"] = base64.b64encode(json.dumps(entry).encode()).decode()
        assert not attested(forged, jwks)


# ---------------------------------------------------------------- races


def test_of_many_voters_exactly_the_required_count_and_one_decides(trio, operators, admin):
    people = operators[:12]
    request = submit(trio)
    answers = race([lambda person=person: approve(person, request) for person in people])
    said = Counter(answer.status_code for answer in answers)
    assert said == {201: 3, 409: len(people) - 3}
    made = [answer.json() for answer in answers if answer.status_code == 201]
    [decision] = [one for one in made if "outcome" in one]
    assert sorted(one["approvals"]["given"] for one in made if "approvals" in one) == [1, 2]
    won = {person.id for person, answer in zip(people, answers, strict=True) if answer.status_code == 201}
    detail = operators[0].detail(request["request_id"])
    assert set(voters(detail["votes"])) == won and len(detail["votes"]) == 3
    assert detail["votes"][-1]["voted_by"]["id"] == decision["decided_by"]["id"]
    assert Counter(entry["kind"] for entry in entries_of(admin, request)) == {"submitted": 1, "voted": 2, "decided": 1}


def test_one_person_at_many_screens_counts_once(pair, operator, admin):
    request = submit(pair)
    answers = race([lambda: approve(operator, request)] * 10)
    assert Counter(answer.status_code for answer in answers) == {201: 1, 200: 9}
    assert {answer.json()["approvals"]["given"] for answer in answers} == {1}
    assert len(entries_of(admin, request)) == 2


def test_votes_race_a_rejection(trio, operators):
    outcomes = Counter()
    for _ in range(10):
        request = submit(trio)
        calls = [lambda person=person: approve(person, request) for person in operators[:4]]
        calls.append(lambda: operators[4].decide(request["request_id"], "reject", reason="No"))
        answers = race(calls)
        decided = [answer.json() for answer in answers if answer.status_code == 201 and "outcome" in answer.json()]
        assert len(decided) == 1
        detail = operators[5].detail(request["request_id"])
        outcomes[detail["outcome"]] += 1
        assert len(set(voters(detail["votes"]))) == detail["approvals"]["given"] == len(detail["votes"])
        assert detail["approvals"]["given"] == 3 if detail["outcome"] == "approved" else detail["approvals"]["given"] < 3
    assert sum(outcomes.values()) == 10


def test_the_queue_keeps_what_has_votes(pair, operator):
    request = submit(pair)
    vote(operator, request, 1, 2)
    items = operator.queue(agent_id=pair.agent_id, limit=200)["items"]
    assert request["request_id"] in {item["request_id"] for item in items}
    assert operator.get(f"{REQUESTS}/{request['request_id']}").headers["etag"]
