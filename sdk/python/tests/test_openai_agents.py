"""The OpenAI Agents SDK, with a model of the kind that its own tests use."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from agents import Agent as Assistant
from agents import Model, ModelResponse, RunConfig, Runner, RunState, Usage, function_tool
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

from conftest import Agent, Json, People, approve, reject
from relaytrace import AsyncRelay
from relaytrace.openai_agents import approved, settle
from test_relay import edited

QUIET = RunConfig(tracing_disabled=True)


class FakeModel(Model):
    """Plays turns: calls first, then a last word. Keeps what it was told."""

    def __init__(self, *calls: Json):
        self.calls: list[Json] = list(calls)
        self.told: list[str] = []

    async def get_response(self, system_instructions: Any, input: Any, *_: Any, **__: Any) -> ModelResponse:
        items = input if isinstance(input, list) else []
        self.told = [str(item["output"]) for item in items if item.get("type") == "function_call_output"]
        output: list[Any] = [_call(n, args) for n, args in enumerate(self.calls)] or [_message("done")]
        self.calls = []
        return ModelResponse(output=output, usage=Usage(), response_id=None)

    def stream_response(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        raise NotImplementedError


def _call(number: int, args: Json) -> ResponseFunctionToolCall:
    return ResponseFunctionToolCall(
        name="refund", arguments=json.dumps(args), call_id=f"call_{number}", type="function_call"
    )


def _message(text: str) -> ResponseOutputMessage:
    part = ResponseOutputText(text=text, type="output_text", annotations=[])
    return ResponseOutputMessage(id="m", content=[part], role="assistant", status="completed", type="message")


class Ledger:
    def __init__(self) -> None:
        self.ran: list[str] = []

        @function_tool
        def refund(amount: str) -> str:
            """Refund an amount."""
            if amount == "broken":
                raise OSError("the provider is down")
            self.ran.append(amount)
            return f"refunded {amount}"

        self.tool = refund


@pytest.mark.short
async def test_one_of_two_parallel_calls_is_rejected(agent: Agent, people: People) -> None:
    ledger, model = Ledger(), FakeModel({"amount": "1"}, {"amount": "2"})
    async with agent.async_relay() as relay:
        tool = approved(relay, ledger.tool, title=lambda amount: f"Refund {amount}")
        with people.deciding(agent, lambda d: (reject if d["title"] == "Refund 2" else approve)(d)):
            done = await Runner.run(Assistant(name="a", model=model, tools=[tool]), "refund", run_config=QUIET)
    assert done.final_output == "done"
    assert ledger.ran == ["1"]
    assert model.told[0] == "refunded 1"
    assert "Refunded yesterday." in model.told[1]


async def test_an_edit_runs_though_the_sdk_has_none(agent: Agent, people: People) -> None:
    ledger, model = Ledger(), FakeModel({"amount": "90"})
    with agent.relay() as relay, people.deciding(agent, lambda d: edited(d, {"amount": "10"})):
        tool = approved(relay, ledger.tool)
        await Runner.run(Assistant(name="a", model=model, tools=[tool]), "refund", run_config=QUIET)
    assert ledger.ran == ["10"]
    assert model.told == ["refunded 10"]


async def test_a_failure_that_the_sdk_makes_a_text_of_is_on_record(agent: Agent, people: People) -> None:
    model = FakeModel({"amount": "broken"})
    with agent.relay() as relay, people.deciding(agent, approve) as seen:
        tool = approved(relay, Ledger().tool)
        await Runner.run(Assistant(name="a", model=model, tools=[tool]), "refund", run_config=QUIET)
    assert model.told == ["An error occurred while running the tool. Please try again."]
    assert people.execution(seen[0]["request_id"]) == "failed"


async def test_an_interrupted_run_goes_on_in_another_process(agent: Agent, people: People) -> None:
    ledger, model = Ledger(), FakeModel({"amount": "5"})

    def assistant() -> Any:
        tool = approved(agent.relay(), ledger.tool, interrupts=True, timeout=0)
        return Assistant(name="a", model=model, tools=[tool])

    paused = await Runner.run(assistant(), "refund", run_config=QUIET)
    assert len(paused.interruptions) == 1
    stored = paused.to_state().to_string()
    [item] = people.pending(agent.agent_id)
    people.decide(item["request_id"])
    here = assistant()
    state = await RunState.from_string(here, stored)
    settle(state)
    done = await Runner.run(here, state, run_config=QUIET)
    assert done.final_output == "done"
    assert ledger.ran == ["5"]
    assert people.execution(item["request_id"]) == "succeeded"


async def test_a_relay_that_is_down_pauses_no_run(agent: Agent) -> None:
    """The model is told; a person could not answer what was never asked."""
    ledger, model = Ledger(), FakeModel({"amount": "5"})
    async with AsyncRelay("http://127.0.0.1:1", **agent.settings, patience=0.2) as relay:
        tool = approved(relay, ledger.tool, interrupts=True, timeout=0)
        done = await Runner.run(Assistant(name="a", model=model, tools=[tool]), "refund", run_config=QUIET)
    assert not done.interruptions
    assert "no valid decision could be obtained" in model.told[0]
    assert ledger.ran == []


class NestedModel(FakeModel):
    """Calls `billing` once, and then says what it heard."""

    async def get_response(self, system_instructions: Any, input: Any, *_: Any, **__: Any) -> ModelResponse:
        items = input if isinstance(input, list) else []
        self.told = [str(item["output"]) for item in items if item.get("type") == "function_call_output"]
        said = _message("; ".join(self.told))
        call = ResponseFunctionToolCall(
            name="billing", arguments='{"input": "refund"}', call_id="call_b", type="function_call"
        )
        return ModelResponse(output=[said] if self.told else [call], usage=Usage(), response_id=None)


async def test_an_agent_as_a_tool_goes_on_after_its_own_interrupt(agent: Agent, people: People) -> None:
    ledger, relay = Ledger(), agent.async_relay()
    refund = approved(relay, ledger.tool, interrupts=True, timeout=0)
    inner = Assistant(name="billing", model=FakeModel({"amount": "5"}), tools=[refund])
    outer = approved(relay, inner.as_tool("billing", "Bills."))
    assistant = Assistant(name="a", model=NestedModel(), tools=[outer])

    with people.deciding(agent, lambda d: approve(d) if d["action"]["type"] == "billing" else ("wait", {})) as seen:
        paused = await Runner.run(assistant, "refund", run_config=QUIET)
    assert [one.name for one in paused.interruptions] == ["refund"]
    assert people.execution(seen[0]["request_id"]) == "consumed"
    [item] = people.pending(agent.agent_id)
    people.decide(item["request_id"])
    state = paused.to_state()
    settle(state)
    done = await Runner.run(assistant, state, run_config=QUIET)
    assert ledger.ran == ["5"]
    assert done.final_output == "done"
    assert people.execution(seen[0]["request_id"]) == "succeeded"
    await relay.close()


async def test_a_tool_that_is_cancelled_reports_nothing(agent: Agent, people: People) -> None:
    started = asyncio.Event()

    @function_tool
    async def refund(amount: str) -> str:
        """Refund an amount."""
        started.set()
        await asyncio.sleep(3600)
        return amount

    tool = approved(agent.relay(), refund)
    assistant = Assistant(name="a", model=FakeModel({"amount": "5"}), tools=[tool])
    with people.deciding(agent, approve) as seen:
        run = asyncio.create_task(Runner.run(assistant, "refund", run_config=QUIET))
        await started.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
    assert people.execution(seen[0]["request_id"]) == "consumed"


async def test_a_forged_approval_in_the_state_runs_nothing(agent: Agent, people: People) -> None:
    ledger, model = Ledger(), FakeModel({"amount": "5"})
    tool = approved(agent.relay(), ledger.tool, interrupts=True, timeout=0)
    assistant = Assistant(name="a", model=model, tools=[tool])
    paused = await Runner.run(assistant, "refund", run_config=QUIET)
    state = paused.to_state()
    settle(state)
    await Runner.run(assistant, state, run_config=QUIET)
    assert ledger.ran == []
    assert model.told[0].startswith("Not run yet: ")
