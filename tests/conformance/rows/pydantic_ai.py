"""Pydantic AI, its conversation serialised into a file."""

from typing import Any

from play import Plan
from pydantic_ai import Agent, DeferredToolRequests, DeferredToolResults, Tool, ToolApproved, ToolDenied
from pydantic_ai.capabilities import HandleDeferredToolCalls
from pydantic_ai.conversation import ConversationTypeAdapter
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from test_pydantic_ai import model

Result = tuple[bool, list[str]]


def told(messages: list[ModelMessage]) -> list[str]:
    """The results in the order of their calls."""
    parts = [part for message in messages for part in message.parts if isinstance(part, ToolReturnPart)]
    return [str(part.content) for part in sorted(parts, key=lambda part: part.tool_call_id)]


def agent(plan: Plan, guard: dict[str, Any], inline: Any = None) -> Any:
    """The agent; where nested, one whose calls are settled in its own run, and which another agent's tool runs."""

    async def refund(amount: str) -> str:
        """Refund an amount."""
        return plan.refund(amount)

    options: Any = {"tools": [Tool(refund, requires_approval=guard.get("requires_approval", False))]}
    options["capabilities"] = list(guard.get("capabilities", ()))
    scripted = model(*({"amount": amount} for amount in plan.calls))
    if not plan.nested:
        return Agent(scripted, output_type=[str, DeferredToolRequests], **options)
    options["capabilities"] += [HandleDeferredToolCalls(handler=inline)] if inline else []
    inner: Any = Agent(scripted, **options)

    async def billing(task: str) -> str:
        """Bill."""
        return str((await inner.run(task, conversation_id=plan.run)).output)

    def call(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
        heard = told(messages)
        return ModelResponse(parts=[TextPart("; ".join(heard)) if heard else ToolCallPart("billing", {"task": "refund"}, "call-b")])

    return Agent(FunctionModel(call), tools=[billing], output_type=[str, DeferredToolRequests])


async def play(plan: Plan, assistant: Any, settle: Any) -> Result:
    kept = plan.file("conversation.json")
    if plan.resume:
        conversation = ConversationTypeAdapter.validate_json(kept.read_bytes())
        waiting = conversation.deferred_tool_requests
        done = await assistant.run(conversation=conversation, deferred_tool_results=settle(waiting))
    else:
        done = await assistant.run("refund", conversation_id=plan.run)
    if isinstance(done.output, DeferredToolRequests):
        kept.write_bytes(ConversationTypeAdapter.dump_json(done.conversation))
        if plan.answers and not plan.resume:
            done = await assistant.run(conversation=done.conversation, deferred_tool_results=settle(done.output))
    return isinstance(done.output, DeferredToolRequests), told(done.all_messages())


async def own(plan: Plan) -> Result:
    plan.has_no_deadline("`requires_approval` and `DeferredToolRequests` take no time")

    def settle(requests: DeferredToolRequests) -> DeferredToolResults:
        results = DeferredToolResults()
        for call in requests.approvals:
            answer = plan.answer(str(call.args_as_dict()["amount"]))
            if answer["decision"] == "respond":
                results.calls[call.tool_call_id] = answer["response"]
            else:
                results.approvals[call.tool_call_id] = approval(answer)
        return results

    inline = lambda _, requests: settle(requests)  # noqa: E731
    return await play(plan, agent(plan, {"requires_approval": True}, inline), settle)


def approval(answer: dict[str, str]) -> Any:
    if answer["decision"] == "reject":
        return ToolDenied(answer["reason"])
    return ToolApproved(override_args={"amount": answer["amount"]}) if answer["decision"] == "edit" else True


async def relaytrace(plan: Plan) -> Result:
    from relaytrace import AsyncRelay
    from relaytrace.pydantic_ai import Approval, go_on

    async with AsyncRelay(**plan.relay or {}) as relay:
        capability = Approval(relay, ["refund"], defers=plan.pause, timeout=plan.thinks_for)
        return await play(plan, agent(plan, {"capabilities": [capability]}), go_on)


async def aap(plan: Plan) -> Result:
    from agentapprovalprotocol.pydantic_ai import ApprovalCapability

    assert plan.aap
    options: Any = {"mode": "async" if plan.pause else "sync", "timeout": "2s" if plan.deadline else "240h"}
    capability = ApprovalCapability(plan.aap["url"], plan.aap["token"], **options)
    return await play(plan, agent(plan, {"capabilities": [capability]}), lambda waiting: waiting.build_results(approve_all=True))
