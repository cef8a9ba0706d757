# SPDX-License-Identifier: GPL-2.0-or-later
"""Other people's tests give with the module, on the fast path and after it what they gave before."""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

import schemas
from conftest import Keep
from guests import guest_for
from sysenter.errors import SysenterError
from sysenter.kernels.provide import provide
from sysenter.lab.guest import Guest, Output
from sysenter.lab.present_guest import PresentGuest
from sysenter.report.selftests import to_json
from sysenter.steps import Steps
from sysenter.target.target import Target
from sysenter.verify import selftest_programs
from sysenter.verify import selftests as verify_selftests
from sysenter.verify.selftests import PHASES, SelftestResult, _task, new_trouble, selftests
from sysenter.verify.suites import SUITES


def _said(result: SelftestResult, phase: str) -> int:
    """How many of its cases a program said to have gone well; none if it was killed ("137 -/-")."""
    good = result.outcomes.get(phase, "0 0/0").split()[1].split("/")[0]
    return int(good) if good.isdigit() else 0


def _of(suite: str, kernel: str, least: int, *, long: bool) -> object:
    """least: so many cases must go well on the stock kernel, or the suite says nothing."""
    return pytest.param(suite, kernel, least, id=f"{suite}-{kernel}", marks=[pytest.mark.long] if long else [])


@pytest.mark.timeout(2400)
@pytest.mark.parametrize(
    ("suite", "kernel", "least"),
    [
        _of("x86", "bookworm-686", 20, long=False),
        _of("x86", "bookworm-amd64", 20, long=True),
        _of("x86", "trixie-amd64", 20, long=True),
        _of("x86", "trixie-backports-amd64", 20, long=True),
        _of("ptrace", "bookworm-686", 2, long=True),
        _of("ptrace", "bookworm-amd64", 2, long=True),
        _of("user-dispatch", "bookworm-686", 4, long=True),
        _of("user-dispatch", "bookworm-amd64", 4, long=True),
        _of("clone3", "bookworm-686", 10, long=True),
        _of("clone3", "bookworm-amd64", 10, long=True),
        _of("rseq", "bookworm-686", 0, long=True),
        _of("rseq", "bookworm-amd64", 0, long=True),
        _of("seccomp", "bookworm-686", 80, long=True),
        _of("seccomp", "bookworm-amd64", 90, long=True),
        _of("stress-ng", "bookworm-686", 5, long=True),
        _of("stress-ng", "bookworm-amd64", 5, long=True),
        _of("python", "bookworm-686", 500, long=True),
        _of("python", "bookworm-amd64", 500, long=True),
    ],
)
def test_they_say_the_same(
    steps: Steps, on_sample_page: Keep, tmp_path: Path, suite: str, kernel: str, least: int
) -> None:
    guest = guest_for(steps, provide(steps, kernel, offline=False), "tcg")
    results, log = selftests(steps, guest, SUITES[suite], offline=False)
    (tmp_path / "found.json").write_text(json.dumps(to_json(guest, suite, "marked", results, log)))
    on_sample_page(tmp_path / "found.json", f"selftests-{suite}-{kernel}")
    assert len(results) >= (15 if suite == "x86" else len(SUITES[suite].programs) or len(SUITES[suite].commands))
    assert sum(_said(result, "before") for result in results) >= least, results
    assert [r.name for r in results if r.outcomes["before"].startswith("0 ")], results
    assert not [(result.name, result.outcomes) for result in results if result.differs]
    assert not log


@pytest.mark.long
@pytest.mark.timeout(2400)
@pytest.mark.parametrize(
    ("suite", "kernel", "cpu"),
    [
        ("x86", "bookworm-amd64", "Icelake-Server"),
        ("x86", "bookworm-amd64", "EPYC-Milan"),
        ("x86", "trixie-backports-amd64", "Icelake-Server"),
        ("x86", "bookworm-686", "pentium3"),
        ("ptrace", "bookworm-amd64", "EPYC-Milan"),
        ("seccomp", "bookworm-amd64", "Icelake-Server"),
    ],
)
def test_they_say_the_same_unmodified(steps: Steps, suite: str, kernel: str, cpu: str) -> None:
    """With scope=all: no program asks for the fast path, all are on it."""
    target = replace(provide(steps, kernel, offline=False), cpu=cpu)
    results, log = selftests(steps, guest_for(steps, target, "tcg"), SUITES[suite], offline=False, scope="all")
    assert len(results) >= (15 if suite == "x86" else len(SUITES[suite].programs))
    assert sum(_said(result, "before") for result in results) >= 2, results
    assert not [(result.name, result.outcomes) for result in results if result.differs]
    assert not log


