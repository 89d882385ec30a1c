#!/usr/bin/env python3
"""The demo agents of `make run` take every kind of answer: an approval, an edit and a response.

    DEMO=1 tests/with-stack python tests/documents/demo.py
"""

import json
import os
import sys
import time
import urllib.request
from pathlib import Path
from typing import Callable, TypeVar

import rfc8785
from hashlib import sha256

T = TypeVar("T")
STACK = json.loads(Path(os.environ["RELAYTRACE_DEV_JSON"]).read_text())
DEADLINE_SECONDS = 60
SUBJECT = "Your prices from January"


def call(path: str, body: dict | None = None) -> dict:
    headers = {"Authorization": f"Bearer {STACK['operator']['token']}", "Content-Type": "application/json"}
    data = json.dumps(body).encode() if body else None
    with urllib.request.urlopen(urllib.request.Request(STACK["base_url"] + path, data, headers), timeout=30) as answer:
        return json.load(answer)


def until(what: str, found: Callable[[], T | None]) -> T:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while (value := found()) is None:
        if time.monotonic() > deadline:
            sys.exit(f"the demo agents have not done it in {DEADLINE_SECONDS} s: {what}")
        time.sleep(0.2)
    return value


def asked(action_type: str) -> dict:
    def first() -> dict | None:
        items = call(f"/v1/hitl/requests?type={action_type}")["items"]
        return call(f"/v1/hitl/requests/{items[0]['request_id']}") if items else None

    return until(f"a question about {action_type}", first)


def decide(request: dict, decision: str, **members: object) -> None:
    body = {"decision": decision, "action_digest": request["action_digest"], **members}
    call(f"/v1/hitl/requests/{request['request_id']}/decision", body)


def execution(request: dict) -> str | None:
    state = call(f"/v1/hitl/requests/{request['request_id']}")["execution"]
    return state if state in ("succeeded", "failed") else None


def main() -> None:
    rollback, refund, subject = asked("deploy.rollback"), asked("refund.create"), asked("subject.choose")
    decide(rollback, "approve")
    arguments = {**refund["action"]["arguments"], "amount": "40.00"}
    digest = sha256(rfc8785.dumps({"type": "refund.create", "arguments": arguments})).hexdigest()
    decide(refund, "edit", arguments=arguments, edited_action_digest=f"sha256:{digest}")
    decide(subject, "respond", response=SUBJECT)
    for request in (rollback, refund):
        ended = until(f"the end of {request['title']}", lambda: execution(request))
        assert ended == "succeeded", (request["title"], ended)
    heard = asked("mail.send")
    assert heard["action"]["arguments"]["subject"] == SUBJECT, heard["action"]
    print("the demo agents: an approval, an edit and a response; both runs are on record as succeeded")


if __name__ == "__main__":
    main()
