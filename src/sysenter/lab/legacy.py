# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest with Linux 2.2 or 2.4: no shell, a plan of commands for our own init."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sysenter.build.legacy import build_legacy_module, legacy_image, legacy_init
from sysenter.lab.qemu import Machine, binary_for, run_machine
from sysenter.steps import Steps
from sysenter.target.target import Target

__all__ = ["LegacyGuest", "LegacyOutput", "legacy_guest_for"]

_APPEND = "console=ttyS0 root=/dev/ram0 rw init=/init panic=1"
# What a 2.2 or 2.4 kernel says when something has gone wrong in it.
_BAD = ("Oops", "kernel BUG", "Unable to handle", "general protection", "Kernel panic", "Aiee", "kernel stack overflow",
        "double fault", "invalid operand", "stuck on TLB", "Uhhuh")  # fmt: skip


@dataclass(frozen=True)
class LegacyOutput:
    """What a guest said: its JSON objects, the kernel's log, seconds from start to end."""

    records: tuple[dict[str, Any], ...]
    console: str
    seconds: float

    def events(self, name: str) -> list[dict[str, Any]]:
        """The objects of one kind of event, in order."""
        return [record for record in self.records if record.get("event") == name]

    def result(self, step: int) -> int:
        """What the plan's line `step` (from 1) returned: 0, or a negative error.

        Raises LookupError with the log's end if the guest never came there, as
        behind a load that failed.
        """
        for record in self.events("done"):
            if record["step"] == step:
                return int(record["result"])
        said = " | ".join(self.console.splitlines()[-5:])
        raise LookupError(f"the guest never did step {step} of its plan; its kernel's last words: {said}")

    def bad_lines(self) -> list[str]:
        """The lines of the kernel's log that say something went wrong."""
        return [line for line in self.console.splitlines() if any(word in line for word in _BAD)]

    def refusal(self) -> str:
        """Why the module refused to load, in its own words; "" if it said nothing."""
        said = [line.split("sysenter: ", 1)[1] for line in self.console.splitlines() if "sysenter: " in line]
        return said[-1] if said else ""


@dataclass(frozen=True)
class LegacyGuest:
    """A target ready to boot. module: sysenter.o. init: the guest's program, init-syscall beside it."""

    target: Target
    module: Path
    init: Path

    def machine(
        self, *, icount: bool = False, cpus: int | None = None, cpu: str | None = None, extra: Sequence[str] = ()
    ) -> Machine:
        """The machine for it; keyword arguments change it from the target's own.

        Counting takes one processor: with more, -icount runs them by turns and
        the kernel's waits for one another take for ever.
        """
        target = self.target
        model = cpu or target.cpu
        cpus = 1 if icount else cpus or target.cpus
        options = tuple(target.qemu_args)
        if cpus == 1 and "-smp" in options:
            at = options.index("-smp")
            options = options[:at] + options[at + 2 :]
        elif cpus > 1 and "-smp" not in options:
            # These kernels know no threads or cores of one package.
            options += ("-smp", f"{cpus},sockets={cpus}")
        return Machine(
            arch=target.arch, cpu=model, kernel=target.image, append=f"{_APPEND} {target.append}".strip(),
            accelerator="tcg", icount=icount, memory=128, cpus=cpus, extra=(*options, *extra),
            binary=binary_for(model),
        )  # fmt: skip

    def run(
        self, steps: Steps, plan: Sequence[str], *, what: str, timeout: float, machine: Machine | None = None,
        files: Mapping[str, bytes] | None = None, on_line: Callable[[str], None] | None = None,
    ) -> LegacyOutput:  # fmt: skip
        """Boot it and carry out `plan`, one command of native/guest/legacy/init.c a line.

        timeout: seconds for boot and plan. on_line: called with each line as it comes.
        Raises GuestLost as run_machine does.
        """
        content = {
            "init": self.init.read_bytes(), "init-syscall": self.init.with_name("init-syscall").read_bytes(),
            "sysenter.o": self.module.read_bytes(),
            "plan": ("\n".join(plan) + "\n").encode(), **(files or {}),
        }  # fmt: skip
        with tempfile.TemporaryDirectory(prefix="sysenter-legacy-") as work:
            ramdisk = legacy_image(steps, content, Path(work))
        result = run_machine(steps, machine or self.machine(), ramdisk, what=what, timeout=timeout, on_line=on_line)
        records = [json.loads(line) for line in result.lines if line.startswith("{")]
        return LegacyOutput(tuple(records), result.console, result.seconds)


def legacy_guest_for(steps: Steps, target: Target) -> LegacyGuest:
    """Build everything that booting `target` takes."""
    return LegacyGuest(target, build_legacy_module(steps, target).module, legacy_init(steps))
