# SPDX-License-Identifier: GPL-2.0-or-later
"""The single file: both of its readers must take it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from conftest import RunCli
from sysenter.build.export import single_file
from sysenter.build.native import NATIVE
from sysenter.target.target import Target


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


def test_it_is_written_as_a_file_that_can_be_run(cli: RunCli, tmp_path: Path) -> None:
    assert cli("export", "-o", str(tmp_path / "sysenter.c")).returncode == 0
    assert os.access(tmp_path / "sysenter.c", os.X_OK)


def test_what_is_no_file_keeps_its_mode(cli: RunCli, tmp_path: Path) -> None:
    """As /dev/null, which root would close to everybody."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o666)
    mode = pipe.stat().st_mode
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE, text=True) as reader:
        done = cli("export", "-o", str(pipe))
        said, _ = reader.communicate(timeout=20)
    assert (done.returncode, said) == (0, single_file())
    assert pipe.stat().st_mode == mode


def gain(tmp_path: Path, calls: int, rounds: str = "3") -> subprocess.CompletedProcess[str]:
    """gain.c with a command that has the module count `calls` calls more when it runs with the library."""
    subprocess.run(
        ["gcc", "-Wall", "-Wextra", "-Werror", "-o", tmp_path / "gain", NATIVE / "legacy/gain.c"], check=True
    )
    report, command = tmp_path / "report", tmp_path / "command"
    report.write_text("way tss\ncalls cpu0 10\ncalls cpu1 20\n")
    command.write_text(
        f'#!/bin/sh\n[ -z "$LD_PRELOAD" ] || '
        f"sed -i \"s/cpu1.*/cpu1 $(($(sed -n 's/calls cpu1 //p' {report}) + {calls}))/\" {report}\n"
    )
    command.chmod(0o755)
    return subprocess.run(
        [tmp_path / "gain", report, "/nonexistent/libsysenter.so", rounds, command],
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_comparison_believes_the_modules_count(tmp_path: Path) -> None:
    fast = gain(tmp_path, 7, rounds="101")
    assert fast.returncode == 0
    assert "median of 101 pairs:" in fast.stdout
    static = gain(tmp_path, 0)
    assert static.returncode == 3
    assert "made no call by the fast entry" in static.stdout
    assert "times as fast" not in static.stdout
    assert gain(tmp_path, 7, rounds="none").returncode == 2


@pytest.mark.parametrize("name", ["dash", "bash", "busybox"])
def test_a_shell_runs_it_and_names_the_wrong_kernel(single: Path, name: str, target: Target) -> None:
    assert target.userland
    shell = [target.userland / "bin/busybox", "ash"] if name == "busybox" else [name]  # the guests', which is static
    done = subprocess.run([*shell, single], capture_output=True, text=True, timeout=20)
    assert done.returncode == 1
    assert "the file is for 2.2 and 2.4" in done.stderr
    done = subprocess.run([*shell, single, "nonsense"], capture_output=True, text=True, timeout=20)
    assert "nonsense" in done.stderr


def test_its_sources_are_the_ones_in_the_repository(single: Path, tmp_path: Path) -> None:
    # build fails for want of headers, after it has unpacked
    subprocess.run(
        ["sh", single, "build", tmp_path / "out"],
        capture_output=True,
        timeout=20,
        env={"PATH": "/usr/bin:/bin", "HEADERS": "/nonexistent", "SYSTEM_MAP": "/nonexistent"},
    )
    unpacked = sorted((tmp_path / "out/sources").iterdir())
    assert len(unpacked) == 20
    for path in unpacked:
        assert path.read_text() == (NATIVE / "legacy" / path.name).read_text()
