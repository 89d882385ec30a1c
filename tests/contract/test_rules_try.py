"""A draft of rules, tried on what was asked before (contract, "Trying rules")."""

from datetime import timedelta

import pytest

from support import Person, expect, expect_problem, in_seconds, instant, pointers, race, register_agent, submit

RULES, TRY = "/v1/admin/rules", "/v1/admin/rules/try"


def decides(name: str, of: dict, decide: str = "approve", mode: str = "enforce", **members) -> dict:
    return {"name": name, "mode": mode, "match": of, "then": {"decide": decide, "reason": "Tried"} | members}


def asks(name: str, of: dict, **ask) -> dict:
    return {"name": name, "mode": "enforce", "match": of, "then": {"ask": ask}}


def moment(text: str, microseconds: int = 0) -> str:
    return (instant(text) + timedelta(microseconds=microseconds)).isoformat(timespec="microseconds").replace("+00:00", "Z")


def body_of(rules: list, requests: list, **members) -> dict:
    """A trial over the time in which these requests, in their order, were submitted."""
    first, last = requests[0]["created_at"], requests[-1]["created_at"]
    return {"rules": rules, "from": moment(first), "to": moment(last, 1), "limit": 2000} | members


def tried(admin, rules: list, requests: list, **members) -> dict:
    trial = expect(admin.post(TRY, json=body_of(rules, requests, **members)), 200)
    assert set(trial) == {"tried", "counts", "same", "differs", "examples", "next_cursor"}
    assert set(trial["counts"]) == {"approved", "rejected", "asked", "failed", "skipped"}
    assert sum(trial["counts"].values()) == trial["tried"] == trial["same"] + trial["differs"] + trial["counts"]["skipped"]
    return trial


def asked_with(agent, **arguments) -> dict:
    return submit(agent, action={"type": "refund.create", "arguments": arguments})


# ---------------------------------------------------------------- what it says


def test_what_a_person_rejected_and_the_draft_would_approve_comes_first(agent, admin, operator):
    pending, approved, rejected, cancelled = (asked_with(agent, amount="20.00", currency="EUR") for _ in range(4))
    expect(operator.decide(approved["request_id"], "approve"), 201)
    expect(operator.decide(rejected["request_id"], "reject", reason="Not this one"), 201)
    expect(agent.cancel(cancelled["request_id"]), 200)
    small = decides("small refunds", {"agents": [agent.agent_id], "arguments": {"/amount": {"lte": 50}}})
    trial = tried(admin, [small], [pending, approved, rejected, cancelled])
    assert trial["counts"] == {"approved": 4, "rejected": 0, "asked": 0, "failed": 0, "skipped": 0}
    assert (trial["same"], trial["differs"], trial["next_cursor"]) == (1, 3, None)
    assert trial["examples"][0] == {
        "request_id": rejected["request_id"], "was": "rejected", "would": "approved", "rule": "small refunds"}
    told = {example["request_id"]: (example["was"], example["would"]) for example in trial["examples"]}
    assert told == {
        rejected["request_id"]: ("rejected", "approved"), pending["request_id"]: ("pending", "approved"),
        cancelled["request_id"]: ("cancelled", "approved"), approved["request_id"]: ("approved", "approved")}
    # What ends alike is told last.
    assert trial["examples"][-1]["request_id"] == approved["request_id"]


def test_a_rejection_by_rule_of_what_a_person_approved_comes_before_other_differences(agent, admin, operator):
    pending, approved = (asked_with(agent, amount="20.00") for _ in range(2))
    expect(operator.decide(approved["request_id"], "approve"), 201)
    trial = tried(admin, [decides("none", {"agents": [agent.agent_id]}, "reject")], [pending, approved])
    assert (trial["counts"]["rejected"], trial["differs"]) == (2, 2)
    assert [(example["was"], example["would"]) for example in trial["examples"]] == [
        ("approved", "rejected"), ("pending", "rejected")]


