# SPDX-License-Identifier: GPL-2.0-or-later
"""A target, and the guard that ties a module to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sysenter.errors import SysenterError
from sysenter.target.arch import Architecture
from sysenter.target.exports import exported
from sysenter.target.generation import Generation
from sysenter.target.image import read_bzimage
from sysenter.target.kallsyms import kallsyms
from sysenter.target.memory import Memory, build_id
from sysenter.target.system_map import parse_system_map

__all__ = ["Guard", "Target", "guard_of"]


@dataclass(frozen=True)
class Guard:
    """The values that identify a kernel. A module has those of its own kernel and refuses any other."""

    release: str
    """`uname -r`."""
    version: str
    """`uname -v`."""
    sock_register: int
    """The function's address as linked, before KASLR."""
    stext: int
    """The address of _stext as linked."""
    build_id: str
    """The link's GNU build id, in hex; "" if there is none."""


@dataclass(frozen=True)
class Target:
    """One kernel, and what it takes to build for it and to boot it."""

    name: str
    """As the user calls it: in the catalogue, or the folder of its kernel.toml."""
    arch: Architecture
    image: Path
    """Its bzImage."""
    headers: Path
    """Its configured tree."""
    cc: str | None
    """The compiler for its modules; None for the system's."""
    cpu: str
    """QEMU's processor model."""
    cpus: int
    """How many processors its guest has."""
    qemu_args: tuple[str, ...]
    """More of QEMU's options."""
    append: str
    """More of the kernel's command line."""
    guard: Guard
    userland: Path | None
    """Unpacked packages with dd, a C library and a shell for its guest; None where Debian's programs do not run."""
    modules: Path | None
    """Where its own modules are unpacked, if anywhere."""
    system_map: Path | None = None

    @property
    def release(self) -> str:
        """`uname -r` of this kernel."""
        return self.guard.release

    @property
    def generation(self) -> Generation:
        """Which of the two implementations of build, lab and measure it takes."""
        return Generation.of(self.release)


def guard_of(image_path: Path, system_map: Path | None, arch: Architecture | None = None) -> Guard:
    """Read the guard's values off the kernel image itself.

    A System.map, where one is given, is held against the image's own symbols.
    arch: what the image is said to be of.
    Raises SysenterError if the image is damaged or of another architecture, or the map is another kernel's.
    """
    image = read_bzimage(image_path.read_bytes(), str(image_path))
    memory = Memory.of(image)
    if arch and image.is_elf and memory.bits != arch.bits:
        raise SysenterError(
            f"key 'arch' is {arch.name!r}, but {image_path} is a kernel of {memory.bits} bits",
            hint="make the two agree",
        )
    if image.is_elf:
        symbols = kallsyms(memory)
        ours = {name: symbols.get(name) for name in ("sock_register", "_stext")}
    else:
        ours = {"sock_register": exported(memory, "sock_register"), "_stext": image.load_address}
    missing = [name for name, value in ours.items() if value is None]
    if missing:
        raise SysenterError(
            f"{image_path}: the kernel has no symbol {missing[0]}", hint="a kernel with networking is needed"
        )
    if system_map is not None:
        mapped = parse_system_map(system_map.read_text(errors="replace"), str(system_map))
        for name in ("sock_register",):
            if mapped.get(name) != ours[name]:
                theirs = f"0x{mapped[name]:x}" if name in mapped else "missing"
                raise SysenterError(
                    f"{system_map} is of another kernel: {name} is {theirs} there and 0x{ours[name]:x} in {image_path}",
                    hint="give the System.map that was built together with the image",
                )
    return Guard(
        release=image.release,
        version=image.version[image.version.find("#") :],
        sock_register=ours["sock_register"] or 0,
        stext=ours["_stext"] or 0,
        build_id=build_id(image),
    )
