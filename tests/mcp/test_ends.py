"""What ends with what: the gateway, its server, its client."""

import asyncio
import signal
import sys

import pytest
from conftest import SERVERS, is_open, until
from peers import connected

PAY = ("pay", {"to": "maria", "amount": 12.5})
# Says its number, and ignores the end of its input and SIGTERM.
STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('{"jsonrpc":"2.0","method":"started","params":{"pid":%d}}' % os.getpid(), flush=True)
while True:
    time.sleep(60)
"""


async def started(gateway, *command):
    pipe = asyncio.subprocess.PIPE
    wrap = [*gateway.wrap()[:5], "--", *command]
    return await asyncio.create_subprocess_exec(*wrap, stdin=pipe, stdout=pipe, stderr=pipe, env=gateway.environment)


def is_alive(pid):
    from pathlib import Path

    return Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("how", ["its client", signal.SIGTERM, signal.SIGINT])
async def test_a_server_ends_with_the_gateway_however_stubborn(gateway, how):
    import json

    process = await started(gateway, sys.executable, "-c", STUBBORN)
    pid = json.loads(await process.stdout.readline())["params"]["pid"]
    assert is_alive(pid)
    process.stdin.close() if how == "its client" else process.send_signal(how)
    assert await asyncio.wait_for(process.wait(), 20) == 0
    assert not is_alive(pid)


@pytest.mark.short
async def test_a_server_that_ends_ends_the_gateway_and_one_that_is_none_is_said(gateway):
    process = await started(gateway, sys.executable, "-c", "raise SystemExit(3)")
    out, err = await asyncio.wait_for(process.communicate(), 20)
    assert (process.returncode, out) == (1, b"") and b"the server has ended: exit status: 3" in err
    process = await started(gateway, "/none/such")
    out, err = await asyncio.wait_for(process.communicate(), 20)
    assert (process.returncode, out) == (1, b"") and b"cannot be started" in err


async def test_only_clients_of_this_machine_are_served(gateway):
    import httpx

    refused = gateway.start(*gateway.wrap("--listen", "0.0.0.0:0"))
    assert await asyncio.to_thread(refused.wait, 20) == 1
    url = await gateway.serving(*gateway.wrap("--listen", "127.0.0.1:PORT"))
    body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}
    # A connection for each: one whose body was refused unread is closed.
    async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_keepalive_connections=0)) as http:
        for headers in ({"host": "evil.example"}, {"origin": "https://evil.example"}, {"origin": "null"}):
            assert (await http.post(url, json=body, headers=headers)).status_code == 403, headers
        assert (await http.post(url, json=body, headers={"mcp-session-id": "none"})).status_code != 404
        ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        assert (await http.post(url, json=ping, headers={"mcp-session-id": "none"})).status_code == 404
        assert (await http.post(url, json=ping)).status_code == 400


async def test_a_server_at_an_address_that_is_gone_is_an_error_and_nothing_runs(gateway):
    url = await gateway.serving(*SERVERS["python"], "PORT")
    server = gateway.processes[-1]
    async with connected("python", gateway.target(url=url)) as peer:
        call = asyncio.create_task(peer.call(*PAY))
        [item] = await gateway.pending()
        server.terminate()
        await asyncio.to_thread(server.wait, 20)
        assert not is_open(int(url.split(":")[2].split("/")[0]))
        await gateway.decide(item["request_id"])
        with pytest.raises(BaseException, match="cannot be reached"):
            await call
    await until(lambda: gateway.detail(item["request_id"]), lambda it: it["execution"] == "failed")
    assert gateway.done() == []
