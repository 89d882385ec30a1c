"""HTTP hooks of Claude Code: what fails denies, and every answer to PreToolUse is 200."""

import json
import secrets
import uuid

import httpx
import psycopg
import pytest

from agent import action_digest
from support import (
    expect,
    expect_problem,
    export_chain,
    keys_path,
    new_key_id,
    race,
    register_agent,
    verify_chain,
    wait_until,
)

HOOK = "/v1/hooks/claude-code"
PENDING = "Still waiting"


class Harness:
    """A harness's session, with a key of its own."""

    def __init__(self, admin, base_url: str, agent_id: str, token: str, session: str | None = None):
        self.admin, self.agent_id, self.token = admin, agent_id, token
        self.http = httpx.Client(base_url=base_url, timeout=90)
        self.session = session or str(uuid.uuid4())

    def send(self, event: str, tool="Bash", tool_use_id: str | None = None, headers=None, **members) -> httpx.Response:
        body = {
            "hook_event_name": event,
            "session_id": self.session,
            "transcript_path": "/home/somebody/.claude/projects/x.jsonl",
            "cwd": "/home/somebody/x",
            "prompt_id": "prompt-1",
            "permission_mode": "default",
            "agent_id": "subagent-1",
            "tool_name": tool,
            "tool_use_id": tool_use_id or f"toolu_{secrets.token_hex(12)}",
            "mcp_server": {"name": "github", "source": "project"},
            "a_field_of_the_next_release": {"x": [1, None]},
        } | members
        ours = {"authorization": f"Bearer {self.token}"}
        return self.http.post(HOOK, json=body, headers=ours if headers is None else headers)

    def ask(self, tool_input=None, **members) -> dict:
        answer = decision(self.send("PreToolUse", tool_input=tool_input or {"command": "ls -la"}, **members))
        return answer

    def ask_until_answered(self, tool_input=None, **members) -> dict:
        return wait_until(lambda: unless_pending(self.ask(tool_input, **members)), timeout=60)


def decision(response: httpx.Response) -> dict:
    """The answer to a PreToolUse: 200, of the harness's shape, allow or deny, with a reason."""
    assert response.status_code == 200, response.text
    body = response.json()
    assert set(body) == {"hookSpecificOutput"}
    output = body["hookSpecificOutput"]
    assert output["hookEventName"] == "PreToolUse"
    assert output["permissionDecision"] in ("allow", "deny")
    assert output["permissionDecisionReason"]
    assert set(output) <= {"hookEventName", "permissionDecision", "permissionDecisionReason", "updatedInput"}
    return output | {"problem": response.headers.get("relaytrace-problem")}


def denied(response: httpx.Response, code: str | None) -> str:
    output = decision(response)
    assert (output["permissionDecision"], output["problem"]) == ("deny", code), response.text
    return output["permissionDecisionReason"]


def unless_pending(output: dict) -> dict | None:
    return None if output["permissionDecisionReason"].startswith(PENDING) else output


def asked(operator, harness: Harness, status="pending") -> list[dict]:
    return operator.queue(status=status, agent_id=harness.agent_id)["items"]


def the_request(operator, harness: Harness) -> dict:
    [item] = asked(operator, harness, "all")
    return item


@pytest.fixture
def harness(admin, stack, agent) -> Harness:
    registration = {"key_id": new_key_id(), "alg": "bearer", "scopes": ["hook"]}
    token = expect(admin.post(keys_path(agent.agent_id), json=registration), 201)["token"]
    return Harness(admin, stack["base_url"], agent.agent_id, token)


# ---------------------------------------------------------------- what a person says


def test_what_nobody_has_answered_is_denied_and_says_how_to_go_on(harness, operator):
    output = harness.ask()
    assert (output["permissionDecision"], output["problem"]) == ("deny", None)
    assert output["permissionDecisionReason"].startswith(PENDING)
    item = the_request(operator, harness)
    assert item["request_id"] in output["permissionDecisionReason"]
    assert (item["action_type"], item["title"], item["status"]) == ("Bash", "Bash command=ls -la", "pending")


def test_an_operator_sees_the_input_and_all_that_the_harness_says_but_paths_of_transcripts(harness, operator):
    harness.ask({"command": "rm -rf build", "description": "clean"})
    detail = operator.detail(the_request(operator, harness)["request_id"])
    assert detail["action"] == {"type": "Bash", "arguments": {"command": "rm -rf build", "description": "clean"}}
    context = detail["context"]
    assert context["session_id"] == harness.session and context["cwd"] == "/home/somebody/x"
    assert context["mcp_server"] == {"name": "github", "source": "project"}
    assert context["a_field_of_the_next_release"] == {"x": [1, None]}
    assert "transcript_path" not in context and "tool_input" not in context
    assert detail["answers"] == ["approve", "reject", "edit"]


