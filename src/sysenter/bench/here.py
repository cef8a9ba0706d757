# SPDX-License-Identifier: GPL-2.0-or-later
"""Single calls by each entry path on the machine that the command runs on, in cycles of its own time-stamp counter."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sysenter import __version__
from sysenter.bench.result import Comparison, compare_rounds, processor
from sysenter.build.native import NATIVE, Program, compile_programs
from sysenter.errors import SysenterError
from sysenter.install.machine import LOADED, read_word
from sysenter.steps import Steps, run_command
from sysenter.target.arch import AMD64, I386

__all__ = ["Cycles", "Here", "measure_here", "read_records"]

_PROGRAM = Program("here", NATIVE / "bench/here.c", ("-static", "-no-pie"))
# Of each call by each path in a round; a round takes some milliseconds on a processor, seconds on an emulated one.
_SINGLE, _LOOP = 500, 2000
_SECONDS = 20.0  # that a round may take
_ORDER = ("int80", "stock", "fast", "all")


@dataclass(frozen=True)
class Cycles:
    """One call by one path."""

    least: int
    """TSC cycles: the least of all single calls, less what reading the counter takes."""
    rounds: tuple[float, ...]
    """TSC cycles of one of many calls in a row, in each round."""


@dataclass(frozen=True)
class Here:
    """What was measured."""

    kernel: str
    """`uname -r`."""
    arch: str
    """i386 or amd64."""
    processor: str
    """Its own name for itself."""
    virtual: bool
    """Whether it says that it is a virtual machine's; then the counter may be emulated."""
    scope: str
    """Whose calls the module takes: marked, all or both."""
    calls: Mapping[str, Mapping[str, Cycles]]
    """Call -> path -> cycles."""

    def compared(self, call: str, path: str) -> Comparison | None:
        """How many times as fast a path is as stock, by paired rounds; None where there is no such pair."""
        paths = self.calls[call]
        if path == "stock" or "stock" not in paths:
            return None
        return compare_rounds(paths["stock"].rounds, paths[path].rounds)

    def to_json(self) -> dict[str, Any]:
        """For scripts: keys may be added, none changes."""
        calls = []
        for call, paths in self.calls.items():
            for path, cycles in paths.items():
                row = {"call": call, "path": path, "least": cycles.least, "rounds": list(cycles.rounds)}
                c = self.compared(call, path)
                if c:
                    row["times_stock"] = {"median": c.median, "low": c.low, "high": c.high, "shown": c.shown}
                calls.append(row)
        return {
            "schema": 1,
            "kind": "bench-here",
            "kernel": self.kernel,
            "arch": self.arch,
            "processor": self.processor,
            "virtual": self.virtual,
            "scope": self.scope,
            "version": __version__,
            "calls": calls,
        }


def read_records(lines: Iterable[str]) -> dict[str, dict[str, Cycles]]:
    """What the program wrote, one object a line; its round -1 warmed up and does not count."""
    found: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for line in lines:
        told = json.loads(line)
        if told["round"] >= 0:
            found.setdefault(told["call"], {}).setdefault(told["path"], []).append((told["least"], told["each"]))
    return {
        call: {
            path: Cycles(min(least for least, _ in paths[path]), tuple(each for _, each in paths[path]))
            for path in sorted(paths, key=_ORDER.index)
        }
        for call, paths in found.items()
    }


def _counted() -> int:
    """Fast calls since the module was loaded, everybody's."""
    return int(read_word(f"{LOADED}/parameters/calls") or 0)


def measure_here(steps: Steps, *, rounds: int) -> Here:
    """Measure on this machine. Raises SysenterError if the module is not loaded, or the calls did not go by it."""
    if not LOADED.exists():
        raise SysenterError("bench --here: the module is not loaded here", hint="sudo ./sysenter install --try")
    if os.geteuid() != 0:
        raise SysenterError("bench --here needs root", hint="sudo ./sysenter bench --here")
    arch = AMD64 if os.uname().machine == "x86_64" else I386
    scope = read_word(f"{LOADED}/parameters/scope") or "marked"
    program = compile_programs(steps, arch, (_PROGRAM,)) / _PROGRAM.name
    before = _counted()
    stock = "stock" if scope == "marked" else "all"
    with steps.step(f"six calls by each path, {rounds} rounds"):
        said = run_command(
            steps,
            [program, str(rounds), str(_SINGLE), str(_LOOP), stock],
            what="the measuring program",
            timeout=60 + rounds * _SECONDS,
        )
    calls = read_records(said.splitlines())
    fast = sum(path in ("fast", "all") for paths in calls.values() for path in paths)
    made, counted = fast * (rounds + 1) * (_SINGLE + _LOOP), _counted() - before
    if not fast or counted < made:
        raise SysenterError(
            f"of {made} calls that were to be fast the module counted {counted}",
            hint="auditing, tracing and seccomp take calls back to the kernel's own way: turn them off to measure",
        )
    name, virtual = processor()
    return Here(os.uname().release, arch.name, name, virtual, scope, calls)
