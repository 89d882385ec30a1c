"""From an empty environment to the first decision: the wheel alone, by the README's lines."""

import json
import os
import threading
import urllib.request
from pathlib import Path

from relaytrace import Relay

stack = json.loads(Path(os.environ["RELAYTRACE_DEV_JSON"]).read_text())
known = stack["agent"]
environment = {
    "RELAYTRACE_URL": stack["base_url"],
    "RELAYTRACE_AGENT_ID": known["agent_id"],
    "RELAYTRACE_KEY_ID": known["key_id"],
    "RELAYTRACE_PRIVATE_KEY": known["private_key_pem"],
    "RELAYTRACE_RESPONSE_SECRET": known["response_secret"],
}
relay = Relay.from_env(environment)
request = relay.submit("refund.create", {"customer": "88213", "amount": "1240.00"}, title="Refund 1,240 EUR")


def approve() -> None:
    url = f"{stack['base_url']}/v1/hitl/requests/{request.request_id}/decision"
    headers = {"Authorization": f"Bearer {stack['operator']['token']}", "Content-Type": "application/json"}
    body = json.dumps({"decision": "approve", "action_digest": request.action_digest}).encode()
    urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=10).close()


threading.Timer(0.5, approve).start()
decision = relay.wait(request)
assert decision.approved, decision
assert relay.verify_receipt(decision.receipt or "").action_digest == request.action_digest
print(f"the wheel in an empty environment: {decision.outcome} by {decision.decided_by}")
