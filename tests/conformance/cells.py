"""The columns: each function plays one situation, and returns where it passes, or raises what was lost."""

import re
from collections.abc import Callable

from scene import Answer, Cannot, Lost, Played, Scene

APPROVE: Answer = {"decision": "approve"}
REASON = "Refunded yesterday."
VOUCHER = "Use a voucher."
NOT_DECIDED = re.compile(r"no valid decision|could not obtain|could not be obtained|says nothing about whether")
NOBODY = re.compile(r"[Nn]obody|no person|in time|window|expired|did not respond before its timeout")


def needs(is_so: bool, what: str) -> None:
    if not is_so:
        raise Lost(what)


def ran(scene: Scene, *amounts: str) -> None:
    """The tool ran so, and not otherwise. Calls of one turn may run in any order."""
    found = scene.ran()
    if sorted(found) == sorted(amounts):
        return
    if len(set(found)) < len(found):
        raise Lost("The tool ran twice.")
    raise Lost(f"The tool ran with {', '.join(found) or 'nothing'}, and not with {', '.join(amounts) or 'nothing'}.")


def told(played: Played, *texts: str) -> None:
    for text in texts:
        needs(any(text in one for one in played.told), f"The model is not told {text!r}, but {played.told}.")


def on_record(scene: Scene, execution: str) -> None:
    """Where there is a relay, it knows how the one approved call ended."""
    found = [] if scene.is_own else [one for one in map(scene.people.execution, scene.requests()) if one not in (None, "none")]
    needs(scene.is_own or found == [execution], f"The relay has {found} on record.")


def approve(scene: Scene) -> None:
    played = scene.answered(answers={"12.40": APPROVE})
    ran(scene, "12.40")
    told(played, "refunded 12.40")
    on_record(scene, "succeeded")


def reject(scene: Scene) -> None:
    played = scene.answered(answers={"12.40": {"decision": "reject", "reason": REASON}})
    ran(scene)
    told(played, REASON)


def edit(scene: Scene) -> None:
    played = scene.answered(answers={"12.40": {"decision": "edit", "amount": "7.00"}})
    offered(scene, "The operator cannot edit: the protocol has approvals and denials (`decision.status`), and its requests offer no edit.")
    ran(scene, "7.00")
    told(played, "refunded 7.00")


def respond(scene: Scene) -> None:
    played = scene.answered(answers={"12.40": {"decision": "respond", "response": VOUCHER}})
    offered(scene, "The operator cannot answer in place of the call: the protocol has approvals and denials only (`decision.status`).")
    ran(scene)
    told(played, VOUCHER)


def offered(scene: Scene, otherwise: str) -> None:
    if scene.not_offered:
        ran(scene)
        if scene.row.kind == "aap":
            raise Cannot(otherwise)
        raise Lost(f"The adapter does not offer {scene.not_offered}.")


def timeout(scene: Scene) -> None:
    if not scene.is_own:
        scene.policy(2)
    played = scene.play(deadline=True, answers={"12.40": APPROVE} if scene.is_own else {})
    ran(scene)
    needs(bool(played.told) and bool(NOBODY.search(played.told[0])), f"The model is told {played.told}.")
    needs("rejected" not in played.told[0] and "denied" not in played.told[0], f"A timeout reads as a no: {played.told}.")


def parallel(scene: Scene) -> None:
    answers = {"1.10": APPROVE, "2.20": {"decision": "reject", "reason": REASON}, "3.30": APPROVE}
    played = scene.answered(*answers, answers=answers)
    ran(scene, "1.10", "3.30")
    found = played.told
    right = len(found) == 3 and "refunded 1.10" in found[0] and REASON in found[1] and "refunded 3.30" in found[2]
    needs(right, f"The model is told {found}.")


def nested(scene: Scene) -> None:
    played = scene.answered(answers={"12.40": APPROVE}, nested=True)
    ran(scene, "12.40")
    needs(not played.paused, "The outer run does not end.")


def crash(scene: Scene) -> None:
    scene.pause()
    scene.decide()
    scene.resume(kill=True)
    ran(scene, "12.40")
    scene.resume()
    ran(scene, "12.40")
    on_record(scene, "consumed")


def process(scene: Scene) -> None:
    scene.pause()
    scene.decide()
    played = scene.resume()
    ran(scene, "12.40")
    told(played, "refunded 12.40")


def day8(scene: Scene) -> None:
    scene.pause()
    before = None if scene.is_own else scene.requests()
    scene.age(8)
    scene.decide()
    played = scene.resume(days=8 if scene.is_own else 0)
    ran(scene, "12.40")
    told(played, "refunded 12.40")
    needs(scene.is_own or scene.requests() == before, "It was asked again.")


def down(scene: Scene) -> None:
    if scene.is_own:
        raise Cannot("Does not apply: the framework by itself asks nobody outside of its own run.")
    scene.down = True
    played = scene.play()
    ran(scene)
    needs(bool(played.told) and bool(NOT_DECIDED.search(played.told[0])), f"The model is told {played.told}.")


def forged(scene: Scene) -> None:
    scene.pause()
    scene.resume(forged=True, answers={"12.40": APPROVE} if scene.is_own else {})
    if scene.ran():
        raise Lost("It ran: whoever can resume the run can approve it, since the value of the resume is the approval.")


def changed(scene: Scene) -> None:
    scene.pause()
    scene.decide()
    scene.change("12.40", "99.99")
    try:
        scene.resume("99.99")
    except Lost:
        # It ended with an error: then nothing has run.
        ran(scene)
    if "99.99" in scene.ran():
        raise Lost("It ran with the changed arguments: the approval is not bound to them.")


CELLS: dict[str, Callable[[Scene], None]] = {
    cell.__name__: cell
    for cell in (approve, reject, edit, respond, timeout, parallel, nested, crash, process, day8, down, forged, changed)
}
