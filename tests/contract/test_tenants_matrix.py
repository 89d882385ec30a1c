"""Every route of the document, tried by one tenant with the ids of another's.

Each try is made twice: with ids that are another tenant's, and with ids that are nobody's. The two answers are the same
in status, headers and body, no name of the other tenant is in either, and afterwards everything of the other tenant is
as it was. A route that is not in TRIES fails the test, so that none is forgotten. Taken names of agents and keys are the
exception: they are the deployment's (test_tenants.py).
"""

import re
import secrets
import uuid
from dataclasses import dataclass, field

import httpx
import jwt
import pytest

from agent import Agent
from conftest import read_stack
from support import (
    REQUESTS,
    Person,
    deliver,
    expect,
    export_chain,
    in_seconds,
    new_envelope,
    new_key_id,
    new_private_key,
    key_registration,
    register_agent,
    submit,
    wait_until,
)

METHODS = {"get", "put", "post", "delete", "patch"}
REASON = "Somebody else's"
DIGEST = "sha256:" + "0" * 64
# The public key of RFC 8291's example.
POINT = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"


# ---------------------------------------------------------------- two tenants


@dataclass
class Side:
    """A tenant's people and programs, and an id of theirs for each kind of thing."""

    admin: Person
    operator: Person
    agent: Agent
    bearer: Person
    executor: Person | None = None
    provisioner: Person | None = None
    ids: dict = field(default_factory=dict)


def requests_of(side: Side, ids: dict) -> None:
    """A request in each state, one of each bridge among them."""
    marks = {"title": ids["title"], "group": ids["group"], "action": {"type": ids["action_type"], "arguments": {"n": ids["title"]}}}
    pending = submit(side.agent, client_request_key=ids["client_request_key"], **marks)
    approved, dead = (submit(side.agent, **marks) for _ in range(2))
    for submission in (approved, dead):
        expect(side.operator.decide(submission["request_id"], "approve"), 201)
    ids["delivery_id"] = deliver(side.agent, approved["request_id"])["delivery_id"]
    delivered = deliver(side.agent, dead["request_id"])
    expect(side.agent.acknowledge(delivered, "failed", {"code": "x", "message": REASON}), 200)
    bridged = side.bearer.post("/aap/v1/requests", headers={"idempotency-key": f"aap-{ids['title']}"},
                               json={"tool": "Bash", "arguments": {"n": ids["title"]}, "timeout": "1h"})
    ids |= {"pending": pending["request_id"], "approved": approved["request_id"], "dead": dead["request_id"],
            "bridged": expect(bridged, 201)["id"], "action_digest": pending["action_digest"]}
    letters = expect(side.admin.get("/v1/admin/dead-letters", params={"agent_id": side.agent.agent_id}), 200)["items"]
    [ids["dead_letter_id"]] = [letter["dead_letter_id"] for letter in letters if letter["request_id"] == ids["dead"]]


