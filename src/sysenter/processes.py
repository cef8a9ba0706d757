# SPDX-License-Identifier: GPL-2.0-or-later
"""Starts programs, in an environment of ours, and ends all of them before we end.

The caller's environment is not passed on, since it would change results: kbuild
reads CROSS_COMPILE, LLVM and MAKEFLAGS, gcc reads CPATH, every program reads
LD_PRELOAD. PASSED_ON, NETWORK and OURS list what is.

SIGINT, SIGTERM and SIGHUP raise Interrupted in the main thread, after every
program that runs here has been ended, so that other threads come to their end too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO

from sysenter.errors import SysenterError

__all__ = [
    "NETWORK",
    "OURS",
    "PASSED_ON",
    "Interrupted",
    "catch_signals",
    "cleaning_up",
    "environment",
    "output_of",
    "running",
    "stopping",
    "undisturbed",
]

# To every program; beside them LC_ALL=C, since what programs say is read, and TMPDIR.
PASSED_ON = ("PATH", "HOME", "USER", "LOGNAME", "TERM")
# To apt and pip too: how this machine reaches its mirrors.
NETWORK = (
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "APT_CONFIG",
    "PIP_CACHE_DIR",
    "PIP_CERT",
    "PIP_CONFIG_FILE",
    "PIP_DEFAULT_TIMEOUT",
    "PIP_EXTRA_INDEX_URL",
    "PIP_FIND_LINKS",
    "PIP_INDEX_URL",
    "PIP_NO_INDEX",
    "PIP_PROXY",
    "PIP_TRUSTED_HOST",
    "XDG_CONFIG_HOME",
)
# To a sysenter of our own: where things are kept, how long is waited, and which emulator is used.
OURS = ("XDG_CACHE_HOME", "XDG_DATA_HOME", "SYSENTER_PATIENCE", "SYSENTER_DEBIAN_MIRROR", "SYSENTER_QEMU")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # where cron or a service gives none
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_CLEANING = 5.0  # seconds in which a second signal is not heard: shells and terminals send several
_ENDING = 10.0  # seconds that a program of ours has to end what it has started


class Interrupted(KeyboardInterrupt):
    """A signal asked us to end. number: which."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


stopping = threading.Event()  # set once a signal has come: nothing new is started

_lock = threading.RLock()  # the handler runs in the main thread, which may hold it
_alive: dict[int, tuple[subprocess.Popen[bytes], bool]] = {}  # with whether it is one of ours
_held = 0  # how deep the main thread is in undisturbed()
_pending = 0  # the signal that came there
_since = 0.0
_home_process = 0


def environment(*, network: bool = False, ours: bool = False) -> dict[str, str]:
    """The environment for a program. network: for one that fetches something. ours: for one of ours."""
    names = PASSED_ON + (NETWORK if network else ()) + (OURS if ours else ())
    return {"PATH": _PATH, **{n: os.environ[n] for n in names if n in os.environ}, "LC_ALL": "C"}


def catch_signals() -> None:
    """From now on the signals raise Interrupted; one that is ignored (nohup) stays so."""
    global _home_process
    _home_process = os.getpid()
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _on_signal)


def _on_signal(number: int, _frame: FrameType | None) -> None:
    global _pending
    if os.getpid() != _home_process:  # a fork of ours: the parent tells what there is to tell
        os._exit(128 + number)
    if stopping.is_set() and time.monotonic() < _since + _CLEANING:
        return
    if _held:
        _pending = number
    else:
        _stop(number)


def _stop(number: int) -> None:
    global _since
    _since = time.monotonic()
    stopping.set()
    for process, ours in list(_alive.values()):
        if ours:
            _ask(process)
        else:
            _kill(process)
    raise Interrupted(number)


@contextmanager
def undisturbed() -> Iterator[None]:
    """In the main thread a signal waits until the block is over."""
    global _held, _pending
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _held += 1
    try:
        yield
    finally:
        _held -= 1
        if _pending and not _held:
            number, _pending = _pending, 0
            _stop(number)


@contextmanager
def cleaning_up() -> Iterator[None]:
    """A block that undoes work after a signal: programs can be started again, and a further signal waits."""
    with undisturbed():
        stopped = stopping.is_set()
        stopping.clear()
        try:
            yield
        finally:
            if stopped:
                stopping.set()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a program and all that it has started."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def _ask(process: subprocess.Popen[bytes]) -> None:
    """Have a program of ours end: what it has started is in groups of its own, which only it knows."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process.pid, signal.SIGTERM)


@contextmanager
def running(
    argv: Sequence[str | Path],
    *,
    what: str,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
    stdin: int | None = subprocess.DEVNULL,
    stdout: int | IO[bytes] | None = subprocess.PIPE,
    stderr: int | IO[bytes] | None = subprocess.STDOUT,
    pass_fds: Sequence[int] = (),
    own_group: bool = True,
    ours: bool = False,
) -> Iterator[subprocess.Popen[bytes]]:
    """A program while it runs; it and what it has started end with the block.

    what: what it is for, in errors. own_group: False where it has the terminal. ours: it runs programs by this
    module too, and gets ten seconds to end them.
    Raises SysenterError if it is not there or cannot be run.
    """
    words = [str(a) for a in argv]
    with undisturbed(), _lock:
        if stopping.is_set():
            raise Interrupted(signal.SIGTERM)
        try:
            process = subprocess.Popen(
                words,
                cwd=cwd,
                env=environment() if env is None else env,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                pass_fds=pass_fds,
                process_group=0 if own_group else None,
            )
        except FileNotFoundError as error:
            raise SysenterError(
                f"{what}: {words[0]} is not installed", hint="run `./sysenter doctor`, or without --no-install"
            ) from error
        except (OSError, ValueError) as error:  # ValueError: a NUL in an argument
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise SysenterError(
                f"{what}: {words[0]} cannot be run: {reason}", hint="run `./sysenter doctor`"
            ) from error
        _alive[process.pid] = process, ours
    try:
        yield process
    finally:
        if ours and process.poll() is None:
            with undisturbed(), contextlib.suppress(subprocess.TimeoutExpired):
                _ask(process)
                process.wait(_ENDING)
        if own_group:
            _kill(process)
        elif process.poll() is None:
            process.terminate()  # gives the terminal back
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(2)
            process.kill()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()
        process.wait()
        _alive.pop(process.pid, None)


def output_of(argv: Sequence[str | Path], *, env: dict[str, str] | None = None) -> str:
    """What a program says, stdout and stderr together; "" if it cannot be run or takes 20 seconds."""
    try:
        with running(argv, what=str(argv[0]), env=env) as process:
            return process.communicate(timeout=20)[0].decode(errors="replace")
    except (SysenterError, subprocess.TimeoutExpired):
        return ""
