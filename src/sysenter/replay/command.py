# SPDX-License-Identifier: GPL-2.0-or-later
"""`./sysenter replay`: from a kernel, or a bundle, to cycles on this machine's processor."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sysenter.build.native import NATIVE
from sysenter.errors import SysenterError
from sysenter.lab.guest import Guest
from sysenter.lab.present_guest import PresentGuest
from sysenter.replay import NO_LEGACY
from sysenter.replay.bundle import Bundle, Call, pack, plan_of_calls, read_bundle, write_bundle
from sysenter.replay.compare import Change, against_result, against_saved, become_slower, called
from sysenter.replay.path import Paths, paths_of
from sysenter.replay.pieces import Cost, costs_of, pieces_of
from sysenter.replay.relocate import relocated
from sysenter.replay.result import Result, quiet_together, summarise
from sysenter.replay.runner import Run, build_runner, check_processor, run
from sysenter.replay.snapshot import CALLS, Snapshot, take
from sysenter.scratch import scratch_folder
from sysenter.steps import Steps

__all__ = ["Outcome", "Request", "bundle_of", "measure_bundles", "replay", "replayed_calls"]

_FEW = ("getppid", "read", "write")  # those that `run` measures
_README = """The system-call paths of {kernel}, to replay on any x86-64 Linux

    ./replay .                  single-step each call, compare it with the guest's, then time it
    ./sysenter replay --from .  the same in several processes, with tables; it needs the project

./replay prints these lines. Cycles are of the time-stamp counter, without the caller's own.

    verified CALL PATH 1|0 GUEST HERE WHY-NOT       1: as in the guest; else not timed. Both counts of instructions
    cycles CALL PATH VERW WAY QUARTER LEAST MEDIAN  VERW 1: executed, 0: a NOP. WAY: overlap, serial, nested
    difference CALL PATH VERW WAY QUARTER MEDIAN QUARTER    the path minus stock; twin: stock minus stock
    mixture PATH ORDER KIB VERW WAY CYCLES          calls of all kinds mixed
    clock MHZ CORE STEP                             the counter's rate; cycles of the core for one of the counter
"""


@dataclass(frozen=True)
class Request:
    """What a user wants of a replay."""

    calls: tuple[str, ...] = ()
    """Which; all if empty."""
    against: Path | None = None
    """An earlier replay's JSON, or the folder of a bundle, to compare with."""
    export: Path | None = None
    """A folder for the bundle, and no measuring."""
    processes: int = 9
    """How many measure."""
    trace: bool = False
    """Each instruction of a call's paths, and no measuring."""
    pieces: bool = False
    """What the pieces of the first call's paths cost, and nothing else."""


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    result: Result | None = None
    """The cycles, unless the bundle was exported."""
    then: Result | None = None
    """The cycles of the bundle that it is compared with."""
    saved: object = None
    """The JSON that it is compared with, if that is no bundle."""
    against: str = ""
    """The name of either; "" for no comparison."""
    costs: Sequence[Cost] | None = None
    """What the pieces of `call` cost, if that was asked."""
    call: str = ""
    exported: Path | None = None
    """The folder with the bundle."""
    paths: Paths | None = None
    """Each instruction of the calls' paths, if that was asked."""

    @property
    def ok(self) -> bool:
        """Whether each call was the guest's, and none has become slower."""
        if self.result is None:
            return True
        if self.costs is not None:  # without a piece a call may give another result: that is told, and is no fault
            return all("-" in verdict.path for verdict in self.result.unverified)
        return not self.result.unverified and not become_slower(self.changes())

    def changes(self) -> list[Change]:
        """What is other than it was. Raises SysenterError if the two cannot be compared."""
        if self.result is None or not self.against:
            return []
        if self.then:
            return against_result(self.result, self.then)
        return against_saved(self.result, self.saved, self.against)


def bundle_of(steps: Steps, guest: PresentGuest, options: Sequence[str], calls: tuple[str, ...] = CALLS) -> Bundle:
    """A kernel's bundle of at least these calls, from a snapshot taken now or before. options: the module's."""

    def worth_keeping(snapshot: Snapshot) -> bool:
        with scratch_folder() as folder:
            bundle = relocated(snapshot)
            write_bundle(bundle, folder)
            verdicts = run(steps, build_runner(steps, bundle.arch), folder, ["-v"]).verdicts
            return all(verdict.verified for verdict in verdicts)

    return relocated(take(steps, guest, options=" ".join(options), calls=calls, accept=worth_keeping))


