# SPDX-License-Identifier: GPL-2.0-or-later
"""The callers of the stand-in for do_syscall_64(), and the events that happen to them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from sysenter.check.callers.amd64 import FLAGS, NASTY
from sysenter.check.case import CallAll, Case, Event
from sysenter.check.kernels.present import bits, random_cases
from sysenter.check.kernels.present_all import WAYS

__all__ = ["events", "lone_calls", "paired", "scattered", "with_interruptions"]

_TF, _RF = 0x100, 0x10000


def _call(number: int = 3, **more: object) -> CallAll:
    return replace(CallAll(number=number), **more)  # type: ignore[arg-type]


_OTHER = _call(
    2,
    registers=(0x21, 0x22, 0x23, 0x24, 0x25, 0x26),
    kept=(0x31, 0x32, 0x33, 0x34, 0x35, 0x36),
    stack=0x7FFC00002000,
    rip=0x555500002002,
)
# What exit work may leave: nothing, a handler's frame, a tracer's registers, each field that SYSRET looks at alone.
_CHANGES: tuple[tuple[tuple[str, int], ...], ...] = (
    (),
    (("RIP", 0x555500007000), ("RSP", 0x7FFC00000100), ("RDI", 10), ("RAX", 0)),
    (("RIP", 0x555500007000), ("RCX", 0x555500007000), ("RSP", 0x7FFC00000100)),
    (("RIP", 0x555500001028), ("RAX", 3)),
    (("RCX", 0x555500001028),),
    (("R11", 0x246),),
    (("EFLAGS", 0x246),),
    (("R11", 0x246), ("EFLAGS", 0x246)),
    (("R11", 0x302), ("EFLAGS", 0x302)),
    (("R11", 0x10202), ("EFLAGS", 0x10202)),
    (("RIP", 1 << 47), ("RCX", 1 << 47)),
    (("RIP", 1 << 63), ("RCX", 1 << 63)),
    (("RIP", 0x155550000102A), ("RCX", 0x155550000102A)),
    (("RCX", 0x15550000102A),),  # differ in the upper half alone
    (("R11", 1 << 40 | 0x202),),
    (("CS", 0x23),),
    (("SS", 0x2F),),
    (("SS", 0x23),),
)


def lone_calls(offsets: dict[str, int]) -> Iterator[Case]:
    """Each number, flag, pair of flags, address and kind of work once, and each end of the exit work."""
    last = offsets["NR_SYSCALLS"]

    def calls(*first: CallAll) -> Case:
        return Case((*first, _OTHER, *first))

    numbers = (
        *range(9),
        255,
        256,
        last - 2,
        last - 1,
        last,
        last + 1,
        510,
        511,
        512,
        513,
        1023,
        1 << 30 | 3,
        (1 << 31) - 1,
    )
    for number in (
        *numbers,
        1 << 31,
        1 << 31 | 3,
        (1 << 32) - 1,
        (1 << 32) | 3,
        (1 << 64) - 1,
        (1 << 64) - 509,
        1 << 63 | 3,
    ):
        yield calls(_call(number))
    for value in NASTY:
        yield calls(_call(3, rip=value))
        yield calls(_call(6, stack=value, registers=(value,) * 6, kept=(value,) * 6, result=value))
        yield calls(_call(3, stack=value, registers=(value,) * 6, kept=(value,) * 6, result=value, pending=8))
        yield calls(_call(7, stack=value, registers=(value,) * 6))
    for one in (*FLAGS, _RF):
        for other in (*FLAGS, _RF):
            yield calls(_call(3, flags=0x202 | one | other))
    for bit in range(32):
        yield calls(_call(3, work=1 << bit))
        yield calls(_call(7, work=1 << bit))
    for pending in bits(offsets["EXIT_WORK"]):
        for changes in _CHANGES:
            if pending in (4, 8) or not changes:
                yield calls(_call(3, pending=pending, changes=changes))
        yield calls(_call(3, pending=pending, unloads=True))
    for tracing in bits(offsets["EXIT_SYSCALL_WORK"]):
        yield calls(_call(3, tracing=tracing))
        yield calls(_call(3, tracing=tracing, pending=4, unloads=True))
    for sleeps in ("same", "other"):
        for number in (3, 5, 6):
            yield calls(_call(number, sleeps=sleeps))
            yield calls(_call(number, sleeps=sleeps, pending=4, changes=_CHANGES[1]))
    for before in ("irq", "nmi", "switch"):
        yield calls(_call(3, before=(before,)), _call(7, before=(before,)))
    for guest in (_call(3, guest=True), _call(3, guest=True, pending=8), _call(3, guest=True, sleeps="other")):
        yield calls(guest)
    yield calls(_call(3, unwound=True))
    yield calls(_call(3, unwound=True, pending=8, changes=_CHANGES[1]))


def _random_call(rng: random.Random, offsets: dict[str, int]) -> CallAll:
    def value() -> int:
        return rng.choice(NASTY) if rng.random() < 0.3 else rng.getrandbits(64)

    flags = 0x202 | rng.getrandbits(12) & 0x8D5
    if rng.random() < 0.15:
        flags |= rng.choice((*FLAGS, _RF))
    return CallAll(
        number=rng.randrange(offsets["NR_SYSCALLS"] + 4) if rng.random() < 0.9 else value(),
        registers=tuple(value() for _ in range(6)),
        kept=tuple(value() for _ in range(6)),
        stack=value(),
        rip=value() if rng.random() < 0.1 else rng.getrandbits(47),
        flags=flags,
        result=value(),
        work=1 << rng.randrange(7) if rng.random() < 0.08 else 0,
        pending=rng.choice(bits(offsets["EXIT_WORK"])) if rng.random() < 0.25 else 0,
        tracing=rng.choice(bits(offsets["EXIT_SYSCALL_WORK"])) if rng.random() < 0.08 else 0,
        sleeps=rng.choice(("", "", "", "same", "other")),
        before=(rng.choice(("irq", "nmi", "switch")),) if rng.random() < 0.1 else (),
        guest=rng.random() < 0.1,
        unwound=rng.random() < 0.1,
        changes=rng.choice(_CHANGES),
        unloads=rng.random() < 0.1,
    )


def scattered(rng: random.Random, offsets: dict[str, int], count: int) -> Iterator[Case]:
    """Random callers, three calls each, with none to three events at random places."""
    return random_cases(rng, offsets, count, _random_call, ("nmi", "irq", "preempt", "work", "trace"), tuple(WAYS))


def events(offsets: dict[str, int]) -> tuple[Event, ...]:
    """The events injected at each boundary (step 0 stands for any)."""
    return (
        Event(0, "nmi"),
        Event(0, "irq"),
        Event(0, "preempt", 0),
        Event(0, "preempt", 1),
        Event(0, "work", 8),
        Event(0, "work", 1 << 1),
        Event(0, "trace", 1),
    )


def with_interruptions() -> Iterator[Case]:
    """Calls that between them run every instruction; each gets every event everywhere."""
    yield Case((_call(3), _OTHER))
    yield Case((_call(3, pending=8, changes=_CHANGES[1]), _call(6, pending=4), _OTHER))
    yield Case((_call(7), _call(3, work=1), _call(3, rip=1 << 47), _call(3, flags=0x302), _OTHER))
    yield Case((_call(3, sleeps="other"), _call(3, sleeps="same", pending=8, guest=True), _OTHER))
    yield Case((_call(3, tracing=1), _call(3, pending=8, unloads=True), _OTHER))
    yield Case((_call(3), _call(3, before=("nmi",)), _call(3, before=("switch",))))


def paired() -> Iterator[Case]:
    """Two CPUs, a task on each, at the same time."""
    a = _call(3, registers=(0xA1, 0xA2, 0xA3, 0xA4, 0xA5, 0xA6), result=0xAA, kept=(0xA7,) * 6)
    b = _call(6, registers=(0xB1, 0xB2, 0xB3, 0xB4, 0xB5, 0xB6), result=0xBB, stack=0x7FFC00003000, rip=0x555500003002)
    yield Case((a, a), others=(b, b))
    yield Case(
        (replace(a, pending=8), a), others=(replace(a, rip=0x555500004002), _call(7)), variant="divider, vmscape"
    )
