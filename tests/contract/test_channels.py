"""Channels: people are told of what happens, as plain text, and never what they would decide by."""

import base64
import os
import secrets
import statistics
import time

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from receivers import Mailbox, Receiver
from support import Person, expect, expect_problem, pointers, register_agent, submit, submit_decided, wait_until

CHANNELS = "/v1/admin/channels"
UNCALLABLE = "the address cannot be called, or did not answer as it should"


def new_secret(length: int = 32) -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(length)).decode()


@pytest.fixture
def channels(admin):
    made = Channels(admin)
    yield made
    for name in made.names:
        admin.call("DELETE", f"{CHANNELS}/{name}")


class Channels:
    def __init__(self, admin):
        self.admin, self.names = admin, []

    def name(self) -> str:
        self.names.append(f"ops-{secrets.token_hex(6)}")
        return self.names[-1]

    def put(self, name: str, channel: dict):
        return self.admin.call("PUT", f"{CHANNELS}/{name}", json=channel)

    def webhook(self, url: str, agent, **changes) -> tuple[str, str]:
        name, secret = self.name(), new_secret()
        expect(self.put(name, webhook(url, secret=secret, match={"agents": [agent.agent_id]}) | changes), 200)
        return name, secret


def webhook(url: str, secret: str | None = None, **members) -> dict:
    return {"kind": "webhook", "config": {"url": url, "secret": secret or new_secret()}, "events": ["requested"]} | members


@pytest.fixture
def receiver():
    with Receiver() as receiver:
        yield receiver


# ---------------------------------------------------------------- what is told


def test_a_webhook_is_told_of_a_request_by_standard_webhooks(channels, receiver, agent):
    _, secret = channels.webhook(f"{receiver.url}/hook", agent)
    submitted = submit(agent, title="See https://evil.example and pay", context={"note": "for your eyes"})
    [told] = wait_until(lambda: receiver.told("/hook"))
    message = Webhook(secret).verify(told["bytes"], told["headers"])
    assert message["type"] == "request.requested"
    data = message["data"]
    assert (data["request_id"], data["agent_id"], data["priority"]) == (submitted["request_id"], agent.agent_id, "P2")
    assert data["action_type"] == "refund.create" and data["status"] == "pending" and data["seconds_left"] > 0
    assert data["link"].endswith(f"?id={submitted['request_id']}")
    assert data["title"] == "See https: //evil. example and pay"
    text = told["bytes"].decode()
    assert "88213" not in text and "for your eyes" not in text and "rtk_" not in text
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(told["bytes"], told["headers"])


def test_each_event_is_told_and_no_other(channels, receiver, agent, operator):
    channels.webhook(f"{receiver.url}/decided", agent, events=["decided"])
    channels.webhook(f"{receiver.url}/both", agent, events=["requested", "decided", "dead_lettered"])
    submitted = submit_decided(agent, operator)
    wait_until(lambda: len(receiver.told("/both")) == 2 and receiver.told("/decided"))
    assert [told["body"]["type"] for told in receiver.told("/decided")] == ["request.decided"]
    [told] = receiver.told("/decided")
    assert (told["body"]["data"]["outcome"], told["body"]["data"]["cause"]) == ("approved", "operator")
    [decision] = agent.poll(5, [submitted["request_id"]])["decisions"]
    agent.acknowledge(decision, "failed", {"code": "broken", "message": "of no use"})
    wait_until(lambda: len(receiver.told("/both")) == 3)
    assert receiver.told("/both")[-1]["body"]["type"] == "request.dead_lettered"


def test_a_try_that_fails_is_repeated_under_the_same_id(channels, agent):
    calls = []

    def flaky(path, body):
        calls.append(path)
        return (500, b"") if len(calls) < 3 else (204, b"")

    with Receiver(flaky) as receiver:
        channels.webhook(f"{receiver.url}/hook", agent)
        submit(agent)
        wait_until(lambda: len(receiver.calls) == 3, timeout=20)
        assert len({call["headers"]["webhook-id"] for call in receiver.calls}) == 1


