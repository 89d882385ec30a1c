"""Plays cells of the table, prints each as it comes, and compares or records them. See run."""

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import table
from cells import CELLS
from conftest import People
from scene import Cannot, Lost, scene

NODE_MODULES = table.ROOT / "sdk/typescript/node_modules"
Cell = dict[str, str]


def version(package: str) -> str | None:
    if package.startswith("npm:"):
        described = NODE_MODULES / package.removeprefix("npm:") / "package.json"
        return json.loads(described.read_text())["version"] if described.exists() else None
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def play(row: table.Row, column: str, stack: dict[str, Any], people: People) -> Cell:
    with scene(row, stack, people) as made:
        try:
            CELLS[column](made)
        except Lost as lost:
            return {"verdict": "fail", "note": str(lost)}
        except Cannot as cannot:
            return {"verdict": "cannot", "note": str(cannot)}
        except Exception as broken:
            return {"verdict": "broken", "note": f"{type(broken).__name__}: {broken}; {made.blame()}"}
    return {"verdict": "pass"}


def play_all(rows: list[table.Row], columns: list[str]) -> dict[str, dict[str, Cell]]:
    stack = json.loads(Path(os.environ["RELAYTRACE_DEV_JSON"]).read_text())
    people = People(stack)
    cells: dict[str, dict[str, Cell]] = {}
    for row in rows:
        lacks = [package for package in row.packages if version(package) is None]
        cells[row.name] = {}
        for column in columns:
            note = f"not installed: {', '.join(lacks)}"
            began = time.monotonic()
            cell = {"verdict": "broken", "note": note} if lacks else play(row, column, stack, people)
            cells[row.name][column] = cell
            took = f"{time.monotonic() - began:.0f} s"
            print(f"{row.name} · {column}: {cell['verdict']}, {took}" + (f" ({cell['note']})" if "note" in cell else ""), flush=True)
    return cells


def choose(names: list[str]) -> tuple[list[table.Row], list[str]]:
    known = {row.name for row in table.ROWS}
    if unknown := set(names) - known - set(CELLS):
        sys.exit(f"no such row or column: {', '.join(sorted(unknown))}. Rows: {', '.join(sorted(known))}")
    rows = [row for row in table.ROWS if row.name in names] or list(table.ROWS)
    return rows, [column for column in CELLS if column in names] or list(CELLS)


def main() -> int:
    assert list(CELLS) == [column.name for column in table.COLUMNS], "a column without its test"
    rows, columns = choose(sys.argv[1:])
    cells = play_all(rows, columns)
    print("\n" + table.plain({"rows": {name: {"cells": found} for name, found in cells.items()}}, list(cells)))
    return record(rows, cells) if os.environ.get("RECORD") else compare(cells)


def record(rows: list[table.Row], cells: dict[str, dict[str, Cell]]) -> int:
    """Write down the rows that were played to their last cell, and the report once it is whole."""
    results = json.loads(table.RESULTS.read_text()) if table.RESULTS.exists() else {"rows": {}}
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip().lstrip("v")
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    for row in rows:
        language = {"npm:Node": node} if ".mjs" in row.program else {"Python": platform.python_version()}
        versions = language | {package: version(package) for package in row.packages}
        made = {"date": today, "versions": versions, "cells": cells[row.name]}
        is_known = all(cell["verdict"] in table.VERDICTS for cell in cells[row.name].values())
        if not is_known or len(cells[row.name]) < len(CELLS):
            print(f"not recorded: {row.name}")
        else:
            results["rows"][row.name] = made
    results["rows"] = {row.name: results["rows"][row.name] for row in table.ROWS if row.name in results["rows"]}
    table.RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    if lacks := table.missing(results):
        print(f"the report is not written: {'; '.join(lacks)}")
        return 1
    table.REPORT.write_text(table.render(results))
    return 0


def compare(cells: dict[str, dict[str, Cell]]) -> int:
    """Against what is committed: another verdict is news, and a failure of this command."""
    if not table.RESULTS.exists():
        return 1
    known = json.loads(table.RESULTS.read_text())["rows"]
    news = 0
    for row, found in cells.items():
        for column, cell in found.items():
            said = known.get(row, {"cells": {}})["cells"].get(column, {}).get("verdict", "nothing")
            if cell["verdict"] != said:
                news += 1
                print(f"{row} · {column}: {cell['verdict']}, and the report says {said}")
    return 1 if news else 0


if __name__ == "__main__":
    sys.exit(main())
