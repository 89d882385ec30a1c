"""What operators see: the queue, its filters and pages, and one request in detail."""

import json
import secrets

import pytest

from agent import action_digest
from support import (
    ACTION,
    REQUESTS,
    deliver,
    expect,
    expect_problem,
    in_seconds,
    instant,
    new_envelope,
    pointers,
    register_agent,
    submit,
    submit_decided,
    wait_until,
)


def ids(items: list[dict]) -> list[str]:
    return [item["request_id"] for item in items]


def pages(operator, **query) -> list[list[dict]]:
    """All pages of a query, each with the cursor of the one before."""
    found, cursors = [], set()
    while True:
        page = operator.queue(**query)
        found.append(page["items"])
        if not page["next_cursor"]:
            return found
        query["cursor"] = page["next_cursor"]
        assert query["cursor"] not in cursors, "the pages go round in circles"
        cursors.add(query["cursor"])


def test_an_item_says_what_is_asked(agent, operator):
    submission = submit(agent, priority="P1", title="Delete 3 tables", summary="secret summary")
    [item] = operator.queue(agent_id=agent.agent_id)["items"]
    assert item["request_id"] == submission["request_id"]
    assert item["agent_id"] == agent.agent_id
    assert item["title"] == "Delete 3 tables"
    assert item["priority"] == "P1"
    assert item["status"] == "pending"
    assert item["action_type"] == ACTION["type"]
    assert instant(item["created_at"]) == instant(submission["created_at"])
    assert instant(item["respond_by"]) == instant(submission["respond_by"])
    assert item["escalated_at"] is None
    assert item["outcome"] is None


def test_the_queue_shows_what_is_pending_unless_told_otherwise(agent, operator):
    pending = submit(agent)["request_id"]
    decided = submit_decided(agent, operator)["request_id"]

    def shown(**query):
        return set(ids(operator.queue(agent_id=agent.agent_id, **query)["items"]))

    assert shown() == {pending}
    assert shown(status="pending") == {pending}
    assert shown(status="decided") == {decided}
    assert shown(status="all") == {pending, decided}
    [item] = operator.queue(agent_id=agent.agent_id, status="decided")["items"]
    assert (item["status"], item["outcome"]) == ("decided", "approved")


def test_the_queue_is_filtered_by_priority(agent, operator):
    by_priority = {priority: submit(agent, priority=priority)["request_id"] for priority in ("P1", "P2", "P3")}
    for wanted in (["P1"], ["P3"], ["P1", "P2"], ["P2", "P3"], ["P1", "P2", "P3"]):
        found = operator.queue(agent_id=agent.agent_id, priority=",".join(wanted))["items"]
        assert ids(found) == [by_priority[priority] for priority in wanted]


def test_the_queue_is_filtered_by_agent(admin, agent, operator):
    other = register_agent(admin)
    mine, theirs = submit(agent)["request_id"], submit(other)["request_id"]
    assert ids(operator.queue(agent_id=agent.agent_id)["items"]) == [mine]
    assert ids(operator.queue(agent_id=other.agent_id)["items"]) == [theirs]


def test_the_queue_is_searched_by_title(agent, operator):
    word = f"Wombat{secrets.token_hex(4)}"
    wanted = submit(agent, title=f"Feed the {word} 100% today")["request_id"]
    submit(agent, title="Feed the cat")
    assert ids(operator.queue(q=word)["items"]) == [wanted]
    assert operator.queue(q=f"{word[:-1]}_")["items"] == [], "_ is no wildcard"
    assert operator.queue(q=f"{word}%today")["items"] == [], "% is no wildcard"


def test_the_queue_is_sorted_by_priority_then_respond_by(agent, operator):
    wanted = [
        submit(agent, priority=priority, respond_by=in_seconds(seconds))["request_id"]
        for priority, seconds in [("P3", 900), ("P1", 800), ("P2", 600), ("P1", 300), ("P3", 200), ("P2", 700)]
    ]
    found = ids(operator.queue(agent_id=agent.agent_id)["items"])
    assert found == [wanted[position] for position in (3, 1, 2, 5, 4, 0)]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 200])
