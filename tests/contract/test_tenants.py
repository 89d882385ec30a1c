"""Tenants: made and limited by owners; operators known from their tokens and blocked; offboarding."""

import secrets

import pytest

from support import (
    REQUESTS,
    Person,
    expect,
    expect_problem,
    export_chain,
    new_agent_id,
    new_envelope,
    pointers,
    register_agent,
    submit,
    wait_until,
)

TENANTS = "/v1/admin/tenants"
OPERATORS = "/v1/hitl/operators"
# Contract: a suspension and a limit are in force within 5 s, a block within 60 s.
WITHIN = 15
BLOCKED_WITHIN = 90


@pytest.fixture(scope="session")
def owner(http, stack) -> Person:
    return Person(http, stack["owner"]["token"])


@pytest.fixture(scope="session")
def acme_admin(http, stack) -> Person:
    [token] = [admin["token"] for admin in stack["admins"] if admin["tenant"] == "acme"]
    return Person(http, token)


@pytest.fixture(scope="session")
def acme_operators(http, stack) -> list[Person]:
    return [Person(http, known["token"], known["id"], known["name"]) for known in stack["operators"]
            if known["tenant"] == "acme"]


@pytest.fixture
def as_it_was(owner, acme_admin):
    """Leaves acme open and without limits."""
    yield
    open_again = {"status": "active", "limits": {"submissions_per_minute": None, "agents": None}}
    expect(owner.call("PATCH", f"{TENANTS}/acme", json=open_again), 200)
    wait_until(lambda: acme_admin.get("/v1/admin/agents").status_code == 200, WITHIN)
    agent = register_agent(acme_admin)
    wait_until(lambda: try_to_submit(agent).status_code == 201, WITHIN)


def unsigned(agent, method: str, path: str, **request):
    """A call of an agent whose answer may be a 401, which nobody signs."""
    return agent.http.request(method, path, headers={"authorization": f"Bearer {agent.token()}"}, **request)


def try_to_submit(agent):
    return unsigned(agent, "POST", REQUESTS, json=new_envelope(agent.agent_id))


def change(owner, **members) -> dict:
    return expect(owner.call("PATCH", f"{TENANTS}/acme", json=members), 200)


# ---------------------------------------------------------------- the local stack


def test_the_stack_has_people_of_two_tenants(stack, owner, http):
    of_default = [known for known in stack["operators"] if known["tenant"] == "default"]
    of_acme = [known for known in stack["operators"] if known["tenant"] == "acme"]
    assert (len(of_default), len(of_acme)) == (50, 5)
    finance = {known["id"] for known in of_default if "finance" in known["groups"]}
    ops = {known["id"] for known in of_default if "ops" in known["groups"]}
    assert (len(finance), len(ops), len(finance & ops), len(finance | ops)) == (25, 30, 5, 50)
    assert all(known["groups"] == ["ops"] for known in of_acme)
    for known in (*of_default[:1], *of_acme[:1]):
        me = expect(Person(http, known["token"]).get("/v1/hitl/me"), 200)
        assert me == {name: known[name] for name in ("id", "name", "groups", "tenant")} | {"roles": ["operator"]}
    assert {admin["tenant"] for admin in stack["admins"]} == {"default", "acme"}


# ---------------------------------------------------------------- owners


def test_an_owner_makes_a_tenant_once(owner):
    tenant_id = f"t-{secrets.token_hex(6)}"
    limits = {"submissions_per_minute": 100, "agents": None}
    made = expect(owner.post(TENANTS, json={"tenant_id": tenant_id, "limits": {"submissions_per_minute": 100}}), 201)
    assert {name: made[name] for name in ("tenant_id", "status", "limits")} == {
        "tenant_id": tenant_id, "status": "active", "limits": limits}
    assert expect(owner.post(TENANTS, json={"tenant_id": tenant_id, "limits": {"submissions_per_minute": 100}}), 200) == made
    expect_problem(owner.post(TENANTS, json={"tenant_id": tenant_id}), 409, "conflict")
    listed, cursor = [], None
    while True:
        page = expect(owner.get(TENANTS, params={"limit": 2} | ({"cursor": cursor} if cursor else {})), 200)
        listed += page["items"]
        if not (cursor := page["next_cursor"]):
            break
    assert made in listed and {"default", "acme"} <= {tenant["tenant_id"] for tenant in listed}
    assert [tenant["tenant_id"] for tenant in listed] == sorted(tenant["tenant_id"] for tenant in listed)


