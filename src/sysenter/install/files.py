# SPDX-License-Identifier: GPL-2.0-or-later
"""Files put on the system, and a manifest of them, so that all of them go again.

The manifest is written before the first file: an install that is killed half-way is
undone by `uninstall` as a whole one is. Each file is on the disk before it has its name:
a power cut leaves no empty one, as /etc/kernel/postinst.d would not run it and an update
of the kernel would stop.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sysenter.cache import lock_folder
from sysenter.errors import SysenterError
from sysenter.install.machine import architecture, owned, read_word

__all__ = [
    "AT_BOOT",
    "HOOK",
    "LIBRARY",
    "RUN",
    "SCOPE",
    "SOURCES",
    "STATE",
    "UNITS",
    "Manifest",
    "alone",
    "contents_of",
    "preload_library",
    "put",
    "put_back",
    "read_manifest",
    "remove",
    "take_away",
    "what_stands",
]

SOURCES = Path("/usr/src")
"""Has a folder of each version."""
LIBRARY = Path("/usr/lib/sysenter")
RUN = Path("/usr/bin/sysenter-run")
HOOK = Path("/etc/kernel/postinst.d/00-sysenter")
UNITS = tuple(
    Path("/etc/systemd/system") / name
    for name in ("sysenter.service", "sysenter-settled.service", "sysenter-settled.timer")
)
SCOPE = Path("/etc/modprobe.d/sysenter.conf")
STATE = Path("/var/lib/sysenter")
AT_BOOT = STATE / "at-boot"
"""There while the module is to be loaded at each boot."""
_MANIFEST = STATE / "manifest.json"


@dataclass
class Manifest:
    """What is installed."""

    version: str
    """DKMS's version of the module."""
    when: str
    """The day and time of the install, ISO 8601."""
    files: list[str] = field(default_factory=list)
    """Every file that was written, absolute."""
    folders: list[str] = field(default_factory=list)
    """Every folder that was made for them, parents first."""
    packages: list[str] = field(default_factory=list)
    """Debian's packages that were installed for it; they stay."""

    def write(self) -> None:
        """Onto the disk, whole or not at all."""
        STATE.mkdir(parents=True, exist_ok=True)
        _write_whole(_MANIFEST, (json.dumps(asdict(self), indent=1) + "\n").encode(), 0o644)
        with suppress(OSError):  # some file systems do not sync a folder
            _sync(STATE)


@contextmanager
def alone() -> Iterator[None]:
    """A block of which one runs at a time: of two installs at once one would undo what the other writes."""
    with lock_folder(STATE.parent, "what is installed"):
        yield


def read_manifest() -> Manifest | None:
    """The manifest of what is installed; None if nothing is. Raises SysenterError if it is damaged."""
    try:
        return Manifest(**json.loads(_MANIFEST.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise SysenterError(
            f"{_MANIFEST} is damaged: {error}", hint="install again over it, then uninstall takes all away"
        ) from error


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _half_written(path: Path) -> Path:
    """Where a file is until it is whole; a kill leaves it there."""
    return path.with_name(path.name + ".sysenter-new")


def _write_whole(path: Path, content: bytes, mode: int) -> None:
    new = _half_written(path)
    try:
        new.write_bytes(content)
        new.chmod(mode)
        _sync(new)
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Remove a file that install wrote, or what a kill left of it; it need not be there. Raises OSError."""
    _half_written(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def preload_library() -> Path:
    """Of this machine's word size."""
    return Path(f"/usr/lib/{architecture().triplet}/sysenter/libsysenter.so")


def what_stands() -> Manifest:
    """What stands where install writes and no Debian package owns: for a manifest that is lost or damaged."""
    sources = [f for f in SOURCES.glob("sysenter-*") if (f / "dkms.conf").is_file() and (f / "version.h").is_file()]
    scope = [SCOPE] if re.fullmatch(r"options sysenter scope=\w+", read_word(str(SCOPE))) else []
    tops = [*sources, LIBRARY, preload_library().parent, RUN, HOOK, *UNITS, *scope, AT_BOOT, STATE / "fuse"]
    tops = [path for path in tops if path.exists() and not owned(path)]
    all_of_it = [path for top in tops for path in (top, *top.rglob("*"))]
    return Manifest(
        "",
        "",
        files=[str(path) for path in all_of_it if not path.is_dir()],
        folders=sorted(str(path) for path in all_of_it if path.is_dir()),
    )


def put(manifest: Manifest, files: Mapping[Path, tuple[bytes, int]]) -> None:
    """Write files (path to content and mode), each whole, after the manifest that names them."""
    folders = {parent for path in files for parent in path.parents if not parent.exists()}
    manifest.folders += sorted(str(f) for f in folders if str(f) not in manifest.folders and f != STATE)
    manifest.files += [str(path) for path in files if str(path) not in manifest.files]
    manifest.write()
    for path, (content, mode) in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_whole(path, content, mode)


def put_back(manifest: Manifest, before: Manifest, contents: Mapping[Path, tuple[bytes, int]]) -> None:
    """Undo what came to an install that was there before: its own files as they were, those of `manifest` gone."""
    for name in manifest.files:
        if name not in before.files:
            remove(Path(name))
    for name in sorted(manifest.folders, reverse=True):
        if name not in before.folders:
            with suppress(OSError):  # what another program has put into it keeps it
                Path(name).rmdir()
    put(before, contents)


def contents_of(manifest: Manifest) -> dict[Path, tuple[bytes, int]]:
    """What its files have in them, and their modes."""
    files = [path for path in map(Path, manifest.files) if path.is_file()]
    return {path: (path.read_bytes(), path.stat().st_mode & 0o7777) for path in files}


def take_away(manifest: Manifest) -> list[str]:
    """Remove all that it names, and it; returns what could not be removed, and why."""
    left = []
    for name in manifest.files:
        try:
            remove(Path(name))
        except OSError as error:
            left.append(str(error))
    for name in sorted(manifest.folders, reverse=True):
        try:
            Path(name).rmdir()
        except FileNotFoundError:
            continue
        except OSError as error:
            left.append(str(error))
    if not left:
        shutil.rmtree(STATE, ignore_errors=True)
    return left
