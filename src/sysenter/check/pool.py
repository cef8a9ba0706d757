# SPDX-License-Identifier: GPL-2.0-or-later
"""Shares the work out over the processors.

A worker builds its models from the object's path: Unicorn's state cannot cross
a process boundary. Jobs are dealt one at a time, so that a slow one holds up
nobody but itself.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sysenter.check.explore import Failure, Tally, shrink
from sysenter.check.handlers import HANDLERS, Handler, Job, Subject, jobs, lean_jobs, perform
from sysenter.check.machine import Kernel
from sysenter.check.mutants import Mutant, mutants
from sysenter.check.objectfile import EntryObject
from sysenter.check.story import tell

__all__ = ["Caught", "checked", "mutants_checked"]

_Work = TypeVar("_Work")
_Done = TypeVar("_Done")
_STORIES = 3  # told for each job


@dataclass(frozen=True)
class Caught:
    """What became of a mutant: the property that caught it and the part of the
    check that did, or two empty strings."""

    key: str
    by: str
    part: str


@dataclass
class _Bench:
    """What a worker keeps between jobs."""

    handler: Handler
    offsets: dict[str, int]
    entry: EntryObject
    kernels: dict[str, Kernel]


_benches: dict[Subject, _Bench] = {}
_mutants: dict[Subject, list[Mutant]] = {}


def _kernels(handler: Handler, entry: EntryObject, offsets: dict[str, int]) -> dict[str, Kernel]:
    return {variant: handler.kernel(entry, offsets, variant) for variant in handler.variants}


def _bench(subject: Subject) -> _Bench:
    if subject not in _benches:
        handler = HANDLERS[subject.handler]
        entry, offsets = subject.load()
        _benches[subject] = _Bench(handler, offsets, entry, _kernels(handler, entry, offsets))
    return _benches[subject]


def _check_job(work: tuple[Subject, Job]) -> tuple[Subject, Job, Tally, list[str]]:
    subject, job = work
    bench = _bench(subject)
    tally = perform(bench.handler, bench.kernels, bench.offsets, job, stop=bool(bench.handler.must_fail))
    stories = []
    expected = bench.handler.must_fail  # the rest follows from that one: not worth a story
    worth = [f for f in tally.failures if not expected or f.key == expected]
    for failure in _different(worth)[:_STORIES]:
        simplest = shrink(bench.kernels, failure) if failure.case.calls else failure
        kernel = bench.kernels[simplest.case.variant]
        stories.append(tell(kernel, simplest))
    return subject, job, tally, stories


def _different(failures: list[Failure]) -> list[Failure]:
    found: dict[str, Failure] = {}
    for failure in failures:
        found.setdefault(failure.key, failure)
    return list(found.values())


def _mutant_job(work: tuple[Subject, int, int]) -> Caught:
    subject, index, seed = work
    handler = HANDLERS[subject.handler]
    if subject not in _mutants:
        entry, _ = subject.load()
        _mutants[subject] = list(mutants(entry, handler.section, handler.roots))
    mutant = _mutants[subject][index]
    offsets = _bench(subject).offsets
    models = _kernels(handler, mutant.object, offsets)
    for job in lean_jobs(handler, seed):
        failures = perform(handler, models, offsets, job, stop=True).failures
        if failures:
            return Caught(mutant.key, failures[0].key, job.part)
    return Caught(mutant.key, "", "")


def _spread(function: Callable[[_Work], _Done], work: Sequence[_Work]) -> Iterator[_Done]:
    processes = min(len(os.sched_getaffinity(0)), max(len(work), 1))
    if processes == 1:
        yield from map(function, work)
        return
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        yield from pool.imap_unordered(function, work)


def checked(subjects: Sequence[Subject], seed: int) -> Iterator[tuple[Subject, Job, Tally, list[str]]]:
    """Every job of every subject, as it gets done, with the stories of what failed."""
    work = [(s, job) for s in subjects for job in jobs(HANDLERS[s.handler], seed)]
    yield from _spread(_check_job, work)


def mutants_checked(subject: Subject, chosen: Sequence[int], seed: int) -> Iterator[Caught]:
    """The fate of the mutants with these indices, as it becomes known."""
    yield from _spread(_mutant_job, [(subject, index, seed) for index in chosen])