def test_pages_have_no_gaps_and_no_repeats(agent, operator, limit):
    same_time = in_seconds(900)
    submitted = {submit(agent, respond_by=same_time)["request_id"] for _ in range(7)}
    found = pages(operator, agent_id=agent.agent_id, limit=limit)
    assert all(len(page) <= limit for page in found)
    flat = [request_id for page in found for request_id in ids(page)]
    assert len(flat) == 7 and set(flat) == submitted


def test_pages_hold_still_while_the_queue_moves(agent, operator):
    """New and decided requests elsewhere neither hide nor repeat what is yet to come."""
    submitted = [submit(agent, respond_by=in_seconds(600 + n))["request_id"] for n in range(6)]
    query = {"agent_id": agent.agent_id, "limit": 2}
    first = operator.queue(**query)
    submit(agent, priority="P1")
    expect(operator.decide(ids(first["items"])[0], "approve"), 201)
    rest = pages(operator, cursor=first["next_cursor"], **query)
    assert ids(first["items"]) + [request_id for page in rest for request_id in ids(page)] == submitted


@pytest.mark.parametrize("query", [
    {"cursor": "nonsense"},
    {"cursor": "' OR 1=1 --"},
    {"cursor": "AAAA"},
    {"cursor": "é"},
    {"status": "open"},
    {"priority": "P9"},
    {"limit": "ten"},
], ids=str)
def test_a_query_that_cannot_be_read_is_refused(operator, query):
    expect_problem(operator.get(REQUESTS, params=query), 422, "validation-failed")


