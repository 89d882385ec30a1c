"""The Agent Approval Protocol: what its client may rely on, sentence by sentence."""

import base64
import hashlib
import json
import secrets
import time
import uuid

import httpx
import psycopg
import pytest
from standardwebhooks import Webhook

from agent import action_digest
from receivers import Receiver
from support import (
    expect,
    export_chain,
    instant,
    keys_path,
    new_envelope,
    new_key_id,
    race,
    verify_chain,
    wait_until,
)

AAP = "/aap/v1"
BODY = {
    "tool": "create issue",
    "server": "git/hub",
    "arguments": {"title": "Hello", "labels": ["a"], "draft": True, "count": 3, "price": 1.50, "none": None},
    "timeout": "10m",
    "agent_reasoning": "The customer asked for it.",
    "context": {"call_id": "run-1:call-1", "resume": {"framework": "langgraph", "thread_id": "secret"}},
}


class Aap:
    """A client of the protocol: plain HTTP, so that what is told is looked at and not what a library makes of it."""

    def __init__(self, base_url: str, token: str, agent_id: str):
        self.http = httpx.Client(base_url=base_url, timeout=60)
        self.token, self.agent_id = token, agent_id

    def call(self, method: str, path: str, key: str | None = None, **request) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.token}"} | ({"idempotency-key": key} if key else {})
        response = self.http.request(method, AAP + path, headers=headers | request.pop("headers", {}), **request)
        if response.status_code >= 400:
            check_error(response)
        return response

    def create(self, key: str | None = None, body=None, **changes) -> httpx.Response:
        return self.call("POST", "/requests", key or secrets.token_hex(32), json=(body or BODY) | changes)

    def created(self, **changes) -> dict:
        response = self.create(**changes)
        assert response.status_code == 201, response.text
        return check_request(response.json())

    def get(self, request_id: str, wait: str | None = None) -> dict:
        response = self.call("GET", f"/requests/{request_id}", params={"wait": wait} if wait else None)
        return check_request(expect(response, 200))

    def cancel(self, request_id: str) -> httpx.Response:
        return self.call("DELETE", f"/requests/{request_id}")

    def consume(self, request_id: str, key: str | None = None) -> httpx.Response:
        return self.call("POST", f"/requests/{request_id}/consume", key or str(uuid.uuid4()))

    def report(self, request_id: str, status: str, **members) -> httpx.Response:
        return self.call("POST", f"/requests/{request_id}/outcome", json={"status": status} | members)


MEMBERS = ["id", "tool", "server", "arguments", "timeout", "agent_reasoning", "context", "status", "created_at",
           "deadline_at", "decision", "consumption"]


def has_null(value) -> bool:
    return value is None


def check_request(told: dict) -> dict:
    """What the protocol's strict clients want of every request object."""
    assert list(told) == [name for name in MEMBERS if name in told], list(told)
    assert not [name for name, value in told.items() if has_null(value)]
    assert str(uuid.UUID(told["id"])) == told["id"]
    assert told["created_at"].endswith("Z") and instant(told["deadline_at"]) > instant(told["created_at"])
    assert ("decision" in told) == (told["status"] != "pending")
    if "decision" in told:
        decision = told["decision"]
        assert set(decision) <= {"status", "note", "decided_at", "expires_at"}
        assert decision["status"] == told["status"]
        assert instant(decision["decided_at"]) >= instant(told["created_at"])
        assert ("expires_at" in decision) == (told["status"] == "approved")
        if "expires_at" in decision:
            assert instant(decision["expires_at"]) > instant(decision["decided_at"])
        assert decision.get("note", "x")
    if "consumption" in told:
        assert told["status"] == "approved"
        assert set(told["consumption"]) <= {"consumed_at", "outcome"}
        outcome = told["consumption"].get("outcome")
        if outcome:
            assert set(outcome) <= {"status", "note", "reported_at"} and outcome["status"] in ("succeeded", "failed")
    return told


