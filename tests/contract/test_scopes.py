"""Scopes of keys: given at registration, asked in every route of an agent."""

import pytest

from agent import Agent
from support import (
    expect,
    expect_problem,
    key_registration,
    keys_path,
    new_envelope,
    new_private_key,
    pointers,
    submit_decided,
)

NAMED = {"agents": ["another-agent"], "action_types": ["refund.create"]}
ALL = ["ask", "execute", "execute-any", "hook", "provision"]


def register(admin, agent_id: str, **changes) -> dict:
    return expect(admin.post(keys_path(agent_id), json=key_registration(new_private_key(), **changes)), 201)


def agent_with(admin, agent_id: str, scopes: list[str], **named) -> Agent:
    key = new_private_key()
    named = (named or NAMED) if "execute-any" in scopes else {}
    body = key_registration(key, scopes=scopes, **named)
    registered = expect(admin.post(keys_path(agent_id), json=body), 201)
    return Agent(admin.http, agent_id, registered["key_id"], key, registered["response_secret"])


def asks(agent: Agent, decided: str) -> dict:
    """Every route that asks, looks or acknowledges, called with this key."""
    path = f"{agent.path}/requests"
    return {
        "submit": agent.submit(new_envelope(agent.agent_id)),
        "poll": agent.call("GET", f"{agent.path}/decisions/poll"),
        "acknowledge": agent.call("POST", f"{agent.path}/decisions/{decided}/ack", json={"result": "accepted"}),
        "cancel": agent.call("POST", f"{path}/{decided}/cancel", json={}),
        "look": agent.view(decided),
        "list": agent.call("GET", path),
    }


@pytest.mark.parametrize("scopes", [[scope] for scope in ALL if scope != "ask"] + [ALL[1:]], ids=" ".join)
def test_without_ask_every_route_that_asks_is_forbidden(admin, operator, agent, scopes):
    decided = submit_decided(agent, operator)["request_id"]
    for route, response in asks(agent_with(admin, agent.agent_id, scopes), decided).items():
        assert response.status_code == 403, route
        assert response.json()["code"] == "forbidden", route
    assert len(operator.queue(status="all", agent_id=agent.agent_id)["items"]) == 1


@pytest.mark.parametrize("scopes", [["ask"], ALL], ids=" ".join)
def test_with_ask_every_route_that_asks_works(admin, operator, agent, scopes):
    decided = submit_decided(agent, operator)["request_id"]
    statuses = {route: response.status_code for route, response in asks(
        agent_with(admin, agent.agent_id, scopes), decided).items()}
    assert statuses == {"submit": 201, "poll": 200, "acknowledge": 200, "cancel": 409, "look": 200, "list": 200}


def executes(agent: Agent, request_id: str, action_digest: str, below: str | None = None) -> list[int]:
    path = f"{below or agent.path}/requests/{request_id}"
    consumed = agent.call("POST", f"{path}/consume", json={"consume_key": "k" * 16, "action_digest": action_digest})
    return [consumed.status_code, agent.call("POST", f"{path}/outcome", json={"state": "succeeded"}).status_code]


@pytest.mark.parametrize("scope", ALL)
def test_permits_are_used_and_reported_with_execute_only(admin, operator, agent, scope):
    decided = submit_decided(agent, operator)
    statuses = executes(agent_with(admin, agent.agent_id, [scope]), decided["request_id"], decided["action_digest"])
    assert statuses == ([200, 200] if scope == "execute" else [403, 403])


@pytest.mark.parametrize("scope", ALL)
def test_permits_of_others_are_used_and_reported_with_execute_any_only(admin, operator, agent, scope):
    decided = submit_decided(agent, operator)
    executor = agent_with(admin, agent.agent_id, [scope], agents=[agent.agent_id])
    statuses = executes(executor, decided["request_id"], decided["action_digest"], "/v1/hitl")
    assert statuses == ([200, 200] if scope == "execute-any" else [403, 403])


def test_by_default_a_key_asks_and_executes(admin, agent):
    assert register(admin, agent.agent_id)["scopes"] == ["ask", "execute"]


def test_scopes_are_shown_and_kept_in_order_each_once(admin, agent):
    registered = register(admin, agent.agent_id, scopes=["hook", "execute-any", "ask", "hook"], **NAMED)
    assert registered["scopes"] == ["ask", "execute-any", "hook"]
    assert {name: registered[name] for name in NAMED} == NAMED
    keys = expect(admin.get(f"/v1/admin/agents/{agent.agent_id}"), 200)["keys"]
    [shown] = [key for key in keys if key["key_id"] == registered["key_id"]]
    assert shown["scopes"] == registered["scopes"] and {name: shown[name] for name in NAMED} == NAMED


def test_scopes_never_change(admin, agent):
    body = key_registration(new_private_key(), scopes=["ask", "hook"])
    first = expect(admin.post(keys_path(agent.agent_id), json=body), 201)
    same = body | {"scopes": ["hook", "ask"]}
    assert expect(admin.post(keys_path(agent.agent_id), json=same), 200) == first
    for scopes in (["ask"], ALL[:2]):
        other = body | {"scopes": scopes}
        expect_problem(admin.post(keys_path(agent.agent_id), json=other), 409, "conflict")


@pytest.mark.parametrize("changes, pointer", [
    ({"scopes": []}, "/scopes"),
    ({"scopes": ["everything"]}, "/scopes/0"),
    ({"scopes": ["ask", "Execute"]}, "/scopes/1"),
    ({"scopes": "ask"}, "/scopes"),
    ({"scopes": None}, "/scopes"),
    ({"scopes": ["execute-any"]}, "/scopes"),
    ({"agents": ["a"]}, "/agents"),
    ({"action_types": ["a"]}, "/action_types"),
    ({"scopes": ["execute-any"], "agents": []}, "/agents"),
    ({"scopes": ["execute-any"], "agents": ["A"]}, "/agents/0"),
    ({"scopes": ["execute-any"], "action_types": ["a b"]}, "/action_types/0"),
    ({"scopes": ["execute-any"], "action_types": ["a"] * 101}, "/action_types"),
])
def test_bad_scopes_are_refused(admin, shared_agent, changes, pointer):
    body = key_registration(new_private_key(), **changes)
    problem = expect_problem(admin.post(keys_path(shared_agent.agent_id), json=body), 422, "validation-failed")
    assert pointers(problem) == {pointer}
