# SPDX-License-Identifier: GPL-2.0-or-later
"""Page-table isolation on i386, around native/present/pti_i386.S: the differences from
present_i386.py.

The exit is as pti_i386.c writes it. The user's page table maps the trampoline's page, the entry
stacks and the kernel's own entry. NMI and the exceptions expect the user's CR3 on the entry
stack only (arch/x86/entry/entry_32.S, SWITCH_TO_KERNEL_STACK).
"""

from __future__ import annotations

import struct
from dataclasses import replace

from sysenter.check.code.instructions import ESP, Access, Instruction
from sysenter.check.code.objectfile import EntryObject
from sysenter.check.cpu.memory import Area
from sysenter.check.cpu.processor import Cpu
from sysenter.check.kernels.base import Task
from sysenter.check.kernels.present_i386 import PresentI386
from sysenter.check.properties import Broken
from sysenter.errors import SysenterError

__all__ = ["PresentPti", "with_isolated_exit"]

_TEXT = ".text.sysenter"
_USER_TABLE = 1 << 12  # of CR3


def with_isolated_exit(entry: EntryObject) -> EntryObject:
    """The jump to sysenter_leave_isolated written over sysenter_leaves."""
    try:
        at, left, to = (
            entry.symbols[name][1] for name in ("sysenter_leaves", "sysenter_left", "sysenter_leave_isolated")
        )
    except KeyError as missing:
        raise SysenterError(f"{entry.path}: no {missing} in it", hint="build it for a kernel with PAE") from missing
    text = entry.sections[_TEXT]
    jump = struct.pack("<Bi", 0xE9, to - at - 5) + b"\x90"
    data = text.data[:at] + jump + text.data[at + len(jump) :]
    written = replace(entry, sections={**entry.sections, _TEXT: replace(text, data=data)})
    return written.without_alternatives(at, left)


class PresentPti(PresentI386):
    """CR3 is the user's at SYSENTER and SYSEXIT, the kernel's while its memory is used."""

    name = "present-i386-pti"

    def __init__(self, entry: EntryObject, offsets: dict[str, int], variant: str = "") -> None:
        super().__init__(entry, offsets, variant)
        symbols = self.program.symbols
        self.entry, self.trampoline_end = symbols["sysenter_trampoline"], symbols["sysenter_trampoline_end"]

    def kernel_cr3(self, task: Task) -> int:
        return 0x2C00000 + 0x2000 * task.number

    def user_cr3(self, task: Task) -> int:
        return self.kernel_cr3(task) | _USER_TABLE

    def run_on(self, task: Task, cpu: Cpu) -> None:
        super().run_on(task, cpu)
        cpu.cr3 = self.kernel_cr3(task)

    def enter(self, task: Task) -> None:
        super().enter(task)
        self.cpus[task.cpu].cr3 = self.user_cr3(task)

    def load_cr3(self, cpu: Cpu, value: int) -> None:
        task = self.tasks[cpu.task]
        if value not in (self.kernel_cr3(task), self.user_cr3(task)):
            raise Broken("page table", f"CR3 = {value:#x} is neither of this task's two")

    def access(self, cpu: Cpu, ins: Instruction, access: Access, linear: int) -> None:
        region = self.memory.pages.get(linear >> 12)
        there = self.entry <= linear < self.trampoline_end or (region is not None and region.area is Area.ENTRY_STACK)
        if cpu.cr3 & _USER_TABLE and not there:
            raise Broken("page table", f"{ins.text!r} touches {linear:#x} with CR3 = {cpu.cr3:#x}")
        super().access(cpu, ins, access, linear)

    def check_stack(self, task: Task, cpu: Cpu) -> None:
        """Also check where the next instruction is, because events happen between two instructions."""
        super().check_stack(task, cpu)
        if not cpu.cr3 & _USER_TABLE:
            return
        if not self.entry <= cpu.eip < self.trampoline_end and cpu.eip not in self.functions:
            raise Broken("page table", f"execution goes to {self.program.near(cpu.eip)} with CR3 = {cpu.cr3:#x}")
        low, high = self.entry_bounds(cpu)
        if not low <= cpu.registers[ESP] <= high:
            raise Broken("page table", f"esp = {cpu.registers[ESP]:#x} with CR3 = {cpu.cr3:#x}: an NMI is lost there")

    def c_ready(self, task: Task, cpu: Cpu, what: str) -> None:
        super().c_ready(task, cpu, what)
        if cpu.cr3 != self.kernel_cr3(task):
            raise Broken("page table", f"CR3 = {cpu.cr3:#x} at {what}")

    def _stock(self, task: Task, cpu: Cpu) -> str:
        if cpu.cr3 != self.user_cr3(task):
            raise Broken("stock" if task.path == "stock" else "odd flags", f"CR3 = {cpu.cr3:#x}, was the user's")
        return super()._stock(task, cpu)

    def returned(self, task: Task, cpu: Cpu) -> None:
        if cpu.cr3 != self.user_cr3(task):
            raise Broken("page table", f"CR3 = {cpu.cr3:#x} after {self.leaves}")
        super().returned(task, cpu)
