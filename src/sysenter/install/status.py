# SPDX-License-Identifier: GPL-2.0-or-later
"""What is installed, for which kernels, and what is loaded."""

from __future__ import annotations

import datetime
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sysenter.install.files import AT_BOOT, STATE, read_manifest
from sysenter.install.machine import (
    LOADED,
    InstalledKernel,
    installed_kernels,
    modinfo,
    packaged,
    read_word,
    secure_boot,
    signatures_enforced,
)
from sysenter.target.image import banner

__all__ = ["KernelStatus", "Status", "kernel_status", "state_of", "status"]

_PARAMETERS = LOADED / "parameters"


@dataclass(frozen=True)
class KernelStatus:
    """The module for one installed kernel."""

    release: str
    """`uname -r` of it."""
    running: bool
    """Whether it is the one that runs."""
    state: str
    """built; stale: its image is another than the module was built for; refused: a placeholder; not built."""
    reason: str
    """Why, where it is not built; what is not known of it, where its image cannot be read."""
    signer: str
    """Who signed the module; "" if nobody."""


@dataclass(frozen=True)
class Status:
    """All of it."""

    version: str
    """DKMS's version; "" if nothing is installed."""
    when: str
    """When it was installed, ISO 8601; "" where Debian's packages did it."""
    kernels: tuple[KernelStatus, ...]
    """Each kernel that can be booted here."""
    loaded: bool
    """Whether the module is in the running kernel."""
    since: str
    """Since when, ISO 8601; "" where it is not loaded, or has no device that tells (scope=all)."""
    calls: int | None
    """Fast calls since the load; None where it is not loaded."""
    scope: str
    """Whose calls take the fast path: the module's parameter; "" where it is not loaded."""
    at_boot: bool
    """Whether it is loaded at each boot."""
    fuse: str
    """The boot that did not come up well; "" if the fuse is whole."""
    secure_boot: bool | None
    """None: this machine has no Secure Boot."""
    signed_only: bool
    """Whether this kernel loads signed modules only."""
    virtual_machines: str
    """KVM's hold: "kvm_intel in use by N", "" if there is none."""

    @property
    def ok(self) -> bool:
        """Whether it is installed, and built for the running kernel."""
        return bool(self.version) and any(k.running and k.state == "built" for k in self.kernels)

    def to_json(self) -> dict[str, Any]:
        """For scripts: keys may be added, none changes."""
        return {"schema": 1, **asdict(self), "ok": self.ok}


def state_of(kernel: InstalledKernel, target: str) -> tuple[str, str]:
    """The state of a module of this target ("" if there is none) for a kernel, and why if a placeholder does not say
    it.
    """
    if not target:
        return "not built", "install --all-kernels builds it" if kernel.headers else "its headers are not installed"
    if target == "none":
        return "refused", ""
    if kernel.image is not None:
        version = banner(kernel.image)
        if not version:  # some systems let only root read it
            return "built", f"{kernel.image} cannot be read, so it may be stale"
        if target != f"{kernel.release} {version[version.find('#') :]}":
            return "stale", f"built for {target}"
    return "built", ""


def kernel_status(kernel: InstalledKernel) -> KernelStatus:
    """The module's state for a kernel."""
    state, reason = state_of(kernel, modinfo(kernel.release, "target"))
    if state == "refused":
        reason = modinfo(kernel.release, "refused")
    running = kernel.release == os.uname().release
    return KernelStatus(kernel.release, running, state, reason, modinfo(kernel.release, "signer"))


def _virtual_machines() -> str:
    for line in read_word("/proc/modules").splitlines():
        match = re.match(r"(kvm_intel|kvm_amd) \d+ (\d+)", line)
        if match and match[2] != "0":
            return f"{match[1]} in use by {match[2]}"
    return ""


def _since() -> str:
    """When its device was made; nothing changes that time, not even udev."""
    try:
        made = Path("/dev/sysenter").stat().st_mtime
    except OSError:
        return ""
    return datetime.datetime.fromtimestamp(made, datetime.UTC).isoformat(timespec="seconds")


def _blown() -> str:
    """The boot that blew the fuse. A power cut may have left the mark empty."""
    mark = STATE / "fuse"
    return (read_word(str(mark)).partition("\n")[0] or "an unknown time") if mark.exists() else ""


def status() -> Status:
    """Look at the machine; changes nothing and needs no root."""
    manifest, package = read_manifest(), packaged()
    calls = read_word(f"{_PARAMETERS}/calls")
    return Status(
        version=package or (manifest.version if manifest else ""),
        when=manifest.when if manifest and not package else "",
        kernels=tuple(kernel_status(kernel) for kernel in installed_kernels()),
        loaded=_PARAMETERS.exists(),
        since=_since(),
        calls=int(calls) if calls.isdigit() else None,
        scope=read_word(f"{_PARAMETERS}/scope") or ("marked" if _PARAMETERS.exists() else ""),
        at_boot=AT_BOOT.exists(),
        fuse=_blown(),
        secure_boot=secure_boot(),
        signed_only=signatures_enforced(),
        virtual_machines=_virtual_machines(),
    )
