# SPDX-License-Identifier: GPL-2.0-or-later
"""A system call, written down instruction by instruction while a debugger steps through it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sysenter.errors import SysenterError
from sysenter.lab.gdbstub import Stub
from sysenter.replay.operands import Decoder, accesses

__all__ = ["ARGUMENTS", "PAGE", "Trace", "Tracer"]

PAGE = 4096
# Of a `g` packet (QEMU, gdb-xml/i386-*bit.xml): registers, then flags and segments of 4 bytes each, then bases.
_NAMES = {
    64: (
        "rax",
        "rbx",
        "rcx",
        "rdx",
        "rsi",
        "rdi",
        "rbp",
        "rsp",
        "r8",
        "r9",
        "r10",
        "r11",
        "r12",
        "r13",
        "r14",
        "r15",
        "rip",
    ),
    32: ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "eip"),
}
_SMALL = ("eflags", "cs", "ss", "ds", "es", "fs", "gs")
_BASES = ("fs_base", "gs_base", "k_gs_base")
# Where a call's number and arguments are, in the order in which a bundle has them.
ARGUMENTS = {
    64: ("rax", "rdi", "rsi", "rdx", "r10", "r8", "r9"),
    32: ("eax", "ebx", "ecx", "edx", "esi", "edi", "ebp"),
}
_KERNEL_PERCPU = 0xD8  # i386: the selector of the kernel's FS (arch/x86/include/asm/segment.h)
_MOST = 20_000  # instructions


@dataclass(frozen=True)
class Trace:
    """A call by one path."""

    steps: tuple[int, ...]
    """The addresses executed in kernel mode, in order."""
    code: Mapping[int, bytes]
    """The bytes there, as they were then."""
    arguments: tuple[int, ...]
    """The registers of ARGUMENTS before the call."""
    stack: int
    """The stack pointer at the first step."""
    result: int
    """What the call gave."""
    back: int
    """Where it returned to."""
    before: tuple[tuple[int, bytes], ...] = ()
    """(address, bytes) of the program's own instructions, from its call to the one that enters the kernel."""
    behind: tuple[tuple[int, bytes], ...] = ()
    """The same, from the kernel's return to the program's."""


class Tracer:
    """Steps through calls in the guest that `stub` is connected to.

    pages: what the steps so far used, in kernel mode: virtual page -> physical page.
    executed: every instruction seen, also of calls whose trace was not kept.
    """

    def __init__(self, stub: Stub, bits: int, program: range) -> None:
        """program: where the guest's program is."""
        self._stub, self._bits, self._program = stub, bits, program
        self._decoder = Decoder(bits)
        self._pc, self._sp = ("rip", "rsp") if bits == 64 else ("eip", "esp")
        self._code: dict[int, Any] = {}  # capstone's instructions
        self.pages: dict[int, int] = {}
        self.executed: set[int] = set()
        self.per_cpu = 0  # the kernel's GS base; on i386 FS base

    def forget_code(self) -> None:
        """Forget the kernel's code: it may have changed since the last trace."""
        self._code.clear()

    def registers(self) -> dict[str, int]:
        """The registers of the processor that the debugger has selected."""
        data, found, at = self._stub.registers(), {}, 0
        word = self._bits // 8
        for names, size in ((_NAMES[self._bits], word), (_SMALL, 4), (_BASES, word)):
            for name in names:
                found[name] = int.from_bytes(data[at : at + size], "little")
                at += size
        return found

    def call(self) -> Trace:
        """Step from a call's first instruction in user mode until it is back there."""
        before = after = self.registers()
        own: list[Any] = []
        for _ in range(32):  # on i386 the vDSO's part
            before = after
            own.append(self._decoded(after[self._pc]))
            after = self._step(after)
            if not after["cs"] & 3:
                break
        else:
            raise SysenterError("the call did not enter the kernel", hint="this is a bug: report it")
        stack = after[self._sp]
        steps: list[int] = []
        while not after["cs"] & 3:
            if len(steps) == _MOST:
                raise SysenterError(f"a call took more than {_MOST} instructions", hint="this is a bug: report it")
            steps.append(after[self._pc])
            self._note(after)
            after = self._step(after)
        arrived = after
        behind: list[Any] = []
        while after[self._pc] not in self._program and len(behind) < 32:
            behind.append(self._decoded(after[self._pc]))
            after = self._step(after)
        return Trace(
            steps=tuple(steps),
            code={address: bytes(self._code[address].bytes) for address in steps},
            arguments=tuple(before[name] for name in ARGUMENTS[self._bits]),
            stack=stack,
            result=arrived["rax" if self._bits == 64 else "eax"],
            back=arrived[self._pc],
            before=tuple((each.address, bytes(each.bytes)) for each in own),
            behind=tuple((each.address, bytes(each.bytes)) for each in behind),
        )

    def _step(self, last: dict[str, int]) -> dict[str, int]:
        """Execute one instruction and return the registers after it. last: the registers before it."""
        after = last
        while after == last:  # QEMU sometimes stops anew without having executed anything
            self._stub.step()
            after = self.registers()
        return after

    def step_to(self, address: int) -> bool:
        """Step in user mode until `address` is next; False if the loop has gone elsewhere."""
        for _ in range(64):
            if self.registers()[self._pc] == address:
                return True
            self._stub.step()
        return False

    def _decoded(self, address: int) -> Any:
        """The instruction there."""
        if address not in self._code:
            try:
                code = self._stub.read(address, 16)
            except OSError:  # the last of a mapping
                code = self._stub.read(address, PAGE - address % PAGE)
            self._code[address] = self._decoder.decode(code, address)
        return self._code[address]

    def _note(self, registers: Mapping[str, int]) -> None:
        """Note what the next instruction is and which pages it uses."""
        address = registers[self._pc]
        instruction = self._decoded(address)
        if address not in self.executed:
            self._need(address)
            self._need(address + instruction.size - 1)
        self.executed.add(address)
        if self._bits == 64 and registers["gs_base"] >> 63:
            self.per_cpu = registers["gs_base"]
        elif self._bits == 32 and registers["fs"] == _KERNEL_PERCPU:
            self.per_cpu = registers["fs_base"]
        if registers[self._sp] >> (self._bits - 1):
            self._need(registers[self._sp] - PAGE)  # the stack offset is another in each call
        for access in accesses(instruction, registers, self._bits):
            for page in range(access.address // PAGE, (access.address + access.length - 1) // PAGE + 1):
                self._need(page * PAGE)

    def _need(self, address: int) -> None:
        page = address & -PAGE
        if page in self.pages:
            return
        physical = re.search(r"gpa: 0x([0-9a-f]+)", self._stub.monitor(f"gva2gpa {page:#x}"))
        if physical:  # else nothing is there, and what names it does not use it
            self.pages[page] = int(physical[1], 16) & -PAGE
