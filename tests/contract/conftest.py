"""The running stack, and the people and agents that the tests act as.

RELAYTRACE_DEV_JSON names the stack's description (default: .local/dev.json of this checkout).
Tests make agents of their own, so that they can run against a stack that is in use.
"""

import json
import os
import time
from pathlib import Path

import httpx
import pytest

pytest.register_assert_rewrite("support")

from support import Person, check_if_error, instant, register_agent  # noqa: E402

TESTS = Path(__file__).resolve().parent.parent
VECTORS = TESTS.parent / "contract" / "vectors"


def read_stack() -> dict:
    default = TESTS.parent / ".local" / "dev.json"
    return json.loads(Path(os.environ.get("RELAYTRACE_DEV_JSON", default)).read_text())


@pytest.fixture(scope="session")
def stack() -> dict:
    return read_stack()


def skip_what_the_emulator_loses(request: httpx.Request) -> None:
    """cargo-lambda's events hold text, and each header once: it answers 500 itself to bytes that are none."""
    texts = [value for _, value in request.headers.raw] + [request.read()]
    try:
        for text in texts:
            text.decode()
    except UnicodeDecodeError:
        pytest.skip("the emulator cannot carry what is not UTF-8")
    names = [name.lower() for name, _ in request.headers.raw]
    if len(names) != len(set(names)):
        pytest.skip("the emulator cannot carry a header twice")


@pytest.fixture(scope="session")
def http(stack):
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=50)
    hooks = {"response": [check_if_error]}
    if os.environ.get("RELAYTRACE_IN_EMULATOR"):
        hooks["request"] = [skip_what_the_emulator_loses]
    with httpx.Client(base_url=stack["base_url"], timeout=30, limits=limits, event_hooks=hooks) as client:
        yield client


@pytest.fixture(scope="session")
def admin(http, stack) -> Person:
    return Person(http, stack["admin"]["token"])


@pytest.fixture(scope="session")
def operators(http, stack) -> list[Person]:
    return [Person(http, known["token"], known["id"], known["name"]) for known in stack["operators"]
            if known["tenant"] == "default"]


@pytest.fixture(scope="session")
def operator(operators) -> Person:
    return operators[0]


@pytest.fixture
def agent(admin):
    """An agent of this test's own."""
    return register_agent(admin)


@pytest.fixture(scope="module")
def shared_agent(admin):
    """An agent of this module's own, for tests that leave nothing behind."""
    return register_agent(admin)


@pytest.fixture(scope="session")
def jwks(http) -> dict:
    """The published receipt keys."""
    return http.get("/.well-known/jwks.json").raise_for_status().json()


def pytest_collection_modifyitems(items):
    """What takes its time begins first and is looked at last."""
    items.sort(key=lambda item: (item.get_closest_marker("last") is not None)
               - (item.get_closest_marker("first") is not None))


@pytest.fixture(scope="session")
def wait_for():
    """Waits until the service's clock has passed a moment."""

    def wait(moment: str) -> None:
        time.sleep(max(0, instant(moment).timestamp() - time.time()) + 0.05)

    return wait
