# SPDX-License-Identifier: GPL-2.0-or-later
"""Who comes to the present i386 entry, and what meets them there."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from sysenter.check.case import Call, Case, Event
from sysenter.check.kernels.present import NR, again, random_cases
from sysenter.check.kernels.present import bits as _bits
from sysenter.check.kernels.present_i386 import MARK, USER_ABSENT, USER_FRAGILE, USER_STACK, USER_TOP

__all__ = ["events", "lone_calls", "paired", "scattered", "with_interruptions"]

# What a hostile caller puts into a register: limits, signs, the kernel's own
# addresses (its stacks, text, per-CPU data, entry stack).
_NASTY = (
    0,
    1,
    0xFFFFFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xBFFFFFFF,
    0xC0000000,
    0xC3001FF0,
    0xC2000000,
    0xF8A01000,
    0xC1001000,
    0xFFC02FFC,
    0x5359007B,
    0xC0DE0011,
    0xFFFFFFDA,
)
_STACKS = (
    USER_STACK + 0x100,
    USER_STACK + 0xFFE,
    USER_TOP + 0xFFC,
    USER_ABSENT + 0x40,
    USER_ABSENT - 2,
    USER_FRAGILE + 8,
    0,
    0xFFFFFFFF,
    USER_TOP + 0xFFD,
    USER_TOP + 0xFFE,
    USER_TOP + 0xFFF,
    0xC0000000,
    0xC3001FF0,
    0xFFC03000,
    USER_STACK - 2,
    USER_FRAGILE + 0xFFE,
    4,
    0xFFFFFFFC,
)
_NUMBERS = (0, 1, 2, 3, 4, 5, 6, 7, 255, 256, NR - 1, NR - 2)
# CF PF AF ZF SF, TF, DF, OF, IOPL 1..3, NT, AC, ID: all that user mode can set
# (IOPL with iopl(2) or a saved frame), alone and in pairs
_FLAGS = (1, 4, 0x10, 0x40, 0x80, 0x100, 0x400, 0x800, 0x1000, 0x2000, 0x3000, 0x4000, 0x40000, 0x200000)
_TLS, _LDT, _LDT_LATE = 0x33, 0x0F, 0x1F
_SEGMENTS = (0, 3, 0x33, 0x3B, 0x43, 0x73, 0x7A, 0x7B, 0x7C, 0x07, 0x0F, 0x17, 0x1F)


def _fast(number: int = 3, **more: object) -> Call:
    return replace(Call(number=MARK | number), **more)  # type: ignore[arg-type]


_OTHER = _fast(registers=(0x31, 0x32, 0x33, 0x34, 0x35), stack=USER_STACK + 0x300)


def lone_calls(offsets: dict[str, int]) -> Iterator[Case]:
    """Each number, flag, pair of flags, segment, stack and kind of work once.

    Always twice in a row, with other values, then a stock call, and a fast one again: the first
    builds the frame, the second relies on it, the third destroys it.
    """
    after = (
        _fast(2, registers=(0x11, 0x12, 0x13, 0x14, 0x15), segments=(0x7B, 0x7B, 0x33, 0)),
        Call(number=23),
        _fast(6),
    )

    def calls(*first: Call) -> Case:
        return Case((*first, again(first[-1], _OTHER), *after))

    # the limit in each variant: a mutant meets each case in one of them, and two of three have another scope
    for number in (*_NUMBERS, *(NR - 1, NR) * 3, NR + 1, 0x3FF, 0x7FFFFFFF, 0x40000000):
        yield calls(Call(number=MARK | number))
        yield calls(Call(number=number))
    for value in (0xFFFFFFFF, 0xFFFFFE00, 0x7FFFFFFF):
        yield calls(Call(number=value))
    # the slow ways, over a frame that stands and has other values
    for slow in (_fast(7), _fast(3, work=1), _fast(3, pending=8), _fast(5, pending=8), _fast(6, pending=8)):
        yield Case((_OTHER, slow, _OTHER))
    for stack in _STACKS:
        yield calls(_fast(6, stack=stack))
        yield calls(_fast(3, stack=stack, pending=8))
        yield calls(_fast(6, stack=stack, tracing=_bits(offsets["EXIT_SYSCALL_WORK"])[0]))
        yield calls(_fast(7, stack=stack))
    for bit in _bits(offsets["EXIT_WORK"]):
        yield calls(_fast(3, pending=bit))
    for bit in _bits(offsets["EXIT_SYSCALL_WORK"]):
        yield calls(_fast(3, tracing=bit))
    for guest in (_fast(3, result=77), _fast(5, pending=8), _fast(6, sleeps="other")):
        yield calls(replace(guest, guest=True))
    # work that the kernel's exit does not look at
    yield calls(_fast(3, tracing=~offsets["EXIT_SYSCALL_WORK"] & 0xFFFFFFFF))
    for bit in range(32):
        yield calls(_fast(3, work=1 << bit))
    for segment in _SEGMENTS:
        for place in range(4):
            chosen = [0x7B, 0x7B, 0, 0x33]
            chosen[place] = segment
            segments = (chosen[0], chosen[1], chosen[2], chosen[3])
            yield calls(_fast(3, segments=segments))
            yield calls(Call(number=3, segments=segments))
            yield calls(_fast(7, segments=segments))
    # whoever looks at another register than ds or es finds there what he wants to see
    for segments in ((_LDT, 0x7B, 0x7B, 0x7B), (0x7B, _LDT, 0x7B, 0x7B)):
        for number in (0, 3, 7, 6):
            yield calls(_fast(number, registers=(0x7B,) * 5, segments=segments))
            yield calls(_fast(number, segments=segments))
    for one in _FLAGS:
        for other in _FLAGS:
            flags = 0x202 | one | other
            even = flags & ~offsets["ODD_FLAGS"]
            yield Case(
                (_fast(3, flags=flags), Call(number=4, flags=flags), _fast(5, flags=0x202 | one), _fast(7, flags=even))
            )
    for before in ("irq", "irq16", "nmi", "switch"):
        for number in (3, 6, 7):
            met = (before,)
            yield Case((_fast(number), _fast(number, before=met), _fast(3), Call(number=1), _fast(3, before=met)))
    for sleeps in ("same", "other"):
        for number in (3, 5, 6):
            yield calls(_fast(number, sleeps=sleeps))
            yield calls(_fast(number, sleeps=sleeps, pending=4))
    yield calls(_fast(3, vdso=0))
    yield Case((_fast(3, vdso=0x110000), _fast(3, vdso=0x110000)))
    yield Case((_fast(3), Call(number=15), _fast(3, vdso=0), Call(number=15), _fast(3)))


def _random_call(rng: random.Random, offsets: dict[str, int]) -> Call:
    def value() -> int:
        return rng.choice(_NASTY) if rng.random() < 0.3 else rng.getrandbits(32)

    kind = rng.random()
    eax = MARK | rng.randrange(NR) if kind < 0.7 else rng.getrandbits(9) if kind < 0.85 else value()
    if MARK <= eax < MARK + NR and eax & 7 != 7 and rng.random() < 0.1:
        eax |= 7
    flags = 0x202 | rng.getrandbits(12) & 0x8D5 | (0x200000 if rng.random() < 0.3 else 0)
    if rng.random() < 0.15:
        flags |= rng.choice(_FLAGS) | rng.choice(_FLAGS)
    return Call(
        number=eax,
        registers=(value(), value(), value(), value(), value()),
        stack=rng.choice(_STACKS) if rng.random() < 0.5 else USER_STACK + rng.randrange(0x1FFC),
        flags=flags,
        segments=(rng.choice(_SEGMENTS), rng.choice(_SEGMENTS), rng.choice(_SEGMENTS), rng.choice(_SEGMENTS)),
        result=value(),
        work=1 << rng.randrange(7) if rng.random() < 0.08 else 0,
        pending=rng.choice(_bits(offsets["EXIT_WORK"])) if rng.random() < 0.15 else 0,
        tracing=rng.choice(_bits(offsets["EXIT_SYSCALL_WORK"])) if rng.random() < 0.1 else 0,
        sleeps=rng.choice(("", "", "", "same", "other")),
        guest=rng.random() < 0.1,
        before=(rng.choice(("irq", "irq16", "nmi", "switch")),) if rng.random() < 0.15 else (),
    )


def scattered(rng: random.Random, offsets: dict[str, int], count: int) -> Iterator[Case]:
    """Random callers, three calls each, with none to three events at random places."""
    kinds = ("nmi", "debug", "irq", "preempt", "work", "trace", "unmap", "ldt")
    return random_cases(rng, offsets, count, _random_call, kinds, ("", "smap"))


def events(offsets: dict[str, int]) -> tuple[Event, ...]:
    """The events injected at each boundary (step 0 stands for any)."""
    exit_bits = _bits(offsets["EXIT_SYSCALL_WORK"])
    return (
        Event(0, "nmi"),
        Event(0, "debug"),
        Event(0, "irq"),
        Event(0, "preempt", 0),
        Event(0, "preempt", 1),
        Event(0, "work", 8),
        Event(0, "work", 1 << 17),
        Event(0, "trace", exit_bits[0]),
        Event(0, "trace", 1),
        Event(0, "unmap"),
        Event(0, "ldt"),
    )


def with_interruptions() -> Iterator[Case]:
    """Calls that between them run every instruction; each gets every event everywhere."""
    follow = _fast(2, registers=(0x21, 0x22, 0x23, 0x24, 0x25), stack=USER_STACK + 0x200)
    yield Case((_fast(3), follow))
    yield Case((_fast(6), _fast(6, stack=USER_FRAGILE + 8), follow))
    yield Case((_fast(5, segments=(0x7B, 0x7B, _LDT, 0x33)), _fast(5, segments=(0x0F, 0x17, _LDT, 0)), follow))
    yield Case((_fast(3, pending=8), _fast(6, pending=4, stack=USER_FRAGILE + 8), follow))
    yield Case((_fast(7), _fast(7, segments=(0x7B, 0x7B, _LDT, 0x33)), follow))
    yield Case((_fast(5, segments=(0, 0, _LDT, 0x33)), _fast(7, segments=(0, 0, _LDT, 0x33)), follow))
    yield Case((_fast(3, work=1), follow))
    yield Case((_fast(3, flags=0x302), Call(number=3, flags=0x4302), follow))
    yield Case((_fast(6, stack=USER_ABSENT + 0x40), _fast(6, stack=USER_ABSENT + 0x40, pending=4), follow))
    yield Case((_fast(6, stack=0xFFFFFFFF), _fast(3, stack=0xFFFFFFFF, pending=2), follow))
    yield Case((_fast(3, stack=USER_FRAGILE + 0xFFE, pending=2), follow))
    yield Case((_fast(6, stack=0), _fast(3, stack=0, pending=2), follow))
    yield Case((_fast(3, sleeps="other"), _fast(3, sleeps="same", pending=8), follow))
    yield Case((_fast(3, guest=True), _fast(3, guest=True, stack=USER_FRAGILE + 8), follow))
    yield Case((_fast(3, vdso=0), follow))
    yield Case((_fast(3), _fast(3, before=("nmi",)), _fast(3, before=("irq16",))))


def paired() -> Iterator[Case]:
    """Two CPUs, a task on each, at the same time."""
    a = _fast(3, registers=(0xA1, 0xA2, 0xA3, 0xA4, 0xA5), stack=USER_STACK + 0x100, result=0xAA)
    b = _fast(6, registers=(0xB1, 0xB2, 0xB3, 0xB4, 0xB5), stack=USER_STACK + 0x900, result=0xBB)
    yield Case((a, a), others=(b, b))
    yield Case((replace(a, pending=8), a), others=(replace(a, stack=USER_STACK + 0x900), Call(number=3)))
    yield Case((_fast(7), a), others=(b, replace(b, pending=4)))
