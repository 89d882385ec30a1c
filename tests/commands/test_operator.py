"""`relaytrace queue`, `show`, `approve`, `reject` and `login`."""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit
from urllib.request import urlopen

import pytest
from conftest import at_terminal, outcome, until

CODE = r"type (\w+): $"
ASK = ("ask", "--type", "refund.create", "--arg", "amount=12.40", "--title", "Refund \u202e of 12.40")


@pytest.fixture
def asked(operator):
    """A question that waits."""
    process = operator.start("ask", "--type", "refund.create", "--arg", "amount=12.40", "--title", "Refund \u202e of 12.40")
    yield operator.pending(), process
    process.kill()
    outcome(process)


def test_queue_and_show_say_everything_and_obey_nothing(operator, people, asked):
    request_id, _ = asked
    code, out, err = operator.ended("queue", "--agent", operator.agent_id)
    assert code == 0 and request_id in out and "Refund \\u{202e} of 12.40" in out, err
    code, out, _ = operator.ended("queue", "--agent", operator.agent_id, "--json")
    assert [item["request_id"] for item in json.loads(out)] == [request_id]
    code, out, _ = operator.ended("show", request_id)
    assert code == 0
    for part in ['"amount": "12.40"', "checked here", "you may    approve, reject", f"/?id={request_id}"]:
        assert part in out, part
    assert "\u202e" not in out
    code, out, _ = operator.ended("show", request_id, "--json")
    assert json.loads(out)["request_id"] == request_id
    assert operator.ended("show", "019ab9a0-0000-7000-8000-000000000000")[0] == 1
    assert operator.ended("show", "nonsense")[0] == 64


def test_approving_needs_a_terminal_and_the_typed_code(operator, people, asked):
    request_id, process = asked
    # A program beside the operator: no terminal, whatever it writes.
    for given in ("y\n", "yes\n", "\n"):
        code, _, err = operator.ended("approve", request_id, input=given, start_new_session=True)
        assert code == 64 and "terminal" in err
    code, seen = at_terminal(operator, "approve", request_id, on=(CODE, "yes\n"))
    assert code == 1 and "nothing was decided" in seen
    assert people.detail(request_id)["status"] == "pending"
    code, seen = at_terminal(operator, "approve", request_id, "--reason", "Checked.", on=(CODE, "{}\n"))
    assert code == 0, seen
    for part in ['"amount": "12.40"', "checked here", f"approved {request_id}"]:
        assert part in seen, part
    assert outcome(process)[0] == 0
    assert people.detail(request_id)["decision"]["reason"] == "Checked."
    code, seen = at_terminal(operator, "approve", request_id)
    assert code == 1 and "already-decided" in seen


def test_an_approval_of_several_is_told_from_a_decision(operator, people, stack):
    policy = {"agent_id": operator.agent_id, "priority": "P2", "respond_within_seconds": 600, "approvals": 2}
    people.admin("PUT", "/v1/admin/timeout-policies", policy)
    process = operator.start(*ASK)
    request_id = operator.pending()
    code, seen = at_terminal(operator, "approve", request_id, on=(CODE, "{}\n"))
    assert code == 0 and f"voted {request_id}: 1 of 2 approvals given, not decided yet" in seen, seen
    assert "0 of 2 approvals given" in seen, "what is typed for says that it is one of several"
    code, out, _ = operator.ended("show", request_id)
    assert code == 0 and re.search(r"^approvals  1 of 2 approvals given: \S", out, re.M) and "already-voted" in out, out
    second = {"decision": "approve", "action_digest": people.detail(request_id)["action_digest"]}
    people.call(stack["operators"][7]["token"], "POST", f"/v1/hitl/requests/{request_id}/decision", second)
    assert outcome(process)[0] == 0
    code, out, _ = operator.ended("show", request_id)
    assert re.search(r"^approvals  2 of 2 approvals given: .+, ", out, re.M), out


def test_rejecting_needs_a_reason(operator, people, asked):
    request_id, process = asked
    assert operator.ended("reject", request_id)[0] == 64
    code, out, err = operator.ended("reject", request_id, "--reason", "Refunded yesterday.")
    assert code == 0 and out.startswith(f"rejected {request_id}"), err
    code, _, err = outcome(process)
    assert code == 1 and "Refunded yesterday." in err
    code, _, err = operator.ended("reject", request_id, "--reason", "Another.")
    assert code == 1 and "already-decided" in err and "stands" in err


def test_a_person_waits_with_a_line_that_counts_down(operator, people):
    seen = []
    waiting = threading.Thread(target=lambda: seen.append(at_terminal(operator, *ASK)))
    waiting.start()
    request_id = operator.pending()
    people.decide(request_id)
    waiting.join(30)
    code, text = seen[0]
    assert code == 0, text
    assert "left: " in text and f"/?id={request_id}" in text and "\u202e" not in text


