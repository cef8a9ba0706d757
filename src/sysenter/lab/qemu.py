# SPDX-License-Identifier: GPL-2.0-or-later
"""The one place that starts QEMU."""

from __future__ import annotations

import difflib
import os
import re
import shutil
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sysenter.errors import SysenterError
from sysenter.lab.reading import LOG_LIMIT, patience, read_lines, telling
from sysenter.processes import Interrupted, environment, output_of, running, stopping
from sysenter.scratch import scratch_folder
from sysenter.steps import Steps

__all__ = [
    "GuestLost",
    "Machine",
    "Result",
    "based_segment",
    "check_processor",
    "emulators_fault",
    "impossible_flags",
    "kernel_command_line",
    "kvm_stopped",
    "lost",
    "patience",
    "qemu_argv",
    "qemu_program",
    "qemu_version",
    "run_interactive",
    "run_machine",
    "stale_breakpoint",
    "use_qemu",
    "vendor",
    "with_parent",
]

_ATTEMPTS = 3  # for a guest that a fault of the emulator's ended
# The flags that an IRET from the kernel to virtual-8086 mode loads, without IF, which an exception's handler clears.
_LOADED = 0x3E7DD7


class GuestLost(SysenterError):
    """The guest ended, hung or flooded before its task was done."""


@dataclass(frozen=True)
class Machine:
    """A virtual machine to start."""

    qemu: str
    """The emulator's program (Architecture.qemu_for)."""
    cpu: str
    """The emulator's processor model."""
    kernel: Path
    append: str
    """The kernel's command line."""
    accelerator: str = "tcg"
    """ "tcg", "kvm" or "bochs"."""
    icount: bool = False
    """Count guest instructions exactly (TCG only; the time-stamp counter shows them)."""
    memory: int = 256
    """MiB."""
    cpus: int = 1
    extra: tuple[str, ...] = ()
    """More of QEMU's options."""


@dataclass(frozen=True)
class Result:
    """What came out of a machine."""

    lines: tuple[str, ...]
    """What its task wrote."""
    console: str
    """The kernel's log."""
    seconds: float
    """From QEMU's start to its end."""
    complaint: str = ""
    """What QEMU itself said."""


def use_qemu(place: Path) -> None:
    """Take QEMU's programs from a folder, or one program for all; for tests too: SYSENTER_QEMU."""
    os.environ["SYSENTER_QEMU"] = str(place)


def qemu_program(name: str) -> str:
    """The file of one of QEMU's programs, as use_qemu() or the user's environment has it.

    A folder may have one program alone, which then does for both: QEMU's for 64 bits has the 32-bit processors too.
    """
    place = Path(os.environ.get("SYSENTER_QEMU") or "")
    if place == Path(""):
        return name
    if not place.is_dir():
        return str(place)
    return str(next((place / one for one in (name, "qemu-system-x86_64") if (place / one).exists()), place / name))


def qemu_version() -> str:
    """The version of the QEMU that is used, in its own words; "" if it is not there."""
    return _version(qemu_program("qemu-system-x86_64"))


@cache
def _version(program: str) -> str:
    return next(iter(output_of([program, "--version"]).splitlines()), "")


@cache
def _models(binary: str) -> frozenset[str]:
    """The processor models of a QEMU; empty if it does not list them."""
    told = output_of([binary, "-cpu", "help"])
    return frozenset(re.findall(r"^(?:x86)? +(\S+)", told.partition("Recognized CPUID flags")[0], re.MULTILINE))


# QEMU's models that are not Intel's, as its own list for i386 has them.
_VENDORS = {
    "AuthenticAMD": ("EPYC", "Opteron", "athlon", "phenom", "qemu64", "max"),
    "HygonGenuine": ("Dhyana",),
}


def vendor(model: str) -> str:
    """The vendor that a processor model for QEMU's -cpu reports."""
    name, *features = model.split(",")
    for feature in features:
        if feature.startswith("vendor="):
            return feature.removeprefix("vendor=")
    if name == "host":
        found = re.search(r"^vendor_id\s*: (\S+)$", Path("/proc/cpuinfo").read_text(), re.M)
        return found[1] if found else ""
    return next((its for its, models in _VENDORS.items() if name.startswith(models)), "GenuineIntel")


def check_processor(binary: str, model: str) -> None:
    """Raise SysenterError if QEMU has no model of this name. Called before anything is built for it.

    model: as for QEMU's -cpu. QEMU itself checks the words behind a comma.
    """
    name, program = model.split(",")[0], qemu_program(binary)
    known = _models(program)
    if known and name not in known:
        near = difflib.get_close_matches(name, sorted(known), 3)
        raise SysenterError(
            f"{program} knows no processor {name!r}",
            hint=f"near it: {', '.join(near) or 'none'}; `{program} -cpu help` lists all",
        )


