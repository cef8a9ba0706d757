# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes an initramfs.

The "new ASCII" cpio format (Documentation/driver-api/early-userspace/
buffer-format.rst of the kernel): per file the magic 070701, thirteen numbers of
eight hex digits (ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor,
rdevmajor, rdevminor, namesize, check), the name with its NUL, padding to 4, the
contents, padding to 4; last a file TRAILER!!!. The kernel unpacks several
archives behind one another, so a task is appended to a finished image.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

__all__ = ["archive", "tree"]


def _entry(name: str, mode: int, data: bytes, device: tuple[int, int] = (0, 0)) -> bytes:
    encoded = name.encode() + b"\0"
    numbers = (0, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(encoded), 0)
    header = b"070701" + b"".join(b"%08x" % n for n in numbers) + encoded
    return header + bytes(-len(header) % 4) + data + bytes(-len(data) % 4)


def archive(files: Mapping[str, bytes]) -> bytes:
    """An archive of regular files, all executable: path without leading slash -> contents."""
    folders = sorted({"/".join(n.split("/")[:i]) for n in files for i in range(1, n.count("/") + 1)})
    parts = [_entry(f, stat.S_IFDIR | 0o755, b"") for f in folders]
    parts += [_entry(name, stat.S_IFREG | 0o755, data) for name, data in files.items()]
    return b"".join(parts) + _entry("TRAILER!!!", 0, b"")


def tree(root: Path, extra: Mapping[str, bytes]) -> bytes:
    """An archive of a folder's contents and of `extra` files, with /dev/console."""
    parts = []
    for path in sorted(root.rglob("*")):
        name, info = str(path.relative_to(root)), path.lstat()
        if stat.S_ISLNK(info.st_mode):
            parts.append(_entry(name, stat.S_IFLNK | 0o777, os.readlink(path).encode()))
        elif stat.S_ISDIR(info.st_mode):
            parts.append(_entry(name, stat.S_IFDIR | 0o755, b""))
        elif stat.S_ISREG(info.st_mode):
            parts.append(_entry(name, stat.S_IFREG | (info.st_mode & 0o777), path.read_bytes()))
    have = {str(p.relative_to(root)) for p in root.rglob("*")}
    parts += [_entry(f, stat.S_IFDIR | 0o755, b"") for f in ("dev", "proc", "sys", "tmp", "root") if f not in have]
    if "dev/console" not in have:
        # The kernel opens it for init before anything can be mounted.
        parts.append(_entry("dev/console", stat.S_IFCHR | 0o600, b"", (5, 1)))
    return b"".join(parts) + archive(extra)
