# SPDX-License-Identifier: GPL-2.0-or-later
"""A path that a page or a comment names is there; the layout in docs/design.md is the folders' own."""

from __future__ import annotations

import fnmatch
import importlib
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import architecture
from conftest import ROOT

# Where a path may begin that is not written from the top.
_BASES = ("", "src/sysenter", "src/sysenter/native", "src/sysenter/native/guest", "tests", "tests/native", "docs")
# A path of two parts or more, or a file of a kind that is ours: the kernel's C files are named without a folder too.
_PATH = re.compile(
    r"(?<![\w/.<$~{%\"-])([A-Za-z_][\w{}*-]*(?:/[\w.{}*-]+)+/?|[a-z]\w*(?:\.py|_(?:i386|amd64|\*)\.S|\.md))(?![\w/])"
)
_MODULE = re.compile(r"\bsysenter(?:\.[a-z_]\w*)+")
_NOT_MODULES = re.compile(r"^sysenter\.(ko|o|c|so|h|off|conf|toml|service)\b|^sysenter\.[A-Z]")


@cache
def _tracked() -> tuple[frozenset[str], frozenset[str]]:
    """Every file of the project, and every folder."""
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    return frozenset(names), frozenset(str(folder) for name in names for folder in Path(name).parents)


def _comments(path: Path) -> Iterator[str]:
    """The prose of a file, line by line."""
    text = path.read_text(errors="replace")
    if path.suffix == ".md":
        yield from text.splitlines()
    elif path.suffix == ".py":
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and token.string.startswith('"""')):
                yield from token.string.splitlines()
    elif path.suffix in (".c", ".h", ".S"):
        for match in re.finditer(r"/\*.*?\*/|//[^\n]*", text, re.DOTALL):
            yield from match[0].splitlines()
    elif path.suffix in (".sh", ".toml", ".in", "") and path.name != "LICENSE":
        yield from (line for line in text.splitlines() if line.lstrip().startswith("#"))


def _there(path: str, own: Path) -> bool:
    files, folders = _tracked()
    wanted = re.sub(r"\{[^}]*\}|\b[A-Z]{3,}\b|\.\.\.$", "*", path).rstrip("./")  # {arch}, FOLDER
    if "/" not in wanted:
        return any(fnmatch.fnmatch(Path(file).name, wanted) for file in files)
    above = [str(folder.relative_to(ROOT)) for folder in own.parents if folder.is_relative_to(ROOT)]
    for base in dict.fromkeys([*_BASES, *above]):
        whole = wanted if base in ("", ".") else f"{base}/{wanted}"
        if whole in files or whole in folders or ("*" in whole and fnmatch.filter([*files, *folders], whole)):
            return True
    return False


def _is_ours(path: str) -> bool:
    """Whether it begins with a folder of ours; those of the kernel's tree are not looked for."""
    _, folders = _tracked()
    first = path.split("/")[0]
    return "/" not in path or any((f"{base}/{first}" if base else first) in folders for base in _BASES)


def stale(path: Path) -> list[str]:
    """What a file names that is not there."""
    found = []
    for line in _comments(path):
        found += [word for word in _PATH.findall(line) if _is_ours(word) and not _there(word, path)]
        for name in _MODULE.findall(line):
            if not _NOT_MODULES.match(name) and not _imports(name):
                found.append(name)
    return found


@cache
def _imports(name: str) -> bool:
    """Whether a dotted name is a module of the package, or something in one."""
    module, _, attribute = name.rpartition(".")
    try:
        importlib.import_module(name)
    except ImportError:
        try:
            return hasattr(importlib.import_module(module), attribute)
        except ImportError:
            return False
    return True


def test_every_path_named_is_there() -> None:
    files, _ = _tracked()
    wrong = {name: words for name in sorted(filter(None, files)) if (words := stale(ROOT / name))}
    assert not wrong


@pytest.mark.parametrize(
    ("prose", "found"),
    [
        ("see check/nowhere.py and lab/qemu.py", ["check/nowhere.py"]),
        ("docs/gone.md, `native/present/entry_*.S`, tests/lab/", ["docs/gone.md"]),
        ("callers_i386.py stands for itself", ["callers_i386.py"]),
        ("as the kernel's arch/x86/entry/entry_64.S does, and as sysenter.lab.nowhere", ["sysenter.lab.nowhere"]),
    ],
)
def test_a_path_that_is_not_there_is_found(tmp_path: Path, prose: str, found: list[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text(prose)
    assert stale(page) == found


def _layout() -> dict[str, list[str]]:
    """Folder -> the names in its row of the layout's tables."""
    text = (ROOT / "docs/design.md").read_text()
    text = text[text.index("\n## Layout") : text.index("\n## Kernels newer than this")]
    rows: dict[str, list[str]] = {}
    top = ""
    for line in text.splitlines():
        if match := re.match(r"\| in `([^`]+)`", line):
            top = match[1].rstrip("/")
        elif match := re.match(r"\| `([^`]+)/` \|[^|]*\|(.*)\|$", line):
            rows[str(Path(top, match[1]))] = re.findall(r"`([\w*./]+)`", match[2])
    return rows


def test_the_layout_is_the_folders_own() -> None:
    files, folders = _tracked()
    rows = _layout()
    for folder, names in rows.items():
        inside = [file.removeprefix(f"{folder}/") for file in files if file.startswith(f"{folder}/")]
        assert inside, folder
        for name in names:
            wanted = [name.rstrip("/") + "/*", name, f"{name}.py"]
            assert any(fnmatch.filter(inside, pattern) for pattern in wanted), f"{folder}: {name}"
    rooms = {f for f in folders if re.fullmatch(r"src/sysenter(/native|/check)?/\w+", f)}
    data = {"src/sysenter/native", "src/sysenter/check/headers"}
    assert rooms - data <= set(rows), "a folder has no row in docs/design.md (Layout)"


# Rooms of one number may use each other.
_ORDER = {
    "kernels": 0,
    "target": 0,
    "build": 1,
    "lab": 2,
    "install": 2,
    "measure": 3,
    "replay": 3,
    "verify": 3,
    "check": 3,
    "bench": 3,
    "matrix": 4,
    "report": 5,
}


def test_data_goes_one_way() -> None:
    """A room that imported a later one could not be read, or tested, without it."""
    rooms = architecture.imports()
    del rooms["commands"]
    assert rooms.keys() == _ORDER.keys()
    wrong = [f"{room} imports {other}" for room, its in rooms.items() for other in its if _ORDER[other] > _ORDER[room]]
    assert not wrong
