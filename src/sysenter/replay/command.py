# SPDX-License-Identifier: GPL-2.0-or-later
"""`./sysenter replay`: from a kernel, or a bundle, to cycles on this machine's processor."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from sysenter.errors import SysenterError
from sysenter.lab.guest import Guest
from sysenter.lab.present_guest import PresentGuest
from sysenter.replay import NO_LEGACY
from sysenter.replay.bundle import Bundle, Call, plan_of_calls, read_bundle, write_bundle
from sysenter.replay.compare import against_result, against_saved, become_slower, print_changes
from sysenter.replay.pieces import costs_of, pieces_of, print_costs
from sysenter.replay.relocate import relocated
from sysenter.replay.result import Result, quiet, summarise
from sysenter.replay.runner import Run, build_runner, check_processor, run
from sysenter.replay.snapshot import CALLS, Snapshot, take
from sysenter.replay.table import print_result, to_json
from sysenter.report.output import write_json
from sysenter.scratch import scratch_folder
from sysenter.steps import Steps

__all__ = ["Request", "bundle_of", "measure_bundles", "replay", "replayed_calls"]

_FEW = ("getppid", "read", "write")  # those that `run` measures
_README = """A kernel's system-call paths, to be replayed on any x86-64 Linux: {kernel}
    ./replay .                  each call single-stepped and held against the guest's, then timed
    ./sysenter replay --from .  the same in several processes, as tables, where the project is
What ./replay says, in cycles of the time-stamp counter, the caller's own taken off:
    verified CALL PATH 1|0 GUEST HERE WHY-NOT       instructions; what is not the guest's is not timed
    cycles CALL PATH VERW WAY QUARTER LEAST MEDIAN  VERW 1: executed, 0: a NOP; WAY: overlap, serial, nested
    difference CALL PATH VERW WAY QUARTER MEDIAN QUARTER    the path less stock; twin: stock less stock
    mixture PATH ORDER KIB VERW WAY CYCLES          all calls mixed
    clock MHZ CORE STEP                             cycles of the core for one of the counter
"""


@dataclass(frozen=True)
class Request:
    """What a user wants of a replay.

    calls: all if empty. export: a folder for the bundle, and no measuring. pieces: what those of the first call cost.
    """

    calls: tuple[str, ...] = ()
    json: Path | None = None
    against: Path | None = None
    export: Path | None = None
    processes: int = 9
    pieces: bool = False


def bundle_of(steps: Steps, guest: PresentGuest, options: Sequence[str]) -> Bundle:
    """A kernel's bundle, from a snapshot that is taken now or was before. options: the module's."""

    def worth_keeping(snapshot: Snapshot) -> bool:
        with scratch_folder() as folder:
            bundle = relocated(snapshot)
            write_bundle(bundle, folder)
            verdicts = run(steps, build_runner(steps, bundle.arch), folder, ["-v"]).verdicts
            return all(verdict.verified for verdict in verdicts)

    return relocated(take(steps, guest, options=" ".join(options), accept=worth_keeping))


def measure_bundles(
    steps: Steps, bundles: Sequence[Bundle], *, calls: Sequence[str] = (), processes: int = 9, batches: int = 80,
    rounds: int = 12, more: Sequence[Call] = (),
) -> list[Result]:  # fmt: skip
    """Run bundles, each in several processes (pages lie elsewhere in each), which alternate. more: calls besides."""
    options = ["-b", str(batches), "-r", str(rounds), *(["-c", ",".join(calls)] if calls else [])]
    runs: list[list[Run]] = [[] for _ in bundles]
    with scratch_folder() as folder:
        if more:
            (folder / "more").write_text(plan_of_calls(more))
            options += ["-m", str(folder / "more")]
        places = []
        for number, bundle in enumerate(bundles):
            place = folder / str(number)
            place.mkdir()
            write_bundle(bundle, place)
            places.append((build_runner(steps, bundle.arch), place))
        names = " and ".join(bundle.kernel.split()[0] for bundle in bundles)
        with steps.step(f"replay {names} in {processes} processes"):
            for _ in range(processes):
                for number, (runner, place) in enumerate(places):
                    runs[number].append(run(steps, runner, place, options))
    chosen = [quiet(each) for each in runs]
    both = sorted(set(chosen[0]).intersection(*chosen[1:])) or chosen[0]
    return [summarise(bundle, own, both) for bundle, own in zip(bundles, runs, strict=True)]


def export(steps: Steps, bundle: Bundle, folder: Path) -> None:
    """Write the bundle with its runner and a README, for another machine."""
    folder.mkdir(parents=True, exist_ok=True)
    write_bundle(bundle, folder)
    shutil.copy2(build_runner(steps, bundle.arch), folder / "replay")
    (folder / "README").write_text(_README.format(kernel=bundle.kernel))


def _check_calls(calls: Sequence[str], have: Sequence[str]) -> None:
    unknown = [call for call in calls if call not in have]
    if unknown:
        raise SysenterError(f"no replay of {', '.join(unknown)}", hint=f"--calls takes a list of {','.join(have)}")


def _saved(path: Path) -> object:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SysenterError(
            f"--against {path}: cannot be read ({error})", hint="give what replay --json wrote"
        ) from error


def replayed_calls(steps: Steps, guest: Guest, options: Sequence[str]) -> Result | str:
    """The cycles of a few calls, for `run` to show beside what it emulates; or why there are none."""
    if not isinstance(guest, PresentGuest):
        return NO_LEGACY
    try:
        check_processor()
        bundle = bundle_of(steps, replace(guest, accelerator="tcg"), options)
        return measure_bundles(steps, [bundle], calls=_FEW, processes=5, batches=40, rounds=0)[0]
    except SysenterError as error:
        return error.message


def replay(
    steps: Steps, console: Console, request: Request, *, kernel: tuple[PresentGuest, Sequence[str]] | None = None,
    source: Path | None = None,
) -> int:  # fmt: skip
    """Do what `./sysenter replay` does, for a guest with its module's options, or for the bundle in `source`.

    Returns the exit status: 1 if a call was not the guest's, or has become slower.
    """
    if not request.export:
        check_processor()
    if kernel:
        _check_calls(request.calls, CALLS)
    other = read_bundle(request.against) if request.against and request.against.is_dir() else None
    saved = _saved(request.against) if request.against and not other else None
    if source:
        bundle = read_bundle(source)
    else:
        assert kernel
        bundle = bundle_of(steps, *kernel)
    _check_calls(request.calls, list(dict.fromkeys(call.name for call in bundle.calls)))
    if request.export:
        export(steps, bundle, request.export)
        size = sum(path.stat().st_size for path in request.export.iterdir())
        print(f"{request.export}: {size / 1e6:.1f} MB")
        return 0
    if request.pieces:
        name = (request.calls or _FEW)[0]
        pieces = pieces_of(bundle, name)
        more = [piece.call for piece in pieces]
        (result,) = measure_bundles(steps, [bundle], calls=[name], processes=request.processes, rounds=0, more=more)
        print_costs(costs_of(pieces, result, name), result, name, console)
        return 0
    bundles = [bundle, *([other] if other else [])]
    result, *then = measure_bundles(steps, bundles, calls=request.calls, processes=request.processes)
    try:
        if request.json:
            write_json(request.json, to_json(result))
    finally:  # what was measured is shown in any case
        print_result(result, console)
    bad = bool(result.unverified)
    if request.against:
        changes = against_result(result, then[0]) if then else against_saved(result, saved, str(request.against))
        print_changes(changes, str(request.against), console)
        bad = bad or bool(become_slower(changes))
    return 1 if bad else 0
