# SPDX-License-Identifier: GPL-2.0-or-later
"""A worker's side: does what a scheduler hands to this machine, each job in a process of its own."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from sysenter.errors import SysenterError
from sysenter.kernels.catalogue import CATALOGUE
from sysenter.lab.reading import patience
from sysenter.matrix.artefact import place_of, unpack
from sysenter.matrix.kept import sources
from sysenter.processes import environment, running
from sysenter.scratch import scratch_folder, temporary_folder
from sysenter.steps import Steps

__all__ = ["LACKS", "LOST", "UNABLE", "do", "parts_of", "take", "work_for", "worker_name"]

UNABLE, LACKS, LOST = "unable", "lacks", "lost"  # keys of what do() returns, beside those of an outcome
_SOURCES = Path(__file__).resolve().parents[2]
_LIMIT = 6 * 3600.0  # seconds, times patience(); a job's own waits all end before


def worker_name(sources_digest: str) -> str:
    """The name of a worker, by which a client knows that it runs the same program."""
    return f"sysenter-{sources_digest}-{socket.gethostname()}-{os.getpid()}"


def _cancelled() -> bool:
    """Is this task cancelled? Its client has gone, or has taken it back."""
    from distributed import get_worker

    try:
        worker = get_worker()
        state = worker.state.tasks.get(worker.get_current_task())
        return state is None or state.state == "cancelled"
    except (ValueError, LookupError, AttributeError):  # not in a task
        return False


def _address() -> str:
    """Of the worker in whose task this is; "" in none."""
    from distributed import get_worker

    try:
        return str(get_worker().address)
    except ValueError:
        return ""


def do(work: dict[str, Any], artefact: str = "") -> dict[str, Any]:
    """Do one job, given as perform.main() takes it.

    artefact: of the kernel, if it is the client's own; "" if this is the client's machine, or Debian has it.
    Returns what perform.main() writes, with `worker` and `address`; or under `lacks` the artefact to send first, under
    `unable` why this machine cannot do it, under `lost` how the job's process ended.
    """
    worker = {"worker": socket.gethostname(), "address": _address()}
    if artefact:
        place = place_of(artefact, work["job"]["kernel"])
        if not place.exists():
            return {LACKS: artefact, **worker}
        work = {**work, "job": {**work["job"], "kernel": str(place)}}
    argv = ["setpriv", "--pdeathsig", "TERM", "--", sys.executable, "-m", "sysenter.matrix.perform"]
    env = {**environment(network=True, ours=True), "TMPDIR": str(temporary_folder())}
    # the environment is found by python's own path; ours is the folder that this was loaded from
    env["PYTHONPATH"] = str(_SOURCES)
    with scratch_folder() as folder:
        with (
            (folder / "work").open("w+b") as given,
            (folder / "said").open("w+b") as said,
            (folder / "steps").open("w+b") as told,
        ):
            given.write(json.dumps(work).encode())
            given.seek(0)
            with running(
                argv, what="do a job", env=env, stdin=given.fileno(), stdout=said, stderr=told, ours=True
            ) as process:
                why = _wait(process)
        if why:
            return {LOST: why, **worker}
        status = process.returncode
        try:
            done: dict[str, Any] = json.loads((folder / "said").read_text())
        except ValueError:
            last = (folder / "steps").read_text(errors="replace").strip().splitlines()[-3:]
            how = f"ended with status {status}" if status >= 0 else f"was ended by signal {-status}"
            return {LOST: f"its process {how}", "detail": "\n".join(last), **worker}
    return {**done, **worker}


def _wait(process: subprocess.Popen[bytes]) -> str:
    """Wait for a job's process; returns why it is to be ended, "" if it has ended."""
    deadline = time.monotonic() + _LIMIT * patience()
    while time.monotonic() < deadline:
        try:
            process.wait(timeout=1)
            return ""
        except subprocess.TimeoutExpired:
            pass
        if _cancelled():
            return "cancelled"
    return f"it was not done after {_LIMIT * patience() / 3600:.0f} hours"


def take(artefact: str, path: str, packed: bytes) -> None:
    """Keep a kernel that the client has sent."""
    unpack(artefact, path, packed)


def missing_here() -> str:
    """What this machine lacks of what every job takes, in words; "" if it has it."""
    tools = dict.fromkeys([*(entry.arch.qemu for entry in CATALOGUE), "gcc", "make", "setpriv"])
    return ", ".join(tool for tool in tools if not shutil.which(tool))


def parts_of(address: str) -> tuple[str, str, int]:
    """Protocol ("" if none is said), host and port of a scheduler's address. Raises SysenterError if it is none."""
    match = re.fullmatch(r"(?:(\w+)://)?\[?([^]/]+?)\]?:(\d+)", address)
    if not match:
        raise SysenterError(f"{address!r} is no address of a Dask scheduler", hint="give one, as tcp://host:8786")
    return match[1] or "", match[2], int(match[3])


def work_for(steps: Steps, address: str, cores: int) -> int:
    """Join the scheduler at an address and work for it until it ends, or a signal comes. Returns the exit status.

    cores: how many jobs at once. Raises SysenterError if it is not there, or this machine cannot do a job.
    """
    parts_of(address)
    if missing := missing_here():
        raise SysenterError(f"this machine cannot be a worker: no {missing}", hint="`./sysenter doctor` says more")
    with scratch_folder() as folder:
        return asyncio.run(_work_for(steps, address, cores, folder))


async def _work_for(steps: Steps, address: str, cores: int, folder: Path) -> int:
    import distributed

    dask: Any = distributed  # its functions have no types
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what there is to say, we say
    worker = dask.Worker(
        address,
        nthreads=cores,
        name=worker_name(sources()),
        memory_limit=0,
        local_directory=str(folder),
        dashboard=False,
        death_timeout=20,
    )
    try:
        await asyncio.wait_for(worker, 25)
    except (OSError, ValueError, TimeoutError, RuntimeError) as error:
        raise SysenterError(
            f"no Dask scheduler answers at {address}", hint="start one, as `dask scheduler`, and give its address"
        ) from error
    steps.say(f"         {worker.name} works for {address}, {cores} jobs at once; Ctrl-C ends it")
    try:
        await worker.finished()
    finally:
        await worker.close(timeout=5)
    steps.say(f"         the scheduler at {address} has ended")
    return 0
