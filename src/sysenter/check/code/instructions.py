# SPDX-License-Identifier: GPL-2.0-or-later
"""The handler's instructions, decoded once: what each reads and writes.

Capstone decodes; the accesses are worked out here, because a checker must know
an address before the processor touches it (SDM Vol. 1, 3.7.5, specifying an
offset; Vol. 2, PUSH, POP, CALL, RET, PUSHF, POPF, IRET).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import capstone
from capstone import x86

__all__ = [
    "CONDITIONS",
    "EAX",
    "EBP",
    "EBX",
    "ECX",
    "EDI",
    "EDX",
    "ESI",
    "ESP",
    "NAMES",
    "Access",
    "Instruction",
    "decode",
]

EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI = range(8)  # the numbers of ModRM, with 64 bits as well
_OLD = ("ax", "cx", "dx", "bx", "sp", "bp", "si", "di")
NAMES = {32: tuple("e" + n for n in _OLD), 64: (*("r" + n for n in _OLD), *(f"r{n}" for n in range(8, 16)))}
_NUMBER = {name: i for names in NAMES.values() for i, name in enumerate(names)}
_SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs")

CONDITIONS = ("o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g")

# Executed by the model, not by Unicorn: they touch what Unicorn lacks or hides
# (privilege, segment loads, the interrupt flag and its shadow), or they jump.
_MODELLED = frozenset(
    (
        "sti",
        "cli",
        "pushfd",
        "popfd",
        "sysenter",
        "sysexit",
        "iretd",
        "rdtsc",
        "stac",
        "clac",
        "verw",
        "str",
        "jmp",
        "call",
        "ret",
        "int3",
        "ud2",
        "lfence",
        "pause",
        "nop",
        "hlt",
        "swapgs",
        "sysretq",
        "wrmsr",
        "pushfq",
        "popfq",
        "endbr64",
        "syscall",
        "sysret",
    )
)


# What these do depends on the general registers, the arithmetic flags and an operand in memory, and on nothing else
# (SDM Vol. 2). So do CMOVcc and SETcc.
_PLAIN = frozenset(
    (
        *("mov", "movabs", "movzx", "movsx", "movsxd", "lea", "push", "pop", "xchg", "cmpxchg", "xadd"),
        *("add", "adc", "sub", "sbb", "inc", "dec", "neg", "cmp", "and", "or", "xor", "not", "test"),
        *("shl", "shr", "sar", "rol", "ror", "bt", "bts", "btr", "btc", "bswap", "cdq", "cdqe", "cqo", "cwde"),
    )
)


@dataclass(frozen=True, slots=True)
class Access:
    """One memory operand: segment:[base + index * scale + displacement]."""

    segment: str
    base: int
    """Register number or -1."""
    index: int
    """Register number or -1."""
    scale: int
    displacement: int
    size: int
    """In bytes."""
    read: bool
    write: bool
    depth: int = 0
    """Bytes by which ESP has moved before the address is worked out (POP m computes it afterwards)."""
    implicit: bool = False  # a push or a pop
    bits: int = -1  # BT and its kin: the register that counts bits from the address on


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction of the text."""

    address: int
    size: int
    """In bytes."""
    text: str
    mnemonic: str
    kind: str
    """Which model runs it; "" for Unicorn."""
    accesses: tuple[Access, ...]
    target: int = 0  # of a direct branch
    condition: int = -1  # number of a jcc's condition
    register: int = -1  # operand register of a modelled instruction
    segment: str = ""  # segment register that is loaded or stored
    raw: bytes = b""
    plain: bool = False
    """Whether it does the same each time that general registers, arithmetic flags and its operand in memory are the
    same."""


def _name(ins: Any, number: int) -> str:
    return str(ins.reg_name(number) or "")


def _register(ins: Any, number: int) -> int:
    return _NUMBER.get(_name(ins, number), -1) if number else -1


def _operand(ins: Any, op: Any, mnemonic: str, width: int) -> Access:
    memory = op.mem
    segment = _name(ins, memory.segment)
    base = _register(ins, memory.base)
    displacement, bits = int(memory.disp), -1
    if _name(ins, memory.base) == "rip":
        displacement += ins.address + ins.size
    if mnemonic in ("bt", "btr", "bts", "btc") and ins.operands[1].type == x86.X86_OP_REG:
        bits = _register(ins, ins.operands[1].reg)
    if not segment:
        segment = "ss" if base in (ESP, EBP) else "ds"
    read, write = bool(op.access & capstone.CS_AC_READ), bool(op.access & capstone.CS_AC_WRITE)
    if mnemonic in ("lea", "nop"):
        read = write = False
    elif mnemonic in ("cmp", "test", "push", "call", "jmp", "verw", "bt"):
        read, write = True, False
    elif mnemonic == "mov":
        write = ins.operands[0].type == x86.X86_OP_MEM
        read = not write
    elif mnemonic == "pop":
        read, write = False, True
    size = 2 if mnemonic in ("verw",) or _moved_segment(ins) else int(op.size)
    return Access(
        segment,
        base,
        _register(ins, memory.index),
        int(memory.scale),
        displacement,
        size,
        read,
        write,
        depth=width if mnemonic == "pop" else 0,
        bits=bits,
    )