def test_a_cut_cursor_is_refused(agent, operator):
    for _ in range(2):
        submit(agent)
    cursor = operator.queue(agent_id=agent.agent_id, limit=1)["next_cursor"]
    broken = operator.get(REQUESTS, params={"agent_id": agent.agent_id, "cursor": cursor[: len(cursor) // 2]})
    expect_problem(broken, 422, "validation-failed")


def test_an_unchanged_queue_is_not_sent_again(agent, operator):
    submit(agent)
    query = {"agent_id": agent.agent_id}

    def unchanged():
        """Others may use the stack: what is unchanged for long enough is enough."""
        etag = operator.get(REQUESTS, params=query).headers["etag"]
        again = operator.get(REQUESTS, params=query, headers={"if-none-match": etag})
        return again.status_code == 304 and (etag, again)

    etag, again = wait_until(unchanged)
    assert etag.startswith('"') and etag.endswith('"')
    assert again.content == b""
    assert again.headers["etag"] == etag

    submit(agent)
    changed = operator.get(REQUESTS, params=query, headers={"if-none-match": etag})
    assert len(expect(changed, 200)["items"]) == 2
    assert changed.headers["etag"] != etag


def test_another_etag_gets_the_queue(agent, operator):
    submit(agent)
    response = operator.get(
        REQUESTS, params={"agent_id": agent.agent_id}, headers={"if-none-match": '"another"'}
    )
    assert len(expect(response, 200)["items"]) == 1


def numbers(value) -> list:
    if isinstance(value, dict):
        return [number for member in value.values() for number in numbers(member)]
    return [value]


def test_the_queue_counts(agent, operator):
    submit(agent)
    counts = operator.queue(agent_id=agent.agent_id)["counts"]
    assert isinstance(counts, dict)
    assert all(isinstance(number, int) and number >= 0 for number in numbers(counts))
    assert sum(numbers(counts)) >= 1


def test_an_operator_sees_all_that_is_needed_to_decide(agent, operator):
    envelope = new_envelope(agent.agent_id, summary="# Why\n\nBecause.", context={"order": [1, {"n": 2.5}]})
    submission = expect(agent.submit(envelope), 201)
    detail = operator.detail(submission["request_id"])
    for member in ("agent_id", "client_request_key", "title", "priority", "summary", "action", "context"):
        assert detail[member] == envelope[member]
    assert detail["status"] == "pending"
    assert detail["action_type"] == ACTION["type"]
    assert detail["action_digest"] == action_digest(ACTION)
    assert detail["decision"] is None
    assert detail["escalated_at"] is None
    assert detail["agent_last_polled_at"] is None
    assert detail["outcome"] is None


def test_an_operator_sees_what_became_of_a_decision(agent, operator):
    submission = submit(agent)
    request_id = submission["request_id"]
    made = expect(operator.decide(request_id, "reject", reason="No"), 201)
    detail = operator.detail(request_id)
    for member in ("outcome", "cause", "decided_by", "reason"):
        assert detail["decision"][member] == made[member]
    assert (detail["status"], detail["outcome"]) == ("decided", "rejected")
    assert (detail["delivery"]["state"], detail["delivery"]["delivered_at"]) == ("ready", None)

    delivery = deliver(agent, request_id)
    shown = operator.detail(request_id)["delivery"]
    assert shown.items() >= {"state": "leased", "attempt": 1}.items()
    assert instant(made["decided_at"]) <= instant(shown["delivered_at"]) < instant(delivery["lease_expires_at"])
    expect(agent.acknowledge(delivery), 200)
    assert operator.detail(request_id)["delivery"].items() >= {"state": "acknowledged", "attempt": 1}.items()


def test_an_operator_sees_whether_the_agent_is_waiting(agent, operator):
    request_id = submit(agent)["request_id"]
    agent.poll()
    polled_at = wait_until(lambda: operator.detail(request_id)["agent_last_polled_at"])
    assert instant(polled_at) >= instant(operator.detail(request_id)["created_at"])


def test_an_operator_sees_the_trace_without_its_bytes(agent, operator):
    submission = submit_decided(agent, operator)
    chain = operator.detail(submission["request_id"])["chain"]
    entries = chain["entries"] if isinstance(chain, dict) else chain
    assert [(entry["seq"], entry["kind"]) for entry in entries] == [(1, "submitted"), (2, "decided")]
    assert entries[0]["actor"]["id"] == agent.agent_id
    assert entries[1]["actor"]["id"] == operator.id
    assert instant(entries[0]["at"]) <= instant(entries[1]["at"])
    assert not any("entry" in entry for entry in entries)


def test_resume_is_never_shown_to_operators(agent, operator):
    submission = submit(agent, resume={"secret-name": "secret-value"})
    path = f"{REQUESTS}/{submission['request_id']}"
    expect(operator.decide(submission["request_id"], "approve"), 201)
    shown = [operator.get(path), operator.get(REQUESTS, params={"agent_id": agent.agent_id, "status": "all"})]
    for response in shown:
        assert "request_id" in response.text
        assert "resume" not in response.json()
        assert "secret-name" not in response.text and "secret-value" not in response.text
    assert operator.queue(q="secret-value", agent_id=agent.agent_id, status="all")["items"] == []


# ---------------------------------------------------------------- what was decided


@pytest.fixture
def other_operator(operators):
    return operators[1]


def answer(agent, operator, decision="approve", **changes):
    """A request that was decided, and its decision."""
    request_id = submit(agent, **changes)["request_id"]
    reason = {"reason": "No"} if decision == "reject" else {}
    return expect(operator.decide(request_id, decision, **reason), 201)


def test_decided_requests_are_listed_newest_decision_first(agent, operator):
    asked = [submit(agent, priority=priority)["request_id"] for priority in ("P1", "P3", "P2", "P1", "P3")]
    order = [asked[position] for position in (3, 0, 4, 2, 1)]
    for request_id in order:
        expect(operator.decide(request_id, "approve"), 201)
    for limit in (1, 2, 200):
        found = pages(operator, agent_id=agent.agent_id, status="decided", limit=limit)
        assert [request_id for page in found for request_id in ids(page)] == order[::-1]


def test_a_cursor_belongs_to_its_order(agent, operator):
    for _ in range(2):
        answer(agent, operator)
        submit(agent)
    for status, other in (("pending", "decided"), ("decided", "pending"), ("all", "decided")):
        cursor = operator.queue(agent_id=agent.agent_id, status=status, limit=1)["next_cursor"]
        refused = operator.get(REQUESTS, params={"agent_id": agent.agent_id, "status": other, "cursor": cursor})
        assert pointers(expect_problem(refused, 422, "validation-failed")) == {"/cursor"}


def test_an_item_says_who_decided_when_and_what_became_of_it(agent, operator):
    made = answer(agent, operator, "reject")
    [item] = operator.queue(agent_id=agent.agent_id, status="decided")["items"]
    for member in ("decided_at", "decided_by", "cause", "outcome"):
        assert item[member] == made[member]
    assert item["decided_by"]["id"] == operator.id
    assert (item["delivery_state"], item["execution"], item["delivery_error"]) == ("ready", "none", None)
    delivery = deliver(agent, made["request_id"])
    [item] = operator.queue(agent_id=agent.agent_id, status="decided")["items"]
    assert item["delivery_state"] == "leased"
    expect(agent.acknowledge(delivery), 200)
    [item] = operator.queue(agent_id=agent.agent_id, status="all")["items"]
    assert item["delivery_state"] == "acknowledged"
    pending = submit(agent)["request_id"]
    [item] = operator.queue(agent_id=agent.agent_id)["items"]
    assert item["request_id"] == pending
    for member in ("decided_at", "decided_by", "cause", "outcome", "delivery_state", "delivery_error"):
        assert item[member] is None


def test_what_an_agent_reported_as_failed_is_shown_and_found(agent, operator):
    failed, received = answer(agent, operator)["request_id"], answer(agent, operator)["request_id"]
    error = {"code": "provider_declined", "message": "the payment provider declined"}
    expect(agent.acknowledge(deliver(agent, failed), "failed", error), 200)
    expect(agent.acknowledge(deliver(agent, received)), 200)

    detail = operator.detail(failed)
    assert (detail["delivery_state"], detail["delivery_error"]) == ("dead_lettered", error)
    assert detail["delivery"].items() >= {"state": "dead_lettered", "result": "failed", "error": error}.items()
    for status in ("decided", "all"):
        [item] = operator.queue(agent_id=agent.agent_id, status=status, delivery_state="dead_lettered")["items"]
        assert (item["request_id"], item["outcome"], item["delivery_error"]) == (failed, "approved", error)
    [item] = operator.queue(agent_id=agent.agent_id, status="decided", delivery_state="acknowledged")["items"]
    assert (item["request_id"], item["delivery_error"]) == (received, None)


def test_a_long_message_of_a_failure_is_cut_in_the_list_only(agent, operator):
    request_id = answer(agent, operator)["request_id"]
    error = {"code": "E", "message": "m" * 2000}
    expect(agent.acknowledge(deliver(agent, request_id), "failed", error), 200)
    assert operator.detail(request_id)["delivery_error"] == error
    [item] = operator.queue(agent_id=agent.agent_id, status="decided")["items"]
    assert item["delivery_error"]["message"] == "m" * 200 + "…"


def test_the_history_is_filtered_by_outcome_person_and_type(agent, operator, other_operator):
    approved = answer(agent, operator, action={"type": "shell.run", "arguments": {}})["request_id"]
    rejected = answer(agent, other_operator, "reject")["request_id"]
    cancelled = submit(agent)["request_id"]
    expect(agent.cancel(cancelled), 200)

    def found(**query):
        return set(ids(operator.queue(**{"agent_id": agent.agent_id, "status": "decided"} | query)["items"]))

    for status in ("decided", "all"):
        assert found(status=status, outcome="approved") == {approved}
        assert found(status=status, outcome="rejected,cancelled") == {rejected, cancelled}
        assert found(status=status, outcome=["rejected", "approved"]) == {rejected, approved}
        assert found(status=status, decided_by=other_operator.id) == {rejected}
        assert found(status=status, decided_by=[operator.id, other_operator.id]) == {approved, rejected}
        assert found(status=status, type="shell.run") == {approved}
        assert found(status=status, type=f"shell.run,{ACTION['type']}") == {approved, rejected, cancelled}
        assert found(status=status, type="shell") == set(), "types are compared as a whole"
    assert found(outcome="approved", decided_by=other_operator.id) == set()
    assert ids(operator.queue(agent_id=agent.agent_id, outcome="rejected")["items"]) == [rejected], "implies decided"
    assert operator.queue(agent_id=agent.agent_id, status="pending", outcome="approved")["items"] == []


def test_the_queue_is_filtered_by_time(agent, operator):
    """Of the decision, else of the submission; the end does not belong to it."""
    first, second = submit(agent), submit(agent)
    made = [expect(operator.decide(one["request_id"], "approve"), 201) for one in (second, first)]
    pending = submit(agent)

    def found(status, **query):
        return ids(operator.queue(agent_id=agent.agent_id, status=status, **query)["items"])

    times = [one["decided_at"] for one in made]
    assert found("decided", **{"from": times[0], "to": times[1]}) == [second["request_id"]]
    assert found("decided", **{"from": times[1]}) == [first["request_id"]]
    assert found("decided", to=times[0]) == []
    assert found("pending", **{"from": pending["created_at"]}) == [pending["request_id"]]
    assert found("pending", to=pending["created_at"]) == []
    assert set(found("all", **{"from": times[1]})) == {first["request_id"], pending["request_id"]}
    assert found("decided", **{"from": "0001-01-01T00:00:00Z", "to": "9999-12-31T23:59:59Z"}) == [
        first["request_id"], second["request_id"]]


@pytest.mark.parametrize("query", [
    {"from": "yesterday"}, {"to": "2026-11-27"}, {"from": "2026-02-30T00:00:00Z"}, {"from": "0000-01-01T00:00:00Z"}, {"from": ""}, {"to": ""}, {"from": ["2026-11-26T00:00:00Z", "2026-11-27T00:00:00Z"]},
    {"from": "2026-11-27T00:00:00Z", "to": "2026-11-26T00:00:00Z"},
    {"outcome": "maybe"}, {"outcome": ""}, {"outcome": "approved,"}, {"type": "a b"}, {"type": ""},
    {"decided_by": ""}, {"decided_by": "a\0b"}, {"decided_by": "x" * 256}, {"delivery_state": "lost"},
    {"group": ""}, {"group": "a b"}, {"assigned_to": "maria"}, {"assigned_to": ""}, {"priority": ""},
    {"agent_id": ""}, {"agent_id": ","}, {"agent_id": "NO ID"}, {"agent_id": ["billing-agent", ""]},
], ids=str)
@pytest.mark.parametrize("status", ["pending", "decided", "all"])
def test_a_filter_that_means_nothing_is_refused(operator, status, query):
    problem = expect_problem(operator.get(REQUESTS, params={"status": status} | query), 422, "validation-failed")
    assert pointers(problem) <= {f"/{name}" for name in query}


def test_nothing_belongs_to_a_group_that_nobody_named(agent, operator):
    submit(agent)
    assert operator.queue(agent_id=agent.agent_id, group="a-group-of-nobody")["items"] == []
    assert operator.queue(agent_id=agent.agent_id, assigned_to="me", status="decided")["items"] == []


def test_agent_id_is_read_alike_everywhere(admin, operator):
    """A list with commas and a repeated parameter are the same; what is empty or no id is refused."""
    agents = [register_agent(admin) for _ in range(3)]
    letters = {}
    for one in agents:
        request_id = answer(one, operator)["request_id"]
        expect(one.acknowledge(deliver(one, request_id), "failed", {"code": "E", "message": "gone"}), 200)
        letters[one.agent_id] = request_id
    first, second = agents[0].agent_id, agents[1].agent_id
    wanted = {letters[first], letters[second]}
    for given in (f"{first},{second}", [first, second], f" {first} , {second} "):
        for status in ("decided", "all"):
            assert set(ids(operator.queue(status=status, agent_id=given)["items"])) == wanted
        page = expect(admin.get("/v1/admin/dead-letters", params={"agent_id": given}), 200)
        assert {item["request_id"] for item in page["items"]} == wanted
    for nonsense in ("", ",", f"{first},", "NO ID", [first, ""]):
        expect_problem(operator.get(REQUESTS, params={"agent_id": nonsense}), 422, "validation-failed")
        refused = admin.get("/v1/admin/dead-letters", params={"agent_id": nonsense})
        assert pointers(expect_problem(refused, 422, "validation-failed")) == {"/agent_id"}


# ---------------------------------------------------------------- searching


def test_words_are_found_in_title_type_arguments_and_ids_and_all_of_them_must_be(agent, operator):
    word, place = f"wombat{secrets.token_hex(4)}", f"Zürich-{secrets.token_hex(4)}"
    path = "C:\\\\temp \"quoted\""
    arguments = {"target": {"list": [{"city": place}, 4711.5]}, "path": path}
    asked = submit(agent, title=f"Feed the {word}", action={"type": "zoo.feed", "arguments": arguments})
    submit(agent, title="Feed the cat", action={"type": "zoo.feed", "arguments": {"city": "Bern"}})
    request_id, key = asked["request_id"], asked["client_request_key"]

    def found(q, **query):
        return ids(operator.queue(q=q, **query)["items"])

    for q in (word, word.upper(), f"{word} feed", f"feed {word}", f"{word} {place}", place.lower(), f"{place} 4711.5",
              f"{place} zoo.feed", key, request_id, f"{request_id[:13]} {agent.agent_id}", f"{word} C:\\\\temp",
              f'{word} "quoted"'):
        assert found(q) == [request_id], q
    for q in (f"{word} cat", f"{word} Bern", f"{place} {word}x"):
        assert found(q) == [], q
    expect(operator.decide(request_id, "approve"), 201)
    for status in ("decided", "all"):
        assert found(f"{place} {word}", status=status) == [request_id]


def test_what_a_search_does_not_look_at(agent, operator):
    word = f"wombat{secrets.token_hex(4)}"
    submit(agent, summary=word, context={"word": word}, resume={"word": word})
    assert operator.queue(q=word, status="all")["items"] == []
    submit(agent, title="Feed")
    assert operator.queue(q="envelope_version", agent_id=agent.agent_id)["items"] == [], "the envelope's own members"


@pytest.mark.parametrize("literal", ["1e-20000", "0." + "0" * 20000 + "1", "1e308"], ids=["tiny", "long", "large"])
def test_one_request_with_an_odd_number_does_not_stop_a_search(agent, operator, literal):
    word = f"wombat{secrets.token_hex(4)}"
    envelope = json.dumps(new_envelope(agent.agent_id, title=word, action={"type": "a", "arguments": {"n": "NUMBER"}}))
    asked = expect(agent.submit(envelope.replace('"NUMBER"', literal).encode()), 201)
    assert ids(operator.queue(q=word)["items"]) == [asked["request_id"]]
    assert operator.queue(q=f"{word} nowhere", agent_id=agent.agent_id)["items"] == []


# ---------------------------------------------------------------- what one person may do


def test_the_detail_says_what_the_caller_may_do(agent, operator):
    request_id = submit(agent)["request_id"]
    assert operator.detail(request_id)["you"] == {"may": ["approve", "reject"], "why_not": None}
    expect(operator.decide(request_id, "approve"), 201)
    assert operator.detail(request_id)["you"] == {"may": [], "why_not": "already-decided"}


def test_a_person_is_told_who_they_are(operators, operator, admin, agent, stack):
    known = [known for known in stack["operators"] if known["tenant"] == "default"]
    for person, their in ((operators[0], known[0]), (operators[22], known[22]), (operators[-1], known[-1])):
        me = expect(person.get("/v1/hitl/me"), 200)
        assert me == {"id": person.id, "name": person.name, "roles": ["operator"], "groups": their["groups"],
                      "tenant": "default"}
    for other in (admin.get("/v1/hitl/me"), agent.call("GET", "/v1/hitl/me")):
        expect_problem(other, 403, "forbidden")


# ---------------------------------------------------------------- the page's files


def test_the_pages_files_are_not_sent_twice(http):
    for path in ("/", "/page/app.js", "/page/style.css", "/page/favicon.svg", "/openapi.json"):
        first = http.get(path)
        etag = first.headers["etag"]
        assert etag.startswith('"') and etag.endswith('"')
        again = http.get(path, headers={"if-none-match": f'"other", {etag}'})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
        assert again.headers["content-security-policy"] == first.headers["content-security-policy"]
        assert http.get(path, headers={"if-none-match": '"other"'}).content == first.content
    etags = {http.get(f"/page/{name}").headers["etag"] for name in ("app.js", "style.css", "list.js")}
    assert len(etags) == 3


# ---------------------------------------------------------------- the local stack


def test_the_stack_describes_its_people(stack):
    operators = stack["operators"]
    of_default = [operator for operator in operators if operator["tenant"] == "default"]
    groups = [tuple(sorted(operator["groups"])) for operator in of_default]
    assert (len(of_default), groups.count(("finance", "ops"))) == (50, 5)
    assert abs(groups.count(("finance",)) - groups.count(("ops",))) <= 5
    assert [(o["tenant"], o["groups"]) for o in operators[50:]] == [("acme", ["ops"])] * 5
    assert len({operator["token"] for operator in operators}) == len({operator["id"] for operator in operators}) == 55
    assert [admin["tenant"] for admin in stack["admins"]] == ["default", "acme"]
    assert stack["owner"]["token"] and stack["environment"]["EGRESS_ALLOW"] == "http://127.0.0.1"
    other, = stack["agents"]
    assert set(other) == set(stack["agent"]) and other["agent_id"] != stack["agent"]["agent_id"]
