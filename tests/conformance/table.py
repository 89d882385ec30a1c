#!/usr/bin/env python3
"""The conformance table: its rows and columns, and the report that is written from the results of a run.

    python3 tests/conformance/table.py            # prints the committed results as a table
    python3 tests/conformance/table.py --write    # writes the report from the committed results

Needs nothing but Python, so that the check runs where no framework is installed.
"""

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs/reports/conformance.json"
REPORT = ROOT / "docs/reports/conformance.md"
VERDICTS = ("pass", "fail", "cannot")


@dataclass(frozen=True)
class Row:
    """A framework with one way of asking. Its program is a function of a module below `rows/`."""

    name: str
    title: str
    kind: str
    """`own`: the framework's own approval and no relay. `relay`: with our adapter. `aap`: with the protocol's adapter."""
    program: str
    """`module:function` of Python, or `file.mjs:function` of Node."""
    packages: tuple[str, ...]
    """What the report says the versions of."""


@dataclass(frozen=True)
class Column:
    name: str
    title: str
    passes: str
    """When a cell passes."""


LANGGRAPH = ("langchain", "langgraph", "langgraph-checkpoint-sqlite")
JS_LANGCHAIN = ("npm:langchain", "npm:@langchain/langgraph")
ROWS = (
    Row("langgraph", "LangGraph: `HumanInTheLoopMiddleware`", "own", "langgraph:own", LANGGRAPH),
    Row("langgraph-relaytrace", "LangGraph + RelayTrace", "relay", "langgraph:relaytrace", LANGGRAPH),
    Row("langgraph-aap", "LangGraph + AAP", "aap", "langgraph:aap", ("agentapprovalprotocol", *LANGGRAPH)),
    Row("openai-agents", "OpenAI Agents: `needs_approval`", "own", "openai_agents:own", ("openai-agents",)),
    Row("openai-agents-relaytrace", "OpenAI Agents + RelayTrace", "relay", "openai_agents:relaytrace", ("openai-agents",)),
    Row("openai-agents-aap", "OpenAI Agents + AAP", "aap", "openai_agents:aap", ("agentapprovalprotocol", "openai-agents")),
    Row("pydantic-ai", "Pydantic AI: `requires_approval`", "own", "pydantic_ai:own", ("pydantic-ai-slim",)),
    Row("pydantic-ai-relaytrace", "Pydantic AI + RelayTrace", "relay", "pydantic_ai:relaytrace", ("pydantic-ai-slim",)),
    Row("pydantic-ai-aap", "Pydantic AI + AAP", "aap", "pydantic_ai:aap", ("agentapprovalprotocol", "pydantic-ai-slim")),
    Row("claude-agent-sdk", "Claude Agent SDK: hook with `defer`", "own", "claude_agent_sdk:own", ("claude-agent-sdk",)),
    Row("claude-agent-sdk-relaytrace", "Claude Agent SDK + RelayTrace", "relay", "claude_agent_sdk:relaytrace", ("claude-agent-sdk",)),
    Row("claude-agent-sdk-aap", "Claude Agent SDK + AAP", "aap", "claude_agent_sdk:aap", ("agentapprovalprotocol", "claude-agent-sdk")),
    Row("ai-sdk", "AI SDK: `user-approval`", "own", "ai.mjs:own", ("npm:ai",)),
    Row("ai-sdk-relaytrace", "AI SDK + RelayTrace", "relay", "ai.mjs:relaytrace", ("npm:ai",)),
    Row("openai-agents-js", "OpenAI Agents for Node: `needsApproval`", "own", "openai-agents.mjs:own", ("npm:@openai/agents",)),
    Row("openai-agents-js-relaytrace", "OpenAI Agents for Node + RelayTrace", "relay", "openai-agents.mjs:relaytrace", ("npm:@openai/agents",)),
    Row("langchain-js", "LangChain for Node: `humanInTheLoopMiddleware`", "own", "langchain.mjs:own", JS_LANGCHAIN),
    Row("langchain-js-relaytrace", "LangChain for Node + RelayTrace", "relay", "langchain.mjs:relaytrace", JS_LANGCHAIN),
    Row("python", "RelayTrace's Python SDK alone", "relay", "plain:relaytrace", ()),
    Row("typescript", "RelayTrace's TypeScript SDK alone", "relay", "plain.mjs:relaytrace", ()),
    Row("mcp-wrap", "MCP server behind `relaytrace mcp wrap`", "relay", "mcp_wrap:relaytrace", ("mcp",)),
)  # fmt: skip

