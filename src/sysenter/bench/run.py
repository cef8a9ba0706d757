# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs workloads in a guest, round by round: stock and fast right after one another, then `all` by another load."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Protocol

from sysenter import __version__
from sysenter.bench import interrupted
from sysenter.bench.result import Result, Timed, processor
from sysenter.bench.workloads import Workload
from sysenter.build.native import NATIVE, PROGRAMS, Program
from sysenter.errors import SysenterError
from sysenter.kernels.root import debian_root
from sysenter.lab.guest import Output
from sysenter.lab.loading import LOAD, check_loaded
from sysenter.lab.present_guest import PresentGuest, present_guest_for
from sysenter.lab.qemu import Machine, qemu_version, vendor
from sysenter.lab.system import System, system_for
from sysenter.processes import Interrupted, cleaning_up
from sysenter.steps import Steps
from sysenter.target.arch import AMD64
from sysenter.target.target import Target

__all__ = ["PATHS", "bench", "empty_result", "paths_for", "rounds_had"]

# path -> the module's scope while it runs. stock and fast share a load; the unmodified program is `all`.
PATHS: Mapping[str, str] = {"stock": "marked", "fast": "marked", "all": "all"}
_BENCH = (
    Program("timed", NATIVE / "bench/timed.c", ("-static",)),
    Program("micro", NATIVE / "bench/micro.c"),  # dynamic: it is for LD_PRELOAD
)
_COUNTING = 4  # times as slow with -icount

_TASK = """
library=/lib/sysenter/libsysenter.so
loaded=
unload() { # what a workload has started may be at its end, and hold the module a moment longer
	for tenth in $(seq 100); do rmmod sysenter 2>/tmp/error && return; sleep 0.1; done
	cat /tmp/error; exit 4
}
want() { # SCOPE: the module with that scope, or none
	[ "$1" = "$loaded" ] && return
	[ -z "$loaded" ] || unload
	loaded=$1 options="scope=$1 $more"
	[ -z "$1" ] || load_module
}
timed() { # SUITE NAME PATH ROUND COMMAND PREPARE FINISH
	preload=
	[ "$3" != fast ] || preload=$library
	export SYSENTER_CALLS=all
	[ -z "$6" ] || LD_PRELOAD=$preload inside sh -c "$6" >/dev/null 2>&1 </dev/null
	LD_PRELOAD=$preload inside /lib/sysenter/timed "$1" "$2" "$3" "$4" -- sh -c "$5" </dev/null
	[ -z "$7" ] || LD_PRELOAD=$preload inside sh -c "$7" >/dev/null 2>&1 </dev/null
}
"""


# Round number -> what runs in it; -1 is to warm up.
_Plan = list[tuple[int, list[Workload]]]


class _Runs(Protocol):
    def __call__(
        self,
        task: str,
        *,
        timeout: float,
        icount: bool,
        on_record: Callable[[dict[str, Any]], None],
        stop: threading.Event,
    ) -> Output: ...


def paths_for(target: Target, scope: str) -> tuple[str, ...]:
    """The paths of a scope (marked, all, both), stock first. "": those that can work on the target's processor."""
    if not scope:
        scope = "both" if target.arch is not AMD64 or vendor(target.cpu) == "GenuineIntel" else "all"
    wanted = {"marked": ("fast",), "all": ("all",), "both": ("fast", "all")}[scope]
    return ("stock", *wanted)


def _scope_of(path: str, paths: Sequence[str]) -> str:
    """The scope with which the module is loaded for a path; "" for stock if no call can be marked."""
    return "" if path == "stock" and "fast" not in paths else PATHS[path]


def empty_result(target: Target, accelerator: str, options: Sequence[str] = ()) -> Result:
    """What a benchmark of this target on this machine begins with."""
    return Result(
        target.release,
        target.arch.name,
        target.cpu,
        accelerator,
        processor()[0],
        __version__,
        tuple(options),
        append=target.append,
        emulator=qemu_version() if accelerator == "tcg" else "",
    )