def check_error(response: httpx.Response) -> dict:
    assert response.headers["content-type"] == "application/json", response.text
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"type", "code", "message", "request_id"}
    assert all(isinstance(text, str) and text for text in body["error"].values()), body
    return body["error"]


def expect_error(response: httpx.Response, status: int, code: str) -> dict:
    assert response.status_code == status, response.text
    error = check_error(response)
    assert error["code"] == code, error
    return error


def bearer(admin, agent, **members) -> str:
    registration = {"key_id": new_key_id(), "alg": "bearer"} | members
    return expect(admin.post(keys_path(agent.agent_id), json=registration), 201)["token"]


@pytest.fixture
def aap(admin, agent, stack) -> Aap:
    return Aap(stack["base_url"], bearer(admin, agent), agent.agent_id)


def set_policy(admin, aap: Aap, **members) -> None:
    policy = {"agent_id": aap.agent_id, "priority": "P2", "respond_within_seconds": 600, "on_timeout": "auto_reject"}
    expect(admin.call("PUT", "/v1/admin/timeout-policies", json=policy | members), 200)


def approve(operator, request_id: str) -> None:
    expect(operator.decide(request_id, "approve"), 201)


def entries(admin, request_id: str) -> dict:
    export = export_chain(admin, request_id)
    return {entry["kind"]: entry for entry in verify_chain(export, export["length"], export["head"])}


# ---------------------------------------------------------------- create


def test_a_request_is_told_whole_and_as_it_was_sent(aap, operator):
    told = aap.created()
    assert {name: told[name] for name in BODY} == BODY
    assert (told["status"], "decision" in told) == ("pending", False)
    assert aap.get(told["id"]) == told


def test_what_is_absent_stays_absent(aap):
    told = aap.created(body={"tool": "t", "arguments": {}, "timeout": "1h"})
    assert set(told) == {"id", "tool", "arguments", "timeout", "status", "created_at", "deadline_at"}


def test_the_echo_is_byte_for_byte(aap):
    arguments = '{ "big": 123456789012345678901234567890, "d": 1.10, "e": 1E2,\n "u": "\\u00e9é", "deep": {"a": [] } }'
    content = f'{{"tool":"t","timeout":"1m","arguments":{arguments}}}'
    headers = {"content-type": "application/json"}
    response = aap.call("POST", "/requests", "k-1", content=content.encode(), headers=headers)
    assert response.status_code == 201 and arguments in response.text
    assert arguments in aap.call("GET", f"/requests/{response.json()['id']}").text


def test_a_key_is_required(aap):
    response = aap.call("POST", "/requests", json=BODY)
    error = expect_error(response, 400, "missing_idempotency_key")
    assert error["type"] == "invalid_request"
    for key in ("ü".encode(), b"a b", b"x" * 129):
        response = aap.call("POST", "/requests", json=BODY, headers={"idempotency-key": key})
        expect_error(response, 400, "invalid_request")


def test_the_same_key_and_body_are_the_same_request(aap, operator):
    told = aap.created(key="key-1")
    shuffled = dict(reversed(BODY.items()))
    again = aap.create("key-1", shuffled)
    assert (again.status_code, again.json()) == (200, told)
    expect_error(aap.create("key-1", timeout="11m"), 409, "idempotency_conflict")
    expect_error(aap.create("key-1", arguments=BODY["arguments"] | {"price": 1.500001}), 409, "idempotency_conflict")
    assert len(operator.queue(agent_id=aap.agent_id)["items"]) == 1


def test_a_key_of_the_agents_own_protocol_is_taken(aap, agent):
    expect(agent.submit(new_envelope(agent.agent_id, client_request_key="key-1")), 201)
    expect_error(aap.create("key-1"), 409, "idempotency_conflict")


def test_racing_creates_are_one_request(aap, operator):
    responses = race([lambda: aap.create("key-1")] * 6)
    assert sorted(response.status_code for response in responses) == [200] * 5 + [201]
    assert len({response.json()["id"] for response in responses}) == 1


