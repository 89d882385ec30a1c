"""RelayTrace's Python SDK without a framework: a program that asks before each call."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from play import ANSWERS, Cannot, Plan
from relaytrace import Relay, RelayError, StillPending


async def relaytrace(plan: Plan) -> tuple[bool, list[str]]:
    if plan.nested:
        raise Cannot("No agents: a client without a framework has none to nest.")
    with Relay(**plan.relay or {}) as relay, ThreadPoolExecutor() as threads:
        said = list(threads.map(lambda numbered: ask(plan, relay, *numbered), enumerate(plan.calls)))
    return any(pending for pending, _ in said), [text for _, text in said]


def ask(plan: Plan, relay: Relay, number: int, amount: str) -> tuple[bool, str]:
    options: Any = {"key": f"{plan.run}:{number}", "answers": ANSWERS, "timeout": plan.thinks_for}
    try:
        with relay.ask("refund", {"amount": amount}, **options) as permit:
            return False, plan.refund(permit.arguments["amount"])
    except RelayError as fault:
        return isinstance(fault, StillPending), fault.for_model
