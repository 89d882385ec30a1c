"""A table with a hole in it, or with a report of its own, is found. Needs no framework."""

import copy
import unittest

import table


def whole() -> dict:
    cells = {column.name: {"verdict": "pass"} for column in table.COLUMNS}
    row = {"date": "2026-11-27", "versions": {"Python": "3.11.7"}, "cells": cells}
    return {"rows": {made.name: copy.deepcopy(row) for made in table.ROWS}}


class Table(unittest.TestCase):
    def test_a_whole_one_has_a_line_for_each_row_and_a_verdict_for_each_column(self) -> None:
        self.assertEqual(table.missing(whole()), [])
        lines = [line for line in table.render(whole()).splitlines() if " | pass | " in line]
        self.assertEqual([line.count("pass |") for line in lines], [len(table.COLUMNS)] * len(table.ROWS))

    def test_a_row_a_cell_or_a_reason_that_is_missing_is_named(self) -> None:
        results = whole()
        del results["rows"]["python"], results["rows"]["langgraph"]["cells"]["crash"]
        results["rows"]["ai-sdk"]["cells"]["edit"] = {"verdict": "cannot"}
        results["rows"]["mcp-wrap"]["cells"]["down"]["verdict"] = "broken"
        results["rows"]["gone"] = results["rows"]["typescript"]
        wanted = ["row python", "langgraph: crash", "ai-sdk: a reason for edit", "mcp-wrap: down", "no such row: gone"]
        found = table.missing(results)
        self.assertTrue(all(one in found for one in wanted), found)

    def test_a_reason_is_a_note_and_the_same_reason_is_one_note(self) -> None:
        results = whole()
        for row in ("ai-sdk", "langgraph"):
            results["rows"][row]["cells"]["crash"] = {"verdict": "fail", "note": "The tool ran twice."}
        report = table.render(results)
        self.assertEqual(report.count("**fail** [1](#notes)"), 2)
        self.assertIn("\n1. The tool ran twice.\n", report)

    def test_what_is_committed_is_whole(self) -> None:
        self.assertEqual(table.faults(), [])


if __name__ == "__main__":
    unittest.main()
