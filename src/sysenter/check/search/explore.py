# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs cases on a modelled kernel, and injects every event at every boundary.

A case is run once without events, and the state at each boundary is saved. From each
saved state every event that the processor would allow there is injected, and the run
goes on to the end. Two short cuts leave no case out: a run that rejoins a visited
state is not continued, and an event that commutes with the instruction before it has
been tried at the boundary before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace

from sysenter.check.case import Call, Case, Event
from sysenter.check.cpu.processor import IF, Fault
from sysenter.check.kernels.base import Kernel, Saved, Tick
from sysenter.check.properties import Broken

__all__ = ["Failure", "Tally", "interrupt_everywhere", "mispredict", "run", "shrink"]


@dataclass(frozen=True)
class Failure:
    """A case that broke a property."""

    handler: str
    case: Case
    """What was tried."""
    key: str
    """The property's."""
    state: str
    """What was found instead."""
    ticks: tuple[Tick, ...] = ()
    """How it went."""


@dataclass
class Tally:
    """What was run, and what failed."""

    cases: int = 0
    """Runs from SYSENTER to the end."""
    events: int = 0
    """Those injected in them."""
    failures: list[Failure] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        self.cases += other.cases
        self.events += other.events
        self.failures += other.failures


def _strike(kernel: Kernel, events: dict[tuple[int, int, int], list[Event]], task_number: int) -> None:
    task = kernel.tasks[task_number]
    for event in events.get((task_number, task.index, task.steps), ()):
        cpu = kernel.cpus[task.cpu]
        if task.active and kernel.allowed(task, cpu, event):
            kernel.happen(task, cpu, event)


def _play(kernel: Kernel, case: Case) -> None:
    """Run `case` from its beginning. Raises Broken."""
    kernel.begin(case)
    events: dict[tuple[int, int, int], list[Event]] = {}
    for event in case.events:
        events.setdefault((event.task, event.call, event.step), []).append(event)
    turns = list(case.turns)
    who = 0
    left = turns.pop(0) if turns else -1
    while True:
        task = kernel.tasks[who]
        if (task.index >= len(task.calls) and not task.active) or left == 0:
            other = kernel.tasks[1 - who]
            if other.index < len(other.calls):
                who, left = 1 - who, turns.pop(0) if turns else -1
                continue
            if task.index >= len(task.calls):
                kernel.end()
                return
            left = -1
        if task.active:
            _strike(kernel, events, who)
        kernel.tick(kernel.tasks[who])
        left -= 1


def run(kernel: Kernel, case: Case, tell: bool = False) -> Failure | None:
    """Run one case. With `tell`, the failure carries its whole course."""
    kernel.trace = [] if tell else None
    try:
        _play(kernel, case)
    except Broken as broken:
        return Failure(kernel.name, case, broken.property.key, broken.state, tuple(kernel.trace or ()))
    finally:
        kernel.trace = None
    return None


class _Ends:
    """States from which the end of the case is known to be good.

    at: by call and EIP, those of the undisturbed run. starts: by call, those between
    two calls; much of what happens in one call is over by the next.
    """

    def __init__(self) -> None:
        self.at: dict[tuple[int, int], Saved] = {}
        self.starts: dict[int, list[Saved]] = {}

    def know(self, kernel: Kernel) -> bool:
        """Is this one of those between two calls?"""
        return any(kernel.same(saved) for saved in self.starts.get(kernel.tasks[0].index, ()))


def _finish(kernel: Kernel, known: _Ends) -> None:
    """Run to the end, or to a state from which `known` has seen the end."""
    task = kernel.tasks[0]
    ticks = 0
    passed: list[tuple[int, Saved]] = []
    while task.index < len(task.calls):
        if not task.active and ticks:
            if known.know(kernel):
                break
            passed.append((task.index, kernel.save()))
        kernel.tick(task)
        ticks += 1
        if task.active and (ticks < 6 or task.steps < 4):
            saved = known.at.get((task.index, kernel.cpus[task.cpu].eip))
            if saved is not None and kernel.same(saved):
                break
    for index, state in passed:
        known.starts.setdefault(index, []).append(state)


def interrupt_everywhere(kernel: Kernel, case: Case, menu: tuple[Event, ...], stop: bool) -> Tally:
    """Every event of `menu` at every boundary of `case`. stop: at the first failure."""
    tally = Tally()
    saved: list[tuple[int, int, bool, Saved]] = []
    known = _Ends()
    kernel.begin(case)
    commutes = False
    try:
        while kernel.tasks[0].index < len(case.calls):
            task = kernel.tasks[0]
            cpu = kernel.cpus[task.cpu]
            if task.active:
                state = kernel.save()
                saved.append((task.index, task.steps, commutes, state))
                known.at[task.index, cpu.eip] = state
            ins = kernel.program.instruction(cpu.eip) if task.active else None
            off = not cpu.flags & IF
            kernel.looked = False
            kernel.tick(task)
            commutes = bool(
                ins and off and not kernel.cpus[task.cpu].flags & IF and not kernel.looked and not ins.segment
            )
    except Broken as broken:
        tally.failures.append(Failure(kernel.name, case, broken.property.key, broken.state))
        return tally
    tally.cases += 1
    for index, steps, commutes, state in saved:
        for event in menu:
            if commutes and event.kind in kernel.remote:
                continue  # the same as one boundary before
            kernel.restore(state)
            task = kernel.tasks[0]
            cpu = kernel.cpus[task.cpu]
            if not kernel.allowed(task, cpu, event):
                continue
            tally.events += 1
            tally.cases += 1
            try:
                kernel.happen(task, cpu, event)
                _finish(kernel, known)
            except Broken as broken:
                struck = replace(case, events=(replace(event, call=index, step=steps),))
                tally.failures.append(Failure(kernel.name, struck, broken.property.key, broken.state))
                if stop:
                    return tally
    return tally


