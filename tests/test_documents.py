# SPDX-License-Identifier: GPL-2.0-or-later
"""What the documents say can be typed and followed: commands parse, links lead somewhere, lines are not too wide."""

from __future__ import annotations

import fnmatch
import re
import shlex
from pathlib import Path

import pytest

from conftest import ROOT
from sysenter.options import parser

DOCUMENTS = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("C[HO]*.md")])
COMMAND = re.compile(r"(?:^ {4,}|`)(?:sudo )?(?:[A-Z_]+=\S+ )*\./sysenter (?P<rest>[^`\n]*)", re.M)
LINK = re.compile(r"\[[^\]]*\]\((?P<to>[^)\s]+)\)")
# A table's row may be wider, and what has been said of a change.
WIDE = re.compile(r"^(?!\|)(?!.*https?://).{101,}$", re.M)


def commands(text: str) -> list[str]:
    """The arguments of each `./sysenter` that a document gives, whole: none of several to choose from."""
    found = []
    for match in COMMAND.finditer(text):
        line, end = match["rest"], match.end()
        while line.endswith("\\"):  # goes on in the next line
            following = text[end + 1 :].split("\n", 1)[0]
            line, end = f"{line[:-1]}{following.strip()}", end + 1 + len(following)
        if match[0].startswith("`") and text[match.end()] == "\n":
            line += " ".join(text[match.end() :].split("`")[0].split("\n"))
        elif line.endswith("'") and line.count("'") % 2:  # goes on in the next lines
            line += text[match.end() :].split("'")[0] + "'"
        else:
            line = re.sub(r"\s+#.*| {2,}\S.*|;.*| > \S+$", "", line)
        line = line.strip()
        if line and not re.match(r"test|docs", line) and not re.search(r"[|\[…]|\.\.\.", line):
            found.append(line)
    return found


def test_commands_and_links_are_found() -> None:
    """Else the tests below would look at none."""
    texts = [document.read_text() for document in DOCUMENTS]
    assert sum(len(commands(text)) for text in texts) > 120
    assert sum(len(LINK.findall(text)) for text in texts) > 120


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_its_commands_parse(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for line in commands(document.read_text()):
        words = shlex.split(line)
        if words[0].isupper() or words[0].startswith("-"):  # COMMAND --help
            continue
        # numbers' names, as --wait SECONDS, stand for numbers
        words = ["3" if word in ("SECONDS", "N", "PERCENT") else word for word in words]
        try:
            parser().parse_args(words)
        except SystemExit as ended:
            if ended.code:
                pytest.fail(f"./sysenter {line}: {capsys.readouterr().err}")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_its_links_lead_to_files(document: Path) -> None:
    for match in LINK.finditer(document.read_text()):
        place, _, section = match["to"].partition("#")
        if place.startswith(("http:", "https:")):
            continue
        target = (document.parent / place).resolve() if place else document
        assert target.exists(), f"{document.name} links to {match['to']}"
        if section and target.suffix == ".md":
            titles = re.findall(r"^#+ (.*)$", target.read_text(), re.M)
            anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert section in anchors, f"{document.name} links to {match['to']}"


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if d.name != "CHANGELOG.md"], ids=lambda path: path.name)
def test_no_line_is_wider_than_100(document: Path) -> None:
    assert not WIDE.findall(document.read_text())


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if d.parent != ROOT], ids=lambda path: path.name)
def test_a_link_says_what_the_page_is_called(document: Path) -> None:
    """On the site a file's name says nothing to a reader."""
    assert not re.findall(r"\[[\w./-]+\.md\]\(", document.read_text())


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def _named_in_tables(page: str) -> set[str]:
    """What stands in backquotes in the column of cases and tests of docs/hazards.md."""
    found: set[str] = set()
    column = None
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            column = None
        elif column is None:
            column = next((i for i, cell in enumerate(cells) if cell in ("Case", "Case or test", "Test")), None)
        elif column < len(cells):
            found |= set(re.findall(r"`([a-z]\w+\*?)`", cells[column]))
    return found


def test_the_page_of_hazards_has_each_case_and_no_other() -> None:
    """A case that the page leaves out is not known; one that has gone is not tried."""
    sources = (ROOT / "tests/native/guest").glob("hazards_*.c")
    cases = {name for path in sources for name in re.findall(r'^\t\{ ".*",\s"(\w+)",', path.read_text(), re.M)}
    tests = {
        name for path in ROOT.glob("tests/**/test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    named = _named_in_tables((ROOT / "docs/hazards.md").read_text())
    assert len(cases) > 90
    selftests = {"mov_ss_trap", "entry_from_vm86", "sigreturn", "ldt_gdt"}
    known = cases | tests | selftests
    assert not {name for name in named if not fnmatch.filter(known, name)}
    assert not {case for case in cases if not any(fnmatch.fnmatch(case, name) for name in named)}