def bench(
    steps: Steps,
    target: Target,
    accelerator: str,
    workloads: Sequence[Workload],
    *,
    paths: Sequence[str],
    rounds: int,
    options: Sequence[str] = (),
    offline: bool = False,
    resume: bool = False,
) -> Result:
    """Time the workloads; emulated, also count guest instructions, in a second guest beside the first.

    Ctrl-C ends it early: the result has what was measured, and is not `complete`. A workload that
    fails is in its `failed`, the others go on. Raises SysenterError if the module is refused or the
    guest is lost. In each of these cases what was measured is kept, for resume.
    """
    result = empty_result(target, accelerator, options)
    key = interrupted.key_of(result, workloads, paths)
    if resume:
        result = interrupted.load(key)
    result.commands.update({w.key: w.command for w in workloads})
    own = [w for w in workloads if not w.packages]
    foreign = [w for w in workloads if w.packages]
    try:
        if own:
            _measure(steps, result, _in_guest(steps, target, accelerator), own, paths, rounds, options)
        if foreign:
            runs = _in_system(steps, target, accelerator, foreign, offline)
            _measure(steps, result, runs, foreign, paths, rounds, options)
    except Interrupted:
        if not result.workloads:
            raise
        with cleaning_up():
            interrupted.keep(key, result)
        return replace(result, complete=False)
    except SysenterError as error:
        if result.workloads:
            interrupted.keep(key, result)
            error.hint = f"{error.hint}; what was measured is kept: --resume goes on"
        raise
    if result.failed:
        interrupted.keep(key, result)
    else:
        interrupted.forget(key)
    return result


def _guest(steps: Steps, target: Target, accelerator: str) -> PresentGuest:
    return present_guest_for(steps, target, accelerator, (*PROGRAMS, *_BENCH))


def _runs(
    steps: Steps,
    where: PresentGuest | System,
    machine: Callable[[bool], Machine],
    inside: str,
    files: Mapping[str, bytes],
) -> _Runs:
    """Tasks in a guest. machine: whether it counts -> what boots. inside: the words before a command in its system."""

    def run(
        task: str,
        *,
        timeout: float,
        icount: bool,
        on_record: Callable[[dict[str, Any]], None],
        stop: threading.Event,
    ) -> Output:
        return where.run(
            steps,
            f'inside() {{ {inside}"$@"; }}\n{task}',
            files,
            what="a benchmark",
            timeout=timeout,
            machine=machine(icount),
            on_record=on_record,
            stop=stop,
        )

    return run


def _in_guest(steps: Steps, target: Target, accelerator: str) -> _Runs:
    guest = _guest(steps, target, accelerator)
    return _runs(steps, guest, lambda icount: guest.machine(icount=icount, cpus=1 if icount else None), "", {})


def _in_system(steps: Steps, target: Target, accelerator: str, workloads: Sequence[Workload], offline: bool) -> _Runs:
    packages = sorted({name for workload in workloads for name in workload.packages})
    root = debian_root(steps, "bookworm", target.arch.name, packages, offline=offline)
    system = system_for(steps, _guest(steps, target, accelerator), root, offline=offline)
    return _runs(
        steps,
        system,
        lambda icount: system.machine(memory=768, icount=icount, cpus=1 if icount else None),
        "debian ",
        {"sysenter.ko": system.guest.module.module.read_bytes()},
    )


def _task(plan: _Plan, paths: Sequence[str], options: Sequence[str]) -> str:
    lines = [LOAD, _TASK, f"more={shlex.quote(' '.join(options))}"]
    every = dict.fromkeys(w for _, workloads in plan for w in workloads)
    lines += [f"inside sh -c {shlex.quote(w.once)} >/dev/null 2>&1" for w in every if w.once]
    for number, workloads in plan:
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
    return "\n".join([*lines, "unload", "exit 0", ""])


def rounds_had(result: Result, key: str, paths: Sequence[str]) -> int:
    """How many rounds of a workload there are by every path; what is beyond is dropped, so that rounds stay pairs."""
    of = result.workloads.get(key, {})
    had = min((len(of[path].seconds) if path in of else 0) for path in paths)
    for path, timed in of.items():
        of[path] = replace(timed, seconds=timed.seconds[:had], calls=timed.calls[:had])
    return had


