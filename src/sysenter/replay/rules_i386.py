# SPDX-License-Identifier: GPL-2.0-or-later
"""An i386 kernel in a 32-bit process of a 64-bit one, which has the kernel's addresses free.

Nothing moves. What differs is selectors: a process has data segments of its own, and for
the kernel's per-CPU segment one of its thread-local ones.
"""

from __future__ import annotations

import struct
from typing import Any

from capstone import x86

from sysenter.replay.rules import without_privilege

__all__ = ["PER_CPU_ENTRY", "SELECTORS", "rewrite", "selector_immediate", "selector_in_memory", "sysexit"]

PER_CPU_ENTRY = 13  # of the GDT: the second of the three that set_thread_area() gives out
# __USER_DS and __KERNEL_PERCPU of an i386 kernel (arch/x86/include/asm/segment.h) -> what such a process has.
SELECTORS = {0x7B: 0x2B, 0xD8: PER_CPU_ENTRY << 3 | 3}
_FORMS = {1: "<B", 2: "<H", 4: "<I"}
_SEGMENTS = (x86.X86_REG_DS, x86.X86_REG_ES, x86.X86_REG_FS, x86.X86_REG_GS)


def sysexit(instruction: Any) -> bytes | None:
    """SYSEXIT, whose return address is in edx: JMP *%edx."""
    return bytes.fromhex("ffe2") if instruction.mnemonic == "sysexit" else None


def selector_immediate(instruction: Any) -> bytes | None:
    """MOV or CMP with one of the kernel's selectors: the process's own."""
    if instruction.mnemonic not in ("mov", "cmp") or instruction.imm_size not in _FORMS:
        return None
    form = _FORMS[instruction.imm_size]
    (value,) = struct.unpack_from(form, instruction.bytes, instruction.imm_offset)
    if value not in SELECTORS:
        return None
    new = bytearray(instruction.bytes)
    struct.pack_into(form, new, instruction.imm_offset, SELECTORS[value])
    return bytes(new)


def selector_in_memory(instruction: Any) -> int | None:
    """The address of the selector that a MOV loads into a segment register, where it is a constant."""
    if instruction.mnemonic != "mov" or len(instruction.operands) != 2:
        return None
    to, source = instruction.operands
    if to.type != x86.X86_OP_REG or to.reg not in _SEGMENTS or source.type != x86.X86_OP_MEM:
        return None
    return source.mem.disp & 0xFFFFFFFF if not source.mem.base and not source.mem.index else None


def rewrite(instruction: Any, entry_code: bool) -> bytes:
    """The bytes of an executed instruction in a replay. entry_code: where selectors are loaded; elsewhere
    such a number is some other."""
    new = sysexit(instruction) or without_privilege(instruction)
    if not new and entry_code:
        new = selector_immediate(instruction)
    return new or bytes(instruction.bytes)
