"""Delegations: an operator decides in another's place (contract, "Delegations")."""

import secrets
import threading

import psycopg
import pytest

from people import asked_of, finance, of_group, ops  # noqa: F401
from support import deliver, expect, expect_problem, export_chain, in_seconds, instant, pointers, submit, verify_chain, wait_until
from test_rules import rule, ruled, without_rules_afterwards  # noqa: F401

DELEGATIONS = "/v1/hitl/delegations"


def put(person, to, name: str | None = None, **changes):
    body = {"to": to.id, "groups": ["finance"], "until": in_seconds(3600), "reason": "Away"} | changes
    return person.call("PUT", f"{DELEGATIONS}/{name or 'd-' + secrets.token_hex(8)}", json=body)


def end(person, name: str):
    return person.call("DELETE", f"{DELEGATIONS}/{name}")


@pytest.fixture
def delegated(finance):
    """Delegations of operators, which end with the test."""
    made = []

    def delegate(person, to, **changes) -> dict:
        delegation = expect(put(person, to, **changes), 200)
        made.append((person, delegation["delegation_id"]))
        return delegation

    yield delegate
    for person, name in made:
        assert end(person, name).status_code == 204


def decide_for(person, request: dict, whom: str, decision: str = "approve", **members):
    return person.decide(request["request_id"], decision, **{"for": whom} | members)


def test_who_acts_for_another_decides_what_that_one_may_and_says_so_everywhere(asked_of, delegated, admin, finance, ops,
                                                                             agent):
    boss, deputy = finance[0], ops[0]
    request = asked_of(groups=["finance"])
    expect_problem(decide_for(deputy, request, boss.id), 403, "not-assigned")
    made = delegated(boss, deputy)
    assert (made["to"], made["by"], made["groups"], made["in_force"], made["ended_at"]) == (
        deputy.id, {"id": boss.id, "name": boss.name}, ["finance"], True, None)
    assert instant(made["from"]) <= instant(made["created_at"])
    # Who acts for another says for whom.
    expect_problem(deputy.decide(request["request_id"], "approve"), 403, "not-assigned")
    assert deputy.detail(request["request_id"])["you"] == {
        "may": [], "why_not": "not-assigned", "may_act_for": [{"id": boss.id, "name": boss.name}]}
    decision = expect(decide_for(deputy, request, boss.id, reason="Fine"), 201)
    acting = {"kind": "operator", "id": deputy.id, "name": deputy.name, "for": {"id": boss.id, "name": boss.name}}
    assert decision["decided_by"] == acting
    assert expect(decide_for(deputy, request, boss.id, reason="Fine"), 200) == decision
    # As themselves, it would be another decision.
    expect_problem(deputy.decide(request["request_id"], "approve", reason="Fine"), 409, "already-decided")
    export = export_chain(admin, request["request_id"])
    told = verify_chain(export, export["length"], export["head"])[-1]
    assert (told["kind"], told["actor"]) == ("decided", acting)
    detail = boss.detail(request["request_id"])
    assert detail["decision"]["decided_by"] == acting and detail["decided_by"] == acting
    [item] = boss.queue(agent_id=agent.agent_id, status="decided")["items"]
    assert item["decided_by"] == acting
    delivered = deliver(agent, request["request_id"])
    assert delivered["decided_by"] == acting
    # Its attestation held, or there would be no receipt.
    assert delivered["receipt"] == detail["receipt"]


def test_it_is_for_the_groups_that_were_delegated_and_the_delegator_has(asked_of, delegated, finance, ops, operators):
    boss, deputy = finance[1], ops[1]
    delegated(boss, deputy)
    expect_problem(decide_for(deputy, asked_of(groups=["ops"]), boss.id), 403, "not-assigned")
    expect_problem(decide_for(deputy, asked_of(operators=[boss.id]), boss.id), 403, "not-assigned")
    expect_problem(decide_for(ops[2], asked_of(groups=["finance"]), boss.id), 403, "not-assigned")
    expect(decide_for(deputy, asked_of(groups=["finance"]), boss.id), 201)


