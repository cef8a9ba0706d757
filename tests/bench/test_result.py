# SPDX-License-Identifier: GPL-2.0-or-later
"""What may be said of rounds, and what a baseline finds."""

from __future__ import annotations

import json
import os
import pwd
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

import schemas
from sysenter.bench import baseline, interrupted
from sysenter.bench.result import Result, Timed, bootstrap, from_json
from sysenter.bench.run import _check_figures, _Filling, rounds_had
from sysenter.bench.workloads import SUITES, chosen
from sysenter.errors import SysenterError
from sysenter.report.bench import print_changes

MACHINE = Result("6.1.0", "amd64", "Icelake-Server", "tcg", "a processor", "0.1.0")


def result(stock: tuple[float, ...], fast: tuple[float, ...], instructions: int | None = None) -> Result:
    paths = {"stock": Timed(stock, (0,) * len(stock), 100), "fast": Timed(fast, (9,) * len(fast), instructions)}
    return replace(MACHINE, workloads={"calls/null": paths})


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0.5, 2), min_size=1, max_size=30))
def test_an_interval_holds_only_what_was_measured(ratios: list[float]) -> None:
    low, high = bootstrap(ratios)
    assert min(ratios) <= low <= high <= max(ratios)
    assert bootstrap(ratios) == (low, high)


def test_what_is_within_noise_is_no_difference() -> None:
    noisy = result((1.0, 1.1, 0.9, 1.0, 1.05, 0.95, 1.0), (1.0, 0.9, 1.1, 1.0, 0.95, 1.05, 1.0)).compared(
        "calls/null", "fast"
    )
    assert noisy is not None
    assert noisy.words == "no difference shown"
    clear = result((1.0,) * 7, (0.5, 0.51, 0.49, 0.5, 0.5, 0.5, 5.0)).compared("calls/null", "fast")
    assert clear is not None
    assert clear.shown
    assert clear.outliers == (6,)
    few = result((1.0,) * 3, (0.5,) * 3).compared("calls/null", "fast")
    assert few is not None
    assert "too few rounds" in few.words


def test_a_result_is_what_was_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    was = replace(result((1.0,) * 5, (0.5,) * 5, 60), failed=["calls/read on fast ended with status 1"])
    assert baseline.load(baseline.save(was, "first").stem) == was
    with pytest.raises(SysenterError, match="no baseline 'second'") as none:
        baseline.load("second")
    assert "first" in none.value.hint
    (tmp_path / "sysenter/bench/first.json").write_text("{")
    with pytest.raises(SysenterError, match="is damaged"):
        baseline.load("first")
    for name in ("../elsewhere", "", "x" * 300):
        with pytest.raises(SysenterError, match="is no name"):
            baseline.save(was, name)
    assert [path.name for path in (tmp_path / "sysenter/bench").iterdir()] == ["first.json"]


def test_baselines_are_in_the_home_folder_also_where_home_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("HOME", "")  # as under cron; it is no relative folder
    assert str(baseline.data_folder()) == f"{pwd.getpwuid(os.getuid()).pw_dir}/.local/share/sysenter/bench"
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)
    with pytest.raises(SysenterError, match="no HOME to keep baselines in"):
        baseline.data_folder()


@pytest.mark.parametrize("data", [None, [], {}, {"kind": "bench", "schema": 2}, {"kind": "run", "schema": 1}])
def test_what_is_no_result_is_named(data: object) -> None:
    with pytest.raises(SysenterError, match=r"x\.json: no result"):
        from_json(data, "x.json")


def test_a_regression_is_found_by_exact_counts() -> None:
    (found,) = [
        c
        for c in baseline.changes(result((1.0,), (1.0,), 60), result((1.0,), (1.0,), 66), anyway=False)
        if c.path == "fast"
    ]
    assert found.what == "instructions"
    assert found.percent == pytest.approx(10)


def test_times_of_another_machine_are_compared_only_if_asked() -> None:
    other = replace(result((1.0,) * 5, (0.5,) * 5), processor="another")
    with pytest.raises(SysenterError, match="another machine: processor"):
        baseline.changes(other, result((1.0,) * 5, (0.5,) * 5), anyway=False)
    assert baseline.changes(other, result((1.0,) * 5, (0.9,) * 5), anyway=True)


