# SPDX-License-Identifier: GPL-2.0-or-later
"""The handlers that can be checked: a description each.

A description says which kernel model stands around the handler, who comes to it
and what may happen. The jobs into which the work is cut follow from it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path

from sysenter.check.callers import all_amd64 as callers_all
from sysenter.check.callers import amd64 as callers_amd64
from sysenter.check.callers import i386 as callers_i386
from sysenter.check.case import Call, Case, Event
from sysenter.check.code import static
from sysenter.check.code.objectfile import EntryObject, parse_offsets
from sysenter.check.kernels import legacy, legacy_syscall, present_pti, present_syscall
from sysenter.check.kernels.base import Kernel
from sysenter.check.kernels.present_all import WAYS, PresentAll
from sysenter.check.kernels.present_amd64 import VARIANTS, PresentAmd64
from sysenter.check.kernels.present_i386 import VARIANTS as VARIANTS_I386
from sysenter.check.kernels.present_i386 import PresentI386
from sysenter.check.search.explore import Failure, Tally, interrupt_everywhere, mispredict, run
from sysenter.check.search.interleave import interleave
from sysenter.errors import SysenterError

__all__ = ["HANDLERS", "Bench", "Handler", "Job", "Subject", "handler_named", "jobs", "lean_jobs"]

_Offsets = dict[str, int]


@dataclass(frozen=True)
class Handler:
    """One entry path."""

    name: str
    says: str
    """What it is, in a person's words."""
    section: str
    """Of the object, with its text."""
    kernel: Callable[[EntryObject, _Offsets, str], Kernel]
    """Builds the model around an object, for one of `variants`."""
    lone: Callable[[_Offsets], Iterable[Case]]
    """Cases that run as they are."""
    scattered: Callable[[random.Random, _Offsets, int], Iterator[Case]]
    """Random ones, as many as asked for."""
    interrupted: Callable[[], Iterable[Case]]
    """Cases that get every event everywhere, the first two of the longer menu."""
    paired: Callable[[], Iterable[Case]]
    """Cases for two CPUs."""
    events: Callable[[_Offsets], tuple[Event, ...]]
    """The menu of what may happen."""
    variants: tuple[str, ...] = ("",)
    """Of the processor, the alternatives patched in, or the way in."""
    retpolines: bool = True
    """Whether indirect branches are forbidden."""
    must_fail: str = ""
    """The property that this handler is known to break; "" for a sound one."""
    headers: str = ""
    """The folder of recorded constants that it is assembled with; "" if a kernel's build makes its object."""
    default_kernel: str = ""
    """The catalogue's name of such a kernel, for where the user names none that fits."""
    no_other_kernel: bool = False
    """Whether no other one fits."""
    roots: tuple[str, ...] = ()
    """Symbols where it begins, if its section holds other handlers too."""
    loaded: Callable[[EntryObject], EntryObject] = lambda entry: entry
    """What the module makes of the object's text at load."""


@dataclass(frozen=True)
class Subject:
    """A handler and the files that a build made of it."""

    handler: str
    object: Path
    offsets: Path

    def load(self) -> tuple[EntryObject, _Offsets]:
        """The object as it runs, once the module has loaded, and its constants. Raises SysenterError if they are
        not this handler's."""
        handler, entry = HANDLERS[self.handler], EntryObject.load(self.object)
        loaded = handler.loaded(entry)
        for name in (handler.section, *handler.roots):
            if name not in entry.sections and name not in entry.symbols:
                raise SysenterError(f"{self.object}: no {name} in it", hint=f"give the .o file that has {handler.name}")
        return loaded, parse_offsets(self.offsets)

    def bench(self, seed: int) -> Bench:
        return Bench(HANDLERS[self.handler], *self.load(), seed)


@dataclass(frozen=True)
class Job:
    """A part of the work: every step-th case of `part`, from number `first` on."""

    part: str
    first: int = 0
    step: int = 1
    variant: str = ""


def _mispredicted(lone: Sequence[Case]) -> tuple[Case, ...]:
    """Whoever has odd data segments, which a mispredicted look lets through; of all others every third."""

    def odd(call: Call) -> bool:
        return call.segments[:2] != type(call).segments[:2]

    return tuple(case for n, case in enumerate(lone) if n % 3 == 0 or any(map(odd, case.calls)))


