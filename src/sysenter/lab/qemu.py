# SPDX-License-Identifier: GPL-2.0-or-later
"""The one place that starts QEMU."""

from __future__ import annotations

import difflib
import math
import os
import re
import selectors
import shutil
import subprocess
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
from sysenter.processes import Interrupted, output_of, running, stopping
from sysenter.scratch import scratch_folder
from sysenter.steps import Steps

__all__ = [
    "GuestLost",
    "Machine",
    "Result",
    "check_processor",
    "impossible_flags",
    "kernel_command_line",
    "patience",
    "qemu_argv",
    "run_interactive",
    "run_machine",
    "stale_breakpoint",
    "vendor",
]

_LOG_LIMIT = 2 << 20  # bytes; a guest that logs more is stopped
_PANIC = (b"Kernel panic - not syncing", b"---[ end Kernel panic")
# Seconds of the processor's time, and of the clock's where the host is busy with other things, in which a kernel
# must say something or its userland must have begun (under TCG, on a host at rest, that takes 2 to 8); and of
# using no processor time at all, as one that has halted.
_SILENT_CPU, _SILENT, _HALTED = 30.0, 90.0, 15.0
_TICK = os.sysconf("SC_CLK_TCK")
_USERLAND = '{"userland": true}'  # a guest's init says that it has come
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
    """QEMU's processor model."""
    kernel: Path
    append: str
    """The kernel's command line."""
    accelerator: str = "tcg"
    """ "tcg" or "kvm"."""
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


@cache
def _models(binary: str) -> frozenset[str]:
    """The processors that a QEMU knows; empty if it does not tell."""
    told = output_of([binary, "-cpu", "help"])
    return frozenset(re.findall(r"^(?:x86)? +(\S+)", told.partition("Recognized CPUID flags")[0], re.MULTILINE))


# QEMU's models that are not Intel's (its target/i386/cpu.c).
_VENDORS = {
    "AuthenticAMD": ("EPYC", "Opteron", "athlon", "phenom", "qemu64", "max"),
    "HygonGenuine": ("Dhyana",),
}


def vendor(model: str) -> str:
    """The vendor that a processor model for QEMU's -cpu says that it is of."""
    name, *features = model.split(",")
    for feature in features:
        if feature.startswith("vendor="):
            return feature.removeprefix("vendor=")
    if name == "host":
        found = re.search(r"^vendor_id\s*: (\S+)$", Path("/proc/cpuinfo").read_text(), re.M)
        return found[1] if found else ""
    return next((its for its, models in _VENDORS.items() if name.startswith(models)), "GenuineIntel")


