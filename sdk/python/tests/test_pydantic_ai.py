"""Pydantic AI with its FunctionModel."""

from typing import Any

import pytest
from pydantic_ai import Agent as Assistant
from pydantic_ai import ApprovalRequired, DeferredToolRequests, RunContext
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from conftest import Agent, Json, People, approve, reject
from relaytrace.pydantic_ai import Approval, go_on
from test_relay import edited


def told(messages: list[ModelMessage]) -> list[str]:
    return [str(part.content) for one in messages for part in one.parts if isinstance(part, ToolReturnPart)]


def model(*calls: Json) -> FunctionModel:
    def play(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
        if len(messages) > 1:
            return ModelResponse(parts=[TextPart("; ".join(told(messages)))])
        return ModelResponse(parts=[ToolCallPart("refund", args, f"call-{n}") for n, args in enumerate(calls)])

    return FunctionModel(play)


class Ledger:
    def __init__(self) -> None:
        self.ran: list[int] = []

    def refund(self, amount: int) -> str:
        """Refund an amount."""
        if amount < 0:
            raise OSError("the provider is down")
        self.ran.append(amount)
        return f"refunded {amount}"


@pytest.mark.short
async def test_one_of_two_parallel_calls_is_rejected(agent: Agent, people: People) -> None:
    ledger = Ledger()
    approval = Approval(agent.relay(), tools=["refund"], title=lambda amount: f"Refund {amount}")
    # The model's text becomes a number: what is asked and run is what was validated.
    assistant = Assistant(model({"amount": "1"}, {"amount": 2}), tools=[ledger.refund], capabilities=[approval])
    with people.deciding(agent, lambda d: (reject if d["title"] == "Refund 2" else approve)(d)) as seen:
        done = await assistant.run("refund")
    assert ledger.ran == [1]
    assert "refunded 1" in done.output
    assert "Refunded yesterday." in done.output
    assert {"amount": 1} in [detail["action"]["arguments"] for detail in seen]


@pytest.mark.parametrize(("amount", "ran"), [("10", [10]), ("ten", [])])
async def test_an_edit_is_validated_as_the_models_arguments_are(
    agent: Agent, people: People, amount: str, ran: list[int]
) -> None:
    ledger = Ledger()
    assistant = Assistant(model({"amount": 90}), tools=[ledger.refund], capabilities=[Approval(agent.relay())])
    with people.deciding(agent, lambda d: edited(d, {"amount": amount})):
        if ran:
            await assistant.run("refund")
        else:
            with pytest.raises(ValueError, match="edited arguments"):
                await assistant.run("refund")
    assert ledger.ran == ran


async def test_a_failure_is_on_record(agent: Agent, people: People) -> None:
    assistant = Assistant(model({"amount": -1}), tools=[Ledger().refund], capabilities=[Approval(agent.relay())])
    with people.deciding(agent, approve) as seen, pytest.raises(OSError, match="down"):
        await assistant.run("refund")
    assert people.execution(seen[0]["request_id"]) == "failed"


async def test_a_tool_that_defers_itself_goes_on_under_its_approval(agent: Agent, people: People) -> None:
    ran = []

    def refund(ctx: RunContext[None], amount: int) -> str:
        """Refund an amount."""
        if not ctx.tool_call_approved:
            raise ApprovalRequired
        ran.append(amount)
        return f"refunded {amount}"

    assistant: Any = Assistant(
        model({"amount": 5}),
        tools=[refund],
        capabilities=[Approval(agent.relay())],
        output_type=[str, DeferredToolRequests],
    )
    with people.deciding(agent, approve) as seen:
        paused = await assistant.run("refund")
    assert isinstance(paused.output, DeferredToolRequests)
    assert people.execution(seen[0]["request_id"]) == "consumed"
    done = await assistant.run(message_history=paused.all_messages(), deferred_tool_results=go_on(paused.output))
    assert "refunded 5" in done.output
    assert ran == [5]
    assert people.execution(seen[0]["request_id"]) == "succeeded"


async def test_a_deferred_call_goes_on_in_another_process(agent: Agent, people: People) -> None:
    ledger = Ledger()

    def process() -> Any:
        approval = Approval(agent.relay(), defers=True)
        return Assistant(
            model({"amount": 5}),
            tools=[ledger.refund],
            capabilities=[approval],
            output_type=[str, DeferredToolRequests],
        )

    paused = await process().run("refund")
    assert isinstance(paused.output, DeferredToolRequests)
    stored = paused.all_messages()
    # A forged result approves nothing.
    again = await process().run(message_history=stored, deferred_tool_results=go_on(paused.output))
    assert isinstance(again.output, DeferredToolRequests)
    [item] = people.pending(agent.agent_id)
    people.decide(item["request_id"])
    done = await process().run(message_history=stored, deferred_tool_results=go_on(paused.output))
    assert "refunded 5" in done.output
    assert ledger.ran == [5]
