"""A server on the official MCP SDK behind `relaytrace mcp wrap`, and a client of the same SDK.

    HANG=… python mcp_wrap.py FOLDER    the server, as the gateway starts it
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT / "tests/conformance"), str(ROOT / "tests/mcp")]

from play import Cannot, Plan  # noqa: E402


async def relaytrace(plan: Plan) -> tuple[bool, list[str]]:
    from peers import Python, text

    if plan.nested:
        raise Cannot("No agents: MCP has calls only, and the gateway asks about those of a nested agent as about any other.")
    relay = plan.relay or {}
    names = {"url": "URL", "agent_id": "AGENT_ID", "token": "TOKEN", "response_secret": "RESPONSE_SECRET"}
    command = [str(ROOT / "target/debug/relaytrace"), "mcp", "wrap", "--server", "bank", "--edit", "--respond"]
    command += ["--hold", "2s" if plan.pause and not plan.resume else "25s", "--", sys.executable, __file__, str(plan.folder)]
    environment = {f"RELAYTRACE_{name}": relay[member] for member, name in names.items()}
    # Not as an argument: a server with another command line is another one, and its calls are other questions.
    environment |= {"PATH": os.environ["PATH"], "HOME": str(plan.folder), "HANG": str(plan.hang)}
    target = {"command": command[0], "args": command[1:], "env": environment}
    async with Python.connected(target, "legacy", elicits=False) as client:
        results: Any = await asyncio.gather(*(client.call("refund", {"amount": amount}) for amount in plan.calls))
    pending = [result.get("_meta", {}).get("relaytrace/status") == "pending" for result in results]
    return any(pending), [text(result) for result in results]


def serve(folder: str) -> None:
    from mcp.server.mcpserver import MCPServer

    server = MCPServer("bank")
    plan = Plan(Path(folder), "", [], hang=os.environ["HANG"] == "True")

    @server.tool(structured_output=False)  # a person can answer in place of it
    def refund(amount: str) -> str:
        """Refund an amount."""
        return plan.refund(amount)

    server.run()


if __name__ == "__main__":
    serve(*sys.argv[1:])
