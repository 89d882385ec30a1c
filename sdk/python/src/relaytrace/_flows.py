"""What an agent does at the relay, without input or output: `Relay` and `AsyncRelay` play these flows.

The order of a use is always the same: ask, wait, compare the digest, consume, run, report. Nothing that a caller or a
framework remembers stands for an approval.
"""

import logging
import math
import secrets
from collections.abc import Mapping
from typing import TypedDict

from ._about import About
from ._asking import Question
from ._call import Call, call
from ._digest import Action
from ._errors import (
    AlreadyUsed,
    Cancelled,
    ContractBroken,
    OtherAnswer,
    PermitExpired,
    PermitRevoked,
    Refused,
    Rejected,
    RelayError,
    Responded,
    StillPending,
    TimedOut,
    Undecided,
    UnknownOutcome,
)
from ._models import Acknowledged, Decision, Request
from ._permit import PermitInUse, Use
from ._receipt import check_decision
from ._session import Session
from ._wire import Flow, Json, Sleep

log = logging.getLogger("relaytrace")

LONGEST_POLL_SECONDS = 50
SWEEP_SECONDS = 120
"""From a deadline to the end of the sweep that decides what nobody has answered, both clocks' differences included."""
LOOK_AGAIN_SECONDS = 1.0
"""Between two looks at a request of a deployment that lets no call wait."""
MAX_GENERATIONS = 9
"""How often one call is asked anew because its approval had expired before it was used."""
NOTE_CHARACTERS = 2000


class _About(TypedDict):
    request: Request
    decision: Decision


def submit(session: Session, question: Question, generation: int = 1) -> Flow[Request]:
    """Ask. The same question again is the same request."""
    agent_id = session.agent_id
    about = About(agent_id, key=question.key_of(generation))
    envelope = question.envelope(agent_id, generation)
    answer = yield from call(session, Call("POST", "/v1/hitl/requests", about, envelope))
    return (yield from _checked(session, _request(answer, question.action)))


def view(session: Session, request_id: str, action: Action | None = None, wait: int = 0) -> Flow[Request]:
    """The request as it now stands, or as soon as it is decided within `wait` seconds. Takes no lease."""
    agent_id = session.agent_id
    path = f"/v1/agents/{agent_id}/requests/{request_id}" + (f"?wait_seconds={wait}" if wait else "")
    answer = yield from call(session, Call("GET", path, About(agent_id, (request_id,)), waits=wait))
    return (yield from _checked(session, _request(answer, action)))


def poll(session: Session, wait: float, limit: int = 10) -> Flow[tuple[list[Decision], float]]:
    """The decisions that are due, leased to this caller, and how long to pause before the next poll."""
    agent_id = session.agent_id
    seconds = max(0, min(LONGEST_POLL_SECONDS, math.ceil(wait)))
    path = f"/v1/agents/{agent_id}/decisions/poll?wait_seconds={seconds}&limit={limit}"
    answer = yield from call(session, Call("GET", path, About(agent_id), waits=seconds))
    decisions = [_decision(item) for item in answer["decisions"]]
    for decision in decisions:
        yield from _check_receipt(session, decision)
    return decisions, float(answer.get("retry_after_ms") or 0) / 1000


def wait(session: Session, request: Request, timeout: float | None = None) -> Flow[Decision]:
    """The decision on a request, which comes at the latest by its deadline. Raises `StillPending` after `timeout`.

    It looks and takes no delivery, so that of several processes that wait for one request each sees the decision at
    once.
    """
    started = session.monotonic()
    while request.decision is None:
        left = request.respond_by.timestamp() + SWEEP_SECONDS - session.now()
        own = float("inf") if timeout is None else timeout - (session.monotonic() - started)
        if own <= 0:
            raise StillPending(f"request {request.request_id} is still pending; the same key finds it", request=request)
        if left <= 0:
            raise Undecided(
                f"request {request.request_id} is pending after its deadline: the relay's timeout sweep does not run; "
                "tell its administrator",
                request=request,
            )
        looked = session.monotonic()
        # In whole seconds, and at least one: a look that does not wait would be repeated at once.
        seconds = max(1, math.ceil(min(LONGEST_POLL_SECONDS, left, own)))
        # A deadline may have been moved: the request says the one that stands.
        request = yield from view(session, request.request_id, request.action, seconds)
        # A deployment may shorten the wait, even to none.
        if request.decision is None and (early := LOOK_AGAIN_SECONDS - (session.monotonic() - looked)) > 0:
            yield Sleep(min(early, max(own, 0.0)))
    return request.decision


