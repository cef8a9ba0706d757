# SPDX-License-Identifier: GPL-2.0-or-later
"""What both architectures' rules share: instructions that a process may not execute."""

from __future__ import annotations

from typing import Any

from capstone import x86

__all__ = ["NOPS", "PROCESS_DS", "Unreplayable", "nop", "verw_selector", "without_privilege"]

# Intel's multi-byte NOPs (SDM Vol. 2, NOP, table 4-12), by length.
NOPS = {
    1: "90",
    2: "6690",
    3: "0f1f00",
    4: "0f1f4000",
    5: "0f1f440000",
    6: "660f1f440000",
    7: "0f1f8000000000",
    8: "0f1f840000000000",
    9: "660f1f840000000000",
}
# __USER_DS of a 64-bit kernel (arch/x86/include/asm/segment.h): writable data of a process, of either kind.
PROCESS_DS = 0x2B
# The mode switch and what goes with it. They change nothing that a path's other
# instructions read: IF, AC, GS base and CR3 stay as they are in a replay.
_PRIVILEGED = frozenset({"swapgs", "cli", "sti", "wrmsr", "rdmsr", "stac", "clac", "invlpg", "invpcid"})
# No NOP stands for these: the path would go on elsewhere.
_IMPOSSIBLE = frozenset({"iretq", "iretd", "iret", "hlt", "lgdt", "ltr", "lidt", "lldt", "in", "out", "vmcall"})


class Unreplayable(Exception):
    """An instruction on a path that no process can execute, and no rule replaces."""


def nop(length: int) -> bytes:
    """One or more NOPs of together `length` bytes."""
    most = max(NOPS)
    return b"".join(bytes.fromhex(NOPS[min(most, length - at)]) for at in range(0, length, most))


def without_privilege(instruction: Any) -> bytes | None:
    """A NOP of the same length for a privileged instruction; None for all others.

    Raises Unreplayable where a NOP will not do.
    """
    name = instruction.mnemonic
    if name in _IMPOSSIBLE:
        raise Unreplayable(f"{name} at {instruction.address:#x}")
    control = any(
        operand.type == x86.X86_OP_REG and instruction.reg_name(operand.reg)[:2] in ("cr", "dr")
        for operand in instruction.operands
    )
    return nop(instruction.size) if name in _PRIVILEGED or control else None


def verw_selector(instruction: Any) -> int | None:
    """The address of the selector that VERW asks about, where that is a constant.

    A kernel gives it one of a writable segment: with another it takes another time (on a Zen 3 134 cycles of the
    time-stamp counter, not 48). The kernel's selectors name nothing of the kind in a process, where PROCESS_DS does.
    """
    if instruction.mnemonic != "verw" or instruction.operands[0].type != x86.X86_OP_MEM:
        return None
    operand = instruction.operands[0].mem
    if operand.index or operand.base not in (0, x86.X86_REG_RIP):
        return None
    if operand.base:
        return int(instruction.address + instruction.size + operand.disp) % (1 << 64)
    return int(operand.disp) & 0xFFFFFFFF
