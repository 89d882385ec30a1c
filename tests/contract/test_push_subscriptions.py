"""Browsers of operators: a push service that writes down what it is sent, and browsers that decrypt it (PyPI http-ece)."""

import base64
import json
import secrets
import statistics
import time

import http_ece
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from receivers import Receiver
from support import Person, expect, expect_problem, pointers, submit, wait_until

PATH = "/v1/hitl/push-subscriptions"


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Browser:
    """A browser's keys, and its place at a push service."""

    def __init__(self, service: Receiver):
        self.key, self.auth, self.path = ec.generate_private_key(ec.SECP256R1()), secrets.token_bytes(16), f"/{secrets.token_hex(8)}"
        self.service = service

    def subscription(self, **more) -> dict:
        point = self.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        keys = {"p256dh": b64(point), "auth": b64(self.auth)}
        return {"endpoint": f"{self.service.url}{self.path}", "expirationTime": None, "keys": keys} | more

    def calls(self) -> list[dict]:
        return [call for call in self.service.calls if call["path"] == self.path]

    def messages(self, agent) -> list[dict]:
        """What it was told of an agent's requests: others ask as well."""
        plain = [http_ece.decrypt(call["bytes"], private_key=self.key, auth_secret=self.auth) for call in self.calls()]
        return [message for message in map(json.loads, plain) if message["agent_id"] == agent.agent_id]


@pytest.fixture
def service():
    with Receiver(lambda path, body: (201, b"")) as receiver:
        yield receiver


@pytest.fixture
def subscribed(service):
    """Subscribes a browser of somebody, and ends it after the test."""
    made = []

    def subscribe(person: Person, **more) -> Browser:
        browser, name = Browser(service), f"phone-{secrets.token_hex(6)}"
        view = expect(person.call("PUT", f"{PATH}/{name}", json=browser.subscription(**more)), 200)
        assert view["subscription_id"] == name
        made.append((person, name))
        browser.name = name
        return browser

    yield subscribe
    for person, name in made:
        person.call("DELETE", f"{PATH}/{name}")


def test_a_browser_is_told_of_a_request_encrypted_and_signed(subscribed, agent, operator, service):
    browser = subscribed(operator)
    submitted = submit(agent, title="See https://evil.example and pay", priority="P1", context={"note": "for your eyes"})
    [message] = wait_until(lambda: browser.messages(agent))
    assert set(message) == {
        "id", "notice", "request_id", "title", "priority", "agent_id", "action_type", "respond_by", "link"}
    assert (message["request_id"], message["priority"], message["notice"]) == (submitted["request_id"], "P1", "requested")
    assert message["title"] == "See https: //evil. example and pay" and message["action_type"] == "refund.create"
    assert message["link"].endswith(f"?id={submitted['request_id']}")
    told = next(call for call in browser.calls() if call["headers"]["topic"] == submitted["request_id"].replace("-", ""))
    headers = told["headers"]
    assert (headers["content-encoding"], headers["urgency"]) == ("aes128gcm", "high") and int(headers["ttl"]) > 0
    # RFC 8292: the signature is of the key that browsers subscribe with.
    token, key = headers["authorization"].removeprefix("vapid t=").split(", k=")
    assert key == expect(operator.get(PATH), 200)["public_key"]
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), unb64(key))
    claims = jwt.decode(token, public, algorithms=["ES256"], audience=service.url)
    assert claims["exp"] - time.time() < 24 * 3600 and claims["sub"].startswith("mailto:")
    assert b"for your eyes" not in told["bytes"] and "88213" not in json.dumps(message)


def test_a_push_service_hears_within_a_second_of_the_201(subscribed, agent, operator):
    browser, asked = subscribed(operator), {}
    for _ in range(20):
        request_id = submit(agent)["request_id"]
        asked[request_id.replace("-", "")] = time.time()
        time.sleep(0.05)
    topics = lambda: [call for call in browser.calls() if call["headers"]["topic"] in asked]
    wait_until(lambda: len(topics()) == 20, timeout=20)
    took = [call["at"] - asked[call["headers"]["topic"]] for call in topics()]
    print(f"p50 from 201: push service {statistics.median(took):.3f} s")


