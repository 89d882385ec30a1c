"""A small server between client and relay that lies: each lie is a function of a request and the relay's own answer."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Told:
    """An answer. One without a status is none: the connection is cut."""

    status: int | None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


Lie = Callable[[Asked, Callable[[Asked], Told]], Told]


def changed(asked: Asked, **changes: object) -> Asked:
    return replace(asked, **changes)  # type: ignore[arg-type]


@contextmanager
def lying(relay_url: str, lie: Lie) -> Iterator[str]:
    """The address of a server that answers with `lie`, which may ask the relay itself."""
    http = httpx.Client(timeout=60)

    def ask(asked: Asked) -> Told:
        answer = http.request(asked.method, relay_url + asked.path, headers=asked.headers, content=asked.body)
        left_out = {"connection", "content-length", "transfer-encoding"}
        headers = {name: value for name, value in answer.headers.items() if name not in left_out}
        return Told(answer.status_code, headers, answer.content)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            for hop in ("host", "connection", "content-length"):
                headers.pop(hop, None)
            told = lie(Asked(self.command, self.path, headers, body), ask)
            self.close_connection = True
            if told.status is None:
                return
            self.send_response_only(told.status)
            for name, value in {**told.headers, "content-length": str(len(told.body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(told.body)

        do_GET = do_POST = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: object) -> None:
            """A client that has given up has closed its connection."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        http.close()
