"""Cold starts: of `ingest` without and with its servers, beside a hello-world Lambda. See local/cold-start."""

import json
import os
import secrets
import statistics
import sys
import time
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.serialization import load_pem_private_key

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "contract"))

from agent import Agent  # noqa: E402
from runtime_api import Environment, call  # noqa: E402
from support import new_envelope  # noqa: E402

STARTS = 40


def submission(stack: dict) -> dict:
    known = stack["agent"]
    key = load_pem_private_key(known["private_key_pem"].encode(), password=None)
    agent = Agent(httpx.Client(), known["agent_id"], known["key_id"], key, known["response_secret"])
    envelope = new_envelope(agent.agent_id, client_request_key=f"cold-{secrets.token_hex(8)}")
    headers = {"authorization": f"Bearer {agent.token()}", "content_type": "application/json"}
    return call("POST", "/v1/hitl/requests", json.dumps(envelope), **headers)


def start(program: Path, variables: dict, event: dict, status: int) -> tuple[float, float]:
    """Milliseconds from exec to the end of init, and to the first answer."""
    with Environment(program, variables) as environment:
        pending = environment.send(event)
        answer = pending.result()
        answered = time.perf_counter()
        assert answer["statusCode"] == status, answer
        return (environment.wait_for_init() * 1e3, (answered - environment.started_at) * 1e3)


def main():
    stack = json.loads(Path(os.environ["RELAYTRACE_DEV_JSON"]).read_text())
    folder = Path(sys.argv[1])
    quiet = stack["environment"] | {"RUST_LOG": "error"}
    nowhere = {"DATABASE_URL": "postgres://nobody@127.0.0.1:9/none", "NATS_URL": "nats://127.0.0.1:9"}
    ways = {
        "hello world": lambda: start(folder / "examples" / "hello", {}, call("GET", "/"), 200),
        "ingest, no server there": lambda: start(folder / "ingest", quiet | nowhere, call("GET", "/healthz"), 200),
        "ingest, connected, a submission": lambda: start(folder / "ingest", quiet, submission(stack), 201),
    }
    times = {way: [] for way in ways}
    for _ in range(STARTS):
        # In turns, so that what else the machine does falls on all alike.
        for way, run in ways.items():
            times[way].append(run())
    print(f"\n{STARTS} starts each, medians in ms      exec to init done      exec to first answer")
    hello = [statistics.median(column) for column in zip(*times["hello world"])]
    for way, measured in times.items():
        medians = [statistics.median(column) for column in zip(*measured)]
        cells = [f"{median:8.2f} ({median / base:4.2f}x)" for median, base in zip(medians, hello)]
        print(f"{way:<34}" + "".join(f"{cell:>22}" for cell in cells))
    for name in ["examples/hello", "ingest"]:
        print(f"{name:<34}{(folder / name).stat().st_size:>22,} bytes")


main()
