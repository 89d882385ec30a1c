"""Calls whose clients wait by tasks: begun at once, looked at, taken back, found again after a restart."""

import asyncio
import sys
from typing import Any, Literal

import pytest
from conftest import HERE, until
from mcp import Client
from mcp.client.extension import ClientExtension, ResultClaim
from mcp.client.stdio import StdioServerParameters
from mcp_types import CallToolResult, ElicitResult, Request, RequestParams, Result
from peers import Node, text

PAY = ("pay", {"to": "maria", "amount": 12.5})
TASKS = "io.modelcontextprotocol/tasks"


def tasker(target):
    """The TypeScript SDK's client, which knows tasks of revision 2025-11-25."""
    return Node.connected(target, "", True, "tasker.mjs")


def order(peer, what, call=None, **members):
    named = {"name": call[0], "arguments": call[1]} if call else {}
    return peer.order(what, **named, **members)


async def begun(peer, call=PAY):
    return (await order(peer, "begin", call))["task"]


@pytest.mark.short
@pytest.mark.parametrize("way", ["stdio-stdio", "stdio-http", "http-stdio", "http-http"])
async def test_a_guarded_call_is_a_task_at_once_and_its_result_comes_later(gateway, way):
    async with tasker(await gateway.reached(way, "python")) as peer:
        assert (await order(peer, "server"))["tasks"] == {"cancel": {}, "requests": {"tools": {"call": {}}}}
        support = {tool["name"]: tool.get("execution") for tool in await order(peer, "tools")}
        assert support["pay"] == {"taskSupport": "optional"} and support["balance"] is None
        task = await begun(peer)
        [item] = await gateway.pending()
        assert task["status"] == "working" and item["request_id"] in task["statusMessage"]
        assert (await order(peer, "get", task=task["taskId"]))["status"] == "working"
        waiting = asyncio.create_task(order(peer, "result", task=task["taskId"]))
        assert gateway.done() == []
        await gateway.decide(item["request_id"])
        result = await waiting
        assert text(result) == "paid 12.5 to maria" and gateway.done() == ["pay maria 12.5"]
        assert result["_meta"]["io.modelcontextprotocol/related-task"] == {"taskId": task["taskId"]}
        assert (await order(peer, "get", task=task["taskId"]))["status"] == "completed"
        # As often as it is wanted.
        assert text(await order(peer, "result", task=task["taskId"])) == "paid 12.5 to maria"
        await until(lambda: gateway.detail(item["request_id"]), lambda it: it["execution"] == "succeeded")
    assert gateway.done() == ["pay maria 12.5"]


async def test_the_sdks_own_loop_gets_the_result_and_the_reason_of_a_refusal(gateway):
    async with tasker(gateway.target()) as peer:
        stream = asyncio.create_task(order(peer, "stream", PAY))
        [item] = await gateway.pending()
        await gateway.decide(item["request_id"])
        seen = [step for step in (await stream)["seen"] if step[0] != "progress"]
        assert seen[0][:2] == ["taskCreated", "working"] and seen[-1][0] == "result"
        assert seen[-1][1]["content"][0]["text"] == "paid 12.5 to maria"
        stream = asyncio.create_task(order(peer, "stream", PAY))
        [item] = await gateway.pending()
        await gateway.decide(item["request_id"], "reject", reason="Paid yesterday.")
        kind, result, _ = (await stream)["seen"][-1]
        assert kind == "result" and result["isError"] is True and "Paid yesterday." in result["content"][0]["text"]
    assert gateway.done() == ["pay maria 12.5"]


async def test_a_read_only_call_is_no_task_of_the_gateways_and_a_plain_call_waits_as_ever(gateway):
    async with tasker(gateway.target()) as peer:
        assert text(await order(peer, "call", ("balance", {"account": "a"}))) == "a: 7"
        call = asyncio.create_task(order(peer, "call", PAY))
        [item] = await gateway.pending()
        await gateway.decide(item["request_id"])
        assert text(await call) == "paid 12.5 to maria"


@pytest.mark.short
async def test_a_task_that_is_cancelled_withdraws_its_question_and_cannot_be_cancelled_twice(gateway):
    async with tasker(gateway.target()) as peer:
        task = await begun(peer)
        [item] = await gateway.pending()
        assert (await order(peer, "cancel", task=task["taskId"]))["status"] == "cancelled"
        detail = await until(lambda: gateway.detail(item["request_id"]), lambda it: it["status"] == "decided")
        assert (detail["decision"]["outcome"], detail["decision"]["cause"]) == ("cancelled", "agent")
        assert (await order(peer, "get", task=task["taskId"]))["status"] == "cancelled"
        for what in ("cancel", "result"):
            with pytest.raises(RuntimeError, match="-32602"):
                await order(peer, what, task=task["taskId"])
        for other in ("relaytrace-task-00000000000000000000000000000000", "relaytrace-task-x"):
            with pytest.raises(RuntimeError, match="-32602"):
                await order(peer, "get", task=other)
    assert gateway.done() == []