def orders_of(side: Side, ids: dict) -> None:
    """What an administrator makes."""
    agent_id = side.agent.agent_id
    policy = {"agent_id": agent_id, "priority": "P3", "respond_within_seconds": 600, "on_timeout": "auto_reject"}
    ids["policy_id"] = expect(side.admin.call("PUT", "/v1/admin/timeout-policies", json=policy), 200)["policy_id"]
    freeze = {"agent_id": agent_id, "action_type": "nothing.of.this", "mode": "hold", "until": in_seconds(3600), "reason": REASON}
    made = side.admin.call("PUT", f"/v1/admin/freezes/{ids['freeze_id']}", json=freeze)
    expect(side.admin.call("PUT", f"/v1/admin/channels/{ids['channel_id']}", json=channel(ids)), 200)
    assert made.status_code in (200, 201), made.text
    order = {"replay_key": ids["replay_key"], "target": "deliveries", "scope": {"request_ids": [ids["dead"]]},
             "reason": REASON, "dry_run": True}
    ids["replay_id"] = expect(side.admin.post("/v1/admin/replay", json=order), 202)["replay_id"]
    subscription = {"endpoint": f"http://127.0.0.1:9/{ids['title']}", "keys": {"p256dh": POINT, "auth": "A" * 22}, "priorities": ["P1"]}
    expect(side.operator.call("PUT", f"/v1/hitl/push-subscriptions/{ids['subscription_id']}", json=subscription), 200)
    key = {"key_id": new_key_id(), "alg": "bearer", "scopes": ["provision"]}
    made = expect(side.admin.post(f"/v1/admin/agents/{side.agent.agent_id}/keys", json=key), 201)
    side.provisioner = Person(side.admin.http, made["token"])
    instance = side.provisioner.post("/aap/v1/instances", headers={"idempotency-key": ids["instance_key"]}, json={"instance_name": "x"})
    ids["instance_id"] = expect(instance, 201)["instance"]["id"]
    groups = expect(side.operator.get("/v1/hitl/me"), 200)["groups"]
    for name in (ids["delegation_id"], f"{ids['delegation_id']}-2"):
        told_of = {"to": f"deputy-of-{ids['title']}", "groups": groups[:1], "until": in_seconds(3600), "reason": REASON}
        expect(side.operator.call("PUT", f"/v1/hitl/delegations/{name}", json=told_of), 200)


def fresh_ids() -> dict:
    """Ids of the right form that are nobody's."""
    mark = secrets.token_hex(8)
    names = ("freeze_id", "replay_key", "operator_id", "delegation_id", "channel_id", "subscription_id", "tenant_id", "group",
             "client_request_key", "session", "instance_key")
    requests = ("pending", "approved", "dead", "bridged", "delivery_id", "dead_letter_id", "policy_id", "replay_id")
    return {name: f"{name.replace('_', '-')[:4]}-{mark}" for name in names} | {name: str(uuid.uuid4()) for name in requests} | {
        "agent_id": f"t-{mark}", "key_id": f"k-{mark}", "title": f"Title-{mark}", "action_type": f"type.{mark}",
        "action_digest": DIGEST, "version": "1",
    }


