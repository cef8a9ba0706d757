# SPDX-License-Identifier: GPL-2.0-or-later
"""The modelled processor: Unicorn for the plain instructions, this file for the rest.

Unicorn runs one instruction at a time, with everything that an instruction can
do to general registers, arithmetic flags and memory. Its last answers are kept
and looked up. What it lacks, hides or does otherwise than a machine that runs a
kernel is written here from the SDM:

- SYSENTER, SYSEXIT, IRET, with CPL, EFLAGS and hidden segment state;
- IF and the one-instruction shadow of STI; PUSHF, POPF with all of EFLAGS;
- segment loads with their faults, and a base for each segment;
- RDTSC, STAC, CLAC, VERW, and branches (their targets may be the kernel's).

Every memory operand is given to `Watch.access` before the instruction runs: that
is where paging, segments' rights and the properties come in. The tests hold
what this model says of each against a machine (tests/processor_cases.py).
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import unicorn
from unicorn import x86_const as x86

from sysenter.check.code.instructions import EAX, ECX, EDX, ESP, Access, Instruction
from sysenter.check.cpu.memory import PAGE, Memory

_unicorn: Any = unicorn  # its functions have no types

__all__ = [
    "AC",
    "CF",
    "DF",
    "FIXED",
    "ID",
    "IF",
    "IOPL",
    "NT",
    "PCID",
    "RF",
    "TF",
    "VM",
    "Cpu",
    "Fault",
    "Processor",
    "Watch",
]

CF, PF, AF, ZF, SF, TF, IF, DF, OF = 1, 4, 0x10, 0x40, 0x80, 0x100, 0x200, 0x400, 0x800
IOPL, NT, RF, VM, AC, ID = 0x3000, 0x4000, 0x10000, 0x20000, 0x40000, 0x200000
FIXED = 2
_CR3_NOFLUSH = 1 << 63
PCID = 0xFFF  # of CR3
_KEPT = 20_000  # of Unicorn's answers; then they are forgotten
_FS_BASE = 0xC0000100  # the MSR; in 32-bit mode Unicorn takes the base from nowhere else
_ARITHMETIC = CF | PF | AF | ZF | SF | OF | DF
# SDM Vol. 2B, POPF, Table 4-15, CPL 0, 32-bit operand; VIF and VIP are cleared
_POPPED = _ARITHMETIC | TF | IF | IOPL | NT | AC | ID


class Fault(Exception):
    """A processor exception, before the instruction has changed anything."""

    def __init__(self, vector: int, address: int = 0) -> None:
        super().__init__(f"#{vector} at {address:#x}")
        self.vector = vector
        self.address = address


@dataclass(slots=True)
class Cpu:
    """One processor."""

    number: int
    registers: list[int] = field(default_factory=lambda: [0] * 8)
    """In the order of ModRM."""
    eip: int = 0
    flags: int = FIXED | IF
    segments: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("es", "cs", "ss", "ds", "fs", "gs"), 0))
    bases: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("es", "cs", "ss", "ds", "fs", "gs"), 0))
    cpl: int = 3
    shadow: bool = False  # STI has just run: no interrupt before the next instruction
    msr: tuple[int, int, int] = (0, 0, 0)
    """SYSENTER_CS, _ESP, _EIP."""
    task: int = -1
    tr: int = 0  # task register
    shielded: bool = False  # the last instruction ran in that shadow
    verw: bool = False  # buffers overwritten and no kernel data read since
    kernel_gs: int = 0
    """MSR KERNEL_GS_BASE, with 64 bits only."""
    cr3: int = 0
    """Without its bit 63."""
    flushed: bool = False
    """Whether the last write to CR3 flushed what it loaded."""
    spec_ctrl: int = 0
    """MSR SPEC_CTRL, with 64 bits only."""
    stale: frozenset[int] = frozenset()
    """The PCIDs under which the TLB may still have what is no longer mapped."""

    def leave(self) -> None:
        """Return to user mode: forget the state that belongs to a call."""
        self.registers = [0] * len(self.registers)
        self.eip, self.flags, self.cpl = 0, FIXED | IF, 3
        self.shadow = self.shielded = self.verw = False

    def copy(self) -> Cpu:
        return Cpu(
            self.number,
            self.registers[:],
            self.eip,
            self.flags,
            self.segments.copy(),
            self.bases.copy(),
            self.cpl,
            self.shadow,
            self.msr,
            self.task,
            self.tr,
            self.shielded,
            self.verw,
            self.kernel_gs,
            self.cr3,
            self.flushed,
            self.spec_ctrl,
            self.stale,
        )


class Watch(Protocol):
    """What the processor asks the model of the kernel."""

    def access(self, cpu: Cpu, ins: Instruction, access: Access, linear: int) -> None:
        """Called before each memory operand; raises Fault, or what a property raises."""

    def descriptor(self, cpu: Cpu, selector: int) -> int | None:
        """Base of the data segment, or None if loading it faults."""

    def timestamp(self, cpu: Cpu) -> int:
        """What RDTSC answers."""

    def load_cr3(self, cpu: Cpu, value: int) -> None:
        """Called before CR3 changes; raises what a property raises."""


class Processor:
    """Runs instructions of `memory`'s text on any number of CPUs, one at a time.

    smap: CR4.SMAP; pcid: CR4.PCIDE.
    """

    bits = 32
    _MODE: int = _unicorn.UC_MODE_32
    _VALUE: Any = ctypes.c_uint32
    _BASED = "fs"  # the segment whose base kernel code relies on
    _IDS: tuple[int, ...] = (
        x86.UC_X86_REG_EAX,
        x86.UC_X86_REG_ECX,
        x86.UC_X86_REG_EDX,
        x86.UC_X86_REG_EBX,
        x86.UC_X86_REG_ESP,
        x86.UC_X86_REG_EBP,
        x86.UC_X86_REG_ESI,
        x86.UC_X86_REG_EDI,
        x86.UC_X86_REG_EFLAGS,
    )

    def __init__(self, memory: Memory, watch: Watch) -> None:
        self.memory = memory
        self.watch = watch
        self.smap = self.pcid = False
        self._uc: Any = _unicorn.Uc(_unicorn.UC_ARCH_X86, self._MODE)
        # linear addresses as they are: Unicorn's own paging knows no canonical ones
        self._uc.ctl_set_tlb_mode(_unicorn.UC_TLB_VIRTUAL)
        for page, region in memory.pages.items():
            offset = region.offset + (page * PAGE - region.start)
            self._uc.mem_map_ptr(page * PAGE, PAGE, _unicorn.UC_PROT_ALL, memory.address + offset)
        # the binding's own wrappers cost three times the emulation of an instruction
        library: Any = _unicorn.unicorn_py3.unicorn.uclib
        self._start, self._read, self._write = (
            library.uc_emu_start,
            library.uc_reg_read_batch,
            library.uc_reg_write_batch,
        )
        self._handle = self._uc._uch
        count = len(self._IDS)
        self._count = count
        self._ids = (ctypes.c_int * count)(*self._IDS)
        self.width = self.bits // 8
        self.mask = (1 << self.bits) - 1
        self._values: Any = (self._VALUE * count)()
        first = ctypes.addressof(self._values)
        self._pointers = (ctypes.c_void_p * count)(*[first + self.width * i for i in range(count)])
        self._base = 0
        self._layout = struct.Struct(f"<{count}{'I' if self.bits == 32 else 'Q'}")
        # address, operand before, _values before -> _values after, operand after
        self._answers: dict[tuple[int, int, bytes], tuple[bytes, int]] = {}
        self._models: dict[str, Callable[[Cpu, Instruction], None]] = {
            "sti": self._sti,
            "cli": self._cli,
            "pushfd": self._pushf,
            "popfd": self._popf,
            "sysexit": self._sysexit,
            "sysenter": self._sysenter,
            "iretd": self._iret,
            "rdtsc": self._rdtsc,
            "stac": self._stac,
            "clac": self._clac,
            "verw": self._verw,
            "jmp": self._jmp,
            "call": self._call,
            "ret": self._ret,
            "jcc": self._jcc,
            "nop": self._next,
            "pause": self._next,
            "lfence": self._next,
            "int3": self._trap,
            "ud2": self._undefined,
            "hlt": self._halt,
            "str": self._str,
            "mov control": self._mov_control,
            "mov segment": self._mov_segment,
            "push segment": self._push_segment,
            "pop segment": self._pop_segment,
        }

    # -- running -----------------------------------------------------------------

    def linear(self, cpu: Cpu, access: Access) -> int:
        """The linear address of `access` with the present registers."""
        address = access.displacement
        if access.base >= 0:
            address += cpu.registers[access.base]
            if access.base == ESP:
                address += access.depth
        if access.index >= 0:
            address += cpu.registers[access.index] * access.scale
        if access.bits >= 0:  # SDM Vol. 2A, 3.1.1.9: a signed number of bits
            size = 8 * access.size
            count = (cpu.registers[access.bits] & ((1 << size) - 1) ^ 1 << size - 1) - (1 << size - 1)
            address += count // size * access.size
        return (address + cpu.bases[access.segment]) & self.mask

    def step(self, cpu: Cpu, ins: Instruction) -> None:
        """Run `ins` on `cpu`. Raises Fault with everything as it was before."""
        operand, linear = None, 0
        for access in ins.accesses:
            if access.read or access.write:
                operand, linear = access, self.linear(cpu, access)
                self.watch.access(cpu, ins, access, linear)
        cpu.shielded, cpu.shadow = cpu.shadow, False
        if ins.kind:
            model = self._models.get(ins.kind)
            if model is None:
                raise Fault(6, ins.address)  # another processor has it
            model(cpu, ins)
        else:
            self._plain(cpu, ins, operand, linear)

    def _plain(self, cpu: Cpu, ins: Instruction, operand: Access | None, linear: int) -> None:
        """Run what Unicorn runs, or look up what it did before with the same values: the search comes to most of them
        often, and to start Unicorn takes long. operand, linear: the last operand in memory, and its address.
        """
        values = self._values
        values[0:-1] = cpu.registers
        values[-1] = cpu.flags & _ARITHMETIC | FIXED
        region = self.memory.at(linear) if operand else None
        if not ins.plain or (operand and (region is None or linear + operand.size > region.end)):
            self._native(cpu, ins)
            return
        key = (ins.address, self.memory.read(linear, operand.size) if operand and operand.read else 0, bytes(values))
        answer = self._answers.get(key)
        if answer is None:
            self._native(cpu, ins)
            written = self.memory.read(linear, operand.size) if operand and operand.write else 0
            if len(self._answers) == _KEPT:
                self._answers.clear()
            self._answers[key] = bytes(values), written
            return
        after, written = answer
        if operand and operand.write:
            self.memory.write(linear, written, operand.size)
        self._take(cpu, ins, list(self._layout.unpack(after)))

    def _native(self, cpu: Cpu, ins: Instruction) -> None:
        """Run `ins` in Unicorn, from `_values`."""
        self._write(self._handle, self._ids, self._pointers, self._count)
        if cpu.bases[self._BASED] != self._base:
            self._base = cpu.bases[self._BASED]
            self._write_base(self._base)
        if self._start(self._handle, ins.address, ins.address + ins.size, 0, 0):
            raise Fault(6, ins.address)  # what is left are instructions that it cannot do
        self._read(self._handle, self._ids, self._pointers, self._count)
        self._take(cpu, ins, self._values[:])

    def _take(self, cpu: Cpu, ins: Instruction, values: list[int]) -> None:
        """The registers and flags behind `ins`, as `_IDS` has them."""
        cpu.flags = cpu.flags & ~_ARITHMETIC | values.pop() & _ARITHMETIC
        cpu.registers = values
        cpu.eip = ins.address + ins.size

    def _write_base(self, base: int) -> None:
        self._uc.msr_write(_FS_BASE, base)

    # -- the model's own instructions --------------------------------------------

    def _next(self, cpu: Cpu, ins: Instruction) -> None:
        cpu.eip = ins.address + ins.size

    def _trap(self, cpu: Cpu, ins: Instruction) -> None:
        raise Fault(3, ins.address)

    def _undefined(self, cpu: Cpu, ins: Instruction) -> None:
        raise Fault(6, ins.address)

    def _halt(self, cpu: Cpu, ins: Instruction) -> None:
        raise Fault(13 if cpu.cpl else 6, ins.address)

    def _stack(self, address: int) -> int:
        """`address`, where a word of the stack must be: #PF if nothing is there."""
        if self.memory.at(address) is None or self.memory.at(address + self.width - 1 & self.mask) is None:
            raise Fault(14, address)
        return address

    def push(self, cpu: Cpu, value: int) -> None:
        cpu.registers[ESP] = (cpu.registers[ESP] - self.width) & self.mask
        self.memory.write(self._stack(cpu.registers[ESP]), value)

    def pop(self, cpu: Cpu) -> int:
        value = self.memory.read(self._stack(cpu.registers[ESP]), self.width)
        cpu.registers[ESP] = (cpu.registers[ESP] + self.width) & self.mask
        return value

    def taken(self, cpu: Cpu, condition: int) -> bool:
        """Is the jcc with this condition number taken? (SDM Vol. 1, Appendix B)"""
        flags = cpu.flags
        less = bool(flags & SF) != bool(flags & OF)
        values = (
            flags & OF,
            flags & CF,
            flags & ZF,
            flags & (CF | ZF),
            flags & SF,
            flags & PF,
            less,
            less or flags & ZF,
        )
        return bool(values[condition >> 1]) != bool(condition & 1)

    def _jcc(self, cpu: Cpu, ins: Instruction) -> None:
        cpu.eip = ins.target if self.taken(cpu, ins.condition) else ins.address + ins.size

    def _branch_target(self, cpu: Cpu, ins: Instruction) -> int:
        if ins.target:
            return ins.target
        if ins.register >= 0:
            return cpu.registers[ins.register]
        operand = next(a for a in ins.accesses if not a.implicit)
        return self.memory.read(self.linear(cpu, operand), self.width)

    def _jmp(self, cpu: Cpu, ins: Instruction) -> None:
        cpu.eip = self._branch_target(cpu, ins)

    def _call(self, cpu: Cpu, ins: Instruction) -> None:
        target = self._branch_target(cpu, ins)
        self.push(cpu, ins.address + ins.size)
        cpu.eip = target

    def _ret(self, cpu: Cpu, ins: Instruction) -> None:
        cpu.eip = self.pop(cpu)

    def _sti(self, cpu: Cpu, ins: Instruction) -> None:
        self._needs_iopl(cpu, ins)
        # SDM Vol. 2B, STI: the shadow is there only if IF was clear before
        cpu.shadow = not cpu.flags & IF
        cpu.flags |= IF
        cpu.eip = ins.address + ins.size

    def _needs_iopl(self, cpu: Cpu, ins: Instruction) -> None:
        if cpu.cpl > cpu.flags >> 12 & 3:
            raise Fault(13, ins.address)

    def _cli(self, cpu: Cpu, ins: Instruction) -> None:
        self._needs_iopl(cpu, ins)
        cpu.flags &= ~IF
        cpu.eip = ins.address + ins.size

    def _popped(self, cpu: Cpu) -> int:
        """The flags that POPF and IRET may change at this privilege level."""
        mask = _POPPED
        if cpu.cpl > 0:
            mask &= ~IOPL
            if cpu.cpl > cpu.flags >> 12 & 3:
                mask &= ~IF
        return mask

    def _pushf(self, cpu: Cpu, ins: Instruction) -> None:
        self.push(cpu, cpu.flags & ~(RF | VM))
        cpu.eip = ins.address + ins.size

    def _popf(self, cpu: Cpu, ins: Instruction) -> None:
        mask = self._popped(cpu)
        cpu.flags = cpu.flags & (VM | ~mask & (IF | IOPL)) | self.pop(cpu) & mask | FIXED
        cpu.eip = ins.address + ins.size

    def _str(self, cpu: Cpu, ins: Instruction) -> None:
        kept = cpu.registers[ins.register] & 0xFFFF0000 if ins.raw[0] == 0x66 else 0  # SDM Vol. 2B, STR
        cpu.registers[ins.register] = kept | cpu.tr
        cpu.eip = ins.address + ins.size

    def _rdtsc(self, cpu: Cpu, ins: Instruction) -> None:
        value = self.watch.timestamp(cpu)
        cpu.registers[EAX], cpu.registers[EDX] = value & 0xFFFFFFFF, value >> 32 & 0xFFFFFFFF
        cpu.eip = ins.address + ins.size

    def _stac(self, cpu: Cpu, ins: Instruction) -> None:
        if not self.smap:
            raise Fault(6, ins.address)
        cpu.flags |= AC
        cpu.eip = ins.address + ins.size

    def _clac(self, cpu: Cpu, ins: Instruction) -> None:
        if not self.smap:
            raise Fault(6, ins.address)
        cpu.flags &= ~AC
        cpu.eip = ins.address + ins.size

    def _verw(self, cpu: Cpu, ins: Instruction) -> None:
        selector = self.memory.read(self.linear(cpu, ins.accesses[0]), 2) if ins.accesses else 0
        cpu.verw = self.watch.descriptor(cpu, selector) is not None
        cpu.flags = cpu.flags & ~ZF | (ZF if cpu.verw else 0)
        cpu.eip = ins.address + ins.size

    def sysenter(self, cpu: Cpu) -> None:
        """SDM Vol. 2B, SYSENTER. Saves nothing; clears VM, IF, RF only."""
        code, stack, entry = cpu.msr
        if code & 0xFFFC == 0:
            raise Fault(13)
        cpu.flags &= ~(VM | IF | RF)
        cpu.registers[ESP], cpu.eip = stack, entry
        cpu.segments["cs"], cpu.segments["ss"] = code & 0xFFFC, (code & 0xFFFC) + 8
        cpu.bases["cs"] = cpu.bases["ss"] = 0
        cpu.cpl = 0
        cpu.shadow = False

    def _sysenter(self, cpu: Cpu, ins: Instruction) -> None:
        self.sysenter(cpu)

    def _sysexit(self, cpu: Cpu, ins: Instruction) -> None:
        """SDM Vol. 2B, SYSEXIT. Flags stay; DS, ES, FS and GS stay."""
        code = cpu.msr[0]
        if code & 0xFFFC == 0 or cpu.cpl != 0:
            raise Fault(13)
        cpu.registers[ESP], cpu.eip = cpu.registers[ECX], cpu.registers[EDX]
        cpu.segments["cs"], cpu.segments["ss"] = (code & 0xFFFC) + 16 | 3, (code & 0xFFFC) + 24 | 3
        cpu.cpl = 3

    def _iret(self, cpu: Cpu, ins: Instruction) -> None:
        """SDM Vol. 2A, IRET, to the same and to the outer ring; NT is #TS here."""
        if cpu.flags & NT:
            raise Fault(10, ins.address)
        mask = self._popped(cpu)
        eip, code, flags = self.pop(cpu), self.pop(cpu) & 0xFFFF, self.pop(cpu)
        cpu.flags = cpu.flags & (VM | ~mask & (IF | IOPL)) | flags & (mask | RF) | FIXED
        cpu.eip, cpu.segments["cs"] = eip, code
        if code & 3 > cpu.cpl:
            esp, stack = self.pop(cpu), self.pop(cpu) & 0xFFFF
            cpu.registers[ESP], cpu.segments["ss"], cpu.cpl = esp, stack, 3

    def load_segment(self, cpu: Cpu, name: str, selector: int) -> None:
        """SDM Vol. 2B, MOV to a segment register: #UD for CS, #GP if there is no such segment.

        SS takes one of the processor's own privilege only, and none that is null but in 64-bit mode.
        """
        if name == "cs":
            raise Fault(6, cpu.eip)
        if name == "ss" and (selector & 3 != cpu.cpl or (selector & 0xFFFC == 0 and self.bits == 32)):
            raise Fault(13, selector & 0xFFFC)
        if selector & 0xFFFC == 0:
            cpu.segments[name], cpu.bases[name] = selector, 0
            return
        base = self.watch.descriptor(cpu, selector)
        if base is None:
            raise Fault(13, selector)
        cpu.segments[name], cpu.bases[name] = selector, base

    def _mov_segment(self, cpu: Cpu, ins: Instruction) -> None:
        loads = ins.raw[_opcode_at(ins.raw)] == 0x8E
        place = self.linear(cpu, ins.accesses[0]) if ins.accesses else 0
        if loads:
            value = self.memory.read(place, 2) if ins.accesses else cpu.registers[ins.register] & 0xFFFF
            self.load_segment(cpu, ins.segment, value)
        elif ins.accesses:
            self.memory.write(place, cpu.segments[ins.segment], 2)
        else:
            cpu.registers[ins.register] = cpu.segments[ins.segment]
        cpu.eip = ins.address + ins.size

    def _push_segment(self, cpu: Cpu, ins: Instruction) -> None:
        # newer processors write 16 bits only (SDM Vol. 2B, PUSH): the upper half stays
        cpu.registers[ESP] = (cpu.registers[ESP] - 4) & 0xFFFFFFFF
        self.memory.write(cpu.registers[ESP], cpu.segments[ins.segment], 2)
        cpu.eip = ins.address + ins.size

    def _pop_segment(self, cpu: Cpu, ins: Instruction) -> None:
        self.load_segment(cpu, ins.segment, self.memory.read(cpu.registers[ESP], 4) & 0xFFFF)
        cpu.registers[ESP] = (cpu.registers[ESP] + 4) & 0xFFFFFFFF
        cpu.eip = ins.address + ins.size

    def _mov_control(self, cpu: Cpu, ins: Instruction) -> None:
        """SDM Vol. 2B, MOV to CR3; Vol. 3A, 4.10.4.1: bit 63 keeps the PCID's TLB entries."""
        if cpu.cpl or "cr3" not in ins.text:
            raise Fault(13, ins.address)
        if ins.raw[ins.raw.index(0x0F) + 1] == 0x20:
            cpu.registers[ins.register] = cpu.cr3
        else:
            value = cpu.registers[ins.register]
            if value & _CR3_NOFLUSH and not self.pcid:
                raise Fault(13, ins.address)
            self.watch.load_cr3(cpu, value & ~_CR3_NOFLUSH)
            cpu.cr3, cpu.flushed = value & ~_CR3_NOFLUSH, not value & _CR3_NOFLUSH
            if cpu.flushed:
                cpu.stale -= {cpu.cr3 & PCID}
        cpu.eip = ins.address + ins.size


def _opcode_at(raw: bytes) -> int:
    at = 0
    while raw[at] in b"\x26\x2e\x36\x3e\x64\x65\x66\x67\xf0\xf2\xf3":
        at += 1
    return at
