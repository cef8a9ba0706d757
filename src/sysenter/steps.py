# SPDX-License-Identifier: GPL-2.0-or-later
"""What the user sees of long work, and the one place that runs commands."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sysenter.errors import SysenterError
from sysenter.processes import environment, running
from sysenter.scratch import scratch_folder

__all__ = ["Steps", "run_command"]


@dataclass
class Steps:
    """Reports steps with their times on stderr; stdout is for results."""

    debug: bool = False
    """Whether each command run is shown too, in a form that can be pasted."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _covers: int = 0  # columns that the next line has to cover

    @property
    def _live(self) -> bool:
        """Whether stderr is a terminal on which a line can be overwritten."""
        return bool(sys.stderr and sys.stderr.isatty()) and os.environ.get("TERM") not in ("dumb", "unknown")

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """A step of the work: said when it is over, with its seconds."""
        start = time.monotonic()
        if self._live:
            line = f"  ... {what}"[: shutil.get_terminal_size().columns - 1]
            with self._lock:
                self._write(line.ljust(self._covers) + "\r")
                self._covers = len(line)
        yield
        self.say(f"{time.monotonic() - start:5.1f} s  {what}")

    def say(self, line: str) -> None:
        """A line for the user."""
        with self._lock:
            self._write(line.ljust(self._covers) + "\n")
            self._covers = 0

    def _write(self, text: str) -> None:
        # A terminal that is gone, or a stderr that was closed, is no reason to stop.
        with contextlib.suppress(OSError, ValueError):
            if sys.stderr:
                sys.stderr.write(text)
                sys.stderr.flush()

    def command(self, argv: Sequence[str | Path], cwd: Path | None = None) -> None:
        """Show a command if the user wants to see them."""
        if self.debug:
            where = f"cd {shlex.quote(str(cwd))} && " if cwd else ""
            self.say(f"$ {where}{shlex.join(str(a) for a in argv)}")

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar for `total` bytes; the yielded function sets how many are done."""
        with self._bar(what, total, "DownloadColumn", "TimeElapsedColumn") as advance:
            yield advance

    @contextmanager
    def counted(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar for `total` pieces of work, with an estimate of the time left."""
        with self._bar(what, total, "MofNCompleteColumn", "TimeRemainingColumn") as advance:
            yield advance

    @contextmanager
    def _bar(self, what: str, total: int, *columns: str) -> Iterator[Callable[[int], None]]:
        if not self._live:
            yield lambda done: None
            return
        # Here, so that what needs no bar needs no package.
        from rich import progress as bars
        from rich.console import Console

        more = (getattr(bars, name)() for name in columns)
        shown = (bars.TextColumn("         {task.description}"), bars.BarColumn(), *more)
        with bars.Progress(*shown, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(what, total=total)
            yield lambda done: progress.update(task, completed=min(done, total))


def run_command(
    steps: Steps,
    argv: Sequence[str | Path],
    *,
    what: str,
    timeout: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    network: bool = False,
    hint: str = "",
) -> str:
    """Run a command to its end and return its output (stdout and stderr together).

    timeout: seconds. env: more for its environment, which is not the caller's
    (processes.environment()). network: whether it fetches something. Raises
    SysenterError, with the last lines of the output as its detail, if the command is
    not there, fails or takes longer.
    """
    steps.command(argv, cwd)
    with scratch_folder() as temporary:  # what a compiler leaves there when it is killed goes with it
        variables = {**environment(network=network), "TMPDIR": str(temporary), **(env or {})}
        with running(argv, what=what, env=variables, cwd=cwd) as process:
            try:
                said = process.communicate(timeout=timeout)[0].decode(errors="replace")
            except subprocess.TimeoutExpired as error:
                raise SysenterError(
                    f"{what}: not done after {timeout:.0f} s", hint=hint or f"command: {argv[0]}"
                ) from error
            status = process.returncode
    if status:
        how = f"failed with status {status}" if status > 0 else f"was ended by signal {-status}"
        tail = "\n".join(said.splitlines()[-15:])
        raise SysenterError(
            f"{what}: {argv[0]} {how}",
            hint=hint or ("the lines above are its own" if tail else "it said nothing"),
            detail=tail,
        )
    return said
