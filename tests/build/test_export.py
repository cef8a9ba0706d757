# SPDX-License-Identifier: GPL-2.0-or-later
"""The single file: both of its readers must take it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from sysenter.build.export import single_file
from sysenter.build.native import NATIVE


@pytest.fixture
def single(tmp_path: Path) -> Path:
    path = tmp_path / "sysenter.c"
    path.write_text(single_file())
    return path


def test_a_compiler_makes_the_preload_library_of_it(single: Path) -> None:
    library = single.with_suffix(".so")
    subprocess.run(["gcc", "-m32", "-Wall", "-Werror", "-O2", "-fPIC", "-shared", "-o", library, single], check=True)
    symbols = subprocess.run(["nm", "-D", library], capture_output=True, text=True, check=True).stdout
    assert " T read\n" in symbols
    assert " T write\n" in symbols


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox ash"])
def test_a_shell_runs_it_and_names_the_wrong_kernel(single: Path, shell: str) -> None:
    words = shell.split()
    if not shutil.which(words[0]):
        pytest.skip(f"{words[0]} is not installed")
    done = subprocess.run([*words, single], capture_output=True, text=True, timeout=20)
    assert done.returncode == 1
    assert "the file is for 2.2 and 2.4" in done.stderr
    done = subprocess.run([*words, single, "nonsense"], capture_output=True, text=True, timeout=20)
    assert "nonsense" in done.stderr


def test_its_sources_are_the_ones_in_the_repository(single: Path, tmp_path: Path) -> None:
    # build fails for want of headers, after it has unpacked
    subprocess.run(
        ["sh", single, "build", tmp_path / "out"], capture_output=True, timeout=20,
        env={"PATH": "/usr/bin:/bin", "HEADERS": "/nonexistent", "SYSTEM_MAP": "/nonexistent"},
    )  # fmt: skip
    unpacked = sorted((tmp_path / "out/sources").iterdir())
    assert len(unpacked) == 20
    for path in unpacked:
        assert path.read_text() == (NATIVE / "legacy" / path.name).read_text()
