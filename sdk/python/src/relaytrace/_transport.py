"""Plays flows over httpx, at once or asynchronously: the only input and output of the package."""

import socket
import ssl
import time
from typing import TypeVar

import anyio
import httpx

from ._wire import MAX_ANSWER_BYTES, Flow, Lost, Received, Send, Sleep

T = TypeVar("T")

_LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=20)
_TOO_LONG = Lost(f"an answer of more than {MAX_ANSWER_BYTES} bytes")


def new_client() -> httpx.Client:
    """A client as flows need it: an answer is the relay's own or none, so no redirect is followed."""
    return httpx.Client(follow_redirects=False, limits=_LIMITS)


def new_async_client() -> httpx.AsyncClient:
    """As `new_client`."""
    return httpx.AsyncClient(follow_redirects=False, limits=_LIMITS)


def play(client: httpx.Client, flow: Flow[T]) -> T:
    """The flow's result. It blocks."""
    outcome: Received | Lost | None = None
    while True:
        try:
            step = flow.send(outcome)
        except StopIteration as end:
            result: T = end.value
            return result
        if isinstance(step, Sleep):
            time.sleep(step.seconds)
            outcome = None
        else:
            outcome = _exchange(client, step)


async def play_async(client: httpx.AsyncClient, flow: Flow[T]) -> T:
    """The flow's result."""
    outcome: Received | Lost | None = None
    while True:
        try:
            step = flow.send(outcome)
        except StopIteration as end:
            result: T = end.value
            return result
        if isinstance(step, Sleep):
            await anyio.sleep(step.seconds)
            outcome = None
        else:
            outcome = await _exchange_async(client, step)


def _exchange(client: httpx.Client, send: Send) -> Received | Lost:
    deadline = time.monotonic() + send.timeout
    body = bytearray()
    try:
        with client.stream(
            send.method, send.url, headers=send.headers, content=send.body, timeout=send.timeout, follow_redirects=False
        ) as response:
            # A client of the caller's own may have read the whole answer already.
            for chunk in [response.content] if response.is_stream_consumed else response.iter_raw():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    return _TOO_LONG
                if time.monotonic() > deadline:
                    return _slow(send)
    except (httpx.TransportError, httpx.InvalidURL) as fault:
        return _lost(send, fault)
    return _received(response, bytes(body))


async def _exchange_async(client: httpx.AsyncClient, send: Send) -> Received | Lost:
    body = bytearray()
    try:
        with anyio.fail_after(send.timeout):
            async with client.stream(
                send.method,
                send.url,
                headers=send.headers,
                content=send.body,
                timeout=send.timeout,
                follow_redirects=False,
            ) as response:
                if response.is_stream_consumed:
                    body += response.content
                    return _received(response, bytes(body))
                async for chunk in response.aiter_raw():
                    body += chunk
                    if len(body) > MAX_ANSWER_BYTES:
                        return _TOO_LONG
    except TimeoutError:
        return _slow(send)
    except (httpx.TransportError, httpx.InvalidURL) as fault:
        return _lost(send, fault)
    return _received(response, bytes(body))


def _received(response: httpx.Response, body: bytes) -> Received:
    return Received(response.status_code, tuple(response.headers.multi_items()), body)


def _slow(send: Send) -> Lost:
    return Lost(f"no whole answer within {send.timeout:g} s", was_slow=True)


def _lost(send: Send, fault: Exception) -> Lost:
    # A connection that is not made in time is a relay that is away, not a slow one.
    if isinstance(fault, httpx.TimeoutException) and not isinstance(fault, httpx.ConnectTimeout):
        return _slow(send)
    return Lost(str(fault) or type(fault).__name__, is_elsewhere=_is_elsewhere(fault))


def _is_elsewhere(fault: BaseException | None) -> bool:
    """Whether a name or a certificate stands against it. A name server that is away is no wrong name."""
    while fault is not None:
        if isinstance(fault, ssl.SSLError):
            return True
        if isinstance(fault, socket.gaierror):
            return fault.errno != socket.EAI_AGAIN
        fault = fault.__cause__ or fault.__context__
    return False