def test_a_time_is_clamped_to_the_policys_and_never_refused(aap, admin):
    set_policy(admin, aap, respond_within_seconds=600)
    for timeout, seconds in [("1s", 1), ("90s", 90), ("10m", 600), ("24h", 600), ("9" * 30 + "d", 600)]:
        told = aap.created(timeout=timeout)
        assert (instant(told["deadline_at"]) - instant(told["created_at"])).total_seconds() == seconds
        assert told["timeout"] == timeout


def test_the_deadline_is_told_as_it_was_for_ever(aap, admin, operator):
    told = aap.created()
    path = f"/v1/admin/requests/{told['id']}/disposition"
    later = instant(told["deadline_at"]).replace(year=instant(told["deadline_at"]).year + 1)
    extension = {"action": "extend", "reason": "More time", "respond_by": later.isoformat().replace("+00:00", "Z")}
    expect(admin.post(path, json=extension), 200)
    assert operator.detail(told["id"])["respond_by"] != told["deadline_at"]
    assert aap.get(told["id"])["deadline_at"] == told["deadline_at"]


def test_a_priority_that_a_policy_asks_for_is_taken(aap, admin, operator):
    assert operator.detail(aap.created()["id"])["priority"] == "P2"
    set_policy(admin, aap, priority="P1", lowest_priority="P1")
    assert operator.detail(aap.created()["id"])["priority"] == "P1"


@pytest.mark.parametrize("server, tool, expected", [
    (None, "Bash", "Bash"),
    (None, "mcp__github__create_issue", "mcp__github__create_issue"),
    ("github", "create issue", "github/create%20issue"),
    ("git/hub", "a/b", "git%2Fhub/a%2Fb"),
    ("s", "é", "s/%C3%A9"),
    (None, "a.b:c~d-e%", "a.b:c~d-e%"),
    (None, "x" * 128, "x" * 128),
    (None, "x" * 129, "x" * 96 + "~" + hashlib.sha256(b"x" * 129).hexdigest()[:16]),
    ("s" * 100, "t" * 100, ("s" * 100)[:96] + "~" + hashlib.sha256(b"s" * 100 + b"/" + b"t" * 100).hexdigest()[:16]),
    (None, "💥", None),
    (None, "-", None),
])
def test_any_tool_has_a_type(aap, operator, server, tool, expected):
    body = {"tool": tool, "arguments": {}, "timeout": "1m"} | ({"server": server} if server else {})
    detail = operator.detail(aap.created(body=body)["id"])
    if expected:
        assert detail["action_type"] == expected
    assert detail["action"]["type"] == detail["action_type"]


def test_an_operator_reads_it_in_our_words(aap, operator):
    told = aap.created(agent_reasoning="é" * 9_000)
    detail = operator.detail(told["id"])
    assert detail["action_type"] == "git%2Fhub/create%20issue"
    assert detail["title"].startswith("git%2Fhub/create%20issue title=Hello draft=true count=3")
    assert detail["summary"] == "é" * 8_000
    assert detail["context"] == {"call_id": "run-1:call-1"}
    assert "secret" not in json.dumps(detail)
    assert detail["action"] == {"type": detail["action_type"], "arguments": BODY["arguments"]}
    assert detail["action_digest"] == action_digest(detail["action"])
    assert (detail["answers"], detail["you"]["may"]) == (["approve", "reject"], ["approve", "reject"])


def test_numbers_that_i_json_cannot_hold_become_strings_in_the_action(aap, operator):
    told = aap.created(arguments={"a": 2**53, "b": -(2**53 - 1), "c": [10**40]})
    detail = operator.detail(told["id"])
    assert detail["action"]["arguments"] == {"a": str(2**53), "b": -(2**53 - 1), "c": [str(10**40)]}
    assert detail["action_digest"] == action_digest(detail["action"])
    assert told["arguments"]["a"] == 2**53


def test_a_search_looks_in_its_arguments(aap, operator):
    word = secrets.token_hex(8)
    told = aap.created(arguments={"x": word})
    assert [item["request_id"] for item in operator.queue(q=word)["items"]] == [told["id"]]