def mispredict(kernel: Kernel, case: Case) -> Tally:
    """At each conditional branch of `case` go the wrong way for some instructions.

    Everything architectural is rolled back, so only addresses count (Spectre
    variant 1): none may be outside the objects that the handler knows.
    """
    tally = Tally()
    kernel.begin(case)
    try:
        while kernel.tasks[0].index < len(case.calls):
            task = kernel.tasks[0]
            cpu = kernel.cpus[task.cpu]
            ins = kernel.program.instruction(cpu.eip) if task.active else None
            if ins is not None and ins.kind == "jcc":
                state = kernel.save()
                tally.cases += 1
                cpu.eip = ins.address + ins.size if kernel.processor.taken(cpu, ins.condition) else ins.target
                wild = _wrong_path(kernel, kernel.speculates)
                if wild:
                    words = f"{ins.text!r} at {kernel.program.where(ins.address)} mispredicted: {wild}"
                    until = replace(case, calls=case.calls[: task.index + 1])
                    tally.failures.append(Failure(kernel.name, until, "speculation", words))
                kernel.restore(state)
            kernel.tick(kernel.tasks[0])
    except Broken as broken:
        tally.failures.append(Failure(kernel.name, case, broken.property.key, broken.state))
    return tally


def _wrong_path(kernel: Kernel, depth: int) -> str:
    cpu = kernel.cpus[kernel.tasks[0].cpu]
    called: list[int] = []  # the return predictor: a retpoline's RET goes into its loop
    for _ in range(depth):
        if kernel.covered is not None:
            kernel.covered.add(cpu.eip)
        ins = kernel.program.instruction(cpu.eip)
        if ins is None:
            return kernel.runs_astray(cpu)
        if ins.kind in ("lfence", "sysexit", "sysret", "sysretq", "iretd"):
            return ""
        for access in ins.accesses:
            linear = kernel.processor.linear(cpu, access)
            if (access.read or access.write) and kernel.strays(cpu, access, linear):
                return f"{ins.text!r} reads {linear:#x}"
        try:
            kernel.processor.step(cpu, ins)
        except (Broken, Fault, KeyError):
            return ""
        if ins.kind == "call":
            called.append(ins.address + ins.size)
        elif ins.kind == "ret" and called:
            cpu.eip = called.pop()
    return ""


def _simpler(case: Case, plain: Call) -> Iterator[Case]:
    if case.events:
        for i in range(len(case.events)):
            yield replace(case, events=case.events[:i] + case.events[i + 1 :])
    for i in range(len(case.calls)):
        if len(case.calls) > 1 or case.others:
            events = tuple(replace(e, call=e.call - (e.call > i)) for e in case.events if e.task or e.call != i)
            yield replace(case, calls=case.calls[:i] + case.calls[i + 1 :], events=events)
    if len(case.others) > 1:
        yield replace(case, others=case.others[:1])
        yield replace(case, others=case.others[1:])
    if len(case.turns) > 1:
        yield replace(case, turns=case.turns[:-1])
    for i, call in enumerate(case.calls):
        for simple in _simpler_call(call, plain):
            yield replace(case, calls=(*case.calls[:i], simple, *case.calls[i + 1 :]))
    for i, call in enumerate(case.others):
        for simple in _simpler_call(call, replace(plain, registers=call.registers)):  # whose values are whose
            yield replace(case, others=(*case.others[:i], simple, *case.others[i + 1 :]))
    if case.variant:
        yield replace(case, variant="")


def _simpler_call(call: Call, plain: Call) -> Iterator[Call]:
    for part in fields(call):
        usual = getattr(plain, part.name)
        if part.name not in ("number", "vdso", "vm86") and getattr(call, part.name) != usual:
            yield replace(call, **{part.name: usual})
    if call.number >= call.FAST - 3 and call.number != call.FAST:
        yield replace(call, number=call.FAST)


def shrink(kernel_of: Callable[[str], Kernel], failure: Failure, limit: int = 400) -> Failure:
    """The simplest case that still breaks the same property, with its course."""
    best = run(kernel_of(failure.case.variant), failure.case, tell=True)
    if best is None or best.key != failure.key:
        return failure  # found on a wrong path: there is no simpler course to tell
    tried = 0
    progress = True
    while progress and tried < limit:
        progress = False
        for case in _simpler(best.case, kernel_of(best.case.variant).plain):
            tried += 1
            found = run(kernel_of(case.variant), case, tell=True)
            if found and found.key == best.key and len(found.ticks) <= len(best.ticks):
                best, progress = found, True
                break
    return best
