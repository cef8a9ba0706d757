# SPDX-License-Identifier: GPL-2.0-or-later
"""What is tried: callers, and the events during their calls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import ClassVar

__all__ = ["Call", "Call64", "CallAll", "CallLegacy", "Case", "Event"]

# of EFLAGS, those that matter to an entry (SDM Vol. 1, 3.4.3)
_FLAGS = {0x100: "TF", 0x400: "DF", 0x3000: "IOPL", 0x4000: "NT", 0x40000: "AC"}


@dataclass(frozen=True)
class Call:
    """One system call as a 32-bit caller makes it, and what the kernel does meanwhile."""

    FAST: ClassVar[int] = 0x80000003  # the plainest fast call
    NAMES: ClassVar[dict[str, str]] = {"number": "eax", "registers": "ebx, ecx, edx, esi, edi", "stack": "ebp"}
    COMES_UP: ClassVar[dict[str, str]] = {"pending": "work", "tracing": "tracing"}

    number: int = 3
    """eax: the call's number, with the mark or without."""
    registers: tuple[int, ...] = (1, 2, 3, 4, 5)
    """ebx, ecx, edx, esi, edi."""
    stack: int = 0xBF800100
    """ebp: the user's stack pointer."""
    flags: int = 0x202
    """EFLAGS."""
    segments: tuple[int, ...] = (0x7B, 0x7B, 0, 0x33)
    """ds, es, fs, gs."""
    result: int = 0
    """What the body answers."""
    work: int = 0
    """Syscall work flags (tracing and the like) at entry."""
    pending: int = 0
    """Thread flags that are raised while the body runs."""
    tracing: int = 0
    """Syscall work flags that are raised while the body runs."""
    sleeps: str = ""
    """Whether the body sleeps, and on which CPU it wakes: "" for no, "same" or "other"."""
    before: tuple[str, ...] = ()
    """What happens in user mode before the call: "irq", "irq16", "nmi", "switch"."""
    vdso: int = 0xB7F00000
    """Its address, 0 for none."""
    vm86: bool = False
    """Whether the caller is in virtual-8086 mode."""
    guest: bool = False
    """Whether a virtual machine runs on the CPU during the body."""

    def words(self, plain: Call) -> str:
        """What is unlike `plain`, as a person would tell it."""
        return ", ".join(self._parts(plain))

    def _parts(self, plain: Call) -> Iterator[str]:
        names = {"flags": "EFLAGS", "segments": "ds, es, fs, gs", **self.NAMES}
        yield f"{names['number']} = {self.number:#x}"
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in names and field.name != "number" and value != getattr(plain, field.name):
                values = value if isinstance(value, tuple) else (value,)
                held = " ".join(name for bit, name in _FLAGS.items() if field.name == "flags" and value & bit)
                yield f"{names[field.name]} = " + ", ".join(f"{v:#x}" for v in values) + (held and f" ({held})")
        if self.work:
            yield f"the task traced ({self.work:#x})"
        for name, what in self.COMES_UP.items():
            if getattr(self, name):
                yield f"{what} ({getattr(self, name):#x}) comes up in the body"
        if self.sleeps:
            yield f"the body sleeps and wakes on {'another' if self.sleeps == 'other' else 'the same'} CPU"
        if not self.vdso:
            yield "no vDSO"
        if self.vm86:
            yield "in vm86 mode"
        if self.guest:
            yield "a virtual machine runs on the CPU during the body"


@dataclass(frozen=True)
class Call64(Call):
    """The same from 64-bit code."""

    FAST: ClassVar[int] = (1 << 64) - 512 + 3
    NAMES: ClassVar[dict[str, str]] = {
        "number": "rax",
        "registers": "rdi, rsi, rdx, r10, r8, r9",
        "stack": "r11",
        "rip": "rcx",
        "kept": "rbx, rbp, r12, r13, r14, r15",
    }

    number: int = 3
    """rax: the call's number, with the mark or without."""
    registers: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
    """rdi, rsi, rdx, r10, r8, r9."""
    stack: int = 0x7FFC00001000
    """r11: the user's stack pointer."""
    segments: tuple[int, ...] = (0, 0, 0, 0)
    """ds, es, fs, gs."""
    rip: int = 0x55550000102A
    """rcx: the return address."""
    kept: tuple[int, ...] = (7, 8, 9, 10, 11, 12)
    """rbx, rbp, r12 to r15."""
    flush: bool = False
    """Whether the user's PCID is to be flushed when it next returns."""
    unmaps: bool = False
    """Whether the body unmaps a page of the caller's."""
    unwound: bool = False
    """Whether a stack trace of the caller's is taken in the body (7.x, unwind_mask)."""

    def _parts(self, plain: Call) -> Iterator[str]:
        yield from super()._parts(plain)
        if self.flush:
            yield "its PCID to be flushed"
        if self.unmaps:
            yield "the body unmaps a page"
        if self.unwound:
            yield "the body takes a stack trace of the caller's"


@dataclass(frozen=True)
class CallAll(Call64):
    """An unmarked one, as entry_SYSCALL_64 hands it on."""

    FAST: ClassVar[int] = 3
    NAMES: ClassVar[dict[str, str]] = {**Call64.NAMES, "stack": "rsp"}

    stack: int = 0x7FFC00001000
    """rsp."""
    changes: tuple[tuple[str, int], ...] = ()
    """What the exit work changes in pt_regs: slot and value."""
    unloads: bool = False
    """Whether the module is unloaded while the task is in its exit work."""

    def _parts(self, plain: Call) -> Iterator[str]:
        yield from super()._parts(plain)
        if self.changes:
            yield "the exit work makes " + ", ".join(f"{name} {value:#x}" for name, value in self.changes)
        if self.unloads:
            yield "the module is unloaded during the exit work"


@dataclass(frozen=True)
class CallLegacy(Call):
    """The same on 2.2 and 2.4. pending: 1 is need_resched, 2 a signal. tracing: bottom halves (2.2)."""

    COMES_UP: ClassVar[dict[str, str]] = {"pending": "need_resched or a signal", "tracing": "a bottom half"}


@dataclass(frozen=True)
class Event:
    """Something that happens during a call."""

    step: int
    """The step of the call before which it happens."""
    kind: str
    value: int = 0
    """The flag or the CPU that it concerns."""
    call: int = 0
    """Which of the task's calls, from 0."""
    task: int = 0


@dataclass(frozen=True)
class Case:
    """What is tried in one run."""

    calls: tuple[Call, ...]
    """Of task 0, on CPU 0."""
    events: tuple[Event, ...] = ()
    others: tuple[Call, ...] = ()
    """Of task 1, on CPU 1 at the same time."""
    turns: tuple[int, ...] = ()
    """How many steps each CPU makes before the other has its turn, beginning with CPU 0; then CPU 0 runs to
    its end, then CPU 1."""
    variant: str = ""
    """Of the handler's processor or way in (Handler.variants)."""