def test_what_is_stored_is_the_body_as_received(aap, admin):
    content = json.dumps(BODY, indent=3).encode()
    headers = {"content-type": "application/json"}
    told = aap.call("POST", "/requests", "k-2", content=content, headers=headers).json()
    export = export_chain(admin, told["id"])
    assert base64.b64decode(export["envelope"]) == content
    [submitted] = verify_chain(export, 1, export["head"])
    assert submitted["protocol"] == "aap/1"
    assert submitted["envelope_sha256"] == "sha256:" + hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("changes", [
    {"tool": ""}, {"tool": None}, {"tool": 1}, {"server": ""}, {"server": None}, {"arguments": []}, {"arguments": None},
    {"timeout": "0s"}, {"timeout": "01m"}, {"timeout": "10"}, {"timeout": "10 m"}, {"timeout": 10}, {"timeout": "1w"},
    {"agent_reasoning": None}, {"agent_reasoning": 1}, {"context": []}, {"context": None}, {"answers": ["edit"]},
    {"arguments": {"x": "y" * 300_000}}, {"arguments": {"x": "y" * 600_000}},
])
def test_a_body_that_is_none_is_an_invalid_request(aap, operator, changes):
    expect_error(aap.create(**changes), 400, "invalid_request")
    assert operator.queue(status="all", agent_id=aap.agent_id)["items"] == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"tool":"a","tool":"b"}', b"\xff"])
def test_what_is_no_object_is_an_invalid_request(aap, content):
    headers = {"content-type": "application/json"}
    expect_error(aap.call("POST", "/requests", "k", content=content, headers=headers), 400, "invalid_request")
    expect_error(aap.call("POST", "/requests", "k", content=content), 400, "invalid_request")


# ---------------------------------------------------------------- look


def test_an_approval_says_until_when_it_may_be_used(aap, operator):
    told = aap.created()
    approve(operator, told["id"])
    told = aap.get(told["id"])
    decision = told["decision"]
    assert (told["status"], "note" in decision) == ("approved", False)
    assert (instant(decision["expires_at"]) - instant(decision["decided_at"])).total_seconds() == 3600
    # Usable: it is not acknowledged.
    assert operator.detail(told["id"])["delivery"]["state"] == "ready"


def test_a_rejection_is_denied_with_its_reason_and_over(aap, operator):
    told = aap.created()
    expect(operator.decide(told["id"], "reject", reason="Not on Fridays"), 201)
    assert operator.detail(told["id"])["delivery"]["state"] == "ready"
    for _ in range(2):
        assert aap.get(told["id"])["decision"]["note"] == "Not on Fridays"
        assert operator.detail(told["id"])["delivery"]["state"] == "acknowledged"
    assert aap.get(told["id"])["status"] == "denied"


def test_a_timeout_is_expired_and_over(aap, operator):
    told = aap.created(timeout="1s")
    told = aap.get(told["id"], wait="25s")
    if told["status"] == "pending":  # a slow sweep, or waits that are cut short
        told = wait_until(lambda: (seen := aap.get(told["id"]))["status"] != "pending" and seen)
    assert (told["status"], "note" in told["decision"]) == ("expired", False)
    assert operator.detail(told["id"])["delivery"]["state"] == "acknowledged"


def test_a_wait_ends_with_the_decision(aap, operator):
    told = aap.created()

    def late_approval():
        time.sleep(0.3)
        approve(operator, told["id"])

    seen, _ = race([lambda: aap.get(told["id"], wait="25s"), late_approval])
    # A deployment may cut waits short.
    assert seen["status"] in ("approved", "pending")
    assert aap.get(told["id"])["status"] == "approved"


def test_a_wait_that_is_none_is_an_invalid_request(aap):
    request_id = aap.created()["id"]
    for wait in ("25", "s", "-1s", "1.5s", "1m"):
        expect_error(aap.call("GET", f"/requests/{request_id}", params={"wait": wait}), 400, "invalid_request")
    # What the protocol may learn one day is no fault.
    assert aap.call("GET", f"/requests/{request_id}", params={"new": "1"}).status_code == 200
    assert aap.get(request_id, wait="0s")["status"] == "pending"


