"""Who gets in with which token: every way to be refused looks the same."""

import base64
import json
import socket
import time

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from forge import b64url, claims_of, compact, header_of, token_with, unsigned, with_key, with_secret
from support import (
    REQUESTS,
    assert_nothing_stored,
    expect,
    expect_problem,
    new_agent_id,
    new_envelope,
    new_key_id,
    new_private_key,
    public_pem,
    register_agent,
    submit,
)


def poll_path(agent_id: str) -> str:
    return f"/v1/agents/{agent_id}/decisions/poll"


def without_ids(response) -> dict:
    return {name: value for name, value in response.json().items() if name not in ("instance", "trace_id")}


@pytest.fixture(scope="module")
def refusal(http, shared_agent) -> dict:
    """What is said to someone without any token."""
    response = http.get(poll_path(shared_agent.agent_id))
    expect_problem(response, 401, "unauthenticated")
    return without_ids(response)


@pytest.fixture
def poll_with(http, shared_agent):
    """Polls as `shared_agent` with the given Authorization."""

    def poll(token: str | None = None, authorization: str | None = None):
        headers = {"authorization": authorization or f"Bearer {token}", "relaytrace-nonce": "nonce-nonce-nonce"}
        return http.get(poll_path(shared_agent.agent_id), headers=headers)

    return poll


@pytest.fixture
def refuse(poll_with, refusal):
    """Polls with what must be refused, in the words that everyone is refused with."""

    def poll(token: str | None = None, authorization: str | None = None) -> None:
        response = poll_with(token, authorization)
        expect_problem(response, 401, "unauthenticated")
        assert without_ids(response) == refusal
        assert "signature" not in response.headers

    return poll


def test_a_good_token_is_accepted(shared_agent, poll_with):
    """The forgeries below differ from this one only in what they forge."""
    expect(poll_with(token_with(shared_agent)), 200)


@pytest.mark.parametrize("authorization", [
    "Bearer", "Bearer x", "Bearer a.b", "Bearer a.b.c", "Bearer ...", "Bearer e30.e30.", "Basic YTpi", "Token x",
    "Bearer a.b.c.d.e", "garbage", "Bearer \xe9\xe9.\xe9.\xe9",
])
def test_what_is_no_token_is_refused(refuse, authorization):
    refuse(authorization=authorization.encode("latin-1"))


def test_a_good_token_under_another_scheme_is_refused(shared_agent, refuse):
    refuse(authorization=f"Basic {token_with(shared_agent)}")
    refuse(authorization=token_with(shared_agent))


def test_a_token_in_the_query_is_not_looked_at(http, shared_agent, refusal):
    response = http.get(poll_path(shared_agent.agent_id), params={"access_token": token_with(shared_agent)})
    expect_problem(response, 401, "unauthenticated")
    assert without_ids(response) == refusal


# ---------------------------------------------------------------- algorithms


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", ""])
def test_an_unsigned_token_is_refused(shared_agent, refuse, alg):
    header = header_of(shared_agent, alg=alg)
    refuse(compact(header, claims_of(shared_agent), unsigned))
    refuse(compact(header, claims_of(shared_agent), with_key(shared_agent.private_key)))


@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
def test_what_everyone_knows_is_no_secret(shared_agent, refuse, alg):
    public = shared_agent.private_key.public_key()
    known = [
        public_pem(shared_agent.private_key).encode(),
        public_pem(shared_agent.private_key).strip().encode(),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.Raw, PublicFormat.Raw),
        shared_agent.key_id.encode(),
        b"",
    ]
    for secret in [*known, shared_agent.secret]:
        refuse(compact(header_of(shared_agent, alg=alg), claims_of(shared_agent), with_secret(secret)))


@pytest.mark.parametrize("alg", ["ES256", "ES384", "RS256", "PS256", "Ed448", None, 7, ["EdDSA"]], ids=str)
def test_the_token_does_not_choose_the_algorithm(shared_agent, refuse, alg):
    refuse(token_with(shared_agent, header={"alg": alg}))
    refuse(token_with(shared_agent, header={"alg": alg}, key=new_private_key("ES256")))


