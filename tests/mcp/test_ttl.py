"""How long tasks are kept: what a client asks for, and what the server and the gateway say (`ttl`, `ttlMs`)."""

import asyncio
import json

import pytest
from conftest import until
from puppet import TTL
from test_http import call, initialize
from test_owners import META, Puppet, about, as_task

ASKED = {"ttl": 5_000}
HOUR = 3_600_000


def asked_of_the_server(gateway):
    """The member `task` of each call that the server got."""
    noted = gateway.folder / "ledger.tasks"
    return [json.loads(line) for line in noted.read_text().splitlines()] if noted.exists() else []


async def passed(gateway, puppet, task, **meta):
    """The state of a task, once it is the server's."""
    (gateway.folder / "ledger.status").write_text("working")
    state = await until(lambda: puppet.answer(about("tasks/get", task, 4, **meta)), lambda it: it["result"].get("statusMessage") is None)
    return state["result"]


@pytest.mark.short
@pytest.mark.parametrize("is_stateless", [False, True])
async def test_the_ttl_that_a_client_asks_for_reaches_the_server_and_the_servers_comes_back(gateway, is_stateless):
    """Revision 2026-07-28 has no `ttl` in the call. While a person thinks, the task is the gateway's, and so is its time."""
    meta, name = ({"_meta": META}, "ttlMs") if is_stateless else ({}, "ttl")
    async with Puppet.behind(gateway) as puppet:
        if not is_stateless:
            await puppet.answer(initialize())
        made = (await puppet.answer(as_task(**(meta or {"task": ASKED}))))["result"]
        made = made if is_stateless else made["task"]
        assert made[name] > HOUR
        state = await puppet.answer(about("tasks/get", made["taskId"], 4, **meta))
        assert {it: state["result"][it] for it in (name, "createdAt")} == {it: made[it] for it in (name, "createdAt")}
        [item] = await gateway.pending()
        await gateway.decide(item["request_id"])
        assert (await passed(gateway, puppet, made["taskId"], **meta))[name] == TTL
    assert asked_of_the_server(gateway) == [None if is_stateless else ASKED]


@pytest.mark.short
async def test_a_task_that_nobody_is_asked_about_is_the_servers_with_both_ttls(gateway):
    async with Puppet.behind(gateway) as puppet:
        await puppet.answer(initialize())
        await puppet.answer({"jsonrpc": "2.0", "id": 2, "method": "tools/list"})
        body = call("look", {}, 3)
        made = (await puppet.answer(body | {"params": body["params"] | {"task": ASKED}}))["result"]["task"]
        assert (made["taskId"], made["ttl"]) == ("s1", TTL)
        assert (await passed(gateway, puppet, "s1"))["ttl"] == TTL
    assert asked_of_the_server(gateway) == [ASKED] and await gateway.asked("all") == []


async def test_a_ttl_is_not_kept_with_its_question_and_after_a_restart_the_server_chooses(gateway):
    async with Puppet.behind(gateway) as puppet:
        await puppet.answer(initialize())
        task = (await puppet.answer(as_task(task=ASKED)))["result"]["task"]["taskId"]
        [item] = await gateway.pending()
    async with Puppet.behind(gateway) as puppet:
        await puppet.answer(initialize())
        found = (await puppet.answer(about("tasks/get", task)))["result"]
        assert found["status"] == "working" and found["ttl"] > HOUR
        await gateway.decide(item["request_id"])
        await until(lambda: asyncio.sleep(0, asked_of_the_server(gateway)), bool)
        assert (await passed(gateway, puppet, task))["ttl"] == TTL
    assert asked_of_the_server(gateway) == [{}]
