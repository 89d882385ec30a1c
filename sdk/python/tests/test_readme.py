"""The examples of the README, run as they are printed."""

import re
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import httpx
import pytest
from agents import Agent as OpenAiAgent
from agents import Runner
from claude_agent_sdk import ClaudeAgentOptions
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from pydantic_ai import Agent as PydanticAgent

import test_claude_agent_sdk as claude
import test_langchain as langchain
import test_openai_agents as openai
import test_pydantic_ai as pydantic
from conftest import ROOT, Agent, Json, People, approve
from relaytrace import AsyncRelay, Relay

README = (ROOT / "sdk/python/README.md").read_text()
# As the agents' guide shows the client, with what it leaves out.
WHOLE = """
from relaytrace import AsyncRelay, Rejected, Relay, TimedOut

relay = Relay.from_env()
with relay.ask(
    "refund.create", {"customer": "88213", "amount": "1240.00"}, title="Refund 1,240 EUR", priority="P2"
) as permit:
    refund(**permit.arguments)


@relay.guard("mail.send", title=lambda to, **_: f"Mail {to}")
def send(to: str, body: str):
    mailed.append((to, body))


send("a@example.com", body="hello")
"""


def examples(heading: str) -> list[str]:
    """The Python below a heading, until the next."""
    section = re.split(r"^#+ ", README.split(f"# {heading}\n", 1)[1], maxsplit=1, flags=re.M)[0]
    return re.findall(r"^```python\n(.*?)^```", section, flags=re.M | re.S)


@pytest.fixture
async def environment(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """What the examples read. Their clients, which live as long as a program, end with the test."""
    made: list[Any] = []

    def kept(make: Any) -> Any:
        made.append(make())
        return made[-1]

    for kind in (Relay, AsyncRelay):
        monkeypatch.setattr(kind, "from_env", partial(kept, kind.from_env))
    for name, value in {"url": agent.stack["base_url"], **agent.settings}.items():
        monkeypatch.setenv(f"RELAYTRACE_{name.upper()}", value)
    yield
    for relay in made:
        closing = relay.close()
        if closing is not None:
            await closing


pytestmark = pytest.mark.usefixtures("environment")


def run(code: str, **known: Any) -> Json:
    names: Json = dict(known)
    exec(compile(code, "README.md", "exec"), names)
    return names


@pytest.mark.parametrize("codes", [examples("A block or a function"), [WHOLE]], ids=["README", "guide"])
@pytest.mark.short
def test_a_block_and_a_function(agent: Agent, people: People, codes: list[str]) -> None:
    ran: list[Json] = []
    mailed: list[Any] = []
    with people.deciding(agent, approve) as seen:
        names = run("\n".join(codes), refund=lambda **arguments: ran.append(arguments), mailed=mailed)
        names["send"]("b@example.com", "hello")
    assert len(ran) == 1
    assert seen[-1]["title"] == "Mail b@example.com"
    assert {people.execution(detail["request_id"]) for detail in seen} == {"succeeded"}


def test_langchain(agent: Agent, people: People) -> None:
    sent = []

    @tool
    def send_mail(to: str) -> str:
        """Send a mail."""
        sent.append(to)
        return "sent"

    call = {"name": "send_mail", "args": {"to": "a"}, "id": "call-1", "type": "tool_call"}
    model = langchain.FakeModel(messages=iter([AIMessage("", tool_calls=[call]), AIMessage("done")]))
    names = run(examples("LangChain")[0], create_agent=create_agent, model=model, tools=[send_mail])
    with people.deciding(agent, approve):
        assert langchain.results(names["agent"].invoke(langchain.ASK)) == ["sent"]
    assert sent == ["a"]


async def test_openai_agents(agent: Agent, people: People) -> None:
    ledger, model = openai.Ledger(), openai.FakeModel({"amount": "5"})
    names = run(examples("OpenAI Agents")[0], Agent=partial(OpenAiAgent, model=model), refund=ledger.tool)
    with people.deciding(agent, approve):
        await Runner.run(names["agent"], "refund", run_config=openai.QUIET)
    assert ledger.ran == ["5"]


async def test_pydantic_ai(agent: Agent, people: People) -> None:
    ledger = pydantic.Ledger()
    names = run(
        examples("Pydantic AI")[0], Agent=PydanticAgent, model=pydantic.model({"amount": 5}), refund=ledger.refund
    )
    with people.deciding(agent, approve):
        await names["agent"].run("refund")
    assert ledger.ran == [5]


async def test_claude_agent_sdk(agent: Agent, people: People) -> None:
    names = run(examples("Claude Agent SDK")[0], ClaudeAgentOptions=ClaudeAgentOptions)
    harness = claude.Harness(agent.relay())
    harness.options = names["options"]
    with people.deciding(agent, approve):
        assert (await harness.before("t-1", "ls"))["permissionDecision"] == "allow"


def test_step_by_step(agent: Agent, people: People) -> None:
    arguments = {"amount": "5"}
    relay: Any = Relay.from_env()
    other = relay.submit("mail.send", {"to": "a"})
    people.decide(other.request_id, "reject", reason="no")
    # The example's loop has no end.
    relay.decisions = partial(relay.decisions, timeout=1)
    keys = httpx.get(f"{agent.stack['base_url']}/.well-known/jwks.json").json()
    with people.deciding(agent, approve):
        names = run(examples("More")[0], relay=relay, arguments=arguments, keys=keys)
    assert people.execution(names["request"].request_id) == "succeeded"
    assert people.detail(other.request_id)["delivery"]["state"] == "acknowledged"
