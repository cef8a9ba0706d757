# SPDX-License-Identifier: GPL-2.0-or-later
"""The model of the processor, held against cases that a real machine runs too.

tests/native/guest/processor_cases.h is the one table; tests/native/guest/processor.c runs it
in user mode of a real kernel. What only ring 0 can do (SYSENTER's and SYSEXIT's
own effects, STI's shadow) tests/native/guest/privileged.c tries on a machine without a
kernel, and prints what was before and after: the model has to come to the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from guests import SOURCES
from sysenter.check.code.instructions import EAX, ECX, EDX, ESP, Access, Instruction, decode
from sysenter.check.cpu.memory import PAGE, Area, Memory
from sysenter.check.cpu.processor import FIXED, IF, RF, TF, VM, Cpu, Fault, Processor
from sysenter.check.cpu.processor_amd import Amd

__all__ = ["ProcessorCase", "differs", "differs_from", "processor_cases"]

_TABLE = SOURCES / "processor_cases.h"
_CASE = re.compile(r'^CASE\("([^"]+)",\s*"([0-9a-f ]+)",\s*([^)]*)\)', re.M)
_CODE, _STACK = 0x10000000, 0x10002000
_USER_CS, _USER_DS = 0x73, 0x7B


@dataclass(frozen=True)
class ProcessorCase:
    """One instruction on a processor: the state before and after it."""

    name: str
    code: bytes
    before: tuple[int, int, int, int]
    """eax, ecx, edx, then EFLAGS."""
    vector: int
    """The exception's, -1 for none."""
    after: tuple[int, int, int, int]
    """eax, ecx, edx, then EFLAGS."""
    mask: int
    """Which bits of EFLAGS count."""


def processor_cases() -> tuple[ProcessorCase, ...]:
    """The table, as C reads it."""
    text = _TABLE.read_text()
    names = {name: int(value, 0) for name, value in re.findall(r"^#define (\w+)\s+(-?\w+)", text, re.M)}

    def number(word: str) -> int:
        values = [names[part] if part in names else int(part, 0) for part in word.split(" & ")]
        result = values[0]
        for value in values[1:]:
            result &= value
        return result

    found = []
    for name, code, rest in _CASE.findall(text):
        n = [number(word.strip()) for word in rest.split(",")]
        found.append(
            ProcessorCase(name, bytes.fromhex(code), (n[0], n[1], n[2], n[3]), n[4], (n[5], n[6], n[7], n[9]), n[8])
        )
    assert len(found) == text.count("\nCASE("), "a line of the table is read by C alone"
    return tuple(found)


class _User:
    """Linux user mode: flat segments, no LDT, nothing of ring 0."""

    def __init__(self, code: bytes) -> None:
        self.memory = Memory(3 * PAGE)
        self.memory.add("code", Area.USER, _CODE, PAGE)
        self.memory.add("stack", Area.USER, _STACK, PAGE)
        self.code = code + b"\x90" * 5
        self.memory.bytes[: len(self.code)] = self.code
        self.processor = Processor(self.memory, self)

    def access(self, cpu: Cpu, ins: Instruction, access: Access, linear: int) -> None:
        if self.memory.at(linear) is None:
            raise Fault(14, linear)

    def descriptor(self, cpu: Cpu, selector: int) -> int | None:
        return 0 if selector in (_USER_CS, _USER_DS) else None

    def timestamp(self, cpu: Cpu) -> int:
        return 0

    def load_cr3(self, cpu: Cpu, value: int) -> None:
        raise Fault(13, value)

    def instructions(self, cpu: Cpu) -> Iterator[Instruction]:
        while cpu.eip < _CODE + len(self.code):
            at = cpu.eip - _CODE
            ins = decode(self.code[at : at + 15], cpu.eip)
            if ins is None:
                raise Fault(6, cpu.eip)
            yield ins


