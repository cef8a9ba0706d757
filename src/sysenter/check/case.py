# SPDX-License-Identifier: GPL-2.0-or-later
"""What is tried: callers, and what happens to them on the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import ClassVar

__all__ = ["Call", "Call64", "CallLegacy", "Case", "Event"]

# of EFLAGS, those that matter to an entry (SDM Vol. 1, 3.4.3)
_FLAGS = {0x100: "TF", 0x400: "DF", 0x3000: "IOPL", 0x4000: "NT", 0x40000: "AC"}


@dataclass(frozen=True)
class Call:
    """One system call as a caller makes it, and what the kernel does meanwhile.

    eax: number with or without marker. registers: ebx, ecx, edx, esi, edi.
    ebp: user stack. flags: EFLAGS. segments: ds, es, fs, gs. result: what the body answers. work: syscall
    work flags (tracing and the like) at entry; pending, tracing: thread and
    syscall work flags that are raised while the body runs. sleeps: "", "same"
    or "other": the CPU the body wakes on. before: what happens in user mode
    first ("irq", "irq16", "nmi", "switch"). vdso: address, 0 for none.
    vm86: the caller is in virtual-8086 mode.
    """

    FAST: ClassVar[int] = 0x80000003  # the plainest fast call
    NAMES: ClassVar[dict[str, str]] = {"registers": "ebx, ecx, edx, esi, edi"}
    COMES_UP: ClassVar[dict[str, str]] = {"pending": "work", "tracing": "tracing"}

    eax: int = 3
    registers: tuple[int, ...] = (1, 2, 3, 4, 5)
    ebp: int = 0xBF800100
    flags: int = 0x202
    segments: tuple[int, ...] = (0x7B, 0x7B, 0, 0x33)
    result: int = 0
    work: int = 0
    pending: int = 0
    tracing: int = 0
    sleeps: str = ""
    before: tuple[str, ...] = ()
    vdso: int = 0xB7F00000
    vm86: bool = False

    def words(self, plain: Call) -> str:
        """What is unlike `plain`, as a person would tell it."""
        return ", ".join(self._parts(plain))

    def _parts(self, plain: Call) -> Iterator[str]:
        names = {"ebp": "ebp", "flags": "EFLAGS", "segments": "ds, es, fs, gs", **self.NAMES}
        yield f"{names.get('eax', 'eax')} = {self.eax:#x}"
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in names and field.name != "eax" and value != getattr(plain, field.name):
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


@dataclass(frozen=True)
class Call64(Call):
    """The same from 64-bit code.

    eax: rax. registers: rdi, rsi, rdx, r10, r8, r9. ebp: r11, the user's stack.
    rip: rcx, the return address. kept: rbx, rbp, r12 to r15. flush: the user's PCID is to
    be flushed when it next returns. guest: a virtual machine runs on the CPU during the
    body. unwound: a stack trace of the caller's is taken in it (7.x, unwind_mask).
    """

    FAST: ClassVar[int] = (1 << 64) - 512 + 3
    NAMES: ClassVar[dict[str, str]] = {
        "eax": "rax", "registers": "rdi, rsi, rdx, r10, r8, r9", "ebp": "r11", "rip": "rcx",
        "kept": "rbx, rbp, r12, r13, r14, r15",
    }  # fmt: skip

    eax: int = 3
    registers: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
    ebp: int = 0x7FFC00001000
    segments: tuple[int, ...] = (0, 0, 0, 0)
    rip: int = 0x55550000102A
    kept: tuple[int, ...] = (7, 8, 9, 10, 11, 12)
    flush: bool = False
    guest: bool = False
    unwound: bool = False

    def _parts(self, plain: Call) -> Iterator[str]:
        yield from super()._parts(plain)
        if self.flush:
            yield "its PCID to be flushed"
        if self.guest:
            yield "a virtual machine runs on the CPU during the body"
        if self.unwound:
            yield "the body takes a stack trace of the caller's"


@dataclass(frozen=True)
class CallLegacy(Call):
    """The same on 2.2 and 2.4. pending: 1 need_resched, 2 a signal. tracing: bottom halves (2.2)."""

    COMES_UP: ClassVar[dict[str, str]] = {"pending": "need_resched or a signal", "tracing": "a bottom half"}


@dataclass(frozen=True)
class Event:
    """`kind` strikes call number `call` of `task` before its step number `step`.

    value: which flag, which CPU.
    """

    step: int
    kind: str
    value: int = 0
    call: int = 0
    task: int = 0


@dataclass(frozen=True)
class Case:
    """calls: of task 0, on CPU 0. others: of task 1, on CPU 1 at the same time.

    turns: how many steps each CPU makes before the other has its turn,
    beginning with CPU 0; then CPU 0 runs to its end, then CPU 1.
    variant: of the handler's processor or way in (Handler.variants).
    """

    calls: tuple[Call, ...]
    events: tuple[Event, ...] = ()
    others: tuple[Call, ...] = ()
    turns: tuple[int, ...] = ()
    variant: str = ""