def test_what_is_not_the_agents_or_not_of_the_protocol_is_not_found(aap, agent, admin, stack):
    own = expect(agent.submit(new_envelope(agent.agent_id)), 201)["request_id"]
    from support import register_agent

    other = register_agent(admin)
    others = Aap(stack["base_url"], bearer(admin, other), other.agent_id).created()["id"]
    for request_id in (own, others, str(uuid.uuid4()), "x"):
        for response in (aap.call("GET", f"/requests/{request_id}"), aap.cancel(request_id), aap.consume(request_id),
                         aap.report(request_id, "failed")):
            expect_error(response, 404, "not_found")


def test_a_poll_that_does_not_name_it_does_not_get_it(aap, agent, operator):
    told = aap.created()
    approve(operator, told["id"])
    assert agent.poll()["decisions"] == []
    [decision] = agent.poll(0, [told["id"]])["decisions"]
    assert decision["outcome"] == "approved"


# ---------------------------------------------------------------- cancel


def test_a_request_is_taken_back_once_and_for_all(aap, operator, admin):
    told = aap.created()
    for _ in range(2):
        seen = check_request(expect(aap.cancel(told["id"]), 200))
        assert seen["status"] == "cancelled"
    assert operator.detail(told["id"])["delivery"]["state"] == "acknowledged"
    decided = entries(admin, told["id"])["decided"]
    assert (decided["outcome"], decided["cause"], "attestation" in decided) == ("cancelled", "agent", True)


def test_what_is_decided_is_not_taken_back(aap, operator):
    told = aap.created()
    approve(operator, told["id"])
    expect_error(aap.cancel(told["id"]), 409, "already_terminal")
    assert aap.get(told["id"])["status"] == "approved"


def test_what_an_administrator_cancelled_is_cancelled(aap, admin):
    told = aap.created()
    path = f"/v1/admin/requests/{told['id']}/disposition"
    expect(admin.post(path, json={"action": "cancel", "reason": "Obsolete"}), 200)
    assert expect(aap.cancel(told["id"]), 200)["status"] == "cancelled"


# ---------------------------------------------------------------- consume and outcome


def test_an_approval_is_used_once(aap, operator, admin):
    told = aap.created()
    expect_error(aap.consume(told["id"]), 409, "not_approved")
    approve(operator, told["id"])
    key = str(uuid.uuid4())
    used = check_request(expect(aap.consume(told["id"], key), 200))
    assert set(used["consumption"]) == {"consumed_at"}
    assert check_request(expect(aap.consume(told["id"], key), 200)) == used == aap.get(told["id"])
    expect_error(aap.consume(told["id"]), 409, "already_consumed")
    consumed = entries(admin, told["id"])["consumed"]
    assert (consumed["digest"], consumed["consume_key"]) == ("assumed", key)
    assert consumed["action_digest"] == operator.detail(told["id"])["action_digest"]
    assert operator.detail(told["id"])["delivery"]["state"] == "acknowledged"


def test_of_racing_attempts_one_wins(aap, operator):
    told = aap.created()
    approve(operator, told["id"])
    responses = race([lambda: aap.consume(told["id"])] * 8)
    assert sorted(response.status_code for response in responses) == [200] + [409] * 7


def test_a_consume_needs_a_key(aap, operator):
    told = aap.created()
    approve(operator, told["id"])
    expect_error(aap.call("POST", f"/requests/{told['id']}/consume"), 400, "missing_idempotency_key")
    expect_error(aap.consume(told["id"], "short"), 400, "invalid_request")