@pytest.mark.short
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_task_survives_the_gateway(gateway, when):
    """Nothing is on disk: the task's id names the question, and the decision brings the call back."""
    from test_calls import end_children_of

    async with tasker(gateway.target()) as peer:
        task = await begun(peer)
        [item] = await gateway.pending()
        await asyncio.to_thread(end_children_of, gateway)
    if when == "before":
        await gateway.decide(item["request_id"])
    async with tasker(gateway.target()) as peer:
        if when == "after":
            assert (await order(peer, "get", task=task["taskId"]))["status"] == "working"
            await gateway.decide(item["request_id"])
        assert text(await order(peer, "result", task=task["taskId"])) == "paid 12.5 to maria"
        assert (await order(peer, "get", task=task["taskId"]))["status"] == "completed"
    assert gateway.done() == ["pay maria 12.5"] and len(await gateway.asked("all")) == 1
    await until(lambda: gateway.detail(item["request_id"]), lambda it: it["execution"] == "succeeded")
    # It has run: a third gateway says so, and runs nothing.
    async with tasker(gateway.target()) as peer:
        result = await order(peer, "result", task=task["taskId"])
        assert result["isError"] is True and result["_meta"]["relaytrace/status"] == "already_used"
    assert gateway.done() == ["pay maria 12.5"]


async def test_a_task_is_found_again_only_by_its_own_principal_at_its_own_server(gateway):
    async with tasker(gateway.target()) as peer:
        task = await begun(peer)
        [item] = await gateway.pending()
    await gateway.decide(item["request_id"])
    async with tasker(gateway.target(server="node")) as peer:
        with pytest.raises(RuntimeError, match="no such task of this principal at this server"):
            await order(peer, "result", task=task["taskId"])
    assert gateway.done() == []
    async with tasker(gateway.target()) as peer:
        assert text(await order(peer, "result", task=task["taskId"])) == "paid 12.5 to maria"


async def test_a_plain_call_that_was_given_up_is_found_again_as_a_task(gateway):
    async with tasker(gateway.target("--hold", "1s")) as peer:
        pending = await order(peer, "call", PAY)
        assert pending["_meta"]["relaytrace/status"] == "pending"
        task = await begun(peer)
        assert pending["_meta"]["relaytrace/request_id"].replace("-", "") in task["taskId"]
        await gateway.decide(pending["_meta"]["relaytrace/request_id"])
        assert text(await order(peer, "result", task=task["taskId"])) == "paid 12.5 to maria"
    assert len(await gateway.asked("all")) == 1


async def test_arguments_that_an_operator_changed_are_what_a_task_runs(gateway):
    from test_calls import digest_of

    async with tasker(gateway.target("--edit")) as peer:
        task = await begun(peer)
        [item] = await gateway.pending()
        arguments = {"to": "maria", "amount": 10}
        digest = digest_of({"type": "bank/pay", "arguments": arguments})
        await gateway.decide(item["request_id"], "edit", arguments=arguments, edited_action_digest=digest)
        result = await order(peer, "result", task=task["taskId"])
        assert '"amount":10' in text(result) and gateway.done() == ["pay maria 10.0"]


class TaskResult(Result):
    result_type: Literal["task"]
    task_id: str
    status: str
    status_message: str | None = None


class State(Result):
    model_config = {"extra": "allow"}


class Named(RequestParams):
    task_id: str
    input_responses: dict[str, Any] | None = None


class GetTask(Request[Named, Literal["tasks/get"]]):
    name_param = "taskId"
    method: Literal["tasks/get"] = "tasks/get"


class UpdateTask(Request[Named, Literal["tasks/update"]]):
    name_param = "taskId"
    method: Literal["tasks/update"] = "tasks/update"


class CancelTask(Request[Named, Literal["tasks/cancel"]]):
    name_param = "taskId"
    method: Literal["tasks/cancel"] = "tasks/cancel"


class Tasks(ClientExtension):
    """The extension of revision 2026-07-28 on the Python SDK's own interface for extensions: it has no client of its own."""

    identifier = TASKS

    def __init__(self):
        self.seen, self.ids = [], []

    def claims(self):
        return [ResultClaim(result_type="task", model=TaskResult, resolve=self.resolve)]

    async def state(self, session, request):
        found = await session.send_request(request, State)
        return found.model_dump(by_alias=True, mode="json")

    async def resolve(self, begun, context):
        self.ids.append(begun.task_id)
        while True:
            state = await self.state(context.session, GetTask(params=Named(task_id=begun.task_id)))
            self.seen.append(state["status"])
            if state["status"] == "input_required":
                answers = {key: {"action": "accept"} for key in state["inputRequests"]}
                await self.state(context.session, UpdateTask(params=Named(task_id=begun.task_id, input_responses=answers)))
            elif state["status"] != "working":
                return CallToolResult.model_validate(state["result"])
            await asyncio.sleep(0.1)


