# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs workloads in a guest, each path right after the other, round by round."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from sysenter import __version__
from sysenter.bench.result import Result, Timed
from sysenter.bench.workloads import Workload
from sysenter.build.native import NATIVE, PROGRAMS, Program
from sysenter.errors import SysenterError
from sysenter.kernels.root import debian_root
from sysenter.lab.guest import Output
from sysenter.lab.loading import LOAD, check_loaded
from sysenter.lab.present_guest import PresentGuest, present_guest_for
from sysenter.lab.qemu import Machine, vendor
from sysenter.lab.system import system_for
from sysenter.processes import Interrupted
from sysenter.steps import Steps
from sysenter.target.arch import AMD64
from sysenter.target.target import Target

__all__ = ["PATHS", "bench", "paths_for"]

# path -> the module's scope while it runs. stock and fast share a load; the unmodified program is `all`.
PATHS: Mapping[str, str] = {"stock": "marked", "fast": "marked", "all": "all"}
_BENCH = (
    Program("timed", NATIVE / "bench/timed.c", ("-static",)),
    Program("micro", NATIVE / "bench/micro.c"),  # dynamic: it is for LD_PRELOAD
)
_SECONDS = 3.0  # what a workload takes at the most in a round, emulated, on a busy host
_COUNTING = 4  # times as slow with -icount

_TASK = """
library=/lib/sysenter/libsysenter.so
loaded=
want() { # SCOPE: the module with that scope, or none
	[ "$1" = "$loaded" ] && return
	[ -z "$loaded" ] || rmmod sysenter || exit 4
	loaded=$1 options="scope=$1 $more"
	[ -z "$1" ] || load_module
}
timed() { # SUITE NAME PATH ROUND COMMAND PREPARE FINISH
	preload=
	[ "$3" != fast ] || preload=$library
	export SYSENTER_CALLS=all
	LD_PRELOAD=$preload inside sh -c "$6" >/dev/null 2>&1 </dev/null
	LD_PRELOAD=$preload inside /lib/sysenter/timed "$1" "$2" "$3" "$4" -- sh -c "$5" </dev/null
	LD_PRELOAD=$preload inside sh -c "$7" >/dev/null 2>&1 </dev/null
}
"""


class _Runs(Protocol):
    def __call__(self, task: str, *, timeout: float, icount: bool, on_record: Any) -> Output: ...


def paths_for(target: Target, scope: str) -> tuple[str, ...]:
    """The paths of a scope (marked, all, both), stock first. "": those that can work on the target's processor."""
    if not scope:
        scope = "both" if target.arch is not AMD64 or vendor(target.cpu) == "GenuineIntel" else "all"
    wanted = {"marked": ("fast",), "all": ("all",), "both": ("fast", "all")}[scope]
    return ("stock", *wanted)


def _scope_of(path: str, paths: Sequence[str]) -> str:
    """What is loaded for it; for stock nothing where no call can be marked."""
    return "" if path == "stock" and "fast" not in paths else PATHS[path]


def bench(
    steps: Steps,
    target: Target,
    accelerator: str,
    workloads: Sequence[Workload],
    *,
    paths: Sequence[str],
    rounds: int,
    options: Sequence[str] = (),
    count: bool = True,
    offline: bool = False,
) -> Result:
    """Time the workloads. count: also count guest instructions, in a second guest.

    Ctrl-C ends it early: the result has what was measured, and is not `complete`. Raises
    SysenterError if the module is refused or a workload fails.
    """
    result = Result(
        target.release, target.arch.name, target.cpu, accelerator, _processor(), __version__, tuple(options)
    )
    own = [w for w in workloads if not w.packages]
    foreign = [w for w in workloads if w.packages]
    try:
        if own:
            _measure(steps, result, _in_guest(steps, target, accelerator), own, paths, rounds, options, count)
        if foreign:
            runs = _in_system(steps, target, accelerator, foreign, offline)
            _measure(steps, result, runs, foreign, paths, rounds, options, count)
    except Interrupted:
        if not result.workloads:
            raise
        return replace(result, complete=False)
    return result


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown"


def _guest(steps: Steps, target: Target, accelerator: str) -> PresentGuest:
    return present_guest_for(steps, target, accelerator, (*PROGRAMS, *_BENCH))


def _in_guest(steps: Steps, target: Target, accelerator: str) -> _Runs:
    guest = _guest(steps, target, accelerator)

    def run(task: str, *, timeout: float, icount: bool, on_record: Any) -> Output:
        machine: Machine | None = guest.machine(icount=True, cpus=1) if icount else None
        return guest.run(
            steps,
            'inside() { "$@"; }\n' + task,
            what="a benchmark",
            timeout=timeout,
            machine=machine,
            on_record=on_record,
        )

    return run


