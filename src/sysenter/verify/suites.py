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
    "select",
    "poll",
    "epoll",
    "fork1",
    "posix",
    "signal",
    "socket",
    "mmap",
    "threadsignals",
    "subprocess",
)
# Stressors that are system calls more than arithmetic, and how many operations of each. In
# groups, whose stressors run at once: under an emulator the program's own start takes seconds.
_STRESSORS: Mapping[str, Mapping[str, int]] = {
    "files": {
        "close": 1000,
        "dup": 100,
        "fcntl": 500,
        "fstat": 500,
        "getdent": 100,
        "null": 2000,
        "open": 200,
        "rename": 200,
        "seek": 500,
        "zero": 2000,
    },
    "processes": {"fork": 50, "get": 100, "kill": 500, "switch": 500, "vfork": 100, "wait": 50},
    "messages": {
        "eventfd": 500,
        "futex": 500,
        "mq": 500,
        "pipe": 1000,
        "poll": 200,
        "sem-sysv": 500,
        "sock": 10,
    },
    "signals": {"sigfd": 200, "sigq": 200, "sigsuspend": 100, "timer": 100, "timerfd": 50},
    "memory": {"fault": 200, "brk": 200},
}

SUITES: Mapping[str, Suite] = {
    suite.name: suite
    for suite in (
        Suite("x86", "the kernel's tests of its entry code", folder="x86"),
        Suite("seccomp", "the kernel's tests of seccomp", folder="seccomp", programs=("seccomp_bpf",), seconds=240),
        Suite(
            "ptrace",
            "the kernel's tests of ptrace",
            folder="ptrace",
            programs=("get_syscall_info", "peeksiginfo", "vmaccess"),
        ),
        Suite(
            "rseq",
            "the kernel's tests of restartable sequences",
            folder="rseq",
            seconds=60,
            # not basic_percpu_ops_test: 200 threads with no option for fewer, no end within a minute of emulation
            programs=("basic_test", *(f"param_test -T {kind} -r 100 -t 4" for kind in ("s", "l", "b", "m", "i"))),
            options=("-I{folder}", "-I{folder}/../../../include", "{folder}/rseq.c"),
        ),
        Suite(
            "user-dispatch",
            "the kernel's tests of syscall user dispatch",
            folder="syscall_user_dispatch",
            programs=("sud_test",),
            options=("-include", "sys/sysinfo.h"),
        ),
        Suite(
            "clone3",
            "the kernel's tests of clone3",
            folder="clone3",
            programs=("clone3", "clone3_clear_sighand", "clone3_set_tid", "clone3_cap_checkpoint_restore"),
        ),
        Suite(
            "python",
            "CPython's own tests of what calls the kernel",
            seconds=600,
            memory=1024,
            packages=("libpython3.11-testsuite",),
            commands={f"test_{name}": f"python3.11 -m test -v test_{name}" for name in _PYTHON_TESTS},
        ),
        Suite(
            "stress-ng",
            "stress-ng's stressors, which verify what they get",
            seconds=240,
            memory=1024,
            packages=("stress-ng",),
            commands={
                group: "stress-ng --verify --no-rand-seed --temp-path /tmp"
                + "".join(f" --{name} 1 --{name}-ops {operations}" for name, operations in stressors.items())
                for group, stressors in _STRESSORS.items()
            },
        ),
    )
}