def test_a_match_says_of_which_requests(channels, receiver, agent):
    channels.webhook(f"{receiver.url}/p1", agent, match={"agents": [agent.agent_id], "priorities": ["P1"]})
    channels.webhook(f"{receiver.url}/group", agent, match={"agents": [agent.agent_id], "groups": ["turn-7"]})
    channels.webhook(f"{receiver.url}/all", agent)
    submit(agent)
    urgent = submit(agent, priority="P1")
    grouped = submit(agent, group="turn-7")
    wait_until(lambda: len(receiver.told("/all")) == 3 and receiver.told("/p1") and receiver.told("/group"))
    assert [told["body"]["data"]["request_id"] for told in receiver.told("/p1")] == [urgent["request_id"]]
    assert [told["body"]["data"]["request_id"] for told in receiver.told("/group")] == [grouped["request_id"]]


def test_slack_is_told_in_plain_text_with_one_link(channels, receiver, agent):
    name = channels.name()
    channel = {"kind": "slack", "config": {"webhook_url": f"{receiver.url}/services/T0/B0/secret"},
               "events": ["requested"], "match": {"agents": [agent.agent_id]}}
    set_to = expect(channels.put(name, channel), 200)
    assert set_to["config"] == {} and "secret" not in str(set_to)
    submitted = submit(agent, title="<!channel> *pay* <https://evil.example|here>")
    [told] = wait_until(lambda: receiver.told("/services/T0/B0/secret"))
    message = told["body"]
    check_slack_message(message)
    texts = [block["text"] for block in message["blocks"]]
    assert texts[0]["type"] == "plain_text" and "< !channel>" in texts[0]["text"]
    links = [text["text"] for text in texts if text["type"] == "mrkdwn"]
    assert len(links) == 1 and f"id={submitted['request_id']}|" in links[0]
    assert "<" not in message["text"]


def check_slack_message(message: dict) -> None:
    """The shape that an incoming webhook takes (api.slack.com/messaging/webhooks, reference/block-kit)."""
    assert set(message) <= {"text", "blocks", "unfurl_links", "unfurl_media"}
    assert 1 <= len(message["blocks"]) <= 50
    for block in message["blocks"]:
        assert block["type"] == "section" and set(block) == {"type", "text"}
        text = block["text"]
        assert text["type"] in ("plain_text", "mrkdwn") and 1 <= len(text["text"]) <= 3000
        assert set(text) - {"type", "text"} <= ({"emoji"} if text["type"] == "plain_text" else {"verbatim"})


@pytest.fixture
def mailbox():
    if "SMTP_PORT" not in os.environ:
        pytest.skip("the stack was not started with a mail server of the tests'")
    with Mailbox(int(os.environ["SMTP_PORT"])) as mailbox:
        yield mailbox


def test_mail_is_plain_text_to_all_addresses(channels, mailbox, agent):
    channel = {"kind": "email", "config": {"to": ["maria@example.org", "ops@example.org"]}, "events": ["requested"],
               "match": {"agents": [agent.agent_id]}}
    assert expect(channels.put(channels.name(), channel), 200)["config"] == channel["config"]
    submitted = submit(agent, title="Überweisung: 1.240 EUR")
    [told] = wait_until(lambda: mailbox.mails)
    assert told["to"] == ["maria@example.org", "ops@example.org"]
    mail = told["mail"]
    assert mail["from"] == "RelayTrace <relay@example.org>" and mail["auto-submitted"] == "auto-generated"
    assert mail["subject"] == "[P2] Asked: Überweisung: 1.240 EUR"
    assert mail.get_content_type() == "text/plain" and not mail.is_multipart()
    text = mail.get_content()
    assert agent.agent_id in text and f"id={submitted['request_id']}" in text and "88213" not in text


def test_people_hear_within_a_second_of_the_201(channels, receiver, mailbox, agent):
    channels.webhook(f"{receiver.url}/hook", agent)
    mail = {"kind": "email", "config": {"to": ["maria@example.org"]}, "events": ["requested"],
            "match": {"agents": [agent.agent_id]}}
    expect(channels.put(channels.name(), mail), 200)
    asked = {}
    for _ in range(20):
        request_id = submit(agent)["request_id"]
        asked[request_id] = time.time()
        time.sleep(0.05)
    wait_until(lambda: len(receiver.told("/hook")) == len(mailbox.mails) == 20, timeout=20)
    by_webhook = [told["at"] - asked[told["body"]["data"]["request_id"]] for told in receiver.told("/hook")]
    by_mail = [told["at"] - asked[told["mail"].get_content().split("id=")[1].strip()] for told in mailbox.mails]
    print(f"p50 from 201: webhook {statistics.median(by_webhook):.3f} s, mailbox {statistics.median(by_mail):.3f} s")


