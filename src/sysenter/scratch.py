# SPDX-License-Identifier: GPL-2.0-or-later
"""Temporary folders, which are removed when the work ends, however it ends.

Only SIGKILL and a power cut leave one. Each is locked while its maker lives, so
the next run tells what is left over from what is in use, and removes it.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sysenter.errors import SysenterError
from sysenter.processes import undisturbed

__all__ = ["scratch_folder", "temporary_folder"]

_PREFIX = "sysenter-scratch-"
_YOUNG = 60.0  # seconds; a younger one may not be locked yet
_folders: set[Path] = set()
_swept: set[Path] = set()


def temporary_folder() -> Path:
    """$TMPDIR, or /tmp. Raises SysenterError if nothing can be written there."""
    asked = os.environ.get("TMPDIR")
    folder = Path(asked).absolute() if asked else Path("/tmp")
    if not asked and not os.access(folder, os.W_OK | os.X_OK):
        folder = Path("/var/tmp")
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise SysenterError(
            f"the temporary folder {folder} cannot be written to", hint="set TMPDIR to a folder that can"
        )
    if "%" in str(folder):  # QEMU reads a name for its log as a pattern
        raise SysenterError(f"the temporary folder {folder} has a % in its name", hint="set TMPDIR to one without")
    return folder


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new folder, removed with all that is in it when the block is over."""
    parent = temporary_folder()
    _sweep(parent)
    with undisturbed():
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        _folders.add(folder)
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        with contextlib.suppress(OSError):  # a file system that has no locks: it is not swept either
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield folder
    finally:
        with undisturbed():
            _remove(folder)
            os.close(held)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    _folders.discard(folder)


@atexit.register
def _remove_all() -> None:
    """Remove a folder that a signal left between two statements of scratch_folder()."""
    for folder in list(_folders):
        _remove(folder)


def _sweep(parent: Path) -> None:
    """Remove what runs that were killed have left (once a process)."""
    if parent in _swept:
        return
    _swept.add(parent)
    for folder in parent.glob(f"{_PREFIX}*"):
        try:
            info = folder.lstat()
            if info.st_uid != os.getuid() or time.time() - info.st_mtime < _YOUNG:
                continue
            held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # its maker lives
            pass
        finally:
            os.close(held)
