"""A server on the official Python SDK. What its tools did stands in the file that LEDGER names.

python server.py            on standard input and output
python server.py PORT       by streamable HTTP, at http://127.0.0.1:PORT/mcp
"""

import os
import sys

from mcp.server.mcpserver import Context, Image, MCPServer
from mcp_types import ToolAnnotations

server = MCPServer("ledger")


def note(line: str) -> None:
    with open(os.environ["LEDGER"], "a") as ledger:
        ledger.write(line + "\n")


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def balance(account: str) -> str:
    """Says what is in an account."""
    return f"{account}: 7"


@server.tool(annotations=ToolAnnotations(destructive_hint=True))
async def pay(to: str, amount: float, ctx: Context) -> str:
    """Pays."""
    note(f"pay {to} {amount}")
    await ctx.report_progress(1, 2)
    return f"paid {amount} to {to}"


@server.tool()
def refuse(why: str) -> str:
    """Always fails."""
    note(f"refuse {why}")
    raise ValueError(why)


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def picture() -> Image:
    """A picture."""
    return Image(data=bytes(range(256)), format="png")


@server.tool()
def environment() -> list[str]:
    """The names of the variables that this server has."""
    return sorted(os.environ)


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
async def confirm(ctx: Context) -> str:
    """Asks the person at the client."""
    from pydantic import BaseModel

    class Answer(BaseModel):
        word: str

    answer = await ctx.elicit("A word?", Answer)
    return f"{answer.action} {getattr(answer, 'data', None)}"


@server.resource("note://one")
def one() -> str:
    return "a note"


@server.prompt()
def greet(name: str) -> str:
    return f"Greet {name}."


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
    else:
        server.run()