def approval(request: Request, decision: Decision) -> Decision:
    """The decision, where it is an approval. Raises what it is otherwise."""
    about: _About = {"request": request, "decision": decision}
    if decision.outcome == "approved":
        return decision
    if decision.outcome == "responded":
        raise Responded(decision.response, **about)
    if decision.outcome == "cancelled":
        raise Cancelled(decision.reason or f"cancelled by {decision.decided_by}", **about)
    if decision.outcome == "rejected" and decision.cause == "timeout":
        raise TimedOut(
            f"nobody answered request {request.request_id} before {request.respond_by}",
            request=request,
            decision=decision,
        )
    if decision.outcome == "rejected":
        raise Rejected(decision.reason, decision.decided_by, **about)
    raise UnknownOutcome(
        f"the outcome is {decision.outcome!r}, which this version of the package does not know: update it", **about
    )


def consume(session: Session, request: Request, decision: Decision, action: Action) -> Flow[Use]:
    """Use the approval up for `action`, which is about to run. Raises what stands against it."""
    about: _About = {"request": request, "decision": decision}
    approval(request, decision)
    if decision.action_digest != action.digest:
        raise OtherAnswer(
            f"the approval is for {decision.action_digest}, about to run is {action.digest}: it is not run"
        )
    agent_id = session.agent_id
    path = f"/v1/agents/{agent_id}/requests/{request.request_id}/consume"
    # A fresh key for this attempt to run: a repeated answer to it is this very process's.
    body = {"consume_key": secrets.token_hex(16), "action_digest": action.digest}
    try:
        answer = yield from call(session, Call("POST", path, About(agent_id, (request.request_id,)), body))
    except Refused as refused:
        detail = refused.problem.detail
        if refused.code == "already-consumed":
            raise AlreadyUsed(
                f"the approval of request {request.request_id} was used before: {detail}",
                request=request,
                decision=decision,
            ) from refused
        if refused.code == "permit-expired":
            raise PermitExpired(
                f"the approval of request {request.request_id} is not good any more", **about
            ) from refused
        if refused.code == "permit-revoked":
            raise PermitRevoked(detail, **about) from refused
        raise
    if answer.get("action_digest") != action.digest:
        raise OtherAnswer(f"consumed is {answer.get('action_digest')}, about to run is {action.digest}: it is not run")
    return Use(request, decision, action)


def ask(session: Session, question: Question, timeout: float | None = None) -> Flow[Use]:
    """Ask, wait and consume. An approval that expired before its use is asked for anew under `<key>:2`."""
    generation = 1
    while True:
        request = yield from submit(session, question, generation)
        decision = request.decision or (yield from wait(session, request, timeout))
        if not decision.approved:
            yield from _received(session, decision)
        approval(request, decision)
        try:
            return (yield from consume(session, request, decision, decision.action or question.action))
        except (PermitExpired, PermitRevoked) as fault:
            # It cannot be used any more, so nobody needs to be told again.
            yield from _received(session, decision)
            generation += 1
            if isinstance(fault, PermitRevoked):
                raise
            if generation > MAX_GENERATIONS:
                raise


def use(session: Session, decision: Decision, action: Action) -> Flow[Use]:
    """Consume an approval that came by itself, for `action`."""
    request = yield from view(session, decision.request_id)
    return (yield from consume(session, request, decision, action))


def again(use: Use) -> Flow[Use]:
    """An approval that this process has consumed, for the rest of a run that interrupted itself."""
    return use
    yield


