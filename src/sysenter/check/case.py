# SPDX-License-Identifier: GPL-2.0-or-later
"""What is tried: callers, and what happens to them on the way."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Call", "Case", "Event"]


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

    eax: int = 3
    registers: tuple[int, int, int, int, int] = (1, 2, 3, 4, 5)
    ebp: int = 0xBF800100
    flags: int = 0x202
    segments: tuple[int, int, int, int] = (0x7B, 0x7B, 0, 0x33)
    result: int = 0
    work: int = 0
    pending: int = 0
    tracing: int = 0
    sleeps: str = ""
    before: tuple[str, ...] = ()
    vdso: int = 0xB7F00000
    vm86: bool = False


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
    features: patched in for a processor with SMAP and a need to clear buffers.
    """

    calls: tuple[Call, ...]
    events: tuple[Event, ...] = ()
    others: tuple[Call, ...] = ()
    turns: tuple[int, ...] = ()
    features: bool = False
