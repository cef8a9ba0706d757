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
        ["shellcheck", "sysenter", ".ci/run"],
        ["shellcheck", "-s", "dash", "-e", "SC1091,SC2034", "src/sysenter/native/guest/init"],
    ],
    ids=lambda argv: argv[2] if argv[0] == sys.executable else argv[0],
)
def test_checkers_find_nothing(argv: list[str]) -> None:
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def tracked() -> list[Path]:
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in names.splitlines()]


def test_every_source_says_its_licence() -> None:
    for path in tracked():
        if path.suffix in (".py", ".c", ".h", ".S", ".sh"):
            assert "SPDX-License-Identifier: GPL-2.0-or-later" in path.read_text()[:300] or path.name in (
                "count.sh", "time.sh", "shell.sh",
            ), path  # fmt: skip


def test_no_file_names_a_package_registry() -> None:
    hosts = re.compile(r"(deb|ftp|security)\.debian\.org|pypi\.org|pythonhosted|registry\.npmjs", re.I)
    for path in tracked():
        if path.suffix not in (".png",) and path != Path(__file__):
            assert not hosts.search(path.read_text(errors="replace")), path
