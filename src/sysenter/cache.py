# SPDX-License-Identifier: GPL-2.0-or-later
"""The user's cache folder: everything fetched or built is kept there.

A folder in it is whole or absent: it is filled under another name and renamed
when done, so that Ctrl-C, a full disk or a crash leave nothing half-done.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["cache_folder", "digest", "file_sha256", "fill", "lock"]


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/sysenter, or ~/.cache/sysenter (XDG Base Directory)."""
    base = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(base) if base else Path.home() / ".cache") / "sysenter"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def fill(folder: Path) -> Iterator[Path]:
    """Fill `folder` anew: yields an empty folder that takes its name at the end."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for leftover in folder.parent.glob(f".{folder.name}.*"):
        shutil.rmtree(leftover, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield temporary
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


@contextmanager
def lock(name: str) -> Iterator[None]:
    """Hold one of the cache's locks: two runs at once take turns at filling it."""
    with (cache_folder() / f"{name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def digest(parts: Iterable[bytes | str]) -> str:
    """A short name for a content: the same parts give the same name."""
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        sha.update(len(data).to_bytes(8, "little") + data)
    return sha.hexdigest()[:20]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
