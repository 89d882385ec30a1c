"""The package's receiver, unmodified: provisioned, woken by what was resolved, and its run resumed."""

import asyncio
import contextlib
import secrets
import socket

import pytest
import uvicorn
from agentapprovalprotocol import AsyncClient, Call
from agentapprovalprotocol._client import ConflictError, ProvisionError, WebhookVerificationFailed
from agentapprovalprotocol._gate import AsyncGate, Pending
from agentapprovalprotocol.receiver import Provisioned, Receiver

from conftest import Relay


@contextlib.asynccontextmanager
async def serving(receiver: Receiver):
    """The receiver's own ASGI app on a port of this machine; gives its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(receiver.asgi(), log_level="warning", lifespan="off"))
        running = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/hooks/aap"
        finally:
            server.should_exit = True
            await running


@pytest.fixture
def provisioner(relay: Relay) -> str:
    """The token of a key that makes instances of the agent, and does nothing else."""
    key = {"key_id": f"p-{secrets.token_hex(8)}", "alg": "bearer", "scopes": ["provision"]}
    return relay.as_person("admin", "POST", f"/v1/admin/agents/{relay.agent_id}/keys", key)["token"]


def asked_for(relay: Relay, token: str, url: str, **more) -> dict:
    return {"provider_url": relay.url, "provisioner_token": token, "url": url, "instance_name": "Laptop", **more}


@pytest.mark.short
async def test_a_paused_run_is_woken_by_its_decision(relay: Relay, provisioner: str) -> None:
    woken: asyncio.Queue = asyncio.Queue()
    receiver = Receiver(resumers={"x": lambda handle, request: woken.put_nowait((handle, request))})
    async with serving(receiver) as url:
        made = await receiver.provision(**asked_for(relay, provisioner, url))
        assert isinstance(made, Provisioned) and made.instance_name == "Laptop" and made.token.startswith("rtk_")
        gate = AsyncGate(AsyncClient(relay.url, made.token), mode="async")
        call = Call(key="k", tool="refund", arguments={"amount": 1}, resume={"framework": "x", "thread_id": "t"})
        pending = await gate.check(call)
        assert isinstance(pending, Pending)
        # What another key of the agent asks wakes it not.
        other = AsyncClient(relay.url, relay.token)
        await other.create({"tool": "other", "arguments": {}, "timeout": "10m", "context": {"resume": {"framework": "x"}}}, "other")
        async with relay.deciding(decision="approve"):
            handle, request = await asyncio.wait_for(woken.get(), 20)
            assert (handle["thread_id"], request.id, request.status) == ("t", pending.request_id, "approved")
            verdict = await gate.check(call)
        assert verdict and await verdict.report("succeeded", None)
        await asyncio.sleep(0)
        assert woken.empty()


async def test_provisioning_again_is_the_same_instance(relay: Relay, provisioner: str) -> None:
    receiver = Receiver(resumers={})
    async with serving(receiver) as url:
        first = await receiver.provision(**asked_for(relay, provisioner, url))
        assert await receiver.provision(**asked_for(relay, provisioner, url)) == first
        with pytest.raises(ProvisionError) as raised:
            await receiver.provision(**asked_for(relay, provisioner, url, instance_name="Another"))
        assert (raised.value.status, raised.value.code) == (409, "idempotency_conflict")
        another = await receiver.provision(**asked_for(relay, provisioner, url, idempotency_key="another"))
        assert another.instance_id != first.instance_id and another.token != first.token
        # Its key asks and uses; it makes no others.
        client = AsyncClient(relay.url, first.token)
        asked = await client.create({"tool": "t", "arguments": {}, "timeout": "1m"}, "k")
        with pytest.raises(ConflictError):
            await client.consume(asked.id, secrets.token_hex(16))
        with pytest.raises(ProvisionError) as raised:
            await receiver.provision(**asked_for(relay, first.token, url, idempotency_key="third"))
        assert raised.value.status == 403


async def test_a_receiver_of_another_registration_is_no_receiver(relay: Relay, provisioner: str) -> None:
    receiver = Receiver(resumers={})
    receiver.secret = Receiver(resumers={}, secret="whsec_" + "A" * 43 + "=").secret
    receiver.registration_id = "meant-for-somebody-else"
    stranger = Receiver(resumers={}, secret=receiver.secret, registration_id="another")
    async with serving(stranger) as url:
        with pytest.raises(WebhookVerificationFailed):
            await receiver.provision(**asked_for(relay, provisioner, url))
