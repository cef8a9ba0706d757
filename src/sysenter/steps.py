# SPDX-License-Identifier: GPL-2.0-or-later
"""What the user sees of long work, and the one place that runs commands."""

from __future__ import annotations

import os
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

from sysenter.errors import SysenterError

__all__ = ["Steps", "run_command"]


@dataclass
class Steps:
    """Reports steps with their times on stderr; stdout is for results.

    debug: also show each command run, in a form that can be pasted.
    """

    debug: bool = False
    console: Console = field(default_factory=lambda: Console(stderr=True, highlight=False))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """A step of the work: said when it is over, with its seconds."""
        start = time.monotonic()
        if self.console.is_terminal:
            self.console.print(f"  ... {what}", style="dim", end="\r")
        yield
        self.say(f"{time.monotonic() - start:5.1f} s  {what}")

    def say(self, line: str) -> None:
        """A line for the user."""
        with self._lock:
            self.console.print(line, markup=False, soft_wrap=True)

    def command(self, argv: Sequence[str | Path], cwd: Path | None = None) -> None:
        """Show a command if the user wants to see them."""
        if self.debug:
            where = f"cd {shlex.quote(str(cwd))} && " if cwd else ""
            self.say(f"$ {where}{shlex.join(str(a) for a in argv)}")

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar for `total` bytes; the yielded function sets how many are done."""
        if not self.console.is_terminal:
            yield lambda done: None
            return
        columns = (TextColumn("         {task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self.console, transient=True) as progress:
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
    hint: str = "",
) -> str:
    """Run a command to its end and return its output (stdout and stderr together).

    timeout: seconds. Raises SysenterError, with the last lines of the output as
    its detail, if the command is not there, fails or takes longer.
    """
    steps.command(argv, cwd)
    try:
        done = subprocess.run(
            [str(a) for a in argv],
            cwd=cwd,
            env=None if env is None else {**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            text=True,
            errors="replace",
        )
    except FileNotFoundError as error:
        raise SysenterError(
            f"{what}: {argv[0]} is not installed", hint="run `./sysenter doctor`, or without --no-install"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise SysenterError(f"{what}: not done after {timeout:.0f} s", hint=hint or f"command: {argv[0]}") from error
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-15:])
        raise SysenterError(f"{what}: {argv[0]} failed with status {done.returncode}", hint=hint, detail=tail)
    return done.stdout
