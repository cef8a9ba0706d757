# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest with Linux 2.2 or 2.4: no shell, a plan of commands for our own init."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sysenter.build.boot import legacy_boot_image
from sysenter.build.legacy import build_legacy_module, legacy_image, legacy_init
from sysenter.errors import SysenterError
from sysenter.lab.guest import Guest, Output, record_of
from sysenter.lab.qemu import GuestLost, Machine, check_processor, kernel_command_line, run_machine
from sysenter.scratch import scratch_folder
from sysenter.steps import Steps
from sysenter.target.target import Target

__all__ = ["LegacyGuest", "LegacyOutput", "legacy_guest_for"]

_APPEND = "console=ttyS0 root=/dev/ram0 rw init=/init panic=1"
_COMMAND_LINE_SIZE = 256  # include/asm-i386/setup.h: what is longer is cut without a word
# What a 2.2 or 2.4 kernel says when something has gone wrong in it.
_BAD = (
    "Oops",
    "kernel BUG",
    "Unable to handle",
    "general protection",
    "Kernel panic",
    "Aiee",
    "kernel stack overflow",
    "double fault",
    "invalid operand",
    "stuck on TLB",
    "Uhhuh",
)


@dataclass(frozen=True)
class LegacyOutput(Output):
    """What came out of a guest whose task was a plan."""

    def events(self, name: str) -> list[dict[str, Any]]:
        """The objects of one kind of event, in order."""
        return [record for record in self.records if record.get("event") == name]

    def result(self, step: int) -> int:
        """What the plan's line `step` (from 1) returned: 0, or a negative error.

        Raises GuestLost with the log's end if the guest never came to that line, because a load
        before it failed for instance.
        """
        for record in self.events("done"):
            if record["step"] == step:
                return int(record["result"])
        started = [str(record["command"]) for record in self.events("start") if record["step"] == step]
        what = f"did not end step {step} of its plan, {started[0]}" if started else f"never did step {step} of its plan"
        why = [str(record["error"]) for record in self.records if "error" in record]
        raise GuestLost(
            f"the guest {what}" + (f": {why[-1]}" if why else ""),
            hint="its kernel's last lines are above" if self.console else "its kernel said nothing at all",
            detail="\n".join(self.console.splitlines()[-5:]),
        )

    def refusal(self) -> str:
        said = [line.split("sysenter: ", 1)[1] for line in self.console.splitlines() if "sysenter: " in line]
        return said[-1] if said else ""


@dataclass(frozen=True)
class LegacyGuest(Guest):
    """2.2 or 2.4: its task is a plan, one command of native/guest/legacy/init.c a line."""

    init: Path
    """The guest's program; beside it init-syscall, the same for AMD's instruction, and init-int80."""
    image: Path
    """The file for QEMU's -kernel."""

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
        """As Guest.machine(). A guest that counts has one processor: -icount runs several by turns, and
        a wait of one processor for another then takes for ever."""
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
            qemu=target.arch.qemu_for(model),
            cpu=model,
            kernel=self.image,
            append=kernel_command_line(_APPEND, target.append, append, limit=_COMMAND_LINE_SIZE),
            accelerator="tcg",
            icount=icount,
            memory=memory or 128,
            cpus=cpus,
            extra=(*options, *extra),
        )

    def run(
        self,
        steps: Steps,
        task: str | Sequence[str],
        files: Mapping[str, bytes] | None = None,
        *,
        what: str,
        timeout: float,
        machine: Machine | None = None,
        on_record: Callable[[dict[str, Any]], bool | None] | None = None,
        stop: threading.Event | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> LegacyOutput:
        """As Guest.run(). task: the plan, or its lines. on_line: called with each line as it comes."""

        def came(line: str) -> None:
            record = record_of(line)
            if record is not None and on_record:
                on_record(record)
            if on_line:
                on_line(line)

        plan = task if isinstance(task, str) else "\n".join(task) + "\n"
        content = {
            **{name: self.init.with_name(name).read_bytes() for name in ("init", "init-syscall", "init-int80")},
            "sysenter.o": self.module.module.read_bytes(),
            "plan": plan.encode(),
            **(files or {}),
        }
        with scratch_folder() as work:
            ramdisk = legacy_image(steps, content, work)
        result = run_machine(
            steps, machine or self.machine(), ramdisk, what=what, timeout=timeout, on_line=came, stop=stop
        )
        return LegacyOutput.of_result(result, _BAD)


def legacy_guest_for(steps: Steps, target: Target, accelerator: str = "auto") -> LegacyGuest:
    """Make everything that booting `target` takes, its module among it.

    accelerator: "tcg", or "auto" for it. Raises SysenterError for "kvm", and if
    QEMU lacks its processor's model.
    """
    if accelerator == "kvm":
        raise SysenterError(f"{target.release} is not run by KVM here", hint="not tried: take --accelerator tcg")
    check_processor(target.arch.qemu_for(target.cpu), target.cpu)
    return LegacyGuest(
        target, build_legacy_module(steps, target), "tcg", legacy_init(steps), legacy_boot_image(steps, target)
    )
