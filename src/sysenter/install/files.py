# SPDX-License-Identifier: GPL-2.0-or-later
"""Files put on the system, and a manifest of them, so that all of them go again.

The manifest is written before the first file: an install that is killed half-way is
undone by `uninstall` as a whole one is.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sysenter.cache import lock_folder
from sysenter.errors import SysenterError

__all__ = ["LIBRARY", "STATE", "Manifest", "alone", "contents_of", "put", "put_back", "read_manifest", "take_away"]

LIBRARY = Path("/usr/lib/sysenter")
STATE = Path("/var/lib/sysenter")
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
        new = _MANIFEST.with_suffix(".new")
        new.write_text(json.dumps(asdict(self), indent=1) + "\n")
        os.replace(new, _MANIFEST)


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


def put(manifest: Manifest, files: Mapping[Path, tuple[bytes, int]]) -> None:
    """Write files (path to content and mode), each whole, after the manifest that names them."""
    folders = {parent for path in files for parent in path.parents if not parent.exists()}
    manifest.folders += sorted(str(f) for f in folders if str(f) not in manifest.folders and f != STATE)
    manifest.files += [str(path) for path in files if str(path) not in manifest.files]
    manifest.write()
    for path, (content, mode) in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(path.name + ".sysenter-new")
        try:
            new.write_bytes(content)
            new.chmod(mode)
            os.replace(new, path)
        finally:
            new.unlink(missing_ok=True)


def put_back(manifest: Manifest, before: Manifest, contents: Mapping[Path, tuple[bytes, int]]) -> None:
    """Undo what came to an install that was there before: its own files as they were, those of `manifest` gone."""
    for name in manifest.files:
        if name not in before.files:
            Path(name).unlink(missing_ok=True)
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
            Path(name).unlink(missing_ok=True)
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