def test_an_approval_that_ran_out_is_not_used_and_over(aap, operator, stack):
    told = aap.created()
    approve(operator, told["id"])
    ended = "UPDATE hitl_requests r SET permit_expires_at = d.decided_at + interval '1 microsecond' FROM hitl_decisions d"
    with psycopg.connect(stack["database_url"]) as connection:
        connection.execute(f"{ended} WHERE d.request_id = r.request_id AND r.request_id = %s", [told["id"]])
    expect_error(aap.consume(told["id"]), 409, "approval_expired")
    assert operator.detail(told["id"])["delivery"]["state"] == "acknowledged"
    assert aap.get(told["id"])["status"] == "approved"


@pytest.mark.parametrize("mode, code", [("hold", "frozen"), ("stop", "approval_revoked")])
def test_a_frozen_approval_is_not_used(aap, operator, stack, mode, code):
    told = aap.created()
    approve(operator, told["id"])
    freeze = ("INSERT INTO freezes (tenant_id, freeze_id, agent_id, mode, until, reason, created_at, created_by) VALUES "
              "('default', %s, %s, %s, now() + interval '1 hour', 'a test', now(), 'a test')")
    with psycopg.connect(stack["database_url"]) as connection:
        connection.execute(freeze, [secrets.token_hex(8), aap.agent_id, mode])
    expect_error(aap.consume(told["id"]), 409, code)
    over = operator.detail(told["id"])["delivery"]["state"] == "acknowledged"
    assert over == (mode == "stop")


@pytest.mark.parametrize("status, members, told_note", [
    ("succeeded", {}, None), ("failed", {"note": "exit code 1"}, "exit code 1"),
    ("failed", {"note": "é" * 5_000}, "é" * 2_000),
])
def test_an_outcome_is_on_record_once(aap, operator, status, members, told_note):
    told = aap.created()
    approve(operator, told["id"])
    expect_error(aap.report(told["id"], status, **members), 409, "not_consumed")
    expect(aap.consume(told["id"]), 200)
    seen = check_request(expect(aap.report(told["id"], status, **members), 200))
    outcome = seen["consumption"]["outcome"]
    assert (outcome["status"], outcome.get("note")) == (status, told_note)
    assert check_request(expect(aap.report(told["id"], status, **members), 200)) == seen == aap.get(told["id"])
    expect_error(aap.report(told["id"], status, note="another"), 409, "outcome_conflict")
    assert operator.detail(told["id"])["execution"] == status


@pytest.mark.parametrize("body", [{"status": "unknown"}, {}, {"status": "failed", "note": ""},
                                  {"status": "failed", "note": None}, {"status": "failed", "x": 1}])
def test_a_report_that_is_none_is_an_invalid_request(aap, operator, body):
    told = aap.created()
    approve(operator, told["id"])
    expect(aap.consume(told["id"]), 200)
    expect_error(aap.call("POST", f"/requests/{told['id']}/outcome", json=body), 400, "invalid_request")


def test_nobody_knows_is_not_shown(aap, operator, stack, admin):
    told = aap.created()
    approve(operator, told["id"])
    expect(aap.consume(told["id"]), 200)
    with psycopg.connect(stack["database_url"]) as connection:
        connection.execute("UPDATE outcomes_due SET due_at = now() WHERE request_id = %s", [told["id"]])
    wait_until(lambda: operator.detail(told["id"])["execution"] == "unknown")
    assert set(aap.get(told["id"])["consumption"]) == {"consumed_at"}
    assert expect(aap.report(told["id"], "succeeded"), 200)["consumption"]["outcome"]["status"] == "succeeded"


# ---------------------------------------------------------------- who, and what is not there


def test_credentials_alone_are_401_and_403(aap, admin, agent, operator, stack):
    request_id = aap.created()["id"]
    paths = [("POST", "/requests"), ("GET", f"/requests/{request_id}"), ("DELETE", f"/requests/{request_id}"),
             ("POST", f"/requests/{request_id}/consume"), ("POST", f"/requests/{request_id}/outcome")]
    for token, status, code in [("rtk_none_" + 43 * "a", 401, "unauthenticated"), ("x", 401, "unauthenticated"),
                                (operator.token, 403, "forbidden"),
                                (bearer(admin, agent, scopes=["hook"]), 403, "forbidden")]:
        stranger = Aap(stack["base_url"], token, agent.agent_id)
        for method, path in paths:
            expect_error(stranger.call(method, path, "k" * 16, json=BODY), status, code)
    asker = Aap(stack["base_url"], bearer(admin, agent, scopes=["ask"]), agent.agent_id)
    expect_error(asker.consume(request_id), 403, "forbidden")
    assert asker.get(request_id)["status"] == "pending"


