# SPDX-License-Identifier: GPL-2.0-or-later
"""The user's cache folder: everything fetched or built is kept there.

A folder in it is whole or absent: it is filled under another name and renamed
when done, so that Ctrl-C, a full disk or a crash leave nothing half-done.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import pwd
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from sysenter.errors import SysenterError
from sysenter.processes import undisturbed

__all__ = [
    "UNREADABLE",
    "cache_folder",
    "cache_path",
    "digest",
    "file_sha256",
    "fill",
    "home_folder",
    "lock",
    "lock_folder",
    "write_whole",
]

_ELSEWHERE = "set XDG_CACHE_HOME to the absolute path of another folder"
# kbuild takes no spaces and colons, and gcc no commas (-Wp,-MMD,FILE); the rest is what make and sh read, and bytes
# that are not UTF-8, as Python has them: we write the folder's name into text.
_BAD_CHARACTERS = re.compile(r"[\s:,;'\"\\$#%&|<>()*?\[\]{}`!\udc80-\udcff]")
UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError)
"""What reading a record of the cache may raise: it is absent, no JSON, or JSON of another form."""
_PATIENCE = 1800.0  # seconds that a lock is waited for: as long as the longest download may take


def home_folder(what: str, hint: str) -> str:
    """$HOME; where there is none, as under cron, the one of the system's list of users.

    Raises SysenterError, with the hint, if there is none either. what: what is kept there.
    """
    home = os.environ.get("HOME", "")
    if os.path.isabs(home):
        return home
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        raise SysenterError(f"there is no HOME to keep {what} in", hint=hint) from None


def cache_path() -> Path:
    """$XDG_CACHE_HOME/sysenter, or ~/.cache/sysenter (XDG Base Directory), links followed.

    As XDG says, a relative $XDG_CACHE_HOME is none. Raises SysenterError if there is no
    home folder, or if the kernel's build could not work there.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.join(home_folder("a cache", _ELSEWHERE), ".cache")
    folder = Path(os.path.realpath(os.path.join(base, "sysenter")))
    if found := _BAD_CHARACTERS.search(str(folder)):
        raise SysenterError(
            f"the cache folder {folder} has {found[0]!r} in its path, which the kernel's build cannot take",
            hint=_ELSEWHERE,
        )
    return folder


def cache_folder() -> Path:
    """cache_path(), made and tried. Raises SysenterError if it cannot be used."""
    return _usable(cache_path())


@cache
def _usable(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        no_programs = os.statvfs(folder).f_flag & os.ST_NOEXEC
    except OSError as error:
        raise SysenterError(f"the cache folder {folder} cannot be used: {error.strerror}", hint=_ELSEWHERE) from error
    if no_programs:
        raise SysenterError(f"the cache folder {folder} is on a disk mounted noexec", hint=_ELSEWHERE)
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
        with undisturbed():
            shutil.rmtree(folder, ignore_errors=True)
            temporary.rename(folder)
    except BaseException:
        with undisturbed():
            shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_whole(path: Path, text: str) -> None:
    """Write a small file of the cache, by a rename: a reader finds the whole old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with undisturbed():
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "w") as file:
                file.write(text)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise


@contextmanager
def lock(name: str) -> Iterator[None]:
    """Hold one of the cache's locks: two runs at once take turns at filling it.

    Prints which run it waits for. Raises SysenterError after half an hour.
    """
    path = cache_folder() / f"{name}.lock"
    with path.open("a+") as handle:
        _take(handle.fileno(), path, f"the cache's {name}")
        handle.truncate(0)
        handle.write(f"{os.getpid()}\n")
        handle.flush()
        yield


@contextmanager
def lock_folder(folder: Path, what: str) -> Iterator[None]:
    """Hold a folder of the system's as a lock, which leaves no file behind; otherwise as lock(). what: it is for."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _take(handle, folder, what)
        yield
    finally:
        os.close(handle)


def _take(handle: int, path: Path, what: str) -> None:
    start = time.monotonic()
    said = False
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            pass
        except OSError as error:
            raise SysenterError(f"{path} cannot be locked: {error.strerror}", hint=_ELSEWHERE) from error
        waited = time.monotonic() - start
        holder = ""
        with contextlib.suppress(OSError):
            holder = path.read_text().strip()
        by = f" (process {holder})" if holder and holder != str(os.getpid()) else ""
        if waited > _PATIENCE:
            raise SysenterError(
                f"another run{by} has held {what} for {waited:.0f} s",
                hint=f"end it, or wait for it; the lock is {path}",
            )
        # not said for a wait of a moment, nor for one for another thread of this run
        if waited > 1 and not said and (by or not holder):
            said = True
            with contextlib.suppress(OSError):
                print(f"         waiting for another run{by}: it is at work on {what}", file=sys.stderr, flush=True)
        time.sleep(0.05)


def digest(parts: Iterable[bytes | str]) -> str:
    """A short name, a digest of the parts: the same parts give the same name."""
    sha = hashlib.sha256()
    for part in parts:
        # a folder's name may have bytes that are not UTF-8
        data = part.encode(errors="surrogateescape") if isinstance(part, str) else part
        sha.update(len(data).to_bytes(8, "little") + data)
    return sha.hexdigest()[:20]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
