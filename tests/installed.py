# SPDX-License-Identifier: GPL-2.0-or-later
"""A real Debian system for tests of install."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import ROOT
from sysenter.install.tree import FROM_DEBIAN
from sysenter.kernels.provide import provide
from sysenter.kernels.root import Root, debian_root, run_in_root
from sysenter.steps import Steps

__all__ = ["KERNELS", "LIST", "Copy", "installed_root"]

KERNELS = ("bookworm-amd64", pytest.param("bookworm-686", marks=pytest.mark.long))


# Every file, but those that only time or the packages' own tools change.
_NOT_OURS = r"-path /proc -o -path /sys -o -path /dev -o -path /src -o -path /tmp -o -path /run -o -path /root"
LIST = rf"find / \( {_NOT_OURS} \) -prune -o -print | sort"


def installed_root(steps: Steps, kernel: str, more: Sequence[str] = ()) -> Root:
    """A configured Debian system with what install asks for, more of Debian's packages, and the kernel that
    the lab boots by this name.
    """
    target = provide(steps, kernel, offline=False)
    wanted = (*FROM_DEBIAN, "python3-rich", "kmod", "systemd-sysv", "dbus", "initramfs-tools", "e2fsprogs")
    packages = (*wanted, f"linux-image-{target.release}", f"linux-headers-{target.release}", *more)
    return debian_root(steps, "bookworm", target.arch.name, packages, offline=False, configured=True)


@dataclass(frozen=True)
class Copy:
    """A system to install on: what is written to it goes to `changes`, its root stays as it is."""

    steps: Steps
    root: Root
    changes: Path
    """Its folder `files` has what was written."""

    @property
    def sources(self) -> Path:
        """The system's /src: this checkout's, and what a test puts there. The lists of files leave it out."""
        return self.changes / "files/src"

    @property
    def release(self) -> str:
        """Of its kernel."""
        return next((self.root.folder / "boot").glob("vmlinuz-*")).name.removeprefix("vmlinuz-")

    def run(self, script: str, timeout: float = 300) -> str:
        """Run a script natively in it, with this checkout's command as `sysenter`; returns what it printed.

        In a system of 32 bits `uname -m` says so.
        """
        if not (self.sources / "sysenter").exists():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / "src", self.sources, ignore=ignored, dirs_exist_ok=True)
        prologue = 'sysenter() { PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/src python3 -m sysenter "$@"; }\n'
        (self.sources / "script").write_text(prologue + script)
        machine = "i686" if self.root.architecture == "i386" else "x86_64"
        command = f"exec setarch {machine} sh /src/script"
        return run_in_root(self.steps, self.root.folder, command, what="a test", timeout=timeout, changes=self.changes)
