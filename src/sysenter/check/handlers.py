# SPDX-License-Identifier: GPL-2.0-or-later
"""The handlers that can be checked: a description each.

A description says which kernel model stands around the handler, who comes to it
and what may happen. The jobs into which the work is cut follow from it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from sysenter.check import callers_amd64, callers_i386, legacy, static
from sysenter.check.case import Case, Event
from sysenter.check.explore import Failure, Tally, interleave, interrupt_everywhere, mispredict, run
from sysenter.check.machine import Kernel
from sysenter.check.objectfile import EntryObject, parse_offsets
from sysenter.check.present_amd64 import VARIANTS, PresentAmd64
from sysenter.check.present_i386 import PresentI386
from sysenter.errors import SysenterError

__all__ = ["HANDLERS", "Handler", "Job", "Subject", "handler_named", "jobs", "lean_jobs", "perform"]

_Offsets = dict[str, int]


@dataclass(frozen=True)
class Handler:
    """One entry path.

    kernel: builds the model around an object, for one of variants: of the
    processor, the alternatives patched in, or the way in. lone: cases run as they are;
    scattered: random ones; interrupted: each gets every event everywhere, the
    first two of the longer menu; paired: two CPUs. retpolines: indirect
    branches are forbidden. must_fail: the property that this handler is known
    to break, "" for a sound one. headers: the folder of recorded constants that it
    is assembled with, "" if a kernel's build makes its object. roots: symbols
    where it begins, if its section holds other handlers too.
    """

    name: str
    says: str
    section: str
    kernel: Callable[[EntryObject, _Offsets, str], Kernel]
    lone: Callable[[_Offsets], Iterable[Case]]
    scattered: Callable[[random.Random, _Offsets, int], Iterator[Case]]
    interrupted: Callable[[], Iterable[Case]]
    paired: Callable[[], Iterable[Case]]
    events: Callable[[_Offsets], tuple[Event, ...]]
    variants: tuple[str, ...] = ("",)
    retpolines: bool = True
    must_fail: str = ""
    headers: str = ""
    roots: tuple[str, ...] = ()


@dataclass(frozen=True)
class Subject:
    """A handler and the files that a build made of it."""

    handler: str
    object: Path
    offsets: Path

    def load(self) -> tuple[EntryObject, _Offsets]:
        return EntryObject.load(self.object), parse_offsets(self.offsets)


@dataclass(frozen=True)
class Job:
    """A part of the work, small enough to share it out evenly.

    part: what is done; index: which case or slice; seed: of random ones.
    """

    part: str
    index: int = 0
    variant: str = ""
    seed: int = 0


def _legacy(way: str, says: str, must_fail: str = "") -> Handler:
    return Handler(
        f"legacy-{way}", says, ".text", lambda entry, offsets, _: legacy.Legacy(entry, offsets, way),
        legacy.lone_calls, legacy.scattered, legacy.interrupted, legacy.paired, legacy.events,
        retpolines=False, must_fail=must_fail,
        roots=(f"sysenter_entry_{way}", f"sysenter_trapped_{way}", "sysenter_debug", "sysenter_nmi"),
        headers="linux-2.4.22" if way == "tss" else "linux-2.2.26",
    )  # fmt: skip


HANDLERS: dict[str, Handler] = {
    h.name: h
    for h in (
        Handler(
            "present-i386", "Linux 6.x, i386, beside the vDSO's entry", ".text.sysenter", PresentI386,
            callers_i386.lone_calls, callers_i386.scattered, callers_i386.with_interruptions, callers_i386.paired, callers_i386.events,
            variants=("", "smap"),
            roots=("sysenter_entry", "sysenter_call_slow", "sysenter_call_args5", "sysenter_call_args6"),
        ),
        Handler(
            "present-amd64", "Linux 6.x and 7.x, amd64, beside the 32-bit vDSO's entry", ".kprobes.text", PresentAmd64,
            callers_amd64.lone_calls, callers_amd64.scattered, callers_amd64.with_interruptions, callers_amd64.paired,
            callers_amd64.events, variants=tuple(VARIANTS),
            roots=(*(where for where, _ in VARIANTS.values()), "sysenter_call_slow", "sysenter_call_args5",
                   "sysenter_call_args6"),
        ),
        _legacy("tss", "Linux 2.4: SYSENTER_ESP in the TSS"),
        _legacy("cruel", "Linux 2.2, __switch_to replaced"),
        _legacy("gentle", "Linux 2.2, a slot for each CPU"),
        _legacy("global", "Linux 2.2, the seed's global variable", must_fail="number"),
    )
}  # fmt: skip

_SLICES, _RANDOM_SLICES, _RANDOM_EACH = 2, 4, 500


def handler_named(name: str) -> Handler:
    """Raises SysenterError with the names there are."""
    if name not in HANDLERS:
        raise SysenterError(f"{name}: no such handler", hint="one of " + ", ".join(HANDLERS))
    return HANDLERS[name]


def jobs(handler: Handler, seed: int) -> list[Job]:
    """The whole check of a handler, the parts that find most first."""
    cut = [Job("static"), *(Job("lone", s, v) for v in handler.variants for s in range(_SLICES))]
    cases = list(handler.interrupted())
    cut += [Job("interrupted", i, v) for i in range(len(cases)) for v in handler.variants]
    cut += [Job("paired", i) for i in range(len(list(handler.paired())))]
    cut += [Job("mispredicted", 0, v) for v in handler.variants if handler.retpolines]
    cut += [Job("scattered", s, seed=seed) for s in range(_RANDOM_SLICES)]
    return cut


def lean_jobs(handler: Handler, seed: int) -> list[Job]:
    """A third of the work with nearly all of its power: for mutants, of which the
    harmless ones have to go through all of it."""
    cut = [Job("static"), *(Job("lone", s, v) for v in handler.variants for s in range(_SLICES))]
    both = handler.variants
    cut += [Job("interrupted", i, both[i % len(both)]) for i in range(len(list(handler.interrupted())))]
    cut += [Job("mispredicted")] if handler.retpolines else []
    return [*cut, Job("scattered", 0, seed=seed), Job("coarsely paired")]


def _each(kernel: Kernel, cases: Iterable[Case], stop: bool) -> Tally:
    tally = Tally()
    for case in cases:
        tally.cases += 1
        tally.events += len(case.events)
        failure = run(kernel, case)
        if failure:
            tally.failures.append(failure)
            if stop:
                break
    return tally


def perform(handler: Handler, kernels: dict[str, Kernel], offsets: _Offsets, job: Job, stop: bool = False) -> Tally:
    """Do one job. stop: at the first failure."""
    kernel = kernels[job.variant]
    if job.part == "static":
        wrong = static.indirect_branches(kernels[""].program) if handler.retpolines else ()
        return Tally(1, 0, [Failure(handler.name, Case(()), "indirect", w) for w in wrong])
    if job.part == "lone":
        chosen = list(handler.lone(offsets))[job.index :: _SLICES]
        return _each(kernel, [replace(c, variant=job.variant) for c in chosen], stop)
    if job.part == "interrupted":
        case = list(handler.interrupted())[job.index]
        menu = handler.events(offsets)
        if job.index >= 2:
            menu = tuple({(e.kind, e.value if e.kind == "preempt" else 0): e for e in reversed(menu)}.values())
        return interrupt_everywhere(kernel, replace(case, variant=job.variant), menu, stop)
    if job.part.endswith("paired"):
        case = list(handler.paired())[job.index]
        return interleave(kernels[case.variant], case, 5 if job.part == "paired" else 20, stop)
    if job.part == "mispredicted":
        tally = Tally()
        for case in list(handler.lone(offsets))[:: 5 if job.variant else 3]:
            tally.add(mispredict(kernel, replace(case, variant=job.variant)))
            if tally.failures and stop:
                break
        return tally
    rng = random.Random(f"{job.seed}.{job.index}")
    tally = Tally()
    for case in handler.scattered(rng, offsets, _RANDOM_EACH):
        tally.add(_each(kernels[case.variant], (case,), stop))
        if tally.failures and stop:
            break
    return tally
