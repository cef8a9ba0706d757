# SPDX-License-Identifier: GPL-2.0-or-later
"""The command, on real kernels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import schemas
from conftest import RunCli, one_line_error


@pytest.mark.parametrize("kernel", ["bookworm-amd64", pytest.param("bookworm-686", marks=pytest.mark.long)])
def test_calls_and_dd_by_every_path(cli: RunCli, kernel: str, tmp_path: Path) -> None:
    """What is exact is asserted: fewer instructions by each path, and that the module counted the calls."""
    file = tmp_path / "bench.json"
    env = {"XDG_DATA_HOME": str(tmp_path)}
    arguments = ("bench", "calls/null", "dd/bs=1", "switch", "--kernel", kernel, "--rounds", "2")
    done = cli(*arguments, "--json", str(file), "--save", "one", timeout=500, env=env)
    assert done.returncode == 0, done.stderr
    said = json.loads(file.read_text())
    schemas.hold("bench", said)
    assert said["complete"]
    for key in ("calls/null", "dd/bs=1"):
        paths = said["workloads"][key]
        assert set(paths) == {"stock", "fast", "all"}
        stock = paths["stock"]
        assert max(stock["calls"]) == 0
        for path in ("fast", "all"):
            assert min(paths[path]["calls"]) >= 30000, (key, path)
            assert paths[path]["instructions"] < 0.95 * stock["instructions"], (key, path)
    again = cli("bench", "calls/null", "--kernel", kernel, "--rounds", "1", "--against", "one", timeout=500, env=env)
    assert "instructions" in again.stdout
    assert again.returncode == 0, again.stdout + again.stderr


@pytest.mark.long
def test_where_no_call_can_be_marked(cli: RunCli, tmp_path: Path) -> None:
    """AMD's processors have no SYSENTER in 64-bit mode: the unmodified program is the only fast one."""
    file = tmp_path / "bench.json"
    words = ("bench", "calls/null", "--kernel", "bookworm-amd64", "--cpu", "EPYC-Milan", "--rounds", "1")
    done = cli(*words, "--json", str(file), timeout=500)
    assert done.returncode == 0, done.stderr
    paths = json.loads(file.read_text())["workloads"]["calls/null"]
    assert set(paths) == {"stock", "all"}
    assert max(paths["stock"]["calls"]) == 0
    assert min(paths["all"]["calls"]) >= 30000
    assert paths["all"]["instructions"] < 0.95 * paths["stock"]["instructions"]
    done = cli(*words, "--scope", "marked", timeout=500)
    assert "only Intel's have SYSENTER" in one_line_error(done)


@pytest.mark.long
@pytest.mark.parametrize("kernel", ["bookworm-amd64", "bookworm-686"])
def test_real_programs(cli: RunCli, kernel: str, tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    done = cli("bench", "programs", "--kernel", kernel, "--rounds", "1", "--json", str(file), timeout=1500)
    assert done.returncode == 0, done.stderr
    workloads = json.loads(file.read_text())["workloads"]
    assert len(workloads) == 10
    assert all(sum(paths["all"]["calls"]) > 100 for paths in workloads.values()), workloads


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing"], "no workload 'nothing'"),
        (["calls/null", "--against", "never"], "no baseline 'never'"),
        (["--kernel", "nowhere"], "unknown kernel"),
    ],
)
def test_bad_words_are_one_line(cli: RunCli, arguments: list[str], words: str, tmp_path: Path) -> None:
    done = cli("bench", *arguments, env={"XDG_DATA_HOME": str(tmp_path)})
    assert words in one_line_error(done)
