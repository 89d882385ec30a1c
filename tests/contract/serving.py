"""Another process of the stack's deployment, configured otherwise: its own issuers, its own port."""

import contextlib
import os
import socket
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from support import check_if_error

SERVICE = Path(__file__).resolve().parent.parent.parent / "target" / "debug" / "relaytrace"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


@contextlib.contextmanager
def another_service(stack: dict, **variables: str):
    """A client of a process that serves all functions over the stack's servers, with these variables besides."""
    if os.environ.get("RELAYTRACE_IN_EMULATOR"):
        pytest.skip("the emulator's functions are configured once")
    environment = {name: value for name, value in stack["environment"].items() if not name.startswith("ISSUER")}
    path = {"PATH": os.environ["PATH"]}
    port = free_port()
    said = subprocess.DEVNULL
    process = subprocess.Popen([SERVICE, "serve"], env=path | environment | {"PORT": str(port)} | variables, stdout=said)
    try:
        hooks = {"response": [check_if_error]}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, event_hooks=hooks) as client:
            deadline = time.monotonic() + 60
            while True:
                assert process.poll() is None, "the service has ended"
                with contextlib.suppress(httpx.TransportError):
                    if client.get("/readyz").status_code == 200:
                        break
                assert time.monotonic() < deadline, "the service is not ready in time"
                time.sleep(0.1)
            yield client
    finally:
        process.terminate()
        process.wait(timeout=30)