def test_nobody_passes_on_what_is_not_theirs(finance, ops):
    for groups in (["ops"], ["finance", "ops"]):
        problem = expect_problem(put(finance[2], ops[2], groups=groups), 422, "validation-failed")
        assert pointers(problem) == {f"/groups/{len(groups) - 1}"}


def test_who_acts_for_another_reroutes_too(asked_of, delegated, finance, ops):
    delegated(finance[0], ops[0])
    request = asked_of(groups=["finance"], reroute_to=["ops"])
    path = f"/v1/hitl/requests/{request['request_id']}/assignment"
    body = {"groups": ["ops"], "reason": "Ours"}
    expect_problem(ops[1].call("PUT", path, json=body), 403, "not-assigned")
    expect(ops[0].call("PUT", path, json=body), 200)


def test_a_name_is_free_when_its_delegation_is_over(finance, ops):
    name = "d-" + secrets.token_hex(8)
    until = in_seconds(2)
    expect(put(finance[0], ops[0], name, until=until), 200)
    expect_problem(put(finance[1], ops[0], name), 409, "conflict")
    wait_until(lambda: put(finance[1], ops[0], name).status_code == 200)
    assert end(finance[1], name).status_code == 204


def test_there_are_no_chains(asked_of, delegated, finance, ops, of_group):
    boss, deputy, third = finance[3], ops[3], ops[4]
    delegated(boss, deputy)
    expect_problem(put(deputy, third), 422, "validation-failed")
    delegated(deputy, third, groups=["ops"])
    request = asked_of(groups=["finance"])
    for whom in (boss.id, deputy.id):
        expect_problem(decide_for(third, request, whom), 403, "not-assigned")


@pytest.mark.parametrize("changes, pointer", [
    ({"until": in_seconds(90 * 86_400 + 3_600)}, "/until"), ({"until": in_seconds(-1)}, "/until"),
    ({"from": in_seconds(7200)}, "/until"), ({"from": in_seconds(86_400), "until": in_seconds(91 * 86_400 + 60)}, "/until"),
    ({"groups": []}, "/groups"), ({"reason": ""}, "/reason"), ({"more": 1}, "/more"),
])
def test_a_delegation_is_checked(finance, ops, changes, pointer):
    assert pointers(expect_problem(put(finance[4], ops[4], **changes), 422, "validation-failed")) == {pointer}


def test_nobody_delegates_to_themselves(finance):
    assert pointers(expect_problem(put(finance[5], finance[5]), 422, "validation-failed")) == {"/to"}


def test_90_days_are_admitted_and_it_begins_when_it_says(asked_of, delegated, finance, ops):
    boss, deputy = finance[6], ops[6]
    later = delegated(boss, deputy, **{"from": in_seconds(3600), "until": in_seconds(3600 + 90 * 86_400 - 60)})
    assert later["in_force"] is False
    expect_problem(decide_for(deputy, asked_of(groups=["finance"]), boss.id), 403, "not-assigned")


def test_the_same_again_is_the_same_and_another_takes_its_place(delegated, finance, ops):
    name, until = "d-" + secrets.token_hex(8), in_seconds(600)
    first = delegated(finance[7], ops[7], name=name, until=until)
    assert expect(put(finance[7], ops[7], name=name, until=until), 200) == first
    second = expect(put(finance[7], ops[8], name=name, until=until), 200)
    assert (second["to"], second["created_at"] > first["created_at"]) == (ops[8].id, True)
    expect_problem(put(finance[8], ops[8], name=name), 409, "conflict")


def test_who_delegated_who_acts_and_administrators_see_it_and_its_owner_or_an_administrator_ends_it(delegated, admin,
                                                                                                 finance, ops):
    made = delegated(finance[9], ops[9])
    name = made["delegation_id"]

    def listed(person) -> list[dict]:
        items = expect(person.get(DELEGATIONS, params={"limit": 200}), 200)["items"]
        # The delegate's name is known from their first call.
        return [item | {"to_name": None} for item in items if item["delegation_id"] == name]

    assert listed(finance[9]) == listed(ops[9]) == listed(admin) == [made | {"to_name": None}]
    assert listed(ops[10]) == []
    expect_problem(end(ops[9], name), 403, "forbidden")
    assert end(admin, name).status_code == 204 == end(admin, name).status_code
    [ended] = listed(finance[9])
    assert ended["in_force"] is False and instant(ended["ended_at"])
    logged = expect(admin.get("/v1/admin/log"), 200)["items"]
    assert any(item["action"] == "delegation.ended" and item["subject"] == name for item in logged)
    expect_problem(end(admin, "d-" + secrets.token_hex(8)), 404, "not-found")


