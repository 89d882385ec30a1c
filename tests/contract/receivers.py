"""Receivers that write down what they are told: webhooks, an incoming webhook of Slack, a mail server."""

import email
import email.policy
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from aiosmtpd.controller import Controller


class Receiver:
    """An HTTP server on 127.0.0.1. `answer(path, body)` gives the status and the body of its answers."""

    def __init__(self, answer=lambda path, body: (200, b"")):
        self.calls, self.answer = [], answer
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                call = {"path": self.path, "headers": {k.lower(): v for k, v in self.headers.items()}, "bytes": body,
                        "at": time.time()}
                receiver.calls.append(call)
                status, answer = receiver.answer(self.path, body)
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("location", answer.decode())
                    answer = b""
                self.send_header("content-length", str(len(answer)))
                try:
                    self.end_headers()
                    self.wfile.write(answer)
                except ConnectionError:
                    pass  # the caller has not waited for it

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def told(self, path: str) -> list[dict]:
        """The messages that came to a path."""
        return [call | {"body": json.loads(call["bytes"])} for call in self.calls if call["path"] == path]


def echo_challenge(path: str, body: bytes):
    """What a receiver that is meant answers."""
    message = json.loads(body)
    if message["type"] == "webhook.verification":
        return 200, json.dumps({"challenge": message["data"]["challenge"]}).encode()
    return 200, b""


class Mailbox:
    """A mail server on a port of 127.0.0.1."""

    def __init__(self, port: int):
        self.mails = []
        self.controller = Controller(self, hostname="127.0.0.1", port=port)

    def __enter__(self):
        self.controller.start()
        return self

    def __exit__(self, *_):
        self.controller.stop()

    async def handle_DATA(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        self.mails.append({"to": envelope.rcpt_tos, "from": envelope.mail_from, "mail": mail, "at": time.time()})
        return "250 taken"