@pytest.fixture(scope="module")
def plain(stack):
    """A client that leaves answers as they are: a bridge's refusals are no problem documents."""
    with httpx.Client(base_url=stack["base_url"], timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def sides(plain, stack):
    """The two tenants: whose things are tried, and who tries."""
    http = plain
    owner, made = Person(http, stack["owner"]["token"]), {}
    for tenant, described in (("default", stack["agent"]), ("acme", stack["agents"][0])):
        [admin] = [Person(http, known["token"]) for known in stack["admins"] if known["tenant"] == tenant]
        first, *_, known = [known for known in stack["operators"] if known["tenant"] == tenant]
        expect(Person(http, first["token"]).get("/v1/hitl/me"), 200)
        operator = Person(http, known["token"], known["id"], known["name"])
        ids = fresh_ids() | {"tenant_id": tenant, "operator_id": known["id"]}
        agent = register_agent(admin)
        bearer = Person(http, described["bearer_token"])
        ids |= {"agent_id": agent.agent_id, "key_id": agent.key_id}
        side = Side(admin, operator, agent, bearer, ids=ids)
        requests_of(side, ids)
        orders_of(side, ids)
        made[tenant] = side
    theirs, ours = made["default"], made["acme"]
    # A key of ours that names their agent, and their type of action.
    key = {"key_id": new_key_id(), "alg": "bearer", "scopes": ["execute-any"], "agents": [theirs.agent.agent_id],
           "action_types": [theirs.ids["action_type"]]}
    registered = expect(ours.admin.post(f"/v1/admin/agents/{ours.agent.agent_id}/keys", json=key), 201)
    ours.executor = Person(http, registered["token"])
    for side in made.values():
        wait_until(lambda: side.operator.id in side.operator.get("/v1/hitl/operators", params={"limit": 200}).text)
    assert owner.get("/v1/admin/tenants").status_code == 200
    return theirs, ours


# ---------------------------------------------------------------- tries


@dataclass
class Try:
    """One way to ask a route for something: who asks, and with what, given ids."""

    by: str
    params: callable = lambda ids: None
    body: callable = lambda ids: None
    headers: callable = lambda ids: {}
    # Path parameters besides those that ids has.
    path: callable = lambda ids: {}


def by(who: str, *bodies) -> list[Try]:
    """A try of a route with ids in its path, with each of these bodies."""
    return [Try(who, body=body if callable(body) else lambda ids, body=body: body) for body in bodies or (None,)]


def of_each_state(tries: list[Try]) -> list[Try]:
    """The same for a request in each state."""
    return [Try(each.by, each.params, each.body, each.headers, lambda ids, state=state: {"request_id": ids[state]})
            for each in tries for state in ("pending", "approved", "dead", "bridged")]


def own(each: Try) -> Try:
    """The same below the caller's own agent."""
    path = each.path
    return Try(each.by, each.params, each.body, each.headers, lambda ids: path(ids) | {"agent_id": OWN})


def agents_way(*bodies, who: str = "agent") -> list[Try]:
    """Below the caller's own agent, and below somebody else's."""
    tries = of_each_state(by(who, *bodies))
    return [own(each) for each in tries] + tries


OWN = "the caller's own"


def searched(who: str, *names: str, **fixed) -> list[Try]:
    """A list without and with each of these parameters, whose value is an id or a function of ids."""
    return [Try(who, params=lambda ids: fixed)] + [
        Try(who, params=lambda ids, name=name: fixed | {name.split("=")[0]: ids[name.split("=")[-1]]}) for name in names]


def dispositions() -> list:
    return [{"action": "cancel", "reason": REASON}, {"action": "reject", "reason": REASON},
            {"action": "extend", "reason": REASON, "respond_by": in_seconds(86_400)},
            {"action": "reprioritise", "reason": REASON, "priority": "P1"}, {"action": "requeue", "reason": REASON}]


def decisions() -> list:
    return [{"decision": "approve"}, {"decision": "reject", "reason": REASON},
            lambda ids: {"decision": "approve", "action_digest": ids["action_digest"]}]


def assignments() -> list:
    return [{"groups": ["ops"], "reason": REASON}, lambda ids: {"operators": [ids["operator_id"]], "reason": REASON}]


def batches() -> list:
    one = lambda ids, state: {"request_id": ids[state], "decision": "approve", "action_digest": ids["action_digest"]}
    return [lambda ids, state=state: {"decisions": [one(ids, state)]} for state in ("pending", "approved", "bridged")]


def consuming() -> list:
    return [lambda ids: {"consume_key": "attempt-1234567890", "action_digest": ids["action_digest"]}]


def replays() -> list:
    order = {"target": "deliveries", "reason": REASON, "dry_run": False}
    period = {"from": in_seconds(-3600), "to": in_seconds(3600)}
    fresh = lambda: f"replay-{secrets.token_hex(8)}"
    return [
        lambda ids: order | {"replay_key": ids["replay_key"], "scope": {"request_ids": [ids["bridged"]]}, "dry_run": True},
        lambda ids: order | {"replay_key": fresh(), "scope": {"request_ids": [ids["approved"]]}},
        lambda ids: order | {"replay_key": fresh(), "scope": {"request_ids": [ids["dead"]]}},
        lambda ids: order | {"replay_key": fresh(), "target": "events", "scope": {"request_ids": [ids["pending"]]}},
        lambda ids: order | {"replay_key": fresh(), "scope": {"agent_id": ids["agent_id"], **period}},
        lambda ids: order | {"replay_key": fresh(), "target": "events", "scope": {"agent_id": ids["agent_id"], **period}},
    ]


def browser(ids):
    """The same browser for each id: a subscription of another tenant's is not told from one that is nobody's."""
    return {"endpoint": "http://127.0.0.1:9/browser", "keys": {"p256dh": POINT, "auth": "A" * 22}, "priorities": ["P1"]}


def channel(ids):
    config = {"url": "http://127.0.0.1:9/", "secret": "whsec_" + "A" * 44}
    return {"kind": "webhook", "config": config, "events": ["requested"], "match": {"agents": [ids["agent_id"]]}}


def freeze(**members):
    return lambda ids: {"agent_id": ids["agent_id"], "mode": "hold", "until": in_seconds(600), "reason": REASON} | members


def hook(ids: dict) -> dict:
    return {"hook_event_name": "PreToolUse", "session_id": ids["session"], "tool_use_id": f"toolu-{ids['session']}",
            "tool_name": "Bash", "tool_input": {"command": "ls"}, "cwd": "/"}


PUBLIC = [Try("anyone")]
REPORT = {"state": "succeeded", "note": REASON}
TRIES = {
    "GET /healthz": PUBLIC, "GET /readyz": PUBLIC, "GET /openapi.json": PUBLIC, "GET /.well-known/jwks.json": PUBLIC,
    # Agents.
    "POST /v1/hitl/requests": by("agent", lambda ids: new_envelope(ids["agent_id"])),
    "POST /v1/agents/{agent_id}/requests/{request_id}/cancel": agents_way({}, {"reason": REASON}),
    "GET /v1/agents/{agent_id}/decisions/poll": [
        Try("agent", params=lambda ids: {"request_id": ids["approved"]}, path=lambda ids: {"agent_id": OWN}),
        Try("agent", params=lambda ids: {"request_id": ids["dead"]}, path=lambda ids: {"agent_id": OWN}),
        *by("agent"),
    ],
    "POST /v1/agents/{agent_id}/decisions/{request_id}/ack": agents_way(
        lambda ids: {"delivery_id": ids["delivery_id"], "result": "accepted"}, {"result": "accepted"}),
    "GET /v1/agents/{agent_id}/requests": [
        own(each) for each in searched("agent", "client_request_key", "group")] + searched("agent", "client_request_key"),
    "GET /v1/agents/{agent_id}/requests/{request_id}": agents_way(),
    "POST /v1/agents/{agent_id}/requests/{request_id}/consume": agents_way(*consuming()),
    "POST /v1/agents/{agent_id}/requests/{request_id}/outcome": agents_way(REPORT),
    "POST /v1/hitl/requests/{request_id}/consume": of_each_state(by("executor", *consuming())),
    "POST /v1/hitl/requests/{request_id}/outcome": of_each_state(by("executor", REPORT)),
    # Bridges.
    "POST /aap/v1/requests": [Try("bearer", headers=lambda ids: {"idempotency-key": f"aap-{ids['title']}"},
                                  body=lambda ids: {"tool": "Bash", "arguments": {}, "timeout": "1m"})],
    "GET /aap/v1/requests/{request_id}": of_each_state(by("bearer")),
    "DELETE /aap/v1/requests/{request_id}": of_each_state(by("bearer")),
    "POST /aap/v1/requests/{request_id}/consume": of_each_state(
        [Try("bearer", headers=lambda ids: {"idempotency-key": "attempt-1234567890"})]),
    "POST /aap/v1/requests/{request_id}/outcome": of_each_state(by("bearer", REPORT)),
    "POST /aap/v1/instances": by("bearer", {}) + [
        Try("provisioner", headers=lambda ids: {"idempotency-key": ids["instance_key"]}, body=lambda ids: {"delivery": {
            "type": "webhook", "url": "http://127.0.0.1:9/", "registration_id": ids["agent_id"], "signing_secret": "whsec_" + "A" * 44}}),
        Try("provisioner", headers=lambda ids: {"idempotency-key": ids["instance_key"]}, body=lambda ids: {"instance_name": "x"}),
    ],
    "POST /v1/hooks/claude-code": by("bearer", hook),
    # Operators.
    "GET /v1/hitl/me": by("operator"),
    "GET /v1/hitl/operators": searched("operator", "q=operator_id", limit=200),
    "GET /v1/hitl/requests": [
        *searched("operator", "agent_id", "q=action_type", "q=pending", "type=action_type", "group", "decided_by=operator_id",
                  "assigned_to=operator_id", status="all"),
        Try("operator"), Try("operator", params=lambda ids: {"status": "decided"}),
    ],
    "GET /v1/hitl/requests/{request_id}": of_each_state(by("operator")),
    "POST /v1/hitl/requests/{request_id}/decision": of_each_state(by("operator", *decisions())),
    "POST /v1/hitl/decisions": by("operator", *batches()),
    "PUT /v1/hitl/requests/{request_id}/assignment": [
        each for who in ("operator", "admin") for each in of_each_state(by(who, *assignments()))],
    "PUT /v1/hitl/requests/{request_id}/claim": of_each_state(by("operator", {"seconds": 60})),
    "DELETE /v1/hitl/requests/{request_id}/claim": of_each_state(by("operator")),
    "GET /v1/hitl/push-subscriptions": by("operator"),
    # Each person's own: the name is everybody's to use.
    "PUT /v1/hitl/push-subscriptions/{subscription_id}": by("operator", browser, {}),
    "DELETE /v1/hitl/push-subscriptions/{subscription_id}": by("operator"),
    "GET /v1/hitl/delegations": [each for who in ("operator", "admin") for each in searched(who, limit=200)],
    # Of a group that the caller is not in: the name is free in each tenant.
    "PUT /v1/hitl/delegations/{delegation_id}": by("operator", lambda ids: {
        "to": ids["operator_id"], "groups": ["of nobody"], "until": in_seconds(600), "reason": REASON}),
    "DELETE /v1/hitl/delegations/{delegation_id}": by("operator") + by("admin"),
    # Administrators.
    "POST /internal/timeout-sweep": by("admin"),
    "POST /internal/notify": by("admin"),
    "GET /v1/admin/agents": searched("admin", limit=200),
    "POST /v1/admin/agents": "taken names are the deployment's",
    "GET /v1/admin/agents/{agent_id}": by("admin"),
    "PATCH /v1/admin/agents/{agent_id}": by("admin", {"status": "disabled"}, {"name": REASON}, {"max_pending": 1}, {"push": None}),
    "POST /v1/admin/agents/{agent_id}/push/secret": by("admin"),
    "POST /v1/admin/agents/{agent_id}/keys": by("admin", lambda ids: key_registration(new_private_key())),
    "DELETE /v1/admin/agents/{agent_id}/keys/{key_id}": by("admin") + [own(each) for each in by("admin")],
    "POST /v1/admin/agents/{agent_id}/offboarding": by(
        "admin", {"reason": REASON, "pending": "cancel"}, {"reason": REASON, "pending": "hand_over"}),
    "PATCH /v1/admin/operators/{operator_id}": by("admin", {"status": "blocked"}, {"status": "active"}),
    "GET /v1/admin/requests/{request_id}/chain": of_each_state(by("admin")),
    "POST /v1/admin/requests/{request_id}/disposition": of_each_state(by("admin", *dispositions())),
    "GET /v1/admin/dead-letters": searched("admin", "agent_id", limit=200),
    "POST /v1/admin/dead-letters/{id}/retry": by("admin", {"reason": REASON}),
    "POST /v1/admin/dead-letters/{id}/discard": by("admin", {"reason": REASON}),
    "GET /v1/admin/stale": searched("admin", limit=200),
    "GET /v1/admin/reports/sla": [Try("admin", params=lambda ids, by=by: {"by": by}) for by in ("agent", "group", "operator")],
    "POST /v1/admin/replay": by("admin", *replays()),
    "GET /v1/admin/replays/{replay_id}": by("admin"),
    "GET /v1/admin/rules": by("admin"),
    "PUT /v1/admin/rules": by("admin", {"rules": [], "note": REASON}) + [
        Try("admin", headers=lambda ids: {"if-match": '"77"'}, body=lambda ids: {"rules": [], "note": REASON})],
    "GET /v1/admin/rules/{version}": by("admin"),
    "GET /v1/admin/timeout-policies": by("admin"),
    "PUT /v1/admin/timeout-policies": by("admin", lambda ids: {
        "agent_id": ids["agent_id"], "priority": "P3", "respond_within_seconds": 5, "on_timeout": "auto_reject"}),
    "DELETE /v1/admin/timeout-policies/{policy_id}": by("admin"),
    "GET /v1/admin/channels": searched("admin", limit=200),
    "GET /v1/admin/channels/{channel_id}": by("admin"),
    "PUT /v1/admin/channels/{channel_id}": by("admin", channel),
    "DELETE /v1/admin/channels/{channel_id}": by("admin"),
    "POST /v1/admin/channels/{channel_id}/test": by("admin"),
    "GET /v1/admin/freezes": by("admin"),
    "GET /v1/admin/freezes/{freeze_id}": by("admin"),
    # First ended, where nothing is; then made: the name is free in each tenant; then of an agent that is not there.
    "DELETE /v1/admin/freezes/{freeze_id}": by("admin"),
    "PUT /v1/admin/freezes/{freeze_id}": by("admin", freeze(), freeze(agent_id="not-there")),
    "GET /v1/admin/log": searched("admin", "actor=operator_id", limit=200),
    # Rules over what is stored.
    "POST /v1/admin/rules/try": by("admin", lambda ids: {
        "rules": [], "from": in_seconds(-3600), "to": in_seconds(3600), "limit": 2000}),
    "POST /v1/admin/rules/suggest": [
        Try("admin", body=lambda ids, state=state: {"request_id": ids[state]}) for state in ("pending", "approved", "bridged")],
    # Owners' alone.
    "GET /v1/admin/tenants": by("admin"),
    "POST /v1/admin/tenants": by("admin", lambda ids: {"tenant_id": ids["tenant_id"]}),
    "PATCH /v1/admin/tenants/{tenant_id}": by("admin", {"status": "suspended"}),
    "POST /v1/admin/tenants/{tenant_id}/offboarding": by("admin", {"reason": REASON, "pending": "cancel"}),
}


def operations() -> list[str]:
    """The document's, asked of the running stack when tests are collected."""
    try:
        document = httpx.get(f"{read_stack()['base_url']}/openapi.json").raise_for_status().json()
    except (OSError, httpx.HTTPError):
        return ["GET no stack is running"]
    # What is made comes last: a name that is free is every tenant's to take.
    found = [(path, method.upper()) for path, item in document["paths"].items() for method in item if method in METHODS]
    return [f"{method} {path}" for path, method in sorted(found, key=lambda each: (each[1] == "PUT", each))]


def pytest_generate_tests(metafunc):
    if "operation" in metafunc.fixturenames:
        metafunc.parametrize("operation", operations())


# ---------------------------------------------------------------- asking, and what is the same


def ask(ours: Side, operation: str, attempt: Try, ids: dict) -> httpx.Response:
    method, path = operation.split(" ")
    values = ids | {"request_id": ids["pending"], "id": ids["dead_letter_id"]} | attempt.path(ids)
    if values["agent_id"] == OWN:
        values["agent_id"] = ours.agent.agent_id
    path = re.sub(r"{(\w+)}", lambda name: values[name[1]], path)
    body = attempt.body(ids)
    request = {"params": attempt.params(ids), "headers": attempt.headers(ids)} | ({} if body is None else {"json": body})
    http = ours.admin.http
    if attempt.by == "anyone":
        return http.request(method, path, **request)
    if attempt.by == "agent":
        return ours.agent.call(method, path, **request)
    caller = {"operator": ours.operator, "admin": ours.admin, "bearer": ours.bearer, "executor": ours.executor,
              "provisioner": ours.provisioner}[attempt.by]
    return caller.call(method, path, **request)


# Of each answer its own.
EACH = [
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "<uuid>"),
    (re.compile(r"\d{4}-\d\d-\d\dT[0-9:.]+Z"), "<time>"),
    (re.compile(r"sha256:[0-9a-f]{64}"), "<digest>"),
    (re.compile(r'"trace_id":"[0-9a-f]{32}"'), '"trace_id":"<trace>"'),
    (re.compile(r"replay-[0-9a-f]{16}|k-[0-9a-f]{16}|aap-[0-9a-f]{32}"), "<fresh>"),
    (re.compile(r"rtk_<fresh>_[\w-]{43}"), "<token>"),
    (re.compile(r'"(request_id|id)":"[0-9a-f]{32}"'), r'"\1":"<trace>"'),
]
OF_THE_MOMENT = {"date", "content-digest", "signature", "signature-input", "content-length"}