def _in_system(steps: Steps, target: Target, accelerator: str, workloads: Sequence[Workload], offline: bool) -> _Runs:
    packages = sorted({name for workload in workloads for name in workload.packages})
    root = debian_root(steps, "bookworm", target.arch.name, packages, offline=offline)
    system = system_for(steps, _guest(steps, target, accelerator), root, offline=offline)

    def run(task: str, *, timeout: float, icount: bool, on_record: Any) -> Output:
        machine = system.machine(memory=768, icount=icount, cpus=1 if icount else None)
        return system.run(
            steps,
            'inside() { debian "$@"; }\n' + task,
            {"sysenter.ko": system.guest.module.module.read_bytes()},
            what="a benchmark",
            timeout=timeout,
            machine=machine,
            on_record=on_record,
        )

    return run


def _task(workloads: Sequence[Workload], paths: Sequence[str], rounds: Sequence[int], options: Sequence[str]) -> str:
    lines = [LOAD, _TASK, f"more={shlex.quote(' '.join(options))}"]
    lines += [f"inside sh -c {shlex.quote(w.once)} >/dev/null 2>&1" for w in workloads if w.once]
    for number in rounds:
        # by load: stock and fast, then all
        for scope in dict.fromkeys(_scope_of(path, paths) for path in paths):
            lines.append(f"want '{scope}'")
            for w in workloads:
                lines += [
                    f"timed {w.suite} {shlex.quote(w.name)} {path} {number} "
                    f"{shlex.quote(w.command)} {shlex.quote(w.prepare)} {shlex.quote(w.finish)}"
                    for path in paths
                    if _scope_of(path, paths) == scope
                ]
    return "\n".join([*lines, "rmmod sysenter || exit 4", "exit 0", ""])


def _measure(
    steps: Steps,
    result: Result,
    runs: _Runs,
    workloads: Sequence[Workload],
    paths: Sequence[str],
    rounds: int,
    options: Sequence[str],
    count: bool,
) -> None:
    """Fill in the result as records come, so that an interrupt keeps them."""
    names = ", ".join(dict.fromkeys(w.suite for w in workloads))
    total = len(workloads) * len(paths) * (rounds + 1)

    def keep(record: dict[str, Any]) -> None:
        told = record.get("bench")
        if not told:
            return
        key, path = f"{told['suite']}/{told['name']}", told["path"]
        if told["status"]:
            failed.append(f"{key} on {path} ended with status {told['status']}")
        if told["round"] < 0:
            return  # it warmed the caches, the emulator's translations among them
        paths_of = result.workloads.setdefault(key, {})
        old = paths_of.get(path, Timed((), ()))
        paths_of[path] = Timed((*old.seconds, told["seconds"]), (*old.calls, told["calls"]), old.instructions)

    failed: list[str] = []
    done = 0
    with (
        steps.step(f"{names}: {len(workloads)} workloads by {len(paths)} paths, {rounds} rounds"),
        steps.counted(f"{names}", total) as advance,
    ):

        def on_record(record: dict[str, Any]) -> None:
            nonlocal done
            keep(record)
            done += "bench" in record
            advance(done)

        output = runs(
            _task(workloads, paths, range(-1, rounds), options),
            timeout=60 + total * _SECONDS,
            icount=False,
            on_record=on_record,
        )
    _check(output, failed)
    if count and result.accelerator == "tcg":
        exact: dict[tuple[str, str], int] = {}

        def on_count(record: dict[str, Any]) -> None:
            told = record.get("bench")
            if told and told["round"] == 0:
                exact[f"{told['suite']}/{told['name']}", told["path"]] = told["tsc"]

        with steps.step(f"{names}: count guest instructions, in one more round"):
            limit = 60 + 2 * len(workloads) * len(paths) * _SECONDS * _COUNTING
            output = runs(_task(workloads, paths, (-1, 0), options), timeout=limit, icount=True, on_record=on_count)
        _check(output, failed)
        for (key, path), instructions in exact.items():
            timed = result.workloads[key][path]
            result.workloads[key][path] = Timed(timed.seconds, timed.calls, instructions)


def _check(output: Output, failed: Sequence[str]) -> None:
    check_loaded(output)
    if failed:
        raise SysenterError(
            failed[0], hint="bench only this workload with --rounds 1", detail="\n".join(output.text[-5:])
        )
    if output.status:
        raise SysenterError(
            f"the benchmark's task ended with status {output.status}",
            hint="the lines above are the guest's",
            detail="\n".join((*output.text[-5:], *output.console.splitlines()[-5:])),
        )
