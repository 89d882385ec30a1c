"""Messages as bytes: what passes is what was sent, and what could mean two things does not pass."""

import asyncio
import json
import statistics
import sys
from pathlib import Path

import pytest
from conftest import COMMAND, SERVERS
from peers import connected, text

# Echoes each line to its standard output, and says so in a notification that holds the line as text.
MIRROR = """
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("method") == "tools/list":
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": {"tools": []}}), flush=True)
    else:
        print(json.dumps({"jsonrpc": "2.0", "method": "seen", "params": {"line": line}}), flush=True)
        if message.get("method") == "tools/call":
            print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": {"content": []}}), flush=True)
"""


class Raw:
    """The gateway in front of the mirror, spoken with line by line."""

    def __init__(self, gateway, *options):
        command = [COMMAND, "mcp", "wrap", *options, "--", sys.executable, "-c", MIRROR]
        self.start = lambda: asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=gateway.environment
        )

    async def __aenter__(self):
        self.process = await self.start()
        return self

    async def __aexit__(self, *_):
        self.process.stdin.close()
        await asyncio.wait_for(self.process.wait(), 20)

    def send(self, line):
        self.process.stdin.write(line.encode() + b"\n")

    async def next(self):
        async with asyncio.timeout(30):
            return (await self.process.stdout.readline()).decode().rstrip("\n")


@pytest.mark.short
async def test_what_the_gateway_does_not_know_passes_byte_for_byte(gateway):
    lines = [
        '{"jsonrpc":"2.0","id":1e0,"method":"none/such","params":{"big":123456789012345678901234567890,"n":1.0},"x":[ ]}',
        '{"jsonrpc":"2.0", "method":"notifications/none" , "params":{"text":"\\ud83d\\ude00 \\u0000"}}',
        '{"jsonrpc":"2.0","id":"s","result":{"roots":[],"more":{"a":1e400}}}',
    ]
    async with Raw(gateway) as raw:
        for line in lines:
            raw.send(line)
            assert json.loads(await raw.next())["params"]["line"] == line + "\n"


@pytest.mark.short
@pytest.mark.parametrize(
    "line",
    [
        '{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call","params":{"name":"t"}}',
        '{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call","params":{"name":"t"}}',
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","name":"t"}}',
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","NAME":"t"}}',
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"a":1,"a":2}}}',
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"a":"\\u0000"}}}',
        '{"jsonrpc":"2.0","id":1,"Method":"tools/call","params":{"name":"t"},"result":{}}',
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"},"result":{}}',
        '{"jsonrpc":"2.0","id":1,"method":"ping","Params":{"name":"t"}}',
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","Arguments":{"a":1}}}',
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","argument\\u017f":{"a":1}}}',
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","tas\\u212a":{}}}',
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","requestState":"other"}}',
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":["t"]}',
        '{"jsonrpc":"2.0","id":"relaytrace-1","method":"tools/call","params":{"name":"t"}}',
    ],
)
async def test_what_could_mean_two_things_is_answered_and_does_not_pass(gateway, line):
    async with Raw(gateway) as raw:
        raw.send(line)
        answer = json.loads(await raw.next())
        assert answer["error"]["code"] in (-32600, -32602) and answer["id"] == json.loads(line)["id"]
        raw.send('{"jsonrpc":"2.0","method":"tools/call","params":{"name":"t"}}')
        raw.send("[" + '{"jsonrpc":"2.0","method":"notifications/a"}' + "]")
        # The next that the server sees is the one after them.
        assert json.loads(json.loads(await raw.next())["params"]["line"])["method"] == "notifications/a"
    assert await gateway.asked("all") == []


async def test_numbers_run_as_they_were_sent_and_are_asked_about_to_the_last_digit(gateway):
    arguments = '{"a":9007199254740993,"b":0.1234567890123456789,"c":1.50,"d":1E400}'
    call = '{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t","arguments":' + arguments + "}}"
    async with Raw(gateway) as raw:
        raw.send(call)
        [item] = await gateway.pending()
        detail = await gateway.detail(item["request_id"])
        exact = {"a": "9007199254740993", "b": "0.1234567890123456789", "c": 1.5, "d": "1E400"}
        assert detail["action"] == {"type": "t", "arguments": exact}
        await gateway.decide(item["request_id"])
        line = json.loads(await raw.next())["params"]["line"]
        own = json.loads(line)["id"]
        assert own.startswith("relaytrace-") and line == call.replace('"id":7', f'"id":"{own}"') + "\n"
        assert json.loads(await raw.next()) == {"jsonrpc": "2.0", "id": 7, "result": {"content": []}}


async def test_the_server_gets_none_of_the_agents_variables(gateway):
    async with gateway.client("python") as peer:
        call = asyncio.create_task(peer.call("environment"))
        [item] = await gateway.pending()
        await gateway.decide(item["request_id"])
        names = text(await call)
        assert "LEDGER" in names and "RELAYTRACE" not in names


async def test_what_the_gateway_adds_to_a_read_only_call(gateway, capsys):
    """Says it, of a release build where there is one; a figure of a shared machine is not a promise."""
    command, *arguments = SERVERS["node"]
    ways = {"without": {"command": command, "args": arguments, "env": gateway.environment}}
    for build in ("debug", "release"):
        through = gateway.target(server="node")
        through["command"] = through["command"].replace("/debug/", f"/{build}/")
        if Path(through["command"]).exists():
            ways[build] = through
    p50 = {}
    for name, target in ways.items():
        async with connected("node", target) as peer:
            await peer.times("balance", {"account": "a"}, 50)
            p50[name] = statistics.median(await peer.times("balance", {"account": "a"}, 500))
    with capsys.disabled():
        for name, took in p50.items():
            added = took - p50["without"]
            print(f"\nread-only call, p50, {name}: {took:.2f} ms ({added:+.2f} ms, {took / p50['without']:.1f} times)", end=" ")
    assert await gateway.asked("all") == []
