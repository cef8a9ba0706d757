# SPDX-License-Identifier: GPL-2.0-or-later
"""`replay --trace`: a call's whole path, and what each instruction of it is for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import schemas
from conftest import Keep, RunCli, one_line_error
from sysenter.kernels.provide import provide
from sysenter.lab import guest_with_shell_for
from sysenter.replay.path import LANES, Paths, paths_of
from sysenter.replay.pieces import VERW, pieces_of
from sysenter.replay.purpose import KINDS, purpose_of
from sysenter.replay.relocate import relocated
from sysenter.replay.snapshot import take
from sysenter.replay.source import lines_of
from sysenter.steps import Steps

KERNELS = ("bookworm-amd64", pytest.param("bookworm-686", marks=pytest.mark.long))
_MADE: dict[str, Paths] = {}


@pytest.fixture(params=KERNELS)
def paths(request: pytest.FixtureRequest, steps: Steps) -> Paths:
    """getppid's, with scope=both."""
    kernel = request.param
    if kernel not in _MADE:
        guest = guest_with_shell_for(steps, provide(steps, kernel, offline=False), "tcg")
        _MADE[kernel] = paths_of(steps, guest, ["scope=both"], ["getppid"])
    return _MADE[kernel]


def test_each_path_goes_from_the_program_through_the_kernel_and_back(paths: Paths) -> None:
    assert [each.path for each in paths.paths] == ["int80", "stock", "all", "fast"]
    bodies, totals = set(), {}
    for each in paths.paths:
        lanes = [step.lane for step in each.steps]
        back = [lane for lane in lanes if lane != "user"] + ["user"] * (lanes[-1] == "user")
        assert lanes[0] == "user"
        assert back == sorted(back, key=[*LANES[1:], "user"].index), "the lanes are not in order"
        bodies.add(tuple((s.symbol, s.offset) for s in each.steps if s.lane == "body"))
        totals[each.path] = len(each.steps)
        assert {step.purpose.kind for step in each.steps} <= KINDS.keys()
        assert any(s.symbol.endswith(" [sysenter]") for s in each.steps) == (each.path in ("all", "fast"))
    assert len(bodies) == 1, "the call's own work is the same by each path"
    assert totals["fast"] < totals["stock"] < totals["int80"] or paths.arch == "i386"
    assert totals["all"] < totals["stock"]


def test_most_of_the_way_in_and_out_is_told(paths: Paths) -> None:
    for each in paths.paths:
        ways = [step for step in each.steps if step.lane in ("entry", "exit")]
        other = [step for step in ways if step.purpose.kind == "other"]
        assert len(other) < len(ways) / 3, (each.path, [step.text for step in other])
        assert all(step.purpose.by for step in ways if step.purpose.kind != "other")


def test_pieces_are_those_that_replay_times(steps: Steps, paths: Paths) -> None:
    if paths.arch != "amd64":
        pytest.skip("one kernel for all")
    guest = guest_with_shell_for(steps, provide(steps, "bookworm-amd64", offline=False), "tcg")
    bundle = relocated(take(steps, guest, options="scope=both"))
    timed = {(piece.path, piece.what) for piece in pieces_of(bundle, "getppid")}
    for each in paths.paths:
        named = {step.piece for step in each.steps if step.piece}
        if each.path == "int80":
            assert not named
            continue
        assert {(each.path, name) for name in named - {VERW}} <= timed
        assert {VERW, "registers cleared at the entry", "dispatch: a direct call of the body instead"} <= named
        cleared = [step.text for step in each.steps if step.piece == "registers cleared at the entry"]
        assert len(cleared) >= 7
        assert all(text.startswith("xorl") for text in cleared)
        # of the module's stand-in nothing is jumped over to leave SYSRET's conditions out
        assert not [s for s in each.steps if s.piece == "may SYSRET be used?" and s.lane == "entry"]


def test_a_line_of_our_source_says_what_it_is_for() -> None:
    executed = ["swapgs", "movq %gs:0x6004, %rsp", "movq %r11, -0x10(%rsp)", "movq -0x28(%rbx), %rcx", "sysretq"]
    lines = lines_of("amd64", executed)
    assert [line.comment if line else None for line in lines[1:4]] == ["top of the task's stack", "", "SYSRET: RIP"]
    told = purpose_of("exit", "sysenter_entry", executed[3], line=lines[3])
    assert (told.kind, told.why, told.by) == ("frame", "SYSRET: RIP", "source")
    assert purpose_of("entry", "nobody_knows", "leaq 8(%rax), %rbx").kind == "other"


def test_it_is_written_as_json(cli: RunCli, on_sample_page: Keep, tmp_path: Path) -> None:
    done = cli("replay", "--kernel", "bookworm-amd64", "--scope", "both", "--trace", str(tmp_path / "trace.json"))
    assert done.returncode == 0, done.stderr
    assert "int80" in done.stdout
    on_sample_page(tmp_path / "trace.json", "trace-bookworm-amd64")
    said = json.loads((tmp_path / "trace.json").read_text())
    schemas.hold("trace", said)
    assert said["paths"][0]["steps"][0] == {
        "lane": "user",
        "instruction": "int $0x80",
        "for": "switch",
        "why": "the mode switch itself",
        "by": "instruction",
    }
    assert "a bundle has no program" in one_line_error(
        cli("replay", "--from", str(tmp_path), "--trace", str(tmp_path / "more"))
    )
