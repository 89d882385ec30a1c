"""The functions as Lambdas, beside the servers that `tests/lambda/run` starts."""

import json
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT / "tests" / "contract"))

from agent import Agent  # noqa: E402
from proxy import Proxy  # noqa: E402
from runtime_api import Environment  # noqa: E402


@pytest.fixture(scope="session")
def stack() -> dict:
    return json.loads(Path(os.environ["RELAYTRACE_DEV_JSON"]).read_text())


@pytest.fixture
def agent(stack) -> Agent:
    """For its tokens: it reaches nobody by HTTP."""
    known = stack["agent"]
    key = load_pem_private_key(known["private_key_pem"].encode(), password=None)
    return Agent(httpx.Client(), known["agent_id"], known["key_id"], key, known["response_secret"])


@pytest.fixture
def database(stack):
    with psycopg.connect(stack["database_url"], autocommit=True) as connection:
        yield connection


@pytest.fixture
def postgres(stack):
    """The way to Postgres."""
    url = urlsplit(stack["environment"]["DATABASE_URL"])
    proxy = Proxy((url.hostname, url.port))
    yield proxy
    proxy.close()


@pytest.fixture
def nats(stack):
    """The way to NATS."""
    url = urlsplit(stack["environment"]["NATS_URL"])
    proxy = Proxy((url.hostname, url.port))
    yield proxy
    proxy.close()


@pytest.fixture
def start(stack, postgres, nats):
    """Starts a function as a Lambda; its ways to its servers are ours."""
    started = []

    def start_function(name: str, **options) -> Environment:
        variables = stack["environment"] | {"RUST_LOG": "warn"}
        url = urlsplit(variables["DATABASE_URL"])
        variables["DATABASE_URL"] = variables["DATABASE_URL"].replace(f":{url.port}", f":{postgres.port}")
        variables["NATS_URL"] = f"nats://127.0.0.1:{nats.port}"
        environment = Environment(CHECKOUT / "target" / "debug" / name, variables, **options)
        started.append(environment)
        return environment

    yield start_function
    for environment in started:
        environment.__exit__()