def told(response: httpx.Response, *sent: dict) -> tuple:
    """What an answer tells, the ids that were sent and what is each answer's own aside."""
    headers = {name: value for name, value in response.headers.items() if name not in OF_THE_MOMENT}
    text = f"{headers}\n{response.text}"
    for name, value in (pair for ids in sent for pair in ids.items() if pair[0] != "version"):
        text = re.sub(rf"(?<![\w-]){re.escape(value)}(?![\w-])", f"<{name}>", text)
    for pattern, instead in EACH:
        text = pattern.sub(instead, text)
    return response.status_code, text


MARKS = ("agent_id", "key_id", "title", "action_type", "pending", "approved", "dead", "bridged", "dead_letter_id", "policy_id",
         "freeze_id", "channel_id", "replay_key", "replay_id", "group", "client_request_key", "delegation_id", "subscription_id")
tried = {"routes": 0, "tries": 0}


def test_no_route_tells_or_does_anything_of_another_tenant(sides, operation):
    theirs, ours = sides
    assert operation in TRIES, "a new route: say in TRIES how another tenant would try it"
    tries = TRIES[operation]
    if isinstance(tries, str):
        pytest.skip(tries)
    for attempt in tries:
        nobodys = fresh_ids()
        of_theirs, of_nobody = ask(ours, operation, attempt, theirs.ids), ask(ours, operation, attempt, nobodys)
        assert told(of_theirs, theirs.ids, nobodys) == told(of_nobody, theirs.ids, nobodys)
        if operation == "GET /v1/admin/log":
            # It tells what our own administrators named, and nothing that theirs did.
            assert subject(theirs.admin) not in {entry["actor"]["id"] for entry in of_nobody.json()["items"]}
        else:
            shown = [name for name in MARKS if theirs.ids[name] in of_nobody.text]
            assert not shown, f"{shown} of another tenant in {of_nobody.text}"
        tried["tries"] += 1
    tried["routes"] += 1


