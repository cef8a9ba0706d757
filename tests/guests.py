# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests with what tests run in them, beside the product's own programs."""

from __future__ import annotations

from pathlib import Path

from sysenter.build.native import Program
from sysenter.lab.present_guest import PresentGuest, present_guest_for
from sysenter.steps import Steps
from sysenter.target.target import Target

__all__ = ["PROGRAMS", "SOURCES", "guest_for", "sockets"]

SOURCES = Path(__file__).resolve().parent / "native/guest"

_STATIC = ("-static",)
_FIXED = ("-static", "-no-pie")
PROGRAMS = (
    Program("callers", SOURCES / "callers.c"),  # dynamic: it is for LD_PRELOAD
    Program("kexec", SOURCES / "kexec_{arch}.c", _STATIC),
    Program("sleeper", SOURCES / "sleeper.c", _STATIC),
    Program("vsyscall", SOURCES / "vsyscall_{arch}.c", _STATIC),
    Program("hazards_arch", SOURCES / "hazards_arch_{arch}.c", _STATIC),
    Program("hazards_calls", SOURCES / "hazards_calls.c", _STATIC),
    Program("hazards_watch", SOURCES / "hazards_watch.c", _STATIC),
    Program("hazards_signals", SOURCES / "hazards_signals.c", _STATIC),
    Program("hazards_patched", SOURCES / "hazards_patched.c", _STATIC),
    Program("hazards_system", SOURCES / "hazards_system.c", _STATIC),
    Program("hazards_unload", SOURCES / "hazards_unload.c", _STATIC),
    Program("hazards_storm", SOURCES / "hazards_storm.c", _STATIC),
    Program("guest_ran", SOURCES / "guest_ran.c", _STATIC),
    Program("vm", SOURCES / "vm.c", _STATIC),
    Program("many_sleepers", SOURCES / "many_sleepers.c", _STATIC),
    Program("served", SOURCES / "served.c", _STATIC),
    Program("watched", SOURCES / "watched.c", _STATIC),
    Program("ldt", SOURCES / "ldt_{arch}.c", _FIXED),
    Program("window", SOURCES / "window_{arch}.c", _FIXED),
)


def guest_for(steps: Steps, target: Target, accelerator: str = "tcg") -> PresentGuest:
    """The product's guest for `target`, with the tests' programs in it."""
    return present_guest_for(steps, target, accelerator, PROGRAMS)


def sockets(cpus: int) -> tuple[str, ...]:
    """QEMU's options for a socket for each processor, for a guest whose processors come and go.

    In one socket this model's processors are threads of one core, and the kernel rewrites its own code
    (sched_smt_present) as the second of them comes and goes. QEMU 7.2's TCG, a thread for each processor, now and then
    keeps the `int3` that stood there for a moment: the guest then runs in a circle for ever, with our module or not.
    """
    return ("-smp", f"{cpus},sockets={cpus}")
