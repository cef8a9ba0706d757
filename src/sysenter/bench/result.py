# SPDX-License-Identifier: GPL-2.0-or-later
"""A benchmark's result: the figures, and what can be concluded from them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from sysenter.errors import SysenterError

__all__ = ["FEWEST", "Comparison", "Result", "Timed", "bootstrap", "compare_rounds", "from_json", "processor"]

SCHEMA = 1
_RESAMPLES = 2000
_SEED = 1  # the same figures give the same interval
_FEWEST_TICKS = 10
_MOST = 1e18  # of any figure: more is damage, and so is a NaN
FEWEST = 5  # rounds: of fewer an interval of the median says nothing


def processor() -> tuple[str, bool]:
    """This machine's processor's own name, and whether it says that it is virtual (CPUID leaf 1, ECX bit 31)."""
    named: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        named.setdefault(name.strip(), value.strip())
    return named.get("model name", "unknown"), "hypervisor" in named.get("flags", "").split()


@dataclass(frozen=True)
class Timed:
    """A workload by one path."""

    seconds: tuple[float, ...]
    """Of each round, in the order of the rounds."""
    calls: tuple[int, ...]
    """What the module counted in each."""
    instructions: int | None = None
    """Guest instructions of one round, everybody's, exact; None if they were not counted."""
    spent: tuple[int, int] = (0, 0)
    """Time in user mode and in the kernel, of all rounds together, in hundredths of a second (/proc/stat)."""

    @property
    def kernel_share(self) -> float | None:
        """What part of its processor time is the kernel's: its system calls, faults and interrupts.

        An estimate, of samples that the guest's kernel takes; None if there are fewer than ten.
        """
        total = sum(self.spent)
        return self.spent[1] / total if total >= _FEWEST_TICKS else None


@dataclass(frozen=True)
class Comparison:
    """How many times as fast a path is as stock: over the rounds, the n-th of one with the n-th of the other.

    stock and fast run right after one another. `all` takes another load of the module: `bench` makes its part of each
    round behind stock's of all workloads, `run` makes its rounds when those of stock are done.
    """

    median: float
    low: float
    """Lower end of the 95 % interval."""
    high: float
    """Upper end of it."""
    rounds: int
    """How many there were."""
    outliers: tuple[int, ...]
    """Rounds whose ratio is more than three interquartile ranges beyond the quartiles (Tukey's "far out")."""

    @property
    def shown(self) -> bool:
        """Is there a difference? There must be enough rounds, and the interval must not contain 1."""
        return self.rounds >= FEWEST and not self.low <= 1 <= self.high

    @property
    def words(self) -> str:
        """For a table."""
        if self.rounds < FEWEST:
            return f"{self.median:.3f}, too few rounds to tell"
        if not self.shown:
            return "no difference shown"
        return f"{self.median:.3f} ({self.low:.3f} to {self.high:.3f})"


def bootstrap(ratios: Sequence[float]) -> tuple[float, float]:
    """The 95 % percentile interval of the median (Efron and Tibshirani, An Introduction to the Bootstrap, 13.3)."""
    draw = random.Random(_SEED)
    medians = sorted(median(draw.choices(ratios, k=len(ratios))) for _ in range(_RESAMPLES))
    return medians[int(0.025 * _RESAMPLES)], medians[int(0.975 * _RESAMPLES) - 1]


def compare_rounds(stock: Sequence[float], path: Sequence[float]) -> Comparison | None:
    """The ratio stock / path, from the rounds that both have; None if there is no such round."""
    ratios = [s / p for s, p in zip(stock, path, strict=False) if p > 0]
    if not ratios:
        return None
    middle = median(ratios)
    low, high = bootstrap(ratios)
    first, _, third = quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    fence = 3 * (third - first)
    far = tuple(n for n, r in enumerate(ratios) if not first - fence <= r <= third + fence)
    return Comparison(middle, low, high, len(ratios), far)


