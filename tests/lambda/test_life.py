"""Life on Lambda: init, sleep, dead connections, several events at once."""

import json
import secrets
import time

import httpx

from agent import verify_response
from runtime_api import call
from support import new_envelope

POLL = "/v1/agents/local-agent/decisions/poll"


def submission(agent) -> dict:
    """An event that submits a new request."""
    envelope = new_envelope(agent.agent_id, client_request_key=f"life-{secrets.token_hex(8)}")
    token = {"authorization": f"Bearer {agent.token()}", "content_type": "application/json"}
    return call("POST", "/v1/hitl/requests", json.dumps(envelope), **token)


def accepted(answer: dict) -> str:
    """The id of the request that was submitted."""
    assert answer["statusCode"] == 201, answer
    return json.loads(answer["body"])["request_id"]


def outbox(database, request_id: str) -> int:
    [count] = database.execute("SELECT count(*) FROM outbox WHERE request_id = %s", [request_id]).fetchone()
    return count


def sleep_for_a_while(environment):
    """Longer than a connection is trusted without asking."""
    environment.freeze()
    time.sleep(1.2)


def test_the_init_phase_connects(start, postgres, nats):
    start("ingest").wait_for_init()
    assert (len(postgres.connections), len(nats.connections)) == (1, 1)


def test_the_init_phase_ends_without_servers_and_they_are_found_later(start, agent, postgres, nats):
    postgres.go_dark()
    nats.go_dark()
    ingest = start("ingest")
    ingest.wait_for_init()
    refused = ingest.invoke(submission(agent))
    assert refused["statusCode"] == 503, refused
    postgres.go_dark(False)
    nats.go_dark(False)
    accepted(ingest.invoke(submission(agent)))


def test_an_event_is_out_before_the_answer_is(start, agent, database):
    ingest = start("ingest")
    ingest.wait_for_init()
    for _ in range(3):
        request_id = accepted(ingest.invoke(submission(agent)))
        ingest.freeze()
        assert outbox(database, request_id) == 0
        ingest.thaw()


def test_a_thawed_function_with_dead_connections_serves_its_first_event(start, agent, postgres, nats, database):
    ingest = start("ingest")
    accepted(ingest.invoke(submission(agent)))
    sleep_for_a_while(ingest)
    postgres.lose_connections()
    nats.lose_connections()
    ingest.thaw()
    # Stored, whatever becomes of its event: that may be for the sweep.
    accepted(ingest.invoke(submission(agent)))
    # The dead connection to NATS was given up with it.
    for _ in range(20):
        if outbox(database, accepted(ingest.invoke(submission(agent)))) == 0:
            break
        time.sleep(0.25)
    else:
        raise AssertionError("events do not go out on a new connection")


def test_nothing_waits_longer_than_an_api_would(start, agent, postgres, nats):
    poll = start("poll")
    poll.wait_for_init()
    postgres.go_dark()
    nats.go_dark()
    token = {"authorization": f"Bearer {agent.token()}"}
    answers = [poll.invoke(call("GET", f"{POLL}?wait_seconds=20", **token)) for _ in range(2)]
    assert [answer["statusCode"] for answer in answers] == [503, 503]
    assert all(answer["headers"]["retry-after"] for answer in answers)


def test_several_events_are_served_at_once(start, agent):
    poll = start("poll", concurrency=4)
    token = {"authorization": f"Bearer {agent.token()}"}
    nobodys = "01900000-0000-7000-8000-000000000000"
    parked = poll.send(call("GET", f"{POLL}?wait_seconds=4&request_id={nobodys}", **token))
    for _ in range(3):
        assert poll.invoke(call("GET", "/readyz"))["statusCode"] == 200
    assert not parked.answered.is_set(), "the parked poll was not parked any more: nothing is shown"
    assert parked.result()["statusCode"] == 200


def test_an_answer_is_signed_over_the_bytes_that_arrive(start, agent):
    event = submission(agent)
    event["headers"]["relaytrace-nonce"] = nonce = secrets.token_urlsafe(16)
    answer = start("ingest").invoke(event)
    request = httpx.Request("POST", "https://api.example.com", headers={"relaytrace-nonce": nonce})
    response = httpx.Response(answer["statusCode"], headers=answer["headers"], text=answer["body"], request=request)
    verify_response(response, agent.key_id, agent.secret)


def metric_lines(output) -> list[tuple[str, dict, object]]:
    """Name, dimensions and value of each line, which is in CloudWatch's embedded metric format."""
    found = []
    for line in output.read_text().splitlines():
        event = json.loads(line)
        assert abs(event["_aws"]["Timestamp"] / 1000 - time.time()) < 60
        [directive] = event["_aws"]["CloudWatchMetrics"]
        assert set(directive) == {"Namespace", "Dimensions", "Metrics"} and directive["Namespace"] == "RelayTrace"
        [dimensions], [metric] = directive["Dimensions"], directive["Metrics"]
        name = metric["Name"]
        assert metric["Unit"] == ("Seconds" if name.endswith("_seconds") else "Count")
        assert set(event) == {"_aws", name, *dimensions}
        assert all(isinstance(event[dimension], str) and event[dimension] for dimension in dimensions)
        values = event[name] if isinstance(event[name], list) else [event[name]]
        assert 1 <= len(values) <= 100 and all(value >= 0 for value in values)
        found.append((name, {dimension: event[dimension] for dimension in dimensions}, event[name]))
    return found


def test_what_is_measured_is_written_before_the_answer(start, agent, tmp_path):
    output = tmp_path / "ingest"
    with output.open("w") as file:
        ingest = start("ingest", output=file)
        for _ in range(2):
            accepted(ingest.invoke(submission(agent)))
    calls = [labels for name, labels, _ in metric_lines(output) if name == "relaytrace_http_request_duration_seconds"]
    assert calls == [{"function": "ingest", "route": "/v1/hitl/requests", "status": "201"}] * 2


def test_the_sweep_writes_what_stands_in_the_database(start, agent, tmp_path):
    accepted(start("ingest").invoke(submission(agent)))
    output = tmp_path / "sweep"
    with output.open("w") as file:
        sweep = start("timeout-sweep", output=file)
        assert "expired" in sweep.invoke({"source": "schedule"})
    lines = metric_lines(output)
    assert {name for name, _, _ in lines} >= {
        "relaytrace_pending", "relaytrace_oldest_pending_seconds", "relaytrace_outbox_rows", "relaytrace_dead_letters",
        "relaytrace_sweep_seconds", "relaytrace_sweep_age_seconds", "relaytrace_pool_connections"}
    pending = {labels["priority"]: value for name, labels, value in lines if name == "relaytrace_pending"}
    assert set(pending) == {"P1", "P2", "P3"} and sum(pending.values()) >= 1


def test_the_sweep_takes_its_schedule_and_authenticates_calls(start, stack):
    sweep = start("timeout-sweep")
    assert "expired" in sweep.invoke({"source": "schedule"})
    path = "/internal/timeout-sweep"
    assert sweep.invoke(call("POST", path))["statusCode"] == 401
    admin = f"Bearer {stack['admin']['token']}"
    assert sweep.invoke(call("POST", path, authorization=admin))["statusCode"] == 200
    by_aws = call("POST", path, authorization="AWS4-HMAC-SHA256 Credential=x", relaytrace_authorization=admin)
    assert sweep.invoke(by_aws)["statusCode"] == 200
    # Not beside anything but a signature of AWS.
    assert sweep.invoke(call("POST", path, relaytrace_authorization=admin))["statusCode"] == 401
