"""Whether people decide in time: the report's figures, computed again from each request."""

import uuid
from datetime import datetime, timedelta, timezone

import pytest

from support import REQUESTS, Person, expect, expect_problem, in_seconds, instant, pointers, register_agent, submit, wait_until

SLA = "/v1/admin/reports/sla"
COUNTS = ("asked", "decided_in_time", "timed_out", "cancelled", "pending")


def report(admin, by, start, **changes):
    period = {"from": start, "to": in_seconds(60), "by": by} | changes
    return {item["key"]: item for item in expect(admin.get(SLA, params=period), 200)["items"]}


def quantile(values, share):
    """Between two values by its place between them, as most tools compute it."""
    values = sorted(values)
    place = (len(values) - 1) * share
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (place - low)


def line(requests):
    """The figures of these requests, from their details."""
    counts = dict.fromkeys(COUNTS, 0) | {"asked": len(requests)}
    seconds = []
    for request in requests:
        decision = request["decision"]
        if decision is None:
            counts["pending"] += 1
        elif decision["outcome"] == "cancelled":
            counts["cancelled"] += 1
        elif decision["cause"] == "timeout":
            counts["timed_out"] += 1
        else:
            counts["decided_in_time"] += 1
            if decision["cause"] == "policy":
                continue  # the seconds are those of people
            seconds.append((instant(decision["decided_at"]) - instant(request["created_at"])).total_seconds())
    return counts, (quantile(seconds, 0.5), quantile(seconds, 0.9)) if seconds else (None, None)


def check(item, requests):
    counts, quantiles = line(requests)
    assert {name: item[name] for name in COUNTS} == counts
    assert set(item) == {"key", *COUNTS, "p50_seconds", "p90_seconds"}
    got = (item["p50_seconds"], item["p90_seconds"])
    assert got == (None, None) if quantiles == (None, None) else got == pytest.approx(quantiles, abs=1e-3)


@pytest.fixture(scope="module")
def start():
    return (datetime.now(timezone.utc) - timedelta(seconds=1)).isoformat().replace("+00:00", "Z")


@pytest.fixture(scope="module")
def asked(admin, operators, start):
    """Requests of two agents: answered by two people, timed out, taken back, and pending; two of them for a group."""
    agents = [register_agent(admin) for _ in range(2)]
    first, second = operators[40], operators[41]
    made = {agent.agent_id: [] for agent in agents}
    group = f"team-{uuid.uuid4().hex[:8]}"

    def ask(agent, **changes):
        request_id = submit(agent, **changes)["request_id"]
        made[agent.agent_id].append(request_id)
        return request_id

    for person, decisions in ((first, ("approve", "reject", "approve")), (second, ("approve",))):
        for decision in decisions:
            expect(person.decide(ask(agents[0]), decision, reason="as asked"), 201)
    expect(agents[0].cancel(ask(agents[0])), 200)
    ask(agents[0])
    late = ask(agents[1], respond_by=in_seconds(1))
    for request_id in (ask(agents[1]), ask(agents[1])):
        body = {"groups": [group], "reason": "theirs"}
        expect(admin.call("PUT", f"{REQUESTS}/{request_id}/assignment", json=body), 200)
    wait_until(lambda: expect(first.get(f"{REQUESTS}/{late}"), 200)["decision"])
    details = {agent_id: [expect(first.get(f"{REQUESTS}/{request_id}"), 200) for request_id in ids]
               for agent_id, ids in made.items()}
    return details, group, (first, second)


def test_by_agent(admin, asked, start):
    details, _, _ = asked
    found = report(admin, "agent", start)
    for agent_id, requests in details.items():
        check(found[agent_id], requests)
    counts, _ = line([request for requests in details.values() for request in requests])
    assert counts == {"asked": 9, "decided_in_time": 4, "timed_out": 1, "cancelled": 1, "pending": 3}


def test_by_group_each_that_was_asked(admin, asked, start):
    details, group, _ = asked
    found = report(admin, "group", start)
    assigned = [request for requests in details.values() for request in requests
                if group in ((request["assigned_to"] or {}).get("groups") or [])]
    assert len(assigned) == 2
    check(found[group], assigned)
    assert found[None]["asked"] >= 7


def test_by_operator_who_decided(admin, asked, start):
    details, _, people = asked
    found = report(admin, "operator", start)
    everything = [request for requests in details.values() for request in requests]
    for person in people:
        decided = [request for request in everything
                   if request["decision"] and request["decision"]["decided_by"]["id"] == person.id]
        assert found[person.id]["asked"] >= len(decided) > 0
        assert found[person.id]["asked"] == found[person.id]["decided_in_time"]
    assert found[None]["pending"] >= 3


def test_by_priority_is_the_default_and_its_lines_are_whole(admin, asked, start):
    found = report(admin, "priority", start)
    assert set(found) <= {"P1", "P2", "P3"}
    for item in found.values():
        assert item["asked"] == sum(item[name] for name in COUNTS[1:])
    items = expect(admin.get(SLA, params={"from": start}), 200)["items"]
    assert {item["key"] for item in items} >= {"P2"}
    assert sum(item["asked"] for item in items) >= 9


def test_only_what_was_submitted_in_the_period(admin, asked, start):
    details, _, _ = asked
    [agent_id, *_] = details
    after = details[agent_id][1]["created_at"]
    assert report(admin, "agent", after)[agent_id]["asked"] == 5
    before = expect(admin.get(SLA, params={"from": start, "to": after, "by": "agent"}), 200)["items"]
    assert [item["asked"] for item in before if item["key"] == agent_id] == [1]
    assert expect(admin.get(SLA, params={"from": "2001-01-01T00:00:00Z", "to": "2001-12-31T00:00:00Z"}), 200) == {"items": []}


def test_another_tenant_sees_nothing_of_it(http, stack, asked, start):
    [token] = [known["token"] for known in stack["admins"] if known["tenant"] == "acme"]
    details, group, people = asked
    acme = Person(http, token)
    for by, keys in (("agent", set(details)), ("group", {group}), ("operator", {person.id for person in people})):
        assert not keys & set(report(acme, by, start))


@pytest.mark.parametrize("query, at", [
    ({"by": "team"}, "/by"),
    ({"by": ""}, "/by"),
    ({"by": "priority|agent"}, "/by"),
    ({"from": "yesterday"}, "/from"),
    ({"from": ""}, "/from"),
    ({"to": "2026-01-01"}, "/to"),
    ({"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, "/to"),
    ({"from": "2026-01-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, "/to"),
    ({"from": "2024-01-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, "/from"),
])
def test_what_cannot_be_reported_is_refused(admin, query, at):
    assert at in pointers(expect_problem(admin.get(SLA, params=query), 422, "validation-failed"))


def test_it_is_an_administrators(operator, agent, http):
    expect_problem(operator.get(SLA), 403, "forbidden")
    expect_problem(http.get(SLA), 401, "unauthenticated")
    expect_problem(http.get(SLA, headers={"authorization": f"Bearer {agent.token()}"}), 403, "forbidden")
