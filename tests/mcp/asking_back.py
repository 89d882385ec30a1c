"""A server whose tool asks the person at the client before it acts: by a request of its own up to revision 2025-11-25, by
`input_required` from 2026-07-28 on. What it did stands in the file that LEDGER names."""

import os
from typing import Annotated

from mcp.server.mcpserver import AcceptedElicitation, Elicit, ElicitationResult, MCPServer, Resolve
from pydantic import BaseModel

server = MCPServer("asking back")


class Answer(BaseModel):
    word: str


async def asked() -> Elicit[Answer]:
    return Elicit("A word?", Answer)


@server.tool()
async def send(to: str, answer: Annotated[ElicitationResult[Answer], Resolve(asked)]) -> str:
    """Sends, once a word was given."""
    assert isinstance(answer, AcceptedElicitation)
    with open(os.environ["LEDGER"], "a") as ledger:
        ledger.write(f"send {to} {answer.data.word}\n")
    return f"sent to {to}: {answer.data.word}"


if __name__ == "__main__":
    server.run()
