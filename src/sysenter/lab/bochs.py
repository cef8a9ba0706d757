# SPDX-License-Identifier: GPL-2.0-or-later
"""The one place that starts Bochs.

Bochs interprets one instruction after another, as the manuals say, and shares no code
with QEMU. It has what QEMU 7.2's TCG has not: PCID, CET with IBT, #DB held back after
MOV SS. A machine of it boots from a disk (build/disk.py); its serial ports are those of QEMU's.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import pty
import re
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

from sysenter.build.disk import disk_image
from sysenter.defaults import SLOWNESS_OF_BOCHS
from sysenter.errors import SysenterError
from sysenter.kernels.emulators import Bochs
from sysenter.lab.qemu import Machine, Result, lost, with_parent
from sysenter.lab.reading import LOG_LIMIT, read_lines
from sysenter.processes import Interrupted, environment, output_of, running, stopping
from sysenter.scratch import scratch_folder
from sysenter.steps import Steps

__all__ = ["check_model", "run_bochs"]

_GOING = 20.0  # seconds from a task's end to the machine's
_DRAWS_ON = re.compile(rb'connected to screen "(/dev/pts/\d+)"')
_IPS = 50_000_000  # instructions in a second of the guest's time; the time-stamp counter counts them

# reset_on_triple_fault=0: such a guest ends. ignore_bad_msrs: kernels ask for registers that a model has not, and
# read 0.
# sync=none: the guest's time is that of the instructions, whatever the host's is.
_CONFIGURATION = """\
megs: {memory}
romimage: file="{bios}"
vgaromimage: file="{vga_bios}"
cpu: model={model}, ips={ips}, reset_on_triple_fault=0, ignore_bad_msrs=1, msrs="msrs"
clock: sync=none, time0=1700000000
boot: disk
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=disk, path="disk", mode=flat, cylinders=0
ata1: enabled=0
com1: enabled=1, mode=file, dev="console"
com2: enabled=1, mode=file, dev="{task}"
display_library: term
speaker: enabled=0
log: "log"
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
"""

# Registers that Bochs has not, for `msrs`. Columns: address, type (0: none), value at reset (its high half, its low
# half), reserved bits, ignored bits.
# IA32_MISC_ENABLE, bit 0: fast strings are on (SDM Vol. 4, table 2-2). HAZARD: where that reads 0 the kernel goes
# without ERMS but keeps FSRM, and memmove() of 6.1 then runs on for ever.
_MSRS = "0x1a0 0 00000000 00000001 00000000 00000000 00000000 00000000\n"


@cache
def _models(bochs: Bochs) -> tuple[str, ...]:
    """The processor models of Bochs; empty if it does not list them."""
    told = output_of([*bochs.argv, "--help", "cpu"], env=_environment(bochs))
    return tuple(re.findall(r"^(\w+)$", told.partition("Supported CPU models:")[2], re.MULTILINE))


def check_model(bochs: Bochs, model: str) -> None:
    """See that Bochs has a processor of this name. Raises SysenterError if not."""
    known = _models(bochs)
    if known and model not in known:
        near = difflib.get_close_matches(model, known, 3)
        raise SysenterError(f"Bochs knows no processor {model!r}", hint=f"near it: {', '.join(near or known)}")


def _environment(bochs: Bochs) -> dict[str, str]:
    return {**environment(), **bochs.environment}


def run_bochs(
    steps: Steps,
    bochs: Bochs,
    kernel: Path,
    machine: Machine,
    initrd: bytes,
    *,
    what: str,
    timeout: float,
    on_line: Callable[[str], bool | None] | None = None,
    stop: threading.Event | None = None,
) -> Result:
    """Start a machine, read its task's lines to the end, see that it ends; as run_machine() of QEMU's.

    kernel: the folder of disk_kernel(). timeout: seconds of a guest of QEMU's; SLOWNESS_OF_BOCHS times as many here.
    Raises GuestLost, or SysenterError if the machine has what Bochs cannot have.
    """
    with scratch_folder() as folder:
        # All names are those from Bochs's working folder. It has a buffer for the names of its own files that 64
        # characters of a folder's name may overflow: it then ends with "buffer overflow detected". And it reads a
        # quote, or a $ with a variable's name, in a file's name as the shell does.
        (folder / "bochs").symlink_to(bochs.root)
        bochs = replace(bochs, root=Path("bochs"))
        (folder / "disk").write_bytes(disk_image(kernel, machine.append, initrd, machine.memory))
        console, log_file = folder / "console", folder / "log"
        console.touch()
        (folder / "msrs").write_text(_MSRS)
        reading, writing = os.pipe()
        (folder / "configuration").write_text(
            _CONFIGURATION.format(
                memory=machine.memory,
                bios=bochs.bios,
                vga_bios=bochs.vga_bios,
                model=machine.cpu,
                ips=_IPS,
                task=f"/proc/self/fd/{writing}",
            )
        )
        argv = [*bochs.argv, "-q", "-f", "configuration"]
        steps.command(argv)
        start = time.monotonic()
        with (
            open(reading, "rb", buffering=0) as task,
            contextlib.ExitStack() as ending,
        ):
            screen = ending.enter_context(_screen())
            process = ending.enter_context(
                running(
                    with_parent(argv),
                    what="start Bochs",
                    env=_environment(bochs),
                    cwd=folder,
                    stdin=screen,
                    stdout=screen,
                    stderr=screen,
                    pass_fds=(writing,),
                )
            )
            os.close(writing)
            lines, why = read_lines(
                task,
                process.pid,
                start,
                timeout * SLOWNESS_OF_BOCHS,
                console,
                on_line,
                stop,
                slowness=SLOWNESS_OF_BOCHS,
                going=_GOING,
            )
        if stopping.is_set():  # a signal has ended Bochs
            raise Interrupted(15)
        seconds = time.monotonic() - start
        said = console.read_bytes()[-LOG_LIMIT:].decode("utf-8", "replace").replace("\r", "")
        log = log_file.read_text(errors="replace") if log_file.exists() else ""
    complaint = "\n".join(line for line in log.splitlines() if re.match(r"\d+p\[", line))  # its panics
    if not why and not (lines and lines[-1].startswith('{"exit"')):
        why = "the guest ended before its task was done"
        if complaint:
            why += f"; Bochs says: {complaint.splitlines()[0].partition(']')[2].strip()}"
    result = Result(tuple(lines), said, seconds, complaint)
    if why:
        raise lost(what, why, result)
    return result


@contextmanager
def _screen() -> Iterator[int]:
    """A terminal for Bochs, which cannot run without a screen. Nobody looks at it."""
    ours, theirs = pty.openpty()
    drained = threading.Thread(target=_drain, args=(ours,), daemon=True)
    drained.start()
    try:
        yield theirs
    finally:
        os.close(theirs)
        drained.join(2)
        os.close(ours)


def _drain(terminal: int) -> None:
    """Read what Bochs prints, to its end.

    HAZARD: Bochs draws on a terminal that it makes itself, and prints its name here. If nobody reads that terminal,
    Bochs waits for ever.
    """
    said, second = b"", None
    with contextlib.suppress(OSError):  # EIO: the last who had it open has gone
        while data := os.read(terminal, 65536):
            said = (said + data)[-4096:]
            if second is None and (named := _DRAWS_ON.search(said)):
                second = threading.Thread(target=_drain_drawing, args=(named[1].decode(),), daemon=True)
                second.start()


def _drain_drawing(name: str) -> None:
    with contextlib.suppress(OSError, termios.error):
        terminal = os.open(name, os.O_RDWR | os.O_NOCTTY)
        try:
            tty.setraw(terminal)  # an echo would be typing
            while os.read(terminal, 65536):
                pass
        finally:
            os.close(terminal)