def test_what_is_asked_as_it_was_is_the_same_and_no_example(agent, admin, operator):
    requests = [asked_with(agent, amount="20.00") for _ in range(2)]
    expect(operator.decide(requests[0]["request_id"], "approve"), 201)
    for rules in ([], [asks("two", {"agents": [agent.agent_id]}, approvals=2)]):
        trial = tried(admin, rules, requests)
        assert (trial["tried"], trial["counts"]["asked"], trial["same"], trial["examples"]) == (2, 2, 2, [])


def test_a_rule_that_cannot_be_judged_is_counted_and_named_and_no_later_one_approves(agent, admin):
    requests = [asked_with(agent, amount="a lot"), asked_with(agent), asked_with(agent, amount=5, Amount=5000),
                asked_with(agent, amount=5)]
    ours = {"agents": [agent.agent_id]}
    rules = [decides("small", ours | {"arguments": {"/amount": {"lte": 3}}}), decides("all", ours)]
    trial = tried(admin, rules, requests)
    assert (trial["counts"]["failed"], trial["counts"]["approved"]) == (3, 1)
    told = {example["request_id"]: (example["would"], example["rule"]) for example in trial["examples"]}
    assert told == {request["request_id"]: ("failed", "small") for request in requests[:3]} | {
        requests[3]["request_id"]: ("approved", "all")}


@pytest.mark.parametrize("changes", [{"priority": "P1"}, {"answers": ["reject"]}, {"answers": ["respond"]}])
def test_no_trial_approves_what_no_rule_may(agent, admin, changes):
    request = submit(agent, **changes)
    trial = tried(admin, [decides("all", {"agents": [agent.agent_id]})], [request])
    assert (trial["counts"]["approved"], trial["counts"]["asked"]) == (0, 1)


def test_rules_that_are_not_enforced_do_not_act(agent, admin):
    request = asked_with(agent, amount=1)
    ours = {"agents": [agent.agent_id]}
    trial = tried(admin, [decides("s", ours, mode="shadow"), decides("o", ours, mode="off")], [request])
    assert trial["counts"]["asked"] == 1


def test_priorities_are_those_that_the_agent_asked_with(agent, admin):
    etag = admin.get(RULES).headers["etag"]
    raises = asks("raises", {"agents": [agent.agent_id]}, priority="P1")
    expect(admin.call("PUT", RULES, json={"rules": [raises], "note": "Test"}, headers={"if-match": etag}), 200)
    try:
        request = submit(agent, priority="P3")
    finally:
        etag = admin.get(RULES).headers["etag"]
        expect(admin.call("PUT", RULES, json={"rules": [], "note": "Test"}, headers={"if-match": etag}), 200)
    assert request["priority"] == "P1"
    of_p3 = decides("p3", {"agents": [agent.agent_id], "priorities": ["P3"]})
    assert tried(admin, [of_p3], [request])["counts"]["approved"] == 1


def test_bridged_requests_are_tried_as_people_see_them(admin, operator, http, stack):
    bearer = Person(http, stack["agent"]["bearer_token"])
    key = f"try-{in_seconds(0)}".replace(":", "-")
    made = expect(bearer.post("/aap/v1/requests", headers={"idempotency-key": key},
                              json={"tool": "refund", "server": "shop", "arguments": {"amount": 20}, "timeout": "1h"}), 201)
    request = {"created_at": made["created_at"]}
    rule = decides("aap", {"action_types": ["shop/refund"], "arguments": {"/amount": {"equals": 20}}})
    trial = tried(admin, [rule], [request])
    assert [example["request_id"] for example in trial["examples"]] == [made["id"]]
    expect(operator.decide(made["id"], "reject", reason="Test"), 201)


def test_a_trial_changes_nothing(agent, admin, operator):
    request = asked_with(agent, amount=1)
    before = admin.get(RULES).json(), operator.detail(request["request_id"])
    tried(admin, [decides("all", {"agents": [agent.agent_id]})], [request])
    assert (admin.get(RULES).json(), operator.detail(request["request_id"])) == before


# ---------------------------------------------------------------- pages


