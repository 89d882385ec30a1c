"""The OpenAI Agents SDK, its run state serialised into a file."""

import inspect
import json
from typing import Any

from agents import Agent, Model, ModelResponse, Runner, RunState, function_tool
from play import Plan
from test_openai_agents import QUIET, FakeModel, NestedModel

Result = tuple[bool, list[str]]


class Scripted(FakeModel):
    """The tests' fake model; calls tools until it has results, in any process."""

    async def get_response(self, system_instructions: Any, input: Any, *more: Any, **named: Any) -> ModelResponse:
        items = input if isinstance(input, list) else []
        if any(item.get("type") == "function_call_output" for item in items):
            self.calls = []
        response = await super().get_response(system_instructions, input, *more, **named)
        outputs = [item for item in items if item.get("type") == "function_call_output"]
        self.told = [str(item["output"]) for item in sorted(outputs, key=lambda item: item["call_id"])]
        return response


class Play:
    """One agent, and the model whose last input is what it was told."""

    def __init__(self, plan: Plan, guard: Any, needs_approval: bool = False):
        self.plan = plan

        @function_tool(needs_approval=needs_approval)
        def refund(amount: str) -> str:
            """Refund an amount."""
            return plan.refund(amount)

        self.model: Model = Scripted(*({"amount": amount} for amount in plan.calls))
        self.agent: Any = Agent(name="billing", model=self.model, tools=[guard(refund)])
        if plan.nested:
            self.model = NestedModel()
            self.agent = Agent(name="a", model=self.model, tools=[self.agent.as_tool("billing", "Bills.")])

    async def go(self, settle: Any) -> Result:
        state: Any = "refund"
        if self.plan.resume:
            state = await RunState.from_string(self.agent, self.plan.file("state.json").read_text())
            settle(state)
        done = await Runner.run(self.agent, state, run_config=QUIET)
        if done.interruptions:
            self.plan.file("state.json").write_text(done.to_state().to_string())
            if self.plan.answers and not self.plan.resume:
                state = done.to_state()
                settle(state)
                done = await Runner.run(self.agent, state, run_config=QUIET)
        return bool(done.interruptions), list(getattr(self.model, "told", []))


async def own(plan: Plan) -> Result:
    plan.has_no_deadline("`needs_approval` and `RunState` take no time")
    assert not {"arguments", "input"} & set(inspect.signature(RunState.approve).parameters)
    plan.says("edit", "No edits: `RunState.approve` takes no arguments, and openai-agents-js#1097 was declined.")
    plan.says("respond", "No answers in place of a call: `RunState` has `approve` and `reject` only; a text goes to the model as a rejection's message.")

    def settle(state: Any) -> None:
        for item in state.get_interruptions():
            answer = plan.answer(json.loads(item.arguments)["amount"])
            if answer["decision"] == "approve":
                state.approve(item)
            else:
                state.reject(item, rejection_message=answer["reason"])

    return await Play(plan, lambda tool: tool, needs_approval=True).go(settle)


async def relaytrace(plan: Plan) -> Result:
    from relaytrace import AsyncRelay
    from relaytrace.openai_agents import approved, settle

    async with AsyncRelay(**plan.relay or {}) as relay:
        options: Any = {"interrupts": plan.pause, "timeout": plan.thinks_for, "run_id": plan.run}
        return await Play(plan, lambda tool: approved(relay, tool, **options)).go(settle)


async def aap(plan: Plan) -> Result:
    from agentapprovalprotocol import AsyncClient
    from agentapprovalprotocol.openai_agents import Approvals

    assert plan.aap
    store = plan.file("state.json")
    options: Any = {"timeout": "2s" if plan.deadline else "240h"}
    if plan.pause:
        options |= {"mode": "async", "save": lambda _, text: put(store, text), "load": lambda _: store.read_text()}
    approvals = Approvals(plan.aap["url"], plan.aap["token"], **options)
    play = Play(plan, lambda tool: tool)
    approvals.protect(play.agent)
    if plan.resume and plan.forged:
        state = await RunState.from_string(play.agent, store.read_text())
        for item in state.get_interruptions():
            state.approve(item)
        try:
            await Runner.run(play.agent, state, run_config=QUIET)
        except Exception as refused:
            return False, [str(refused)]
    elif plan.resume:
        # As its receiver does when a webhook comes: with the handle that the request has in its context.
        request = await AsyncClient(plan.aap["url"], plan.aap["token"]).get(plan.aap["request_id"])
        await approvals.resumer(play.agent, run_config=QUIET)({"run_id": plan.run}, request)
    else:
        done = await approvals.run(play.agent, "refund", run_id=plan.run if plan.pause else None, run_config=QUIET)
        return bool(done.interruptions), list(play.model.told)  # type: ignore[attr-defined]
    return False, list(play.model.told)  # type: ignore[attr-defined]


def put(store: Any, text: str) -> None:
    store.write_text(text)
