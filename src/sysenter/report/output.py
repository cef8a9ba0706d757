# SPDX-License-Identifier: GPL-2.0-or-later
"""Where results go."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from sysenter.errors import SysenterError

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["check_writable", "tables", "write_json", "write_text"]

_STDOUT = Path("-")


class _Patient:
    """A stream that goes on when its reader has gone (`| head -1`): the work's other results are still wanted."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._gone = False

    def write(self, text: str) -> int:
        try:
            return len(text) if self._gone else self._stream.write(text)
        except BrokenPipeError:
            self._gone = True
            return len(text)

    def flush(self) -> None:
        try:
            if not self._gone:
                self._stream.flush()
        except BrokenPipeError:
            self._gone = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def tables(json_to: Path | None = None, width: int = 120) -> Console:
    """For tables: standard output, or standard error where JSON goes to standard output.

    Into a file or a pipe they are not squeezed to 80 columns. Brackets are text: what a compiler or
    a kernel says has some.
    """
    from rich.console import Console

    stream = sys.stderr if json_to == _STDOUT else sys.stdout
    file = cast("IO[str]", _Patient(stream))
    return Console(file=file, markup=False, highlight=False, width=None if stream.isatty() else width)


def check_writable(path: Path) -> None:
    """Raise SysenterError if a result cannot be written there: before the work, not after it."""
    if path == _STDOUT:
        return
    hint = "give a file in a folder that you can write to"
    if path.is_dir():
        raise SysenterError(f"cannot write {path}: it is a folder", hint="give a file in it")
    parent = path.absolute().parent
    if not parent.is_dir():
        raise SysenterError(f"cannot write {path}: there is no folder {parent}", hint=hint)
    if not os.access(path if path.exists() else parent, os.W_OK):
        raise SysenterError(f"cannot write {path}", hint=hint)


def write_json(path: Path, value: Any) -> None:
    """Write a result; "-" is standard output. Raises SysenterError."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text, in UTF-8 whatever the locale says; "-" is standard output. Raises SysenterError."""
    if path == _STDOUT:
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SysenterError(f"cannot write {path}: {error.strerror}", hint="give another file") from error
