"""What is served to whom: methods, unknown routes, what is public, and what the document says."""

import re
import uuid
from pathlib import Path

import httpx
import pytest

from conftest import read_stack
from support import REQUESTS, expect, expect_problem

PUBLIC = {"/", "/openapi.json", "/.well-known/jwks.json", "/healthz", "/readyz"}
PAGE_ASSET = re.compile(r"^/(page|assets|static)/|\.(html|css|js|mjs|svg|png|ico|webmanifest)$")
# They refuse in words of their own: test_aap.py and test_claude_code.py.
BRIDGES = ("/aap/v1/", "/v1/hooks/")
METHODS = {"get", "put", "post", "delete", "patch", "options", "head", "trace"}

# The table of the contract's endpoints, but for the page's files.
CONTRACT = re.findall(r"^\| [\w-]+ \| `([A-Z]+ /[^`]+)` \|", (Path(__file__).parents[2] / "contract" / "README.md").read_text(), re.M)


def operations(document: dict) -> list[tuple[str, str]]:
    return [(method.upper(), path) for path, item in document["paths"].items() for method in item if method in METHODS]


def guarded_operations() -> list[tuple[str, str]]:
    """The document's routes that need a token: asked of the running stack when tests are collected."""
    try:
        document = httpx.get(f"{read_stack()['base_url']}/openapi.json").raise_for_status().json()
    except (OSError, httpx.HTTPError):
        return [("GET", "no stack is running")]
    return [(method, path) for method, path in operations(document)
            if path not in PUBLIC and not PAGE_ASSET.search(path) and not path.startswith(BRIDGES)]


# Operators' routes that administrators have, too.
ALSO_ADMINS = {
    ("GET", "/v1/hitl/delegations"), ("DELETE", "/v1/hitl/delegations/{delegation_id}"),
    ("PUT", "/v1/hitl/requests/{request_id}/assignment"),
}


def who(method: str, path: str) -> str:
    """Whose route it is, by the contract."""
    if path.startswith("/v1/admin/tenants"):
        return "owner"
    if path.startswith(("/v1/admin/", "/internal/")):
        return "admin"
    if path.startswith("/v1/agents/") or method == "POST" and path.endswith(("/requests", "/consume", "/outcome")):
        return "agent"
    return "operator"


def filled(path: str, stack: dict) -> str:
    """The path with plausible values for its parameters."""
    values = {"agent_id": stack["agent"]["agent_id"], "key_id": "key-2026-11"}
    return re.sub(r"{(\w+)}", lambda name: values.get(name[1], str(uuid.uuid4())), path)


def pytest_generate_tests(metafunc):
    if "guarded" in metafunc.fixturenames:
        metafunc.parametrize("guarded", guarded_operations(), ids=" ".join)


def body_for(method: str) -> dict:
    return {} if method == "GET" else {"json": {}}


def test_a_guarded_route_refuses_who_has_no_token(http, stack, guarded):
    method, path = guarded
    expect_problem(http.request(method, filled(path, stack), **body_for(method)), 401, "unauthenticated")


@pytest.mark.parametrize("kind", ["agent", "operator", "admin", "owner"])
def test_a_guarded_route_refuses_the_wrong_kind_of_token(http, stack, shared_agent, guarded, kind):
    method, path = guarded
    if kind == who(method, path) or kind == "admin" and guarded in ALSO_ADMINS:
        kind = "forged"
    tokens = {
        "agent": shared_agent.token(),
        "operator": stack["operator"]["token"],
        "admin": stack["admin"]["token"],
        "owner": stack["owner"]["token"],
        "forged": stack["admin"]["token"][:-8] + "AAAAAAAA",
    }
    headers = {"authorization": f"Bearer {tokens[kind]}"}
    response = http.request(method, filled(path, stack), headers=headers, **body_for(method))
    assert response.status_code in ((401,) if kind == "forged" else (401, 403)), response.text


def test_every_guarded_route_is_somebodys(guarded):
    assert guarded[1].startswith(("/v1/", "/internal/"))


def without_names(operation: tuple[str, str]) -> str:
    return re.sub(r"{\w+}", "{}", " ".join(operation))


@pytest.fixture(scope="module")
def document(http) -> dict:
    return expect(http.get("/openapi.json"), 200)


