# SPDX-License-Identifier: GPL-2.0-or-later
"""Carries a matrix out: what is kept is taken, the rest goes to a Dask cluster, here or where the user has one."""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import queue
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from textwrap import shorten
from typing import Any

from sysenter import __version__
from sysenter.errors import SysenterError
from sysenter.kernels.provide import provide
from sysenter.matrix.artefact import artefact_of, pack
from sysenter.matrix.kept import effort, keep, kept, key_of, note_effort, sources
from sysenter.matrix.perform import FAILED, Work, identity_of
from sysenter.matrix.plan import Job
from sysenter.matrix.worker import LACKS, LOST, UNABLE, parts_of, take
from sysenter.processes import Interrupted, cleaning_up
from sysenter.scratch import scratch_folder
from sysenter.steps import Steps

__all__ = ["Cell", "Matrix", "matrix"]

SCHEMA = 1
_ATTEMPTS = 3  # at a job whose process, or whose worker, ended under it
_NO_WORKER = 60.0  # seconds that a worker is waited for
_SILENCE = 20.0  # seconds in which a scheduler must be there
_GREETING = 1 << 20  # bytes that a scheduler's greeting has not
_NO_ANSWER = 60.0  # seconds after which one that was there is gone


@dataclass(frozen=True)
class Cell:
    """A job and what came of it."""

    job: Job
    outcome: dict[str, Any]
    """As perform.main() writes it."""
    kept: bool
    """Whether it was done earlier."""

    def to_json(self) -> dict[str, Any]:
        """For scripts."""
        names = (
            "outcome",
            "why",
            "differs",
            "figures",
            "release",
            "arch",
            "seconds",
            "cpu_seconds",
            "worker",
            "detail",
        )
        told = {name: self.outcome[name] for name in names}
        job = self.job.to_json()
        return {
            "job": self.job.name,
            "kernel": Path(self.job.kernel).parent.name if self.job.kernel.endswith(".toml") else self.job.kernel,
            "cpu": self.outcome.get("cpu") or self.job.cpu,
            **{name: job[name] for name in ("scope", "append", "module_options", "rounds", "count")},
            **told,
            "kept": self.kept,
        }


@dataclass
class Matrix:
    """All that came of it, in the order of the jobs."""

    cells: list[Cell] = field(default_factory=list)
    complete: bool = True
    """False if it was interrupted."""
    asked: int = 0
    """How many jobs there are in all."""
    wall_seconds: float = 0.0
    """Of what was done now."""
    cores: int = 0
    """That there were for them; 0 if nothing was to be done."""

    @property
    def core_share(self) -> float | None:
        """What part of the cores' time the jobs that were done now used; None if none was."""
        used = sum(cell.outcome["cpu_seconds"] for cell in self.cells if not cell.kept)
        return used / (self.wall_seconds * self.cores) if self.wall_seconds and self.cores else None

    @property
    def ok(self) -> bool:
        """Whether nothing failed and nothing differs."""
        return not self.bad

    @property
    def bad(self) -> list[Cell]:
        """What failed or differs."""
        return [cell for cell in self.cells if cell.outcome["outcome"] not in ("passed", "refused")]

    def to_json(self) -> dict[str, Any]:
        """Schema 1, docs/json.md."""
        share = self.core_share
        return {
            "schema": SCHEMA,
            "kind": "matrix",
            "version": __version__,
            "complete": self.complete,
            "wall_seconds": round(self.wall_seconds, 1),
            "cores": self.cores,
            "core_share": None if share is None else round(share, 3),
            "jobs": [cell.to_json() for cell in self.cells],
        }