@pytest.mark.parametrize("body, pointer", [
    ({"tenant_id": "Acme"}, "/tenant_id"), ({"tenant_id": "-a"}, "/tenant_id"), ({"tenant_id": "a" * 64}, "/tenant_id"),
    ({}, "/tenant_id"), ({"tenant_id": "a", "limits": {"agents": 0}}, "/limits/agents"),
    ({"tenant_id": "a", "limits": {"submissions_per_minute": -1}}, "/limits/submissions_per_minute"),
    ({"tenant_id": "a", "limits": {"more": 1}}, "/limits/more"), ({"tenant_id": "a", "name": "A"}, "/name"),
])
def test_a_tenant_that_is_not_well_formed_is_refused(owner, body, pointer):
    assert pointer in pointers(expect_problem(owner.post(TENANTS, json=body), 422, "validation-failed"))


def test_an_unknown_tenant_cannot_be_changed(owner):
    expect_problem(owner.call("PATCH", f"{TENANTS}/nobody-has-made-it", json={"status": "active"}), 404, "not-found")
    expect_problem(owner.call("PATCH", f"{TENANTS}/No", json={"status": "active"}), 404, "not-found")


def test_an_owner_sees_no_requests_and_others_see_no_tenants(owner, admin, operator, agent):
    request = submit(agent)["request_id"]
    for path in (REQUESTS, f"{REQUESTS}/{request}", "/v1/admin/agents", f"/v1/admin/requests/{request}/chain",
                 "/v1/admin/log", "/v1/admin/stale", "/v1/hitl/me", OPERATORS):
        expect_problem(owner.get(path), 403, "forbidden")
    for other in (admin, operator):
        expect_problem(other.get(TENANTS), 403, "forbidden")
        expect_problem(other.call("PATCH", f"{TENANTS}/acme", json={"status": "suspended"}), 403, "forbidden")
    expect_problem(agent.call("GET", TENANTS), 403, "forbidden")


# ---------------------------------------------------------------- suspended


def test_a_suspended_tenant_s_tokens_are_refused_and_work_again(owner, acme_admin, acme_operators, as_it_was):
    agent = register_agent(acme_admin)
    submission = submit(agent)
    calls = [
        lambda: acme_operators[0].get(REQUESTS),
        lambda: acme_admin.get("/v1/admin/agents"),
        lambda: try_to_submit(agent),
        lambda: unsigned(agent, "GET", f"/v1/agents/{agent.agent_id}/decisions/poll"),
    ]
    change(owner, status="suspended", reason="the bill")
    for call in calls:
        refused = wait_until(lambda: (answer := call()).status_code == 401 and answer, WITHIN)
        expect_problem(refused, 401, "unauthenticated")
    change(owner, status="active")
    for call in calls:
        wait_until(lambda: call().status_code in (200, 201), WITHIN)
    # What was pending still is: nothing was lost.
    assert acme_operators[0].detail(submission["request_id"])["status"] == "pending"
    log = expect(acme_admin.get("/v1/admin/log", params={"limit": 5}), 200)["items"]
    changes = [entry for entry in log if entry["action"] == "tenant.changed"]
    assert [entry["details"]["became"]["status"] for entry in changes[:2]] == ["active", "suspended"]
    assert changes[0]["actor"]["kind"] == "owner" and changes[1]["details"]["reason"] == "the bill"


# ---------------------------------------------------------------- limits


