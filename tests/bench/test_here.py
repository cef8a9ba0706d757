# SPDX-License-Identifier: GPL-2.0-or-later
"""`bench --here`: what it says of a machine without the module, and what its program measures on any."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import schemas
from conftest import RunCli, one_line_error
from sysenter.bench import here
from sysenter.build.native import compile_programs
from sysenter.errors import SysenterError
from sysenter.steps import Steps
from sysenter.target.arch import AMD64, I386, Architecture

_LOADED = Path("/sys/module/sysenter").exists()


@pytest.mark.parametrize("arch", [AMD64, I386], ids=str)
def test_each_path_of_this_machine_is_measured(steps: Steps, arch: Architecture) -> None:
    """Also without the module: the kernel's own paths, on whatever processor this is."""
    program = compile_programs(steps, arch, (here._PROGRAM,)) / "here"
    done = subprocess.run([program, "3", "50", "50", "stock"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    calls = here.read_records(done.stdout.splitlines())
    assert list(calls) == ["getppid", "getuid", "umask", "read", "write", "fstat"]
    for paths in calls.values():
        assert "stock" in paths or "int80" in paths
        for cycles in paths.values():
            assert cycles.least > 0
            assert len(cycles.rounds) == 3
            # no call of a row can take less than half of the least that was seen of it alone
            assert min(cycles.rounds) > cycles.least / 2


def test_rounds_are_paired_and_the_first_warms_up() -> None:
    lines = [
        f'{{"call": "getppid", "path": "{path}", "round": {n}, "least": {least + n}, "each": {least * (n + 3)}}}'
        for n in range(-1, 6)
        for path, least in (("fast", 100), ("stock", 200))
    ]
    calls = here.read_records(lines)
    assert list(calls["getppid"]) == ["stock", "fast"]
    assert calls["getppid"]["fast"].least == 100
    result = here.Here("6.1", "amd64", "a processor", virtual=False, scope="marked", calls=calls)
    compared = result.compared("getppid", "fast")
    assert compared is not None
    assert (compared.median, compared.rounds, compared.shown) == (2, 6, True)
    said = result.to_json()
    schemas.hold("bench-here", said)
    row = said["calls"][1]
    assert (row["path"], row["times_stock"]["median"]) == ("fast", 2)


@pytest.mark.skipif(_LOADED, reason="the module is loaded here")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "the module is not loaded here (sudo ./sysenter install --try)"),
        (["calls/null"], "takes no workload"),
        (["--save", "it"], "takes no --save"),
        (["--scope", "all"], "takes no --scope"),
        (["--kernel", "bookworm-amd64", "--tolerance", "5"], "takes no --kernel"),
        (["--tolerance", "5"], "takes no --tolerance"),
        (["--json", "/nowhere/file"], "cannot write /nowhere/file"),
    ],
)
def test_a_machine_without_the_module_is_told_what_to_do(cli: RunCli, arguments: list[str], words: str) -> None:
    assert words in one_line_error(cli("bench", "--here", *arguments))


@pytest.mark.skipif(_LOADED, reason="the module is loaded here")
def test_calls_that_were_not_fast_are_no_result(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, steps: Steps) -> None:
    """A machine whose module counts nothing, as under auditing."""
    (tmp_path / "parameters").mkdir()
    (tmp_path / "parameters/calls").write_text("0\n")
    (tmp_path / "parameters/scope").write_text("all\n")
    monkeypatch.setattr(here, "LOADED", tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(SysenterError, match="the module counted 0"):
        here.measure_here(steps, rounds=1)