# ---------------------------------------------------------------- cursors, ETags, counts

LISTS = [
    ("operator", REQUESTS, {"status": "all", "limit": 1}), ("operator", REQUESTS, {"status": "decided", "limit": 1}),
    ("operator", "/v1/hitl/operators", {"limit": 1}), ("operator", "/v1/hitl/delegations", {"limit": 1}), ("admin", "/v1/admin/agents", {"limit": 1}),
    ("admin", "/v1/admin/log", {"limit": 1}), ("admin", "/v1/admin/dead-letters", {"limit": 1}),
    ("admin", "/v1/admin/stale", {"limit": 1}),
]


def subject(person: Person) -> str:
    """The id that a token names."""
    return jwt.decode(person.token, options={"verify_signature": False})["sub"]


def of(side: Side, who: str) -> Person:
    return {"operator": side.operator, "admin": side.admin}[who]


@pytest.mark.parametrize("who, path, params", LISTS)
def test_another_tenant_s_cursor_shows_nothing_of_it(sides, who, path, params):
    theirs, ours = sides
    # So that each list has a next page.
    if path.endswith(("dead-letters", "stale")):
        dead = submit(theirs.agent)["request_id"]
        expect(theirs.operator.decide(dead, "approve"), 201)
        expect(theirs.agent.acknowledge(deliver(theirs.agent, dead), "failed", {"code": "x", "message": REASON}), 200)
    cursor = expect(of(theirs, who).get(path, params=params), 200)["next_cursor"]
    assert cursor
    shown = of(ours, who).get(path, params=params | {"cursor": cursor, "limit": 200})
    assert shown.status_code in (200, 422)
    if path.endswith("/log") and shown.status_code == 200:
        assert subject(theirs.admin) not in {entry["actor"]["id"] for entry in shown.json()["items"]}
    else:
        assert not [name for name in MARKS if theirs.ids[name] in shown.text]
        assert f'"{theirs.operator.id}"' not in shown.text