def test_submissions_of_a_tenant_are_limited(owner, acme_admin, as_it_was):
    agent = register_agent(acme_admin)
    change(owner, limits={"submissions_per_minute": 3})
    wait_until(lambda: agent.submit(new_envelope(agent.agent_id)).status_code == 429, WITHIN)
    refused = agent.submit(new_envelope(agent.agent_id))
    problem = expect_problem(refused, 429, "rate-limited")
    assert "submissions_per_minute" in problem["detail"]
    # Of the other tenant nobody is slowed, and nothing else of this one is.
    expect(agent.call("GET", f"/v1/agents/{agent.agent_id}/decisions/poll"), 200)
    change(owner, limits={"submissions_per_minute": None})
    wait_until(lambda: agent.submit(new_envelope(agent.agent_id)).status_code == 201, WITHIN)


def test_another_tenant_is_not_limited(owner, acme_admin, agent, as_it_was):
    change(owner, limits={"submissions_per_minute": 1})
    other = register_agent(acme_admin)
    wait_until(lambda: other.submit(new_envelope(other.agent_id)).status_code == 429, WITHIN)
    for _ in range(5):
        submit(agent)


def test_agents_of_a_tenant_are_limited(owner, acme_admin, as_it_was):
    agents = []
    while len(agents) < 2:
        agents.append(register_agent(acme_admin).agent_id)
    counted, cursor = 0, None
    while True:
        page = expect(acme_admin.get("/v1/admin/agents", params={"limit": 200} | ({"cursor": cursor} if cursor else {})), 200)
        counted += sum(agent["status"] == "active" for agent in page["items"])
        if not (cursor := page["next_cursor"]):
            break
    change(owner, limits={"agents": counted})
    new = {"agent_id": new_agent_id(), "name": "One more"}
    expect_problem(acme_admin.post("/v1/admin/agents", json=new), 409, "conflict")
    # The same registration again is no new agent; and a disabled one leaves its place.
    expect(acme_admin.post("/v1/admin/agents", json={"agent_id": agents[0], "name": "Contract test"}), 200)
    expect(acme_admin.call("PATCH", f"/v1/admin/agents/{agents[0]}", json={"status": "disabled"}), 200)
    expect(acme_admin.post("/v1/admin/agents", json=new), 201)
    expect_problem(acme_admin.call("PATCH", f"/v1/admin/agents/{agents[0]}", json={"status": "active"}), 409, "conflict")
    expect(acme_admin.call("PATCH", f"/v1/admin/agents/{agents[1]}", json={"status": "active"}), 200)


# ---------------------------------------------------------------- names


def test_names_of_agents_and_keys_are_the_deployment_s(admin, acme_admin):
    ours = register_agent(admin)
    taken = {"agent_id": ours.agent_id, "name": "Contract test"}
    expect_problem(acme_admin.post("/v1/admin/agents", json=taken), 409, "conflict")
    theirs = register_agent(acme_admin)
    key = {"key_id": ours.key_id, "alg": "bearer"}
    expect_problem(acme_admin.post(f"/v1/admin/agents/{theirs.agent_id}/keys", json=key), 409, "conflict")
    expect_problem(acme_admin.post(f"/v1/admin/agents/{ours.agent_id}/keys", json=key), 404, "not-found")


def test_policies_are_a_tenant_s_own(admin, acme_admin, agent):
    theirs = register_agent(acme_admin)
    kind = f"t.{secrets.token_hex(6)}"
    policy = {"action_type": kind, "priority": "P2", "respond_within_seconds": 77, "on_timeout": "auto_reject"}
    made = expect(acme_admin.call("PUT", "/v1/admin/timeout-policies", json=policy), 200)
    action = {"action": {"type": kind, "arguments": {}}}
    lasts = {}
    for who in (theirs, agent):
        submission = submit(who, **action)
        lasts[who.agent_id] = submission["respond_by"]
    assert lasts[theirs.agent_id] < lasts[agent.agent_id]
    # The same scope of another tenant is another policy.
    own = expect(admin.call("PUT", "/v1/admin/timeout-policies", json=policy | {"respond_within_seconds": 99}), 200)
    assert own["policy_id"] != made["policy_id"]
    listed = expect(acme_admin.get("/v1/admin/timeout-policies"), 200)["items"]
    assert [entry["respond_within_seconds"] for entry in listed if entry["action_type"] == kind] == [77]
    expect_problem(admin.call("DELETE", f"/v1/admin/timeout-policies/{made['policy_id']}"), 404, "not-found")
    assert acme_admin.call("DELETE", f"/v1/admin/timeout-policies/{made['policy_id']}").status_code == 204
    assert admin.call("DELETE", f"/v1/admin/timeout-policies/{own['policy_id']}").status_code == 204


