"""Rules as a file: `relaytrace rules test`, `admin rules try`, and rules of `admin apply`."""

import json
import re
import signal
import socket

import pytest
from conftest import ROOT, at_terminal
from test_admin import administrator, apply  # noqa: F401

GUIDE = (ROOT / "docs/guides/rules.md").read_text()
BLOCKS = re.findall(r"^### (\d+ .+?)\n.*?^```yaml\n(.*?)^```", GUIDE, flags=re.M | re.S)
RULES = """
rules:
  - name: small
    mode: enforce
    match: {{agents: [{agent}], arguments: {{/amount: {{lte: 50}}}}}}
    then: {{ask: {{groups: [ops]}}}}
tests:
  - name: twenty
    request: {{agent_id: {agent}, action: {{type: refund.create, arguments: {{amount: '20.00'}}}}}}
    expect: {{effect: ask, rule: small, groups: [ops]}}
"""


def run_cases(agent, text, *arguments):
    return agent.ended("rules", "test", "-f", "-", *arguments, input=text, env={"RELAYTRACE_URL": None})


def without_rules(people):
    standing = people.admin("GET", "/v1/admin/rules")
    answer = people.http.put("/v1/admin/rules", json={"rules": [], "note": "Test"}, headers={
        "authorization": f"Bearer {people.stack['admin']['token']}", "if-match": f'"{standing["version"]}"'})
    assert answer.is_success, answer.text


# ---------------------------------------------------------------- the guide


def test_the_guide_has_twenty_rules():
    assert [int(title.split()[0]) for title, _ in BLOCKS] == list(range(1, 21))
    assert GUIDE.count("```yaml") == 20


@pytest.mark.parametrize("block", [block for _, block in BLOCKS], ids=[title for title, _ in BLOCKS])
def test_a_rule_of_the_guide_does_what_it_says(agent, block):
    code, out, err = run_cases(agent, block)
    assert code == 0, out + err
    cases = json.loads(run_cases(agent, block, "--json")[1])
    # Each rule that acts has a case.
    assert cases["failed"] == 0 and not cases["untested"]
    assert {case["got"]["effect"] for case in cases["cases"]} != {"none"}


# ---------------------------------------------------------------- cases


def test_a_case_that_is_not_as_expected_fails_and_says_how(agent):
    text = RULES.format(agent="billing").replace("groups: [ops]}\n", "groups: [finance]}\n")
    code, out, err = run_cases(agent, text)
    assert code == 1 and not err
    assert out.splitlines() == ["FAILED twenty", '         groups: expected ["finance"], got ["ops"]', "0 passed, 1 failed"]
    told = json.loads(run_cases(agent, text, "--json")[1])
    assert (told["passed"], told["failed"], told["cases"][0]["ok"]) == (0, 1, False)
    assert told["cases"][0]["got"] == {"effect": "ask", "rule": "small", "groups": ["ops"]}


def test_a_rule_without_a_case_is_named(agent):
    text = RULES.format(agent="billing").replace("tests:", "  - {name: other, mode: enforce, match: {agents: [x]}, then: {ask: {}}}\ntests:")
    code, out, _ = run_cases(agent, text)
    assert code == 0 and 'no case is about the rule "other"' in out


@pytest.mark.parametrize("change, said", [
    (("lte: 50", "lte: much"), "/rules/0/match/arguments/~1amount/lte (small): must be a number"),
    (("mode: enforce", "mode: on"), "/rules/0/mode (small)"),
    (("name: small", "name: small\n    name: other"), "duplicate"),
    (("lte: 50", "lte: 123456789012.34567"), "in quotes"),
    (("expect: {", "expects: {"), "expects"),
    (("effect: ask", "effect: maybe"), "expect must be approve, reject, ask or none"),
    (("agent_id: billing", "agent_id: Billing"), "tests[0].request.agent_id: must be 1 to 63 characters"),
    (("tests:", "cases:"), "cases"),
    (("rules:", "policies:"), "policies"),
])
def test_a_file_that_is_not_valid_ends_with_64_and_the_place(agent, change, said):
    text = RULES.format(agent="billing")
    code, out, err = run_cases(agent, text.replace(*change))
    assert (code, out) == (64, "") and said in err, err


def test_without_cases_or_rules_there_is_nothing_to_test(agent):
    assert run_cases(agent, RULES.format(agent="a").split("tests:")[0])[0] == 64
    assert run_cases(agent, "agents: []")[0] == 64
    assert agent.ended("rules", "test")[0] == 64
    assert agent.ended("rules", "test", "-f", "/nowhere")[0] == 64


# ---------------------------------------------------------------- applied


