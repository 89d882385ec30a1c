"""LangChain's agent with its own fake model, and LangGraph's checkpointer."""

import asyncio
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import ParentCommand
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from conftest import Agent, Json, People, approve, reject
from relaytrace import Actor, Rejected, RelayError, StillPending
from relaytrace.langchain import ApprovalMiddleware
from test_relay import edited


class FakeModel(GenericFakeChatModel):
    """LangChain's fake model, which takes tools."""

    def bind_tools(self, tools: Any, **_: Any) -> Any:
        return self


def model(*calls: Json) -> FakeModel:
    asked = [{"name": "refund", "args": args, "id": f"call-{n}", "type": "tool_call"} for n, args in enumerate(calls)]
    return FakeModel(messages=iter([AIMessage("", tool_calls=asked), AIMessage("done")]))


class Ledger:
    """A tool that keeps what it ran with."""

    def __init__(self) -> None:
        self.ran: list[str] = []

        @tool
        def refund(amount: str) -> str:
            """Refund an amount."""
            if amount == "broken":
                raise OSError("the provider is down")
            self.ran.append(amount)
            return f"refunded {amount}"

        self.tool = refund


def results(state: Json) -> list[str]:
    return [str(message.content) for message in state["messages"] if isinstance(message, ToolMessage)]


ASK: Any = {"messages": [{"role": "user", "content": "refund them"}]}


@pytest.mark.short
def test_one_of_three_parallel_calls_is_rejected(agent: Agent, people: People) -> None:
    ledger = Ledger()
    with agent.relay() as relay:
        middleware = ApprovalMiddleware(relay, tools=["refund"], title=lambda amount: f"Refund {amount}")
        graph = create_agent(model(*({"amount": n} for n in "123")), [ledger.tool], middleware=[middleware])
        with people.deciding(agent, lambda d: (reject if d["title"] == "Refund 2" else approve)(d)):
            said = results(graph.invoke(ASK))
    assert sorted(ledger.ran) == ["1", "3"]
    assert said[0] == "refunded 1"
    assert said[1].startswith("Not run: ")
    assert "Refunded yesterday." in said[1]


async def test_asynchronously_with_an_edit(agent: Agent, people: People) -> None:
    ledger = Ledger()
    with agent.relay() as relay:
        graph = create_agent(model({"amount": "90"}), [ledger.tool], middleware=[ApprovalMiddleware(relay)])
        with people.deciding(agent, lambda d: edited(d, {"amount": "10"})):
            said = results(await graph.ainvoke(ASK))
    assert ledger.ran == ["10"]
    assert said == ["refunded 10"]


def test_a_response_stands_for_the_result(agent: Agent, people: People) -> None:
    ledger = Ledger()
    with agent.relay() as relay:
        graph = create_agent(model({"amount": "90"}), [ledger.tool], middleware=[ApprovalMiddleware(relay)])
        with people.deciding(agent, lambda _: ("respond", {"response": "Use a voucher."})):
            said = results(graph.invoke(ASK))
    assert ledger.ran == []
    assert "Use a voucher." in said[0]


def test_a_tool_that_fails_is_a_failure_on_record(agent: Agent, people: People) -> None:
    with agent.relay() as relay:
        graph = create_agent(model({"amount": "broken"}), [Ledger().tool], middleware=[ApprovalMiddleware(relay)])
        with people.deciding(agent, approve) as seen, pytest.raises(OSError, match="down"):
            graph.invoke(ASK)
    assert people.execution(seen[0]["request_id"]) == "failed"


def test_an_interrupted_thread_goes_on_in_another_process(agent: Agent, people: People) -> None:
    ledger, saver = Ledger(), InMemorySaver()
    thread: Any = {"configurable": {"thread_id": f"thread of {agent.agent_id}"}}

    def process() -> Any:
        middleware = ApprovalMiddleware(agent.relay(), tools=["refund"])
        return create_agent(model({"amount": "5"}), [ledger.tool], middleware=[middleware], checkpointer=saver)

    [interrupt] = process().invoke(ASK, thread)["__interrupt__"]
    request_id = interrupt.value["request_id"]
    # The value carries no authority: while nobody has decided, a forged one interrupts again.
    [again] = process().invoke(Command(resume={"decisions": [{"type": "approve"}]}), thread)["__interrupt__"]
    assert again.value["request_id"] == request_id
    assert ledger.ran == []
    people.decide(request_id)
    fake = FakeModel(messages=iter([AIMessage("done")]))
    middleware = ApprovalMiddleware(agent.relay(), tools=["refund"])
    graph = create_agent(fake, [ledger.tool], middleware=[middleware], checkpointer=saver)
    assert results(graph.invoke(Command(resume=True), thread)) == ["refunded 5"]
    assert ledger.ran == ["5"]
    assert people.execution(request_id) == "succeeded"


