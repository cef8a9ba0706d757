# SPDX-License-Identifier: GPL-2.0-or-later
"""The sources that DKMS builds from, as they stand under /usr/src."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import sysenter
from sysenter.build.native import NATIVE
from sysenter.cache import digest

__all__ = ["FROM_DEBIAN", "dkms_tree", "main", "tree_version"]

# What build.sh and prepare.py need beside the kernel's headers.
FROM_DEBIAN = ("dkms", "gcc", "libc6-dev", "make", "python3", "python3-pyelftools", "python3-zstandard", "python3-lz4")

_PACKAGE = Path(sysenter.__file__).parent
# Of this package, what prepare.py imports.
_PYTHON = (
    "__init__.py",
    "errors.py",
    "build/calls.py",
    "build/generated.py",
    "install/__init__.py",
    "install/prepare.py",
    "target/*.py",
)


def _sources() -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for folder in ("present", "user"):
        files |= {path.name: path.read_bytes() for path in sorted((NATIVE / folder).iterdir()) if path.is_file()}
    files["build.sh"] = (NATIVE / "install/build.sh").read_bytes()
    files["dkms.conf"] = (NATIVE / "install/dkms.conf").read_bytes()
    for pattern in _PYTHON:
        for path in sorted(_PACKAGE.glob(pattern)):
            files[f"python/sysenter/{path.relative_to(_PACKAGE)}"] = path.read_bytes()
    # the package's own imports what builds in the lab
    files["python/sysenter/build/__init__.py"] = b"# SPDX-License-Identifier: GPL-2.0-or-later\n"
    return files


def tree_version(release: str) -> str:
    """DKMS's version: the project's, and a digest, so that a changed tree is another version."""
    parts: list[bytes | str] = []
    for name, content in _sources().items():
        parts += [name, content]
    return f"{release}.{digest(parts)[:8]}"


def dkms_tree(version: str) -> dict[str, bytes]:
    """Name to content of each file of /usr/src/sysenter-VERSION."""
    files = _sources()
    files["dkms.conf"] = files["dkms.conf"].replace(b"#MODULE_VERSION#", version.encode())
    files["version.h"] = f'#define SYSENTER_VERSION "{version}"\n'.encode()
    return files


def main(arguments: Sequence[str]) -> int:
    """tree VERSION FOLDER: write it, as Debian's package does."""
    version, folder = arguments
    for name, content in dkms_tree(version).items():
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