def test_what_the_stock_kernel_says_as_well_is_no_trouble() -> None:
    oops = "[    {at}.5] Oops: 0000 [#{n}] PREEMPT SMP"
    mark = "[    1.0] sysenter selftests, phase: "
    console = "\n".join(
        [
            mark + "before",
            oops.format(at=2, n=1),
            mark + "loaded",
            oops.format(at=3, n=2),
            "[    4.0] BUG: another",
            mark + "after",
        ]
    )
    bad = [line for line in console.splitlines() if "Oops" in line or "BUG" in line]
    assert new_trouble(console, bad) == ["[    4.0] BUG: another"]
    assert new_trouble(console.replace("before", "loaded"), bad) == bad


def test_what_ended_just_in_time_has_more_of_it_later() -> None:
    """As syscall_numbering of 7.3: it ended in the first phase, and was killed in the third on a busier host."""
    builds = {"static": {"one": "/tests/one"}, "dynamic": {"one": "/tests/one"}}
    first, *others = (int(n) for n in re.findall(r"^limit=(\d+);", _task(SUITES["x86"], builds, "marked"), re.M))
    assert len(others) == len(PHASES) - 1
    assert min(others) >= 3 * first


def test_an_outcome_that_changes_is_seen() -> None:
    same = {"before": "0 3/0", "before, dynamic": "0 3/0", "loaded": "0 3/0", "fast": "0 3/0", "after": "0 3/0"}
    assert not SelftestResult("same", same).differs
    assert SelftestResult("fast", {**same, "fast": "0 2/1"}).differs == ("fast",)
    assert SelftestResult("lost", {p: o for p, o in same.items() if p != "after"}).differs == ("after",)
    static = {p: o for p, o in same.items() if p not in ("fast", "before, dynamic")}
    assert not SelftestResult("static only", static).differs
    package = {p: o for p, o in same.items() if p != "before, dynamic"}
    assert SelftestResult("of a package", {**package, "fast": "1 3/0"}).differs == ("fast",)


def test_json_has_what_the_table_has(guest: Guest) -> None:
    result = SelftestResult("a", {"before": "0 1/0", "loaded": "1 0/1", "after": "0 1/0"}, ("loaded: broken",))
    said = to_json(guest, "x86", "marked", [result], ["BUG"])
    schemas.hold("selftests", said)
    assert said["programs"] == [
        {"program": "a", "outcomes": result.outcomes, "differs": ["loaded"], "said": ["loaded: broken"]}
    ]
    assert (said["kind"], said["suite"], said["kernel_log"]) == ("selftests", "x86", ["BUG"])


@pytest.mark.parametrize(
    ("error", "left_out"),
    [
        (SysenterError("build x: gcc failed with status 1", detail="x.c:1: error: unknown type name"), True),
        (SysenterError("build x: gcc failed with status 1", detail="x.s: No space left on device"), False),
        (
            SysenterError("build x: gcc failed with status 1", detail="gcc: fatal error: Killed signal terminated"),
            False,
        ),
        (SysenterError("build x: gcc was ended by signal 15"), False),
    ],
)
def test_only_a_program_that_does_not_compile_is_left_out(
    monkeypatch: pytest.MonkeyPatch, steps: Steps, target: Target, tmp_path: Path, error: SysenterError, left_out: bool
) -> None:
    """What is built is kept: on a full disk the later runs would have had fewer programs."""

    def fail(*given: object, **more: object) -> str:
        raise error

    monkeypatch.setattr(selftest_programs, "run_command", fail)
    with contextlib.nullcontext() if left_out else pytest.raises(SysenterError):
        selftest_programs._build(steps, tmp_path, SUITES["x86"], target, "x", [], tmp_path)


@pytest.mark.parametrize(("status", "ran"), [("127 0/0", False), ("126 0/0", False), ("1 0/0", True)])
def test_programs_that_cannot_be_run_are_no_result(
    monkeypatch: pytest.MonkeyPatch, steps: Steps, guest: PresentGuest, tmp_path: Path, status: str, ran: bool
) -> None:
    """They say the same on every path: nothing."""
    said = tuple({"program": name, "phase": phase, "outcome": status} for name in ("a", "b") for phase in PHASES)
    output = Output(({"loaded": True}, *said, {"fast_calls": 9}), ("a, before: no such file",), "", 0, 1.0)
    rows = {"a": "a", "b": "b"}
    monkeypatch.setattr(PresentGuest, "run", lambda *given, **more: output)
    monkeypatch.setattr(verify_selftests, "built", lambda *given, **more: (tmp_path, {"static": rows, "dynamic": rows}))
    with contextlib.nullcontext() if ran else pytest.raises(SysenterError, match="could be run in the guest"):
        results, _ = selftests(steps, guest, SUITES["x86"], offline=True)
        assert len(results) == 2