def test_by_priority_and_group(subscribed, agent, operator):
    everything, urgent = subscribed(operator), subscribed(operator, priorities=["P1"])
    of_group = subscribed(operator, groups=["of nobody"])
    submit(agent, priority="P3")
    p1 = submit(agent, priority="P1")
    wait_until(lambda: len(everything.messages(agent)) == 2 and urgent.messages(agent))
    assert [message["request_id"] for message in urgent.messages(agent)] == [p1["request_id"]]
    assert of_group.messages(agent) == []
    items = expect(operator.get(PATH), 200)["items"]
    mine = {item["subscription_id"]: item for item in items}
    assert mine[urgent.name]["priorities"] == ["P1"] and mine[urgent.name]["groups"] is None
    assert mine[of_group.name]["groups"] == ["of nobody"]
    assert "endpoint" not in json.dumps(items) and "auth" not in json.dumps(items)


def test_another_tenant_s_browsers_hear_nothing(subscribed, agent, stack, operator, http):
    [other, *_] = [known for known in stack["operators"] if known["tenant"] == "acme"]
    theirs, ours = subscribed(Person(http, other["token"])), subscribed(operator)
    submit(agent)
    wait_until(lambda: ours.messages(agent))
    assert theirs.messages(agent) == []


def test_setting_and_ending_may_be_repeated_and_are_the_callers_own(subscribed, agent, operator, operators, service):
    browser = subscribed(operator)
    path = f"{PATH}/{browser.name}"
    first = expect(operator.call("PUT", path, json=browser.subscription()), 200)
    again = expect(operator.call("PUT", path, json=browser.subscription()), 200)
    assert first["created_at"] == again["created_at"]
    other = operators[1]
    expect_problem(other.call("DELETE", path), 404, "not-found")
    for _ in range(2):
        assert operator.call("DELETE", path).status_code == 204
    submit(agent)
    control = subscribed(operator)
    submit(agent)
    wait_until(lambda: control.messages(agent))
    assert browser.messages(agent) == []


def test_a_push_service_that_says_it_is_gone_ends_it(agent, operator):
    for status in (404, 410):
        with Receiver(lambda path, body, status=status: (status, b"")) as service:
            browser, name = Browser(service), f"gone-{secrets.token_hex(6)}"
            expect(operator.call("PUT", f"{PATH}/{name}", json=browser.subscription()), 200)
            submit(agent)
            wait_until(lambda: name not in operator.get(PATH).text)
            assert browser.calls()


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"endpoint": "https://evil.example/x"}, "/endpoint"),
        ({"endpoint": "https://127.0.0.1.evil.example/x"}, "/endpoint"),
        ({"endpoint": "https://169.254.169.254/"}, "/endpoint"),
        ({"endpoint": 7}, "/endpoint"),
        ({"keys": {"p256dh": "AAAA", "auth": b64(bytes(16))}}, "/keys/p256dh"),
        ({"keys": {"auth": b64(bytes(16))}}, "/keys/p256dh"),
        ({"groups": []}, "/groups"),
        ({"priorities": ["P9"]}, "/priorities/0"),
        ({"more": 1}, "/more"),
    ],
)
def test_what_is_no_subscription_is_refused_at_its_place(operator, service, change, pointer):
    body = Browser(service).subscription(**change)
    problem = expect_problem(operator.call("PUT", f"{PATH}/bad", json=body), 422, "validation-failed")
    assert pointer in pointers(problem)
    assert service.calls == []


def test_only_operators_have_them(admin, agent, service):
    body = Browser(service).subscription()
    expect_problem(admin.call("PUT", f"{PATH}/x", json=body), 403, "forbidden")
    expect_problem(agent.call("PUT", f"{PATH}/x", json=body), 403, "forbidden")
