# SPDX-License-Identifier: GPL-2.0-or-later
"""What the project asks of its own text."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT


@pytest.mark.parametrize(
    "argv",
    [
        [sys.executable, "-m", "mypy"],
        [sys.executable, "-m", "ruff", "check", "."],
        [sys.executable, "-m", "ruff", "format", "--check", "."],
    ],
    ids=lambda argv: argv[2],
)
def test_checkers_find_nothing(argv: list[str]) -> None:
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def tracked() -> list[Path]:
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in names.splitlines()]


def shell_scripts() -> list[Path]:
    return [path for path in tracked() if path.suffix == ".sh" or re.match(rb"#!.*sh\b", path.read_bytes()[:80])]


@pytest.mark.parametrize("path", shell_scripts(), ids=lambda path: str(path.relative_to(ROOT)))
def test_shellcheck_finds_nothing(path: Path) -> None:
    text, options = path.read_text(), list[str]()
    if path.is_relative_to(ROOT / "src/sysenter/native/legacy"):
        # for shells of 2001; a compiler and its options are several words
        options = ["-s", "sh", "-e", "SC2006,SC2013,SC2015,SC2086"]
    elif path.parent.name == "tasks":
        # carried out behind load.sh and settings of sysenter.measure's
        settings = "rounds=1 count=1 block=1 paths=fast options=\n".replace(" ", "\n")
        head = settings + (path.parent / "load.sh").read_text() + "load_module\n"
        text, options = head + ("" if path.name == "load.sh" else text), ["-s", "dash", "-e", "SC2034"]
    elif path.is_relative_to(ROOT / "src/sysenter/native/guest"):
        options = ["-s", "dash", "-e", "SC1091,SC2034"]
    done = subprocess.run(["shellcheck", *options, "-"], input=text, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_source_says_its_licence() -> None:
    for path in tracked():
        if path.suffix in (".py", ".c", ".h", ".S", ".sh"):
            assert "SPDX-License-Identifier: GPL-2.0-or-later" in path.read_text()[:300] or path.name in (
                "count.sh",
                "time.sh",
                "shell.sh",
            ), path


def test_ruff_lays_out_all_of_it() -> None:
    marked = re.compile(r"# fmt: ?(skip|off)$", re.M)
    assert not [path for path in tracked() if path.suffix == ".py" and marked.search(path.read_text())]


def test_no_file_names_a_package_registry() -> None:
    hosts = re.compile(r"(deb|ftp|security)\.debian\.org|pypi\.org|pythonhosted|registry\.npmjs", re.I)
    for path in tracked():
        if path.suffix not in (".png",) and path != Path(__file__):
            assert not hosts.search(path.read_text(errors="replace")), path