def _measure(
    steps: Steps,
    result: Result,
    runs: _Runs,
    workloads: Sequence[Workload],
    paths: Sequence[str],
    rounds: int,
    options: Sequence[str],
) -> None:
    """Fill in what the result lacks, as records come, so that an interrupt keeps them."""
    had = {w.key: rounds_had(result, w.key, paths) for w in workloads}
    timing = [(number, [w for w in workloads if had[w.key] <= number]) for number in range(rounds)]
    timing = [(number, lacking) for number, lacking in timing if lacking]
    if timing:
        timing.insert(0, (-1, list(dict.fromkeys(w for _, lacking in timing for w in lacking))))
    counting: _Plan = []
    if result.accelerator == "tcg":
        uncounted = [w for w in workloads if not _counted(result, w.key, paths)]
        counting = [(number, uncounted) for number in (-1, 0) if uncounted]
    names = ", ".join(dict.fromkeys(w.suite for w in workloads))
    total = sum(len(lacking) for _, lacking in [*timing, *counting]) * len(paths)
    filling = _Filling(result, paths)
    stop = threading.Event()

    def run(plan: _Plan, icount: bool, on_record: Callable[[dict[str, Any]], None]) -> Output | None:
        limit = 60 + sum(w.seconds for _, lacking in plan for w in lacking) * len(paths) * (_COUNTING if icount else 1)
        if not plan:
            return None
        return runs(_task(plan, paths, options), timeout=limit, icount=icount, on_record=on_record, stop=stop)

    with (
        steps.step(f"{names}: {len(workloads)} workloads by {len(paths)} paths, {rounds} rounds"),
        steps.counted(names, total) as advance,
        ThreadPoolExecutor(2) as pool,
    ):
        filling.advance = advance
        try:
            guests = [pool.submit(run, timing, False, filling.time), pool.submit(run, counting, True, filling.count)]
            for guest in guests:
                _check(guest.result())
        except BaseException:
            stop.set()  # an error or Ctrl-C ends both guests
            raise
    _check_figures(result, workloads, paths)


def _check_figures(result: Result, workloads: Sequence[Workload], paths: Sequence[str]) -> None:
    """Note as a failure what has no figures, and a path by which no call was fast."""
    for w in workloads:
        of = result.workloads.get(w.key, {})
        without = [path for path in paths if not (path in of and of[path].seconds)]
        if without and not any(words.startswith(f"{w.key} on ") for words in result.failed):
            result.fail(f"{w.key} on {', '.join(without)} said nothing")
    for path in paths[1:]:
        if result.is_unserved(path):
            result.fail(f"path {path}: the module counted no call, so nothing of it is a figure of this path")


def _counted(result: Result, key: str, paths: Sequence[str]) -> bool:
    of = result.workloads.get(key, {})
    return all(path in of and of[path].instructions for path in paths)


class _Filling:
    """Puts what two guests say into a result. Their threads come one at a time.

    A round of a workload counts once all paths have run in it: so the n-th figures of all paths are of one round,
    also if a command failed, and if an emulator's own fault made its guest begin anew (run_machine()).
    """

    def __init__(self, result: Result, paths: Sequence[str]) -> None:
        self.result = result
        self.advance: Callable[[int], None] = lambda done: None
        self._paths = paths
        self._lock, self._done = threading.Lock(), 0
        self._rounds: dict[tuple[str, int], dict[str, dict[str, Any]]] = {}

    def time(self, record: dict[str, Any]) -> None:
        with self._lock:
            told = self._of(record)
            if not told:
                return
            by_path = self._rounds.setdefault((self._key(told), told["round"]), {})
            if len(by_path) == len(self._paths):  # counted before its guest began anew
                return
            by_path[told["path"]] = told
            if len(by_path) == len(self._paths):
                for path in self._paths:
                    self._add(by_path[path])

    def _add(self, told: dict[str, Any]) -> None:
        old = self._timed(told)
        timed = Timed(
            (*old.seconds, told["seconds"]),
            (*old.calls, told["calls"]),
            old.instructions,
            (old.spent[0] + told["user"], old.spent[1] + told["kernel"]),
        )
        self._put(told, timed)

    def count(self, record: dict[str, Any]) -> None:
        with self._lock:
            told = self._of(record)
            if told:
                self._put(told, replace(self._timed(told), instructions=told["tsc"]))

    def _of(self, record: dict[str, Any]) -> dict[str, Any]:
        """The figures of a record, if it is of a round that counts; else empty."""
        told: dict[str, Any] = record.get("bench", {})
        if not told:
            return {}
        self._done += 1
        self.advance(self._done)
        if told["status"]:
            self.result.fail(f"{self._key(told)} on {told['path']} ended with status {told['status']}")
        # round -1 warmed the caches, the emulator's translations among them
        return {} if told["status"] or told["round"] < 0 else told

    @staticmethod
    def _key(told: dict[str, Any]) -> str:
        return f"{told['suite']}/{told['name']}"

    def _timed(self, told: dict[str, Any]) -> Timed:
        return self.result.workloads.get(self._key(told), {}).get(told["path"], Timed((), ()))

    def _put(self, told: dict[str, Any], timed: Timed) -> None:
        self.result.workloads.setdefault(self._key(told), {})[told["path"]] = timed


def _check(output: Output | None) -> None:
    if output is None:
        return
    check_loaded(output)
    if output.status:
        raise SysenterError(
            f"the benchmark's task ended with status {output.status}",
            hint="the lines above are the guest's",
            detail="\n".join((*output.text[-5:], *output.console.splitlines()[-5:])),
        )