@dataclass(frozen=True)
class Result:
    """All of a benchmark."""

    kernel: str
    """`uname -r` of the guest."""
    arch: str
    """i386 or amd64."""
    cpu: str
    """QEMU's processor model."""
    accelerator: str
    """tcg: the times are the emulator's; kvm."""
    processor: str
    """The host's own name for its processor."""
    version: str
    """sysenter's."""
    module_options: tuple[str, ...] = ()
    """The module's parameters beside scope."""
    workloads: dict[str, dict[str, Timed]] = field(default_factory=dict)
    """suite/name -> path -> what it took."""
    complete: bool = True
    """False if it was interrupted."""
    append: str = ""
    """The kernel's command line, as far as it is the kernel's or the user's."""
    emulator: str = ""
    """QEMU's version, where that makes the times; older files have none."""
    failed: list[str] = field(default_factory=list)
    """What failed, in words; the others' figures are there."""
    commands: dict[str, str] = field(default_factory=dict)
    """suite/name -> the command that was timed, which says how often a call was made; older files have none."""

    def fail(self, words: str) -> None:
        """Note a failure, once."""
        if words not in self.failed:
            self.failed.append(words)

    def is_unserved(self, path: str) -> bool:
        """Whether there are figures of a path of ours, and the module has counted no call in them: they are none."""
        counts = [paths[path].calls for paths in self.workloads.values() if path in paths]
        return path != "stock" and any(counts) and not any(map(sum, counts))

    def compared(self, key: str, path: str) -> Comparison | None:
        """A path against stock; None if one of the two is missing."""
        paths = self.workloads.get(key, {})
        if path not in paths or "stock" not in paths:
            return None
        return compare_rounds(paths["stock"].seconds, paths[path].seconds)

    @property
    def machine(self) -> dict[str, str]:
        """What two results must have in common to be compared."""
        return {
            "kernel": self.kernel,
            "arch": self.arch,
            "cpu": self.cpu,
            "append": self.append,
            "accelerator": self.accelerator,
            "processor": self.processor,
            "emulator": self.emulator,
        }

    def to_json(self) -> dict[str, Any]:
        """For scripts: keys may be added, none changes."""
        workloads = {}
        for key, paths in self.workloads.items():
            workloads[key] = {
                path: {
                    "seconds": list(timed.seconds),
                    "calls": list(timed.calls),
                    "instructions": timed.instructions,
                    "ticks": {"user": timed.spent[0], "kernel": timed.spent[1]},
                    **self._against(key, path),
                }
                for path, timed in paths.items()
            }
        return {
            "schema": SCHEMA,
            "kind": "bench",
            **self.machine,
            "version": self.version,
            "module_options": list(self.module_options),
            "complete": self.complete,
            "failed": self.failed,
            "commands": self.commands,
            "workloads": workloads,
        }

    def _against(self, key: str, path: str) -> dict[str, Any]:
        c = None if path == "stock" else self.compared(key, path)
        return {"times_stock": {"median": c.median, "low": c.low, "high": c.high, "shown": c.shown}} if c else {}


def _timed(data: Any) -> Timed:
    ticks = data.get("ticks", {"user": 0, "kernel": 0})  # older files have none
    numbers = [*data["seconds"], *data["calls"], ticks["user"], ticks["kernel"], data["instructions"] or 0]
    sound = all(isinstance(n, int | float) and abs(n) < _MOST for n in numbers)
    if not sound or len(data["seconds"]) != len(data["calls"]):
        raise ValueError("what should be figures is not")
    spent = (ticks["user"], ticks["kernel"])
    return Timed(tuple(data["seconds"]), tuple(data["calls"]), data["instructions"], spent)


def from_json(data: Any, name: str) -> Result:
    """A saved result. Raises SysenterError, naming the file, if it is none."""
    try:
        if data["kind"] != "bench" or data["schema"] != SCHEMA:
            raise ValueError("another kind or schema")
        workloads = {key: {path: _timed(t) for path, t in paths.items()} for key, paths in data["workloads"].items()}
        return Result(
            data["kernel"],
            data["arch"],
            data["cpu"],
            data["accelerator"],
            data["processor"],
            data["version"],
            tuple(data["module_options"]),
            workloads,
            data["complete"],
            data.get("append", ""),
            data.get("emulator", ""),
            [str(words) for words in data.get("failed", [])],
            {str(key): str(command) for key, command in data.get("commands", {}).items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SysenterError(
            f"{name}: no result of a benchmark: {error}", hint="give what --json or --save wrote"
        ) from error