# ---------------------------------------------------------------- operators


def known(person: Person, **query) -> dict[str, dict]:
    found, cursor = {}, None
    while True:
        page = expect(person.get(OPERATORS, params=query | ({"cursor": cursor} if cursor else {})), 200)
        found |= {operator["id"]: operator for operator in page["items"]}
        if not (cursor := page["next_cursor"]):
            return found


def test_operators_are_known_from_their_tokens(operators, acme_operators, stack):
    for someone in (*operators[:3], *acme_operators):
        expect(someone.get("/v1/hitl/me"), 200)
    wait_until(lambda: {someone.id for someone in operators[:3]} <= known(operators[0]).keys())
    first = known(operators[0])[operators[0].id]
    assert {name: first[name] for name in ("id", "name", "groups", "status")} == {
        "id": operators[0].id, "name": operators[0].name, "groups": ["finance"], "status": "active"}
    assert first["last_seen_at"] and first["blocked_at"] is None
    # Each tenant sees its own, and a page goes on where the one before ended.
    wait_until(lambda: {someone.id for someone in acme_operators} <= known(acme_operators[0]).keys())
    assert not known(operators[0]).keys() & known(acme_operators[0]).keys()
    assert known(operators[0], limit=1).keys() == known(operators[0]).keys()


def test_operators_are_searched(operators, acme_operators):
    expect(operators[0].get("/v1/hitl/me"), 200)
    name = operators[0].name
    wait_until(lambda: operators[0].id in known(operators[0], q=name.upper()))
    assert operators[0].id in known(operators[0], q=operators[0].id[1:4])
    assert operators[0].id in known(operators[0], q="FINAN")
    assert known(operators[0], q=secrets.token_hex(8)) == {}
    assert known(operators[0], q="%") == {} == known(operators[0], q="acme-")
    expect_problem(operators[0].get(OPERATORS, params={"q": "x" * 201}), 422, "validation-failed")
    expect_problem(operators[0].get(OPERATORS, params={"cursor": "x"}), 422, "validation-failed")


def test_a_blocked_operator_may_do_nothing_until_let_in_again(http, stack, admin, acme_admin, acme_operators, operators):
    someone, witness = acme_operators[4], acme_operators[0]
    path = f"/v1/admin/operators/{someone.id}"
    expect(someone.get(REQUESTS), 200)
    wait_until(lambda: someone.id in known(witness))
    expect_problem(admin.call("PATCH", path, json={"status": "blocked"}), 404, "not-found")
    blocked = expect(acme_admin.call("PATCH", path, json={"status": "blocked"}), 200)
    assert blocked["status"] == "blocked" and blocked["blocked_by"] == "acme-admin"
    assert expect(acme_admin.call("PATCH", path, json={"status": "blocked"}), 200)["blocked_at"] == blocked["blocked_at"]
    try:
        refused = wait_until(lambda: (answer := someone.get(REQUESTS)).status_code == 403 and answer, BLOCKED_WITHIN)
        expect_problem(refused, 403, "forbidden")
        expect_problem(someone.decide("0192f5c4-6a3e-7c11-9d2f-2f0c5a8e4b17", "approve"), 403, "forbidden")
        expect(witness.get(REQUESTS), 200)
        assert known(witness)[someone.id]["status"] == "blocked"
    finally:
        expect(acme_admin.call("PATCH", path, json={"status": "active"}), 200)
    wait_until(lambda: someone.get(REQUESTS).status_code == 200, BLOCKED_WITHIN)
    entries = expect(acme_admin.get("/v1/admin/log", params={"limit": 20}), 200)["items"]
    done = [entry["action"] for entry in entries if entry["subject"] == someone.id]
    assert done[:2] == ["operator.unblocked", "operator.blocked"], "the repeated block changed nothing"


