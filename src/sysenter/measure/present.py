# SPDX-License-Identifier: GPL-2.0-or-later
"""The main job on a present kernel: two guests, one that counts and one that times."""

from __future__ import annotations

import contextlib
import shlex
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sysenter.build.native import NATIVE
from sysenter.errors import SysenterError
from sysenter.lab.guest import Output, all_said
from sysenter.lab.loading import LOAD, check_loaded
from sysenter.lab.present_guest import PresentGuest
from sysenter.measure.measurement import ALL, PATHS, CallCost, DdRuns, Measurement, check_taken
from sysenter.steps import Steps

__all__ = ["check_dd", "measure_present"]


def _task(name: str, **settings: object) -> str:
    """A task of native/guest/tasks, with shell variables set for it."""
    head = "".join(f"{key}={shlex.quote(str(value))}\n" for key, value in settings.items())
    folder = NATIVE / "guest/tasks"
    return head + LOAD + (folder / name).read_text()


def _said(output: Output) -> str:
    lines = [*output.text[-3:], *(line for line in output.console.splitlines()[-5:] if "sysenter" in line)]
    return "\n".join(dict.fromkeys(lines))


def _check(output: Output, what: str) -> Output:
    check_loaded(output)
    if output.status:
        raise SysenterError(
            f"{what} failed in the guest with status {output.status}", hint="see the lines above", detail=_said(output)
        )
    return output


def _exact(counts: list[dict[str, Any]]) -> dict[tuple[str, str], int]:
    return {(c["call"], c["path"]): c["tsc"] - c["empty"] for c in counts}


def _costs(counted: Output, timed: list[dict[str, Any]], accelerator: str) -> tuple[CallCost, ...]:
    counts = [*counted.of("loaded_counted"), *counted.of("counted"), *_all(counted.of("all_counted"))]
    exact = _exact(counts)
    costs = []
    for cost in timed:
        if not cost["right"]:
            raise SysenterError(
                f"{cost['call']} on {cost['path']} gave a wrong result", hint="this is a bug: report it"
            )
        key = (cost["call"], cost["path"])
        cycles = cost["tsc"] - cost["empty"] if accelerator == "kvm" else None
        costs.append(CallCost(*key, exact.get(key), cost["ns"], cycles))
    calls = list(dict.fromkeys(cost.call for cost in costs))
    return tuple(sorted(costs, key=lambda cost: calls.index(cost.call)))


def _all(counts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of what was said with scope=all, the kernel's own call, as the path that it then takes."""
    return [{**c, "path": ALL} for c in counts if c["path"] == "stock"]


def _overhead(counted: Output) -> int | None:
    """Instructions more for a stock call while the module is loaded, with scope=marked."""
    before, after = _exact(counted.of("counted")), _exact(counted.of("loaded_counted"))
    if not after:
        return None
    return max(after[key] - before[key] for key in before if key[1] == "stock")


def measure_present(
    steps: Steps,
    guest: PresentGuest,
    *,
    rounds: int,
    count: int,
    block: int,
    options: Sequence[str],
    scope: str = "",
) -> Measurement:
    """Measure with kernel modules, a shell and Debian's dd; as sysenter.measure.measure()."""
    scopes = {"both": "marked all"}.get(scope, scope)
    timing_task = _task(
        "time.sh",
        scopes=scopes,
        rounds=rounds,
        count=count,
        block=block,
        paths=" ".join(PATHS),
        options=" ".join(options),
    )
    stop = threading.Event()

    def count_instructions() -> Output:
        task = _task("count.sh", scopes=scopes, options=" ".join(options))
        return guest.run(
            steps,
            task,
            what="counting instructions",
            timeout=120,
            machine=guest.machine(icount=True, cpus=1),
            stop=stop,
        )

    def time_it() -> Output:
        # isolated page tables are slow to emulate: a call takes 30 µs, and there are eight a block
        limit = 120 + rounds * (10 + count * 8 * 30e-6)
        return guest.run(steps, timing_task, what="running dd", timeout=limit, stop=stop)

    with ThreadPoolExecutor(2) as pool:
        try:
            counting, timing = pool.submit(count_instructions), pool.submit(time_it)
            with steps.step(f"boot {guest.target.release}, load, run dd {rounds} times on each path, unload"):
                timed = _check(timing.result(), "running dd")
            with steps.step("count guest instructions (beside it, in a second guest)"):
                counted = _check(counting.result(), "counting instructions")
        except BaseException:
            stop.set()  # an error or Ctrl-C ends both guests
            raise
    for line in timed.bad_lines_by()[0][:1]:
        steps.say(f"         before the module was loaded the kernel's log said: {line}")
    return _measurement(guest, counted, timed, count, block)


def check_dd(runs: list[dict[str, Any]]) -> None:
    """Raise SysenterError if a dd came to no good end."""
    for run in runs:
        if run["status"]:
            by = ""
            with contextlib.suppress(ValueError):
                by = f" ({signal.Signals(run['status'] - 128).name})" if run["status"] > 128 else ""
            raise SysenterError(
                f"dd on path {run['path']} ended with status {run['status']}{by} in the guest",
                hint="`./sysenter shell` gives a prompt in this guest",
            )
        if run["seconds"] is None:
            raise SysenterError(
                f"dd on path {run['path']} did not say how long it took", hint="is the guest's dd GNU's?"
            )


def _measurement(guest: PresentGuest, counted: Output, timed: Output, count: int, block: int) -> Measurement:
    with all_said("the measuring", timed, counted):
        return _of_outputs(guest, counted, timed, count, block)


def _of_outputs(guest: PresentGuest, counted: Output, timed: Output, count: int, block: int) -> Measurement:
    target = guest.target
    check_dd(timed.of("dd"))
    rounds = [d for d in timed.of("dd") if d["round"] >= 0]
    dd = tuple(
        DdRuns(
            path,
            block,
            count,
            tuple(float(d["seconds"]) for d in rounds if d["path"] == path),
            tuple(int(d["fast_calls"]) for d in rounds if d["path"] == path),
        )
        for path in (*PATHS, ALL)
        if any(d["path"] == path for d in rounds)
    )
    check_taken(
        dd,
        {
            "fast": "the preload library did not find /dev/sysenter in the guest",
            ALL: "its tasks are watched: by audit, ptrace or seccomp",
        },
    )
    return Measurement(
        release=target.release,
        arch=target.arch.name,
        cpu=target.cpu,
        accelerator=guest.accelerator,
        cpus=target.cpus,
        sock_register=target.guard.sock_register,
        accepted=bool(timed.of("loaded")),
        calls=_costs(counted, timed.of("timed") + _all(timed.of("timed_all")), guest.accelerator),
        dd=dd,
        overhead=_overhead(counted),
        fast_table=timed.of("fast_table")[0],
        # A kernel of the user's own may have its msr driver as a module, which we do not have.
        registers_restored=timed.of("before") == timed.of("after") if timed.of("before") else None,
        stock_after_unload=bool(timed.of("stock_after_unload")),
        log=tuple(timed.bad_lines_by()[1] + counted.bad_lines_by()[1]),
    )
