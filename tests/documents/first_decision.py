#!/usr/bin/env python3
"""From an empty folder to the first decision, by the README's lines alone.

    tests/with-stack python tests/documents/first_decision.py [python | typescript]

The folder holds nothing but a checkout. The environment holds the lines that `make run` prints. Then each block of a
README's section "First decision" is typed, in its order, into one shell; a program is saved under the name that the line
before it gives. After it the line of the front page's table for the same language is run. An operator approves.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import urllib.request
from pathlib import Path

from type import approve_what_waits

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"(?:^As `(?P<name>[\w.]+)`:\n\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.M | re.S)
EXPORT = re.compile(r"^ *(export RELAYTRACE_[A-Z_]+=\S+)$", re.M)
FRONT = {
    "python": ('from relaytrace import Relay\narguments = {"order": "55-1042"}\nrefund = lambda order: print("refunding", order)\n', "first_row.py", "python"),
    "typescript": (
        'import { Relay } from "@relaytrace/sdk";\nconst relay = Relay.fromEnv();\nconst args = { order: "55-1042" };\n'
        'const refund = ({ order }) => console.log("refunding", order);\n', "first_row.mjs", "node"),
}
DEADLINE_SECONDS = 900


def section(readme: str) -> str:
    return re.split(r"^## ", readme.split("## First decision\n", 1)[1], maxsplit=1, flags=re.M)[0]


def row(language: str) -> str:
    """The code of the front page's table for this language."""
    label = {"python": "Python", "typescript": "TypeScript"}[language]
    found = re.search(rf"^\| {label} \| `(.+?)` \(\[", (ROOT / "README.md").read_text(), re.M)
    assert found, f"README.md has no line for {label}"
    return found[1]


def program(name: str, text: str) -> str:
    return f"cat > {name} <<'END OF FILE'\n{text}END OF FILE"


def script(language: str, exports: list[str]) -> str:
    steps = ["set -e", *exports]
    for block in BLOCK.finditer(section((ROOT / "sdk" / language / "README.md").read_text())):
        steps.append(block["text"] if block["kind"] == "sh" else program(block["name"], block["text"]))
    prelude, name, interpreter = FRONT[language]
    return "\n".join([*steps, program(name, prelude + row(language) + "\n"), f"{interpreter} {name}"]) + "\n"


def check_out(folder: Path) -> None:
    """What git knows of the SDKs."""
    listed = subprocess.run(["git", "ls-files", "-z", "sdk"], cwd=ROOT, check=True, capture_output=True)
    for name in listed.stdout.decode().split("\0"):
        if name:
            target = folder / "RelayTrace" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target)


def executions(stack: dict) -> dict[str, str]:
    """Of each request of the agent, how far its use is."""
    url = f"{stack['base_url']}/v1/hitl/requests?status=all&limit=200&type=refund.create&agent_id={stack['agent']['agent_id']}"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {stack['operator']['token']}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return {item["request_id"]: item["execution"] for item in json.load(answer)["items"]}


def first_decision(language: str, stack: dict, exports: list[str]) -> bool:
    before = executions(stack)
    with tempfile.TemporaryDirectory() as folder:
        check_out(Path(folder))
        bare = {name: os.environ[name] for name in os.environ if not name.startswith(("RELAYTRACE_", "VIRTUAL_ENV", "PYTHON"))}
        # The tools of the tests are not the reader's.
        bare["PATH"] = os.pathsep.join(part for part in bare["PATH"].split(os.pathsep) if ".local/" not in part)
        ended = subprocess.run(
            ["bash", "-c", script(language, exports)], cwd=folder, env=bare, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, timeout=DEADLINE_SECONDS, check=False,
        )
    made = [execution for request_id, execution in executions(stack).items() if request_id not in before]
    is_good = ended.returncode == 0 and ended.stdout.count("refunding") == 2 and made == ["succeeded", "succeeded"]
    print(f"{language}: from an empty folder to the first decision, and the front page's line: {'good' if is_good else 'FAILED'}")
    if not is_good:
        print(f"exit {ended.returncode}, executions {made}\n{ended.stdout}\n{ended.stderr}")
    return is_good


def main(languages: list[str]) -> int:
    described = Path(os.environ["RELAYTRACE_DEV_JSON"])
    stack = json.loads(described.read_text())
    exports = EXPORT.findall(described.with_name("out").read_text())
    assert len(exports) == 4, exports
    stop = threading.Event()
    threading.Thread(target=approve_what_waits, args=(stack, stop), daemon=True).start()
    try:
        return 0 if all([first_decision(language, stack, exports) for language in languages or FRONT]) else 1
    finally:
        stop.set()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