@pytest.mark.parametrize("alg", ["EdDSA", "HS256", "none", "ES384"])
def test_an_es256_key_takes_only_es256(http, admin, alg):
    agent = register_agent(admin, "ES256")
    for token, status in ((token_with(agent), 200), (token_with(agent, header={"alg": alg}), 401)):
        response = http.get(poll_path(agent.agent_id), headers={"authorization": f"Bearer {token}"})
        assert response.status_code == status


def test_another_key_is_refused(shared_agent, refuse):
    refuse(token_with(shared_agent, key=new_private_key()))


@pytest.mark.parametrize("part", [0, 1, 2], ids=["header", "claims", "signature"])
def test_a_changed_token_is_refused(shared_agent, refuse, part):
    token = token_with(shared_agent)
    for position in range(0, len(token.split(".")[part]) - 2, 7):
        parts = token.split(".")
        text = parts[part]
        parts[part] = text[:position] + ("A" if text[position] != "A" else "B") + text[position + 1:]
        refuse(".".join(parts))


def test_the_signature_of_another_token_is_refused(shared_agent, refuse):
    signature = token_with(shared_agent).split(".")[2]
    longer = token_with(shared_agent, claims={"exp": int(time.time()) + 600}).rsplit(".", 1)[0]
    refuse(f"{longer}.{signature}")
    refuse(f"{longer}.")
    refuse(longer)


# ---------------------------------------------------------------- headers


@pytest.mark.parametrize("kid", [
    None, "", 7, ["k"], {"k": 1}, "unknown", "' OR '1'='1", "x'; DROP TABLE agents; --", "../../../../etc/passwd",
    "/dev/null", "%", "*", "\0", "k" * 129, "k" * 10_240,
], ids=lambda kid: str(kid)[:20])
def test_an_unknown_key_is_refused(shared_agent, refuse, kid):
    refuse(token_with(shared_agent, header={"kid": kid}))


def test_another_agents_key_is_refused(admin, shared_agent, refuse):
    other = register_agent(admin)
    refuse(token_with(shared_agent, header={"kid": other.key_id}, key=other.private_key))
    refuse(token_with(shared_agent, header={"kid": other.key_id}))
    refuse(token_with(shared_agent, key=other.private_key))