def matrix(
    steps: Steps,
    jobs: Sequence[Job],
    *,
    scheduler: str = "",
    cores: int = 0,
    accelerator: str = "auto",
    offline: bool = False,
    again: bool = False,
    only_done: bool = False,
) -> Matrix:
    """Do every job, but for those that are done already.

    scheduler: of a Dask cluster whose workers `matrix --worker` started; "" for one here, with
    as many jobs at once as cores says (0: as this process may use). again: what is kept counts for nothing.
    only_done: nothing is started.
    Ctrl-C gives what there is. Raises SysenterError for a kernel.toml that is wrong, and if there is no cluster or no
    worker that can go on; what is done is kept then.
    """
    start = time.monotonic()
    if scheduler:  # said before the work
        parts_of(scheduler)
    work = _work(steps, jobs, accelerator, offline, only_done)
    keys = [key_of(one) for one in work]
    outcomes: dict[int, dict[str, Any]] = {}
    if not again:
        outcomes = {n: found for n, key in enumerate(keys) if (found := kept(key)) is not None}
    before = frozenset(outcomes)
    result = Matrix(asked=len(work))
    todo = [n for n in range(len(work)) if n not in outcomes]
    if only_done:
        result.complete, todo = not todo, []
    if before:
        steps.say(f"         {len(before)} of {len(work)} jobs are done already")
    if todo:
        start = time.monotonic()
        # The longest first, so that no long one is left at the end, alone; otherwise in their order.
        todo.sort(key=lambda n: -effort(work[n]))
        given = cores or len(os.sched_getaffinity(0))
        if not scheduler and len(todo) < given:  # a core each, and some are left
            work = [replace(one, processes=given // len(todo)) for one in work]
        with _cluster(scheduler, min(given, len(todo))) as client:

            def done(number: int, outcome: dict[str, Any]) -> None:
                outcomes[number] = outcome
                note_effort(work[number], outcome)
                if work[number].identity:  # else nobody knows of which kernel it is
                    keep(keys[number], outcome)

            run = _Run(steps, client, scheduler, work, keys, done)
            try:
                run.all(todo)
            except Interrupted:
                result.complete = False
                with cleaning_up():
                    run.give_up()
            result.cores = run.most_cores if scheduler else given
        result.wall_seconds = time.monotonic() - start
    result.cells = [Cell(work[n].job, outcomes[n], n in before) for n in sorted(outcomes)]
    return result


def _work(steps: Steps, jobs: Sequence[Job], accelerator: str, offline: bool, only_done: bool) -> list[Work]:
    """The jobs with their kernels. only_done: what is not in the cache is not done, and nothing is fetched."""
    identities: dict[str, str] = {}
    for kernel in dict.fromkeys(job.kernel for job in jobs):
        try:
            identities[kernel] = identity_of(provide(steps, kernel, offline=offline or only_done))
        except SysenterError as error:
            if kernel.endswith(".toml"):
                raise
            if not only_done:
                steps.say(f"         {kernel}: {error.message}")
            identities[kernel] = ""
    return [Work(job, identities[job.kernel], accelerator, offline) for job in jobs]


@contextmanager
def _cluster(scheduler: str, cores: int) -> Iterator[Any]:
    """A client of the user's cluster, or of one in this process. Raises SysenterError if there is none."""
    import distributed

    dask: Any = distributed  # its functions have no types
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what there is to say, we say
    with scratch_folder() as folder, contextlib.ExitStack() as stack:
        if scheduler:
            _check_answers(scheduler)
            try:
                client = dask.Client(scheduler, timeout=_SILENCE, set_as_default=False)
            except (OSError, ValueError) as error:
                raise SysenterError(
                    f"no Dask scheduler answers at {scheduler}", hint="is it running, and of a version like this one's?"
                ) from error
        else:
            # Its worker is threads of this process, which wait for a process each.
            cluster = dask.LocalCluster(
                n_workers=1,
                threads_per_worker=cores,
                processes=False,
                dashboard_address="127.0.0.1:0",  # nothing that others reach
                memory_limit=0,
                local_directory=str(folder),
                silence_logs=logging.CRITICAL,
            )
            stack.callback(_quietly, lambda: cluster.close(timeout=5))
            client = dask.Client(cluster, set_as_default=False)
        stack.callback(_quietly, lambda: client.close(timeout=5))
        yield client


def _check_answers(address: str) -> None:
    """Raise SysenterError if no scheduler is at an address. Dask itself would try for ever, or wait without an end.

    A scheduler speaks first: the length of its greeting, in eight bytes.
    """
    protocol, host, port = parts_of(address)
    if protocol not in ("", "tcp", "tls"):
        return
    try:
        with socket.create_connection((host, port), timeout=_SILENCE) as connection:
            greeting = b"\1" if protocol == "tls" else connection.recv(8)
        if not 0 < int.from_bytes(greeting, "little") < _GREETING:
            raise OSError("it is something else")
    except (OSError, OverflowError) as error:
        raise SysenterError(
            f"no Dask scheduler answers at {address}", hint="start one, as `dask scheduler`, and give its address"
        ) from error


def _quietly(close: Callable[[], None]) -> None:
    with contextlib.suppress(Exception):  # there is nothing left to lose
        close()


def do_there(work: dict[str, Any], artefact: str) -> dict[str, Any]:
    """worker.do() on a worker."""
    from sysenter.matrix.worker import do

    return do(work, artefact)


# The scheduler reads the task too, and need not know sysenter: so this goes by value, as __main__'s functions do.
do_there.__module__ = "__main__"


class _Run:
    """Jobs on their way to workers, and back."""

    def __init__(
        self,
        steps: Steps,
        client: Any,
        scheduler: str,
        work: Sequence[Work],
        keys: Sequence[str],
        done: Callable[[int, dict[str, Any]], None],
    ) -> None:
        self._steps, self._client, self._scheduler = steps, client, scheduler
        self._work, self._keys, self._done = work, keys, done
        self._waiting: deque[int] = deque()
        self._flying: dict[Any, tuple[int, frozenset[str]]] = {}  # future -> job's number, workers that may do it
        self._came: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._order: dict[int, int] = {}
        self._attempts: Counter[int] = Counter()
        self._submitted = 0
        self._unfit: dict[str, str] = {}
        self._sent: set[tuple[str, str]] = set()
        self._lacked: set[tuple[int, str]] = set()  # which jobs found no kernel, and where
        self._packed: dict[str, bytes] = {}
        self._seen = time.monotonic()  # when there last was a worker
        self._said = False
        self.most_cores = 0

    def all(self, numbers: Sequence[int]) -> None:
        """Have all of these done."""
        self._waiting.extend(numbers)
        self._order = {number: place for place, number in enumerate(numbers)}
        total, over = len(numbers), 0
        with self._steps.counted("jobs", total) as advance:
            while self._waiting or self._flying:
                self._submit(self._workers())
                with contextlib.suppress(queue.Empty):
                    over += self._take(self._came.get(timeout=0.5))
                    while True:
                        over += self._take(self._came.get_nowait())
                advance(over)

    def give_up(self) -> None:
        """Nothing more is wanted."""
        _quietly(lambda: self._client.cancel(list(self._flying), force=True))

    def _workers(self) -> dict[str, int]:
        """Address -> cores of each worker that can do our jobs. Raises SysenterError if there is none for long."""
        info = self._info()
        prefix = f"sysenter-{sources()}-"
        fit: dict[str, int] = {}
        for address, worker in info.items():
            if self._scheduler and not str(worker["name"]).startswith(prefix):
                ours = str(worker["name"]).startswith("sysenter-")
                why = "it runs another version of sysenter" if ours else "`sysenter matrix --worker` did not start it"
                self._exclude(address, why)
            if address not in self._unfit:
                fit[address] = int(worker["nthreads"])
        if fit:
            self._seen, self._said = time.monotonic(), False
            self.most_cores = max(self.most_cores, sum(fit.values()))
        else:
            self._none()
        return fit

    def _info(self) -> dict[str, Any]:
        client = self._client
        try:
            if "n_workers" in inspect.signature(client.scheduler_info).parameters:
                # Asked for directly: Client.scheduler_info() gives what the client last heard, and every few
                # seconds it asks for itself, without the workers.
                info = client.sync(client.scheduler.identity, n_workers=-1, callback_timeout=_NO_ANSWER)
            else:
                info = client.scheduler_info()
            if client.status in ("closed", "closing"):
                raise OSError("closed")
        except (OSError, ValueError, RuntimeError, TimeoutError) as error:
            raise SysenterError(
                f"the Dask scheduler at {self._scheduler or 'this machine'} is gone",
                hint="what is done is kept: the same command goes on with the rest",
            ) from error
        workers: dict[str, Any] = info["workers"]
        return workers

    def _exclude(self, address: str, why: str) -> None:
        if address not in self._unfit:
            self._unfit[address] = why
            if self._scheduler:
                self._steps.say(f"         no more jobs for the worker {address}: {why}")

    def _none(self) -> None:
        """Raise SysenterError if no worker can do a job, on a cluster when that lasts for a minute."""
        why = next(reversed(self._unfit.values()), "")
        hint = "what is done is kept: the same command goes on with the rest"
        if not self._scheduler and why:
            raise SysenterError(f"this machine cannot do the jobs: {why}", hint=hint)
        if time.monotonic() - self._seen > _NO_WORKER:
            told = f": {why}" if why else ", and none has come for a minute"
            raise SysenterError(f"no worker of {self._scheduler} can do the jobs{told}", hint=hint)
        if not self._said:
            self._said = True
            self._steps.say(f"         waiting for a worker: `./sysenter matrix --worker {self._scheduler}` is one")

    def _submit(self, fit: dict[str, int]) -> None:
        """Send out as many jobs as the workers have cores; on a cluster one more for each worker."""
        for future, (number, allowed) in list(self._flying.items()):
            if not allowed & fit.keys():  # it would wait for one of them to come back
                del self._flying[future]
                self._quietly_cancel(future)
                self._again(number)
        while self._waiting and len(self._flying) < sum(fit.values()) + (len(fit) if self._scheduler else 0):
            number = self._waiting.popleft()
            work, self._submitted = self._work[number], self._submitted + 1
            future = self._client.submit(
                do_there,
                work.to_json(),
                self._artefact(number),
                key=f"{work.job.kind}-{self._keys[number]}-{os.getpid()}-{self._submitted}",
                pure=False,
                workers=list(fit),
                priority=-self._order[number],
            )
            self._flying[future] = (number, frozenset(fit))
            future.add_done_callback(self._came.put)

    def _artefact(self, number: int) -> str:
        kernel = self._work[number].job.kernel
        return artefact_of(kernel) if self._scheduler and kernel.endswith(".toml") else ""

    def _quietly_cancel(self, future: Any) -> None:
        _quietly(lambda: future.cancel(force=True))

    def _again(self, number: int, why: str = "", detail: str = "") -> bool:
        """Have a job done once more, unless that was tried often; returns whether it is over."""
        if why:
            self._attempts[number] += 1
        if self._attempts[number] < _ATTEMPTS:
            self._waiting.appendleft(number)
            return False
        return self._over(number, _failure(f"{why}, {_ATTEMPTS} times", detail))

    def _over(self, number: int, outcome: dict[str, Any]) -> bool:
        self._done(number, outcome)
        why = outcome["why"] or ", ".join(outcome["differs"])
        told = f"{outcome['outcome']}: {why}" if why else outcome["outcome"]
        self._steps.say(f"{outcome['seconds']:5.1f} s  {self._work[number].job.words}: {shorten(told, 200)}")
        return True

    def _take(self, future: Any) -> bool:
        """What has come back; returns whether a job is over."""
        number, _ = self._flying.pop(future, (-1, None))
        if number < 0:
            return False  # taken back
        if future.status == "error":
            error = future.exception()
            if type(error).__name__ == "KilledWorker":
                return self._over(number, _failure("its workers were lost while they did it"))
            return self._again(number, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
        if future.status != "finished":
            return self._again(number)  # cancelled: its scheduler is gone, which _workers() tells
        outcome: dict[str, Any] = future.result()
        if outcome.get(LACKS):
            address, artefact = outcome["address"], outcome[LACKS]
            why = ""
            if (number, address) in self._lacked:  # it was sent: that worker's cache was emptied meanwhile
                self._sent.discard((address, artefact))
                why = f"the kernel that was sent to {address} is not there"
            self._lacked.add((number, address))
            self._send(address, artefact, self._work[number].job.kernel)
            return self._again(number, why)
        if outcome.get(UNABLE):
            self._exclude(outcome["address"], outcome[UNABLE])
            return self._again(number)
        if outcome.get(LOST):
            return self._again(number, outcome[LOST], outcome.get("detail", ""))
        return self._over(number, outcome)

    def _send(self, address: str, artefact: str, kernel: str) -> None:
        if (address, artefact) in self._sent:
            return
        if artefact not in self._packed:
            self._packed[artefact] = pack(kernel)
        packed = self._packed[artefact]
        with self._steps.step(f"send {Path(kernel).parent.name} to {address} ({len(packed) >> 20} MiB)"):
            try:
                self._client.run(take, artefact, kernel, packed, workers=[address])
            except Exception as error:
                self._exclude(address, f"a kernel could not be sent: {error}")
                return
        self._sent.add((address, artefact))


def _failure(why: str, detail: str = "") -> dict[str, Any]:
    return {
        "outcome": FAILED,
        "why": why,
        "differs": [],
        "figures": {},
        "release": "",
        "arch": "",
        "cpu": "",
        "detail": detail,
        "seconds": 0.0,
        "cpu_seconds": 0.0,
        "worker": "",
    }