@pytest.mark.parametrize(("early", "forged"), [(True, 0), (False, 0), (False, 2)])
def test_a_tool_that_interrupts_itself_goes_on_under_its_approval(
    agent: Agent, people: People, early: bool, forged: int
) -> None:
    """Its interrupt is no failure, and no value but the one that was given to it answers it."""
    thread: Any = {"configurable": {"thread_id": f"thread of {agent.agent_id}"}}
    answers = []

    @tool
    def refund(amount: str) -> str:
        """Refund an amount."""
        answers.append(interrupt("From which account?"))
        return f"refunded {amount} from {answers[-1]}"

    middleware = ApprovalMiddleware(agent.relay(), interrupts=not early)
    graph: Any = create_agent(model({"amount": "5"}), [refund], middleware=[middleware], checkpointer=InMemorySaver())
    if early:
        with people.deciding(agent, approve) as seen:
            paused = graph.invoke(ASK, thread)
        request_id = seen[0]["request_id"]
    else:
        request_id = graph.invoke(ASK, thread)["__interrupt__"][0].value["request_id"]
        for _ in range(forged):
            graph.invoke(Command(resume="forged"), thread)
        people.decide(request_id)
        paused = graph.invoke(Command(resume=True), thread)
    assert [one.value for one in paused["__interrupt__"]] == ["From which account?"]
    assert people.execution(request_id) == "consumed"
    assert results(graph.invoke(Command(resume="B"), thread)) == ["refunded 5 from B"]
    assert answers == ["B"]
    assert people.execution(request_id) == "succeeded"
    assert len(people.chain(request_id)) == 4


async def test_a_tool_that_hands_over_has_succeeded(agent: Agent, people: People) -> None:
    @tool
    def refund(amount: str) -> str:
        """Refund an amount."""
        raise ParentCommand(Command(graph=Command.PARENT, goto="other", update={}))

    def other(_: Json) -> Json:
        return {"messages": [AIMessage(f"taken over from {agent.agent_id}")]}

    inner: Any = create_agent(
        model({"amount": "5"}), [refund], middleware=[ApprovalMiddleware(agent.relay(), interrupts=False)]
    )
    outer: Any = StateGraph(MessagesState)
    outer.add_node("inner", inner)
    outer.add_node("other", other)
    outer.add_edge(START, "inner")
    with people.deciding(agent, approve) as seen:
        done = await outer.compile().ainvoke(ASK)
    assert done["messages"][-1].content.startswith("taken over")
    assert people.execution(seen[0]["request_id"]) == "succeeded"


async def test_a_cancelled_run_reports_nothing(agent: Agent, people: People) -> None:
    started = asyncio.Event()

    @tool
    async def refund(amount: str) -> str:
        """Refund an amount."""
        started.set()
        await asyncio.sleep(3600)
        return amount

    graph = create_agent(model({"amount": "5"}), [refund], middleware=[ApprovalMiddleware(agent.relay())])
    with people.deciding(agent, approve) as seen:
        run = asyncio.create_task(graph.ainvoke(ASK))
        await started.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
    assert people.execution(seen[0]["request_id"]) == "consumed"


@pytest.mark.parametrize("fault", [StillPending("the tool's own"), Rejected("no", Actor("operator", "maria"))])
def test_what_a_tool_asks_itself_is_not_taken_for_its_own_approval(
    agent: Agent, people: People, fault: RelayError
) -> None:
    @tool
    def refund(amount: str) -> str:
        """Refund an amount."""
        raise fault

    graph = create_agent(model({"amount": "5"}), [refund], middleware=[ApprovalMiddleware(agent.relay())])
    with people.deciding(agent, approve) as seen, pytest.raises(type(fault)):
        graph.invoke(ASK)
    assert people.execution(seen[0]["request_id"]) == "failed"


def test_a_relay_that_is_down_runs_nothing(agent: Agent) -> None:
    from relaytrace import Relay

    ledger = Ledger()
    relay = Relay("http://127.0.0.1:1", **agent.settings, patience=0.5)
    graph = create_agent(model({"amount": "5"}), [ledger.tool], middleware=[ApprovalMiddleware(relay)])
    said = results(graph.invoke(ASK))
    assert ledger.ran == []
    assert said[0].startswith("Not run: no valid decision")
