# SPDX-License-Identifier: GPL-2.0-or-later
"""A real Debian system for tests of install."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from conftest import ROOT
from sysenter.install.tree import FROM_DEBIAN
from sysenter.kernels.provide import provide
from sysenter.kernels.root import Root, debian_root, run_in_root
from sysenter.steps import Steps

__all__ = ["KERNELS", "LIST", "installed_root", "run_in_copy"]

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


def run_in_copy(steps: Steps, copy: Path, script: str, timeout: float = 300) -> str:
    """Run a script natively in a copy of such a system, with this checkout's command as `sysenter`.

    In a system of 32 bits `uname -m` says so.
    """
    if not (copy / "src").exists():
        shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__"))
    prologue = 'sysenter() { PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/src python3 -m sysenter "$@"; }\n'
    (copy / "src/script").write_text(prologue + script)
    machine = "x86_64" if (copy / "lib64").exists() else "i686"
    return run_in_root(steps, copy, f"exec setarch {machine} sh /src/script", what="a test", timeout=timeout)
