"""Limits of the gateway, each with as much as it allows and one more."""

import asyncio
import contextlib

from conftest import until
from test_hostile import Puppet

MOST_CALLS = 1_000
AT_ONCE = 50


@contextlib.asynccontextmanager
async def approved(gateway):
    """A rule approves whatever this test's agent asks."""
    standing = await gateway.admin("GET", "/v1/admin/rules")
    rule = {
        "name": gateway.agent_id,
        "mode": "enforce",
        "match": {"agents": [gateway.agent_id]},
        "then": {"decide": "approve", "reason": "All of it."},
    }
    headers = {"authorization": f"Bearer {gateway.stack['admin']['token']}", "if-match": f'"{standing["version"]}"'}
    saved = await gateway.http.put("/v1/admin/rules", json={"rules": [rule], "note": "MCP"}, headers=headers)
    assert saved.is_success, saved.text
    try:
        yield
    finally:
        headers["if-match"] = saved.headers["etag"]
        await gateway.http.put("/v1/admin/rules", json={"rules": standing["rules"], "note": "As before"}, headers=headers)


async def run(gateway, puppet, numbers):
    """The server has these calls, a few at a time, and answers none."""
    for first in range(numbers.start, numbers.stop, AT_ONCE):
        last = min(first + AT_ONCE, numbers.stop)
        for number in range(first, last):
            puppet.call(number, arguments={"to": "maria", "amount": number})
        await until(lambda: asyncio.sleep(0, len(gateway.done())), lambda done: done == last, 120)


async def test_calls_that_a_server_leaves_running_have_a_limit_and_one_that_ends_makes_room(gateway):
    async with approved(gateway), Puppet(gateway) as puppet:
        await run(gateway, puppet, range(MOST_CALLS))
        puppet.call(MOST_CALLS)
        refused = await puppet.next()
        assert refused["id"] == MOST_CALLS and refused["error"]["code"] == -32600
        assert f"{MOST_CALLS} calls are under way" in refused["error"]["message"]
        # Everything else goes on, and nothing was lost.
        puppet.send(id=MOST_CALLS, method="tools/list")
        puppet.say({"id": MOST_CALLS, "result": {"tools": []}}, {"id": "CALL", "result": {"content": []}})
        assert (await puppet.next())["id"] == MOST_CALLS
        ended = await puppet.next()
        assert ended["result"] == {"content": []}
        await run(gateway, puppet, range(MOST_CALLS, MOST_CALLS + 1))
        puppet.say(*({"id": "CALL", "result": {"content": []}} for _ in range(MOST_CALLS)))
        answered = [(await puppet.next())["id"] for _ in range(MOST_CALLS)]
        assert sorted([ended["id"], *answered]) == list(range(MOST_CALLS + 1))
