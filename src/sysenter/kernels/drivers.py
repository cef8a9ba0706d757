# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel's own drivers, in the order in which they must be loaded."""

from __future__ import annotations

import io
import json
import lzma
import re
from collections.abc import Sequence
from pathlib import Path

from elftools.elf.elffile import ELFFile

from sysenter.cache import cache_folder, digest, fill, lock
from sysenter.errors import SysenterError
from sysenter.kernels.catalogue import CATALOGUE
from sysenter.kernels.debian import Apt, unpack
from sysenter.steps import Steps
from sysenter.target.target import Target

__all__ = ["DISK", "KVM", "drivers", "linked"]

# For an ext4 image on a virtio disk.
DISK = ("virtio_pci", "virtio_blk", "crc32c_generic", "ext4")
# For virtual machines on a processor of AMD's, the kind that QEMU emulates.
KVM = ("kvm_amd",)

_PACKAGES = ("linux-image-", "linux-modules-")
_FOLDERS = re.compile(
    r"/kernel/(crypto|lib|net/9p|fs/(ext4|jbd2|mbcache|9p|netfs|fscache|overlayfs|squashfs)"
    r"|drivers/(virtio|block|net|char/hw_random|crypto/ccp)|arch/x86/kvm|virt/lib)(/|\.ko)"
)


def linked(driver: Path) -> bytes:
    """A driver of a kernel's package as it was linked: busybox's insmod unpacks nothing."""
    data = driver.read_bytes()
    return lzma.decompress(data) if driver.suffix == ".xz" else data


def drivers(steps: Steps, target: Target, names: Sequence[str], *, offline: bool) -> dict[str, bytes]:
    """Drivers by name, with those they need before them.

    What the kernel's package has no file for is taken to be built in: flavours differ in
    that, and not every package lists it. Raises SysenterError if the kernel is not Debian's.
    """
    found = {_name(path.name): path for path in _unpacked(steps, target, offline=offline).rglob("*.ko*")}
    wanted: dict[str, bytes] = {}

    def take(name: str) -> None:
        if name in wanted or name not in found:
            return
        data = linked(found[name])
        for needed in _needs(data):
            take(_name(needed))
        wanted[name] = data

    for name in names:
        take(name)
    return wanted


def _name(file: str) -> str:
    return file.split(".")[0].replace("-", "_")


def _needs(driver: bytes) -> list[str]:
    """The drivers that one depends on, by its .modinfo."""
    section = ELFFile(io.BytesIO(driver)).get_section_by_name(".modinfo")
    fields = section.data().split(b"\0") if section else []
    lists = [f.removeprefix(b"depends=").decode() for f in fields if f.startswith(b"depends=")]
    return [name for names in lists for name in names.split(",") if name]


def _unpacked(steps: Steps, target: Target, *, offline: bool) -> Path:
    """The drivers of the target's package that a guest may want; the package is in the cache as a rule."""
    entry = next((e for e in CATALOGUE if e.name == target.name), None)
    if entry is None or target.modules is None:
        raise SysenterError(
            f"{target.name}: no package with this kernel's drivers is known", hint="give a kernel of the catalogue"
        )
    packages = json.loads((target.modules / "kernel.json").read_text())["packages"]
    names = [name for name in re.findall(r"(\S+)=\S+", packages) if name.startswith(_PACKAGES)]
    folder = cache_folder() / "drivers" / f"{target.release}-{digest([packages, _FOLDERS.pattern])}"
    with lock("drivers"):
        if not folder.exists():
            fetched = Apt(steps, entry.suite, entry.arch.name, offline=offline).fetch(names)
            with steps.step(f"unpack drivers of {target.release}"), fill(folder) as new:
                for package in fetched:
                    unpack(steps, package, new, lambda name: bool(_FOLDERS.search(name)))
    return folder
