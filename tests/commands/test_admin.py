"""`relaytrace admin apply` and `relaytrace doctor`."""

import json
import secrets
import subprocess
from datetime import datetime, timedelta, timezone

import pytest
from conftest import ROOT

FILE = """
agents:
  - agent_id: {agent}
    name: Billing agent
    max_pending: 100
    keys:
      - {{key_id: {agent}-1, alg: bearer, scopes: [ask, execute]}}
timeout_policies:
  - {{agent_id: {agent}, action_type: refund.create, priority: P2, respond_within_seconds: 3600, permit_seconds: 600, consume: required}}
"""


@pytest.fixture
def administrator(operator, stack, tmp_path):
    file = tmp_path / "admin-token"
    file.touch(mode=0o600)
    file.write_text(stack["admin"]["token"])
    operator.environment["RELAYTRACE_ADMIN_TOKEN_FILE"] = str(file)
    return operator


def apply(agent, text, *arguments):
    return agent.ended("admin", "apply", "-f", "-", *arguments, input=text)


def test_a_file_is_applied_once_and_rehearsed_without_effect(administrator, people, tmp_path):
    name, kept = f"apply-{secrets.token_hex(4)}", tmp_path / "secrets.json"
    text = FILE.format(agent=name)
    code, out, err = apply(administrator, text, "--dry-run")
    assert code == 0 and out.endswith("would change 4\n"), (out, err)
    assert administrator.ended("admin", "apply", "-f", "-", "--dry-run", input=text)[1] == out
    # A new key's secrets are shown once: they need a place.
    code, _, err = apply(administrator, text)
    assert code == 64 and "--secrets" in err
    code, out, err = apply(administrator, text, "--secrets", str(kept))
    assert code == 0 and "+ key" in out and "rtk_" not in out + err, err
    assert kept.stat().st_mode & 0o777 == 0o600
    secret = json.loads(kept.read_text())[f"{name}-1"]
    assert secret["token"].startswith(f"rtk_{name}-1_") and secret["response_secret"]
    code, out, _ = apply(administrator, text, "--secrets", str(kept))
    assert (code, out) == (0, "changed 0\n")
    standing = people.admin("GET", f"/v1/admin/agents/{name}")
    assert (standing["name"], standing["max_pending"], standing["keys"][0]["scopes"]) == ("Billing agent", 100, ["ask", "execute"])
    policy, = [it for it in people.admin("GET", "/v1/admin/timeout-policies")["items"] if it["agent_id"] == name]
    assert (policy["permit_seconds"], policy["consume"]) == (600, "required")

    # JSON as well; what is left out of a policy goes back to its default, and what the file does not name stays.
    changed = {"agents": [{"agent_id": name, "name": "Billing", "status": "disabled", "keys": [{"key_id": f"{name}-1", "revoked": True}]}],
               "timeout_policies": [{"agent_id": name, "action_type": "refund.create", "priority": "P2", "respond_within_seconds": 60}]}
    code, out, err = apply(administrator, json.dumps(changed))
    assert code == 0 and out.endswith("changed 3\n"), err
    assert apply(administrator, json.dumps(changed))[1] == "changed 0\n"
    policy, = [it for it in people.admin("GET", "/v1/admin/timeout-policies")["items"] if it["agent_id"] == name]
    assert (policy["respond_within_seconds"], policy["permit_seconds"], policy["consume"]) == (60, None, None)
    absent = {"timeout_policies": [{"agent_id": name, "action_type": "refund.create", "priority": "P2", "absent": True}]}
    assert apply(administrator, json.dumps(absent))[1].endswith("changed 1\n")
    assert apply(administrator, json.dumps(absent))[1] == "changed 0\n"
    assert people.admin("GET", f"/v1/admin/agents/{name}")["keys"][0]["revoked_at"]


def test_freezes_stand_as_the_file_says(administrator, people):
    name, until = f"apply-{secrets.token_hex(4)}", datetime.now(timezone.utc) + timedelta(hours=1)
    freeze = {"freeze_id": name, "action_type": name, "mode": "hold", "until": until.isoformat(timespec="seconds"), "reason": "Audit"}
    code, out, err = apply(administrator, json.dumps({"freezes": [freeze]}))
    assert code == 0 and out.endswith("changed 1\n"), err
    assert apply(administrator, json.dumps({"freezes": [freeze]}))[1] == "changed 0\n"
    assert name in [it["freeze_id"] for it in people.admin("GET", "/v1/admin/freezes")["items"]]
    absent = {"freezes": [{"freeze_id": name, "absent": True}]}
    assert apply(administrator, json.dumps(absent))[1].endswith("changed 1\n")
    assert apply(administrator, json.dumps(absent))[1] == "changed 0\n"


