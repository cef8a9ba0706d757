# SPDX-License-Identifier: GPL-2.0-or-later
"""The main job on Linux 2.2 and 2.4: two guests, one that counts and one that times."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from sysenter.build.legacy import legacy_preload
from sysenter.errors import Refused, SysenterError
from sysenter.lab.guest import all_said
from sysenter.lab.legacy_guest import LegacyGuest, LegacyOutput
from sysenter.measure.measurement import PATHS, CallCost, DdRuns, Measurement, SwitchCost, check_taken
from sysenter.steps import Steps
from sysenter.target.system_map import parse_system_map

__all__ = ["load_command", "measure_legacy", "still_there", "without_jumps"]

_WAYS = ("cruel", "gentle", "gentle-global", "tss", "entry=auto", "entry=sysenter", "entry=syscall")
_PINGPONG = 1500  # rounds of a byte to and fro
_PROC = "/proc/sysenter"
_LONGEST = 3600.0  # seconds; no run of dd takes as long
_COUNT_MAX = 2**31 - 1  # the guest's programs have it in 32 bits
_COUNTING_TIMEOUT = 300.0  # seconds: what is counted depends on no option


def load_command(option: str | None) -> str:
    """The plan's line that loads the module; option: one of _WAYS, None for its own choice."""
    return "load /sysenter.o sysenter" + (f" {'' if '=' in option else 'way='}{option}" if option else "")


def still_there(guest: LegacyGuest) -> list[str]:
    """Plan lines that show what the module changes: __switch_to, the gates of #DB and NMI, entries of
    the GDT that nobody uses, and, in the last line, that SYSENTER and SYSCALL let nobody in."""
    assert guest.target.system_map is not None
    symbols = parse_system_map(guest.target.system_map.read_text(errors="replace"), str(guest.target.system_map))
    places = [
        (symbols.get("__switch_to", 0), 16),
        (symbols.get("idt_table", -8) + 8, 16),
        (symbols.get("gdt_table", 0), 64),
    ]
    return [f"peek 0x{address:x} {size}" for address, size in places if address] + ["off"]


def _check(output: LegacyOutput, plan: list[str], what: str) -> LegacyOutput:
    """See that every step did what it should; a refused load says why in the kernel's log."""
    for number, line in enumerate(plan, 1):
        result = output.result(number)
        if result == 0:
            continue
        if line.startswith("load"):
            reason = output.refusal() or next((r["error"] for r in output.events("load")), f"error {-result}")
            raise Refused(
                f"the module was not accepted: {reason}",
                hint="the kernel's log is above",
                detail="\n".join(output.console.splitlines()[-3:]),
            )
        raise SysenterError(
            f"{what}: `{line}` gave {result} in the guest",
            hint="the kernel's log is above",
            detail="\n".join(output.console.splitlines()[-5:]),
        )
    return output


def _between(output: LegacyOutput, plan: list[str], first: str) -> list[dict[str, Any]]:
    """The records of the first step whose line begins with `first`."""
    number = next(i for i, line in enumerate(plan, 1) if line.startswith(first))
    records, inside = [], False
    for record in output.records:
        if record.get("event") == "start":
            inside = record["step"] == number
        elif inside:
            records.append(record)
    return records


def _fast_calls(output: LegacyOutput) -> list[int]:
    """The module's count of calls, all processors together, at each look at it."""
    counts: list[int] = []
    for record in output.records:
        if record.get("event") == "start" and record["command"] == "cat":
            counts.append(0)
        elif record.get("event") == "line" and str(record["text"]).startswith("calls cpu"):
            counts[-1] += int(str(record["text"]).split()[2])
    return counts


def _proc_value(output: LegacyOutput, key: str) -> str:
    texts = (str(r["text"]).split(maxsplit=1) for r in output.events("line"))
    return next((words[1] for words in texts if words[0] == key), "")