def kernel_command_line(*parts: str, limit: int) -> str:
    """The kernel's command line, of parts that may be empty. limit: the kernel's COMMAND_LINE_SIZE.

    Raises SysenterError if it is longer than the kernel reads, or has what is no text.
    """
    line = " ".join(filter(None, parts))
    if any(ord(c) < 32 for c in line):
        raise SysenterError(f"the kernel's command line has a control character: {line!r}", hint="look at --append")
    if len(line.encode(errors="surrogateescape")) >= limit:
        raise SysenterError(
            f"the kernel's command line has {len(line)} characters, of which this kernel reads {limit - 1}",
            hint="give fewer words by --append, or in kernel.toml",
        )
    return line


def qemu_argv(machine: Machine, initrd: Path, console: str, task: str) -> list[str]:
    """QEMU's command line; `console` and `task` are its -serial arguments."""
    argv = [qemu_program(machine.qemu), "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]
    argv += ["-machine", "pc", "-m", str(machine.memory), "-cpu", machine.cpu]
    argv += ["-accel", "kvm" if machine.accelerator == "kvm" else "tcg"]
    if machine.icount:
        argv += ["-icount", "shift=0,sleep=off"]
    if machine.cpus > 1 and "-smp" not in machine.extra:
        argv += ["-smp", str(machine.cpus)]
    argv += ["-kernel", str(machine.kernel), "-initrd", str(initrd), "-append", machine.append]
    argv += ["-serial", console]
    if task:
        argv += ["-serial", task]
    return argv + list(machine.extra)


def with_parent(argv: Sequence[str]) -> list[str]:
    """An emulator that dies with us, whatever kills us (prctl PR_SET_PDEATHSIG)."""
    return ["setpriv", "--pdeathsig", "KILL", "--", *argv]


def _check_installed(argv: Sequence[str]) -> None:
    if not shutil.which(argv[0]):
        if os.environ.get("SYSENTER_QEMU"):
            raise SysenterError(f"there is no program {argv[0]}", hint="SYSENTER_QEMU or --qemu names its folder")
        raise SysenterError(
            f"{argv[0]} is not installed", hint="install Debian's qemu-system-x86, or run without --no-install"
        )


def stale_breakpoint(console: str) -> bool:
    """Did a kernel die of an int3 that is not in its memory? That is the emulator's fault.

    The kernel patches its code by way of int3. QEMU's TCG, with a thread for each CPU, may
    run the translation of an int3 that has been replaced (docs/evidence.md). The oops then
    shows another byte just before <RIP>, where the breakpoint was taken.
    """
    died = re.search(r"int3: 0000 \[#1\].*?Code: [0-9a-f ]*?([0-9a-f]{2}) <[0-9a-f]{2}>", console, re.DOTALL)
    return died is not None and died.group(1) != "cc"


def impossible_flags(console: str) -> bool:
    """Did a 32-bit kernel die in virtual-8086 mode because of flags that CMPXCHG8B left? That is the
    emulator's fault.

    This instruction changes ZF alone. QEMU 7.2's TCG may also put the operand of an earlier addition into
    the flags (docs/evidence.md). An exception just behind it saves these flags, and its IRET finds VM set.
    The allocator's operand is in EAX too, which tells this case from any other.
    """
    for eax, eflags in re.findall(r"EAX: ([0-9a-f]{8})(?:(?!EAX:).)*?EFLAGS: ([0-9a-f]{8})", console, re.DOTALL):
        flags = int(eflags, 16)
        if flags & 1 << 17 and not ((int(eax, 16) | 0x42) ^ flags) & _LOADED:
            return True
    return False


def based_segment(console: str) -> bool:
    """Did a 64-bit kernel access memory at an address to which a base was added that is 0 by the manual? That
    is the emulator's fault.

    In 64-bit mode DS has no base. QEMU 7.2's TCG adds that of the caller's DS where an instruction
    has the segment's prefix, as the one has that releases a spin lock (docs/evidence.md).
    """
    for oops in console.split("BUG: unable to handle page fault for address: ")[1:]:
        address, selector, rdi = (
            re.search(pattern, oops) for pattern in (r"^([0-9a-f]{16})", r" DS: ([0-9a-f]{4})", r" RDI: ([0-9a-f]{16})")
        )
        if address and selector and rdi and re.search(r"Code: [0-9a-f ]*<3e>", oops):
            base = int(address[1], 16) - int(rdi[1], 16)
            if 0 < base < 1 << 32 and int(selector[1], 16) > 3:
                return True
    return False


def emulators_fault(console: str) -> str:
    """The emulator's fault that ended a guest, in words; "" if it was none."""
    if stale_breakpoint(console):
        return "ran a breakpoint that was no longer in memory"
    if based_segment(console):
        return "added DS's base to an address in 64-bit mode"
    return "gave CMPXCHG8B flags that no processor has" if impossible_flags(console) else ""


def kvm_stopped(complaint: str) -> str:
    """How QEMU says that KVM has stopped the guest for good, in words; "" if it does not. complaint: its stderr.

    QEMU itself goes on then, and would wait for a debugger.
    """
    found = re.search(r"^(KVM internal error\..*|error: kvm run failed .*)$", complaint, re.M)
    return f"stopped it ({found[1].strip()})" if found else ""


def lost(what: str, why: str, result: Result) -> GuestLost:
    """The error for a guest that was lost, with its last lines. what: what it did."""
    detail = telling(result.console or result.complaint)
    if result.lines:
        detail += "\nits task said last:\n" + "\n".join(line[:200] for line in result.lines[-3:])
    said = bool(result.console.strip() or result.lines)
    hint = "the guest's last lines are above" if said else "the guest's kernel said nothing at all"
    return GuestLost(f"{what}: {why}", hint=hint, detail=detail)


def run_machine(
    steps: Steps,
    machine: Machine,
    initrd: bytes,
    *,
    what: str,
    timeout: float,
    on_line: Callable[[str], bool | None] | None = None,
    stop: threading.Event | None = None,
) -> Result:
    """Start a machine, read its task's lines to the end, see that it ends.

    what: what it does, for errors. timeout: seconds for the whole life, times patience(). on_line:
    called with each line of the task as it comes. stop: ends it early when set (from
    another thread). Raises GuestLost, with the lines of the console that say why and the task's last,
    if the guest panics, hangs, floods its log or ends without saying how its task
    went; what it says last is {"exit": STATUS}. Begins again, and says so, if the
    emulator's own fault ended it (stale_breakpoint, based_segment, impossible_flags).
    """
    for attempt in range(1, _ATTEMPTS + 1):
        result, why = _run_once(steps, machine, initrd, timeout, on_line, stop)
        fault = emulators_fault(result.console)
        if attempt == _ATTEMPTS or not fault:
            break
        steps.say(f"         {what}: QEMU {fault} (its own fault); once more")
    if why:
        raise lost(what, why, result)
    return result


def _run_once(
    steps: Steps,
    machine: Machine,
    initrd: bytes,
    timeout: float,
    on_line: Callable[[str], bool | None] | None,
    stop: threading.Event | None,
) -> tuple[Result, str]:
    """The output of the machine, started once, and why it ended too early ("" if it did not)."""
    with scratch_folder() as folder:
        console_path = folder / "console"
        console_path.touch()
        shown = qemu_argv(machine, folder / "initrd", f"file:{console_path}", "stdio")
        _check_installed(shown)
        steps.command(shown)
        start = time.monotonic()
        errors_path = folder / "errors"
        with (
            _handed_over(folder / "initrd", initrd) as (initrd_name, initrd_handle),
            _handed_over(console_path, b"") as (console_name, console_handle),
            errors_path.open("wb") as errors,
            running(
                with_parent(qemu_argv(machine, initrd_name, f"file:{console_name}", "stdio")),
                what="start QEMU",
                env=_environment(folder),
                stderr=errors,
                pass_fds=(initrd_handle, console_handle),
            ) as process,
        ):
            assert process.stdout is not None

            def fault(log: str) -> str:
                return emulators_fault(log) or kvm_stopped(errors_path.read_text(errors="replace"))

            lines, why = read_lines(
                process.stdout, process.pid, start, timeout, console_path, on_line, stop, fault=fault
            )
        if stopping.is_set():  # a signal has ended QEMU
            raise Interrupted(15)
        seconds = time.monotonic() - start
        console = console_path.read_bytes()[-LOG_LIMIT:].decode("utf-8", "replace").replace("\r", "")
        complaint = errors_path.read_text(errors="replace").strip()
    if not why and not (lines and lines[-1].startswith('{"exit"')):
        why = "the guest ended before its task was done"
        if not console and complaint:
            why = f"QEMU says: {complaint.splitlines()[-1]}"
    return Result(tuple(lines), console, seconds, complaint), why


def _environment(folder: Path) -> dict[str, str]:
    """QEMU's environment. What a guest writes to its disk (snapshot=on) goes where the user wants temporary files;
    where he says nothing to /var/tmp, QEMU's own choice: /tmp may be memory."""
    return {**environment(), **({"TMPDIR": str(folder)} if os.environ.get("TMPDIR") else {})}


@contextmanager
def _handed_over(path: Path, content: bytes) -> Iterator[tuple[Path, int]]:
    """A file for QEMU, under a name that works whatever the folder is called.

    QEMU divides the name of a Multiboot kernel's initrd at commas and spaces.
    """
    path.write_bytes(content)
    handle = os.open(path, os.O_RDWR)
    try:
        yield Path(f"/proc/self/fd/{handle}"), handle
    finally:
        os.close(handle)


def run_interactive(steps: Steps, machine: Machine, initrd: bytes) -> int:
    """Start a machine with its first serial port on this terminal; returns QEMU's status."""
    with scratch_folder() as folder, _handed_over(folder / "initrd", initrd) as (name, handle):
        shown = qemu_argv(machine, folder / "initrd", "mon:stdio", "")
        _check_installed(shown)
        steps.command(shown)
        argv = with_parent(qemu_argv(machine, name, "mon:stdio", ""))
        modes = termios.tcgetattr(sys.stdin)
        try:
            with running(
                argv, what="start QEMU", stdin=None, stdout=None, stderr=None, pass_fds=(handle,), own_group=False
            ) as process:
                return process.wait()
        finally:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, modes)
