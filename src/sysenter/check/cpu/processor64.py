# SPDX-License-Identifier: GPL-2.0-or-later
"""The same with 64 bits: what IA-32e mode has of its own.

SWAPGS, SYSRET, CR3 with PCIDs, WRMSR. Segments other than gs are flat.
"""

from __future__ import annotations

import ctypes
from typing import Any

from unicorn import UC_MODE_64
from unicorn import x86_const as x86

from sysenter.check.code.instructions import EAX, ECX, EDX, Instruction
from sysenter.check.cpu.memory import Memory
from sysenter.check.cpu.processor import FIXED, Cpu, Fault, Processor, Watch

__all__ = ["MSR_SPEC_CTRL", "R11", "Processor64", "canonical"]

R11 = 11
MSR_SPEC_CTRL = 0x48
_SYSRET_FLAGS = 0x3C7FD7  # SDM Vol. 2B, SYSRET: what of R11 goes to RFLAGS


def canonical(address: int) -> bool:
    """With four levels of page table (SDM Vol. 1, 3.3.7.1)."""
    return address >> 47 in (0, 0x1FFFF)


class Processor64(Processor):
    """ibrs: there is MSR SPEC_CTRL."""

    bits = 64
    _MODE = UC_MODE_64
    _VALUE: Any = ctypes.c_uint64
    _BASED = "gs"
    _IDS = (
        x86.UC_X86_REG_RAX,
        x86.UC_X86_REG_RCX,
        x86.UC_X86_REG_RDX,
        x86.UC_X86_REG_RBX,
        x86.UC_X86_REG_RSP,
        x86.UC_X86_REG_RBP,
        x86.UC_X86_REG_RSI,
        x86.UC_X86_REG_RDI,
        x86.UC_X86_REG_R8,
        x86.UC_X86_REG_R9,
        x86.UC_X86_REG_R10,
        x86.UC_X86_REG_R11,
        x86.UC_X86_REG_R12,
        x86.UC_X86_REG_R13,
        x86.UC_X86_REG_R14,
        x86.UC_X86_REG_R15,
        x86.UC_X86_REG_EFLAGS,
    )

    def __init__(self, memory: Memory, watch: Watch) -> None:
        super().__init__(memory, watch)
        self.ibrs = False
        self._models |= {
            "swapgs": self._swapgs,
            "sysretq": self._sysret,
            "wrmsr": self._wrmsr,
            "pushfq": self._pushf,
            "popfq": self._popf,
            "endbr64": self._next,
        }

    def _write_base(self, base: int) -> None:
        self._uc.reg_write(x86.UC_X86_REG_GS_BASE, base)

    def _swapgs(self, cpu: Cpu, ins: Instruction) -> None:
        cpu.bases["gs"], cpu.kernel_gs = cpu.kernel_gs, cpu.bases["gs"]
        cpu.eip = ins.address + ins.size

    def _sysret(self, cpu: Cpu, ins: Instruction) -> None:
        """SDM Vol. 2B, SYSRET, with REX.W; CS and SS are what the kernel's STAR makes them."""
        if cpu.cpl or not canonical(cpu.registers[ECX]):
            raise Fault(13, cpu.registers[ECX])
        cpu.eip = cpu.registers[ECX]
        cpu.flags = cpu.registers[R11] & _SYSRET_FLAGS | FIXED
        cpu.segments["cs"], cpu.segments["ss"], cpu.cpl = 0x33, 0x2B, 3

    def _wrmsr(self, cpu: Cpu, ins: Instruction) -> None:
        if cpu.registers[ECX] & 0xFFFFFFFF != MSR_SPEC_CTRL or not self.ibrs:
            raise Fault(13, cpu.registers[ECX])
        cpu.spec_ctrl = cpu.registers[EAX] & 0xFFFFFFFF | (cpu.registers[EDX] & 0xFFFFFFFF) << 32
        cpu.eip = ins.address + ins.size
