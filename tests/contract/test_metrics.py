"""`GET /metrics`: OpenMetrics on a port of its own, with bounded names and values that move."""

import time
import uuid

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from support import deliver, expect, submit, wait_until

pytestmark = pytest.mark.skipif("not stack_is_scraped()", reason="this way of running has several processes or none to scrape")
CALLS = "relaytrace_http_request_duration_seconds"
LABELS = {
    CALLS: {"function", "route", "status"},
    "relaytrace_pending": {"priority"},
    "relaytrace_oldest_pending_seconds": {"priority"},
    "relaytrace_decision_seconds": {"priority", "outcome", "cause"},
    "relaytrace_delivery_seconds": set(),
    "relaytrace_outbox_rows": set(),
    "relaytrace_dead_letters": {"kind"},
    "relaytrace_sweep_seconds": set(),
    "relaytrace_sweep_age_seconds": set(),
    "relaytrace_batch_rows": {"kind"},
    "relaytrace_pool_connections": {"state"},
}


def stack_is_scraped() -> bool:
    from conftest import read_stack

    return bool(read_stack().get("metrics_url"))


@pytest.fixture
def scrape(stack):
    """The families of a scrape, by name."""

    def now() -> dict:
        answer = httpx.get(stack["metrics_url"])
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
        assert answer.text.endswith("\n# EOF\n")
        return {family.name: family for family in text_string_to_metric_families(answer.text)}

    return now


def value(families: dict, family: str, suffix: str = "", **labels) -> float:
    """The sum over all series with these labels."""
    return sum(sample.value for sample in families[family].samples
               if sample.name == family + suffix and labels.items() <= sample.labels.items())


def test_every_name_is_there_with_its_labels(scrape, agent, operator):
    decided = submit(agent)
    expect(operator.decide(decided["request_id"], "approve"), 201)
    deliver(agent, decided["request_id"])
    families = scrape()
    for name, labels in LABELS.items():
        samples = families[name].samples
        assert samples, name
        assert {frozenset(set(sample.labels) - {"le"}) for sample in samples} == {frozenset(labels)}, name
        expected = "gauge" if name.removeprefix("relaytrace_") in {
            "pending", "oldest_pending_seconds", "outbox_rows", "dead_letters", "sweep_age_seconds", "pool_connections",
        } else "histogram"
        assert families[name].type == expected, name
        assert families[name].unit == ("seconds" if name.endswith("_seconds") else ""), name


def test_what_is_done_is_counted(scrape, agent, operator):
    before = scrape()
    submission = submit(agent, priority="P1")
    expect(operator.decide(submission["request_id"], "reject", reason="not now"), 201)
    delivery = deliver(agent, submission["request_id"])
    expect(agent.acknowledge(delivery, "accepted"), 200)
    after = scrape()

    def more(name: str, **labels) -> float:
        return value(after, name, "_count", **labels) - value(before, name, "_count", **labels)

    assert more(CALLS, function="ingest", route="/v1/hitl/requests", status="201") == 1
    assert more(CALLS, function="decide", route="/v1/hitl/requests/{request_id}/decision", status="201") == 1
    assert more(CALLS, function="poll", route="/v1/agents/{agent_id}/decisions/{request_id}/ack", status="200") == 1
    assert more("relaytrace_decision_seconds", priority="P1", outcome="rejected", cause="operator") >= 1
    assert more("relaytrace_delivery_seconds") >= 1
    for kind in ("submit", "decide", "acknowledge"):
        assert more("relaytrace_batch_rows", kind=kind) >= 1, kind


def test_the_time_of_a_decision_is_that_from_its_submission(scrape, agent, operator, wait_for):
    labels = {"priority": "P3", "outcome": "cancelled", "cause": "agent"}

    def seconds() -> float:
        families = scrape()
        return value(families, "relaytrace_decision_seconds", "_sum", **labels)

    before = seconds()
    submission = submit(agent, priority="P3")
    time.sleep(1.2)
    expect(agent.cancel(submission["request_id"]), 200)
    assert seconds() - before >= 1.2


def test_what_stands_in_the_database_is_looked_up(scrape, agent):
    before = value(scrape(), "relaytrace_pending", priority="P2")
    for _ in range(3):
        submit(agent, priority="P2")
    wait_until(lambda: value(scrape(), "relaytrace_pending", priority="P2") >= before + 3 or before >= 10_000)
    assert value(scrape(), "relaytrace_oldest_pending_seconds", priority="P2") > 0
    assert {sample.labels["kind"] for sample in scrape()["relaytrace_dead_letters"].samples} == {
        "delivery", "event", "sweep", "notification"}


def test_no_path_and_no_method_makes_a_series(scrape, http, operator):
    mark = uuid.uuid4().hex
    for _ in range(20):
        # The first part of each is new.
        for path in (f"/{mark}/{uuid.uuid4()}", f"/v1/hitl/{mark}-{uuid.uuid4()}", f"/v1/hitl/requests/{mark}"):
            operator.get(path)
        operator.call(f"BREW{uuid.uuid4().hex[:4]}", "/v1/hitl/requests")
    families = scrape()
    calls = families[CALLS].samples
    assert not any(mark in sample.labels["route"] or "BREW" in str(sample.labels) for sample in calls)
    routes = {sample.labels["route"] for sample in calls}
    assert "none" in routes and "/v1/hitl/requests/{request_id}" in routes
    assert value(families, CALLS, "_count", route="none", status="404") >= 40


def test_it_is_not_on_the_public_port(http, stack):
    assert http.get("/metrics").status_code == 404
    assert httpx.get(stack["metrics_url"].replace("/metrics", "/healthz")).status_code == 404
