# SPDX-License-Identifier: GPL-2.0-or-later
"""Shares the work out over the processors.

A worker builds its models from the object's path: Unicorn's state cannot cross
a process boundary. Jobs are dealt one at a time, so that a slow one holds up
nobody but itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar, cast

from sysenter.check.handlers import Bench, Job, Subject, jobs, lean_jobs
from sysenter.check.search.explore import Failure, Tally, shrink
from sysenter.check.search.mutants import Mutant, mutants
from sysenter.check.search.survivors import harmless
from sysenter.check.story import tell
from sysenter.errors import SysenterError
from sysenter.processes import undisturbed

__all__ = ["Caught", "callers", "checked", "mutants_checked", "use_processes"]

_Work = TypeVar("_Work")
_Done = TypeVar("_Done")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STORIES = 3  # told for each job
_OF_LISTED = 4  # those that are known to survive go through one job in so many: they cost most and tell least


@dataclass(frozen=True)
class Caught:
    """What became of a mutant."""

    key: str
    """As Mutant.key."""
    plain: str
    """As Mutant.plain."""
    by: str
    """The property that caught it; "" if none did."""
    part: str
    """The part of the check that did; "" if none did."""


_most = 0  # processes at once; 0 for one on each processor


def use_processes(most: int) -> None:
    """From now on no more processes than this at once; 1: none beside this one."""
    global _most
    _most = most


# what a worker keeps between jobs, or inherits when it is forked
_benches: dict[tuple[Subject, int], Bench] = {}
_mutants: dict[Subject, list[Mutant]] = {}
_coverage: dict[Subject, list[tuple[tuple[Job, frozenset[int]], ...]]] = {}  # lean_jobs() with where each comes


def _bench(subject: Subject, seed: int) -> Bench:
    if (subject, seed) not in _benches:
        _benches[subject, seed] = subject.bench(seed)
    return _benches[subject, seed]


def _check_job(work: tuple[Subject, int, Job]) -> tuple[Subject, Job, Tally, list[str]]:
    subject, seed, job = work
    bench = _bench(subject, seed)
    expected = bench.handler.must_fail
    tally = bench.perform(job, stop=bool(expected))
    stories = []
    worth = [f for f in tally.failures if not expected or f.key == expected]  # the rest follows from that one
    for failure in _different(worth)[:_STORIES]:
        simplest = shrink(bench.kernel, failure) if failure.case.calls else failure
        stories.append(tell(bench.kernel(simplest.case.variant), simplest))
    return subject, job, tally, stories


def _different(failures: list[Failure]) -> list[Failure]:
    found: dict[str, Failure] = {}
    for failure in failures:
        found.setdefault(failure.key, failure)
    return list(found.values())


def _covered_by(work: tuple[Subject, int, Job]) -> tuple[Job, frozenset[int]]:
    """The instructions that a job executes, as offsets in the code."""
    subject, seed, job = work
    bench = _bench(subject, seed)
    found: set[int] = set()
    start = 0
    for variant in bench.handler.variants:
        kernel = bench.kernel(variant)
        kernel.covered, start = found, kernel.program.start
    bench.perform(job)
    return job, frozenset(address - start for address in found)


def _mutant_job(work: tuple[Subject, int, int, int]) -> Caught:
    subject, seed, index, every = work
    mutant = _mutants[subject][index]
    bench = _bench(subject, seed).with_object(mutant.object)
    for variants in _coverage[subject][::every]:
        # the others go as with the handler itself
        coming = [job for job, to in variants if job.part == "static" or not to.isdisjoint(mutant.places)]
        if not coming:
            continue
        job = coming[coming[0].first % len(coming)]
        failures = bench.perform(job, stop=True).failures
        if failures:
            return Caught(mutant.key, mutant.plain, failures[0].key, job.part)
    return Caught(mutant.key, mutant.plain, "", "")


def _start_worker() -> None:
    """Ignore Ctrl-C, which is for our parent, and end when the parent ends (prctl PR_SET_PDEATHSIG)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _work(function: Callable[[Any], Any], parent: Connection) -> None:
    """A worker: does what comes, until it is killed."""
    _start_worker()
    while True:
        work = parent.recv()
        try:
            parent.send((function(work), None))
        except Exception as error:
            parent.send((None, error))