@pytest.mark.parametrize("route", CONTRACT)
def test_the_document_has_the_contracts_routes(document, route):
    assert without_names(tuple(route.split())) in {without_names(operation) for operation in operations(document)}


def test_the_document_is_openapi_3_1(document):
    assert document["openapi"].startswith("3.1.")


# ---------------------------------------------------------------- public routes


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_needs_no_token(http, path):
    assert http.get(path).status_code == 200


def test_readiness_says_how_its_parts_are(http):
    readiness = expect(http.get("/readyz"), 200)
    assert readiness["status"] == "ready"
    assert (readiness["postgres"], readiness["nats"]) == ("connected", "connected")
    assert "nats_trouble" not in readiness
    assert readiness.get("sweep_age_seconds", 0) >= 0


def test_the_page_is_html(http):
    response = http.get("/")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")


def test_only_public_keys_are_published(http, jwks):
    assert jwks["keys"]
    for key in jwks["keys"]:
        assert (key["kty"], key["crv"]) == ("OKP", "Ed25519")
        assert key["kid"] and key["x"]
        assert "d" not in key and "k" not in key


@pytest.mark.parametrize("path", ["/internal/timeout-sweep", "/internal/notify"])
def test_scheduled_work_can_be_asked_for(admin, path):
    counts = expect(admin.post(path), 200)
    assert counts and all(isinstance(count, int) and count >= 0 for count in counts.values())


# ---------------------------------------------------------------- methods and unknown routes

UNKNOWN = "0192f5c4-6a3e-7c11-9d2f-2f0c5a8e4b17"


@pytest.mark.parametrize("method, path, allowed", [
    ("DELETE", REQUESTS, {"GET", "POST"}),
    ("PUT", REQUESTS, {"GET", "POST"}),
    ("DELETE", f"{REQUESTS}/{UNKNOWN}", {"GET"}),
    ("GET", f"{REQUESTS}/{UNKNOWN}/decision", {"POST"}),
    ("PUT", f"{REQUESTS}/{UNKNOWN}/decision", {"POST"}),
    ("DELETE", "/openapi.json", {"GET"}),
    ("POST", "/.well-known/jwks.json", {"GET"}),
    ("POST", "/healthz", {"GET"}),
])
def test_another_method_is_refused(operator, method, path, allowed):
    response = operator.call(method, path)
    expect_problem(response, 405, "method-not-allowed")
    assert {name.strip() for name in response.headers["allow"].split(",")} - {"HEAD", "OPTIONS"} == allowed


@pytest.mark.parametrize("method, path, allowed", [
    ("GET", "/internal/timeout-sweep", {"POST"}),
    ("DELETE", "/v1/admin/agents", {"GET", "POST"}),
    ("PUT", "/v1/admin/agents/some-agent", {"GET", "PATCH"}),
    ("POST", f"/v1/admin/requests/{UNKNOWN}/chain", {"GET"}),
    ("POST", "/v1/admin/stale", {"GET"}),
    ("GET", f"/v1/admin/requests/{UNKNOWN}/disposition", {"POST"}),
    ("DELETE", "/v1/admin/dead-letters", {"GET"}),
    ("GET", f"/v1/admin/dead-letters/{UNKNOWN}/retry", {"POST"}),
    ("POST", "/v1/admin/timeout-policies", {"GET", "PUT"}),
])
def test_another_method_of_an_administrator_is_refused(admin, method, path, allowed):
    response = admin.call(method, path)
    expect_problem(response, 405, "method-not-allowed")
    assert {name.strip() for name in response.headers["allow"].split(",")} - {"HEAD", "OPTIONS"} == allowed


@pytest.mark.parametrize("path", [
    "/nothing", "/v1", "/v1/", "/v2/hitl/requests", f"{REQUESTS}/{UNKNOWN}/nothing", "/v1/hitl",
    "/.well-known/nothing", "/..%2f..%2fetc/passwd",
])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unknown_route_is_not_found(operator, method, path):
    expect_problem(operator.call(method, path), 404, "not-found")


@pytest.mark.parametrize("path", ["/v1/admin/nothing", "/internal/nothing"])
def test_an_unknown_route_of_an_administrator_is_not_found(admin, path):
    expect_problem(admin.get(path), 404, "not-found")


def test_every_error_has_its_own_trace_id(operator):
    traces = {expect(operator.get("/nothing"), 404)["trace_id"] for _ in range(5)}
    assert len(traces) == 5