COLUMNS = (
    Column("approve", "approve", "The call runs once, with its own arguments, and the model has its result; with a relay, its success is on record."),
    Column("reject", "reject with reason", "Nothing runs, and the model is told the person's reason."),
    Column("edit", "edit", "A person changes the arguments: the changed call runs once, and nothing else."),
    Column("respond", "respond", "A person answers in place of the call: nothing runs, and the model has the answer."),
    Column("timeout", "time out", "Nobody answers by the deadline: nothing runs, and the model is told that, not that a person said no."),
    Column("parallel", "parallel calls, one rejected", "Of three calls of one turn the second is rejected: the others run once each, and the model has three results, each with its own call."),
    Column("nested", "nested agent", "An agent that is another agent's tool calls the guarded tool: its approved call runs once, and the outer run ends."),
    Column("crash", "crash between approval and end of run", "`kill -9` as the approved tool has begun. The agent is started again and goes on: the tool is not run a second time. With a relay, its record says used, and not how it ended."),
    Column("process", "resume in another process", "The process ends while a person thinks. Another one goes on and runs the approved call once."),
    Column("day8", "resume on day 8", "The same, with 8 days in between: the same question is approved, and runs once."),
    Column("down", "relay down", "Nothing runs, and the model is told that no decision could be had."),
    Column("forged", "forged resume", "The run is resumed as if its call were approved, and nobody has decided: nothing runs."),
    Column("changed", "changed arguments", "The stored arguments are changed after a person has approved: they do not run unapproved."),
)  # fmt: skip


def missing(results: dict) -> list[str]:
    """What a complete set of results would have besides."""
    rows, names = results["rows"], [column.name for column in COLUMNS]
    lacks = [f"row {row.name}" for row in ROWS if row.name not in rows]
    for name, row in rows.items():
        cells = row["cells"]
        lacks += [f"{name}: {column}" for column in names if cells.get(column, {}).get("verdict") not in VERDICTS]
        lacks += [f"{name}: a reason for {column}" for column, cell in cells.items() if cell["verdict"] != "pass" and not cell.get("note")]
    return lacks + [f"no such row: {name}" for name in rows if name not in {row.name for row in ROWS}]


def render(results: dict) -> str:
    """The report. Each cell that is no pass has a note below the table."""
    rows = results["rows"]
    notes: dict[str, int] = {}
    lines = []
    for row in ROWS:
        cells = []
        for column in COLUMNS:
            cell = rows[row.name]["cells"][column.name]
            number = "" if cell["verdict"] == "pass" else f" [{notes.setdefault(cell['note'], len(notes) + 1)}](#notes)"
            cells.append((cell["verdict"] if cell["verdict"] != "fail" else "**fail**") + number)
        lines.append(f"| {row.title} | " + " | ".join(cells) + " |")
    dates = sorted({row["date"] for row in rows.values()})
    found = sorted({(name, version) for row in rows.values() for name, version in row["versions"].items()})
    versions = ", ".join(f"{name.removeprefix('npm:')} {version}{' (npm)' if name.startswith('npm:') else ''}" for name, version in found)
    head = "| agent | " + " | ".join(column.title for column in COLUMNS) + " |"
    said = "\n".join(f"{number}. {note}" for note, number in notes.items())
    situations = "\n".join(f"| {column.title} | {column.passes} |" for column in COLUMNS)
    return f"""# Conformance: who keeps an approval

{INTRODUCTION}
## The table

Played on {' to '.join(dates)} by `make conformance RECORD=1`, with {versions}.

{head}
|{'---|' * (len(COLUMNS) + 1)}
{chr(10).join(lines)}

## Situations

| situation | a cell passes where |
|---|---|
{situations}

## Notes

{said}
"""