def test_tokens_are_kept_for_their_owner_alone(operator, stack, tmp_path):
    file = tmp_path / "config/relaytrace/operator-token"
    environment = {"RELAYTRACE_OPERATOR_TOKEN_FILE": None, "XDG_CONFIG_HOME": str(tmp_path / "config")}
    code, _, err = operator.ended("queue", env=environment)
    assert code == 64 and "relaytrace login" in err
    code, _, err = operator.ended("login", "--token-stdin", input="a.b.c", env=environment)
    assert code == 1 and not file.exists(), err
    code, out, err = operator.ended("login", "--token-stdin", input=stack["operator"]["token"], env=environment)
    assert code == 0 and stack["operator"]["name"] in out, err
    assert stack["operator"]["token"] not in out + err
    assert file.stat().st_mode & 0o777 == 0o600 and file.parent.stat().st_mode & 0o777 == 0o700
    assert operator.ended("queue", env=environment)[0] == 0
    file.chmod(0o644)
    code, _, err = operator.ended("queue", env=environment)
    assert code == 64 and "chmod 600" in err


class Issuer(BaseHTTPRequestHandler):
    """An issuer that checks what RFC 7636 and RFC 8628 ask of its clients."""

    token, challenge, asked = "", "", 0

    def do_GET(self):
        base = f"http://127.0.0.1:{self.server.server_port}"
        self.answer({"issuer": base, "authorization_endpoint": f"{base}/authorize", "token_endpoint": f"{base}/token",
                     "device_authorization_endpoint": f"{base}/device"})

    def do_POST(self):
        form = {name: values[0] for name, values in parse_qs(self.rfile.read(int(self.headers["content-length"])).decode()).items()}
        assert form["client_id"] == "cli"
        if self.path == "/device":
            return self.answer({"device_code": "d", "user_code": "WDJB-MJHT", "verification_uri": "https://issuer.example/device",
                                "interval": 0, "expires_in": 60})
        if form["grant_type"] == "urn:ietf:params:oauth:grant-type:device_code":
            Issuer.asked += 1
            assert form["device_code"] == "d"
            return self.answer({"access_token": Issuer.token} if Issuer.asked > 2 else {"error": "authorization_pending"})
        proof = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).decode().rstrip("=")
        good = form["code"] == "c" and proof == Issuer.challenge and form["redirect_uri"] == Issuer.redirect_uri
        return self.answer({"access_token": Issuer.token} if good else {"error": "invalid_grant"})

    def answer(self, body):
        body = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def issuer(stack):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Issuer)
    Issuer.token, Issuer.asked = stack["operator"]["token"], 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {"RELAYTRACE_ISSUER": f"http://127.0.0.1:{server.server_port}", "RELAYTRACE_CLIENT_ID": "cli"}
    server.shutdown()
    server.server_close()


def test_signing_in_at_the_issuer_in_a_browser_here(operator, issuer, tmp_path):
    file = tmp_path / "token"
    process = operator.start("login", env={**issuer, "RELAYTRACE_OPERATOR_TOKEN_FILE": str(file)})
    address = until(lambda: re.search(r"http\S+authorize\S+", process.stderr.readline()))[0]
    query = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
    assert (query["response_type"], query["code_challenge_method"], query["client_id"]) == ("code", "S256", "cli")
    Issuer.challenge, Issuer.redirect_uri = query["code_challenge"], query["redirect_uri"]
    # An answer to another sign-in is none.
    with pytest.raises(OSError):
        urlopen(f"{query['redirect_uri']}?state=other&code=stolen").read()
    assert not file.exists()
    assert b"Signed in" in urlopen(f"{query['redirect_uri']}?state={query['state']}&code=c").read()
    code, out, err = outcome(process)
    assert code == 0 and "signed in as" in out, err
    assert file.read_text() == Issuer.token


def test_signing_in_at_the_issuer_in_a_browser_elsewhere(operator, issuer, tmp_path):
    file = tmp_path / "token"
    code, out, err = operator.ended("login", "--device", env={**issuer, "RELAYTRACE_OPERATOR_TOKEN_FILE": str(file)})
    assert code == 0 and "WDJB-MJHT" in err and file.read_text() == Issuer.token, err


def test_without_an_issuer_it_says_what_to_do(operator):
    code, _, err = operator.ended("login")
    assert code == 64 and "--token-stdin" in err
    code, _, err = operator.ended("login", env={"RELAYTRACE_ISSUER": "http://issuer.example", "RELAYTRACE_CLIENT_ID": "cli"})
    assert code == 64 and "https" in err
