# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest: a target's kernel with our module and userland, and a task to run in it.

This is the interface. present_guest.py and legacy_guest.py implement it. guest_for() of
the package makes the one that a target needs.
"""

from __future__ import annotations

import abc
import json
import shlex
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from sysenter.build.module import Module
from sysenter.errors import SysenterError
from sysenter.lab.qemu import Machine, Result, qemu_argv
from sysenter.steps import Steps
from sysenter.target.target import Target

__all__ = ["Guest", "Output", "all_said", "record_of"]


# `RETBleed: WARNING: ...`: what a kernel says at its boot of a processor that it cannot wholly mitigate
# (arch/x86/kernel/cpu/bugs.c). A line of WARN()'s has nothing before the word.
_OF_THE_PROCESSOR = ": WARNING: "
_LOADS = "sysenter lab: loads the module"  # load.sh writes it to the kernel's log


@dataclass(frozen=True)
class Output:
    """What came out of a guest."""

    records: tuple[dict[str, Any], ...]
    """The task's lines that are JSON objects, in order."""
    text: tuple[str, ...]
    """The task's other lines."""
    console: str
    """The kernel's log."""
    status: int
    """The task's exit status."""
    seconds: float
    """From QEMU's start to its end."""
    trouble: tuple[str, ...] = ()
    """Words in the kernel's log that tell of an error in this kernel."""

    @classmethod
    def of_result(cls, result: Result, trouble: tuple[str, ...]) -> Self:
        """Sort a machine's lines."""
        records, text, status = [], [], 0
        for number, line in enumerate(result.lines, 1):
            record = record_of(line)
            if record is None:
                text.append(line)
            elif "exit" in record and number == len(result.lines):  # a task may have records of that name
                status = int(record["exit"])
            else:
                records.append(record)
        return cls(tuple(records), tuple(text), result.console, status, result.seconds, trouble)

    def of(self, key: str) -> list[Any]:
        """The values of `key` in the records that have it, in order."""
        return [record[key] for record in self.records if key in record]

    def bad_lines(self) -> list[str]:
        """The lines of the kernel's log that say something went wrong in the kernel."""
        return [
            line
            for line in self.console.splitlines()
            if any(word in line for word in self.trouble) and _OF_THE_PROCESSOR not in line
        ]

    def bad_lines_by(self) -> tuple[list[str], list[str]]:
        """bad_lines, those of the stock kernel apart from those since the module was first loaded.

        If the log does not say when that was, all are of the second kind.
        """
        before, mark, after = self.console.partition(_LOADS)
        if not mark:
            return [], self.bad_lines()
        return replace(self, console=before).bad_lines(), replace(self, console=after).bad_lines()

    def refusal(self) -> str:
        """Why the module refused to load, in its own words; "" if it said nothing."""
        said = [
            line.split("refused: ", 1)[1] for line in (*self.console.splitlines(), *self.text) if "refused: " in line
        ]
        return said[-1] if said else ""


@dataclass(frozen=True)
class Guest(abc.ABC):
    """A target ready to boot, its module with it."""

    target: Target
    module: Module
    accelerator: str
    """What runs it: "tcg", "kvm" or "bochs"."""

    @abc.abstractmethod
    def machine(
        self,
        *,
        icount: bool = False,
        cpus: int | None = None,
        cpu: str | None = None,
        append: str = "",
        extra: Sequence[str] = (),
        memory: int | None = None,
    ) -> Machine:
        """The machine that boots it. Keyword arguments replace the target's own values."""

    @abc.abstractmethod
    def run(
        self,
        steps: Steps,
        task: str,
        files: Mapping[str, bytes] | None = None,
        *,
        what: str,
        timeout: float,
        machine: Machine | None = None,
        on_record: Callable[[dict[str, Any]], bool | None] | None = None,
        stop: threading.Event | None = None,
    ) -> Output:
        """Boot it, run the task, and return what it said.

        task: lines in the language of the guest's init, a shell's or a plan's. files: more for the
        guest, by name; the module is there. what: what this is, for errors. timeout: seconds for
        boot and task together. on_record: called with each JSON object as it comes; one for which it returns True is
        not kept. stop: ends it
        early when set. Raises GuestLost as run_machine does.
        """

    def command_lines(self) -> tuple[str, ...]:
        """QEMU's command lines of a run, for showing: of the guest that times, of the one that counts."""
        machines = (self.machine(), self.machine(icount=True))
        return tuple(shlex.join(qemu_argv(machine, Path("INITRD"), "file:CONSOLE", "stdio")) for machine in machines)


@contextmanager
def all_said(what: str, *outputs: Output) -> Iterator[None]:
    """A block that reads guests' records: if a record is missing or wrong, raise one line that says so.

    what: the work. Raises SysenterError.
    """
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, StopIteration, TypeError, ValueError) as error:
        detail = "\n".join(
            line for output in outputs for line in (*output.text[-3:], *output.console.splitlines()[-5:])
        )
        said = " ".join(str(error).split())
        raise SysenterError(
            f"{what}: the guest did not say all that it should ({type(error).__name__}: {said})",
            hint="its last lines are above" if detail else "it said nothing else",
            detail=detail,
        ) from error


def record_of(line: str) -> dict[str, Any] | None:
    """The JSON object that a task's line is, None if it is none."""
    if not line.startswith("{"):
        return None
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):  # RecursionError: a thousand brackets
        return None
    return value if isinstance(value, dict) else None
