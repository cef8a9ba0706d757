# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from sysenter.errors import SysenterError

__all__ = ["ALL", "PATHS", "CallCost", "DdRuns", "Measurement", "SwitchCost", "check_taken", "paired_ratio"]

PATHS = ("int80", "stock", "fast")
ALL = "all"  # an unmodified program's calls while the module's scope is all


@dataclass(frozen=True)
class CallCost:
    """One system call by one entry path."""

    call: str
    path: str
    instructions: int | None
    """Guest instructions from the user's call to its return, exact, the least of many single calls less the
    cost of reading the counter; None if they were not counted."""
    ns: float
    """Nanoseconds for a call, best of several loops, on the accelerator named in the measurement (emulated
    under TCG)."""
    cycles: int | None
    """As instructions, but time-stamp-counter cycles; None where that is emulated."""


@dataclass(frozen=True)
class DdRuns:
    """dd if=/dev/zero of=/dev/null by one entry path."""

    path: str
    block: int
    """Bytes of a read and of a write."""
    count: int
    """How many of each."""
    seconds: tuple[float, ...]
    """dd's own figure for each round."""
    fast_calls: tuple[int, ...]
    """What the module counted in each round."""


def check_taken(runs: tuple[DdRuns, ...], hints: Mapping[str, str]) -> tuple[DdRuns, ...]:
    """Return the runs. Raises SysenterError if dd on a path of `hints` made fewer fast calls than reads and writes.

    hints: path -> what to look at then.
    """
    for r in runs:
        if r.path in hints and min(r.fast_calls) < 2 * r.count:
            raise SysenterError(
                f"dd made {2 * r.count} calls, but the module counted {min(r.fast_calls)} fast ones",
                hint=hints[r.path],
            )
    return runs


@dataclass(frozen=True)
class SwitchCost:
    """A byte to and fro between two processes: two context switches and four calls."""

    path: str
    """How the calls were made."""
    loaded: bool
    """Whether the module was loaded."""
    ns: float
    """Nanoseconds for one round, the best of several runs."""


def paired_ratio(slower: Sequence[float], faster: Sequence[float]) -> float:
    """How many times as fast: the median over rounds of slower/faster.

    Both have one figure a round, taken right after one another, so that what
    disturbs the host disturbs both. Raises ValueError if there are no rounds.
    """
    pairs = [s / f for s, f in zip(slower, faster, strict=True)]
    if not pairs:
        raise ValueError("no rounds to compare")
    return median(pairs)


@dataclass(frozen=True)
class Measurement:
    """All of a run."""

    release: str
    arch: str
    cpu: str
    accelerator: str
    cpus: int
    sock_register: int
    accepted: bool
    calls: tuple[CallCost, ...]
    dd: tuple[DdRuns, ...]
    fast_table: int
    overhead: int | None
    """Guest instructions that a stock call costs more while the module is loaded, None if its scope was all
    alone."""
    registers_restored: bool | None
    """Whether the SYSENTER registers held after unload what they held before load; None if they could not be read."""
    stock_after_unload: bool
    log: tuple[str, ...]
    """Suspicious lines of the kernel's log."""
    way: str = ""
    """How the module finds the kernel stack, where it has a choice (2.2, 2.4)."""
    switches: tuple[SwitchCost, ...] = ()
    """What context switches cost, where they were measured."""
    preload: tuple[DdRuns, ...] = ()
    """A dd linked at run time, without and with LD_PRELOAD (2.2, 2.4, where `dd` is static)."""
    no_preload: str = ""
    """Why there is none."""

    def seconds(self, path: str) -> tuple[float, ...]:
        """dd's times by one path."""
        return next(d.seconds for d in self.dd if d.path == path)

    @property
    def left_as_found(self) -> bool:
        """Whether the kernel was after the unload what it was before the load, as far as that could be read."""
        return self.registers_restored is not False and self.stock_after_unload and not self.log

    def over(self, slower: str, faster: str) -> float | None:
        """How many times as fast dd is by one path as by another; None if one of them was not run."""
        ran = {d.path for d in self.dd if d.seconds}
        return paired_ratio(self.seconds(slower), self.seconds(faster)) if {slower, faster} <= ran else None

    @property
    def fast_over_stock(self) -> float | None:
        """How many times as fast dd is on the fast path as on the kernel's own."""
        return self.over("stock", "fast")

    @property
    def fast_over_int80(self) -> float | None:
        """How many times as fast dd is on the fast path as by int $0x80."""
        return self.over("int80", "fast")

    @property
    def all_over_stock(self) -> float | None:
        """How many times as fast the unmodified dd is with scope=all. The rounds of both were not side by side."""
        return self.over("stock", ALL)

    @property
    def scope(self) -> str:
        """Whose calls the module took: marked, all or both."""
        ran = {d.path for d in self.dd if d.seconds}
        return "both" if {"fast", ALL} <= ran else ALL if ALL in ran else "marked"

    @property
    def preload_over_int80(self) -> float:
        """How many times as fast the dynamically linked dd is with LD_PRELOAD as without."""
        without, with_library = self.preload
        return paired_ratio(without.seconds, with_library.seconds)
