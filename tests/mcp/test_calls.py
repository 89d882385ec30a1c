"""A call through the gateway: it waits, runs once as it was approved, and its end is on record."""

import asyncio

import pytest
from conftest import until
from peers import connected, text

PAY = ("pay", {"to": "maria", "amount": 12.5})
WAYS = ["stdio-stdio", "stdio-http", "http-stdio", "http-http"]
PEERS = [("python", "python"), ("stateless", "python"), ("node", "node"), ("python", "node"), ("node", "python")]
ALL = [
    pytest.param(*peers, way, marks=pytest.mark.short if way in ("stdio-stdio", "http-http") and at < 3 else ())
    for way in WAYS
    for at, peers in enumerate(PEERS)
]


@pytest.mark.parametrize(("client", "server", "way"), ALL)
async def test_a_read_only_tool_passes_and_a_guarded_one_waits_and_runs_once(gateway, client, server, way):
    async with connected(client, await gateway.reached(way, server)) as peer:
        assert text(await peer.call("balance", {"account": "a"})) == "a: 7"
        assert await gateway.asked("all") == []
        call = asyncio.create_task(peer.call(*PAY, progress=True))
        [item] = await gateway.pending()
        assert gateway.done() == []
        detail = await gateway.detail(item["request_id"])
        assert detail["action"] == {"type": "bank/pay", "arguments": PAY[1]}
        assert detail["context"]["mcp"]["annotations"]["destructiveHint"] is True
        await gateway.decide(item["request_id"])
        result = await call
        assert text(result) == "paid 12.5 to maria" and gateway.done() == ["pay maria 12.5"]
        assert any(item["request_id"] in str(told) for told in result["progress"]), result["progress"]
        assert 1 in result["progress"]
        await until(lambda: gateway.detail(item["request_id"]), lambda it: it["execution"] == "succeeded")


@pytest.mark.short
async def test_a_refusal_reaches_the_model_with_its_reason_and_nothing_runs(gateway):
    async with gateway.client() as peer:
        call = asyncio.create_task(peer.call(*PAY))
        [item] = await gateway.pending()
        await gateway.decide(item["request_id"], "reject", reason="Maria was paid yesterday.")
        result = await call
        assert result["isError"] is True and "Maria was paid yesterday." in text(result)
        assert result["_meta"]["relaytrace/status"] == "rejected"
        assert gateway.done() == []
        # It was told: the same call again is a new question.
        call = asyncio.create_task(peer.call(*PAY))
        [again] = await gateway.pending()
        assert again["request_id"] != item["request_id"]
        await gateway.decide(again["request_id"])
        await call
        assert gateway.done() == ["pay maria 12.5"]


async def test_another_argument_is_another_question(gateway):
    async with gateway.client("python", "--hold", "1s") as peer:
        first = await peer.call(*PAY)
        assert first["isError"] is True and first["_meta"]["relaytrace/status"] == "pending"
        await gateway.decide(first["_meta"]["relaytrace/request_id"])
        other = await peer.call("pay", {"to": "maria", "amount": 12.51})
        assert other["_meta"]["relaytrace/status"] == "pending"
        assert other["_meta"]["relaytrace/request_id"] != first["_meta"]["relaytrace/request_id"]
        assert gateway.done() == []
        assert text(await peer.call(*PAY)) == "paid 12.5 to maria"
        # Its approval is used: once more is asked anew.
        assert (await peer.call(*PAY))["_meta"]["relaytrace/status"] == "pending"
        assert gateway.done() == ["pay maria 12.5"]


@pytest.mark.short
@pytest.mark.parametrize("client", ["python", "stateless", "node"])
async def test_a_question_survives_the_gateway_while_a_person_thinks(gateway, client):
    async with gateway.client(client) as peer:
        call = asyncio.create_task(peer.call(*PAY))
        [item] = await gateway.pending()
        # The client goes away with its gateway, without a word about the call.
        await asyncio.to_thread(end_children_of, gateway)
        with pytest.raises(BaseException):
            await asyncio.wait_for(call, 10)
    assert [it["request_id"] for it in await gateway.asked()] == [item["request_id"]]
    await gateway.decide(item["request_id"])
    async with gateway.client(client) as peer:
        assert text(await peer.call(*PAY)) == "paid 12.5 to maria"
    assert gateway.done() == ["pay maria 12.5"]
    assert len(await gateway.asked("all")) == 1


def end_children_of(gateway):
    """Kills this test's gateway the hard way. Its agent's id is in its environment, and in nobody else's."""
    import os
    import signal
    from pathlib import Path

    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if words[1:3] == [b"mcp", b"wrap"] and gateway.agent_id.encode() in (folder / "environ").read_bytes():
                os.kill(int(folder.name), signal.SIGKILL)
        except (OSError, IndexError):
            continue


