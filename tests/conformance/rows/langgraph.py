"""LangGraph by LangChain's `create_agent`, with LangGraph's SQLite checkpointer."""

from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.types import Command
from play import ANSWERS, Plan
from test_langchain import FakeModel, results

ASK: Any = {"messages": [{"role": "user", "content": "refund"}]}
Result = tuple[bool, list[str]]


def told(state: Any) -> list[str]:
    """The results in the order of their calls; messages come in any order."""
    found = [message for message in state["messages"] if isinstance(message, ToolMessage)]
    return results({"messages": sorted(found, key=lambda message: message.tool_call_id)})


class Scripted(FakeModel):
    """LangChain's fake model; calls tools until it has results, in any process."""

    messages: Any = iter(())
    calls: list[Any]

    def _generate(self, messages: list[Any], *_: Any, **__: Any) -> ChatResult:
        has_results = any(isinstance(message, ToolMessage) for message in messages)
        said = AIMessage("done") if has_results else AIMessage("", tool_calls=self.calls)
        return ChatResult(generations=[ChatGeneration(message=said)])


def calling(name: str, *arguments: dict[str, str]) -> Scripted:
    calls = [{"name": name, "args": args, "id": f"call-{n}", "type": "tool_call"} for n, args in enumerate(arguments)]
    return Scripted(calls=calls)


def agent(plan: Plan, middleware: Any, saver: Any) -> Any:
    @tool
    def refund(amount: str) -> str:
        """Refund an amount."""
        return plan.refund(amount)

    model = calling("refund", *({"amount": amount} for amount in plan.calls))
    if not plan.nested:
        return create_agent(model, [refund], middleware=[middleware], checkpointer=saver)
    inner = create_agent(model, [refund], middleware=[middleware])

    @tool
    def billing(task: str) -> str:
        """Bill."""
        return "; ".join(told(inner.invoke(ASK)))

    return create_agent(calling("billing", {"task": "refund"}), [billing], checkpointer=saver)


def play(plan: Plan, middleware: Any, decide: Any) -> Result:
    thread: Any = {"configurable": {"thread_id": plan.run}}
    with SqliteSaver.from_conn_string(str(plan.file("checkpoints.sqlite"))) as saver:
        graph = agent(plan, middleware, saver)
        if not plan.resume:
            graph.invoke(ASK, thread)
        state = graph.get_state(thread)
        if state.interrupts and (plan.resume or plan.answers):
            graph.invoke(Command(resume=decide(state.interrupts)), thread)
        elif plan.resume and state.next:
            # After a crash nothing is asked any more, and something is left to do.
            graph.invoke(None, thread)
        state = graph.get_state(thread)
        return bool(state.interrupts), told(state.values)


async def own(plan: Plan) -> Result:
    plan.has_no_deadline("`HumanInTheLoopMiddleware` and `interrupt` take no time")

    def decide(interrupts: Any) -> Any:
        asked = [request for one in interrupts for request in one.value["action_requests"]]
        return {"decisions": [decision(request, plan.answer(request["args"]["amount"])) for request in asked]}

    return play(plan, HumanInTheLoopMiddleware({"refund": {"allowed_decisions": list(ANSWERS)}}), decide)


def decision(request: Any, answer: dict[str, str]) -> Any:
    said = {"type": answer["decision"]}
    if answer["decision"] == "edit":
        return said | {"edited_action": {"name": request["name"], "args": {"amount": answer["amount"]}}}
    text = answer.get("reason") or answer.get("response")
    return said | ({"message": text} if text else {})


def forged(interrupts: Any) -> Any:
    """What an adapter gets from a resume: a value that says yes, whatever was decided."""
    return {one.id: {"decisions": [{"type": "approve"}]} for one in interrupts}


async def relaytrace(plan: Plan) -> Result:
    from relaytrace import Relay
    from relaytrace.langchain import ApprovalMiddleware

    with Relay(**plan.relay or {}) as relay:
        middleware = ApprovalMiddleware(relay, ["refund"], interrupts=plan.pause, timeout=plan.thinks_for)
        return play(plan, middleware, forged)


async def aap(plan: Plan) -> Result:
    from agentapprovalprotocol.langgraph import ApprovalMiddleware

    assert plan.aap
    options: Any = {"mode": "async" if plan.pause else "sync", "timeout": "2s" if plan.deadline else "240h"}
    return play(plan, ApprovalMiddleware(plan.aap["url"], plan.aap["token"], **options), forged)
