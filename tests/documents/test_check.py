"""Each kind of fault is found, and what is right is left alone."""

import subprocess
import tempfile
import unittest
from pathlib import Path

from check import faults

CONTRACT = "# The contract\n\n## Submit\n\n### Action digest\n\n```json\n{}\n```\n"


class Check(unittest.TestCase):
    def found(self, **files: str) -> list[str]:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder).resolve()
            for name, text in ({"contract/README.md": CONTRACT, "src/lib.rs": ""} | files).items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(text)
            subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
            return [str(fault) for fault in faults(root)]

    def test_what_is_right(self):
        readme = "[a](contract/README.md#action-digest) [b](https://example.org/x) `src/lib.rs` `src/<name>/`\n"
        cited = '//! As it should be (contract, "Submit", "Action\n//! digest").\n'
        self.assertEqual(self.found(**{"README.md": readme, "src/a.rs": cited}), [])

    def test_a_dead_link(self):
        self.assertEqual(self.found(**{"README.md": "\n[a](gone.md)"}), ["README.md:2: the link gone.md leads nowhere"])

    def test_a_dead_anchor(self):
        faults = self.found(**{"README.md": "[a](contract/README.md#poll)"})
        self.assertEqual(faults, ["README.md:1: contract/README.md#poll: no such heading"])

    def test_a_dead_path(self):
        self.assertEqual(self.found(**{"README.md": "in `src/gone.rs`"}), ["README.md:1: there is no src/gone.rs"])

    def test_a_dead_path_in_a_comment(self):
        self.assertEqual(self.found(**{"src/a.rs": "// docs/gone.md says why"}), ["src/a.rs:1: there is no docs/gone.md"])

    def test_a_dead_citation_over_two_lines(self):
        faults = self.found(**{"src/a.rs": '/// It (contract, "Submit",\n/// "Poll").'})
        self.assertEqual(faults, ['src/a.rs:1: the contract has no heading "Poll"'])

    def test_an_example_that_is_not_json(self):
        faults = self.found(**{"contract/events.md": "# Events\n\n```json\n{…}\n```\n"})
        self.assertEqual(len(faults), 1)
        self.assertIn("contract/events.md:3: the example is not valid JSON", faults[0])

    def test_a_route_that_only_one_side_knows(self):
        table = "# The contract\n\n| poll | `GET /v1/told` | agent |\n"
        document = '{"paths": {"/v1/served": {"post": {}}}}'
        faults = self.found(**{"contract/README.md": table, "contract/openapi.json": document})
        self.assertEqual(faults, [
            "contract/README.md:3: GET /v1/told is not in openapi.json",
            "contract/openapi.json:1: POST /v1/served is not in the contract's table of endpoints",
        ])


if __name__ == "__main__":
    unittest.main()
