# SPDX-License-Identifier: GPL-2.0-or-later
"""How a command ends, whatever happens to it: one line for the user, and an exit status.

0: all well. 1: an error, or a difference found. 128 and the signal's number: ended by
a signal, as shells have it (130: Ctrl-C; 141: nobody read the rest of the output).
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable

from sysenter.errors import SysenterError, as_called
from sysenter.processes import Interrupted, catch_signals
from sysenter.steps import Steps

__all__ = ["conclude", "ready_streams", "told"]

_DEBIANS = {"elftools": "python3-pyelftools"}  # the others have the package's name
_PLAIN = {"×": "x", "µ": "u", "·": ".", "…": "...", "–": "-", "—": "-", "’": "'", "−": "-"}


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Replacements for characters that the output's character set does not have."""
    assert isinstance(error, UnicodeEncodeError)
    return "".join(_PLAIN.get(c, "?") for c in error.object[error.start : error.end]), error.end


def ready_streams() -> None:
    """Make stdout and stderr writable: in any character set; a closed stream (`>&-`) goes to /dev/null."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one; else the next file would get it
    codecs.register_error("sysenter-plain", _plain)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # a test's stand-in
            stream.reconfigure(errors="sysenter-plain")  # type: ignore[union-attr]


def conclude(steps: Steps, command: Callable[[], int]) -> int:
    """Run a command to its end; returns the exit status. Errors are one line and a hint."""
    catch_signals()
    try:
        status = command()
        sys.stdout.flush()
        return status
    except SystemExit as end:  # argparse has said what there is to say
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            _give_up_stdout()
        except OSError as error:
            _give_up_stdout()
            steps.say(f"sysenter: {told(error)[1]}")
            return 1
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BrokenPipeError:
        _give_up_stdout()  # nobody wants the rest (`| head -1`): no error
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt as error:
        number = error.number if isinstance(error, Interrupted) else int(signal.SIGINT)
        by = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
        steps.say(f"sysenter: interrupted{by}; nothing is left running and the cache is usable")
        return 128 + number
    except Exception as error:
        if steps.debug:
            steps.say(traceback.format_exc().rstrip())
        detail, line = told(error)
        if detail:
            steps.say(detail)
        steps.say(f"sysenter: {as_called(line)}")
        try:
            sys.stdout.flush()  # what there is of results
        except OSError:
            _give_up_stdout()
        return 1


def _give_up_stdout() -> None:
    """Discard unwritten output, so that the interpreter reports no second error when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def told(error: Exception) -> tuple[str, str]:
    """What to print for an error that ended a command or a job: details, and the one line with its hint."""
    if isinstance(error, SysenterError):
        return error.detail, str(error)
    if isinstance(error, OSError):
        hint = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "--debug shows where"
        return "", f"{error} ({hint})"
    if isinstance(error, MemoryError):
        return "", "this machine's memory is not enough (1 GiB is needed)"
    said = " ".join(str(error).split())
    package = (error.name or "").partition(".")[0] if isinstance(error, ImportError) else ""
    if package not in ("", "sysenter"):  # Debian's own may be older; its package of ours depends on few
        debians = _DEBIANS.get(package, f"python3-{package}")
        hint = f"a clone's ./sysenter sets it up; Debian's is {debians}"
        return "", f"this needs the Python package {package}: {said} ({hint})"
    where = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{os.path.basename(where.filename)}:{where.lineno}"
    return "", f"unexpected {type(error).__name__} at {place}: {said} (this is a bug: --debug shows more; report it)"
