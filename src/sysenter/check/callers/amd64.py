# SPDX-License-Identifier: GPL-2.0-or-later
"""The callers of the present amd64 entry, and the events that happen to them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from sysenter.check.case import Call64, Case, Event
from sysenter.check.kernels.present import NR, again, random_cases
from sysenter.check.kernels.present import bits as _bits
from sysenter.check.kernels.present_amd64 import MARK, USER_DS, VARIANTS

__all__ = ["FLAGS", "NASTY", "events", "lone_calls", "paired", "scattered", "with_interruptions"]

_LAST = (1 << 64) - 1
# What a hostile caller puts into a register: limits, signs, what is not canonical,
# the kernel's own addresses (stack, text, per-CPU data, entry stack).
NASTY = (
    0,
    1,
    _LAST,
    1 << 63,
    (1 << 63) - 1,
    1 << 47,
    (1 << 47) - 1,
    0xFFFF800000000000,
    0xFFFFC90000103FF0,
    0xFFFFFFFFC0A01000,
    0xFFFF888100001018,
    0xFFFFFE0000002FF8,
    0xFFFFFFFF,
    0x80000000,
    0x5359002B,
    0x202,
)
_NUMBERS = (*range(9), 255, 256, NR - 2, NR - 1)
_UNMARKED = (
    0,
    3,
    511,
    512,
    0x40000003,
    0x80000003,
    0xFFFFFFFF,
    0xFFFFFE00,
    MARK - 1,
    MARK ^ (1 << 63),
    1 << 63,
    1 << 40 | 3,
)
# CF PF AF ZF SF, TF, DF, OF, IOPL, NT, AC, ID
FLAGS = (1, 4, 0x10, 0x40, 0x80, 0x100, 0x400, 0x800, 0x1000, 0x2000, 0x3000, 0x4000, 0x40000, 0x200000)
_SEGMENTS = (0, 3, 0x2B, 0x33, 0x23, 0x63, 0x07, 0x0F)


def _fast(number: int = 3, **more: object) -> Call64:
    return replace(Call64(number=MARK + number), **more)  # type: ignore[arg-type]


_FOLLOW = _fast(
    2,
    registers=(0x21, 0x22, 0x23, 0x24, 0x25, 0x26),
    kept=(0x31, 0x32, 0x33, 0x34, 0x35, 0x36),
    stack=0x7FFC00002000,
    rip=0x555500002002,
)

_HIGH = 0x1234567800000000
_OTHER = _fast(
    registers=tuple(_HIGH + n for n in range(0x41, 0x47)),
    kept=tuple(_HIGH + n for n in range(0x51, 0x57)),
    stack=0x7FFC00003000,
    rip=0x555500003002,
)


def lone_calls(offsets: dict[str, int]) -> Iterator[Case]:
    """Each number, flag, pair of flags, address and kind of work once.

    Always twice in a row, with other values, then a stock call, and a fast one again: the first
    builds the frame, the second relies on it, the third destroys it.
    """

    def calls(*first: Call64) -> Case:
        return Case((*first, again(first[-1], _OTHER), _FOLLOW, Call64(number=20), _fast(6)))

    for number in _NUMBERS:
        yield calls(_fast(number))
    for rax in _UNMARKED:
        yield calls(Call64(number=rax))
    for value in NASTY:
        yield calls(_fast(3, rip=value))
        yield calls(_fast(6, stack=value, registers=(value,) * 6, kept=(value,) * 6))
        yield calls(_fast(7, stack=value, pending=8))
        yield calls(_fast(3, stack=value, pending=8, result=value))
        yield calls(Call64(number=3, rip=value, stack=value, registers=(value,) * 6))
    # the slow ways, over a frame that stands and has other values
    for slow in (
        _fast(7),
        _fast(NR - 1),
        _fast(NR - 5, work=1),
        _fast(3, pending=8),
        _fast(5, pending=8),
        _fast(NR - 2, pending=8),
    ):
        yield Case((_OTHER, slow, _OTHER))
        yield Case((_fast(3), again(slow, _OTHER), _fast(3)))
    # syscall work that looks like the user's ss, without a valid frame; and a wrong place that looks like a frame
    for work in (USER_DS, USER_DS ^ 1):
        for number in (3, 5, 7):
            yield Case((Call64(number=20), _fast(number, work=work), _fast(3)))
    expected = (offsets["FRAME_SS"],) * 6
    for number in (3, 5, 7):
        yield Case(
            (Call64(number=20), _fast(number, work=8, registers=expected, kept=expected), _fast(3, kept=expected))
        )
    for bit in _bits(offsets["EXIT_WORK"]):
        yield calls(_fast(3, pending=bit))
        yield calls(_fast(5, pending=bit, sleeps="other"))
    yield calls(_fast(3, pending=8, guest=True))
    yield calls(_fast(3, guest=True))
    for bit in _bits(offsets["EXIT_SYSCALL_WORK"]):
        yield calls(_fast(3, tracing=bit))
        yield calls(_fast(6, tracing=bit, sleeps="other", pending=8))
    for bit in range(32):
        yield calls(_fast(3, work=1 << bit))
    for place in range(4):
        for segment in _SEGMENTS:
            chosen = [0, 0, 0, 0]
            chosen[place] = segment
            yield calls(_fast(3, segments=tuple(chosen)))
    for one in FLAGS:
        for other in FLAGS:
            flags = 0x202 | one | other
            yield Case(
                (_fast(3, flags=flags), Call64(number=4, flags=flags), _fast(5, flags=flags & ~0x247700), _FOLLOW)
            )
    for before in ("irq", "nmi", "switch"):
        for number in (3, 6, 7):
            met = (before,)
            yield Case((_fast(number), _fast(number, before=met), _FOLLOW, Call64(number=1), _fast(3, before=met)))
    for sleeps in ("same", "other"):
        for number in (3, 5, 6):
            yield calls(_fast(number, sleeps=sleeps))
            yield calls(_fast(number, sleeps=sleeps, pending=4))
            yield calls(_fast(number, sleeps=sleeps, flush=True))
    yield calls(_fast(3, flush=True))
    yield calls(_fast(7, flush=True))
    for number in (3, 6, 7):
        yield calls(_fast(number, unmaps=True))
        yield calls(_fast(number, unmaps=True, sleeps="other"))
        yield calls(_fast(number, unmaps=True, pending=8))
    yield calls(_fast(3, unwound=True))


def _random_call(rng: random.Random, offsets: dict[str, int]) -> Call64:
    def value() -> int:
        return rng.choice(NASTY) if rng.random() < 0.3 else rng.getrandbits(64)

    kind = rng.random()
    rax = MARK + rng.randrange(NR) if kind < 0.75 else rng.getrandbits(32) if kind < 0.85 else value()
    flags = 0x202 | rng.getrandbits(12) & 0x8D5
    if rng.random() < 0.15:
        flags |= rng.choice(FLAGS) | rng.choice(FLAGS)
    return Call64(
        number=rax,
        registers=tuple(value() for _ in range(6)),
        kept=tuple(value() for _ in range(6)),
        stack=value(),
        rip=value() if rng.random() < 0.2 else rng.getrandbits(47),
        flags=flags,
        segments=tuple(rng.choice(_SEGMENTS) for _ in range(4)),
        result=value(),
        work=1 << rng.randrange(7) if rng.random() < 0.08 else 0,
        pending=rng.choice(_bits(offsets["EXIT_WORK"])) if rng.random() < 0.15 else 0,
        tracing=rng.choice(_bits(offsets["EXIT_SYSCALL_WORK"])) if rng.random() < 0.08 else 0,
        sleeps=rng.choice(("", "", "", "same", "other")),
        before=(rng.choice(("irq", "nmi", "switch")),) if rng.random() < 0.15 else (),
        flush=rng.random() < 0.1,
        guest=rng.random() < 0.1,
        unwound=rng.random() < 0.1,
        unmaps=rng.random() < 0.1,
    )


def scattered(rng: random.Random, offsets: dict[str, int], count: int) -> Iterator[Case]:
    """Random callers, three calls each, with none to three events at random places."""
    kinds = ("nmi", "irq", "preempt", "work", "trace", "shootdown")
    return random_cases(rng, offsets, count, _random_call, kinds, tuple(VARIANTS))


def events(offsets: dict[str, int]) -> tuple[Event, ...]:
    """The events injected at each boundary (step 0 stands for any)."""
    return (
        Event(0, "nmi"),
        Event(0, "debug"),
        Event(0, "irq"),
        Event(0, "preempt", 0),
        Event(0, "preempt", 1),
        Event(0, "work", 8),
        Event(0, "work", 1 << 1),
        Event(0, "trace", 1),
        Event(0, "shootdown"),
    )


def with_interruptions() -> Iterator[Case]:
    """Calls that between them run every instruction; each gets every event everywhere."""
    yield Case((_fast(3, flush=True), _FOLLOW))
    yield Case((_fast(6), _fast(6, flags=0xAD7), _FOLLOW))
    yield Case((_fast(3, pending=8), _fast(6, pending=4), _FOLLOW))
    yield Case((_fast(7), _FOLLOW))
    yield Case((_fast(3, work=1), _fast(3, rip=1 << 47), _FOLLOW))
    yield Case((_fast(3, flags=0x302), Call64(number=3, flags=0x4302), _fast(3, flags=0x602, stack=NASTY[9]), _FOLLOW))
    yield Case((_fast(3, sleeps="other", flush=True), _fast(3, sleeps="same", pending=8, guest=True), _FOLLOW))
    yield Case((_fast(3), _fast(3, before=("nmi",)), _fast(3, before=("switch",))))


def paired() -> Iterator[Case]:
    """Two CPUs, a task on each, at the same time."""
    a = _fast(3, registers=(0xA1, 0xA2, 0xA3, 0xA4, 0xA5, 0xA6), result=0xAA, kept=(0xA7,) * 6)
    b = _fast(6, registers=(0xB1, 0xB2, 0xB3, 0xB4, 0xB5, 0xB6), result=0xBB, stack=0x7FFC00003000, rip=0x555500003002)
    yield Case((a, a), others=(b, b))
    yield Case(
        (replace(a, pending=8), a), others=(replace(a, rip=0x555500004002), Call64(number=3)), variant="mitigated"
    )
    yield Case((_fast(7), a), others=(b, replace(b, pending=4)), variant="pti, pcid, mitigated")
