# SPDX-License-Identifier: GPL-2.0-or-later
"""Moves an amd64 kernel to where a process can have it, and its instructions with it.

A process has the addresses below 2^47. The image and the modules, which lie in the topmost
2 GiB, lose 2^64 - 2^31: distances between them stay, so what is relative to RIP does. All
other kernel addresses (memory's direct map, stacks, the CPU entry area) lose their topmost
17 bits. In memory that is done to each aligned word that is such an address; of
instructions only to those that were executed and have an absolute one in them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from capstone import CS_GRP_BRANCH_RELATIVE, x86

from sysenter.replay.rules import without_privilege

__all__ = [
    "Space",
    "absolute_displacement",
    "absolute_immediate",
    "interrupt_flag_test",
    "move_data",
    "per_cpu_displacement",
    "rewrite",
    "sysret",
]

_IMAGE = 0xFFFFFFFF80000000  # __START_KERNEL_map (Documentation/arch/x86/x86_64/mm.rst)
_CANONICAL = 0x7FFFFFFFFFFF
_LOWEST, _ABOVE_ALL_OTHERS = 0xFFFF800000000000, 0xFFFFFF0000000000
_ENTRY_AREA = 0xFFFFFE00  # the upper half of an address in the CPU entry area
_WORD = 1 << 64
_FLAG_IF = 0x200


@dataclass(frozen=True)
class Space:
    """A kernel's address space."""

    image: range
    """From _stext to _end."""
    modules: frozenset[int]
    """The pages of modules that are used (a module's parts are not in one piece since 6.4)."""
    per_cpu: int
    """The kernel's GS base."""
    per_cpu_in_image: bool
    """True since 6.15 (commit 9d7de2aa8b41): the symbol of a per-CPU variable is an address in the image, and GS base
    is the distance from there."""

    def named(self, value: int) -> bool:
        """Whether a value is an address in the image or in a module."""
        value %= _WORD
        return value in self.image or value & -4096 in self.modules

    @staticmethod
    def moved(address: int) -> int:
        """The address in a process for a kernel address; a user address is unchanged."""
        if address < _LOWEST:
            return address
        return address - _IMAGE if address >= _IMAGE else address & _CANONICAL

    @property
    def moved_per_cpu(self) -> int:
        """The GS base of a process with which the kernel's per-CPU operands work.

        Where a variable's name is moved as an image's address is, by 2^31 modulo 2^64, that much is taken off.
        """
        return self.moved(self.per_cpu) - (1 << 31 if self.per_cpu_in_image else 0)


def sysret(instruction: Any) -> bytes | None:
    """SYSRET, whose return address is in rcx: JMP *%rcx."""
    if not instruction.mnemonic.startswith("sysret"):
        return None
    return bytes.fromhex("ffe1").ljust(instruction.size, b"\x90")


def per_cpu_displacement(instruction: Any, space: Space) -> bytes | None:
    """A per-CPU operand, %gs:DISPLACEMENT or %gs:DISPLACEMENT(%rip): the one that names the moved variable."""
    for operand in instruction.operands:
        if operand.type != x86.X86_OP_MEM or operand.mem.segment != x86.X86_REG_GS or instruction.disp_size != 4:
            continue
        if operand.mem.index or operand.mem.base not in (0, x86.X86_REG_RIP):
            continue
        behind = instruction.address + instruction.size if operand.mem.base else 0
        variable = (space.per_cpu + behind + operand.mem.disp) % _WORD
        base = space.moved_per_cpu + (space.moved(behind) if operand.mem.base else 0)
        displacement = space.moved(variable) - base
        return _with_displacement(instruction, displacement)
    return None


def absolute_displacement(instruction: Any, space: Space) -> bytes | None:
    """An operand with an address of the image or a module as displacement, as of a table: the moved one."""
    for operand in instruction.operands:
        if operand.type != x86.X86_OP_MEM or operand.mem.base == x86.X86_REG_RIP or instruction.disp_size != 4:
            continue
        if space.named(operand.mem.disp):
            return _with_displacement(instruction, space.moved(operand.mem.disp % _WORD))
    return None


def absolute_immediate(instruction: Any, space: Space) -> bytes | None:
    """An immediate that is an address of the image or a module: the moved one."""
    if instruction.group(CS_GRP_BRANCH_RELATIVE) or instruction.mnemonic.startswith(("call", "j")):
        return None
    if instruction.imm_size not in (4, 8):
        return None
    form = "<i" if instruction.imm_size == 4 else "<q"
    (value,) = struct.unpack_from(form, instruction.bytes, instruction.imm_offset)
    if not space.named(value):
        return None
    new = bytearray(instruction.bytes)
    struct.pack_into(form.upper(), new, instruction.imm_offset, space.moved(value % _WORD))
    return bytes(new)


def interrupt_flag_test(instruction: Any) -> bytes | None:
    """TEST of pushed flags: without IF, which SYSENTER clears and a process cannot."""
    if instruction.mnemonic != "test" or instruction.imm_size != 4:
        return None
    first = instruction.operands[0]
    if first.type != x86.X86_OP_MEM or first.mem.base != x86.X86_REG_RSP or first.mem.disp:
        return None
    (value,) = struct.unpack_from("<I", instruction.bytes, instruction.imm_offset)
    if not value & _FLAG_IF:
        return None
    new = bytearray(instruction.bytes)
    struct.pack_into("<I", new, instruction.imm_offset, value & ~_FLAG_IF)
    return bytes(new)


def rewrite(instruction: Any, space: Space) -> bytes:
    """The bytes of an executed instruction in a replay: its own, if no rule changes it."""
    new = sysret(instruction) or without_privilege(instruction) or interrupt_flag_test(instruction)
    if new:
        return new
    displaced = per_cpu_displacement(instruction, space) or absolute_displacement(instruction, space)
    immediate = absolute_immediate(instruction, space)
    if displaced and immediate:  # `movq $symbol, symbol`
        at = instruction.imm_offset
        return displaced[:at] + immediate[at:]
    return displaced or immediate or bytes(instruction.bytes)


def move_data(page: bytes, space: Space) -> bytes:
    """A page of memory with its kernel addresses moved."""
    words = list(struct.unpack(f"<{len(page) // 8}Q", page))
    for index, value in enumerate(words):
        if value < _LOWEST:
            continue
        if value == space.per_cpu:  # this_cpu_off, __per_cpu_offset[]
            words[index] = space.moved_per_cpu
        elif value < _ABOVE_ALL_OTHERS or space.named(value):
            words[index] = space.moved(value)
    # the TSS has its stack pointers at odd multiples of four
    halves = list(struct.unpack(f"<{len(page) // 4}I", struct.pack(f"<{len(words)}Q", *words)))
    for index in range(2, len(halves), 2):
        if halves[index] == _ENTRY_AREA:
            halves[index] &= _CANONICAL >> 32
    return struct.pack(f"<{len(halves)}I", *halves)


def _with_displacement(instruction: Any, displacement: int) -> bytes:
    new = bytearray(instruction.bytes)
    # in 32 bits, with sign
    signed = (displacement + (1 << 31)) % _WORD - (1 << 31)
    if not -(1 << 31) <= signed < 1 << 31:
        raise ValueError(f"{instruction.address:#x}: no displacement reaches what it names")
    struct.pack_into("<i", new, instruction.disp_offset, signed)
    return bytes(new)
