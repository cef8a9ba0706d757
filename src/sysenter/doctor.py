# SPDX-License-Identifier: GPL-2.0-or-later
"""What this machine has of what sysenter needs."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from sysenter.cache import cache_folder
from sysenter.errors import SysenterError
from sysenter.kernels.debian import KEYRING
from sysenter.kernels.root import mke2fs
from sysenter.processes import environment, output_of
from sysenter.scratch import temporary_folder

__all__ = ["Finding", "examine"]

_TOOLS = (  # command, Debian package
    ("qemu-system-i386", "qemu-system-x86"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("gcc", "gcc"),
    ("make", "make"),
    ("dpkg-deb", "dpkg"),
    ("apt-get", "apt"),
    ("setpriv", "util-linux"),
)
_ROOM = 2 << 30  # bytes: packages, unpacked kernels and builds of all targets


@dataclass(frozen=True)
class Finding:
    """One finding: what was looked at, what was found, whether that will do, and what to do if not."""

    what: str
    found: str
    ok: bool
    hint: str = ""


def _version(tool: str) -> str:
    return next(iter(output_of([tool, "--version"]).splitlines()), "present")


def examine() -> tuple[Finding, ...]:
    """Look at tools, 32-bit compiling, /dev/kvm and room on the disk."""
    findings = [_python()]
    for tool, package in _TOOLS:
        there = shutil.which(tool) is not None
        hint = f"apt-get install {package}, or run without --no-install"
        findings.append(Finding(tool, _version(tool) if there else "missing", there, hint))
    multilib = os.uname().machine != "x86_64" or Path("/usr/lib32/crt1.o").exists()
    findings.append(
        Finding("32-bit C library", "present" if multilib else "missing", multilib, "apt-get install gcc-multilib")
    )
    keyring = KEYRING.exists()
    findings.append(
        Finding(
            "Debian's archive keys",
            "present" if keyring else "missing",
            keyring,
            "apt-get install debian-archive-keyring, or run without --no-install",
        )
    )
    findings.append(_disks())
    kvm = os.access("/dev/kvm", os.R_OK | os.W_OK)
    findings.append(
        Finding(
            "/dev/kvm",
            "can be opened; `run` probes whether it boots a guest"
            if kvm
            else "not usable: guests are emulated (TCG), which is enough",
            True,
        )
    )
    findings += [_cache(), _temporary()]
    findings.append(Finding("passed on to programs", ", ".join(environment(network=True)), True))
    return tuple(findings)


def _python() -> Finding:
    """Can the launcher's python make the environment for our Python packages? (Debian: python3-venv.)"""
    version = ".".join(str(n) for n in sys.version_info[:3])
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    return Finding(
        "python3",
        f"{version}, without {' and '.join(missing)}" if missing else version,
        not missing,
        "apt-get install python3-venv, or run without --no-install",
    )


def _disks() -> Finding:
    """What makes disks for guests: not every command needs it."""
    try:
        return Finding("mke2fs", mke2fs(), True)
    except SysenterError:
        whose = "2.2 and 2.4 kernels, and guests with a Debian system (bench programs), need it"
        return Finding("mke2fs", f"missing; {whose}: apt-get install e2fsprogs", True)


def _cache() -> Finding:
    try:
        folder = cache_folder()
        free = shutil.disk_usage(folder).free
    except SysenterError as error:
        return Finding("cache folder", error.message, False, error.hint)
    return Finding(
        f"room in {folder}", f"{free / 1e9:.1f} GB free", free > _ROOM, f"{_ROOM >> 30} GiB are enough for all targets"
    )


def _temporary() -> Finding:
    try:
        return Finding("temporary folder", str(temporary_folder()), True)
    except SysenterError as error:
        return Finding("temporary folder", error.message, False, error.hint)
