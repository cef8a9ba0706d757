# SPDX-License-Identifier: GPL-2.0-or-later
"""Entry by AMD's SYSCALL, around native/present/syscall_i386.S: the differences from
present_i386.py.

The per-CPU stubs and the exit are as syscall_i386.c writes them. ESP is the caller's at three
boundaries, the window. NMI, #DB and #MC can come there. Their task gates do what move_on() in
native/present/taskgate_i386.c does.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import replace

from sysenter.check.callers import i386 as callers_i386
from sysenter.check.case import Call, Case
from sysenter.check.code.instructions import EBP, ECX, ESP
from sysenter.check.code.objectfile import EntryObject
from sysenter.check.cpu.processor import Cpu
from sysenter.check.cpu.processor_amd import Amd
from sysenter.check.kernels.base import Task
from sysenter.check.kernels.present import NR, arity
from sysenter.check.kernels.present_i386 import ENTRY_END, KERNEL_CS, MARK, USER_CS, PresentI386
from sysenter.check.properties import Broken
from sysenter.errors import SysenterError

__all__ = ["VARIANTS", "PresentSyscall", "lone_calls", "paired", "scattered", "with_interruptions", "with_sysret"]

STUB_SIZE, STUB_STACK = 64, 9  # native/present/frame.h
_TEXT = ".text.sysenter"
_RETURN = 0x08048123  # the address after the stub's SYSCALL
_ZEN = "divider"
VARIANTS = ("", "smap", _ZEN)


def with_sysret(entry: EntryObject) -> EntryObject:
    """sysenter_leave_syscall written over sysenter_leaves, as syscall_i386.c does at load."""
    try:
        at, template, end = (
            entry.symbols[name][1]
            for name in ("sysenter_leaves", "sysenter_leave_syscall", "sysenter_leave_syscall_end")
        )
    except KeyError as missing:
        raise SysenterError(f"{entry.path}: no {missing} in it", hint="build it from this tree") from missing
    size = end - template
    text = entry.sections[_TEXT]
    data = text.data[:at] + text.data[template:end] + text.data[at + size :]
    kept = tuple(r for r in text.relocations if not at <= r.offset < at + size)
    lines = {key: line for key, line in entry.lines.items() if not at <= key[1] < at + size}
    lines |= {(s, a - template + at): line for (s, a), line in entry.lines.items() if template <= a < end}
    written = replace(text, data=data, relocations=kept)
    left = replace(entry, sections={**entry.sections, _TEXT: written}, lines=lines)
    return left.without_alternatives(at, at + size)


class _Stub(Amd):
    """The caller's stub has the 2nd argument in EBP and executes SYSCALL."""

    def sysenter(self, cpu: Cpu) -> None:
        cpu.registers[EBP] = cpu.registers[ECX]
        self.syscall(cpu, _RETURN)


class PresentSyscall(PresentI386):
    """gates: #DB, NMI and #MC go through the module's task gates; without, the processor
    pushes where ESP points, which breaks `stack` in the window."""

    enters, leaves = "SYSCALL", "SYSRET"
    zen = _ZEN

    def __init__(self, entry: EntryObject, offsets: dict[str, int], variant: str = "", gates: bool = True) -> None:
        super().__init__(entry, offsets, variant)
        self.gates = gates
        self.name = "present-i386-syscall" + ("" if gates else "-gateless")
        symbols = self.program.symbols
        self.stubs, self.odd_flags = symbols["sysenter_syscall_stubs"], symbols["sysenter_syscall_odd_flags"]
        self.exit_at = symbols["sysenter_leaves"]
        self.sysret = self.exit_at + symbols["sysenter_leave_syscall_sysret"] - symbols["sysenter_leave_syscall"]
        patch_sites = entry.sections.get(".rodata.sysenter_stub_patch_sites")
        if patch_sites is None:
            raise SysenterError(f"{entry.path}: no per-CPU stubs for SYSCALL in it", hint="build it from this tree")
        for cpu, top in enumerate(ENTRY_END):
            sp1, entry_stack = struct.unpack_from("<II", patch_sites.data, 8 * cpu)
            self.program.fill_in(self.program.start + sp1, top + offsets["ENTRY_STACK_TO_SP1"])
            self.program.fill_in(self.program.start + entry_stack, top)
        smap = self.processor.smap
        self.processor = _Stub(self.memory, self, (KERNEL_CS, USER_CS), lambda cpu: self.stubs + STUB_SIZE * cpu.number)
        self.processor.smap = smap
        self.verw = False  # syscall_i386.c refuses where the kernel wants it

    def window(self, cpu: Cpu) -> str:
        """The end of the window at which EIP is; "" if it is outside."""
        in_stubs = cpu.eip - self.stubs
        if 0 <= in_stubs < STUB_SIZE * len(self.cpus) and in_stubs % STUB_SIZE < STUB_STACK:
            return "stub"
        return "tail" if cpu.eip == self.sysret else ""

    def is_marked(self, call: Call) -> bool:
        """True: by SYSCALL all calls are for this entry."""
        return True

    def specified(self, call: Call) -> str:
        """No mark: the low nine bits of eax are the number."""
        if call.flags & self.offsets["ODD_FLAGS"]:
            return "odd"
        if call.work or not call.vdso or arity(call.number & (NR - 1)) < 0:
            return "slow"
        return "fast"

    def left_behind(self, call: Call, landing: int) -> tuple[int, int]:
        return landing, landing

    def check_stack(self, task: Task, cpu: Cpu) -> None:
        if self.gates and self.window(cpu) and cpu.registers[ESP] == task.call.stack:
            return
        super().check_stack(task, cpu)

    def _through_gate(self, task: Task, cpu: Cpu) -> None:
        """move_on(): the interrupted call goes on elsewhere, on the kernel's stack."""
        end = self.window(cpu)
        if end == "stub":
            if (cpu.eip - self.stubs) % STUB_SIZE == 0:
                cpu.registers[ECX] = cpu.registers[ESP]
            cpu.registers[ESP], cpu.eip = ENTRY_END[cpu.number], self.odd_flags
            task.path = "odd"
        elif end == "tail":
            cpu.registers[ESP], cpu.eip = self.frame(task.number), self.exit_at

    def nmi(self, task: Task, cpu: Cpu) -> None:
        self._through_gate(task, cpu)
        super().nmi(task, cpu)

    def debug(self, task: Task, cpu: Cpu) -> None:
        self._through_gate(task, cpu)
        super().debug(task, cpu)

    def _stock(self, task: Task, cpu: Cpu) -> str:
        if task.path != "odd":
            raise Broken("fast", f"eax = {task.call.number:#x} went to entry_SYSENTER_32")
        return super()._stock(task, cpu)


def _comes_by_syscall(case: Case) -> Case:
    """The same calls; for one that is not ours there a number outside the fast table."""

    def comes(call: Call) -> Call:
        return call if MARK <= call.number < MARK + NR else replace(call, number=call.number | 7)

    return replace(case, calls=tuple(map(comes, case.calls)), others=tuple(map(comes, case.others)))


def lone_calls(offsets: dict[str, int]) -> Iterator[Case]:
    return map(_comes_by_syscall, callers_i386.lone_calls(offsets))


def scattered(rng: random.Random, offsets: dict[str, int], count: int) -> Iterator[Case]:
    return map(_comes_by_syscall, callers_i386.scattered(rng, offsets, count))


def with_interruptions() -> Iterator[Case]:
    return map(_comes_by_syscall, callers_i386.with_interruptions())


def paired() -> Iterator[Case]:
    return map(_comes_by_syscall, callers_i386.paired())
