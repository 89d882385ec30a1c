#!/usr/bin/env python3
"""Every metric that documents, dashboard and alerts name is there and moves.

    tests/with-stack python tests/documents/observe.py     # against a running stack: scraped, used, scraped again
    python3 tests/documents/observe.py --names             # only what can be seen without a stack

A query may only name metrics of the guide's table, and labels that the table gives them. Each alert has its paragraph in the
guide. With a stack, each metric of the table is in its scrape with exactly these labels, and changes with use; where Prometheus
is installed, a real one scrapes the stack and answers every query of the dashboard and every rule.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs/guides/observe.md"
ALERTS = ROOT / "deploy/alerts.yml"
DASHBOARD = ROOT / "deploy/grafana/relaytrace.json"
DOCUMENTS = [GUIDE, ROOT / "contract/README.md", ROOT / "CHANGELOG.md"]
NAME = re.compile(r"\brelaytrace_[a-z_]+\b")
SELECTOR = re.compile(r"\b(relaytrace_[a-z_]+)\{([^}]*)\}")
GROUPING = re.compile(r"\bby \(([^)]*)\)")
SUFFIXES = ("_bucket", "_count", "_sum")
# What may go on as it is: nothing fails while this runs, and the rest are counts at one moment.
MOVES = {"relaytrace_http_request_duration_seconds", "relaytrace_decision_seconds", "relaytrace_delivery_seconds",
         "relaytrace_batch_rows", "relaytrace_sweep_seconds", "relaytrace_pending", "relaytrace_oldest_pending_seconds",
         "relaytrace_sweep_age_seconds"}


def table() -> dict[str, set[str]]:
    """The metrics of the guide and their labels."""
    rows = re.findall(r"^\| `(relaytrace_\w+)` \|([^|]*)\|", GUIDE.read_text(), re.M)
    return {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}


def base(name: str, known) -> str:
    for suffix in SUFFIXES:
        if name not in known and name.removesuffix(suffix) in known:
            return name.removesuffix(suffix)
    return name


def queries() -> list[tuple[str, str]]:
    """Each query, with where it stands."""
    found = [(f"{DASHBOARD.name}: {panel['title']}", target["expr"].replace("$__rate_interval", "1m"))
             for panel in json.loads(DASHBOARD.read_text())["panels"] for target in panel["targets"]]
    # Read without a YAML parser: a block scalar or one line after `expr:`.
    for alert in ALERTS.read_text().split("- alert: ")[1:]:
        name = alert.split()[0]
        expr = re.search(r"expr: (?:\|\n((?: {10,}.*\n)+)|(.*)\n)", alert)
        found.append((f"{ALERTS.name}: {name}", expr.group(1) or expr.group(2)))
    return found


def faults() -> list[str]:
    known, wrong = table(), []
    if len(known) < 11:
        wrong.append(f"{GUIDE.name}: its table has {len(known)} metrics")
    texts = [(document.name, document.read_text()) for document in DOCUMENTS] + queries()
    for place, text in texts:
        for name in NAME.findall(text):
            if base(name, known) not in known and name not in ("relaytrace_app",) and not name.startswith(
                    ("relaytrace_agent", "relaytrace_people", "relaytrace_ops")):
                wrong.append(f"{place}: there is no metric {name}")
        for name, labels in SELECTOR.findall(text):
            given = {re.split(r"[=!]", label)[0].strip() for label in labels.split(",") if label.strip()}
            beyond = given - known.get(base(name, known), given)
            if beyond:
                wrong.append(f"{place}: {name} has no label {', '.join(sorted(beyond))}")
    for place, query in queries():
        named = {label for name in NAME.findall(query) for label in known.get(base(name, known), ())} | {"le", "instance"}
        for labels in GROUPING.findall(query):
            beyond = {label.strip() for label in labels.split(",")} - named
            if beyond:
                wrong.append(f"{place}: nothing in it has the label {', '.join(sorted(beyond))}")
    headings = {heading for heading in re.findall(r"^### (\S+)$", GUIDE.read_text(), re.M)}
    alerts = re.findall(r"- alert: (\S+)", ALERTS.read_text())
    wrong += [f"{ALERTS.name}: {alert} has no paragraph in the guide" for alert in alerts if alert not in headings]
    for alert, url in zip(alerts, re.findall(r"runbook_url: (\S+)", ALERTS.read_text()), strict=True):
        if url != f"docs/guides/observe.md#{alert.lower()}":
            wrong.append(f"{ALERTS.name}: {alert} points at {url}")
    return wrong


def scrape(client, url: str) -> dict[str, dict[frozenset, float]]:
    """Values by name and labels, as OpenMetrics has them."""
    from prometheus_client.openmetrics.parser import text_string_to_metric_families

    answer = client.get(url)
    assert answer.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8", answer.headers
    assert answer.text.endswith("# EOF\n")
    found: dict[str, dict[frozenset, float]] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return found


def of(scraped: dict, name: str) -> dict:
    """The series of a metric of the table: of a histogram its counts."""
    return scraped.get(name) or scraped.get(f"{name}_count") or {}


def check_stack() -> None:
    import httpx

    sys.path.insert(0, str(ROOT / "tests/contract"))
    from support import Person, deliver, expect, register_agent, submit, wait_until

    stack = json.loads(Path(os.environ["RELAYTRACE_DEV_JSON"]).read_text())
    known = table()
    with httpx.Client(base_url=stack["base_url"], timeout=30) as http:
        admin, operator = (Person(http, stack[who]["token"]) for who in ("admin", "operator"))
        agent = register_agent(admin)

        def use():
            """A request that is decided and arrives, and one that stays."""
            decided = submit(agent, priority="P1")
            expect(operator.decide(decided["request_id"], "approve"), 201)
            expect(agent.acknowledge(deliver(agent, decided["request_id"]), "accepted"), 200)
            submit(agent, priority="P1")

        use()
        wait_until(lambda: of(scrape(http, stack["metrics_url"]), "relaytrace_pending"))
        before = scrape(http, stack["metrics_url"])
        use()
        # Until a look at the database is not the one of before any more.
        moved: set[str] = set()

        def has_moved() -> bool:
            after = scrape(http, stack["metrics_url"])
            moved.update(name for name in known if of(after, name) != of(before, name))
            return MOVES <= moved

        try:
            wait_until(has_moved)
        except AssertionError:
            pass
        after = scrape(http, stack["metrics_url"])
        for name, labels in known.items():
            series = of(after, name)
            assert series, f"{name} is not in a scrape"
            for found in series:
                assert {label for label, _ in found} == labels, f"{name} has the labels {dict(found)}"
        assert MOVES <= moved, f"these did not move: {sorted(MOVES - moved)}"
        routes = {dict(found)["route"] for found in of(after, "relaytrace_http_request_duration_seconds")}
        assert not any(agent.agent_id in route for route in routes), routes
        print(f"{len(known)} metrics are there, {len(moved)} moved")
        ask_prometheus(stack["metrics_url"], http)


def ask_prometheus(metrics_url: str, http) -> None:
    """A real Prometheus scrapes the stack, takes the rules, and answers every query."""
    program = shutil.which("prometheus")
    if program is None:
        print("Prometheus is not installed: queries were compared by the names of their metrics and labels only")
        return
    import socket

    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
        free.close()
        target = metrics_url.removeprefix("http://").removesuffix("/metrics")
        text = (ROOT / "deploy/prometheus.yml").read_text()
        text = text.replace("127.0.0.1:9464", target).replace("[alerts.yml]", f'["{ALERTS}"]').replace(": 15s", ": 1s")
        config = Path(folder) / "prometheus.yml"
        config.write_text(text)
        command = [program, f"--config.file={config}", f"--storage.tsdb.path={folder}/data", f"--web.listen-address={address}"]
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            answer_all(http, f"http://{address}/api/v1", running)
        finally:
            running.terminate()
            running.wait()


def answer_all(http, api: str, running) -> None:
    def query(text: str) -> dict:
        return http.get(f"{api}/query", params={"query": text}).json()

    deadline = time.monotonic() + 30
    while True:
        assert running.poll() is None, "Prometheus has ended: its configuration or the rules are wrong"
        try:
            if len(query("relaytrace_pending[1m]")["data"]["result"][0]["values"]) >= 3:
                break
        except Exception:  # It is starting.
            pass
        assert time.monotonic() < deadline, "Prometheus has scraped nothing"
        time.sleep(0.2)
    empty = []
    for place, text in queries():
        answer = query(text)
        assert answer["status"] == "success", f"{place}: {answer}"
        if not answer["data"]["result"] and place.startswith(DASHBOARD.name):
            empty.append(place)
    rules = [rule for group in http.get(f"{api}/rules").json()["data"]["groups"] for rule in group["rules"]]
    assert len(rules) == ALERTS.read_text().count("- alert: ")
    # Nothing fails here, and nothing has timed out.
    assert set(empty) <= {f"{DASHBOARD.name}: Failing calls a second", f"{DASHBOARD.name}: Ended by timeout"}, empty
    print(f"Prometheus has answered {len(queries())} queries and taken {len(rules)} rules")


def main() -> None:
    wrong = faults()
    for fault in wrong:
        print(fault, file=sys.stderr)
    if wrong:
        sys.exit(1)
    if "--names" not in sys.argv:
        check_stack()


if __name__ == "__main__":
    main()