def test_another_tenant_s_work_changes_no_etag_and_no_count(sides):
    theirs, ours = sides
    queues = [{"status": "all"}, {"status": "pending"}, {"status": "decided"}]
    before = [ours.operator.get(REQUESTS, params=params) for params in queues]
    expect(theirs.operator.decide(submit(theirs.agent)["request_id"], "approve"), 201)
    submit(theirs.agent, priority="P1")
    after = [ours.operator.get(REQUESTS, params=params) for params in queues]
    for was, now in zip(before, after):
        assert (was.headers["etag"], was.json()["counts"]) == (now.headers["etag"], now.json()["counts"])
        # Their ETag is none of ours.
        etag = theirs.operator.get(REQUESTS).headers["etag"]
        assert ours.operator.get(REQUESTS, headers={"if-none-match": etag}).status_code == 200


# ---------------------------------------------------------------- and nothing is changed


def seen(side: Side) -> list:
    """Everything of a tenant that the tries named."""
    ids, agent_id = side.ids, side.agent.agent_id
    details = [side.operator.detail(ids[state]) for state in ("pending", "approved", "dead", "bridged")]
    for detail in details:
        detail.pop("agent_last_polled_at", None)
    agent = expect(side.admin.get(f"/v1/admin/agents/{agent_id}"), 200)
    agent.pop("last_polled_at")
    letters = expect(side.admin.get("/v1/admin/dead-letters", params={"agent_id": agent_id}), 200)["items"]
    return [
        details, [export_chain(side.admin, ids[state])["head"] for state in ("pending", "approved", "dead", "bridged")], agent,
        [letter for letter in letters if letter["dead_letter_id"] == ids["dead_letter_id"]],
        expect(side.admin.get("/v1/admin/timeout-policies"), 200),
        expect(side.admin.get(f"/v1/admin/freezes/{ids['freeze_id']}"), 200),
        expect(side.admin.get(f"/v1/admin/channels/{ids['channel_id']}"), 200),
        expect(side.admin.get(f"/v1/admin/replays/{ids['replay_id']}"), 200),
        expect(side.operator.get("/v1/hitl/delegations"), 200),
        expect(side.operator.get("/v1/hitl/push-subscriptions"), 200),
    ]


@pytest.fixture(scope="module", autouse=True)
def nothing_is_changed(sides):
    """Looks at the other tenant before the first try and after the last."""
    theirs, _ = sides
    before = seen(theirs)
    yield
    after = seen(theirs)
    assert after == before
    by_ours = [entry for entry in expect(theirs.admin.get("/v1/admin/log", params={"limit": 200}), 200)["items"]
               if "acme" in entry["actor"]["id"]]
    assert not by_ours
    print(f"\ntenants' matrix: {tried['routes']} of {len(operations())} routes in {tried['tries']} tries, each with a twin")
