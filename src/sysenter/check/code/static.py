# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks of the code that need no run."""

from __future__ import annotations

from collections.abc import Iterator

from sysenter.check.code.instructions import ESP, Instruction
from sysenter.check.code.program import Program

__all__ = ["indirect_branches", "sweep"]


def sweep(program: Program) -> Iterator[Instruction]:
    """The text's instructions, one behind the other."""
    at = program.start
    while at < program.end:
        ins = program.instruction(at)
        if ins is None:
            at += 1
            continue
        yield ins
        at += ins.size


def _replaced_return(program: Program, ins: Instruction | None) -> Instruction | None:
    """The `ret` of `mov reg, (%esp); ret` or `mov reg, (%esp); sti; ret`: a branch that a retpoline makes."""
    if ins is None or ins.mnemonic != "mov" or not ins.accesses:
        return None
    operand = ins.accesses[0]
    after = program.instruction(ins.address + ins.size)
    if after and after.mnemonic == "sti":
        after = program.instruction(after.address + after.size)
    replaces = operand.write and operand.base == ESP and not operand.displacement
    return after if replaces and after and after.kind == "ret" else None


def indirect_branches(program: Program) -> tuple[str, ...]:
    """Indirect jumps and calls, and retpolines whose catch loop is damaged.

    The form: call over; pause; lfence; jmp back; over: mov target, (%esp); [sti;] ret;
    int3 (arch/x86/include/asm/nospec-branch.h; int3 stops straight-line
    speculation, CONFIG_SLS).
    """
    wrong = []
    for ins in sweep(program):
        where = program.where(ins.address)
        if ins.kind in ("jmp", "call") and not ins.target:
            wrong.append(f"{ins.text!r} at {where} is an indirect branch")
        back = _replaced_return(program, program.instruction(ins.target)) if ins.kind == "call" else None
        if back is None:
            continue
        catch = ins.address + ins.size
        at, names, loop = catch, [], 0
        for _ in range(3):
            inner = program.instruction(at)
            if inner is None:
                break
            names.append(inner.mnemonic)
            loop, at = inner.target, inner.address + inner.size
        if names != ["pause", "lfence", "jmp"] or loop != catch:
            wrong.append(f"the retpoline at {where} does not catch speculation: {' ; '.join(names)}, to {loop:#x}")
        behind = program.instruction(back.address + back.size)
        if behind is None or behind.mnemonic != "int3":
            wrong.append(f"nothing stops speculation behind the return of the retpoline at {where}")
    return tuple(wrong)