def test_a_call_is_held_until_a_person_answers(harness, operator, stack):
    """The answer of the same call that asked: as soon as one wins against the end of its wait."""

    def play():
        run = Harness(harness.admin, stack["base_url"], harness.agent_id, harness.token)

        def approve():
            item = wait_until(lambda: asked(operator, run), timeout=30)[0]
            return operator.decide(item["request_id"], "approve")

        output, _ = race([lambda: run.ask({"command": secrets.token_hex(4)}), approve])
        return output["permissionDecision"] == "allow"

    assert any(play() for _ in range(20))


def test_an_approval_is_used_before_the_call_is_allowed(harness, operator, admin):
    harness.ask()
    request_id = the_request(operator, harness)["request_id"]
    expect(operator.decide(request_id, "approve"), 201)
    output = harness.ask()
    assert output["permissionDecision"] == "allow" and "updatedInput" not in output
    assert operator.name in output["permissionDecisionReason"]
    detail = operator.detail(request_id)
    assert detail["execution"] == "consumed" and detail["delivery"]["state"] == "acknowledged"
    export = export_chain(admin, request_id)
    kinds = {entry["kind"]: entry for entry in verify_chain(export, export["length"], export["head"])}
    assert list(kinds) == ["submitted", "decided", "consumed"]
    assert kinds["submitted"]["protocol"] == "claude-code/1"
    assert "digest" not in kinds["consumed"]


def test_an_edited_input_is_what_runs(harness, operator):
    harness.ask({"command": "rm -rf /"})
    detail = operator.detail(the_request(operator, harness)["request_id"])
    edited = {"command": "rm -rf build"}
    digest = action_digest({"type": "Bash", "arguments": edited})
    expect(operator.decide(detail["request_id"], "edit", arguments=edited, edited_action_digest=digest), 201)
    output = harness.ask({"command": "rm -rf /"})
    assert (output["permissionDecision"], output["updatedInput"]) == ("allow", edited)
    assert operator.detail(detail["request_id"])["execution"] == "consumed"


def six_answers(harness, operator, admin) -> dict[str, str]:
    """What a model reads of each way in which a call does not run, but for a rule's."""
    texts = {}

    def decided(name: str, decide) -> None:
        command = {"command": name}
        texts.setdefault("pending", harness.ask(command)["permissionDecisionReason"])
        [request_id] = [item["request_id"] for item in asked(operator, harness) if item["title"].endswith(name)]
        decide(request_id)
        texts[name] = harness.ask_until_answered(command)["permissionDecisionReason"]

    def dispose(request_id):
        path = f"/v1/admin/requests/{request_id}/disposition"
        expect(admin.post(path, json={"action": "cancel", "reason": "Asked twice"}), 200)

    decided("person", lambda request_id: expect(operator.decide(request_id, "reject", reason="Not on Fridays"), 201))
    decided("cancelled", dispose)
    used = f"toolu_{secrets.token_hex(4)}"
    harness.ask({"command": "used"}, tool_use_id=used)
    [request_id] = [item["request_id"] for item in asked(operator, harness) if item["title"].endswith("used")]
    expect(operator.decide(request_id, "approve"), 201)
    assert harness.ask({"command": "used"}, tool_use_id=used)["permissionDecision"] == "allow"
    texts["used"] = denied(
        harness.send("PreToolUse", tool_input={"command": "used"}, tool_use_id=used), "already-consumed"
    )
    policy = {"agent_id": harness.agent_id, "priority": "P2", "respond_within_seconds": 1, "on_timeout": "auto_reject"}
    expect(admin.call("PUT", "/v1/admin/timeout-policies", json=policy), 200)
    texts["timeout"] = harness.ask_until_answered({"command": "timeout"})["permissionDecisionReason"]
    return texts


def test_each_way_of_not_running_has_a_text_of_its_own(harness, operator, admin):
    texts = six_answers(harness, operator, admin)
    assert len({text[:12] for text in texts.values()}) == 5, texts
    assert "Not on Fridays" in texts["person"] and "Asked twice" in texts["cancelled"]
    assert texts["timeout"].startswith("Timed out") and "nobody" in texts["timeout"]
    for name in ("person", "cancelled", "timeout"):
        [item] = [item for item in asked(operator, harness, "decided") if item["title"].endswith(name)]
        # Told and over: no poll gets it later.
        assert item["delivery_state"] == "acknowledged", name


