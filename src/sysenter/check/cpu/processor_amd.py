# SPDX-License-Identifier: GPL-2.0-or-later
"""A processor with AMD's SYSCALL and SYSRET in legacy mode (AMD APM Vol. 3)."""

from __future__ import annotations

from collections.abc import Callable

from sysenter.check.code.instructions import ECX, Instruction
from sysenter.check.cpu.memory import Memory
from sysenter.check.cpu.processor import IF, RF, VM, Cpu, Fault, Processor, Watch

__all__ = ["Amd"]


class Amd(Processor):
    """star: CS for SYSCALL and for SYSRET; SS is that + 8. entry: where SYSCALL goes on this CPU."""

    def __init__(self, memory: Memory, watch: Watch, star: tuple[int, int], entry: Callable[[Cpu], int]) -> None:
        super().__init__(memory, watch)
        self._star, self._entry = star, entry
        self._models["syscall"] = lambda cpu, ins: self.syscall(cpu, ins.address + ins.size)
        self._models["sysret"] = self._sysret

    def syscall(self, cpu: Cpu, back: int) -> None:
        """SYSCALL before `back`. ESP stays, and all of EFLAGS but these three."""
        cpu.registers[ECX], cpu.eip = back, self._entry(cpu)
        cpu.flags &= ~(VM | IF | RF)
        self._load(cpu, self._star[0], 0)

    def _sysret(self, cpu: Cpu, ins: Instruction) -> None:
        if cpu.cpl:
            raise Fault(13, ins.address)
        cpu.eip = cpu.registers[ECX]
        cpu.flags |= IF
        cpu.shielded = True  # IF and the return are one instruction
        self._load(cpu, self._star[1], 3)

    def _load(self, cpu: Cpu, code: int, cpl: int) -> None:
        cpu.segments["cs"], cpu.segments["ss"], cpu.cpl = code, code + 8, cpl
        cpu.bases["cs"] = cpu.bases["ss"] = 0
        cpu.shadow = False