def test_pages_have_each_request_once_and_an_end(agent, admin):
    requests = [asked_with(agent, amount=number) for number in range(7)]
    rule = decides("all", {"agents": [agent.agent_id]})
    seen, cursor, pages = [], None, 0
    while True:
        members = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        trial = tried(admin, [rule], requests, **members)
        assert trial["tried"] <= 3
        seen += [example["request_id"] for example in trial["examples"]]
        pages += 1
        cursor = trial["next_cursor"]
        if cursor is None:
            break
    assert sorted(seen) == sorted(request["request_id"] for request in requests) and pages == 3


def test_the_span_has_its_beginning_and_not_its_end(agent, admin):
    requests = [asked_with(agent, amount=number) for number in range(3)]
    times = [moment(request["created_at"]) for request in requests]
    rules = [decides("all", {"agents": [agent.agent_id]})]
    trial = tried(admin, rules, requests, **{"from": times[0], "to": times[2]})
    assert {example["request_id"] for example in trial["examples"]} == {request["request_id"] for request in requests[:2]}
    long_ago = tried(admin, rules, requests, **{"from": "0001-01-01T00:00:00Z", "to": "1969-12-31T23:59:59Z"})
    assert (long_ago["tried"], long_ago["next_cursor"]) == (0, None)
    far = tried(admin, rules, requests, **{"from": times[0], "to": "9999-12-31T23:59:59Z", "limit": 2000})
    assert far["counts"]["approved"] == 3


def test_a_cursor_of_another_tenant_is_a_place_in_time_and_shows_nothing(agent, admin, http, stack):
    [other] = [Person(http, known["token"]) for known in stack["admins"] if known["tenant"] == "acme"]
    theirs = register_agent(other)
    mine = asked_with(agent, amount=1)
    others = [asked_with(theirs, amount=2) for _ in range(2)]
    rules = [decides("all", {})]
    of_theirs = tried(other, rules, [mine] + others, limit=1)
    ids = {request["request_id"] for request in others}
    assert {example["request_id"] for example in of_theirs["examples"]} < ids and of_theirs["next_cursor"]
    for cursor in (None, of_theirs["next_cursor"]):
        told = tried(admin, rules, [mine] + others, **({"cursor": cursor} if cursor else {}))
        assert [example["request_id"] for example in told["examples"]] == [mine["request_id"]]


def test_trials_at_once_say_the_same(agent, admin):
    requests = [asked_with(agent, amount=number) for number in range(4)]
    rules = [decides("small", {"agents": [agent.agent_id], "arguments": {"/amount": {"lt": 2}}})]
    first, *others = race([lambda: tried(admin, rules, requests) for _ in range(8)])
    assert all(other == first for other in others) and first["counts"]["approved"] == 2


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize("changes, found", [
    ({"more": 1}, {"/more"}),
    ({"note": "Why"}, {"/note"}),
    ({"rules": None}, {"/rules"}),
    ({"rules": {}}, {"/rules"}),
    ({"rules": [asks(str(number), {}) for number in range(1000)]}, {"/rules"}),
    ({"rules": [asks("a", {"arguments": {"/a": {"equals": "x" * 262_144}}})]}, {"/rules"}),
    ({"rules": [asks("a", {"arguments": {"amount": {"gt": 1}}}), asks("b", {"arguments": {"/a~2": {"gt": "much"}}})]},
     {"/rules/0/match/arguments/amount", "/rules/1/match/arguments/~1a~02", "/rules/1/match/arguments/~1a~02/gt"}),
    ({"rules": [{"name": "a"}]}, {"/rules/0/mode", "/rules/0/match", "/rules/0/then"}),
    ({"limit": 0}, {"/limit"}), ({"limit": 2001}, {"/limit"}), ({"limit": -1}, {"/limit"}),
    ({"limit": 1.5}, {"/limit"}), ({"limit": "2000"}, {"/limit"}), ({"limit": 10**15}, {"/limit"}),
    ({"from": in_seconds(1), "to": in_seconds(0)}, {"/to"}),
    ({"from": "yesterday"}, {"/from"}), ({"to": 0}, {"/to"}), ({"to": "2026-11-22T12:00:00+01:00"}, {"/to"}),
    ({"from": None, "to": []}, {"/from", "/to"}),
    ({"cursor": "x"}, {"/cursor"}), ({"cursor": ""}, {"/cursor"}), ({"cursor": 5}, {"/cursor"}),
    ({"cursor": "eyJ0cmllZF90byI6IngifQ"}, {"/cursor"}), ({"cursor": "bnVsbA"}, {"/cursor"}),
    ({"limit": 0, "from": "x", "rules": [{}]},
     {"/limit", "/from", "/rules/0/name", "/rules/0/mode", "/rules/0/match", "/rules/0/then"}),
])
def test_a_trial_is_refused_with_the_place_of_its_faults(admin, changes, found):
    body = {"rules": [], "from": in_seconds(-60), "to": in_seconds(60), "limit": 10} | changes
    assert pointers(expect_problem(admin.post(TRY, json=body), 422, "validation-failed")) == found