def measure_bundles(
    steps: Steps,
    bundles: Sequence[Bundle],
    *,
    calls: Sequence[str] = (),
    processes: int = 9,
    batches: int = 80,
    rounds: int = 12,
    more: Sequence[Call] = (),
) -> list[Result]:
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
    undisturbed = quiet_together(runs)
    return [summarise(bundle, own, undisturbed) for bundle, own in zip(bundles, runs, strict=True)]


def export(steps: Steps, bundle: Bundle, folder: Path) -> None:
    """Write the bundle with its runner and a README, for another machine."""
    folder.mkdir(parents=True, exist_ok=True)
    with scratch_folder() as plain:
        write_bundle(bundle, plain)
        shutil.copy2(build_runner(steps, bundle.arch), plain / "runner")
        for name in ("plan", "pages", "runner"):
            pack(plain / name, folder)
    script = folder / "replay"
    shutil.copyfile(NATIVE / "replay" / "unpack.sh", script)
    script.chmod(0o755)
    (folder / "README").write_text(_README.format(kernel=bundle.kernel))


def _check_calls(calls: Sequence[str], have: Sequence[str]) -> None:
    unknown = [call for call in calls if call not in have]
    if unknown:
        raise SysenterError(f"no replay of {', '.join(unknown)}", hint=f"--calls takes a list of {','.join(have)}")


def _saved(path: Path) -> object:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise SysenterError(
            f"--against {path}: cannot be read ({error})", hint="give what replay --json wrote"
        ) from error


def _check_common(against: Path, calls: Sequence[str], have: Sequence[str]) -> None:
    """Nothing is found slower where nothing is compared."""
    if not set(calls) & set(have):
        raise SysenterError(
            f"nothing to compare: {against} has none of {', '.join(calls)}",
            hint=f"it has {', '.join(have) or 'no call'}",
        )


def replayed_calls(steps: Steps, guest: Guest, options: Sequence[str]) -> Result | str:
    """The cycles of a few calls, for `run` to show beside what it emulates; or why there are none."""
    if not isinstance(guest, PresentGuest):
        return NO_LEGACY
    if guest.accelerator == "bochs":
        return "a replay is taken of a guest in QEMU"
    try:
        check_processor()
        bundle = bundle_of(steps, replace(guest, accelerator="tcg"), options, _FEW)
        return measure_bundles(steps, [bundle], calls=_FEW, processes=5, batches=40, rounds=0)[0]
    except SysenterError as error:
        return error.message
    except OSError as error:  # a full disk is no reason to lose what was measured
        return str(error)


def replay(
    steps: Steps,
    request: Request,
    *,
    kernel: tuple[PresentGuest, Sequence[str]] | None = None,
    source: Path | None = None,
) -> Outcome:
    """Do what `./sysenter replay` does, for a guest with its module's options, or for the bundle in `source`."""
    if request.trace and not kernel:
        raise SysenterError("a bundle has no program to trace", hint="--trace takes --kernel, not --from")
    if request.export and request.export.exists() and not request.export.is_dir():  # said before the work
        raise SysenterError(f"cannot write a bundle to {request.export}: it is no folder", hint="give a folder's name")
    if not request.export and not request.trace:
        check_processor()
    if kernel:
        _check_calls(request.calls, CALLS)
        if request.trace:
            return Outcome(paths=paths_of(steps, *kernel, request.calls or CALLS[:1]))
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
        return Outcome(exported=request.export)
    if request.pieces:
        name = (request.calls or _FEW)[0]
        pieces = pieces_of(bundle, name)
        more = [piece.call for piece in pieces]
        (result,) = measure_bundles(steps, [bundle], calls=[name], processes=request.processes, rounds=0, more=more)
        wrong = {v.path: v.why for v in result.unverified}
        paths = [call.path for call in bundle.calls if call.name == name]
        if all(path in wrong for path in paths):  # nothing was timed
            raise SysenterError(
                f"{name} by {paths[0]} is not verified, so not timed: {wrong[paths[0]]}",
                hint="`./sysenter replay` without --pieces tells of each call",
            )
        for path in (path for path in paths if path in wrong):  # of its pieces nothing can be said
            steps.say(f"         {name} by {path} is not verified, so left out: {wrong[path]}")
        timed = [piece for piece in pieces if piece.path not in wrong]
        return Outcome(result, costs=costs_of(timed, result, name), call=name)
    if request.against:
        calls = request.calls or tuple(dict.fromkeys(call.name for call in bundle.calls))
        have = [call.name for call in other.calls] if other else called(saved, str(request.against))
        _check_common(request.against, calls, list(dict.fromkeys(have)))
    bundles = [bundle, *([other] if other else [])]
    result, *then = measure_bundles(steps, bundles, calls=request.calls, processes=request.processes)
    return Outcome(result, then=then[0] if then else None, saved=saved, against=str(request.against or ""))
