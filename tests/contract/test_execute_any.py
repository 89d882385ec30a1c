"""The side that runs the tools uses other agents' approvals: those that its key names, as their own agents would."""

import secrets

import pytest

from support import (
    ACTION,
    REQUESTS,
    deliver,
    expect,
    expect_problem,
    keys_path,
    key_registration,
    new_private_key,
    race,
    register_agent,
    submit,
    submit_decided,
)
from agent import Agent
from test_answers import EDIT, edit
from test_permits import OTHER, consume, entries, new_attempt, report, view


def executor_with(admin, agent_id: str | None = None, **named) -> Agent:
    """An executor whose key names these agents and action types, and may do nothing else."""
    agent_id = agent_id or register_agent(admin).agent_id
    key = new_private_key()
    registration = key_registration(key, scopes=["execute-any"], **named)
    registered = expect(admin.post(keys_path(agent_id), json=registration), 201)
    return Agent(admin.http, agent_id, registered["key_id"], key, registered["response_secret"])


@pytest.fixture
def executor(admin, agent) -> Agent:
    return executor_with(admin, agents=[agent.agent_id])


@pytest.fixture
def approved(agent, operator) -> dict:
    return submit_decided(agent, operator)


def use(executor: Agent, request: dict, attempt: dict | None = None):
    body = attempt or new_attempt(request)
    return executor.call("POST", f"{REQUESTS}/{request['request_id']}/consume", json=body)


def tell(executor: Agent, request: dict, state: str, **members):
    return executor.call("POST", f"{REQUESTS}/{request['request_id']}/outcome", json={"state": state} | members)


def test_an_executor_uses_an_approval_and_reports(agent, admin, executor, approved):
    used = expect(use(executor, approved), 200)
    assert (used["agent_id"], used["request_id"]) == (agent.agent_id, approved["request_id"])
    assert (used["action_digest"], used["repeated"]) == (approved["action_digest"], False)
    assert used["consumed_by"] == executor.key_id
    assert view(agent, approved)["execution"] == "consumed"
    said = expect(tell(executor, approved, "succeeded", note="Booked"), 200)
    assert (said["agent_id"], said["state"], said["note"], said["repeated"]) == (
        agent.agent_id, "succeeded", "Booked", False)
    assert view(agent, approved)["execution"] == "succeeded"
    consumed, outcome = entries(admin, approved)[-2:]
    assert (consumed["kind"], outcome["kind"]) == ("consumed", "outcome")
    for entry in (consumed, outcome):
        assert (entry["actor"], entry["key_id"]) == ({"kind": "agent", "id": executor.agent_id}, executor.key_id)


def test_its_use_ends_the_delivery(agent, executor, approved):
    delivered = deliver(agent, approved["request_id"])
    expect(use(executor, approved), 200)
    assert expect(agent.acknowledge(delivered), 200)["state"] == "acknowledged"
    expect_problem(agent.acknowledge(delivered, "failed", {"code": "x"}), 409, "already-consumed")
    assert agent.poll()["decisions"] == []


def test_the_same_attempt_is_the_same_use_and_another_is_refused(admin, agent, executor, approved):
    attempt = new_attempt(approved)
    first = expect(use(executor, approved, attempt), 200)
    assert expect(use(executor, approved, attempt), 200) == first | {"repeated": True}
    expect_problem(use(executor, approved), 409, "already-consumed")
    # The key of the attempt by another caller is another attempt.
    expect_problem(consume(agent, approved, attempt), 409, "already-consumed")
    another = executor_with(admin, executor.agent_id, agents=[agent.agent_id])
    expect_problem(use(another, approved, attempt), 409, "already-consumed")


def test_all_else_is_checked_as_for_its_own_agent(agent, executor, approved):
    expect_problem(use(executor, submit(agent)), 409, "not-approved")
    expect_problem(use(executor, approved, new_attempt(approved, action_digest=OTHER)), 409, "action-mismatch")
    expect_problem(use(executor, approved, new_attempt(approved, consume_key="short")), 422, "validation-failed")
    expect_problem(tell(executor, approved, "succeeded"), 409, "not-consumed")
    expect(use(executor, approved), 200)


def test_it_uses_what_was_approved_and_not_what_was_asked(agent, operator, executor):
    request = submit(agent, answers=EDIT)
    edited = expect(edit(operator, request["request_id"], {"amount": "1"}), 201)["action_digest"]
    expect_problem(use(executor, request), 409, "action-mismatch")
    assert expect(use(executor, request, new_attempt(request, action_digest=edited)), 200)["action_digest"] == edited


