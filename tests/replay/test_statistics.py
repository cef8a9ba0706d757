# SPDX-License-Identifier: GPL-2.0-or-later
"""What several processes of a replay say together, and what is no difference."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sysenter.errors import SysenterError
from sysenter.replay import command
from sysenter.replay.bundle import Bundle
from sysenter.replay.command import measure_bundles
from sysenter.replay.compare import against_result, against_saved, become_slower
from sysenter.replay.result import quartiles, quiet, quiet_together, summarise
from sysenter.replay.runner import Key, Run, parse
from sysenter.report.replay import to_json
from sysenter.steps import Steps

BUNDLE = Bundle("6.1 #1", "amd64", "a model", 0, 0, {}, b"", (), ())
SAID = """\
kernel 6.1 #1
processor A processor
verified getppid stock 1 326 326 
verified getppid fast 1 156 156 
verified read stock 1 664 664 
verified read fast 0 494 490 other instructions from 7 on: 1000, guest 2000
difference getppid twin 0 overlap -0.50 0.00 0.50
difference getppid fast 0 overlap -{saved}.50 -{saved}.00 -{saved}.00
cycles getppid stock 0 overlap {stock}.00 69.00 71.00
cycles getppid fast 0 overlap 50.00 49.00 51.00
mixture stock repeats 0 0 overlap 150.00
mixture fast repeats 0 0 overlap 130.00
clock 2600.0 1.400 0.600
"""  # noqa: W291


def process(stock: int = 70, saved: int = 20) -> Run:
    return parse(SAID.format(stock=stock, saved=saved))


def key(path: str, call: str = "getppid") -> Key:
    return Key(call, path, False, "overlap")


def test_quartiles() -> None:
    assert quartiles([3.0]) == (3.0, 3.0, 3.0)
    assert quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == (2.0, 3.0, 4.0)


def test_processes_in_which_stock_was_slow_do_not_count() -> None:
    runs = [process(stock=70), process(stock=99), process(stock=71), process(stock=70), process(stock=72)]
    assert quiet(runs) == [0, 2, 3, 4]
    assert quiet([process(stock=70), process(stock=99), process(stock=200)]) == [0, 1, 2], "three are the least"


def test_a_comparison_rests_on_three_processes(monkeypatch: pytest.MonkeyPatch, steps: Steps) -> None:
    """One alone was in both bundles' quiet ones: of it no noise is seen, so anything was slower for certain."""
    stocks = [70, 70, 70, 70, 70, 90, 70, 90, 90, 70]  # of the two bundles in turn
    monkeypatch.setattr(command, "build_runner", lambda *given: Path("runner"))
    monkeypatch.setattr(command, "run", lambda *given: process(stock=stocks.pop(0)))
    now, then = measure_bundles(steps, [BUNDLE, BUNDLE], processes=5)
    assert now.processes == then.processes == (3, 5)
    assert now.samples[key("stock")] == (70, 70, 70)
    assert then.samples[key("stock")] == (70, 70, 90), "the partners of these three"
    assert quiet_together([[process()], [process()]]) == [0]


def test_what_a_path_saves_is_stock_less_the_path() -> None:
    result = summarise(BUNDLE, [process(saved=20), process(saved=21), process(saved=22)])
    saved = result.savings[key("fast")]
    assert (saved.low, saved.middle, saved.high) == (20.5, 21.0, 21.5)
    assert result.is_difference(key("fast"))
    assert result.cycles(key("fast")) == 50
    assert result.processes == (3, 3)


def test_below_the_noise_is_no_difference() -> None:
    result = summarise(BUNDLE, [process(saved=0), process(saved=1), process(saved=1)])
    assert result.noise["overlap"] >= 1.2, "two steps of the counter"
    assert not result.is_difference(key("fast"))
    spread = summarise(BUNDLE, [process(saved=0), process(saved=30), process(saved=15)])
    assert spread.noise["overlap"] >= 15
    assert not spread.is_difference(key("fast"))


def test_a_call_that_is_not_the_guests_has_no_times() -> None:
    runs = [process(), process(), process()]
    runs[1].cycles[key("fast", "read")] = 100.0
    result = summarise(BUNDLE, runs)
    assert result.cycles(key("fast", "read")) is None
    (bad,) = result.unverified
    assert (bad.call, bad.path, bad.guest, bad.replayed) == ("read", "fast", 494, 490)
    entry = next(c for c in to_json(result)["calls"] if (c["call"], c["path"]) == ("read", "fast"))
    assert entry["verified"] is False
    assert entry["cycles"] == {}
    assert entry["why"].startswith("other instructions")


def slowed(run: Run, by: float) -> Run:
    return replace(run, cycles={k: c + (by if k.path == "fast" else 0) for k, c in run.cycles.items()})


def test_what_has_become_slower_is_found() -> None:
    then = [process(stock=70), process(stock=71), process(stock=72)]
    for by, expected in ((5.0, True), (-5.0, False), (0.0, False), (0.5, False)):
        now, before = summarise(BUNDLE, [slowed(run, by) for run in then]), summarise(BUNDLE, then)
        for changes in (against_result(now, before), against_saved(now, to_json(before), "a file")):
            assert [change.key.path for change in become_slower(changes)] == (["fast"] if expected else [])


def test_what_changes_in_stock_too_is_the_machines() -> None:
    then = [process(stock=70), process(stock=70), process(stock=70)]
    now = [slowed(process(stock=80), 5.0) for _ in then]
    results = summarise(BUNDLE, now), summarise(BUNDLE, then)
    assert become_slower(against_result(*results)) == []
    other = replace(BUNDLE, kernel="6.12 #1")
    changes = against_result(summarise(other, now), results[1])
    assert {change.key.path for change in become_slower(changes)} == {"stock", "fast"}


def test_what_was_measured_elsewhere_is_refused() -> None:
    result = summarise(BUNDLE, [process(), process(), process()])
    with pytest.raises(SysenterError, match="was measured on Another"):
        against_saved(result, {**to_json(result), "processor": "Another"}, "a file")
    without = to_json(result)
    without["calls"][0]["samples"]["overlap"] = []
    damaged: list[object] = [{}, [], {"schema": 2}, {"schema": 1, "calls": [{}]}, without]
    for wrong in damaged:
        with pytest.raises(SysenterError, match="is no JSON of a replay"):
            against_saved(result, wrong, "a file")
