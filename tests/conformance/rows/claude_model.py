"""A scripted model behind the Messages API, for the Claude Agent SDK: it has no fake model of its own."""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

INNER = "You are the billing agent of the conformance tests."


class Scripted(ThreadingHTTPServer):
    """Calls `tool` for each amount until it has results. Where nested, the outer agent calls the inner one."""

    daemon_threads = True

    def __init__(self, tool: str, amounts: list[str], nested: bool):
        super().__init__(("127.0.0.1", 0), Handler)
        self.tool, self.amounts, self.nested = tool, amounts, nested
        self.told: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def content(self, asked: dict[str, Any]) -> list[dict[str, Any]]:
        """What the model says next."""
        parts = [part for message in asked["messages"] for part in blocks(message["content"])]
        results = [text(part["content"]) for part in parts if part["type"] == "tool_result"]
        is_inner = INNER in json.dumps(asked.get("system", ""))
        if results and not is_inner:
            self.told = results
        names = {tool["name"] for tool in asked.get("tools", [])}
        if results or self.tool not in names | ({self.tool} if self.nested else set()):
            return [{"type": "text", "text": "; ".join(results) or "ok"}]
        if self.nested and not is_inner:
            task = {"description": "bill", "prompt": "refund", "subagent_type": "billing", "run_in_background": False}
            return [call(0, "Agent" if "Agent" in names else "Task", task)]
        return [call(n, self.tool, {"amount": amount}) for n, amount in enumerate(self.amounts)]


def call(number: int, name: str, arguments: dict[str, str]) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{name}_{number}".replace("__", "_"), "name": name, "input": arguments}


def blocks(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def text(content: Any) -> str:
    return "".join(part.get("text", "") for part in blocks(content or ""))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Scripted

    def do_POST(self) -> None:  # noqa: N802
        asked = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
        if "/messages" not in self.path or "count_tokens" in self.path:
            return self.answer("application/json", json.dumps({"input_tokens": 1}))
        content = self.server.content(asked)
        reason = "tool_use" if content[0]["type"] == "tool_use" else "end_turn"
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": asked["model"], "content": content}
        message |= {"stop_reason": reason, "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1}}
        if not asked.get("stream"):
            return self.answer("application/json", json.dumps(message))
        events = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in streamed(message))
        return self.answer("text/event-stream", events)

    def do_GET(self) -> None:  # noqa: N802
        self.answer("application/json", "{}")

    do_HEAD = do_GET  # noqa: N815

    def answer(self, kind: str, said: str) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(said.encode())))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(said.encode())

    def log_message(self, *_: object) -> None:
        pass


def streamed(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The message as server-sent events."""
    yield {"type": "message_start", "message": {**message, "content": [], "stop_reason": None}}
    for index, part in enumerate(message["content"]):
        is_text = part["type"] == "text"
        empty = {**part, "text": ""} if is_text else {**part, "input": {}}
        delta = {"type": "text_delta", "text": part["text"]} if is_text else None
        delta = delta or {"type": "input_json_delta", "partial_json": json.dumps(part["input"])}
        yield {"type": "content_block_start", "index": index, "content_block": empty}
        yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    ended = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield {"type": "message_delta", "delta": ended, "usage": {"output_tokens": 1}}
    yield {"type": "message_stop"}


@contextlib.contextmanager
def scripted(tool: str, amounts: list[str], nested: bool) -> Iterator[Scripted]:
    server = Scripted(tool, amounts, nested)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