@contextlib.contextmanager
def _workers(function: Callable[[Any], Any], count: int) -> Iterator[dict[Connection, BaseProcess]]:
    """Processes with a pipe to each, killed when the block is over, however it ends.

    HAZARD: multiprocessing's own pools wait for ever for the job of a worker that was killed (memory had ended), and at
    their end if a signal came as they were made, or for a lock that a dead worker holds. Here nothing is shared.
    """
    context = multiprocessing.get_context("fork")
    workers: dict[Connection, BaseProcess] = {}
    try:
        # A worker inherits that signals are blocked, and hears none before it is ready.
        with undisturbed():
            before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
            try:
                for _ in range(count):
                    ours, theirs = context.Pipe()
                    worker = context.Process(target=_work, args=(function, theirs), daemon=True)
                    worker.start()
                    theirs.close()  # so that its death is an end of file here
                    workers[ours] = worker
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        yield workers
    finally:
        with undisturbed():
            for connection, each in workers.items():
                each.kill()
                each.join()
                connection.close()


def _spread(function: Callable[[_Work], _Done], work: Sequence[_Work]) -> Iterator[_Done]:
    """The results, as they come. Raises SysenterError if a worker dies."""
    processes = min(_most or len(os.sched_getaffinity(0)), max(len(work), 1))
    if processes == 1:
        yield from map(function, work)
        return
    left = iter(work)
    with _workers(function, processes) as workers:
        busy: set[Connection] = set()

        def deal(connection: Connection) -> None:
            busy.discard(connection)
            for one in itertools.islice(left, 1):
                with _alive(workers[connection]):
                    connection.send(one)
                busy.add(connection)

        for connection in workers:
            deal(connection)
        while busy:
            for ready in wait(busy):
                connection = cast("Connection", ready)
                with _alive(workers[connection]):
                    done, error = connection.recv()
                if error:
                    raise error
                deal(connection)
                yield done


@contextlib.contextmanager
def _alive(worker: BaseProcess) -> Iterator[None]:
    """A block that speaks with a worker. Raises SysenterError if it has died."""
    try:
        yield
    except (EOFError, OSError):
        worker.join(10)
        status = worker.exitcode or 0
        how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        hint = "memory may have ended: `matrix --job check --cores N` has fewer of them"
        raise SysenterError(f"a process of the check {how}", hint=hint) from None


def callers(subject: Subject, seed: int) -> int:
    """How many different callers the check of `subject` has."""
    return _bench(subject, seed).callers


def checked(subjects: Sequence[Subject], seed: int) -> Iterator[tuple[Subject, Job, Tally, list[str]] | int]:
    """Every job of every subject, as it gets done, with the stories of what failed.

    First of all their number.
    """
    work = [(s, seed, job) for s in subjects for job in jobs(_bench(s, seed))]
    yield len(work)
    yield from _spread(_check_job, work)


def mutants_checked(subject: Subject, chosen: Sequence[int], seed: int) -> Iterator[Caught]:
    """The fate of the mutants with these indices, as it becomes known."""
    bench = _bench(subject, seed)
    _mutants[subject] = list(mutants(bench.entry, bench.handler.section, bench.handler.roots))
    plan = lean_jobs(bench)
    work = [(subject, seed, job) for variants in plan for job in variants]
    found = dict(_spread(_covered_by, work))
    _coverage[subject] = [tuple((job, found[job]) for job in variants) for variants in plan]
    listed = harmless(subject.handler)

    def every(mutant: Mutant) -> int:
        return _OF_LISTED if mutant.key in listed or mutant.plain in listed else 1

    yield from _spread(_mutant_job, [(subject, seed, n, every(_mutants[subject][n])) for n in chosen])
