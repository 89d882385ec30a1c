#!/usr/bin/env python3
"""Documents that cannot go stale unseen: every link, path and citation in the tree leads somewhere.

    python3 tests/documents/check.py            # names each fault with its file and line; exit 1 where there is one

Checked are the files that git knows:
- relative links of Markdown, with their anchors;
- paths of this repository in Markdown's code spans, and paths of Markdown files in comments;
- citations of the wire contract (`contract, "Submit"`), wherever they stand: each names a heading below contract/;
- routes: the contract's table of endpoints is that of `contract/openapi.json`;
- examples in JSON below contract/.
"""

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Iterator, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
CITING = {".rs", ".py", ".mjs", ".js", ".sql", ".toml", ".yaml", ".yml", ".md", ".html", ".css", ".ts", ""}

LINK = re.compile(r"(?<!!)\[(?:[^\]\[]|\[[^\]]*\])*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
SPAN = re.compile(r"`([^`\n]+)`")
PLAIN_PATH = re.compile(r"[\w.@-]+(?:/[\w.@-]+)*/?")
MARKDOWN_PATH = re.compile(r"(?<![\w/.-])(?:[\w.-]+/)*[\w.-]+\.md\b")
CITATION = re.compile(r'\bcontract, ((?:"[^"]+"(?:, | and |; )?)+)')
HEADING = re.compile(r"^(#{1,6}) (.+?)\s*$")
ENDPOINT = re.compile(r"\| [\w-]+ \| `([A-Z]+ [^`]+)` \|")
COMMENT = re.compile(r"^\s*(?:///|//!|//|#|--|\*)?\s?")
GENERATED = ("target/", ".local/")


class Fault(NamedTuple):
    file: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}"


def tracked(root: Path) -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=root, check=True, capture_output=True
    )
    return sorted(name for name in listed.stdout.decode().split("\0") if name and (root / name).is_file())


def without_code(text: str) -> str:
    """The text with fenced blocks emptied, so that line numbers stay."""
    return re.sub(r"^```.*?^```", lambda block: "\n" * block.group(0).count("\n"), text, flags=re.M | re.S)


@cache
def headings(path: Path) -> tuple[str, ...]:
    found = (HEADING.match(line) for line in without_code(path.read_text()).splitlines())
    return tuple(heading.group(2) for heading in found if heading)


@cache
def anchors(path: Path) -> frozenset[str]:
    """As GitHub makes them."""
    seen: dict[str, int] = {}
    made = set()
    for heading in headings(path):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        count = seen.get(slug, 0)
        seen[slug] = count + 1
        made.add(slug if count == 0 else f"{slug}-{count}")
    return frozenset(made)


def line_of(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def dead_links(root: Path, name: str) -> Iterator[Fault]:
    text = without_code((root / name).read_text())
    for link in LINK.finditer(text):
        target = link.group(1) or link.group(2)
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        where, _, anchor = target.partition("#")
        path = ((root / name).parent / where).resolve() if where else root / name
        line = line_of(text, link.start())
        if not path.exists():
            yield Fault(name, line, f"the link {target} leads nowhere")
        elif anchor and path.suffix == ".md" and anchor not in anchors(path):
            yield Fault(name, line, f"{target}: no such heading")


def exists(root: Path, path: str) -> bool:
    return (root / path).exists() or path.startswith(GENERATED)


def dead_paths(root: Path, name: str, top: set[str]) -> Iterator[Fault]:
    """Code spans that begin with a folder of this repository are paths of it."""
    text = without_code((root / name).read_text())
    for span in SPAN.finditer(text):
        for word in span.group(1).split():
            path = word.rstrip(",;")
            is_ours = PLAIN_PATH.fullmatch(path) and "/" in path and path.split("/")[0] in top
            if is_ours and not exists(root, path) and not ((root / name).parent / path).exists():
                yield Fault(name, line_of(text, span.start()), f"there is no {path}")


def dead_mentions(root: Path, name: str) -> Iterator[Fault]:
    """Markdown files that comments send a reader to."""
    text = (root / name).read_text()
    for mention in MARKDOWN_PATH.finditer(text):
        path = mention.group(0)
        places = (root, (root / name).parent, (root / name).parent.parent)
        if "/" in path and not any((place / path).exists() for place in places):
            yield Fault(name, line_of(text, mention.start()), f"there is no {path}")


def dead_citations(root: Path, name: str, known: set[str]) -> Iterator[Fault]:
    lines = [COMMENT.sub("", line) for line in (root / name).read_text().splitlines()]
    text = " ".join(lines)
    starts, position = [], 0
    for line in lines:
        starts.append(position)
        position += len(line) + 1
    for citation in CITATION.finditer(text):
        number = sum(start <= citation.start() for start in starts)
        for heading in re.findall(r'"([^"]+)"', citation.group(1)):
            if heading not in known:
                yield Fault(name, number, f'the contract has no heading "{heading}"')


def dead_examples(root: Path, name: str) -> Iterator[Fault]:
    text = (root / name).read_text()
    for block in re.finditer(r"^```json\n(.*?)^```", text, flags=re.M | re.S):
        try:
            json.loads(block.group(1))
        except ValueError as fault:
            yield Fault(name, line_of(text, block.start()), f"the example is not valid JSON: {fault}")


def lost_routes(root: Path) -> Iterator[Fault]:
    """The contract's table of endpoints and the served document name the same routes."""
    contract, document = root / "contract" / "README.md", root / "contract" / "openapi.json"
    if not document.exists():
        return
    told = {route.group(1): number for number, line in enumerate(contract.read_text().splitlines(), 1)
            if (route := ENDPOINT.match(line))}
    paths = json.loads(document.read_text())["paths"]
    served = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    for route in sorted(told.keys() - served):
        yield Fault("contract/README.md", told[route], f"{route} is not in openapi.json")
    for route in sorted(served - told.keys()):
        yield Fault("contract/openapi.json", 1, f"{route} is not in the contract's table of endpoints")


def faults(root: Path) -> Iterator[Fault]:
    names = tracked(root)
    top = {name.split("/")[0] for name in names if "/" in name}
    contract = [root / name for name in names if name.startswith("contract/") and name.endswith(".md")]
    known = {heading for path in contract for heading in headings(path)}
    for name in names:
        if Path(name).suffix not in CITING or name.startswith("tests/documents/"):
            continue
        try:
            (root / name).read_text()
        except UnicodeDecodeError:
            continue
        if name.endswith(".md"):
            yield from dead_links(root, name)
            # A changelog names what was.
            if name != "CHANGELOG.md":
                yield from dead_paths(root, name, top)
            if name.startswith("contract/"):
                yield from dead_examples(root, name)
        else:
            yield from dead_mentions(root, name)
        yield from dead_citations(root, name, known)
    yield from lost_routes(root)


def main() -> int:
    found = list(faults(ROOT))
    for fault in found:
        print(fault)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