@pytest.mark.short
@pytest.mark.parametrize("way", ["stdio-stdio", "http-stdio", "http-http"])
async def test_a_client_that_declares_the_extension_gets_a_task(gateway, way):
    tasks = Tasks()
    target = await gateway.reached(way, "python")
    server = target if isinstance(target, str) else StdioServerParameters(**target)
    async with Client(server, mode="auto", extensions=[tasks]) as client:
        call = asyncio.create_task(client.call_tool(*PAY))
        [item] = await gateway.pending()
        await until(lambda: asyncio.sleep(0, tasks.seen), bool)
        assert tasks.ids and set(tasks.seen) == {"working"}
        await gateway.decide(item["request_id"])
        result = await call
        assert result.content[0].text == "paid 12.5 to maria" and tasks.seen[-1] == "completed"
        # A refusal is a result with its reason, too.
        call = asyncio.create_task(client.call_tool(*PAY))
        [item] = await gateway.pending()
        await gateway.decide(item["request_id"], "reject", reason="Once is enough.")
        result = await call
        assert result.is_error and "Once is enough." in result.content[0].text
        # Taken back.
        call = asyncio.create_task(client.call_tool("pay", {"to": "maria", "amount": 1}))
        [item] = await gateway.pending()
        await until(lambda: asyncio.sleep(0, tasks.ids), lambda ids: len(ids) == 3)
        await tasks.state(client.session, CancelTask(params=Named(task_id=tasks.ids[-1])))
        detail = await until(lambda: gateway.detail(item["request_id"]), lambda it: it["status"] == "decided")
        assert detail["decision"]["outcome"] == "cancelled"
        call.cancel()
    assert gateway.done() == ["pay maria 12.5"]


async def test_a_client_that_opens_links_finds_the_page_in_its_task(gateway):
    tasks, opened = Tasks(), []

    async def elicit(_context, params):
        opened.append(params)
        return ElicitResult(action="accept")

    server = StdioServerParameters(**gateway.target())
    async with Client(server, mode="auto", extensions=[tasks], elicitation_callback=elicit) as client:
        call = asyncio.create_task(client.call_tool(*PAY))
        [item] = await gateway.pending()
        await until(lambda: asyncio.sleep(0, tasks.seen), lambda seen: seen[-1:] == ["working"])
        assert tasks.seen[0] == "input_required" and tasks.seen.count("input_required") == 1
        await gateway.decide(item["request_id"])
        assert (await call).content[0].text == "paid 12.5 to maria"
    # The resolver answered by `tasks/update`; nothing was asked by another way.
    assert opened == []


async def test_a_task_of_the_extension_survives_the_gateway(gateway):
    from test_calls import end_children_of

    tasks = Tasks()
    server = StdioServerParameters(**gateway.target())
    async with Client(server, mode="auto", extensions=[tasks]) as client:
        call = asyncio.create_task(client.call_tool(*PAY))
        [item] = await gateway.pending()
        await until(lambda: asyncio.sleep(0, tasks.seen), bool)
        await asyncio.to_thread(end_children_of, gateway)
        with pytest.raises(BaseException):
            await asyncio.wait_for(call, 10)
    await gateway.decide(item["request_id"])
    async with Client(server, mode="auto", extensions=[tasks]) as client:
        begun = TaskResult(result_type="task", task_id=tasks.ids[0], status="working")
        from mcp.client.extension import ClaimContext

        context = ClaimContext(session=client.session, tool_name="pay", read_timeout_seconds=None)
        assert (await tasks.resolve(begun, context)).content[0].text == "paid 12.5 to maria"
    assert gateway.done() == ["pay maria 12.5"] and len(await gateway.asked("all")) == 1


async def test_input_that_the_server_wants_comes_by_the_task(gateway):
    """A guarded tool that asks back (`input_required`) within a task."""
    tasks = Tasks()
    wrapped = {**gateway.target(), "args": [*gateway.wrap()[1:5], "--", sys.executable, str(HERE / "asking_back.py")]}

    async def answered(session, request):
        if isinstance(request, UpdateTask):
            key = next(iter(request.params.input_responses))
            request.params.input_responses = {key: {"action": "accept", "content": {"word": "yes"}}}
        return await Tasks.state(tasks, session, request)

    tasks.state = answered

    async def elicit(_context, _params):
        raise AssertionError("the task carries it")

    server = StdioServerParameters(**wrapped)
    async with Client(server, mode="auto", extensions=[tasks], elicitation_callback=elicit) as client:
        call = asyncio.create_task(client.call_tool("send", {"to": "maria"}))
        [item] = await gateway.pending()
        await gateway.decide(item["request_id"])
        assert (await call).content[0].text == "sent to maria: yes"
    assert gateway.done() == ["send maria yes"] and "input_required" in tasks.seen
    await until(lambda: gateway.detail(item["request_id"]), lambda it: it["execution"] == "succeeded")