def _check_processors(output: LegacyOutput, wanted: int) -> None:
    """An old kernel goes on with the processors that it has found, be they fewer."""
    names = {str(r["text"]).split()[1] for r in output.events("line") if str(r["text"]).startswith("calls cpu")}
    if len(names) != wanted:
        raise SysenterError(
            f"{len(names)} of {wanted} processors are at work in the guest",
            hint='these kernels want a socket for each: qemu-args = ["-smp", "2,sockets=2"] in kernel.toml',
        )


def _costs(counted: LegacyOutput, counting: list[str], timed: LegacyOutput, timing: list[str]) -> tuple[CallCost, ...]:
    exact = {(c["call"], c["path"]): int(c["ticks"]) - int(c["clock"]) for c in _calls(counted, counting, "count both")}
    costs = []
    for call in _calls(timed, timing, "count both"):
        # On these kernels no library has a better way than int 0x80.
        for path in ("int80", "stock") if call["path"] == "int80" else ("fast",):
            key = (call["call"], call["path"])
            costs.append(CallCost(call["call"], path, exact.get(key), call["ps"] / 1000, None))
    order = {path: index for index, path in enumerate(PATHS)}
    names = list(dict.fromkeys(c.call for c in costs))
    return tuple(sorted(costs, key=lambda c: (names.index(c.call), order[c.path])))


def _calls(output: LegacyOutput, plan: list[str], line: str) -> list[dict[str, Any]]:
    return [r for r in _between(output, plan, line) if r.get("event") == "call"]


def _overhead(counted: LegacyOutput, plan: list[str]) -> int:
    """Instructions more for an int 0x80 call while the module is loaded."""
    before, loaded = (
        {str(c["call"]): int(c["ticks"]) for c in _calls(counted, plan, line) if c["path"] == "int80"}
        for line in ("count int80", "count both")
    )
    return max(loaded[call] - before[call] for call in before)


def _switches(timed: LegacyOutput) -> tuple[SwitchCost, ...]:
    kinds: dict[tuple[str, bool], list[float]] = {}
    loaded = False
    for record in timed.records:
        if record.get("event") == "done" and record["command"] == "load":
            loaded = True
        if record.get("event") == "pingpong":
            key = (str(record["path"]), loaded)
            kinds.setdefault(key, []).append(int(record["microseconds"]) * 1000 / int(record["rounds"]))
    return tuple(SwitchCost(path, loaded, min(times)) for (path, loaded), times in kinds.items())


def without_jumps(runs: tuple[DdRuns, ...]) -> tuple[DdRuns, ...]:
    """The rounds in which each path has a time that can be one.

    Where the host is busy these kernels lose ticks, and their clock may go back
    while dd runs. Raises SysenterError if no round is left.
    """
    kept = [i for i in range(len(runs[0].seconds)) if all(0 < r.seconds[i] < _LONGEST for r in runs)]
    if not kept:
        raise SysenterError("the guest's clock went back in every round", hint="the host is too busy: run it again")
    return tuple(
        replace(r, seconds=tuple(r.seconds[i] for i in kept), fast_calls=tuple(r.fast_calls[i] for i in kept))
        for r in runs
    )


