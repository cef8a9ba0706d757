# SPDX-License-Identifier: GPL-2.0-or-later
"""What the machine one stands on has: its system, its kernels, what may be loaded."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from sysenter.errors import SysenterError
from sysenter.install.prepare import image_of
from sysenter.processes import running
from sysenter.target.arch import ARCHITECTURES, I386, Architecture

__all__ = [
    "LOADED",
    "InstalledKernel",
    "architecture",
    "check_system",
    "installed_kernels",
    "missing_packages",
    "modinfo",
    "owned",
    "packaged",
    "read_word",
    "secure_boot",
    "signatures_enforced",
]

LOADED = Path("/sys/module/sysenter")
"""There while the module is loaded, with its parameters."""
_LIMIT = 60  # seconds that a question to dpkg, modinfo or systemd may take


@dataclass(frozen=True)
class InstalledKernel:
    """A kernel that can be booted here."""

    release: str
    """`uname -r` of it."""
    image: Path | None
    """Its vmlinuz; None if only its modules or headers are there."""
    headers: Path | None
    """Its configured tree; None if it is not installed."""


def _said(*argv: str) -> str:
    """What a command says; "" if it fails or is not there."""
    try:
        with running(argv, what=argv[0], stderr=subprocess.DEVNULL) as process:
            said = process.communicate(timeout=_LIMIT)[0].decode(errors="replace").strip()
            return said if process.returncode == 0 else ""
    except (SysenterError, subprocess.TimeoutExpired):
        return ""


def read_word(path: str) -> str:
    """A small file's text; "" if it cannot be read."""
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""


def architecture() -> Architecture:
    """This machine's, as Debian's packages know it."""
    return ARCHITECTURES.get(_said("dpkg", "--print-architecture"), I386)


def installed_kernels() -> tuple[InstalledKernel, ...]:
    """Every kernel with modules, headers or an image here, in the order of their names."""
    releases = {path.name.removeprefix("vmlinuz-") for path in Path("/boot").glob("vmlinuz-*")}
    releases |= {path.name for path in Path("/lib/modules").glob("*") if path.is_dir()}
    kernels = []
    for release in sorted(releases):
        build = Path(f"/lib/modules/{release}/build")
        headers = build if (build / "include").is_dir() else None
        kernels.append(InstalledKernel(release, image_of(release), headers))
    return tuple(kernel for kernel in kernels if kernel.image or kernel.headers)


def modinfo(release: str, field: str, module: Path | None = None) -> str:
    """A field of the sysenter module that is installed for a kernel, or of a module's file; "" if there is none."""
    return _said("modinfo", "-k", release, "-F", field, str(module or "sysenter"))


def missing_packages(wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Those of Debian's packages that are not installed, asked of dpkg."""
    missing = []
    for name in wanted:
        if "install ok installed" not in _said("dpkg-query", "-W", "-f", "${Status}", name):
            missing.append(name)
    return tuple(missing)


def packaged() -> str:
    """The version of this project's own Debian package, which has the module's sources; "" if it is not installed."""
    said = _said("dpkg-query", "-W", "-f", "${Status} ${Version}", "sysenter-dkms")
    return said.removeprefix("install ok installed ") if said.startswith("install ok installed ") else ""


def owned(path: Path) -> bool:
    """Whether a Debian package has this file or folder; True where there is no dpkg to say so."""
    return not shutil.which("dpkg-query") or bool(_said("dpkg-query", "-S", str(path)))


def _container() -> str:
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists():
        return "a container"
    kind = _said("systemd-detect-virt", "--container")
    return "" if kind in ("", "none") else f"a container ({kind})"


def check_system() -> None:
    """See that this is a system that can be installed on. Raises SysenterError, naming what it is instead."""
    release = dict(line.split("=", 1) for line in read_word("/etc/os-release").splitlines() if "=" in line)
    name = release.get("PRETTY_NAME", "an unknown system").strip('"')
    families = {release.get("ID", ""), *release.get("ID_LIKE", "").strip('"').split()}
    if "debian" not in families or not shutil.which("dpkg-query"):
        raise SysenterError(
            f"install is for Debian and its family, and this is {name}", hint="`./sysenter run` needs no installing"
        )
    number = release.get("VERSION_ID", "").strip('"')
    if release.get("ID") == "debian" and number.isdigit() and int(number) < 12:
        raise SysenterError(f"install needs Debian 12 or later, and this is {name}", hint="upgrade the system first")
    if platform.machine() not in ("x86_64", "i686", "i586"):
        raise SysenterError(
            f"the module is for x86, and this machine is {platform.machine()}", hint="there is no other"
        )
    container = _container()
    if container:
        raise SysenterError(
            f"this is {container}: its kernel and its modules are the host's", hint="install on the host, as root"
        )
    if os.geteuid() != 0:
        raise SysenterError("install writes to /usr and /etc and needs root", hint="sudo ./sysenter install")


def secure_boot() -> bool | None:
    """Whether the firmware started this kernel by Secure Boot; None if it has no such thing.

    The variable's value is its last byte (UEFI specification 2.10, 3.3).
    """
    for path in Path("/sys/firmware/efi/efivars").glob("SecureBoot-*"):
        try:
            return path.read_bytes()[-1:] == b"\1"
        except OSError:
            return None
    return None


def signatures_enforced() -> bool:
    """Whether this kernel loads signed modules only (module.sig_enforce, lockdown)."""
    lockdown = read_word("/sys/kernel/security/lockdown")
    return read_word("/sys/module/module/parameters/sig_enforce") == "Y" or (
        "[none]" not in lockdown and "[" in lockdown
    )
