"""Who people are: several issuers, their tenants, and tokens of the shapes that identity providers give.

Each shape is that of docs/guides/identity.md, with this test's own keys in place of the provider's.
"""

import json
import secrets
import time
import uuid

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from serving import another_service
from support import REQUESTS, Person, expect, expect_problem, register_agent, submit

ME = "/v1/hitl/me"


class Provider:
    """An identity provider: an issuer with one key."""

    def __init__(self, name: str, iss: str, alg: str = "RS256", **binding):
        self.iss, self.alg, self.kid = iss, alg, secrets.token_hex(8)
        make = {"RS256": lambda: rsa.generate_private_key(65537, 2048), "ES256": lambda: ec.generate_private_key(ec.SECP256R1())}
        self.key = make[alg]()
        algorithm = jwt.algorithms.get_default_algorithms()[alg]
        # Entra ID's keys name no alg.
        jwk = json.loads(algorithm.to_jwk(self.key.public_key())) | {"kid": self.kid, "use": "sig"}
        jwk.pop("key_ops", None)
        self.entry = {"name": name, "issuer": iss, "jwks": {"keys": [jwk]}} | binding

    def token(self, claims: dict) -> str:
        now = int(time.time())
        return jwt.encode({"iss": self.iss, "iat": now, "exp": now + 600} | claims, self.key, self.alg, {"kid": self.kid})


KEYCLOAK = {
    "sub": "8f6b3c1e-5f0a-4a41-9a7e-1d4f0b1f2f33", "aud": ["relaytrace", "account"], "typ": "Bearer", "azp": "relaytrace-page",
    "realm_access": {"roles": ["offline_access", "operator", "uma_authorization"]},
    "resource_access": {"account": {"roles": ["manage-account"]}}, "scope": "openid profile email",
    "groups": ["finance", "ops"], "email_verified": True, "name": "Maria Keller", "preferred_username": "maria",
    "given_name": "Maria", "family_name": "Keller", "email": "Maria@example.org",
}
ENTRA_ID = {
    "sub": "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ", "aud": "6cb04018-a3f5-46a7-b995-940c78f5aef3", "ver": "2.0",
    "tid": "9122040d-6c67-4c5b-b112-36a304b66dad", "oid": "00000000-0000-0000-66f3-3332eca7ea81",
    "name": "Maria Keller", "preferred_username": "maria@example.org", "roles": ["operator"],
    "groups": ["0760b6cf-170e-4a14-91b3-4b78e0739963"], "nonce": "123523", "uti": "x", "rh": "0.AAAA",
}
OKTA = {
    "sub": "maria@example.org", "aud": "api://relaytrace", "ver": 1, "jti": "AT.x", "cid": "0oa9x1", "uid": "00u9vme",
    "scp": ["openid", "profile"], "auth_time": 1700000000, "groups": ["Everyone", "finance"], "roles": ["operator"],
}
AUTH0 = {
    "sub": "auth0|5f7c8ec7c33c6c004bbafe82", "aud": ["https://relaytrace.example.org", "https://example.eu.auth0.com/userinfo"],
    "azp": "my_client_id", "scope": "openid profile", "https://relaytrace.example.org/roles": ["operator"],
    "https://relaytrace.example.org/groups": ["finance"], "gty": "password",
}
GOOGLE_IDENTITY_PLATFORM = {
    "sub": "Zf2y8bQvJ3a1", "aud": "example-project", "auth_time": 1700000000, "user_id": "Zf2y8bQvJ3a1",
    "name": "Maria Keller", "email": "maria@example.org", "email_verified": True, "roles": ["operator"], "groups": ["finance"],
    "firebase": {"identities": {"google.com": ["1107"], "email": ["maria@example.org"]}, "sign_in_provider": "google.com"},
}
GOOGLE_ACCOUNTS = {
    "sub": "110169484474386276334", "aud": "1234987819200.apps.googleusercontent.com", "hd": "example.org",
    "azp": "1234987819200.apps.googleusercontent.com", "email": "maria@example.org", "email_verified": True,
    "name": "Maria Keller", "picture": "https://lh3.googleusercontent.com/a/x", "given_name": "Maria", "locale": "en",
}

