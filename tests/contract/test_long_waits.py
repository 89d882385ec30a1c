"""What takes up to a minute: started before all other tests, looked at after them."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from support import deliver, expect, expect_problem, instant, register_agent, submit_decided

LONGEST_WAIT_SECONDS = 55


@pytest.fixture(scope="session")
def abandoned(admin, operator):
    """Two agents, each with a decision that was delivered and then left alone."""
    leases = []
    for _ in range(2):
        agent = register_agent(admin)
        leases.append((agent, deliver(agent, submit_decided(agent, operator)["request_id"])))
    return leases


@pytest.fixture(scope="session")
def parked(admin):
    """The answer to a poll that asked to wait for longer than any may, with nothing to wait for."""
    agent = register_agent(admin)
    pool = ThreadPoolExecutor(1)
    yield pool.submit(
        lambda: agent.call("GET", f"{agent.path}/decisions/poll", params={"wait_seconds": 900}, timeout=70)
    )
    pool.shutdown()


def wait_for_lease_end(delivery: dict) -> None:
    time.sleep(max(0, instant(delivery["lease_expires_at"]).timestamp() - time.time()) + 0.05)


@pytest.mark.first
def test_a_lease_lasts_half_a_minute(abandoned, parked):
    for agent, delivery in abandoned:
        assert 20 < instant(delivery["lease_expires_at"]).timestamp() - time.time() <= 31
        assert agent.poll()["decisions"] == []
    assert not parked.done()


@pytest.mark.last
def test_a_longer_wait_than_55_seconds_is_clamped(parked):
    response = parked.result(timeout=LONGEST_WAIT_SECONDS + 10)
    assert expect(response, 200)["decisions"] == []
    assert LONGEST_WAIT_SECONDS - 1 < response.elapsed.total_seconds() < LONGEST_WAIT_SECONDS + 3


@pytest.mark.last
def test_the_latest_delivery_is_good_even_after_its_lease(abandoned):
    agent, delivery = abandoned[0]
    wait_for_lease_end(delivery)
    assert expect(agent.acknowledge(delivery), 200)["state"] == "acknowledged"
    assert agent.poll()["decisions"] == []


@pytest.mark.last
def test_what_nobody_acknowledged_is_delivered_again(abandoned):
    agent, delivery = abandoned[1]
    wait_for_lease_end(delivery)
    again = deliver(agent, delivery["request_id"], wait_seconds=10)
    assert again["attempt"] == 2
    assert again["delivery_id"] != delivery["delivery_id"]
    expect_problem(agent.acknowledge(delivery), 409, "stale-delivery")
    assert expect(agent.acknowledge(again), 200)["state"] == "acknowledged"