def test_what_a_baseline_has_not_is_not_passed() -> None:
    """It was: nothing was found slower. What is in both and has not changed is no such case."""
    before = result((1.0,) * 5, (0.5,) * 5)
    baseline.check_common(before, "old", {"dd/bs=1": "dd", "calls/null": "micro"}, ("stock", "fast", "all"))
    for key, paths in (("dd/bs=1", ("stock", "fast")), ("calls/null", ("stock", "all"))):
        with pytest.raises(SysenterError, match="baseline 'old' has none of these workloads by") as none:
            baseline.check_common(before, "old", {key: "micro"}, paths)
        assert none.value.hint == "it has calls/null by fast"
    console = Console(file=StringIO())
    changed = [change for change in baseline.changes(before, before, anyway=False) if change.path != "stock"]
    print_changes(changed, 2.0, console)
    assert "no difference shown" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_workload_that_calls_more_or_less_often_is_another_one() -> None:
    """Of 4000 calls that take 330 instructions each it had been said that they were 85 % faster than 30000 of 300."""
    before = replace(result((1.0,) * 5, (0.5,) * 5, 9_000_000), commands={"calls/null": "micro null 30000"})
    now = replace(result((1.0,) * 5, (0.5,) * 5, 1_320_000), commands={"calls/null": "micro null 4000"})
    assert from_json(before.to_json(), "") == before
    schemas.hold("bench", before.to_json())
    assert baseline.changes(before, now, anyway=True) == []
    assert baseline.other_commands(before, now.commands) == ["calls/null"]
    with pytest.raises(SysenterError, match="the commands of these workloads are others in baseline 'old'") as none:
        baseline.check_common(before, "old", now.commands, ("stock", "fast"))
    assert none.value.hint == "save it anew; calls/null was 'micro null 30000'"
    baseline.check_common(before, "old", before.commands, ("stock", "fast"))
    console = Console(file=StringIO())
    print_changes([], 2.0, console, ["calls/null"])
    assert "not compared, their commands are others in the baseline: calls/null" in console.file.getvalue()  # type: ignore[attr-defined]
    older = replace(before, commands={})  # it does not say
    assert len([change for change in baseline.changes(older, now, anyway=False) if change.path == "fast"]) == 1


@pytest.mark.parametrize(("rounds", "found"), [(1, 0), (4, 0), (5, 1)])
def test_few_rounds_are_no_regression(rounds: int, found: int) -> None:
    """Of one round an interval is a point, and two points are never the same."""
    before, now = result((1.0,) * rounds, (0.5,) * rounds), result((1.0,) * rounds, (0.6,) * rounds)
    assert len([change for change in baseline.changes(before, now, anyway=False) if change.path == "fast"]) == found


def test_times_of_another_qemu_are_not_compared() -> None:
    before = replace(result((1.0,) * 5, (0.5,) * 5), emulator="QEMU emulator version 7.2.22")
    now = replace(before, emulator="QEMU emulator version 10.0.13")
    assert from_json(before.to_json(), "") == before
    with pytest.raises(SysenterError, match=r"another machine: emulator .*7.2.22' and .*10.0.13"):
        baseline.check_machine(before, now, anyway=False)
    baseline.check_machine(replace(before, emulator=""), now, anyway=False)  # an older file says nothing of it


def test_workloads_are_named_one_by_one_or_by_suite() -> None:
    assert chosen(["calls"]) == SUITES["calls"]
    assert [w.key for w in chosen(["dd/bs=1", "calls/read"])] == ["dd/bs=1", "calls/read"]
    with pytest.raises(SysenterError, match="no workload 'cals'"):
        chosen(["cals"])
    keys = [w.key for suite in SUITES.values() for w in suite]
    assert len(keys) == len(set(keys))