def measure_legacy(
    steps: Steps, guest: LegacyGuest, *, rounds: int, count: int, block: int, options: Sequence[str], offline: bool
) -> Measurement:
    """Measure by a plan for our own init; as sysenter.measure.measure().

    options: one of _WAYS, or none for the module's own choice.
    """
    way = " ".join(options)
    if way not in ("", *_WAYS):
        raise Refused(f"{guest.target.release} has no --module-option {way}", hint=f"it has {', '.join(_WAYS)}")
    preload: Mapping[str, bytes] = {}
    no_preload = ""
    try:
        preload = legacy_preload(steps, guest.target, offline=offline)
    except SysenterError as error:
        no_preload = str(error)
    look = f"cat {_PROC}"
    restored = still_there(guest)
    timing = [*restored, *[f"pingpong int80 {_PINGPONG}"] * 3, load_command(way or None), "count both", look]
    for _ in range(rounds):
        for path in PATHS:
            timing += [f"dd {path} {block} {count}", look]
    if preload:
        dd = f"/bin/dd if=/dev/zero of=/dev/null bs={block} count={count}"
        timing += [f"run {dd}", look, f"run LD_PRELOAD=/lib/libsysenter.so {dd}", look] * rounds
    timing += [
        *[f"pingpong int80 {_PINGPONG}", f"pingpong fast {_PINGPONG}"] * 3,
        "unload sysenter",
        *restored,
        "count int80",
    ]
    counting = ["count int80", load_command(way or None), "count both", "unload sysenter"]

    if count > _COUNT_MAX:
        raise SysenterError(f"{count} blocks are too many for dd there", hint=f"--count takes up to {_COUNT_MAX}")
    # 40,000 blocks take each dd of a round 0.3 s on an idle host
    timing_timeout = 60 + 15.0 * rounds * max(1, count / 40_000)

    stop = threading.Event()

    def job(plan: list[str], what: str, *, icount: bool) -> Callable[[], LegacyOutput]:
        def run() -> LegacyOutput:
            output = guest.run(
                steps,
                plan,
                what=what,
                timeout=_COUNTING_TIMEOUT if icount else timing_timeout,
                machine=guest.machine(icount=icount),
                files={} if icount else preload,
                stop=stop,
            )
            return _check(output, plan, what)

        return run

    with ThreadPoolExecutor(2) as pool:
        try:
            counted_later = pool.submit(job(counting, "counting instructions", icount=True))
            timed_later = pool.submit(job(timing, "running dd", icount=False))
            with steps.step(f"boot {guest.target.release}, load, run dd {rounds} times on each path, unload"):
                timed = timed_later.result()
            with steps.step("count guest instructions (beside it, in a second guest)"):
                counted = counted_later.result()
        except BaseException:
            stop.set()  # an error or Ctrl-C ends both guests
            raise

    with all_said("the measuring", timed, counted):
        _check_processors(timed, guest.target.cpus)
        looks = _fast_calls(timed)
        programs = [int(r["microseconds"]) / 1e6 for r in timed.events("program")]
        target = guest.target
        peeks = [str(r["bytes"]) for r in timed.events("peek")]
        half = len(peeks) // 2
        offs = timed.events("off")

        def runs(seconds: Mapping[str, Sequence[float]], first: int) -> tuple[DdRuns, ...]:
            """Of dd on each path in turn, from the look number `first` at the module's count on."""
            number = len(seconds)
            made = (
                DdRuns(
                    path,
                    block,
                    count,
                    tuple(its),
                    tuple(looks[i + 1] - looks[i] for i in range(first + nth, first + rounds * number, number)),
                )
                for nth, (path, its) in enumerate(seconds.items())
            )
            return check_taken(without_jumps(tuple(made)), {"fast": "this is a bug: report it"})

        return Measurement(
            release=target.release,
            arch=target.arch.name,
            cpu=target.cpu,
            accelerator=guest.accelerator,
            cpus=target.cpus,
            sock_register=target.guard.sock_register,
            accepted=True,
            calls=_costs(counted, counting, timed, timing),
            dd=runs(
                {p: [int(d["microseconds"]) / 1e6 for d in timed.events("dd") if d["path"] == p] for p in PATHS}, 0
            ),
            fast_table=int(_proc_value(timed, "table")),
            overhead=_overhead(counted, counting),
            registers_restored=bool(peeks) and peeks[:half] == peeks[half:] and offs[0] == offs[1],
            stock_after_unload=bool(_calls(timed, timing, "count int80")),
            log=tuple(timed.bad_lines() + counted.bad_lines()),
            way=_proc_value(timed, "way"),
            switches=_switches(timed),
            preload=runs({"int80": programs[::2], "fast": programs[1::2]}, rounds * len(PATHS)) if preload else (),
            no_preload=no_preload,
        )