def _moved_segment(ins: Any) -> str:
    if ins.mnemonic not in ("mov", "push", "pop"):
        return ""
    for op in ins.operands:
        if op.type == x86.X86_OP_REG and _name(ins, op.reg) in _SEGMENTS:
            return _name(ins, op.reg)
    return ""


def _stack(size: int, write: bool, at: int) -> Access:
    return Access("ss", ESP, -1, 1, at, size, not write, write, implicit=True)


def _implicit(mnemonic: str, width: int) -> tuple[Access, ...]:
    if mnemonic in ("push", "pushfd", "pushfq", "call"):
        return (_stack(width, True, -width),)
    if mnemonic in ("pop", "popfd", "popfq", "ret"):
        return (_stack(width, False, 0),)
    if mnemonic == "iretd":
        return (_stack(12, False, 0),)
    return ()


def _control(ins: Any) -> bool:
    return any(op.type == x86.X86_OP_REG and _name(ins, op.reg).startswith("cr") for op in ins.operands)


def _decode(ins: Any, width: int) -> Instruction:
    mnemonic = ins.mnemonic.split()[-1]  # "lock inc"
    accesses = [_operand(ins, op, mnemonic, width) for op in ins.operands if op.type == x86.X86_OP_MEM]
    segment = _moved_segment(ins)
    kind = mnemonic if mnemonic in _MODELLED else ""
    if not kind and any(ins.group(g) for g in (capstone.CS_GRP_PRIVILEGE, capstone.CS_GRP_INT, capstone.CS_GRP_IRET)):
        kind = "ud2"  # no model of it, and Unicorn's state is no place for it
    condition = -1
    target, register = 0, -1
    if mnemonic.startswith("j") and mnemonic not in ("jmp", "jecxz", "jcxz"):
        opcode = ins.opcode[1] if ins.opcode[0] == 0x0F else ins.opcode[0]
        condition, kind = opcode & 15, "jcc"
    for op in ins.operands:
        if op.type == x86.X86_OP_IMM and (kind in ("jcc", "jmp", "call")):
            target = op.imm & ((1 << 8 * width) - 1)
        if op.type == x86.X86_OP_REG and _name(ins, op.reg) not in _SEGMENTS:
            wide = _name(ins, op.reg)
            register = _NUMBER.get(wide if wide in _NUMBER else "e" + wide, register)
    if _control(ins):
        kind = "mov control"
    if segment:
        kind = f"{mnemonic} segment"
    every = (*accesses, *_implicit(mnemonic, width))
    operands = [access for access in every if access.read or access.write]
    plain = not kind and (mnemonic in _PLAIN or mnemonic.startswith(("cmov", "set")))
    return Instruction(
        ins.address,
        ins.size,
        f"{ins.mnemonic} {ins.op_str}".strip(),
        mnemonic,
        kind,
        every,
        target,
        condition,
        register,
        segment,
        bytes(ins.bytes),
        plain=plain and len(operands) <= 1 and all(access.bits < 0 for access in operands),
    )


def _made(mode: int) -> Any:
    decoder = capstone.Cs(capstone.CS_ARCH_X86, mode)
    decoder.detail = True
    return decoder


_decoders = {32: _made(capstone.CS_MODE_32), 64: _made(capstone.CS_MODE_64)}


def decode(code: bytes, address: int, bits: int = 32) -> Instruction | None:
    """The instruction at the start of `code`, or None if there is none.

    One-byte NOPs in a row count as one: at boot the kernel makes long ones of
    them (optimize_nops() in arch/x86/kernel/alternative.c).
    """
    nops = len(code) - len(code.lstrip(b"\x90"))
    if nops:
        return Instruction(address, nops, "nop", "nop", "nop", (), raw=code[:nops])
    for ins in _decoders[bits].disasm(code, address, 1):
        return _decode(ins, bits // 8)
    return None


def details(code: bytes, address: int, bits: int = 32) -> Any:
    """Capstone's own view, for whoever wants the place of a constant."""
    for ins in _decoders[bits].disasm(code, address, 1):
        return ins
    return None