def test_figures_that_are_none_are_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    path = baseline.save(result((1.0,) * 5, (0.5,) * 5, 60), "first")
    whole = json.loads(path.read_text())
    changes: list[dict[str, Any]] = [
        {"seconds": ["x"]},
        {"seconds": [1.0]},
        {"calls": None},
        {"instructions": "many"},
        {"seconds": [float("nan")] * 5},
        {"seconds": [10**400] * 5},
        {"ticks": []},
    ]
    for change in changes:
        data = json.loads(json.dumps(whole))
        data["workloads"]["calls/null"]["fast"].update(change)
        path.write_text(json.dumps(data))
        with pytest.raises(SysenterError, match=r"first\.json: no result"):
            baseline.load("first")


def test_what_was_interrupted_goes_on_with_whole_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    paths = ("stock", "fast")
    key = interrupted.key_of(MACHINE, chosen(["calls/null"]), paths)
    with pytest.raises(SysenterError, match="nothing to go on with"):
        interrupted.load(key)
    was = result((1.0, 1.1), (0.5,), 60)
    interrupted.keep(key, replace(was, failed=["calls/null on fast ended with status 1"]))
    assert interrupted.load(key) == was, "what failed is tried again"
    assert key != interrupted.key_of(replace(MACHINE, append="pti=on"), chosen(["calls/null"]), paths)
    back = interrupted.load(key)
    assert rounds_had(back, "calls/null", paths) == 1
    assert back.workloads["calls/null"]["stock"].seconds == (1.0,)  # stock's second round has no partner
    assert rounds_had(back, "calls/read", paths) == 0
    interrupted._path(key).write_text("{")
    with pytest.raises(SysenterError, match="is damaged"):
        interrupted.load(key)
    interrupted.forget(key)
    interrupted.forget(key)


def test_the_kernels_part_of_the_time_is_told_of_enough_samples() -> None:
    assert Timed((1.0,), (0,), None, (60, 20)).kernel_share == 0.25
    assert Timed((1.0,), (0,), None, (3, 2)).kernel_share is None


def _record(path: str, number: int, seconds: float, status: int = 0) -> dict[str, Any]:
    told = {"suite": "calls", "name": "null", "path": path, "round": number, "seconds": seconds, "calls": 9}
    return {"bench": {**told, "user": 1, "kernel": 2, "status": status, "tsc": 60}}


def test_the_figures_of_paths_stay_pairs_when_a_command_fails_or_a_guest_begins_anew() -> None:
    """run_machine() starts a guest again that a fault of the emulator's ended, and its rounds come once more."""
    filling = _Filling(replace(MACHINE, workloads={}, failed=[]), ("stock", "fast"))
    for record in (
        _record("stock", -1, 5.0),  # to warm up
        _record("fast", -1, 5.0),
        _record("stock", 0, 1.0),
        _record("fast", 0, 0.5),
        _record("stock", 1, 3.0),  # here the guest ends
        _record("stock", 0, 7.0),
        _record("fast", 0, 7.0),
        _record("stock", 1, 1.1),
        _record("fast", 1, 9.0, status=1),
        _record("stock", 2, 1.2),
        _record("fast", 2, 0.6),
    ):
        filling.time(record)
    paths = filling.result.workloads["calls/null"]
    assert paths["stock"].seconds == (1.0, 1.2)
    assert paths["fast"].seconds == (0.5, 0.6)
    assert paths["stock"].spent == (2, 4)
    assert filling.result.failed == ["calls/null on fast ended with status 1"]


def test_what_was_not_measured_is_a_failure() -> None:
    workloads = chosen(["calls/null", "calls/read"])
    found = replace(result((1.0,) * 5, (0.5,) * 5, 60), failed=[])
    _check_figures(found, workloads, ("stock", "fast"))
    assert found.failed == ["calls/read on stock, fast said nothing"]
    stock, fast = (found.workloads["calls/null"][path] for path in ("stock", "fast"))
    none = replace(
        MACHINE, failed=[], workloads={"calls/null": {"stock": stock, "fast": replace(fast, calls=(0,) * 5)}}
    )
    _check_figures(none, workloads[:1], ("stock", "fast"))
    assert none.failed == ["path fast: the module counted no call, so nothing of it is a figure of this path"]
