"""One tool call in each framework, through the adapter of the package: what ran, and what the model was told.

Each run is the same call of the same run, so that a second one is the same call again.
"""

import asyncio
import contextlib
import json
from typing import Any

from conftest import Relay

Played = tuple[list[str], str]


async def langgraph(relay: Relay, amount: str, **gate: Any) -> Played:
    """Each run ends in a crash after its tool's answer: the next run of the thread plays the same call again."""
    from agentapprovalprotocol.langgraph import ApprovalMiddleware
    from langchain.agents import create_agent
    from langchain.agents.middleware import AgentMiddleware
    from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
    from langchain_core.messages import AIMessage
    from langchain_core.tools import tool
    from langgraph.checkpoint.memory import InMemorySaver

    class FakeModel(GenericFakeChatModel):
        def bind_tools(self, tools: Any, **_: Any) -> Any:
            return self

    class Crash(Exception):
        pass

    class Crashing(AgentMiddleware):
        def wrap_tool_call(self, request: Any, handler: Any) -> Any:
            told.append(str(handler(request).content))
            raise Crash

    ran: list[str] = []
    told: list[str] = []

    @tool
    def refund(amount: str) -> str:
        """Refund an amount."""
        ran.append(amount)
        return f"refunded {amount}"

    call = {"name": "refund", "args": {"amount": amount}, "id": "call-0", "type": "tool_call"}
    thread: Any = {"configurable": {"thread_id": amount}}
    saved = relay.kept.setdefault("langgraph", InMemorySaver())
    asked: Any = None if saved.get(thread) else {"messages": [{"role": "user", "content": "refund"}]}
    middleware = [Crashing(), ApprovalMiddleware(relay.url, relay.token, **gate)]
    model = FakeModel(messages=iter([AIMessage("", tool_calls=[call])]))
    agent = create_agent(model, tools=[refund], middleware=middleware, checkpointer=saved)
    with contextlib.suppress(Crash):
        # In a thread: its blocking gate is the one that most programs use.
        await asyncio.to_thread(agent.invoke, asked, thread)
    [text] = told
    return ran, text


async def openai_agents(relay: Relay, amount: str, **gate: Any) -> Played:
    from agentapprovalprotocol.openai_agents import Approvals
    from agents import Agent, Model, ModelResponse, RunConfig, Runner, Usage, function_tool
    from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

    ran: list[str] = []
    told: list[str] = []

    class FakeModel(Model):
        async def get_response(self, system_instructions: Any, input: Any, *_: Any, **__: Any) -> ModelResponse:
            items = input if isinstance(input, list) else []
            told[:] = [str(item["output"]) for item in items if item.get("type") == "function_call_output"]
            text = ResponseOutputText(text="done", type="output_text", annotations=[])
            said: Any = ResponseOutputMessage(id="m", content=[text], role="assistant", status="completed", type="message")
            if not told:
                said = ResponseFunctionToolCall(
                    name="refund", arguments=json.dumps({"amount": amount}), call_id="call_0", type="function_call"
                )
            return ModelResponse(output=[said], usage=Usage(), response_id=None)

        def stream_response(self, *_: Any, **__: Any) -> Any:
            raise NotImplementedError

    @function_tool
    def refund(amount: str) -> str:
        """Refund an amount."""
        ran.append(amount)
        return f"refunded {amount}"

    agent = Approvals(relay.url, relay.token, **gate).protect(Agent(name="a", model=FakeModel(), tools=[refund]))
    await Runner.run(agent, "refund", run_config=RunConfig(tracing_disabled=True))
    [text] = told
    return ran, text


async def pydantic_ai(relay: Relay, amount: str, **gate: Any) -> Played:
    from agentapprovalprotocol.pydantic_ai import ApprovalCapability
    from pydantic_ai import Agent
    from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
    from pydantic_ai.models.function import AgentInfo, FunctionModel

    ran: list[str] = []

    def refund(amount: str) -> str:
        """Refund an amount."""
        ran.append(amount)
        return f"refunded {amount}"

    def play(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
        told = [str(part.content) for one in messages for part in one.parts if isinstance(part, ToolReturnPart)]
        if told:
            return ModelResponse(parts=[TextPart(told[0])])
        return ModelResponse(parts=[ToolCallPart("refund", {"amount": amount}, "call-0")])

    capability = ApprovalCapability(relay.url, relay.token, **gate)
    agent = Agent(FunctionModel(play), tools=[refund], capabilities=[capability])
    done = await agent.run("refund", conversation_id="conversation-1")
    return ran, done.output


async def claude_agent_sdk(relay: Relay, amount: str, **gate: Any) -> Played:
    """The SDK has no fake model: its hooks are called as it calls them."""
    from agentapprovalprotocol.claude_agent_sdk import ApprovalHooks

    hooks: dict[Any, Any] = ApprovalHooks(relay.url, relay.token, **gate).options().hooks or {}
    given = {"session_id": "s-1", "transcript_path": "/t", "cwd": "/", "tool_name": "refund",
             "tool_input": {"amount": amount}, "tool_use_id": "toolu_0"}

    async def fire(event: str, **more: Any) -> dict:
        [hook] = hooks[event][0].hooks
        return await hook(given | more | {"hook_event_name": event}, "toolu_0", {"signal": None})

    answer = (await fire("PreToolUse"))["hookSpecificOutput"]
    if answer["permissionDecision"] != "allow":
        return [], answer["permissionDecisionReason"]
    await fire("PostToolUse", tool_response=f"refunded {amount}")
    return [amount], f"refunded {amount}"


ALL = [langgraph, openai_agents, pydantic_ai, claude_agent_sdk]