def test_channels_stand_as_the_file_says_and_their_secrets_are_never_shown(administrator, people):
    name, secret = f"apply-{secrets.token_hex(4)}", "whsec_" + "A" * 43 + "="
    channel = {"channel_id": name, "kind": "webhook", "config": {"url": "http://127.0.0.1:9/", "secret": secret},
               "events": ["requested"], "match": {"agents": [name]}}
    code, out, err = apply(administrator, json.dumps({"channels": [channel]}))
    assert code == 0 and out.endswith("changed 1\n") and secret not in out + err, err
    assert apply(administrator, json.dumps({"channels": [channel]}))[1] == "changed 0\n"
    changed = channel | {"events": ["requested", "escalated"]}
    assert apply(administrator, json.dumps({"channels": [changed]}))[1] == f"~ channel {name}\nchanged 1\n"
    assert people.admin("GET", f"/v1/admin/channels/{name}")["events"] == ["requested", "escalated"]
    absent = {"channels": [{"channel_id": name, "absent": True}]}
    assert apply(administrator, json.dumps(absent))[1].endswith("changed 1\n")
    assert apply(administrator, json.dumps(absent))[1] == "changed 0\n"


def test_faults_are_named_and_a_key_never_changes(administrator, tmp_path):
    name, kept = f"apply-{secrets.token_hex(4)}", str(tmp_path / "secrets.json")
    text = FILE.format(agent=name)
    assert apply(administrator, text, "--secrets", kept)[0] == 0
    code, _, err = apply(administrator, text.replace("[ask, execute]", "[ask]"), "--secrets", kept)
    assert code == 1 and "scopes" in err
    for wrong in ["agents: [", "agent: []", "agents: [{name: x}]", "timeout_policies: [{priority: P9, respond_within_seconds: 1, agent_id: a}]"]:
        code, _, err = apply(administrator, wrong)
        assert code == 64 and err, wrong
    # An operator is no administrator.
    code, _, err = administrator.ended("admin", "apply", "-f", "-", input=text, env={"RELAYTRACE_ADMIN_TOKEN_FILE": None})
    assert code == 1 and "forbidden" in err


def test_doctor_finds_nothing_wrong_where_nothing_is(operator):
    code, out, err = operator.ended("doctor")
    assert code == 0, out + err
    for part in ["ready", "s apart", "answers verify", "may use approvals", "signed in as"]:
        assert part in out, out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"RELAYTRACE_URL": None}, "RELAYTRACE_URL is not set"),
        ({"RELAYTRACE_URL": "http://127.0.0.1:9"}, "cannot be reached"),
        ({"RELAYTRACE_TOKEN": None}, "there is no key"),
        ({"RELAYTRACE_TOKEN": "rtk_unknown_" + "A" * 43}, "does not accept"),
        ({"RELAYTRACE_RESPONSE_SECRET": "QUFB" * 11}, "RELAYTRACE_RESPONSE_SECRET"),
    ],
)
def test_doctor_says_what_to_do(operator, change, said):
    code, out, err = operator.ended("doctor", env=change)
    assert code == 1 and said in out and "need attention" in err, out + err


def test_doctor_finds_keys_that_may_not_and_hooks_that_fail_open(operator, people, tmp_path):
    key = people.admin("POST", f"/v1/admin/agents/{operator.agent_id}/keys", {"key_id": f"k-{secrets.token_hex(6)}", "alg": "bearer", "scopes": ["ask"]})
    asks_only = {"RELAYTRACE_TOKEN": key["token"], "RELAYTRACE_RESPONSE_SECRET": key["response_secret"]}
    code, out, _ = operator.ended("doctor", env=asks_only)
    assert code == 1 and "needs the scope execute" in out, out
    hook = {"type": "http", "url": "https://relay.example/v1/hooks/claude-code", "timeout": 20, "headers": {"Authorization": "Bearer $RT"}}
    settings = tmp_path / ".claude/settings.json"
    settings.parent.mkdir()
    settings.write_text(json.dumps({"hooks": {"PreToolUse": [{"matcher": "*", "hooks": [hook]}]}}))
    code, out, _ = operator.ended("doctor")
    assert code == 1
    for part in ["onFailure", "timeout", "allowedEnvVars", "RT, which the hook sends, is not set", "PostToolUse"]:
        assert part in out, out


def test_make_run_does_not_build_the_commands():
    """They would make the first `make run` slower."""
    tree = ["cargo", "tree", "--package", "local", "--edges", "normal,build", "--prefix", "none", "--offline", "--locked"]
    built = {line.split()[0] for line in subprocess.check_output(tree, cwd=ROOT, text=True).splitlines() if line}
    assert "relaytrace-cli" in built and not built & {"relaytrace-commands", "clap_complete"}
