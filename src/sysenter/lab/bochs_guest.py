# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest of a kernel of today in Bochs instead of QEMU: the same files, task and lines."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sysenter.build.disk import SMALLEST_MEMORY, disk_kernel
from sysenter.build.native import Program
from sysenter.build.present import build_present_module
from sysenter.errors import SysenterError
from sysenter.kernels.emulators import Bochs, fetched_bochs
from sysenter.lab.bochs import check_model, run_bochs
from sysenter.lab.present_guest import PresentGuest, base_image
from sysenter.lab.qemu import Machine, Result
from sysenter.steps import Steps
from sysenter.target.target import Target

__all__ = ["MODELS", "BochsGuest", "bochs_guest_for"]

MODELS = {32: "p3_katmai", 64: "tigerlake"}
"""Bochs's default model for 32-bit and for 64-bit kernels. Tiger Lake has PCID, SMAP and CET."""


@dataclass(frozen=True)
class BochsGuest(PresentGuest):
    """A kernel of today in Bochs. `kernel` is the folder of disk_kernel()."""

    bochs: Bochs

    def machine(self, **changes: Any) -> Machine:
        """As Guest.machine. cpu: a model of Bochs's. icount changes nothing: Bochs always counts."""
        machine = super().machine(**changes)
        if machine.extra:
            raise SysenterError(
                f"Bochs takes no options of QEMU's ({machine.extra[0]})", hint="run it without --emulator bochs"
            )
        if machine.cpus > 1:  # it is built without --enable-smp
            raise SysenterError(
                f"Debian's Bochs has one processor, not {machine.cpus}", hint="run it without --emulator bochs"
            )
        memory = max(machine.memory, SMALLEST_MEMORY)
        return replace(machine, qemu=self.bochs.argv[-1], accelerator=self.accelerator, icount=True, memory=memory)

    def _start(
        self,
        steps: Steps,
        machine: Machine,
        initrd: bytes,
        what: str,
        timeout: float,
        on_line: Callable[[str], bool | None],
        stop: threading.Event | None,
    ) -> Result:
        return run_bochs(
            steps, self.bochs, self.kernel, machine, initrd, what=what, timeout=timeout, on_line=on_line, stop=stop
        )

    def command_lines(self) -> tuple[str, ...]:
        raise SysenterError(
            "Bochs has no command line to show: its machine is described in a file of the moment",
            hint="--debug shows the commands of a run",
        )

    def shell(self, steps: Steps, options: Sequence[str] = ()) -> int:
        raise SysenterError(
            "there is no shell in Bochs: its serial port takes no terminal",
            hint="`./sysenter exec --emulator bochs -- COMMAND` runs one command",
        )


def bochs_guest_for(
    steps: Steps, target: Target, *, cpu: str = "", offline: bool = False, programs: Sequence[Program] = ()
) -> BochsGuest:
    """Make everything that booting `target` in Bochs takes, Bochs among it.

    cpu: a model of Bochs's, of MODELS if "". programs: beside the product's own. Raises SysenterError for 2.2 and 2.4.
    """
    if not target.generation.runs_debian:
        raise SysenterError(
            f"{target.release} runs in QEMU only: Bochs has kernels of today here", hint="leave --emulator bochs out"
        )
    bochs = fetched_bochs(steps, offline=offline)
    model = cpu or MODELS[target.arch.bits]
    check_model(bochs, model)
    return BochsGuest(
        replace(target, cpu=model),
        build_present_module(steps, target),
        "bochs",
        base_image(steps, target, programs),
        disk_kernel(steps, target),
        bochs,
    )
