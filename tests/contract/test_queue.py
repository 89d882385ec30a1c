"""What operators see: the queue, its filters and pages, and one request in detail."""

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
