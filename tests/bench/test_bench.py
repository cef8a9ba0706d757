# SPDX-License-Identifier: GPL-2.0-or-later
"""The command, on real kernels."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import schemas
from conftest import ROOT, Keep, RunCli, interruptible, one_line_error
from sysenter.bench.result import Result, Timed
from sysenter.bench.run import bench
from sysenter.bench.workloads import Workload
from sysenter.steps import Steps
from sysenter.target.target import Target


@pytest.mark.parametrize("kernel", ["bookworm-amd64", pytest.param("bookworm-686", marks=pytest.mark.long)])
def test_calls_and_dd_by_every_path(cli: RunCli, on_sample_page: Keep, kernel: str, tmp_path: Path) -> None:
    """What is exact is asserted: fewer instructions by each path, and that the module counted the calls."""
    file = tmp_path / "bench.json"
    env = {"XDG_DATA_HOME": str(tmp_path)}
    arguments = ("bench", "calls/null", "dd/bs=1", "switch", "--kernel", kernel, "--rounds", "2")
    done = cli(*arguments, "--json", str(file), "--save", "one", timeout=500, env=env)
    assert done.returncode == 0, done.stderr
    said = json.loads(file.read_text())
    on_sample_page(file, f"bench-{kernel}")
    schemas.hold("bench", said)
    assert said["complete"]
    assert said["commands"]["calls/null"] == "/lib/sysenter/micro null 40000"
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
def test_a_process_that_ends_later_than_its_workload_holds_the_module_for_a_moment(
    steps: Steps, target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the other process of `switch` may, on a busy host, just as the module is to go."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    lingers = Workload("calls", "lingers", "/lib/sysenter/micro null 1000000 & sleep 0.2")
    result = bench(steps, target, "tcg", [lingers], paths=("stock", "fast", "all"), rounds=1)
    assert not result.failed
    assert set(result.workloads["calls/lingers"]) == {"stock", "fast", "all"}


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
    # one round is too short for samples of each; of the longest there are enough
    shares = [paths["stock"]["ticks"] for paths in workloads.values()]
    assert any(ticks["kernel"] > 5 for ticks in shares)
    assert all(sum(paths["all"]["calls"]) > 100 for paths in workloads.values()), workloads


def test_a_baseline_of_another_machine_or_a_damaged_one_is_told_before_the_work(cli: RunCli, tmp_path: Path) -> None:
    env = {"XDG_DATA_HOME": str(tmp_path)}
    other = Result(
        "2.6.0", "i386", "pentium3", "tcg", "another", "0.1.0", workloads={"calls/null": {"stock": Timed((1.0,), (0,))}}
    )
    (tmp_path / "sysenter/bench").mkdir(parents=True)
    file = tmp_path / "sysenter/bench/old.json"
    file.write_text(json.dumps(other.to_json()))
    arguments = ("bench", "calls/null", "--kernel", "bookworm-686", "--accelerator", "tcg", "--against", "old")
    said = one_line_error(cli(*arguments, env=env))
    assert "the baseline is of another machine: kernel '2.6.0' and '6." in said
    assert "--anyway" in said
    without = one_line_error(cli("bench", "dd/bs=1", *arguments[2:], "--anyway", env=env))
    assert "baseline 'old' has none of these workloads" in without
    file.write_text('{"kind": "bench", "schema": 1}')
    assert "old.json: no result of a benchmark" in one_line_error(cli(*arguments, env=env))
    file.write_text("{")
    assert "old.json is damaged" in one_line_error(cli(*arguments, env=env))


def test_ctrl_c_keeps_what_is_measured_and_resume_goes_on(tmp_path: Path) -> None:
    """The end of the first rounds is seen by the file that they are kept in; then no figure is measured twice."""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "XDG_DATA_HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    argv = [sys.executable, "-m", "sysenter", "bench", "calls/null", "--kernel", "bookworm-686", "--scope", "marked"]
    argv += ["--rounds", "12", "--accelerator", "tcg"]
    master, terminal = pty.openpty()  # a terminal gets the bar with its estimate
    with subprocess.Popen(
        argv, env={**env, "TERM": "xterm"}, stdout=subprocess.PIPE, stderr=terminal, text=True, preexec_fn=interruptible
    ) as process:
        os.close(terminal)
        said = ""
        while not re.search(r"([89]|\d\d)/\d+", said):  # 4 are of the guest that counts, 2 to warm up
            said += os.read(master, 4096).decode(errors="replace")
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while os.read(master, 4096):
                pass
        shown = process.communicate(timeout=60)[0]
    assert process.returncode == 130
    assert re.search(r"\d:\d\d", said), said  # the time that is left
    assert "the same command with --resume goes on" in shown
    (kept,) = (tmp_path / "sysenter/bench/interrupted").glob("*.json")
    before = json.loads(kept.read_text())["workloads"]["calls/null"]["stock"]["seconds"]
    assert 1 <= len(before) < 12
    done = subprocess.run(
        [*argv, "--resume", "--json", "-"],
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    paths = json.loads(done.stdout)["workloads"]["calls/null"]
    seconds = paths["stock"]["seconds"]
    assert len(seconds) == len(paths["fast"]["seconds"]) == 12
    whole = sum(1 for a, b in zip(before, seconds, strict=False) if a == b)
    assert whole >= len(before) - 1  # a round without a partner is measured again
    assert not kept.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing"], "no workload 'nothing'"),
        (["calls/null", "--against", "never"], "no baseline 'never'"),
        (["--kernel", "nowhere"], "unknown kernel"),
        (["--kernel", "nowhere", "--save", "a/b"], "'a/b' is no name for a baseline"),
        (["calls/null", "--kernel", "bookworm-686", "--resume"], "there is nothing to go on with"),
    ],
)
def test_bad_words_are_one_line(cli: RunCli, arguments: list[str], words: str, tmp_path: Path) -> None:
    done = cli("bench", *arguments, env={"XDG_DATA_HOME": str(tmp_path)})
    assert words in one_line_error(done)