class Bench:
    """A handler with what it takes to check it: cases, and a kernel for each variant.

    Kernels are built when they are first wanted: a mutant that is caught soon needs one.
    """

    def __init__(self, handler: Handler, entry: EntryObject, offsets: _Offsets, seed: int) -> None:
        self.handler, self.entry, self.offsets = handler, entry, offsets
        self.kernels: dict[str, Kernel] = {}
        self.menu = handler.events(offsets)
        lone = tuple(handler.lone(offsets))
        self.cases: dict[str, tuple[Case, ...]] = {
            "static": (Case(()),),
            "lone": lone,
            "interrupted": tuple(handler.interrupted()),
            "paired": tuple(handler.paired()),
            "mispredicted": _mispredicted(lone) if handler.retpolines else (),
            "scattered": tuple(handler.scattered(random.Random(seed), offsets, _RANDOM)),
        }

    @property
    def callers(self) -> int:
        """How many different callers come, each a state of all that user mode can set."""
        return len({call for cases in self.cases.values() for case in cases for call in (*case.calls, *case.others)})

    def with_object(self, entry: EntryObject) -> Bench:
        """The same work on another object."""
        other = copy(self)
        other.entry, other.kernels = entry, {}
        return other

    def kernel(self, variant: str) -> Kernel:
        if variant not in self.kernels:
            self.kernels[variant] = self.handler.kernel(self.entry, self.offsets, variant)
        return self.kernels[variant]

    def perform(self, job: Job, stop: bool = False) -> Tally:
        """Do one job. stop: at the first failure."""
        tally = Tally()
        for number in range(job.first, len(self.cases[job.part]), job.step):
            case = self.cases[job.part][number]
            if job.part in _OF_ALL_VARIANTS:
                case = replace(case, variant=job.variant)
            tally.add(self._one(job.part, number, case, stop))
            if tally.failures and stop:
                break
        return tally

    def _one(self, part: str, number: int, case: Case, stop: bool) -> Tally:
        kernel = self.kernel(case.variant)
        if part == "static":
            wrong = static.indirect_branches(kernel.program) if self.handler.retpolines else ()
            return Tally(1, 0, [Failure(self.handler.name, case, "indirect", w) for w in wrong])
        if part == "interrupted":
            menu = self.menu
            if number >= 2:
                menu = tuple({(e.kind, e.value if e.kind == "preempt" else 0): e for e in reversed(menu)}.values())
            return interrupt_everywhere(kernel, case, menu, stop)
        if part == "paired":
            return interleave(kernel, case, stop)
        if part == "mispredicted":
            return mispredict(kernel, case)
        failure = run(kernel, case)
        return Tally(1, len(case.events), [failure] if failure else [])


def _legacy(way: str, says: str, must_fail: str = "") -> Handler:
    return Handler(
        f"legacy-{way}",
        says,
        ".text",
        lambda entry, offsets, v: legacy.Legacy(entry, offsets, way, v),
        legacy.lone_calls,
        legacy.scattered,
        legacy.interrupted,
        legacy.paired,
        legacy.events,
        variants=("", "low"),
        retpolines=False,
        must_fail=must_fail,
        # cruel has no entry stack for an NMI to come on
        roots=(
            f"sysenter_entry_{way}",
            f"sysenter_trapped_{way}",
            "sysenter_debug",
            *(("sysenter_nmi",) if way != "cruel" else ()),
        ),
        headers="linux-2.4.22" if way == "tss" else "linux-2.2.26",
    )


def _legacy_syscall(name: str, says: str, gates: bool) -> Handler:
    return replace(
        _legacy("tss", says, "" if gates else "stack"),
        name=name,
        kernel=lambda entry, offsets, v: legacy_syscall.LegacySyscall(entry, offsets, v, gates),
        lone=legacy_syscall.lone_calls,
        roots=("sysenter_syscall_stubs", "sysenter_syscall_trapped"),
    )


def _syscall(name: str, says: str, gates: bool) -> Handler:
    return Handler(
        name,
        says,
        ".text.sysenter",
        lambda entry, offsets, v: present_syscall.PresentSyscall(entry, offsets, v, gates),
        present_syscall.lone_calls,
        present_syscall.scattered,
        present_syscall.with_interruptions,
        present_syscall.paired,
        callers_i386.events,
        variants=present_syscall.VARIANTS,
        default_kernel="bookworm-686",
        must_fail="" if gates else "stack",
        roots=("sysenter_syscall_stubs",),
        loaded=present_syscall.with_sysret,
    )