def test_nobody_unknown_is_blocked(admin):
    expect_problem(admin.call("PATCH", "/v1/admin/operators/never-seen", json={"status": "blocked"}), 404, "not-found")
    expect_problem(admin.call("PATCH", "/v1/admin/operators/never-seen", json={"status": "gone"}), 422, "validation-failed")


# ---------------------------------------------------------------- offboarding


def offboard(person: Person, path: str, **members) -> dict:
    body = {"reason": "The project is over", "pending": "cancel"} | members
    while True:
        ended = expect(person.post(f"{path}/offboarding", json=body), 200)
        if ended["done"]:
            return ended


def test_an_agent_is_offboarded_and_its_record_stays(admin, operator, agent):
    pending = [submit(agent)["request_id"] for _ in range(3)]
    decided = submit(agent)["request_id"]
    expect(operator.decide(decided, "approve"), 201)
    ended = offboard(admin, f"/v1/admin/agents/{agent.agent_id}")
    assert (ended["keys_revoked"], ended["cancelled"]) == (1, 3)
    for request_id in pending:
        detail = operator.detail(request_id)
        assert (detail["outcome"], detail["decision"]["cause"]) == ("cancelled", "admin")
        assert [entry["kind"] for entry in export_chain(admin, request_id)["entries"]] == ["submitted", "decided"]
    assert operator.detail(decided)["outcome"] == "approved"
    wait_until(lambda: try_to_submit(agent).status_code == 401, BLOCKED_WITHIN)
    seen = expect(admin.get(f"/v1/admin/agents/{agent.agent_id}"), 200)
    assert seen["status"] == "disabled" and all(key["revoked_at"] for key in seen["keys"])
    again = offboard(admin, f"/v1/admin/agents/{agent.agent_id}")
    assert (again["keys_revoked"], again["cancelled"]) == (0, 0)
    log = expect(admin.get("/v1/admin/log", params={"limit": 50}), 200)["items"]
    ends = [entry for entry in log if entry["subject"] == agent.agent_id and entry["action"] == "agent.offboarded"]
    assert len(ends) == 1 and ends[0]["details"]["keys_revoked"] == 1


def test_what_an_agent_has_pending_may_be_handed_over(admin, operator, agent):
    request_id = submit(agent)["request_id"]
    ended = offboard(admin, f"/v1/admin/agents/{agent.agent_id}", pending="hand_over")
    assert ended["cancelled"] == 0
    expect(operator.decide(request_id, "approve"), 201)


def test_an_agent_of_another_tenant_is_not_offboarded(acme_admin, operator, agent):
    request_id = submit(agent)["request_id"]
    body = {"reason": "x", "pending": "cancel"}
    expect_problem(acme_admin.post(f"/v1/admin/agents/{agent.agent_id}/offboarding", json=body), 404, "not-found")
    assert operator.detail(request_id)["status"] == "pending"
    submit(agent)


def test_a_tenant_is_offboarded_by_an_owner_only(owner, admin):
    tenant_id = f"t-{secrets.token_hex(6)}"
    expect(owner.post(TENANTS, json={"tenant_id": tenant_id}), 201)
    body = {"reason": "x", "pending": "cancel"}
    expect_problem(admin.post(f"{TENANTS}/{tenant_id}/offboarding", json=body), 403, "forbidden")
    expect_problem(owner.post(f"{TENANTS}/nobody-has-made-it/offboarding", json=body), 404, "not-found")
    ended = offboard(owner, f"{TENANTS}/{tenant_id}")
    assert (ended["tenant_id"], ended["keys_revoked"], ended["cancelled"]) == (tenant_id, 0, 0)
    listed = expect(owner.get(TENANTS, params={"limit": 200}), 200)["items"]
    assert [tenant["status"] for tenant in listed if tenant["tenant_id"] == tenant_id] == ["suspended"]


# ---------------------------------------------------------------- the sweep


def test_only_the_deployment_s_own_administrators_sweep(acme_admin, admin):
    expect_problem(acme_admin.post("/internal/timeout-sweep"), 403, "forbidden")
    expect(admin.post("/internal/timeout-sweep"), 200)