def report(
    session: Session, request_id: str, state: str, note: str | None = None, evidence: str | None = None
) -> Flow[None]:
    """Say how a run ended. The same again is no error."""
    agent_id = session.agent_id
    body: Json = {"state": state}
    if note:
        body["note"] = note[:NOTE_CHARACTERS]
    if evidence:
        body["evidence_sha256"] = evidence
    path = f"/v1/agents/{agent_id}/requests/{request_id}/outcome"
    yield from call(session, Call("POST", path, About(agent_id, (request_id,)), body))


def end(session: Session, permit: PermitInUse, fault: BaseException | None) -> Flow[None]:
    """Report how the block of a permit ended. What has run stays so: a report that is lost is logged, not raised.

    The relay records an outcome that nobody reports as unknown by itself.
    """
    if (ending := permit.ending(fault)) is None:
        return
    state, note = ending
    try:
        yield from report(session, permit.request.request_id, state, note, permit.evidence_sha256)
    except RelayError as lost:
        log.warning("the outcome of request %s (%s) could not be reported: %s", permit.request.request_id, state, lost)


def acknowledge(
    session: Session, decision: Decision, result: str = "accepted", error: Mapping[str, str] | None = None
) -> Flow[Acknowledged]:
    """Say what became of a delivery: accepted, retry or failed."""
    agent_id = session.agent_id
    body: Json = {"result": result}
    if decision.delivery_id is not None:
        body["delivery_id"] = decision.delivery_id
    if error:
        body["error"] = dict(error)
    path = f"/v1/agents/{agent_id}/decisions/{decision.request_id}/ack"
    answer = yield from call(session, Call("POST", path, About(agent_id, (decision.request_id,)), body))
    if answer.get("delivery_id") != decision.delivery_id:
        raise OtherAnswer(f"acknowledged is {answer.get('delivery_id')}, asked was {decision.delivery_id}")
    return Acknowledged(decision.request_id, decision.delivery_id, str(answer["state"]), int(answer["attempt"]))


def cancel(session: Session, request_id: str, reason: str | None = None) -> Flow[None]:
    """Withdraw a question. Decided otherwise already: `Refused` with the code already-decided."""
    agent_id = session.agent_id
    path = f"/v1/agents/{agent_id}/requests/{request_id}/cancel"
    body = {"reason": reason} if reason else {}
    yield from call(session, Call("POST", path, About(agent_id, (request_id,)), body))


def receipt_keys(session: Session) -> Flow[Json]:
    """The published keys: pinned, or fetched once."""
    if session.receipt_keys is not None:
        return session.receipt_keys
    if session.fetched_keys is None:
        asked = Call("GET", "/.well-known/jwks.json", About(names_request=False), is_open=True)
        session.fetched_keys = yield from call(session, asked)
    return session.fetched_keys


def _received(session: Session, decision: Decision) -> Flow[None]:
    """End the delivery of a decision that is not to be run, whoever holds it."""
    agent_id = session.agent_id
    path = f"/v1/agents/{agent_id}/decisions/{decision.request_id}/ack"
    try:
        yield from call(session, Call("POST", path, About(agent_id, (decision.request_id,)), {"result": "accepted"}))
    except RelayError as fault:
        log.warning("the decision on request %s could not be acknowledged: %s", decision.request_id, fault)


def _checked(session: Session, request: Request) -> Flow[Request]:
    if request.decision:
        yield from _check_receipt(session, request.decision)
    return request


def _check_receipt(session: Session, decision: Decision) -> Flow[None]:
    """Where keys are pinned, no decision counts without its receipt."""
    if session.receipt_keys is not None:
        check_decision(decision, session.receipt_keys)
    return
    yield


def _request(answer: Json, action: Action | None) -> Request:
    try:
        return Request.parse(answer, action)
    except (KeyError, TypeError, AttributeError) as fault:
        raise ContractBroken(f"a request without its members: {fault!r}") from fault
    except ValueError as fault:
        raise OtherAnswer(f"the answer is about another action: {fault}") from fault


def _decision(item: Json) -> Decision:
    try:
        return Decision.parse(item)
    except (KeyError, TypeError, AttributeError) as fault:
        raise ContractBroken(f"a decision without its members: {fault!r}") from fault
    except ValueError as fault:
        raise OtherAnswer(f"the decision is about another action: {fault}") from fault
