# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose `stuck on TLB IPI wait` is: the host's (docs/legacy.md)."""

from __future__ import annotations

import ctypes
import os
import re
import threading
import time
from pathlib import Path

import pytest

from cases import assert_no_worker_was_wrong
from legacy_kernels import on_each_kernel, parameters
from monitor import monitor
from sysenter.kernels.provide import provide
from sysenter.lab.legacy_guest import LegacyGuest, legacy_guest_for
from sysenter.steps import Steps

pytestmark = [on_each_kernel, pytest.mark.long]

SEIZE, INTERRUPT, DETACH = 0x4206, 0x4207, 17  # linux/ptrace.h
ALL_THREADS = 0x40000000  # __WALL: waitpid() of a thread


@pytest.fixture(params=parameters(), ids=lambda path: path.parent.name)
def legacy(request: pytest.FixtureRequest, steps: Steps) -> LegacyGuest:
    return legacy_guest_for(steps, provide(steps, str(request.param), offline=True))


def hold(thread: int, seconds: float) -> None:
    """Keep one thread from running: what a host with too few processors does."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    libc.ptrace.restype = ctypes.c_long
    for request in (SEIZE, INTERRUPT):
        if libc.ptrace(request, thread, None, None):
            raise OSError(ctypes.get_errno(), "ptrace")
    stopped = os.WSTOPSIG(os.waitpid(thread, ALL_THREADS)[1])
    time.sleep(seconds)
    # a signal that came first is QEMU's own
    libc.ptrace(DETACH, thread, None, None if stopped == 5 else stopped)


@pytest.mark.timeout(400)
def test_2_2_says_it_by_int80_alone_when_the_host_does_not_run_a_processor(
    legacy: LegacyGuest, steps: Steps, tmp_path: Path
) -> None:
    """No module is loaded. Processor 1 does not run for 70 s; the storm then goes on and nothing is wrong."""
    if not legacy.target.release.startswith("2.2.") or legacy.target.cpus < 2:
        pytest.skip("of 2.2 on several processors")
    storm, held = threading.Event(), threading.Event()

    with monitor(tmp_path) as (options, send):

        def hold_processor_1() -> None:
            if storm.wait(120):
                time.sleep(2)
                thread = re.search(r"CPU #1: thread_id=(\d+)", send("info cpus"))
                assert thread is not None
                hold(int(thread[1]), 70)
                held.set()

        holder = threading.Thread(target=hold_processor_1)
        holder.start()
        out = legacy.run(
            steps,
            ["run /init-int80 storm 10"],
            what="storm by int 0x80",
            timeout=300,
            machine=legacy.machine(extra=options),
            on_line=lambda line: storm.set() if '"command": "run"' in line else None,
        )
        holder.join()
    assert held.is_set()
    assert out.result(1) == 0
    assert_no_worker_was_wrong(out)
    assert out.bad_lines()
    assert set(out.bad_lines()) == {"stuck on TLB IPI wait (CPU#0)"}
