"""One process of one agent: reads what it is to do from standard input, and says what came of it in its last line.

    play.py MODULE:FUNCTION < plan.json

The plan is `Plan` below; README.md says how it is used. `rows/play.mjs` is the same for Node.
"""

import asyncio
import importlib
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(1, str(ROOT / "sdk/python/tests"))
ANSWERS = ("approve", "reject", "edit", "respond")


class Cannot(Exception):
    """The framework has no way to express the situation. Says which, and why."""


@dataclass
class Plan:
    """What this process is to do."""

    folder: Path
    """What the agent keeps between its processes."""
    run: str
    """Names the run, the thread or the session."""
    calls: list[str]
    """The amounts that the model refunds in its first turn, one call each."""
    nested: bool = False
    """The calls are those of an agent that is the outer agent's tool."""
    resume: bool = False
    """Go on with what the folder keeps."""
    answers: dict[str, Any] = field(default_factory=dict)
    """For a framework by itself: what the person says to the call of each amount."""
    pause: bool = False
    """With a relay: do not wait for the answer in this process."""
    hang: bool = False
    """The tool does not end."""
    deadline: bool = False
    """Nobody answers: is there a deadline?"""
    forged: bool = False
    days: int = 0
    """How far the clock of this process is ahead."""
    relay: dict[str, Any] | None = None
    """Options of `relaytrace.Relay`."""
    aap: dict[str, Any] | None = None
    """`url` and `token`."""

    @classmethod
    def read(cls) -> "Plan":
        given = json.load(sys.stdin)
        return cls(**{**given, "folder": Path(given["folder"])})

    def refund(self, amount: str) -> str:
        """What every guarded tool does."""
        with (self.folder / "ledger").open("a") as ledger:
            ledger.write(amount + "\n")
        if self.hang:
            time.sleep(120)
        return f"refunded {amount}"

    @property
    def thinks_for(self) -> float:
        """How long an adapter waits in this process."""
        return 0 if self.pause else 25

    def answer(self, amount: str) -> dict[str, Any]:
        """What the person says to this call. Where its stored amount was changed: what was said to the call."""
        return self.answers.get(amount) or next(iter(self.answers.values()))

    def file(self, name: str) -> Path:
        return self.folder / name

    def has_no_deadline(self, ways: str) -> None:
        """`Cannot`, where nothing of the framework's takes a time until which a person may answer."""
        if self.deadline:
            raise Cannot(f"No deadline: {ways}; a pending call waits until somebody resumes it, as the cell of day 8 shows.")

    def says(self, decision: str, reason: str) -> None:
        """`Cannot`, where a person's answer is of a kind that the framework does not have."""
        if any(answer["decision"] == decision for answer in self.answers.values()):
            raise Cannot(reason)


def main() -> None:
    module, function = sys.argv[1].split(":")
    plan = Plan.read()
    if plan.days:
        import time_machine

        time_machine.travel(time.time() + plan.days * 86_400, tick=True).start()
    try:
        paused, told = asyncio.run(getattr(importlib.import_module(f"rows.{module}"), function)(plan))
    except Cannot as cannot:
        print(json.dumps({"cannot": str(cannot)}))
    else:
        print(json.dumps({"paused": paused, "told": told}))


if __name__ == "__main__":
    # The rows import this module by its name: one class `Cannot`.
    sys.modules["play"] = sys.modules["__main__"]
    main()