async def test_two_clients_at_once_run_twice_only_if_both_were_approved(gateway):
    url = await gateway.reached("http-stdio", "python")
    async with connected("python", url) as one, connected("node", url) as two, gateway.client() as three:
        calls = [asyncio.create_task(peer.call(*PAY)) for peer in (one, two)]
        items = await gateway.pending(2)
        await gateway.decide(items[0]["request_id"])
        await gateway.decide(items[1]["request_id"], "reject", reason="Once is enough.")
        results = await asyncio.gather(*calls)
        assert sorted(bool(result.get("isError")) for result in results) == [False, True]
        assert gateway.done() == ["pay maria 12.5"]
        # A gateway of another process finds the same question, and of two that wait for it one runs.
        calls = [asyncio.create_task(one.call(*PAY)), asyncio.create_task(three.call(*PAY))]
        [item] = await gateway.pending()
        await asyncio.sleep(1)
        assert len(await gateway.asked()) == 1
        await gateway.decide(item["request_id"])
        done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        assert gateway.done() == ["pay maria 12.5"] * 2
        [other] = await gateway.pending()
        assert other["request_id"] != item["request_id"] and len(done) == 1
        await gateway.decide(other["request_id"], "reject", reason="Twice is too much.")
        assert sorted(bool(result.get("isError")) for result in await asyncio.gather(*calls)) == [False, True]
        assert gateway.done() == ["pay maria 12.5"] * 2


@pytest.mark.parametrize("way", ["stdio-stdio", "http-stdio", "http-http"])
@pytest.mark.parametrize("client", ["python", "stateless", "node"])
async def test_a_call_that_its_client_takes_back_is_withdrawn(gateway, client, way):
    # One that is shown the page first has its answer, and calls again: there is a time in which it does not wait.
    async with connected(client, await gateway.reached(way, "python"), elicits=False) as peer:
        call = asyncio.create_task(peer.call(*PAY))
        [item] = await gateway.pending()
        call.cancel()
        detail = await until(lambda: gateway.detail(item["request_id"]), lambda it: it["status"] == "decided")
        assert (detail["decision"]["outcome"], detail["decision"]["cause"]) == ("cancelled", "agent")
        assert text(await peer.call("balance", {"account": "a"})) == "a: 7"
    assert gateway.done() == []


async def test_a_client_by_http_that_goes_without_a_word_leaves_its_question_open(gateway):
    url = await gateway.reached("http-stdio", "python")
    async with connected("node", url) as peer:
        call = asyncio.create_task(peer.call(*PAY))
        [item] = await gateway.pending()
        peer.process.kill()
        await peer.process.wait()
        call.cancel()
    assert [it["request_id"] for it in await gateway.asked()] == [item["request_id"]]
    async with connected("node", url) as peer:
        call = asyncio.create_task(peer.call(*PAY))
        await asyncio.sleep(1)
        assert [it["request_id"] for it in await gateway.asked()] == [item["request_id"]]
        await gateway.decide(item["request_id"])
        assert text(await call) == "paid 12.5 to maria"
    assert gateway.done() == ["pay maria 12.5"]


async def test_an_error_of_the_tool_is_on_record_as_failed(gateway):
    async with gateway.client() as peer:
        call = asyncio.create_task(peer.call("refuse", {"why": "closed"}))
        [item] = await gateway.pending()
        await gateway.decide(item["request_id"])
        result = await call
        assert result["isError"] is True and "refuse" in text(result) and gateway.done() == ["refuse closed"]
        await until(lambda: gateway.detail(item["request_id"]), lambda it: it["execution"] == "failed")


async def test_what_an_operator_writes_is_what_runs(gateway):
    async with gateway.client("python", "--edit", "--respond") as peer:
        call = asyncio.create_task(peer.call(*PAY))
        [item] = await gateway.pending()
        arguments = {"to": "maria", "amount": 10}
        digest = digest_of({"type": "bank/pay", "arguments": arguments})
        await gateway.decide(item["request_id"], "edit", arguments=arguments, edited_action_digest=digest)
        result = await call
        assert gateway.done() == ["pay maria 10.0"]
        assert "paid 10" in text(result) and '"amount":10' in text(result)


def digest_of(action):
    import hashlib

    import rfc8785

    return "sha256:" + hashlib.sha256(rfc8785.dumps(action)).hexdigest()


async def test_a_relay_that_is_down_denies_and_reading_goes_on(gateway):
    gateway.environment["RELAYTRACE_URL"] = "http://127.0.0.1:9"
    async with gateway.client() as peer:
        assert text(await peer.call("balance", {"account": "a"})) == "a: 7"
        result = await peer.call(*PAY)
        assert result["isError"] is True and "says nothing about whether it is allowed" in text(result)
    assert gateway.done() == []


async def test_all_is_asked_where_the_rules_say_what_passes_and_titles_hide_what_they_are_told_to(gateway):
    async with gateway.client("python", "--ask", "all", "--redact", "account") as peer:
        call = asyncio.create_task(peer.call("balance", {"account": "secret-7"}))
        [item] = await gateway.pending()
        detail = await gateway.detail(item["request_id"])
        assert "secret-7" not in item["title"] and "secret-7" not in str(detail["summary"])
        assert detail["action"]["arguments"] == {"account": "secret-7"}
        await gateway.decide(item["request_id"])
        assert text(await call) == "secret-7: 7"