HANDLERS: dict[str, Handler] = {
    h.name: h
    for h in (
        Handler(
            "present-i386",
            "Linux 6.x, i386, beside the vDSO's entry",
            ".text.sysenter",
            PresentI386,
            callers_i386.lone_calls,
            callers_i386.scattered,
            callers_i386.with_interruptions,
            callers_i386.paired,
            callers_i386.events,
            variants=VARIANTS_I386,
            default_kernel="bookworm-686",
            roots=("sysenter_entry", "sysenter_dispatch"),
        ),
        Handler(
            "present-i386-pti",
            "the same with page-table isolation",
            ".text.sysenter",
            present_pti.PresentPti,
            callers_i386.lone_calls,
            callers_i386.scattered,
            callers_i386.with_interruptions,
            callers_i386.paired,
            callers_i386.events,
            variants=("", "smap"),
            default_kernel="bookworm-686-pae",
            no_other_kernel=True,
            roots=("sysenter_trampoline", "sysenter_trampoline_exit", "sysenter_leave_isolated"),
            loaded=present_pti.with_isolated_exit,
        ),
        _syscall("present-i386-syscall", "the same by AMD's SYSCALL", True),
        _syscall("present-i386-syscall-gateless", "AMD's SYSCALL without the task gates", False),
        Handler(
            "present-amd64",
            "Linux 6.x and 7.x, amd64, beside the 32-bit vDSO's entry",
            ".kprobes.text",
            PresentAmd64,
            callers_amd64.lone_calls,
            callers_amd64.scattered,
            callers_amd64.with_interruptions,
            callers_amd64.paired,
            callers_amd64.events,
            variants=tuple(VARIANTS),
            default_kernel="bookworm-amd64",
            roots=(*(where for where, _ in VARIANTS.values()), "sysenter_dispatch"),
        ),
        Handler(
            "present-amd64-all",
            "the same with scope=all: the stand-in for do_syscall_64()",
            ".kprobes.text",
            PresentAll,
            callers_all.lone_calls,
            callers_all.scattered,
            callers_all.with_interruptions,
            callers_all.paired,
            callers_all.events,
            variants=tuple(WAYS),
            # its do_syscall_64() says whether SYSRET may be used: there is more to hold
            default_kernel="bookworm-backports-amd64",
            roots=("sysenter_all", "sysenter_all_exit_done"),
        ),
        _legacy("tss", "Linux 2.4: SYSENTER_ESP in the TSS"),
        _legacy_syscall("legacy-syscall", "Linux 2.4 by AMD's SYSCALL", True),
        _legacy_syscall("legacy-syscall-gateless", "the same without the task gates", False),
        _legacy("cruel", "Linux 2.2, __switch_to replaced"),
        _legacy("gentle", "Linux 2.2, a slot for each CPU"),
        _legacy("global", "Linux 2.2, the global variable of 2001", must_fail="number"),
    )
}

_RANDOM = 2000
_OF_ALL_VARIANTS = ("static", "lone", "interrupted", "mispredicted")  # the others choose theirs


def handler_named(name: str) -> Handler:
    """Raises SysenterError with the names there are."""
    if name not in HANDLERS:
        raise SysenterError(f"{name}: no such handler", hint="one of " + ", ".join(HANDLERS))
    return HANDLERS[name]


def jobs(bench: Bench) -> list[Job]:
    """The whole check of a handler, cut small enough to share it out evenly; the
    parts that find most first."""
    cut = [Job("static")]
    for part, pieces in (("lone", 2), ("interrupted", 0), ("mispredicted", 1)):
        step = pieces or len(bench.cases[part])
        cut += [Job(part, first, step, v) for first in range(step) for v in bench.handler.variants]
    cut += [Job("paired", first, len(bench.cases["paired"])) for first in range(len(bench.cases["paired"]))]
    return cut + [Job("scattered", first, 4) for first in range(4)]


def lean_jobs(bench: Bench) -> list[tuple[Job, ...]]:
    """A part of the work with nearly all of its power, case by case, for mutants: a case
    that never comes to the mutated instruction can be left out, and the harmless ones
    have to go through all of the rest. Each a case in several variants: one of them is enough,
    if it comes there."""
    variants, rng = bench.handler.variants, random.Random(1)

    everywhere = ("lone", "mispredicted")

    def each(part: str, every: int = 1) -> list[tuple[Job, ...]]:
        count = len(bench.cases[part])
        found = [
            tuple(Job(part, n, count, v) for v in (variants if part in everywhere else (variants[n % len(variants)],)))
            for n in range(0, count, every)
        ]
        rng.shuffle(found)  # what is unlike comes early
        return found

    return [
        (Job("static"),),
        *each("lone"),
        *each("interrupted"),
        *each("scattered", 5),
        *each("mispredicted"),
        (Job("paired", 0, len(bench.cases["paired"])),),
    ]
