"""Whether a verified answer is about what was asked (contract, "Signed responses").

The signature covers the nonce, not path and body, so that proxies may rewrite paths. A proxy that sends one question's
nonce with another question's path gets a signed answer to the other question; only the answer's members tell.
"""

from dataclasses import dataclass
from urllib.parse import urlsplit

from ._errors import OtherAnswer
from ._wire import Json


@dataclass(frozen=True)
class About:
    """What a call asked about. What is None is not compared."""

    agent_id: str | None = None
    request_ids: tuple[str, ...] = ()
    """The requests that an answer may name; empty: any of the agent's."""
    key: str | None = None
    names_request: bool = True
    """Whether the answer is about one request, and must name it."""

    def check(self, answer: Json) -> None:
        """Raise `OtherAnswer` where a member of a 2xx body belongs to another question."""
        if self.agent_id is not None:
            self._same("agent_id", answer.get("agent_id"), (self.agent_id,))
        items = answer["decisions"] if "decisions" in answer else answer.get("items", [answer])
        for item in items if self.names_request else ():
            self._item(item)
            if decision := item.get("decision"):
                self._item(decision)
                self._same("decision's request_id", decision.get("request_id"), (str(item.get("request_id")),))

    def check_problem(self, problem: Json, path: str) -> None:
        """Raise `OtherAnswer` where a problem document is that of another call."""
        instance = urlsplit(str(problem.get("instance"))).path
        # A proxy may serve the relay below a path of its own, and either side may be the one that does not see it.
        if not instance.endswith(urlsplit(path).path):
            self._same("instance", instance, (urlsplit(path).path,))
        decision = problem.get("decision")
        if decision and self.request_ids and decision.get("request_id") is not None:
            self._same("decision's request_id", decision["request_id"], self.request_ids)

    def _item(self, item: Json) -> None:
        if self.request_ids:
            self._same("request_id", item.get("request_id"), self.request_ids)
        if self.key is not None and "client_request_key" in item:
            self._same("client_request_key", item["client_request_key"], (self.key,))

    @staticmethod
    def _same(member: str, answered: object, asked: tuple[str, ...]) -> None:
        if answered not in asked:
            raise OtherAnswer(
                f"the answer is about another request: its {member} is {answered}, asked was {', '.join(asked)}. "
                "Something between mixes answers up, so this one does not count"
            )
