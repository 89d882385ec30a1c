"""A server that makes a task of its own of each call, and says nothing of its end before it is told to.

python puppet.py            on standard input and output

`tasks/get` says what the file STATUS holds, in the form of the call; without the file it cannot say. What each call asked for
as a task stands in the file TASKS; each is kept for a time of the server's own choice (TTL).
"""

import json
import os
import sys
from pathlib import Path

STATELESS = "io.modelcontextprotocol/protocolVersion"
AS_TASK = {"inputSchema": {"type": "object"}, "execution": {"taskSupport": "optional"}}
TOOLS = [{"name": "pay", **AS_TASK}, {"name": "look", "annotations": {"readOnlyHint": True}, **AS_TASK}]
TTL = 60_000
ABLE = {"tools": {}, "tasks": {"cancel": {}, "requests": {"tools": {"call": {}}}}}
TIMES = {"createdAt": "2026-01-01T00:00:00Z", "lastUpdatedAt": "2026-01-01T00:00:00Z"}


def answer(method, params):
    is_stateless = STATELESS in params.get("_meta", {})
    status = Path(os.environ["LEDGER"] + ".status")
    if method == "initialize":
        return {"protocolVersion": "2025-11-25", "serverInfo": {"name": "puppet", "version": "1"}, "capabilities": ABLE}
    if method == "tools/list":
        return {"resultType": "complete", "tools": TOOLS}
    if method == "tools/call":
        with open(os.environ["LEDGER"], "a") as ledger:
            ledger.write(f"{params['name']}\n")
        with open(os.environ["LEDGER"] + ".tasks", "a") as tasks:
            tasks.write(json.dumps(params.get("task")) + "\n")
        made = {"taskId": "s1", "status": "working", **TIMES}
        return {"resultType": "task", **made, "ttlMs": TTL} if is_stateless else {"task": {**made, "ttl": TTL}}
    if method == "tasks/get" and status.exists():
        told = {"taskId": "s1", "status": status.read_text(), **TIMES}
        return {"resultType": "complete", **told, "ttlMs": TTL} if is_stateless else {**told, "ttl": TTL}
    if method in ("tasks/update", "tasks/cancel") and is_stateless:
        return {"resultType": "complete"}
    return None


if __name__ == "__main__":
    for line in sys.stdin:
        message = json.loads(line)
        if "id" in message and "method" in message:
            result = answer(message["method"], message.get("params", {}))
            told = {"result": result} if result else {"error": {"code": -32603, "message": "try again later"}}
            print(json.dumps({"jsonrpc": "2.0", "id": message["id"], **told}), flush=True)
