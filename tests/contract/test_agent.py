"""The sample agent: what it takes for an answer, and how long it waits."""

import httpx
import pytest

import agent as sample
from agent import Agent, Unverified
from support import deliver, expect, new_envelope, submit_decided


class Swapping(httpx.HTTPTransport):
    """A proxy that sends each call of the one question as that of the other: the answers are signed over our nonce."""

    def __init__(self, *pairs: tuple[str, str]):
        super().__init__()
        self.pairs = [(one.encode(), other.encode()) for one, other in pairs]

    def swap(self, text: bytes) -> bytes:
        for one, other in self.pairs:
            text = text.replace(one, b"\0").replace(other, one).replace(b"\0", other)
        return text

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url.copy_with(raw_path=self.swap(request.url.raw_path))
        headers = {name: value for name, value in request.headers.items() if name != "content-length"}
        return super().handle_request(
            httpx.Request(request.method, url, headers=headers, content=self.swap(request.read()))
        )


@pytest.fixture
def swapped(agent, operator, stack):
    """The agent behind such a proxy, and its two questions about the same action: one rejected, one approved."""
    rejected = expect(agent.submit(new_envelope(agent.agent_id, client_request_key="question-1")), 201)
    approved = expect(agent.submit(new_envelope(agent.agent_id, client_request_key="question-2")), 201)
    assert rejected["action_digest"] == approved["action_digest"]
    expect(operator.decide(rejected["request_id"], "reject", reason="not this one"), 201)
    expect(operator.decide(approved["request_id"], "approve"), 201)
    transport = Swapping((rejected["request_id"], approved["request_id"]), ("question-1", "question-2"))
    with httpx.Client(base_url=stack["base_url"], transport=transport) as http:
        behind = Agent(http, agent.agent_id, agent.key_id, agent.private_key, "", agent.alg)
        behind.secret = agent.secret
        yield behind, rejected, approved


CALLS = {
    "submit": lambda agent, asked: agent.submit(new_envelope(agent.agent_id, client_request_key="question-1")),
    "view": lambda agent, asked: agent.view(asked["request_id"]),
    "poll": lambda agent, asked: agent.poll(0, [asked["request_id"]]),
    "refused cancel": lambda agent, asked: agent.cancel(asked["request_id"]),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_signed_answer_to_another_question_is_refused(swapped, call):
    behind, rejected, _ = swapped
    with pytest.raises(Unverified, match="answers another question"):
        CALLS[call](behind, rejected)


def test_an_acknowledgement_of_another_question_is_refused(swapped, agent):
    behind, rejected, approved = swapped
    delivery = deliver(agent, approved["request_id"])
    with pytest.raises(Unverified, match="answers another question"):
        behind.acknowledge(delivery | {"request_id": rejected["request_id"]})


def test_a_question_that_was_answered_and_acknowledged_is_not_waited_for(agent, operator, monkeypatch):
    monkeypatch.setattr(sample, "PASSED_OVER_SECONDS", 1)
    submission = submit_decided(agent, operator)
    expect(agent.acknowledge(deliver(agent, submission["request_id"])), 200)
    again = expect(agent.view(submission["request_id"]), 200)
    decision = agent.wait_for_decision(again)
    assert (decision["outcome"], "delivery_id" in decision) == ("approved", False)


def test_nobody_waits_past_the_deadline_and_the_sweep(agent, monkeypatch):
    monkeypatch.setattr(sample, "SWEEP_SECONDS", -10**6)
    monkeypatch.setattr(sample, "LONGEST_WAIT_SECONDS", 0)
    submission = expect(agent.submit(new_envelope(agent.agent_id)), 201)
    with pytest.raises(TimeoutError, match="sweep"):
        agent.wait_for_decision(submission)