INTRODUCTION = """<!-- Written by tests/conformance from conformance.json: change these, not this file. -->

Each cell is a test that ran: an agent on the real framework with a scripted model, in processes of its own, and where there is a
relay the real one, with Postgres and NATS. `pass` and `fail` say what the test saw. `cannot` says that the framework has no way to
express the situation; its note names what was looked at in the package of this version, or what the relay refused in the run.

- The rows with a framework's name and a feature of it show the **framework's own approval by itself**: its state on disk (a
  checkpointer, a serialised run, stored messages), and a person's answer handed to its own resume. These frameworks do not
  promise what some columns ask, such as at most one run; a `fail` says what is left to the application.
- **RelayTrace** rows have the adapter of the same framework; an operator decides at the relay. **AAP** rows have the unmodified
  adapter of PyPI's `agentapprovalprotocol` at the relay's `/aap`, with a timeout of 240 h.
- *Crash*: with a relay a call runs at most once. Killed after its approval was used and before the tool took effect, it does not run
  either; the model is told that nobody knows, and a person may approve it anew.
- *Parallel calls*: LangChain for Node drops the approved calls of a turn in which one is rejected (langchainjs#11437). These cells
  wait in one process. Claude keeps the last of a turn's deferred calls only; a test of the Python SDK has a turn of two that pauses.
- *Relay down* does not apply to a framework by itself: it asks nobody.
- *Day 8*: for a framework by itself the process that resumes has its clock 8 days ahead. With a relay, the relay's stored end of
  the question's key is moved 8 days back, under a timeout policy of 30 days.
- *Changed arguments*: the bytes of the amount are replaced in whatever the framework stored. Where it stores nothing, the next
  process makes the same call with another amount. A framework by itself is told the answer to the call of that id. The AI SDK
  refuses it by the secret that it signs requests for approval with, and OpenAI Agents for Python by a digest of each call in the
  run state, which nothing signs.
- *Forged resume*: the framework's documented way to resume, with a yes that nobody gave. A session of the Claude Agent SDK is
  resumed without an answer: the program's own hook is asked again. A stolen signing key, or a changed program, is not tried.

`make conformance` runs it all beside a stack of its own; `make conformance ROW=langgraph` one row. What a row is made of, and how
to add one: [tests/conformance](../../tests/conformance/README.md).
"""


def plain(results: dict, names: list[str]) -> str:
    """The rows of these names for a terminal."""
    wide = max(len(name) for name in names)
    out = [" " * wide + "  " + " ".join(f"{column.name:8}" for column in COLUMNS)]
    for name in names:
        out.append(f"{name:{wide}}  " + " ".join(f"{results['rows'][name]['cells'].get(column.name, {}).get('verdict', '-'):8}" for column in COLUMNS))
    return "\n".join(out)


def faults() -> list[str]:
    if not RESULTS.exists():
        return [f"{RESULTS.relative_to(ROOT)} is missing: RECORD=1 make conformance"]
    results = json.loads(RESULTS.read_text())
    if lacks := missing(results):
        return [f"{RESULTS.relative_to(ROOT)} lacks {', '.join(lacks)}"]
    if not REPORT.exists() or REPORT.read_text() != render(results):
        return [f"{REPORT.relative_to(ROOT)} is not what its results say: python3 tests/conformance/table.py --write"]
    modules = {path.name for path in (ROOT / "tests/conformance/rows").iterdir()}
    programs = {re.sub(r"^([\w-]+):", r"\1.py:", row.program).split(":")[0] for row in ROWS}
    return [f"there is no tests/conformance/rows/{name}" for name in sorted(programs - modules)]


if __name__ == "__main__":
    if "--write" in sys.argv:
        REPORT.write_text(render(json.loads(RESULTS.read_text())))
    else:
        print(plain(json.loads(RESULTS.read_text()), [row.name for row in ROWS]))