def check_processor(binary: str, model: str) -> None:
    """See that QEMU has a model of this name, before anything is built for it. Raises SysenterError if not.

    model: as for QEMU's -cpu; what stands behind a comma is QEMU's own to check.
    """
    name, known = model.split(",")[0], _models(binary)
    if known and name not in known:
        near = difflib.get_close_matches(name, sorted(known), 3)
        raise SysenterError(
            f"{binary} knows no processor {name!r}",
            hint=f"near it: {', '.join(near) or 'none'}; `{binary} -cpu help` lists all",
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


def patience() -> float:
    """How many times as long as planned a guest may take: SYSENTER_PATIENCE, for kernels that check themselves."""
    value = os.environ.get("SYSENTER_PATIENCE") or "1"
    try:
        times = float(value)
    except ValueError:
        times = math.nan
    if not math.isfinite(times):
        raise SysenterError(f"SYSENTER_PATIENCE is {value!r}, not a number", hint="give one, as 5")
    return max(times, 1.0)


def qemu_argv(machine: Machine, initrd: Path, console: str, task: str) -> list[str]:
    """QEMU's command line; `console` and `task` are its -serial arguments."""
    argv = [machine.qemu, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]
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


def _with_parent(argv: Sequence[str]) -> list[str]:
    """QEMU that dies with us, whatever kills us (prctl PR_SET_PDEATHSIG)."""
    return ["setpriv", "--pdeathsig", "KILL", "--", *argv]


def _check_installed(argv: Sequence[str]) -> None:
    if not shutil.which(argv[0]):
        raise SysenterError(
            f"{argv[0]} is not installed", hint="install Debian's qemu-system-x86, or run without --no-install"
        )


def _telling(text: str) -> str:
    """The lines of a console that say why it ended: from the first oops on, else the last ones."""
    lines = text.replace("\r", "").splitlines()
    why = re.compile(r"Oops|BUG:|Machine Check Exception|Kernel panic")
    first = next((n for n, line in enumerate(lines) if why.search(line)), None)
    return "\n".join(lines[-12:] if first is None else lines[first : first + 40])


def stale_breakpoint(console: str) -> bool:
    """Whether a kernel died of an int3 that is not in its memory: the emulator's fault, not its own.

    The kernel patches its code by way of int3. QEMU's TCG, with a thread for each
    CPU, may run its translation of one that has been replaced (docs/evidence.md); the
    oops then shows another byte where the breakpoint was taken, just before <RIP>.
    """
    died = re.search(r"int3: 0000 \[#1\].*?Code: [0-9a-f ]*?([0-9a-f]{2}) <[0-9a-f]{2}>", console, re.DOTALL)
    return died is not None and died.group(1) != "cc"


def impossible_flags(console: str) -> bool:
    """Whether a 32-bit kernel died in virtual-8086 mode, by flags that CMPXCHG8B had left: the emulator's
    fault, not its own.

    This instruction changes ZF alone. QEMU 7.2's TCG may put the operand of an earlier addition into the
    flags as well (docs/evidence.md): an exception just behind it saves them, and its IRET finds VM
    set. The allocator's operand is in EAX too, and so is told from any other cause.
    """
    for eax, eflags in re.findall(r"EAX: ([0-9a-f]{8})(?:(?!EAX:).)*?EFLAGS: ([0-9a-f]{8})", console, re.DOTALL):
        flags = int(eflags, 16)
        if flags & 1 << 17 and not ((int(eax, 16) | 0x42) ^ flags) & _LOADED:
            return True
    return False


def _emulators_fault(console: str) -> str:
    """What of the emulator's ended a guest; "" if nothing did."""
    if stale_breakpoint(console):
        return "ran a breakpoint that was no longer in memory"
    return "gave CMPXCHG8B flags that no processor has" if impossible_flags(console) else ""


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
    emulator's own fault ended it (stale_breakpoint, impossible_flags).
    """
    for attempt in range(1, _ATTEMPTS + 1):
        result, why = _run_once(steps, machine, initrd, timeout, on_line, stop)
        fault = _emulators_fault(result.console)
        if attempt == _ATTEMPTS or not fault:
            break
        steps.say(f"         {what}: QEMU {fault} (its own fault); once more")
    if why:
        detail = _telling(result.console or result.complaint)
        if result.lines:
            detail += "\nits task said last:\n" + "\n".join(line[:200] for line in result.lines[-3:])
        said = bool(result.console.strip() or result.lines)
        hint = "the guest's last lines are above" if said else "the guest's kernel said nothing at all"
        raise GuestLost(f"{what}: {why}", hint=hint, detail=detail)
    return result


def _run_once(
    steps: Steps,
    machine: Machine,
    initrd: bytes,
    timeout: float,
    on_line: Callable[[str], bool | None] | None,
    stop: threading.Event | None,
) -> tuple[Result, str]:
    """What came out of one life of the machine, and why it ended too early ("" if it did not)."""
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
                _with_parent(qemu_argv(machine, initrd_name, f"file:{console_name}", "stdio")),
                what="start QEMU",
                stderr=errors,
                pass_fds=(initrd_handle, console_handle),
            ) as process,
        ):
            lines, why = _read_lines(process, start, timeout, console_path, on_line, stop)
        if stopping.is_set():  # a signal has ended QEMU
            raise Interrupted(15)
        seconds = time.monotonic() - start
        console = console_path.read_bytes()[-_LOG_LIMIT:].decode("utf-8", "replace").replace("\r", "")
        complaint = errors_path.read_text(errors="replace").strip()
    if not why and not (lines and lines[-1].startswith('{"exit"')):
        why = "the guest ended before its task was done"
        if not console and complaint:
            why = f"QEMU says: {complaint.splitlines()[-1]}"
    return Result(tuple(lines), console, seconds, complaint), why


@contextmanager
def _handed_over(path: Path, content: bytes) -> Iterator[tuple[Path, int]]:
    """A file for QEMU, by a name that holds whatever the folder's is.

    QEMU divides the name of a Multiboot kernel's initrd at commas and spaces.
    """
    path.write_bytes(content)
    handle = os.open(path, os.O_RDWR)
    try:
        yield Path(f"/proc/self/fd/{handle}"), handle
    finally:
        os.close(handle)


def _seconds_used(pid: int) -> float:
    """The processor time that a process has used; 0 if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICK


class _Silence:
    """Tells when a guest has been silent for too long to be one that still starts."""

    def __init__(self, pid: int, start: float) -> None:
        self._pid, self._start = pid, start
        self._used, self._since = 0.0, start  # the last progress seen, and when

    def too_long(self) -> str:
        """How long it is silent, in words; "" if it may still be starting."""
        now, used = time.monotonic(), _seconds_used(self._pid)
        if used - self._used > 0.1:
            self._used, self._since = used, now
        if now - self._since > _HALTED * patience():
            return f"{now - self._start:.0f} s, and it has stopped"
        if used > _SILENT_CPU * patience():
            return f"{used:.0f} s of work"
        return f"{now - self._start:.0f} s" if now - self._start > _SILENT * patience() else ""


def _read_lines(
    process: subprocess.Popen[bytes],
    start: float,
    timeout: float,
    console: Path,
    on_line: Callable[[str], bool | None] | None,
    stop: threading.Event | None,
) -> tuple[list[str], str]:
    """The task's lines, and why reading them stopped early ("" if it did not)."""
    assert process.stdout is not None
    lines: list[str] = []
    pending, total, done, alive = b"", 0, False, False
    deadline = start + timeout * patience()
    silence = _Silence(process.pid, start)
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            if stop and stop.is_set():
                return lines, "stopped"
            left = deadline - time.monotonic()
            if left <= 0:
                return lines, "" if done else "no end of its task in the time allowed"
            if not selector.select(min(left, 0.5)):
                if console.stat().st_size > _LOG_LIMIT:
                    return lines, f"it filled its log ({_LOG_LIMIT >> 20} MiB)"
                if any(mark in console.read_bytes()[-4096:] for mark in _PANIC):
                    return lines, "the kernel panicked"
                alive = alive or console.stat().st_size > 0
                if not alive and (long := silence.too_long()):
                    return lines, (
                        f"neither a line on the kernel's console nor its userland's first one in {long}:"
                        " it does not start on this processor (--cpu) or with this command line (--append)"
                    )
                continue
            alive = True
            chunk = process.stdout.read1(65536)  # type: ignore[attr-defined]
            if not chunk:
                panicked = any(mark in console.read_bytes()[-8192:] for mark in _PANIC)
                return lines, "the kernel panicked" if panicked else ""
            *whole, pending = (pending + chunk).split(b"\n")
            for raw in whole:
                line = raw.decode("utf-8", "replace").rstrip("\r")
                if line == _USERLAND:
                    continue
                done = line.startswith('{"exit"')
                if done and lines and not lines[-1]:
                    lines.pop()  # the guest's init ends what may be a line without an end
                if on_line and on_line(line):
                    continue
                lines.append(line)
                total += len(raw) + 1
            if total + len(pending) > _LOG_LIMIT:
                return lines, f"its task wrote more than {_LOG_LIMIT >> 20} MiB"


def run_interactive(steps: Steps, machine: Machine, initrd: bytes) -> int:
    """Start a machine with its first serial port on this terminal; returns QEMU's status."""
    with scratch_folder() as folder, _handed_over(folder / "initrd", initrd) as (name, handle):
        shown = qemu_argv(machine, folder / "initrd", "mon:stdio", "")
        _check_installed(shown)
        steps.command(shown)
        argv = _with_parent(qemu_argv(machine, name, "mon:stdio", ""))
        modes = termios.tcgetattr(sys.stdin)
        try:
            with running(
                argv, what="start QEMU", stdin=None, stdout=None, stderr=None, pass_fds=(handle,), own_group=False
            ) as process:
                return process.wait()
        finally:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, modes)
