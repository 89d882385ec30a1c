"""Operators by what they may: of one group only, and requests that are assigned to a group."""

import pytest

from support import Person, submit
from test_rules import rule, ruled, without_rules_afterwards  # noqa: F401


@pytest.fixture(scope="session")
def of_group(http, stack):
    """Operators of the tenant default who are in exactly this group."""

    def people(group: str) -> list[Person]:
        return [Person(http, known["token"], known["id"], known["name"]) for known in stack["operators"]
                if known["tenant"] == "default" and known["groups"] == [group]]

    return people


@pytest.fixture(scope="session")
def finance(of_group) -> list[Person]:
    return of_group("finance")


@pytest.fixture(scope="session")
def ops(of_group) -> list[Person]:
    return of_group("ops")


@pytest.fixture
def asked_of(agent, ruled):  # noqa: F811
    """A new request that a rule asks these of."""

    def ask(_of: dict | None = None, **terms) -> dict:
        ruled(rule("asks", {}, **terms))
        return submit(agent, **(_of or {}))

    return ask
