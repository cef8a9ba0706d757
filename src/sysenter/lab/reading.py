# SPDX-License-Identifier: GPL-2.0-or-later
"""What a machine says while it lives, read with a limit on every wait."""

from __future__ import annotations

import math
import os
import re
import selectors
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from sysenter.errors import SysenterError

__all__ = ["LOG_LIMIT", "patience", "read_lines", "telling"]

LOG_LIMIT = 2 << 20  # bytes; a guest that logs more is stopped
_OOPS = 16384  # bytes of a log that hold an oops whole
_PANIC = (b"Kernel panic - not syncing", b"---[ end Kernel panic")
# A kernel must print something, or its userland must have begun, within so many seconds of processor time. (Under TCG,
# on an idle host, it takes 2 to 8.) The second limit is of the clock, for a busy host. The third is for a guest that
# uses no processor time at all, because it has halted.
_SILENT_CPU, _SILENT, _HALTED = 30.0, 90.0, 15.0
_TICK = os.sysconf("SC_CLK_TCK")
_USERLAND = '{"userland": true}'  # a guest's init says that it has come


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


def telling(text: str) -> str:
    """The lines of a console that say why it ended: from the first oops on, else the last ones."""
    lines = text.replace("\r", "").splitlines()
    why = re.compile(r"Oops|BUG:|Machine Check Exception|Kernel panic")
    first = next((n for n, line in enumerate(lines) if why.search(line)), None)
    return "\n".join(lines[-12:] if first is None else lines[first : first + 40])


def _seconds_used(pid: int) -> float:
    """The processor time that a process has used; 0 if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICK


class _Silence:
    """Tells when a guest has been silent for too long to be one that still starts."""

    def __init__(self, pid: int, start: float, slowness: float) -> None:
        self._pid, self._start, self._times = pid, start, patience() * slowness
        self._used, self._since = 0.0, start  # the last progress seen, and when

    def too_long(self) -> str:
        """How long it is silent, in words; "" if it may still be starting."""
        now, used = time.monotonic(), _seconds_used(self._pid)
        if used - self._used > 0.1:
            self._used, self._since = used, now
        if now - self._since > _HALTED * self._times:
            return f"{now - self._start:.0f} s, and it has stopped"
        if used > _SILENT_CPU * self._times:
            return f"{used:.0f} s of work"
        return f"{now - self._start:.0f} s" if now - self._start > _SILENT * self._times else ""


def read_lines(
    stream: IO[bytes],
    pid: int,
    start: float,
    timeout: float,
    console: Path,
    on_line: Callable[[str], bool | None] | None,
    stop: threading.Event | None,
    *,
    slowness: float = 1,
    going: float | None = None,
    fault: Callable[[str], str] = lambda log: "",
) -> tuple[list[str], str]:
    """The task's lines, and why reading them stopped early ("" if it did not).

    stream: where they come; it ends with the machine. pid: the emulator's. start: when it was started.
    timeout: seconds, times patience(). slowness: of the emulator, for what a kernel may take until it first
    speaks. going: seconds that the machine has for its end once the task is done; None for what is left.
    fault: the emulator's own fault that the end of the kernel's log tells of, in words; "" if it tells of none.
    """
    lines: list[str] = []
    pending, total, done, alive = b"", 0, False, False
    deadline = start + timeout * patience()
    silence = _Silence(pid, start, slowness)
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            if stop and stop.is_set():
                return lines, "stopped"
            left = deadline - time.monotonic()
            if left <= 0:
                return lines, "" if done else "no end of its task in the time allowed"
            if not selector.select(min(left, 0.5)):
                if console.stat().st_size > LOG_LIMIT:
                    return lines, f"it filled its log ({LOG_LIMIT >> 20} MiB)"
                log = console.read_bytes()[-_OOPS:]
                if any(mark in log[-4096:] for mark in _PANIC):
                    return lines, "the kernel panicked"
                if its_own := fault(log.decode("utf-8", "replace")):
                    return lines, f"the emulator {its_own}"
                alive = alive or console.stat().st_size > 0
                if not alive and (long := silence.too_long()):
                    return lines, (
                        f"neither a line on the kernel's console nor its userland's first one in {long}:"
                        " it does not start on this processor (--cpu) or with this command line (--append)"
                    )
                continue
            alive = True
            chunk = os.read(stream.fileno(), 65536)
            if not chunk:
                panicked = any(mark in console.read_bytes()[-8192:] for mark in _PANIC)
                return lines, "the kernel panicked" if panicked else ""
            *whole, pending = (pending + chunk).split(b"\n")
            for raw in whole:
                line = raw.decode("utf-8", "replace").rstrip("\r")
                if line == _USERLAND:
                    continue
                done = line.startswith('{"exit"')
                if done and going is not None:
                    deadline = min(deadline, time.monotonic() + going)
                if done and lines and not lines[-1]:
                    lines.pop()  # the guest's init ends what may be a line without an end
                if on_line and on_line(line):
                    continue
                lines.append(line)
                total += len(raw) + 1
            if total + len(pending) > LOG_LIMIT:
                return lines, f"its task wrote more than {LOG_LIMIT >> 20} MiB"