SHAPES = {
    "keycloak": (
        Provider("keycloak", "https://sso.example.org/realms/acme", tenant="acme"), KEYCLOAK,
        {"ROLES_CLAIM": "/realm_access/roles"}, ["finance", "ops"],
    ),
    "entra-id": (
        Provider("entra", "https://login.microsoftonline.com/9122040d-6c67-4c5b-b112-36a304b66dad/v2.0", tenant="acme",
                 audience=ENTRA_ID["aud"]), ENTRA_ID, {}, ENTRA_ID["groups"],
    ),
    "okta": (
        Provider("okta", "https://example.okta.com/oauth2/default", tenant="acme", audience="api://relaytrace"), OKTA,
        {}, ["Everyone", "finance"],
    ),
    "auth0": (
        Provider("auth0", "https://example.eu.auth0.com/", tenant="acme", audience="https://relaytrace.example.org"), AUTH0,
        {"ROLES_CLAIM": "/https:~1~1relaytrace.example.org~1roles", "GROUPS_CLAIM": "/https:~1~1relaytrace.example.org~1groups"},
        ["finance"],
    ),
    "google": (
        Provider("google", "https://securetoken.google.com/example-project", tenant="acme", audience="example-project"),
        GOOGLE_IDENTITY_PLATFORM, {}, ["finance"],
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_token_of_this_provider_is_an_operator_s(stack, shape):
    provider, claims, variables, groups = SHAPES[shape]
    # A second issuer, so that ids name theirs.
    other = Provider("other", "https://other.example.org", "ES256", tenant="default")
    issuers = json.dumps([provider.entry, other.entry])
    with another_service(stack, ISSUERS=issuers, **variables) as http:
        me = expect(Person(http, provider.token(claims)).get(ME), 200)
        assert me == {
            "id": f"{provider.entry['name']}|{claims['sub']}", "name": claims.get("name"), "roles": ["operator"],
            "groups": groups, "tenant": "acme",
        }
        acme = Person(http, stack["admins"][1]["token"])
        assert acme.get("/v1/admin/agents").status_code == 401, "the stack's own issuer is none of this process's"
        # Somebody else's audience, and no role.
        expect_problem(Person(http, provider.token(claims | {"aud": "somebody-else"})).get(ME), 401, "unauthenticated")
        without = {name: value for name, value in claims.items() if "roles" not in name and name != "realm_access"}
        expect_problem(Person(http, provider.token(without)).get(ME), 403, "forbidden")
        # The other issuer's key does not speak for this one.
        other.iss, own = provider.iss, other.iss
        expect_problem(Person(http, other.token(claims)).get(ME), 401, "unauthenticated")
        other.iss = own


def test_a_google_account_alone_has_no_role(stack):
    google = Provider("google", "https://accounts.google.com", audience=GOOGLE_ACCOUNTS["aud"], tenant="acme")
    with another_service(stack, ISSUERS=json.dumps([google.entry])) as http:
        expect_problem(Person(http, google.token(GOOGLE_ACCOUNTS)).get(ME), 403, "forbidden")


@pytest.fixture(scope="module")
def several(stack):
    """Three issuers: one bound to acme, one to none, and one that may name owners."""
    bound = Provider("bound", "https://bound.example.org", "ES256", tenant="acme")
    free = Provider("free", "https://free.example.org", "ES256", audience="page")
    owners = Provider("owners", "https://owners.example.org", "ES256", tenant="default", owners=True)
    issuers = json.dumps([provider.entry for provider in (bound, free, owners)])
    with another_service(stack, ISSUERS=issuers, TENANT_CLAIM="/org/id", ROLES_CLAIM="/roles", GROUPS_CLAIM="/g") as http:
        yield http, bound, free, owners


def person(http, provider, **claims) -> Person:
    audience = provider.entry.get("audience", "relaytrace")
    return Person(http, provider.token({"sub": "maria", "aud": audience, "roles": ["operator"]} | claims))


@pytest.mark.parametrize("claim, groups", [
    (["a", "b"], ["a", "b"]), ("a  b", ["a", "b"]), ("a", ["a"]), (["a", 7], []), ({"a": True}, []), (7, []), (None, []),
])
def test_groups_are_a_list_or_one_text(several, claim, groups):
    http, bound, _, _ = several
    assert expect(person(http, bound, g=claim).get(ME), 200)["groups"] == groups


@pytest.mark.parametrize("claim", [["operator", 7], {"operator": True}, 7, None, "", [], "operators", ["Operator"]])
def test_another_shape_of_roles_is_no_role(several, claim):
    http, bound, _, _ = several
    expect_problem(person(http, bound, roles=claim).get(ME), 403, "forbidden")


def test_an_issuer_that_is_bound_speaks_for_no_other_tenant(several):
    http, bound, free, _ = several
    assert expect(person(http, bound, org={"id": "default"}).get(ME), 200)["tenant"] == "acme"
    assert expect(person(http, free, org={"id": "default"}).get(ME), 200)["tenant"] == "default"


@pytest.mark.parametrize("org", [None, {}, {"id": 7}, {"id": "Acme"}, {"id": ""}, {"id": "nobody-has-made-it"}])
def test_a_token_that_names_no_tenant_is_nobody_s(several, org):
    http, _, free, _ = several
    expect_problem(person(http, free, org=org).get(ME), 401, "unauthenticated")


def test_ids_name_their_issuer(several):
    http, bound, free, _ = several
    assert expect(person(http, bound).get(ME), 200)["id"] == "bound|maria"
    assert expect(person(http, free, org={"id": "acme"}, sub="a|b").get(ME), 200)["id"] == "free|a|b"


def test_an_owner_counts_only_from_an_issuer_that_may_say_so(several):
    http, bound, _, owners = several
    expect_problem(person(http, bound, roles=["owner"]).get("/v1/admin/tenants"), 403, "forbidden")
    expect(person(http, owners, roles=["owner"]).get("/v1/admin/tenants"), 200)
    for path in (REQUESTS, "/v1/admin/agents", ME):
        expect_problem(person(http, owners, roles=["owner"]).get(path), 403, "forbidden")


def test_who_decided_is_told_with_the_issuer_s_name(several, stack):
    http, bound, _, _ = several
    admin = person(http, bound, roles=["admin"])
    agent = register_agent(admin)
    agent.http = http
    submission = submit(agent)
    decided = expect(person(http, bound).decide(submission["request_id"], "approve"), 201)
    assert decided["decided_by"]["id"] == "bound|maria"


def test_who_acts_for_themselves_is_known_by_every_name(several):
    """A person is their id, sub, e-mail address and user name, whatever the case."""
    http, bound, _, _ = several
    agent = register_agent(person(http, bound, roles=["admin"]))
    sub = f"Maria-{uuid.uuid4()}"
    claims = {"sub": sub, "email": f"{sub}@Example.org", "preferred_username": f"{sub}.k"}
    for name in (f"bound|{sub}", sub.upper(), claims["email"].lower(), claims["preferred_username"]):
        submission = submit(agent, on_behalf_of={"id": name})
        expect_problem(person(http, bound, **claims).decide(submission["request_id"], "approve"), 403, "own-request")