def with_permit_until(stack, request_id: str, moment: str) -> None:
    """The database's owner moves the end of an approval."""
    ended = f"UPDATE hitl_requests r SET permit_expires_at = {moment} FROM hitl_decisions d"
    with psycopg.connect(stack["database_url"]) as connection:
        connection.execute(f"{ended} WHERE d.request_id = r.request_id AND r.request_id = %s", [request_id])


def test_an_approval_that_came_too_late_is_not_used(harness, operator, stack):
    harness.ask()
    request_id = the_request(operator, harness)["request_id"]
    expect(operator.decide(request_id, "approve"), 201)
    with_permit_until(stack, request_id, "d.decided_at")
    text = denied(harness.send("PreToolUse", tool_input={"command": "ls -la"}), "permit-expired")
    assert text.startswith("Approved, but too late")
    assert operator.detail(request_id)["delivery"]["state"] == "acknowledged"
    # The next call asks anew.
    assert harness.ask()["permissionDecisionReason"].startswith(PENDING)
    assert len(asked(operator, harness, "all")) == 2


def test_a_decision_that_the_database_contradicts_is_not_told(harness, operator, stack):
    harness.ask()
    request_id = the_request(operator, harness)["request_id"]
    expect(operator.decide(request_id, "approve"), 201)
    with_permit_until(stack, request_id, "r.created_at")
    denied(harness.send("PreToolUse", tool_input={"command": "ls -la"}), "internal")
    assert operator.detail(request_id)["execution"] != "consumed"


# ---------------------------------------------------------------- which request a call is about


def test_the_same_call_again_finds_its_request(harness, operator):
    for _ in range(3):
        harness.ask()
    request_id = the_request(operator, harness)["request_id"]
    expect(operator.decide(request_id, "approve"), 201)
    assert harness.ask()["permissionDecision"] == "allow"


def test_the_same_tool_use_again_is_the_same_request(harness, operator):
    for _ in range(2):
        harness.ask(tool_use_id="toolu_1")
    the_request(operator, harness)


def test_two_equal_calls_of_a_session_stay_two(harness, operator):
    race([harness.ask, harness.ask])
    assert len(asked(operator, harness)) == 2
    # Each goes on with another one.
    race([harness.ask, harness.ask])
    items = asked(operator, harness)
    assert len(items) == 2
    for item in items:
        expect(operator.decide(item["request_id"], "approve"), 201)
    outputs = [harness.ask(), harness.ask()]
    assert [output["permissionDecision"] for output in outputs] == ["allow", "allow"]
    # What was answered is not gone on with.
    harness.ask()
    assert len(asked(operator, harness, "all")) == 3


@pytest.mark.parametrize("other", ["session", "input", "tool"])
def test_another_call_is_another_request(harness, operator, stack, other):
    harness.ask()
    if other == "session":
        Harness(harness.admin, stack["base_url"], harness.agent_id, harness.token).ask()
    elif other == "input":
        harness.ask({"command": "ls"})
    else:
        harness.ask(tool="Write")
    assert len(asked(operator, harness)) == 2


def test_a_tool_use_that_goes_on_is_a_second_key_of_the_request(harness, operator, agent):
    harness.ask(tool_use_id="toolu_1")
    harness.ask(tool_use_id="toolu_2")
    request_id = the_request(operator, harness)["request_id"]
    for tool_use_id in ("toolu_1", "toolu_2"):
        query = {"client_request_key": f"{harness.session}:{tool_use_id}"}
        [found] = expect(agent.call("GET", f"{agent.path}/requests", params=query), 200)["items"]
        assert found["request_id"] == request_id
    expect(operator.decide(request_id, "approve"), 201)
    assert harness.ask(tool_use_id="toolu_2")["permissionDecision"] == "allow"
    assert harness.ask(tool_use_id="toolu_1")["problem"] == "already-consumed"


def test_one_tool_use_for_two_inputs_is_denied(harness):
    harness.ask(tool_use_id="toolu_1")
    denied(harness.send("PreToolUse", tool_input={"command": "rm"}, tool_use_id="toolu_1"), "idempotency-key-reused")


def test_a_poll_that_does_not_name_it_gets_no_hooks_decision(harness, operator, agent):
    harness.ask()
    request_id = the_request(operator, harness)["request_id"]
    expect(operator.decide(request_id, "reject", reason="No"), 201)
    assert agent.poll()["decisions"] == []
    assert [decision["request_id"] for decision in agent.poll(0, [request_id])["decisions"]] == [request_id]


