#!/usr/bin/env python3
"""Types the documents: every block of shell in README and docs runs, top to bottom, against a fresh stack.

    tests/with-stack python tests/documents/type.py [FILE.md …]

The blocks of one document run in one shell, in order; a command that fails or an answer that is a problem document ends
it. A comment on the line before a block says how else it is meant:

    <!-- typed beside an operator who approves -->      requests that wait are approved meanwhile
    <!-- typed until http://127.0.0.1:9001/healthz -->  a server: stopped as soon as it answers there
    <!-- not typed: why -->                             it cannot run here, and why
"""

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Iterator, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ["README.md", "docs/guides/agents.md", "docs/guides/command-line.md", "docs/guides/operate.md", "docs/guides/deploy.md", "docs/operator-page.md"]
BLOCK = re.compile(r"(?:^ *<!-- (?P<how>(?:not )?typed.*?) -->\n)?^(?P<indent> *)```sh\n(?P<text>.*?)^ *```$", re.M | re.S)
OPERATOR, UNTIL, NOT = "typed beside an operator who approves", "typed until ", "not typed: "
# Longer than the slowest build of one package on a small machine.
DEADLINE_SECONDS = 900


class Block(NamedTuple):
    line: int
    how: str
    text: str


def blocks(path: Path) -> Iterator[Block]:
    text = path.read_text()
    for found in BLOCK.finditer(text):
        indent = len(found["indent"])
        lines = [line[indent:] for line in found["text"].splitlines()]
        yield Block(text.count("\n", 0, found.start()) + 1, found["how"] or "typed", "\n".join(lines) + "\n")


def script(name: str, found: list[Block]) -> str:
    """One shell for the document. A problem document is an answer to curl, and a failure to a reader."""
    parts = ["set -Eeuo pipefail; set -m"]
    for block in found:
        parts.append("echo " + shlex.quote(f"== {name}:{block.line} ({block.how})"))
        if block.how.startswith(NOT):
            continue
        if block.how.startswith(UNTIL):
            url = block.how.removeprefix(UNTIL)
            parts.append(
                f"(\n{block.text}) & server=$!\n"
                f"until curl -sf -m 5 -o /dev/null {url}; do kill -0 $server; sleep 0.2; done; kill -- -$server; wait $server || :"
            )
        else:
            parts.append(block.text)
    return "\n".join(parts) + "\n"


def approve_what_waits(stack: dict, stop: threading.Event) -> None:
    """An operator who approves whatever has waited for two seconds: the documents' own decisions come first."""
    seen: dict[str, float] = {}
    headers = {"Authorization": f"Bearer {stack['operators'][1]['token']}", "Content-Type": "application/json"}

    def call(path: str, body: dict | None = None) -> dict:
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(stack["base_url"] + path, data, headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    while not stop.wait(0.3):
        for item in call("/v1/hitl/requests?limit=200")["items"]:
            request_id = item["request_id"]
            if time.monotonic() - seen.setdefault(request_id, time.monotonic()) > 2:
                digest = call(f"/v1/hitl/requests/{request_id}")["action_digest"]
                call(f"/v1/hitl/requests/{request_id}/decision", {"decision": "approve", "action_digest": digest})


def type_document(name: str, stack: dict) -> bool:
    found = list(blocks(ROOT / name))
    environment = os.environ | {"ADMIN_URL": stack["base_url"], "ADMIN_TOKEN": stack["admin"]["token"]}
    # A reader has no configuration of the tests' own.
    environment = {key: value for key, value in environment.items() if key not in ("PORT", "DATABASE_URL", "NATS_URL")}
    # `relaytrace` is installed where the guides are read; here it is the one that was built.
    environment["PATH"] = f"{ROOT / 'target/debug'}:{environment['PATH']}"
    stop = threading.Event()
    operator = threading.Thread(target=approve_what_waits, args=(stack, stop), daemon=True)
    if any(block.how == OPERATOR for block in found):
        operator.start()
    with tempfile.TemporaryFile("w+") as output:
        shell = subprocess.Popen(
            ["bash", "-c", script(name, found)], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, start_new_session=True,
        )
        try:
            code = shell.wait(DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            code = f"more than {DEADLINE_SECONDS} s"
        finally:
            stop.set()
            subprocess.run(["pkill", "-KILL", "-s", str(shell.pid)], check=False)
        output.seek(0)
        text = output.read()
    is_good = code == 0 and "urn:relaytrace:problem:" not in text
    typed = sum(not block.how.startswith(NOT) for block in found)
    print(f"{name}: {typed} blocks typed, {len(found) - typed} not: {'good' if is_good else f'FAILED ({code})'}")
    if not is_good:
        print(text)
    return is_good


def main(names: list[str]) -> int:
    stack = json.loads(Path(os.environ["RELAYTRACE_DEV_JSON"]).read_text())
    described = ROOT / ".local/dev.json"
    if described.is_symlink() and not described.exists():
        # Of a run that was killed.
        described.unlink()
    if described.exists():
        print("a stack of this checkout runs: stop `make run` first")
        return 1
    described.symlink_to(os.environ["RELAYTRACE_DEV_JSON"])
    before = untracked()
    try:
        return 0 if all([type_document(name, stack) for name in names or DOCUMENTS]) else 1
    finally:
        described.unlink()
        # What the documents had their reader make: keys, an exported page.
        for made in untracked() - before:
            (ROOT / made).unlink()


def untracked() -> set[str]:
    command = ["git", "ls-files", "-z", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return {name for name in listed.stdout.decode().split("\0") if name}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
