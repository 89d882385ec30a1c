"""The guide for agents says what is so: lines that a team writes, and one name for each error in every client."""

import re
import unittest
from pathlib import Path

from check import ROOT

GUIDE = (ROOT / "docs/guides/agents.md").read_text()
AT_MOST = 5


def section(text: str, heading: str) -> str:
    """Of a document, from a heading to the next."""
    return re.split(r"^#+ ", text.split(f"# {heading}\n", 1)[1], maxsplit=1, flags=re.M)[0]


def example(path: Path, anchor: str) -> list[str]:
    """The lines of the first block of code under a heading, without empty ones and those of the shell."""
    for found in re.finditer(r"^(#+ .+)$", path.read_text(), flags=re.M):
        heading = found.group(1).lstrip("# ")
        if re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") == anchor:
            block = re.search(r"^```(?:python|js)\n(.*?)^```", section(path.read_text(), heading), flags=re.M | re.S)
            assert block, f"{path}: no example under {heading}"
            return [line for line in block.group(1).splitlines() if line.strip()]
    raise AssertionError(f"{path}: no heading #{anchor}")


class Lines(unittest.TestCase):
    def test_each_agent_needs_as_many_lines_as_the_guide_says_and_not_more_than_five(self) -> None:
        rows = re.findall(r"^\| (.+?) \| (\d+) \| \[.+?\]\((.+?)#(.+?)\) \|$", section(GUIDE, "Lines that a team writes"), re.M)
        self.assertGreater(len(rows), 8)
        for agent, lines, link, anchor in rows:
            with self.subTest(agent):
                counted = example((ROOT / "docs/guides" / link).resolve(), anchor)
                self.assertEqual(len(counted), int(lines), counted)
                self.assertLessEqual(len(counted), AT_MOST)


class Errors(unittest.TestCase):
    def test_every_client_calls_them_by_the_names_of_the_guide(self) -> None:
        told = set(re.findall(r"^\| `(\w+)` \|", section(GUIDE, "Errors"), re.M)) | {"RelayError"}
        python = (ROOT / "sdk/python/src/relaytrace/_errors.py").read_text()
        self.assertEqual(told, set(re.findall(r"^class (\w+)\(", python, re.M)))
        typescript = (ROOT / "sdk/typescript/src/errors.ts").read_text()
        self.assertEqual(told, set(re.findall(r"^export class (\w+) extends", typescript, re.M)))
        rust = "".join((ROOT / "sdk/rust/src" / name).read_text() for name in ("error.rs", "not_approved.rs"))
        enums = re.findall(r"^pub enum (?:Error|Why|Lost) \{\n(.*?)^\}", rust, re.M | re.S)
        variants = {name for body in enums for name in re.findall(r"^    (\w+)(?: \{|\(|,)", body, re.M)}
        self.assertEqual(variants - told, {"Configuration", "NotDelivered", "RejectedByRule"})
        self.assertEqual(told - variants, {
            "ConfigurationError", "KeyReused", "RelayError", "UnsupportedValue", "WrongDeployment",
        })
        exported = re.search(r"export \{([^}]*)\} from \"./errors.js\"", (ROOT / "sdk/typescript/src/index.ts").read_text())
        self.assertLessEqual(told, set(re.findall(r"\w+", exported[1])))


if __name__ == "__main__":
    unittest.main()