# ---------------------------------------------------------------- what needs nobody


@pytest.mark.parametrize("tool", ["Read", "Glob", "Grep", "LS", "NotebookRead", "TodoRead", "BashOutput",
                                  "ListMcpResourcesTool"])
def test_tools_that_only_read_pass(harness, operator, tool):
    assert harness.ask(tool=tool)["permissionDecision"] == "allow"
    assert asked(operator, harness, "all") == []


@pytest.mark.parametrize("tool", ["read", "Readx", "mcp__files__Read", "WebFetch", "Write", "Edit", "Task"])
def test_all_others_are_asked(harness, operator, tool):
    assert harness.ask(tool=tool)["permissionDecision"] == "deny"
    assert the_request(operator, harness)["action_type"] == tool


# ---------------------------------------------------------------- what fails denies


def test_a_call_without_a_good_key_is_denied(harness, agent, operator, admin):
    scopes = ["ask", "execute"]
    registration = {"key_id": new_key_id(), "alg": "bearer", "scopes": scopes}
    unscoped = expect(admin.post(keys_path(agent.agent_id), json=registration), 201)["token"]
    for headers, code in [
        ({}, "unauthenticated"),
        ({"authorization": "Bearer rtk_no-such-key_" + 43 * "a"}, "unauthenticated"),
        ({"authorization": f"Bearer {harness.token[:-1]}{'a' if harness.token[-1] != 'a' else 'b'}"}, "unauthenticated"),
        ({"authorization": "Basic eA=="}, "unauthenticated"),
        ({"authorization": f"Bearer {unscoped}"}, "forbidden"),
        ({"authorization": f"Bearer {operator.token}"}, "forbidden"),
    ]:
        for tool in ("Bash", "Read"):
            denied(harness.send("PreToolUse", tool=tool, tool_input={}, headers=headers), code)


def test_a_key_with_the_scope_hook_does_nothing_else(harness, agent, operator):
    ours = {"authorization": f"Bearer {harness.token}"}
    expect_problem(harness.http.get(f"{agent.path}/decisions/poll", headers=ours), 403, "forbidden")
    assert harness.http.get(f"/aap/v1/requests/{uuid.uuid4()}", headers=ours).status_code == 403


CALL = {"hook_event_name": "PreToolUse", "session_id": "s", "tool_use_id": "t", "tool_name": "Bash",
        "tool_input": {"command": "ls"}}


# A body that is as long as one may be; what the bridge stores of it would be longer.
ROOM = 512 * 1024 - len(json.dumps(CALL | {"a_field": ""}))


@pytest.mark.parametrize("content, code", [
    (b"", "malformed-json"),
    (b"{", "malformed-json"),
    (b"null", "validation-failed"),
    (b"[]", "validation-failed"),
    (b"{}", "validation-failed"),
    (b"\xff\xfe", "malformed-json"),
    (b'{"hook_event_name":"PreToolUse","hook_event_name":"PostToolUse"}', "malformed-json"),
    (json.dumps(CALL | {"hook_event_name": "Stop"}).encode(), "validation-failed"),
    (json.dumps(CALL | {"hook_event_name": None}).encode(), "validation-failed"),
    (json.dumps(CALL | {"tool_name": ""}).encode(), "validation-failed"),
    (json.dumps(CALL | {"tool_input": []}).encode(), "validation-failed"),
    (json.dumps(CALL | {"tool_input": {"a": "\0"}}).encode(), "validation-failed"),
    (json.dumps(CALL | {"tool_input": {"a": "x" * 300_000}}).encode(), "validation-failed"),
    (json.dumps(CALL | {"tool_input": {"a": "x" * 600_000}}).encode(), "payload-too-large"),
    (json.dumps(CALL | {"a_field": "x" * ROOM}).encode(), "payload-too-large"),
    (json.dumps({name: value for name, value in CALL.items() if name != "session_id"}).encode(), "validation-failed"),
])
def test_a_body_that_cannot_be_read_is_denied(harness, operator, content, code):
    headers = {"authorization": f"Bearer {harness.token}", "content-type": "application/json"}
    denied(harness.http.post(HOOK, content=content, headers=headers), code)
    assert asked(operator, harness, "all") == []


def test_a_call_that_is_refused_before_its_handler_is_denied(harness):
    ours = {"authorization": f"Bearer {harness.token}"}
    denied(harness.http.post(HOOK, content=b"{}", headers=ours), "unsupported-media-type")
    denied(harness.http.post(HOOK, json=CALL, headers=ours, params={"x": "1"}), "validation-failed")
    denied(harness.http.post(HOOK, json=CALL, headers=ours | {"relaytrace-nonce": "x"}), "validation-failed")
    # What is no POST is no hook.
    assert harness.http.get(HOOK, headers=ours).status_code == 405


