"""A relay that is away: every adapter runs nothing, and the model is told why."""

from collections.abc import Callable
from typing import Any

import pytest

import test_claude_agent_sdk as claude
import test_langchain as langchain
import test_openai_agents as openai
import test_pydantic_ai as pydantic
from conftest import Agent
from relaytrace import Relay

pytestmark = pytest.mark.short


async def langchain_agent(relay: Relay) -> tuple[list[Any], str]:
    ledger = langchain.Ledger()
    middleware = langchain.ApprovalMiddleware(relay, tools=["refund"])
    graph = langchain.create_agent(langchain.model({"amount": "5"}), [ledger.tool], middleware=[middleware])
    return ledger.ran, langchain.results(await graph.ainvoke(langchain.ASK))[0]


async def openai_agent(relay: Relay) -> tuple[list[Any], str]:
    ledger, model = openai.Ledger(), openai.FakeModel({"amount": "5"})
    assistant = openai.Assistant(name="a", model=model, tools=[openai.approved(relay, ledger.tool)])
    await openai.Runner.run(assistant, "refund", run_config=openai.QUIET)
    return ledger.ran, model.told[0]


async def pydantic_agent(relay: Relay) -> tuple[list[Any], str]:
    ledger, model = pydantic.Ledger(), pydantic.model({"amount": 5})
    assistant = pydantic.Assistant(model, tools=[ledger.refund], capabilities=[pydantic.Approval(relay)])
    done = await assistant.run("refund")
    return ledger.ran, str(done.output)


async def claude_agent(relay: Relay) -> tuple[list[Any], str]:
    denied = await claude.Harness(relay).before("t-1", "ls")
    assert denied["permissionDecision"] == "deny"
    return [], str(denied["permissionDecisionReason"])


@pytest.mark.parametrize("play", [langchain_agent, openai_agent, pydantic_agent, claude_agent])
async def test_nothing_runs_and_the_model_is_told(agent: Agent, play: Callable[[Relay], Any]) -> None:
    with Relay("http://127.0.0.1:1", **agent.settings, patience=0.5) as relay:
        ran, told = await play(relay)
    assert ran == []
    assert told.startswith("Not run: no valid decision could be obtained")
    assert "RELAYTRACE_URL" in told