# ---------------------------------------------------------------- trying out


def test_a_channel_can_be_tried_out(channels, receiver, admin, agent):
    name, secret = channels.webhook(f"{receiver.url}/hook", agent)
    tested = expect(admin.post(f"{CHANNELS}/{name}/test"), 200)
    assert tested == {"channel_id": name, "delivered": True}
    [told] = receiver.told("/hook")
    assert Webhook(secret).verify(told["bytes"], told["headers"])["type"] == "channel.test"


def test_a_channel_that_does_not_take_it_says_so_in_one_text(channels, admin, agent):
    aim = Receiver()
    answers = {"/500": (500, b""), "/302": (302, f"{aim.url}/".encode()), "/404": (404, b"secret of the inside")}
    with aim, Receiver(lambda path, _: answers[path]) as receiver:
        urls = [f"{receiver.url}{path}" for path in answers]
        urls += ["http://127.0.0.1:9/", "https://127.0.0.1:9/"]
        details = set()
        for url in urls:
            name, _ = channels.webhook(url, agent)
            problem = expect_problem(admin.post(f"{CHANNELS}/{name}/test"), 422, "validation-failed")
            details.add(str(problem["errors"]))
        assert len(details) == 1 and UNCALLABLE in details.pop()
        assert aim.calls == []


@pytest.mark.parametrize("url", [
    "http://10.0.0.1/", "https://10.0.0.1/", "https://192.168.1.1/", "https://169.254.169.254/latest/meta-data/",
    "https://100.64.0.1/", "https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://[::ffff:10.0.0.1]/",
    "https://[64:ff9b::10.0.0.1]/", "https://[2002:7f00:1::]/", "https://[fe80::1]/", "https://[fd00::1]/",
    "http://0x7f.1.1.2/", "http://2130706434/", "http://017700000002/", "http://127.2/", "https://0/",
    "http://example.org@10.0.0.1/", "https://user:password@example.org/", "ftp://127.0.0.1/", "file:///etc/passwd",
    "127.0.0.1", "",
])
def test_an_address_of_the_inside_is_refused_at_once(channels, url):
    for channel, pointer in [
        (webhook(url), "/config/url"),
        ({"kind": "slack", "config": {"webhook_url": url}, "events": ["requested"]}, "/config/webhook_url"),
    ]:
        problem = expect_problem(channels.put(channels.name(), channel), 422, "validation-failed")
        assert [(fault["pointer"], fault["detail"]) for fault in problem["errors"]] == [(pointer, UNCALLABLE)]


@pytest.mark.parametrize("name", ["localhost", "localhost.", "ip6-localhost"])
def test_a_name_of_the_inside_is_found_out_when_it_is_called(channels, receiver, admin, agent, name):
    port = receiver.url.rpartition(":")[2]
    channel, _ = channels.webhook(f"https://{name}:{port}/", agent)
    expect_problem(admin.post(f"{CHANNELS}/{channel}/test"), 422, "validation-failed")
    assert receiver.calls == []


# ---------------------------------------------------------------- administration


def test_secrets_are_write_only(channels, receiver, admin, agent):
    name, secret = channels.webhook(f"{receiver.url}/hook", agent)
    shown = expect(admin.get(f"{CHANNELS}/{name}"), 200)
    assert shown["config"] == {"url": f"{receiver.url}/hook"} and shown["events"] == ["requested"]
    assert shown["match"] == {"agents": [agent.agent_id]}
    listed = admin.get(CHANNELS, params={"limit": 200})
    log = admin.get("/v1/admin/log", params={"limit": 200})
    for text in (str(shown), listed.text, log.text):
        assert secret not in text and secret[6:] not in text
    assert name in listed.text and name in log.text