def test_a_call_over_a_limit_is_denied(harness, admin, agent, operator):
    expect(admin.call("PATCH", f"/v1/admin/agents/{agent.agent_id}", json={"max_pending": 1}), 200)
    harness.ask()
    text = denied(harness.send("PreToolUse", tool_input={"command": "rm"}), "rate-limited")
    assert "open questions" in text
    # What is asked already is not over it.
    assert harness.ask()["permissionDecisionReason"].startswith(PENDING)


def test_numbers_that_no_double_holds_are_texts_in_the_action(harness, operator):
    tool_input = {"id": 12345678901234567890, "n": 7}
    harness.ask(tool_input)
    detail = operator.detail(the_request(operator, harness)["request_id"])
    assert detail["action"]["arguments"] == {"id": "12345678901234567890", "n": 7}
    assert detail["answers"] == ["approve", "reject"]
    expect(operator.decide(detail["request_id"], "approve"), 201)
    assert harness.ask(tool_input)["permissionDecision"] == "allow"


# ---------------------------------------------------------------- what became of it


@pytest.mark.parametrize("event, members, state, note", [
    ("PostToolUse", {"tool_response": {"stdout": "x"}}, "succeeded", None),
    ("PostToolUse", {"tool_response": {"is_error": True}}, "failed", None),
    ("PostToolUseFailure", {"error": "exit code 1", "is_interrupt": False}, "failed", "exit code 1"),
    ("PostToolUseFailure", {"error": "é" * 3_000}, "failed", "é" * 2_000),
])
def test_the_outcome_is_reported_by_the_call_that_ran(harness, operator, admin, event, members, state, note):
    harness.ask()
    request_id = the_request(operator, harness)["request_id"]
    expect(operator.decide(request_id, "approve"), 201)
    assert harness.ask(tool_use_id="toolu_ran")["permissionDecision"] == "allow"
    for _ in range(2):
        response = harness.send(event, tool_use_id="toolu_ran", tool_input={"command": "ls -la"}, **members)
        assert (response.status_code, response.json()) == (200, {})
    assert operator.detail(request_id)["execution"] == state
    export = export_chain(admin, request_id)
    said = verify_chain(export, export["length"], export["head"])[-1]
    assert (said["kind"], said["state"], said["note"]) == ("outcome", state, note)


def test_what_nobody_was_asked_about_has_no_outcome(harness):
    response = harness.send("PostToolUse", tool="Read", tool_input={}, tool_response={})
    assert (response.status_code, response.json()) == (200, {})
    harness.ask(tool_use_id="toolu_1")
    response = harness.send("PostToolUse", tool_use_id="toolu_1", tool_input={})
    assert (response.status_code, response.json()) == (200, {})


def test_an_interrupted_tool_has_no_outcome_that_anybody_knows(harness, operator):
    harness.ask()
    request_id = the_request(operator, harness)["request_id"]
    expect(operator.decide(request_id, "approve"), 201)
    assert harness.ask(tool_use_id="toolu_1")["permissionDecision"] == "allow"
    response = harness.send("PostToolUseFailure", tool_use_id="toolu_1", tool_input={}, error="x", is_interrupt=True)
    assert (response.status_code, response.json()) == (200, {})
    assert operator.detail(request_id)["execution"] == "consumed"


def test_another_outcome_is_a_problem(harness, operator):
    harness.ask(tool_use_id="toolu_1")
    expect(operator.decide(the_request(operator, harness)["request_id"], "approve"), 201)
    assert harness.ask(tool_use_id="toolu_1")["permissionDecision"] == "allow"
    harness.send("PostToolUse", tool_use_id="toolu_1", tool_input={})
    response = harness.send("PostToolUseFailure", tool_use_id="toolu_1", tool_input={}, error="x")
    assert (response.status_code, response.json()["code"]) == (409, "outcome-conflict")


def test_an_agent_of_the_same_deployment_does_not_go_on_with_anothers(harness, admin, operator, stack):
    harness.ask()
    other = register_agent(admin)
    registration = {"key_id": new_key_id(), "alg": "bearer", "scopes": ["hook"]}
    token = expect(admin.post(keys_path(other.agent_id), json=registration), 201)["token"]
    stranger = Harness(admin, stack["base_url"], other.agent_id, token, harness.session)
    stranger.ask()
    assert len(asked(operator, stranger)) == len(asked(operator, harness)) == 1
