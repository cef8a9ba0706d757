# SPDX-License-Identifier: GPL-2.0-or-later
"""Tells the course of a failure, step by step, for people."""

from __future__ import annotations

from collections.abc import Iterator

from sysenter.check.case import Call, Case
from sysenter.check.kernels.base import Kernel, Tick
from sysenter.check.properties import PROPERTIES
from sysenter.check.search.explore import Failure

__all__ = ["tell"]

_SHOWN = 14  # instructions before the end that are told one by one


def _caller(kernel: Kernel, task: int, call: Call) -> str:
    return f"Task {task} executes {kernel.enters} with {call.words(kernel.plain)}."


def _names_memory(kernel: Kernel, tick: Tick) -> bool:
    """Does the instruction touch memory at a fixed address? Then other CPUs may."""
    ins = kernel.program.instruction(tick.eip)
    return ins is not None and any(a.base < 0 and a.index < 0 and a.segment not in ("fs", "gs") for a in ins.accesses)


def _line(kernel: Kernel, tick: Tick, many: bool) -> str:
    who = f"CPU {tick.cpu}, task {tick.task}: " if many else ""
    if tick.words:
        return f"    {who}-- {tick.words}"
    ins = kernel.program.instruction(tick.eip)
    text = kernel.program.told(ins) if ins else "?"
    return f"    {who}{kernel.program.where(tick.eip):<22} {text}"


def _course(kernel: Kernel, case: Case, ticks: tuple[Tick, ...]) -> Iterator[str]:
    """The ticks in order; the uneventful beginning of each call in one line."""
    many = bool(case.others)
    calls = {0: iter(case.calls), 1: iter(case.others), 2: iter(())}
    told = len(ticks) - _SHOWN
    quiet: list[Tick] = []

    def hush() -> Iterator[str]:
        if quiet:
            first, last = (kernel.program.where(t.eip) for t in (quiet[0], quiet[-1]))
            who = f"CPU {quiet[0].cpu}, task {quiet[0].task}: " if many else ""
            yield f"    {who}{len(quiet)} instructions, {first} to {last}"
            quiet.clear()

    for number, tick in enumerate(ticks):
        if tick.words == kernel.enters:
            yield from hush()
            call = next(calls[tick.task], None)
            if call:
                yield "  " + _caller(kernel, tick.task, call)
        elif tick.words or number >= told or (many and _names_memory(kernel, tick)):
            yield from hush()
            yield _line(kernel, tick, many)
        else:
            if quiet and (quiet[0].task, quiet[0].cpu) != (tick.task, tick.cpu):
                yield from hush()
            quiet.append(tick)
    yield from hush()


def tell(kernel: Kernel, failure: Failure) -> str:
    """Lines: what should hold, the course of events, and what was found instead."""
    broken = PROPERTIES[failure.key]
    lines = [
        f"{failure.handler} breaks this rule: {broken.says}.",
        f"  Its reason: {broken.reason} ({broken.source}).",
    ]
    if failure.case.variant:
        lines.append(f"  Variant {failure.case.variant!r}.")
    lines += _course(kernel, failure.case, failure.ticks)
    if not failure.ticks:  # on a path that is never taken there is no course to tell
        lines += ["  " + _caller(kernel, 0, call) for call in failure.case.calls]
    lines.append(f"  Then: {failure.state}.")
    return "\n".join(lines)
