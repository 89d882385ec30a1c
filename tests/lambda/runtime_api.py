"""Lambda's side of the Runtime API, and the process that it runs: init, events, freezing and thawing.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

import json
import os
import queue
import signal
import subprocess
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

NEXT = "/2018-06-01/runtime/invocation/next"


def call(method: str, path: str, body: str | None = None, **headers) -> dict:
    """A call as an event of API Gateway (HTTP API, payload format 2.0)."""
    parts = urlsplit(path)
    headers = {"host": "api.example.com"} | {name.replace("_", "-"): value for name, value in headers.items()}
    http = {"method": method, "path": parts.path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "test"}
    context = {"accountId": "1", "apiId": "api", "http": http, "requestId": "r", "stage": "$default",
               "time": "22/Nov/2026:12:00:00 +0000", "timeEpoch": 1795348800000}
    return {"version": "2.0", "routeKey": "$default", "rawPath": parts.path, "rawQueryString": parts.query,
            "headers": headers, "requestContext": context, "body": body, "isBase64Encoded": False}


class Pending:
    """An event on its way, and its answer."""

    def __init__(self, event: dict):
        self.id, self.event, self.answered, self.answer = str(uuid.uuid4()), event, threading.Event(), None

    def result(self, timeout: float = 28) -> dict:
        """The answer. Lambda would have ended the function at the deadline."""
        assert self.answered.wait(timeout), "there was no answer before the deadline"
        status, body = self.answer
        assert status == "response", f"the function failed: {body}"
        return body


class Environment:
    """One execution environment: the function's process, its events, and its sleep between them."""

    def __init__(self, program, variables: dict, concurrency: int | None = None, output=None):
        self.events, self.pending, self.ready = queue.Queue(), {}, threading.Event()
        environment = self
        self.ready_at = None

        class RuntimeApi(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                environment.ready_at = environment.ready_at or time.perf_counter()
                environment.ready.set()
                waiting = environment.events.get()
                if waiting is None:
                    self.close_connection = True
                    return
                body = json.dumps(waiting.event).encode()
                self.send_response(200)
                for name, value in {
                    "lambda-runtime-aws-request-id": waiting.id,
                    "lambda-runtime-deadline-ms": str(int((time.time() + 28) * 1000)),
                    "lambda-runtime-invoked-function-arn": "arn:aws:lambda:eu-central-1:1:function:test",
                    "content-type": "application/json",
                    "content-length": str(len(body)),
                }.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self):
                *_, request_id, kind = self.path.split("/")
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                waiting = environment.pending.pop(request_id)
                waiting.answer = (kind, body)
                self.send_response(202)
                self.send_header("content-length", "0")
                self.end_headers()
                waiting.answered.set()

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), RuntimeApi)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        lambda_variables = {
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self.server.server_port}",
            "AWS_LAMBDA_FUNCTION_NAME": "test",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
        }
        if concurrency:
            lambda_variables["AWS_LAMBDA_MAX_CONCURRENCY"] = str(concurrency)
        self.started_at = time.perf_counter()
        # What it prints is what CloudWatch would get.
        self.process = subprocess.Popen([program], env=variables | lambda_variables, stdout=output)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        for _ in range(64):
            self.events.put(None)
        self.server.shutdown()
        self.server.server_close()

    def wait_for_init(self) -> float:
        """Seconds from the start of the process until it asked for its first event."""
        assert self.ready.wait(20), "the init phase did not end"
        return self.ready_at - self.started_at

    def send(self, event: dict) -> Pending:
        waiting = Pending(event)
        self.pending[waiting.id] = waiting
        self.events.put(waiting)
        return waiting

    def invoke(self, event: dict) -> dict:
        return self.send(event).result()

    def freeze(self):
        """What Lambda does after an answer."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self):
        os.kill(self.process.pid, signal.SIGCONT)
