# SPDX-License-Identifier: GPL-2.0-or-later
"""A real Debian system for tests of install."""

from __future__ import annotations

import shutil
from pathlib import Path

from conftest import ROOT
from sysenter.install.tree import FROM_DEBIAN
from sysenter.kernels.provide import provide
from sysenter.kernels.root import Root, debian_root, run_in_root
from sysenter.steps import Steps

__all__ = ["KERNEL", "installed_root", "run_in_copy"]

KERNEL = "bookworm-amd64"


def installed_root(steps: Steps) -> Root:
    """A configured Debian system with what install asks for, and the kernel that the lab boots by this name."""
    release = provide(steps, KERNEL, offline=False).release
    wanted = (*FROM_DEBIAN, "python3-rich", "kmod", "systemd-sysv", "dbus", "initramfs-tools", "e2fsprogs")
    kernel = (f"linux-image-{release}", f"linux-headers-{release}")
    return debian_root(steps, "bookworm", "amd64", (*wanted, *kernel), offline=False, configured=True)


def run_in_copy(steps: Steps, copy: Path, script: str, timeout: float = 300) -> str:
    """Run a script natively in a copy of such a system, with this checkout's command as `sysenter`."""
    if not (copy / "src").exists():
        shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__"))
    prologue = 'sysenter() { PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/src python3 -m sysenter "$@"; }\n'
    return run_in_root(steps, copy, f"{prologue}{script}", what="a test", timeout=timeout)