def test_rules_are_applied_once_as_a_whole_and_rehearsed_without_effect(administrator, people):  # noqa: F811
    without_rules(people)
    try:
        text = RULES.format(agent=administrator.agent_id)
        code, out, err = apply(administrator, text, "--dry-run")
        assert (code, out) == (0, "+ rule small (enforce)\nwould change 1\n"), err
        assert people.admin("GET", "/v1/admin/rules")["rules"] == []
        code, out, err = apply(administrator, text)
        assert code == 0 and "the rules have version" in out and out.endswith("changed 1\n"), err
        assert apply(administrator, text)[1] == "changed 0\n"
        standing = people.admin("GET", "/v1/admin/rules")
        assert [rule["name"] for rule in standing["rules"]] == ["small"]
        # A file that says nothing of rules leaves them.
        assert apply(administrator, "agents: []")[1] == "changed 0\n"
        code, out, _ = apply(administrator, text.replace("mode: enforce", "mode: shadow").replace("effect: ask, rule: small, groups: [ops]", "effect: none"))
        assert code == 0 and "~ rule small: mode enforce → shadow" in out
        # A case that fails, and a document that is not valid, change nothing.
        assert apply(administrator, text.replace("groups: [ops]}\n", "groups: [finance]}\n"))[0] == 1
        assert apply(administrator, text.replace("lte: 50", "lte: much"))[0] == 64
        assert people.admin("GET", "/v1/admin/rules")["version"] == standing["version"] + 1
        assert apply(administrator, "rules: []")[1].startswith("- rule small\n")
    finally:
        without_rules(people)


def test_of_administrators_at_once_one_sets_the_rules_and_none_mixes_them(administrator, people):  # noqa: F811
    without_rules(people)
    try:
        before = people.admin("GET", "/v1/admin/rules")["version"]
        texts = [RULES.format(agent=f"racer-{number}") for number in range(6)]
        files = [administrator.folder / f"rules-{number}.yaml" for number in range(6)]
        for file, text in zip(files, texts):
            file.write_text(text)
        started = [administrator.start("admin", "apply", "-f", str(file)) for file in files]
        ended = [(process.communicate(timeout=60), process.returncode) for process in started]
        standing = people.admin("GET", "/v1/admin/rules")
        set_by = [number for number, (_, code) in enumerate(ended) if code == 0]
        assert set_by and standing["version"] == before + len(set_by)
        assert standing["rules"][0]["match"]["agents"] in [[f"racer-{number}"] for number in set_by]
        for (out, err), code in ended:
            assert code == 0 or (code == 1 and "somebody else" in err), err
    finally:
        without_rules(people)


# ---------------------------------------------------------------- tried


def asked(agent, people, amount):
    process = agent.start("ask", "--type", "refund.create", "--arg", f"amount={amount}", "--title", "Refund")
    request_id = agent.pending()
    people.decide(request_id, "reject", reason="No")
    process.communicate(timeout=60)
    return request_id


def test_a_file_is_tried_on_what_was_asked_before(administrator, people, tmp_path):  # noqa: F811
    request_id = asked(administrator, people, "20.00")
    file = tmp_path / "rules.yaml"
    file.write_text(RULES.format(agent=administrator.agent_id))
    code, out, err = administrator.ended("admin", "rules", "try", "-f", str(file), "--from", "10m", "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["whole"] and told["tried"] >= 1 and told["counts"]["asked"] >= 1
    # Plain lines where there is no terminal, and no colours anywhere.
    assert "back to" in err and "\x1b" not in out + err
    decides = RULES.format(agent=administrator.agent_id).replace("ask: {groups: [ops]}", "decide: reject, reason: Small")
    file.write_text(decides.split("tests:")[0].replace("enforce", "shadow"))
    code, out, err = administrator.ended("admin", "rules", "try", "-f", str(file), "--from", "10m", "--shadow-as-enforced")
    assert code == 0 and re.search(rf"was rejected +would be rejected +small .*{request_id}", out), out + err


def test_on_a_terminal_a_bar_shows_how_far_it_is(administrator, tmp_path):  # noqa: F811
    file = tmp_path / "rules.yaml"
    file.write_text("rules: []")
    command = ("admin", "rules", "try", "-f", str(file), "--from", "10m")
    code, seen = at_terminal(administrator, *command, env={"NO_COLOR": None, "TERM": "xterm-256color"})
    assert code == 0 and re.search(r"\d+ %", seen) and "\x1b[3" not in seen, seen
    # Plain lines where a bar is not wanted.
    code, seen = at_terminal(administrator, *command)
    assert code == 0 and "back to" in seen and " %" not in seen and "\x1b" not in seen, seen


def test_ctrl_c_ends_a_trial_with_what_was_tried(administrator, tmp_path):  # noqa: F811
    file = tmp_path / "rules.yaml"
    file.write_text("rules: []")
    # A relay that does not answer: the trial can only be interrupted.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = administrator.start("admin", "rules", "try", "-f", str(file), env={"RELAYTRACE_URL": url})
        connection, _ = silent.accept()  # kept open: the trial waits for its answer
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130 and "tried    0 requests" in out and "interrupted" in err


@pytest.mark.parametrize("arguments, said", [
    (["--from", "yesterday"], "yesterday"), (["--from", "1d", "--to", "2d"], "--from must be before --to"), (["--limit", "5"], "--limit"),
])
def test_wrong_arguments_of_a_trial_end_with_64(administrator, tmp_path, arguments, said):  # noqa: F811
    file = tmp_path / "rules.yaml"
    file.write_text("rules: []")
    code, _, err = administrator.ended("admin", "rules", "try", "-f", str(file), *arguments)
    assert code == 64 and said in err
    assert administrator.ended("admin", "rules", "try", "-f", str(file), env={"RELAYTRACE_ADMIN_TOKEN_FILE": None})[0] == 1