@pytest.fixture
def listener():
    """A place on this machine where nobody should call."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        yield server


def jwk_of(private_key, key_id: str) -> dict:
    raw = private_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": key_id, "x": b64url(raw)}


def offers(agent, private_key, listener) -> list[dict]:
    """Headers by which a token offers a key, or a place to fetch one."""
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/jwks.json"
    return [{"jwk": jwk_of(private_key, agent.key_id)}, {"jku": url}, {"x5u": url}, {"jku": url, "x5u": url}]


def nobody_called(listener) -> bool:
    try:
        listener.accept()
    except BlockingIOError:
        return True
    return False


def test_a_key_that_a_token_offers_is_not_taken(shared_agent, refuse, listener):
    attacker = new_private_key()
    for header in offers(shared_agent, attacker, listener):
        refuse(token_with(shared_agent, header=header, key=attacker))
        refuse(token_with(shared_agent, header=header | {"kid": "unknown"}, key=attacker))
        refuse(token_with(shared_agent, header=header | {"kid": None}, key=attacker))
    assert nobody_called(listener)


def test_a_key_that_a_token_offers_is_ignored(shared_agent, poll_with, listener):
    for header in offers(shared_agent, new_private_key(), listener):
        expect(poll_with(token_with(shared_agent, header=header)), 200)
    assert nobody_called(listener)


@pytest.mark.parametrize("crit", [["exp"], ["b64"], ["unknown"], [], "exp"], ids=str)
def test_a_critical_header_is_refused(shared_agent, refuse, crit):
    refuse(token_with(shared_agent, header={"crit": crit, "exp": 1, "b64": True, "unknown": 1}))


# ---------------------------------------------------------------- claims

REQUIRED = ["iss", "sub", "aud", "iat", "exp"]


@pytest.mark.parametrize("claim", REQUIRED)
def test_a_token_without_a_required_claim_is_refused(shared_agent, refuse, claim):
    refuse(token_with(shared_agent, claims={claim: None}))


@pytest.mark.parametrize("claim, value", [
    *[(claim, value) for claim in ("iss", "sub") for value in (7, True, [], ["x"], {}, "", "another-agent")],
    *[("aud", value) for value in (7, True, {}, [], "", "relaytrace2", "RELAYTRACE", ["another"])],
    *[(claim, value) for claim in ("iat", "exp", "nbf") for value in ("soon", True, [], {}, "4102444800")],
    ("iat", -1), ("exp", -1), ("exp", 0), ("exp", 1e300), ("iat", 1e300), ("nbf", 1e300),
], ids=str)
def test_a_claim_of_another_type_or_value_is_refused(shared_agent, refuse, claim, value):
    refuse(token_with(shared_agent, claims={claim: value}))


def test_iss_and_sub_are_the_same_agent(admin, shared_agent, refuse):
    other = register_agent(admin)
    for claims in ({"iss": other.agent_id}, {"sub": other.agent_id}, {"iss": other.agent_id, "sub": other.agent_id}):
        refuse(token_with(shared_agent, claims=claims))


@pytest.mark.parametrize("iat, exp, nbf", [
    (-120, -60, None),
    (-4000, -3600, None),
    (60, 120, None),
    (3600, 3700, None),
    (0, 300, 60),
    (0, 300, 3600),
    (0, 901, None),
    (0, 86_400, None),
    (-600, 400, None),
    (-86_400, 100, None),
], ids=str)
def test_a_token_of_another_time_is_refused(shared_agent, refuse, iat, exp, nbf):
    now = int(time.time())
    claims = {"iat": now + iat, "exp": now + exp, "nbf": None if nbf is None else now + nbf}
    refuse(token_with(shared_agent, claims=claims))


@pytest.mark.parametrize("iat, exp, nbf", [(0, 900, None), (-600, 300, None), (0, 300, 0), (-60, 60, -60)], ids=str)
def test_a_token_within_its_time_is_accepted(shared_agent, poll_with, iat, exp, nbf):
    now = int(time.time())
    claims = {"iat": now + iat, "exp": now + exp, "nbf": None if nbf is None else now + nbf}
    expect(poll_with(token_with(shared_agent, claims=claims)), 200)


# ---------------------------------------------------------------- other people's doors


@pytest.mark.parametrize("method, path", [
    ("GET", "decisions/poll"),
    ("GET", "requests/{request_id}"),
    ("POST", "requests/{request_id}/cancel"),
    ("POST", "decisions/{request_id}/ack"),
])
def test_another_agents_path_is_forbidden_whether_it_exists_or_not(admin, agent, method, path):
    other = register_agent(admin)
    path = path.format(request_id=submit(other)["request_id"])
    answers = [
        agent.call(method, f"/v1/agents/{agent_id}/{path}", json={} if method == "POST" else None)
        for agent_id in (other.agent_id, new_agent_id())
    ]
    for answer in answers:
        expect_problem(answer, 403, "forbidden")
    assert without_ids(answers[0]) == without_ids(answers[1])


def test_a_person_is_no_agent(agent, operator, admin):
    for person in (operator, admin):
        assert person.get(poll_path(agent.agent_id)).status_code in (401, 403)
        assert person.post(REQUESTS, json=new_envelope(agent.agent_id)).status_code in (401, 403)
    assert_nothing_stored(agent, operator)


def test_an_agent_is_no_person(http, agent):
    request_id = submit(agent)["request_id"]
    token = token_with(agent, claims={"roles": ["operator", "admin"], "name": "Mallory"})
    headers = {"authorization": f"Bearer {token}"}
    for method, path in (
        ("GET", REQUESTS),
        ("GET", f"{REQUESTS}/{request_id}"),
        ("POST", f"{REQUESTS}/{request_id}/decision"),
        ("GET", "/v1/admin/agents"),
        ("POST", "/v1/admin/agents"),
        ("POST", "/internal/timeout-sweep"),
    ):
        body = {"json": {"decision": "approve"}} if method == "POST" else {}
        assert http.request(method, path, headers=headers, **body).status_code in (401, 403)
    assert expect(agent.view(request_id), 200)["decision"] is None


def test_roles_do_not_imply_each_other(agent, operator, admin):
    request_id = submit(agent)["request_id"]
    for answer in (
        admin.get(REQUESTS),
        admin.get(f"{REQUESTS}/{request_id}"),
        admin.decide(request_id, "approve"),
        operator.get("/v1/admin/agents"),
        operator.get(f"/v1/admin/requests/{request_id}/chain"),
        operator.post("/v1/admin/agents", json={"agent_id": new_agent_id(), "name": "x"}),
        operator.post("/internal/timeout-sweep"),
    ):
        expect_problem(answer, 403, "forbidden")
    assert expect(agent.view(request_id), 200)["decision"] is None


def parts_of(token: str) -> tuple[dict, dict]:
    header, claims, _ = token.split(".")
    return tuple(json.loads(base64.urlsafe_b64decode(part + "==")) for part in (header, claims))


def test_a_forged_operator_is_refused(http, agent, operator):
    request_id = submit(agent)["request_id"]
    header, claims = parts_of(operator.token)
    raised = claims | {"roles": ["operator", "admin"]}
    signature = operator.token.split(".")[2]
    forgeries = [
        compact(header | {"alg": "none"}, claims, unsigned),
        compact(header | {"alg": "HS256"}, claims, with_secret(b"secret")),
        compact(header | {"alg": "HS256"}, claims, with_secret(b"")),
        compact(header, claims, with_key(new_private_key())),
        compact(header | {"alg": "ES256"}, claims, with_key(new_private_key("ES256"))),
        compact(header | {"alg": "EdDSA", "kid": agent.key_id}, raised, with_key(agent.private_key)),
        compact(header | {"alg": "EdDSA", "jwk": jwk_of(agent.private_key, "x")}, claims, with_key(agent.private_key)),
        compact(header, raised, unsigned) + signature,
        operator.token.rsplit(".", 1)[0] + ".",
    ]
    for token in forgeries:
        authorization = {"authorization": f"Bearer {token}"}
        for answer in (
            http.get(REQUESTS, headers=authorization),
            http.post(f"{REQUESTS}/{request_id}/decision", headers=authorization, json={"decision": "approve"}),
            http.get("/v1/admin/agents", headers=authorization),
        ):
            expect_problem(answer, 401, "unauthenticated")
    assert expect(agent.view(request_id), 200)["decision"] is None


# ---------------------------------------------------------------- first of all, the token


@pytest.mark.parametrize("body, content_type", [
    (b"", "application/json"),
    (b"nonsense", "application/json"),
    (b"{}", "text/plain"),
    (b"[" * 1000, "application/json"),
    (b'{"padding": "' + b"x" * 300 * 1024 + b'"}', "application/json"),
], ids=["empty", "no JSON", "text", "deep", "large"])
def test_authentication_comes_before_everything_else(http, shared_agent, refusal, body, content_type):
    headers = {"content-type": content_type, "relaytrace-nonce": "!"}
    unknown = "0192f5c4-6a3e-7c11-9d2f-2f0c5a8e4b17"
    for path in (
        REQUESTS,
        f"/v1/agents/{shared_agent.agent_id}/requests/{unknown}/cancel",
        f"/v1/agents/{shared_agent.agent_id}/decisions/{unknown}/ack",
        f"/v1/agents/{new_agent_id()}/decisions/nonsense/ack",
        f"{REQUESTS}/{unknown}/decision",
        "/v1/admin/agents",
        f"/v1/admin/agents/{new_agent_id()}/keys",
    ):
        for authorization in ({}, {"authorization": f"Bearer {token_with(shared_agent, header={'kid': new_key_id()})}"}):
            response = http.post(path, content=body, headers=headers | authorization)
            expect_problem(response, 401, "unauthenticated")
            assert without_ids(response) == refusal
