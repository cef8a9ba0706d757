# SPDX-License-Identifier: GPL-2.0-or-later
"""Which memory an instruction uses, from its bytes and the registers before it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import capstone
from capstone import x86

__all__ = ["Access", "Decoder", "accesses"]

# Name an address and do not use the memory there.
_ADDRESS_ONLY = frozenset(
    {"lea", "nop", "invlpg", "prefetchw", "prefetcht0", "prefetcht1", "prefetcht2", "prefetchnta"}
)
_PUSHES = frozenset({"push", "call", "pushf", "pushfd", "pushfq", "enter"})
_POPS = frozenset({"pop", "ret", "popf", "popfd", "popfq", "leave", "iret", "iretd", "iretq"})
_BIT_TESTS = frozenset({"bt", "bts", "btr", "btc"})


@dataclass(frozen=True)
class Access:
    """Memory that an instruction uses: a linear address and how many bytes."""

    address: int
    length: int


class Decoder:
    """capstone, for one mode of the processor. bits: 32 or 64."""

    def __init__(self, bits: int) -> None:
        self.bits = bits
        mode = capstone.CS_MODE_64 if bits == 64 else capstone.CS_MODE_32
        self._capstone = capstone.Cs(capstone.CS_ARCH_X86, mode)
        self._capstone.detail = True

    def decode(self, code: bytes, address: int) -> Any:
        """The instruction at the beginning of `code`. Raises ValueError if there is none."""
        for instruction in self._capstone.disasm(code, address, 1):
            return instruction
        raise ValueError(f"no instruction at {address:#x}: {code[:15].hex()}")

    def disassemble(self, code: bytes, address: int) -> Iterator[Any]:
        """All instructions of `code`."""
        return iter(self._capstone.disasm(code, address))


def accesses(instruction: Any, registers: Mapping[str, int], bits: int) -> Iterator[Access]:
    """The memory that `instruction` (capstone's) uses.

    registers: by name, before it is executed, with fs_base and gs_base; data segments
    begin at zero, as in every present kernel.
    """
    mask, word = (1 << bits) - 1, bits // 8
    name = instruction.mnemonic.split()[-1]
    stack = registers["rsp" if bits == 64 else "esp"]
    if name in _PUSHES:
        yield Access((stack - word) & mask, word)
    elif name in _POPS:
        base = registers["rbp" if bits == 64 else "ebp"] if name == "leave" else stack
        yield Access(base & mask, word)
    if name in _ADDRESS_ONLY:
        return
    repeats = registers["rcx" if bits == 64 else "ecx"] if instruction.prefix[0] in (0xF2, 0xF3) else 0
    for operand in instruction.operands:
        if operand.type != x86.X86_OP_MEM:
            continue
        memory = operand.mem
        address = memory.disp
        if memory.base == x86.X86_REG_RIP:
            address += instruction.address + instruction.size
        elif memory.base:
            address += _value(instruction.reg_name(memory.base), registers)
        if memory.index:
            address += memory.scale * _value(instruction.reg_name(memory.index), registers)
        if memory.segment == x86.X86_REG_GS:
            address += registers["gs_base"]
        elif memory.segment == x86.X86_REG_FS:
            address += registers["fs_base"]
        if name in _BIT_TESTS and instruction.operands[1].type == x86.X86_OP_REG:
            # the bit's number goes beyond the operand (SDM Vol. 2, BT)
            number = _value(instruction.reg_name(instruction.operands[1].reg), registers)
            size = 8 * operand.size
            signed = number - (1 << size) if number >> (size - 1) & 1 else number
            address += signed // size * operand.size
        length = operand.size
        if repeats and name[:4] in ("movs", "stos", "lods", "cmps", "scas"):
            length = max(1, min(repeats, 1 << 16)) * operand.size
        yield Access(address & mask, length)


def _value(name: str, registers: Mapping[str, int]) -> int:
    """A register's value by any of its names that an address or a bit's number can have."""
    if name in registers:
        return registers[name]
    wide = f"r{name[1:]}" if name.startswith("e") else name.rstrip("d")
    return registers[wide] & 0xFFFFFFFF