def test_a_channel_is_changed_and_removed(channels, receiver, admin, agent):
    name, _ = channels.webhook(f"{receiver.url}/hook", agent)
    changed = expect(channels.put(name, webhook(f"{receiver.url}/other", events=["decided", "escalated"])), 200)
    assert (changed["events"], changed["match"]) == (["escalated", "decided"], None)
    for _ in range(2):
        assert admin.call("DELETE", f"{CHANNELS}/{name}").status_code == 204
    expect_problem(admin.get(f"{CHANNELS}/{name}"), 404, "not-found")
    expect_problem(admin.post(f"{CHANNELS}/{name}/test"), 404, "not-found")
    expect_problem(admin.call("DELETE", f"{CHANNELS}/never-there"), 404, "not-found")
    submit(agent)


def test_channels_are_paged(channels, admin, agent, receiver):
    names = sorted(channels.webhook(f"{receiver.url}/hook", agent)[0] for _ in range(3))
    found, cursor = [], None
    while True:
        page = expect(admin.get(CHANNELS, params={"limit": 2} | ({"cursor": cursor} if cursor else {})), 200)
        found += [item["channel_id"] for item in page["items"]]
        if not (cursor := page["next_cursor"]):
            break
    assert [name for name in found if name in names] == names and found == sorted(found)


def test_a_channel_of_another_tenant_does_not_exist(channels, receiver, http, stack, agent):
    name, _ = channels.webhook(f"{receiver.url}/hook", agent)
    [token] = [admin["token"] for admin in stack["admins"] if admin["tenant"] == "acme"]
    other = Person(http, token)
    expect_problem(other.get(f"{CHANNELS}/{name}"), 404, "not-found")
    expect_problem(other.post(f"{CHANNELS}/{name}/test"), 404, "not-found")
    expect_problem(other.call("DELETE", f"{CHANNELS}/{name}"), 404, "not-found")
    assert name not in other.get(CHANNELS, params={"limit": 200}).text
    try:
        # The same name is theirs to use, and tells of theirs alone.
        expect(other.call("PUT", f"{CHANNELS}/{name}", json=webhook(f"{receiver.url}/theirs")), 200)
        submit(agent)
        wait_until(lambda: receiver.told("/hook"))
        their_agent = register_agent(other)
        submit(their_agent)
        wait_until(lambda: receiver.told("/theirs"))
    finally:
        other.call("DELETE", f"{CHANNELS}/{name}")
    assert {told["body"]["data"]["agent_id"] for told in receiver.told("/theirs")} == {their_agent.agent_id}
    assert {told["body"]["data"]["agent_id"] for told in receiver.told("/hook")} == {agent.agent_id}


@pytest.mark.parametrize("change, at", [
    ({"kind": "pager"}, {"/kind"}),
    ({"events": []}, {"/events"}),
    ({"events": ["requested", "nothing"]}, {"/events/1"}),
    ({"match": {"arguments": {"/amount": {"gt": 1}}}}, {"/match/arguments"}),
    ({"match": {"agents": []}}, {"/match/agents"}),
    ({"match": {"action_types": ["a*b"], "priorities": ["P9"]}}, {"/match/action_types/0", "/match/priorities/0"}),
    ({"config": {"url": "https://example.org/"}}, {"/config/secret"}),
    ({"config": {"url": "https://example.org/", "secret": "short"}}, {"/config/secret"}),
    ({"config": {"url": "https://example.org/", "secret": new_secret(8)}}, {"/config/secret"}),
    ({"config": {"to": ["maria@example.org"]}}, {"/config/url", "/config/secret", "/config/to"}),
    ({"kind": "slack", "config": {}}, {"/config/webhook_url"}),
    ({"surprise": True}, {"/surprise"}),
])
def test_what_is_no_channel_is_refused_at_its_place(channels, change, at):
    channel = webhook("https://example.org/") | change
    problem = expect_problem(channels.put(channels.name(), channel), 422, "validation-failed")
    assert pointers(problem) == at


@pytest.mark.parametrize("address", ["", "maria", "maria@", "a@b\r\nbcc: c@d", "Maria <maria@example.org>"])
def test_what_is_no_address_is_refused(channels, mailbox, address):
    channel = {"kind": "email", "config": {"to": ["ops@example.org", address]}, "events": ["requested"]}
    problem = expect_problem(channels.put(channels.name(), channel), 422, "validation-failed")
    assert pointers(problem) == {"/config/to/1"}