def test_it_counts_while_the_delegator_was_seen_within_14_days_and_is_not_blocked(asked_of, delegated, finance, ops, stack):
    boss, deputy = finance[10], ops[10]
    delegated(boss, deputy)
    request = asked_of(groups=["finance"])

    def set_operator(change: str) -> None:
        with psycopg.connect(stack["database_url"]) as owner:
            owner.execute(f"UPDATE operators SET {change} WHERE tenant_id = 'default' AND operator_id = %s", [boss.id])

    try:
        set_operator("seen_at = now() - interval '14 days 1 second'")
        expect_problem(decide_for(deputy, request, boss.id), 403, "not-assigned")
        set_operator("seen_at = now(), status = 'blocked', blocked_at = now(), blocked_by = 'ada'")
        expect_problem(decide_for(deputy, request, boss.id), 403, "not-assigned")
        # Groups that the delegator has lost since.
        set_operator("status = 'active', blocked_at = NULL, blocked_by = NULL, groups = '{ops}'")
        expect_problem(decide_for(deputy, request, boss.id), 403, "not-assigned")
    finally:
        set_operator("seen_at = now(), status = 'active', blocked_at = NULL, blocked_by = NULL, groups = '{finance}'")
    expect(decide_for(deputy, request, boss.id), 201)


def test_who_acts_for_the_requester_does_not_approve(asked_of, delegated, finance, ops):
    boss, deputy = finance[11], ops[11]
    delegated(boss, deputy)
    request = asked_of({"on_behalf_of": {"id": boss.id}}, groups=["finance"])
    expect_problem(decide_for(deputy, request, boss.id), 403, "own-request")
    expect(decide_for(deputy, request, boss.id, "reject", reason="No"), 201)


def test_neither_a_person_nor_the_person_acted_for_counts_twice(asked_of, delegated, finance, ops):
    boss, deputy = finance[12], ops[12]
    delegated(boss, deputy)
    request = asked_of(groups=["finance", "ops"], approvals=3)
    digest = {"action_digest": request["action_digest"]}
    expect(decide_for(deputy, request, boss.id, **digest), 201)
    for answer in (boss.decide(request["request_id"], "approve", **digest),
                   deputy.decide(request["request_id"], "approve", **digest)):
        expect_problem(answer, 409, "already-voted")
    [vote] = boss.detail(request["request_id"])["votes"]
    assert vote["voted_by"]["for"]["id"] == boss.id


def test_a_delegation_that_ends_while_its_delegate_decides(ruled, agent, delegated, admin, finance, ops):
    """Each decision began before the DELETE's answer, or is refused."""
    boss, deputy = finance[8], ops[5]
    ruled(rule("asks", {}, groups=["finance"]))
    for _ in range(5):
        name = delegated(boss, deputy)["delegation_id"]
        requests = [submit(agent) for _ in range(16)]
        ended, started, answers = threading.Event(), threading.Barrier(3), []

        def decide(mine: list[dict]) -> None:
            started.wait()
            for request in mine:
                # Known before the call: what begins after the answer to DELETE is refused.
                is_after = ended.is_set()
                answers.append((is_after, decide_for(deputy, request, boss.id)))

        threads = [threading.Thread(target=decide, args=(requests[half::2],)) for half in range(2)]
        for thread in threads:
            thread.start()
        started.wait()
        assert end(boss, name).status_code == 204
        ended.set()
        for thread in threads:
            thread.join()
        assert len(answers) == 16
        for is_after, answer in answers:
            if is_after or answer.status_code != 201:
                expect_problem(answer, 403, "not-assigned")
            else:
                assert answer.json()["decided_by"]["for"]["id"] == boss.id
        expect_problem(decide_for(deputy, submit(agent), boss.id), 403, "not-assigned")
