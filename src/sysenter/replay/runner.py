# SPDX-License-Identifier: GPL-2.0-or-later
"""The program that replays a bundle (native/replay/), compiled here, and what one process of it says."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sysenter.build.native import NATIVE, compiler, compiler_version, sources_digest
from sysenter.cache import cache_folder, digest, fill, lock
from sysenter.errors import SysenterError
from sysenter.steps import Steps, run_command

__all__ = ["Key", "Mixed", "Run", "Verdict", "build_runner", "check_processor", "parse", "run"]

_SOURCES = ("replay.c", "bundle.c", "step.c", "measure.c", "sha256.c", "call_{arch}.S")
# Away from a moved kernel (from 0x01000000 and 0x40000000 on) and the guest's program.
_OPTIONS = ("-O2", "-Wall", "-Wextra", "-Werror", "-static", "-no-pie", "-s", "-Wl,-Ttext-segment=0x10000000")
_ARCH_OPTIONS = {"amd64": ("-m64", "-mno-red-zone"), "i386": ("-m32", "-msse2")}
_SECONDS = 120  # for a process
_TRIES = 4  # addresses are random, and a library's may be where the kernel has one


@dataclass(frozen=True)
class Key:
    """The key of a figure: the call, the path, whether VERW was executed, and the way of calling (measure.c)."""

    call: str
    path: str
    verw: bool
    way: str


@dataclass(frozen=True)
class Verdict:
    """A call by a path, single-stepped: whether it was the guest's, both counts of instructions, and why it was not."""

    call: str
    path: str
    verified: bool
    guest: int
    replayed: int
    why: str


@dataclass(frozen=True)
class Mixed:
    """The key of a mixture's figure."""

    path: str
    order: str
    """The order of the calls: repeats or random."""
    kib: int
    """How much other code and data comes between calls."""
    verw: bool
    way: str


@dataclass(frozen=True)
class Run:
    """One process. Cycles are of the time-stamp counter, for one call."""

    processor: str = ""
    verdicts: tuple[Verdict, ...] = ()
    cycles: dict[Key, float] = field(default_factory=dict)
    """The lower quartile of its batches."""
    less: dict[Key, tuple[float, float, float]] = field(default_factory=dict)
    """(quartile, median, quartile) of path - stock, batch by batch."""
    twin: dict[Key, tuple[float, float, float]] = field(default_factory=dict)
    """The same for stock - stock."""
    mixture: dict[Mixed, float] = field(default_factory=dict)
    tsc_mhz: float = 0.0
    core: float = 0.0
    """Cycles of the core for one of the counter's."""
    step: float = 0.0
    """The smallest difference above 0 that two batches can have."""


def check_processor() -> None:
    """Raises SysenterError where no bundle can be replayed."""
    if os.uname().machine != "x86_64":
        raise SysenterError("a replay needs an x86-64 processor and kernel", hint="take a bundle to one")


def build_runner(steps: Steps, arch: str) -> Path:
    """Compile it, statically: it runs on any x86-64 Linux."""
    key = digest([arch, compiler_version(compiler()), sources_digest("replay"), str(_OPTIONS)])
    folder = cache_folder() / "programs" / f"replay-{arch}-{key}"
    with lock("programs"):
        if not folder.exists():
            with steps.step(f"compile the runner ({arch})"), fill(folder) as new:
                sources = [NATIVE / "replay" / source.format(arch=arch) for source in _SOURCES]
                run_command(
                    steps,
                    [compiler(), *_ARCH_OPTIONS[arch], *_OPTIONS, "-o", new / "replay", *sources],
                    what="compile the runner",
                    timeout=120,
                    hint="is gcc with 32-bit support (gcc-multilib) installed? `./sysenter doctor` tells",
                )
    return folder / "replay"


def run(steps: Steps, runner: Path, folder: Path, options: Sequence[str] = ()) -> Run:
    """One process of it. Raises SysenterError with its one line if it fails."""
    for last in range(_TRIES):
        try:
            return parse(run_command(steps, [runner, *options, folder], what="replay", timeout=_SECONDS))
        except SysenterError as error:
            if "addresses are random" not in error.detail or last == _TRIES - 1:
                line = next((at for at in reversed(error.detail.splitlines()) if at.startswith("replay: ")), "")
                message, _, hint = line.removeprefix("replay: ").rstrip(")").rpartition(" (")
                if not message:
                    raise
                raise SysenterError(message, hint=hint) from error
    raise AssertionError


def parse(text: str) -> Run:
    """What the runner said (its lines: native/replay/measure.c and step.c)."""
    result = Run()
    processor, verdicts, mhz, core, step = "", [], 0.0, 0.0, 0.0
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        words = rest.split()
        if kind == "processor":
            processor = rest.strip()
        elif kind == "verified":
            verdicts.append(
                Verdict(words[0], words[1], words[2] == "1", int(words[3]), int(words[4]), " ".join(words[5:]))
            )
        elif kind == "cycles":
            result.cycles[Key(words[0], words[1], words[2] == "1", words[3])] = float(words[4])
        elif kind == "difference":
            low, middle, high = (float(word) for word in words[4:7])
            which = result.twin if words[1] == "twin" else result.less
            which[Key(words[0], words[1], words[2] == "1", words[3])] = (low, middle, high)
        elif kind == "mixture":
            result.mixture[Mixed(words[0], words[1], int(words[2]), words[3] == "1", words[4])] = float(words[5])
        elif kind == "clock":
            mhz, core, step = (float(word) for word in words)
    return Run(processor, tuple(verdicts), result.cycles, result.less, result.twin, result.mixture, mhz, core, step)