def test_what_is_required_is_named_when_it_is_missing(admin):
    problem = expect_problem(admin.post(TRY, json={}), 422, "validation-failed")
    assert pointers(problem) == {"/rules", "/from", "/to"}
    for body in (b"[]", b"null", b'"x"'):
        answer = admin.post(TRY, content=body, headers={"content-type": "application/json"})
        expect_problem(answer, 422, "validation-failed")
    for body in (b"{", b'{"limit":1,"limit":2}'):
        answer = admin.post(TRY, content=body, headers={"content-type": "application/json"})
        expect_problem(answer, 400, "malformed-json")


def test_the_limit_may_be_left_out(admin):
    expect(admin.post(TRY, json={"rules": [], "from": in_seconds(-1), "to": in_seconds(0)}), 200)


def test_a_cursor_of_another_listing_is_refused(agent, admin):
    for _ in range(2):
        submit(agent)
    cursor = expect(admin.get("/v1/admin/log", params={"limit": 1}), 200)["next_cursor"]
    body = {"rules": [], "from": in_seconds(-60), "to": in_seconds(60), "cursor": cursor}
    assert pointers(expect_problem(admin.post(TRY, json=body), 422, "validation-failed")) == {"/cursor"}


def test_pointers_that_lead_nowhere_fail_their_rule(agent, admin):
    request = submit(agent, action={"type": "refund.create", "arguments": {"a": {"b": [1]}}})
    for pointer in ("/x", "/a/x", "/a/b/1", "/a/b/-", "/a/b/01", "/a/b/0/c", "/A"):
        rule = decides("r", {"agents": [agent.agent_id], "arguments": {pointer: {"equals": 1}}})
        assert tried(admin, [rule], [request])["counts"]["failed"] == 1, pointer
    found = decides("r", {"agents": [agent.agent_id], "arguments": {"/a/b/0": {"equals": 1}}})
    assert tried(admin, [found], [request])["counts"]["approved"] == 1


def test_only_administrators_try(operator, agent):
    body = {"rules": [], "from": in_seconds(-60), "to": in_seconds(60)}
    for caller in (operator, agent):
        expect_problem(caller.call("POST", TRY, json=body), 403, "forbidden")


def test_an_answer_is_bounded(agent, admin):
    """300 requests with a rule of the longest name."""
    race([lambda: [submit(agent) for _ in range(30)] for _ in range(10)])
    rules = [decides("r" * 100, {"agents": [agent.agent_id]})]
    body = {"rules": rules, "from": in_seconds(-120), "to": in_seconds(60), "limit": 2000}
    answer = admin.post(TRY, json=body)
    assert expect(answer, 200)["counts"]["approved"] == 300 and len(answer.json()["examples"]) == 100
    assert len(answer.content) < 50_000


def test_envelopes_of_long_arguments_end_a_page_early(agent, admin):
    requests = [asked_with(agent, text="x" * 200_000) for _ in range(90)]
    rules = [decides("all", {"agents": [agent.agent_id]})]
    first = tried(admin, rules, requests)
    assert 0 < first["tried"] < 90
    rest = tried(admin, rules, requests, cursor=first["next_cursor"])
    assert first["tried"] + rest["tried"] == 90 and rest["next_cursor"] is None
