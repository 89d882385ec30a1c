"""What is asked: the envelope of a question (contract, "Submit")."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Literal, TypeAlias, TypedDict

from typing_extensions import Unpack

from ._digest import Action, is_legal_key
from ._errors import ConfigurationError
from ._session import Session
from ._wire import Json

Answer: TypeAlias = Literal["approve", "reject", "edit", "respond"]
"""What the agent can take as an answer."""
Priority: TypeAlias = Literal["P1", "P2", "P3", "P4"]


class AskOptions(TypedDict, total=False):
    """What a question may say besides its action."""

    title: str
    """What the operator reads first; 1 to 200 characters. Without it: the type of the action."""
    priority: Priority
    """P1 is the most urgent. P2 where nothing is said."""
    summary: str
    """Markdown for the operator, up to 8,000 characters."""
    context: Mapping[str, Any]
    """For the operator's eyes."""
    resume: Mapping[str, Any]
    """Comes back with the decision, untouched and shown to nobody."""
    respond_by: datetime
    """Shortens the time for an answer. The same question again must say the same."""
    answers: Collection[Answer]
    """What the agent can take; approve and reject where nothing is said. With edit, run `permit.arguments` only."""
    edit_schema: Mapping[str, Any]
    """JSON Schema (2020-12) that edited arguments must meet."""
    respond_schema: Mapping[str, Any]
    """JSON Schema that a response must meet."""
    group: str
    """Questions of one agent that belong together, such as the parallel calls of one turn."""
    on_behalf_of: Mapping[str, str]
    """`{id, name?}` of the person for whom the agent acts: who may not approve it."""
    permit_seconds: int
    """How long an approval may be used: 10 to 86,400."""
    key: str
    """The question's own name: the same key finds the same question again, after a crash too."""


@dataclass(frozen=True)
class Question:
    """An action, the key that it is asked under, and the members of its envelope."""

    action: Action
    key: str
    members: Json

    def envelope(self, agent_id: str, generation: int = 1) -> Json:
        """The body of the submission. A later generation asks anew: `<key>:2`."""
        return {
            "envelope_version": "1",
            "agent_id": agent_id,
            "client_request_key": self.key_of(generation),
            **self.members,
            "action": {"type": self.action.type, "arguments": self.action.arguments},
        }

    def key_of(self, generation: int) -> str:
        """The key of a generation."""
        return self.key if generation == 1 else f"{self.key}:{generation}"


def question(session: Session, type: str, arguments: Mapping[str, Any], **options: Unpack[AskOptions]) -> Question:
    """The question, its key made. Raises `UnsupportedValue` where the arguments are no JSON."""
    action = Action.make(type, arguments)
    members: Json = {name: value for name, value in options.items() if name != "key" and value is not None}
    unknown = members.keys() - AskOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"ask() has no option {', '.join(sorted(unknown))}")
    members.setdefault("title", type)
    members.setdefault("priority", "P2")
    if "respond_by" in members:
        members["respond_by"] = _utc(members["respond_by"])
    if "answers" in members:
        members["answers"] = sorted({*members["answers"], "reject"})
    key = options.get("key") or session.next_key(action)
    if not is_legal_key(key):
        raise ConfigurationError(f"key is {key!r}: 1 to 125 characters of letters, digits, and . _ : -")
    return Question(action, key, members)


def _utc(moment: datetime) -> str:
    if moment.tzinfo is None:
        raise ConfigurationError("respond_by has no time zone: use datetime.now(timezone.utc) + …")
    return moment.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")