def differs(case: ProcessorCase) -> str:
    """What the model does otherwise than `case` says, "" if nothing."""
    user = _User(case.code)
    cpu = Cpu(0, eip=_CODE, flags=case.before[3] | FIXED | IF)
    cpu.registers[EAX], cpu.registers[ECX], cpu.registers[EDX] = case.before[:3]
    cpu.registers[ESP] = _STACK + 0x800
    cpu.segments.update(cs=_USER_CS, ss=_USER_DS, ds=_USER_DS, es=_USER_DS)
    vector = -1
    try:
        for ins in user.instructions(cpu):
            user.processor.step(cpu, ins)
    except Fault as fault:
        vector = fault.vector
    if vector != case.vector:
        return f"{case.name}: exception {vector}, expected {case.vector}"
    found = (cpu.registers[EAX], cpu.registers[ECX], cpu.registers[EDX], cpu.flags & case.mask)
    if vector < 0 and found != case.after:
        return f"{case.name}: {[hex(f) for f in found]}, expected {[hex(a) for a in case.after]}"
    return ""


# tests/native/guest/privileged.h, and what follows from it
_STATE = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "eip", "eflags", "cs", "ss", "ds", "es", "fs", "gs")
_BARE, _BARE_PAGES = 0x100000, 16  # where the program lies
_SELECTORS, _TR = (0x10, 0x18, 0x23, 0x2B, 0x3B), 0x30
_DB, _END_OF_CASE, _INTERRUPT = 1, 0x30, 0x40


class _Bare(_User):
    """A machine with flat segments and no kernel."""

    def __init__(self, start: int, code: bytes, stack: int, words: Sequence[int]) -> None:
        self.memory = Memory(_BARE_PAGES * PAGE)
        program = self.memory.add("the program", Area.GLOBAL, _BARE, _BARE_PAGES * PAGE)
        if start >= _BARE:  # SYSENTER from vm86 mode needs neither
            self.memory.bytes[start - program.start : start - program.start + len(code)] = code
            for number, word in enumerate(words):
                self.memory.write(stack + 4 * number, word)
        self.processor = Amd(self.memory, self, (_SELECTORS[0], _SELECTORS[2]), lambda cpu: cpu.msr[2])

    def descriptor(self, cpu: Cpu, selector: int) -> int | None:
        return 0 if selector in _SELECTORS else None


def differs_from(seen: Mapping[str, list[int]], code: bytes) -> str:
    """What the model does otherwise than a machine did, "" if nothing.

    seen: of a line that privileged.c prints; code: its instructions.
    """
    before = dict(zip(_STATE, seen["before"], strict=True))
    bare = _Bare(before["eip"], code, before["esp"], seen["stack"])
    code_segment, stack_pointer, entry = seen["msr"]
    cpu = Cpu(0, seen["before"][:8], before["eip"], before["eflags"], msr=(code_segment, stack_pointer, entry), tr=_TR)
    cpu.segments.update({name: before[name] for name in cpu.segments})
    cpu.cpl = 3 if before["eflags"] & VM or before["cs"] & 3 else 0
    vector = _until_event(bare, cpu, code, bool(seen["pending"][0]), entry)
    if vector != seen["vector"][0]:
        return f"{code.hex()} from {_words(before)}: vector {vector:#x}, the machine has {seen['vector'][0]:#x}"
    segments = [cpu.segments[name] for name in _STATE[10:]]
    after = dict(zip(_STATE, [*cpu.registers, cpu.eip, cpu.flags, *segments], strict=True))
    machine = dict(zip(_STATE, seen["after"], strict=True))
    machine["eflags"] &= ~RF  # a fault may push it (SDM Vol. 3B, 17.3.1.1)
    wrong = {name: after[name] for name in _STATE if after[name] != machine[name]}
    return f"{code.hex()} from {_words(before)}: {_words(wrong)}, the machine has {_words(machine)}" if wrong else ""


def _words(state: Mapping[str, int]) -> str:
    return " ".join(f"{name}={value:#x}" for name, value in state.items())


def _until_event(bare: _Bare, cpu: Cpu, code: bytes, pending: bool, landing: int) -> int:
    """The vector that ends the case; the state is in `cpu`."""
    start, trap = cpu.eip, False
    while True:
        if trap:
            return _DB
        if pending and cpu.flags & IF and not cpu.shadow:
            return _INTERRUPT
        if cpu.eip in (landing, start + len(code)):
            return _END_OF_CASE
        ins = decode(code[cpu.eip - start :], cpu.eip)
        assert ins is not None
        trap = bool(cpu.flags & TF)
        try:
            bare.processor.step(cpu, ins)
        except Fault as fault:
            return fault.vector
