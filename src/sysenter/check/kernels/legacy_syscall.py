# SPDX-License-Identifier: GPL-2.0-or-later
"""Linux 2.4 entered by AMD's SYSCALL, around native/legacy/syscall.S: the differences from legacy.py.

ESP is the caller's at two boundaries, the window. NMI, #DB and #MC can come there. Their task
gates do what leave_window() in native/legacy/taskgate.c does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sysenter.check.case import Call, Case
from sysenter.check.code.instructions import ECX, EDX, ESP
from sysenter.check.code.objectfile import EntryObject
from sysenter.check.cpu.memory import PAGE
from sysenter.check.cpu.processor import TF, Cpu
from sysenter.check.cpu.processor_amd import Amd
from sysenter.check.kernels import legacy
from sysenter.check.kernels.base import Task
from sysenter.check.kernels.legacy import KERNEL_CS, TASK_SIZE, USER_CS, USER_DS, Legacy

__all__ = ["PATCH_COUNT", "PATCH_STACK", "LegacySyscall", "lone_calls"]

STUB_SIZE, STUB_STACK, PATCH_STACK, PATCH_COUNT = 32, 7, 3, 10  # native/legacy/legacy.h
_ESP0, _COUNT = 4, 12  # in a TSS
_RETURN = 0x08048123  # the address after the stub's SYSCALL
_INT80_BYTES = 2


def lone_calls(offsets: dict[str, int]) -> Iterator[Case]:
    """Also with the two words at (%ebp) cut by a page's end, and at the end of user memory."""
    yield from legacy.lone_calls(offsets)
    for stack in (legacy.STACK - 4, legacy.ABSENT + PAGE - 4, *range(TASK_SIZE - 9, TASK_SIZE - 6)):
        for flags in (0x202, 0x202 | TF):
            call = replace(Legacy.plain, stack=stack, flags=flags)
            yield Case((call, call, replace(Legacy.plain, number=4)))


class _Stub(Amd):
    """Where the caller executes SYSENTER in legacy.py, it is SYSCALL."""

    def sysenter(self, cpu: Cpu) -> None:
        self.syscall(cpu, _RETURN)


class LegacySyscall(Legacy):
    """gates: #DB, NMI and #MC go through the module's task gates; without, the processor
    pushes where ESP points, which breaks `stack` in the window."""

    enters, leaves = "SYSCALL", "SYSRET"

    def __init__(self, entry: EntryObject, offsets: dict[str, int], variant: str = "", gates: bool = True) -> None:
        super().__init__(entry, offsets, "tss", variant)
        self.gates = gates
        self.name = "legacy-syscall" + ("" if gates else "-gateless")
        symbols = self.program.symbols
        self.stubs, self.sysret = symbols["sysenter_syscall_stubs"], symbols["sysenter_sysret"]
        for number, tss in enumerate(self.tss):
            stub = self.stubs + STUB_SIZE * number
            self.program.fill_in(stub + PATCH_STACK, tss + _ESP0)
            self.program.fill_in(stub + PATCH_COUNT, tss + _COUNT)
        text = self.memory.regions["the text"]
        self.text = bytes(self.memory.bytes[text.offset :][: len(self.text)])
        self.processor = _Stub(self.memory, self, (KERNEL_CS, USER_CS), self.entry_of)

    def entry_of(self, cpu: Cpu) -> int:
        return self.stubs + STUB_SIZE * cpu.number

    def back_to(self, task: Task) -> int:
        return _RETURN + _INT80_BYTES

    def arguments(self, task: Task) -> dict[str, int]:
        ebx, _, edx, esi, edi = task.call.registers
        return {
            "EBX": ebx,
            "ECX": self.fetched(task, task.call.stack) or 0,
            "EDX": edx,
            "ESI": esi,
            "EDI": edi,
            "EBP": self.fetched(task, task.call.stack + 4) or 0,
        }

    def ecx_left(self, task: Task) -> int:
        if task.path != "efault":
            return _RETURN
        second = self.fetched(task, task.call.stack)
        return second if task.call.flags & TF and second is not None else _RETURN + _INT80_BYTES

    def left_behind(self, task: Task) -> dict[int, int]:
        return {ECX: self.back_to(task), EDX: self.back_to(task)}

    def specified(self, task: Task, call: Call) -> str:
        if call.vm86:
            return "vm86"
        if call.stack > TASK_SIZE - 8:
            return "segv"
        if self.fetched(task, call.stack) is None or self.fetched(task, call.stack + 4) is None:
            return "efault"
        slow = call.number >= self.numbers or self.slow(call.number) or call.segments[:2] != (USER_DS, USER_DS)
        return "declined" if call.flags & TF or slow or call.work else "fast"

    def enter(self, task: Task) -> None:
        super().enter(task)
        task.seen |= {_RETURN, _RETURN + _INT80_BYTES, *self.arguments(task).values()}

    def _trapped_in_user_mode(self, task: Task, cpu: Cpu) -> None:
        """A #DB of user mode is a task switch, which is not in here."""

    def window(self, cpu: Cpu) -> str:
        """The end of the window at which EIP is; "" if it is outside."""
        if cpu.eip == self.entry_of(cpu):
            return "stub"
        return "tail" if cpu.eip == self.sysret else ""

    def check_stack(self, task: Task, cpu: Cpu) -> None:
        if self.gates and self.window(cpu) and cpu.registers[ESP] == task.call.stack:
            return
        super().check_stack(task, cpu)

    def vector(self, cpu: Cpu, handler: str) -> None:
        """The task of a gate: leave the window, then do what an interrupt gate would have done."""
        debug, end = handler == "sysenter_debug", self.window(cpu) if self.gates else ""
        esp0 = self.memory.word(self.tss[cpu.number] + _ESP0)
        if end == "tail":
            cpu.registers[ESP] = esp0 - self.pt_size
            cpu.eip = self.program.symbols["sysenter_syscall_leave"]
        elif end == "stub":
            cpu.registers[ESP] = esp0
            cpu.eip += STUB_STACK
            if cpu.flags & TF:
                cpu.eip = self.program.symbols["sysenter_syscall_trapped"]
                self.memory.write(self.tss[cpu.number] + _COUNT, self.memory.word(self.tss[cpu.number] + _COUNT) + 1)
            cpu.flags &= ~TF
            if debug:
                return
        self.push_frame(cpu)
        cpu.eip = next(a for a, name in self.functions.items() if name == ("kernel_debug" if debug else "kernel_nmi"))