@pytest.mark.parametrize("names, reaches", [
    ({"agents": ["the agent"]}, True),
    ({"agents": ["the agent", "another-agent"], "action_types": [ACTION["type"]]}, True),
    ({"action_types": ["mail.send", ACTION["type"]]}, True),
    ({"agents": ["another-agent"]}, False),
    ({"action_types": [ACTION["type"].upper()]}, False),
    ({"agents": ["the agent"], "action_types": ["mail.send"]}, False),
    ({"agents": ["another-agent"], "action_types": [ACTION["type"]]}, False),
])
def test_what_its_key_does_not_name_does_not_exist(admin, agent, approved, names, reaches):
    if "agents" in names:
        names = names | {"agents": [agent.agent_id if name == "the agent" else name for name in names["agents"]]}
    executor = executor_with(admin, **names)
    if reaches:
        expect(use(executor, approved), 200)
        expect(tell(executor, approved, "failed"), 200)
    else:
        expect_problem(tell(executor, approved, "failed"), 404, "not-found")
        expect_problem(use(executor, approved), 404, "not-found")
        expect(consume(agent, approved), 200)
        expect_problem(tell(executor, approved, "failed"), 404, "not-found")


def test_a_request_that_never_was_is_not_found(executor, approved):
    for request_id in ("0192f5c4-6a3e-7c11-9d2f-2f0c5a8e4b17", "none"):
        unknown = approved | {"request_id": request_id}
        response = executor.http.post(f"{REQUESTS}/{request_id}/consume", json=new_attempt(unknown),
                                      headers={"authorization": f"Bearer {executor.token()}"})
        expect_problem(response, 404, "not-found")


def test_the_scope_reaches_nothing_else(agent, executor, approved):
    for request in (executor, agent):
        path = f"{agent.path}/requests/{approved['request_id']}/consume"
        if request is executor:
            expect_problem(executor.call("POST", path, json=new_attempt(approved)), 403, "forbidden")
    own = f"{executor.path}/requests/{approved['request_id']}"
    expect_problem(executor.call("POST", f"{own}/consume", json=new_attempt(approved)), 403, "forbidden")
    expect_problem(executor.call("GET", own), 403, "forbidden")
    expect_problem(executor.call("GET", f"{executor.path}/decisions/poll"), 403, "forbidden")


@pytest.mark.parametrize("kind", ["operator", "admin"])
def test_people_use_no_approvals(http, stack, approved, kind):
    headers = {"authorization": f"Bearer {stack[kind]['token']}"}
    path = f"{REQUESTS}/{approved['request_id']}"
    expect_problem(http.post(f"{path}/consume", json=new_attempt(approved), headers=headers), 403, "forbidden")
    expect_problem(http.post(f"{path}/outcome", json={"state": "failed"}, headers=headers), 403, "forbidden")


def test_executors_and_the_agent_race_and_one_uses_it(admin, agent, executor, approved):
    others = [executor_with(admin, action_types=[ACTION["type"]]) for _ in range(3)]
    calls = [lambda one=one: use(one, approved) for one in [executor, *others] for _ in range(4)]
    answers = race(calls + [lambda: consume(agent, approved) for _ in range(4)])
    assert sorted(answer.status_code for answer in answers) == [200] + 19 * [409]
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"already-consumed"}


# ---------------------------------------------------------------- who reports


def test_the_agent_that_asked_reports_what_an_executor_used(agent, executor, approved):
    expect(use(executor, approved), 200)
    first = expect(report(agent, approved, "failed", note="Disk full"), 200)
    assert expect(tell(executor, approved, "failed", note="Disk full"), 200) == first | {"repeated": True}
    expect_problem(tell(executor, approved, "succeeded"), 409, "outcome-conflict")


def test_an_executors_next_key_reports_what_the_one_before_used(admin, agent, executor, approved):
    expect(use(executor, approved), 200)
    next_key = executor_with(admin, executor.agent_id, agents=[f"another-{secrets.token_hex(4)}"])
    expect(tell(next_key, approved, "succeeded"), 200)


def test_what_another_used_is_not_an_executors_to_report(admin, agent, executor, approved):
    other = executor_with(admin, agents=[agent.agent_id])
    expect(use(executor, approved), 200)
    expect_problem(tell(other, approved, "succeeded"), 403, "forbidden")
    assert view(agent, approved)["execution"] == "consumed"
    expect(tell(executor, approved, "succeeded"), 200)
    expect_problem(tell(other, approved, "succeeded"), 403, "forbidden")


def test_what_its_own_agent_used_is_not_an_executors_to_report(agent, executor, approved):
    expect(consume(agent, approved), 200)
    expect_problem(tell(executor, approved, "succeeded"), 403, "forbidden")
