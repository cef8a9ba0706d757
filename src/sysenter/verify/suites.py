# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs that no one here wrote, as suites for `./sysenter selftests`.

The kernel's own come from Debian's source package of the target and are compiled for
it (selftest_programs.py); big programs come from Debian's packages and run in a real
Debian system.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["SUITES", "Suite"]


@dataclass(frozen=True)
class Suite:
    """Programs to run on the stock kernel and on ours; both must say the same."""

    name: str
    about: str
    folder: str = ""
    """Of the kernel's tools/testing/selftests; "" if they are Debian's."""
    programs: tuple[str, ...] = ()
    """Their command lines, of one program each; none: what the folder's Makefile names."""
    packages: tuple[str, ...] = ()
    """Debian's, for the system that they run in."""
    commands: Mapping[str, str] = field(default_factory=dict)
    """A row's name and its command line in that system."""
    options: tuple[str, ...] = ()
    """More of the compiler's; "{folder}" is the suite's own."""
    seconds: int = 40
    """For one program, on a machine that emulates."""
    memory: int = 512
    """MiB."""


_PYTHON_TESTS = (
    "select", "poll", "epoll", "fork1", "posix", "signal", "socket", "mmap", "threadsignals", "subprocess",
)  # fmt: skip
# Stressors that are system calls more than arithmetic, and how many operations of each.
_STRESSORS = {
    "close": 2000, "dup": 200, "epoll": 300, "eventfd": 1000, "fault": 500, "fcntl": 1000, "fork": 100,
    "fstat": 1000, "futex": 1000, "getdent": 200, "get": 200, "kill": 1000, "mmap": 20, "mq": 1000, "null": 2000,
    "open": 500, "pipe": 2000, "poll": 500, "rename": 500, "seek": 1000, "sem-sysv": 1000, "sigfd": 500, "sigq": 500,
    "sigsuspend": 200, "sock": 20, "switch": 1000, "timer": 200, "timerfd": 100, "vfork": 200, "wait": 100,
    "yield": 2000, "zero": 2000,
}  # fmt: skip

SUITES: Mapping[str, Suite] = {
    suite.name: suite
    for suite in (
        Suite("x86", "the kernel's tests of its entry code", folder="x86"),
        Suite("seccomp", "the kernel's tests of seccomp", folder="seccomp", programs=("seccomp_bpf",), seconds=240),
        Suite(
            "ptrace", "the kernel's tests of ptrace", folder="ptrace",
            programs=("get_syscall_info", "peeksiginfo", "vmaccess"),
        ),
        Suite(
            "rseq", "the kernel's tests of restartable sequences", folder="rseq", seconds=60,
            programs=("basic_test", "basic_percpu_ops_test",
                      *(f"param_test -T {kind} -r 100 -t 4" for kind in ("s", "l", "b", "m", "i"))),
            options=("-I{folder}", "{folder}/rseq.c"),
        ),
        Suite(
            "user-dispatch", "the kernel's tests of syscall user dispatch", folder="syscall_user_dispatch",
            programs=("sud_test",), options=("-include", "sys/sysinfo.h"),
        ),
        Suite(
            "clone3", "the kernel's tests of clone3", folder="clone3",
            programs=("clone3", "clone3_clear_sighand", "clone3_set_tid", "clone3_cap_checkpoint_restore"),
        ),
        Suite(
            "python", "CPython's own tests of what calls the kernel", seconds=600, memory=1024,
            packages=("libpython3.11-testsuite",),
            commands={f"test_{name}": f"python3.11 -m test -v test_{name}" for name in _PYTHON_TESTS},
        ),
        Suite(
            "stress-ng", "stress-ng's stressors, which verify what they get", seconds=90, memory=1024,
            packages=("stress-ng",),
            commands={
                name: f"stress-ng --verify --no-rand-seed --temp-path /tmp --{name} 1 --{name}-ops {operations}"
                for name, operations in _STRESSORS.items()
            },
        ),
    )
}  # fmt: skip