def test_a_cap_is_a_limit_that_passes(aap, admin):
    expect(admin.call("PATCH", f"/v1/admin/agents/{aap.agent_id}", json={"max_pending": 1}), 200)
    aap.created()
    response = aap.create()
    expect_error(response, 429, "rate_limited")
    assert int(response.headers["retry-after"]) >= 1


def aap_receiver(path, body):
    message = json.loads(body)
    return (200, json.dumps({"challenge": message["challenge"]}).encode()) if "challenge" in message else (204, b"")


def test_an_instance_is_a_key_of_the_same_agent_and_its_receiver_is_told(aap, admin, agent, operator, stack):
    body = {"instance_name": "x"}
    expect_error(aap.call("POST", "/instances", "k", json=body), 403, "forbidden")
    provisioner = Aap(stack["base_url"], bearer(admin, agent, scopes=["provision"]), agent.agent_id)
    secret = "whsec_" + base64.b64encode(bytes(range(32))).decode()
    with Receiver(aap_receiver) as receiver:
        delivery = {"type": "webhook", "url": f"{receiver.url}/aap", "registration_id": "r-1", "signing_secret": secret}
        made = provisioner.call("POST", "/instances", "k", json=body | {"delivery": delivery})
        assert made.status_code == 201 and set(made.json()) == {"instance", "credential"}, made.text
        assert set(made.json()["instance"]) == {"id", "name"} and made.json()["instance"]["name"] == "x"
        again = provisioner.call("POST", "/instances", "k", json=body | {"delivery": delivery})
        assert again.status_code == 200 and again.json() == made.json()
        expect_error(provisioner.call("POST", "/instances", "k", json=body), 409, "idempotency_conflict")
        [asked] = receiver.told("/aap")
        assert Webhook(secret).verify(asked["bytes"], asked["headers"]) == asked["body"]
        assert set(asked["body"]) == {"id", "type", "registration_id", "instance_id", "created_at", "challenge"}
        instance_id = made.json()["instance"]["id"]
        assert (asked["body"]["registration_id"], asked["body"]["instance_id"]) == ("r-1", instance_id)

        instance = Aap(stack["base_url"], made.json()["credential"]["token"], agent.agent_id)
        request_id = instance.created()["id"]
        expect(operator.decide(request_id, "approve"), 201)
        told = wait_until(lambda: receiver.told("/aap")[1:])[0]
        message = Webhook(secret).verify(told["bytes"], told["headers"])
        assert message == {"id": told["headers"]["webhook-id"], "type": "request.resolved", "instance_id": instance_id,
                           "request_id": request_id, "created_at": message["created_at"]}
        expect_error(provisioner.call("POST", "/instances", "k", json=body | {"delivery": delivery}), 409, "already_terminal")
        for url in (f"{receiver.url.replace('http', 'https')}/aap", "https://10.0.0.1/", "http://127.0.0.1:9/", "x"):
            refused = provisioner.call("POST", "/instances", "other", json={"delivery": delivery | {"url": url}})
            expect_error(refused, 422, "webhook_verification_failed")
    shown = admin.get(f"/v1/admin/agents/{agent.agent_id}").text + admin.get("/v1/admin/log", params={"limit": 200}).text
    assert secret not in shown and instance_id in shown


def test_another_method_is_an_error_of_the_protocol(aap):
    expect_error(aap.call("POST", f"/requests/{uuid.uuid4()}", json=BODY), 405, "method_not_allowed")


def test_answers_are_signed_and_not_kept(aap):
    response = aap.create()
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["signature"] and response.headers["content-digest"]
