# SPDX-License-Identifier: GPL-2.0-or-later
"""The architectures: what differs between them outside the entry code, each fact once."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["AMD64", "ARCHITECTURES", "I386", "Architecture"]

_QEMU_64 = "qemu-system-x86_64"


@dataclass(frozen=True)
class Architecture:
    """i386 or amd64; there is one value of each, compared with `is` or `==`."""

    name: str
    """Debian's word, and this project's: in file names, kernel.toml and JSON."""
    bits: int
    """Of a word: 32 or 64."""
    qemu: str
    """The emulator's program."""
    kbuild: str
    """The kernel build's ARCH=."""
    compiler_option: str
    """What makes the host's gcc compile for it."""
    triplet: str
    """Debian's multiarch name: the folder of /usr/lib that has its libraries."""
    merged: tuple[str, ...]
    """The folders of / that are links into /usr on a Debian system."""
    call_table: str
    """The file in a kernel's generated headers that lists its system calls."""
    call_prefix: str
    """What the functions of those calls begin with, as __ia32_sys_read."""
    cpu: str
    """QEMU's processor model for a kernel.toml that names none."""
    multiboot: bool
    """Whether QEMU starts its kernels fastest behind our Multiboot shim; else by their own PVH entry."""
    kernel_text: tuple[int, int]
    """Between which addresses a kernel's image is linked (arch/x86/include/asm/page_*_types.h)."""
    module_text: tuple[int, int]
    """Between which addresses a module may run (arch/x86/include/asm/pgtable_*_types.h). On i386 from 256 MiB
    of memory upwards to the end of the CPU entry areas, where PTI's trampoline is (native/present/pti_i386.c)."""

    def __str__(self) -> str:
        return self.name

    def qemu_for(self, model: str) -> str:
        """The emulator's program for a processor model of QEMU's."""
        # qemu-system-i386 keeps EFER.SCE off, whatever the model has
        return _QEMU_64 if "+syscall" in model.split(",") else self.qemu


I386 = Architecture(
    name="i386",
    bits=32,
    qemu="qemu-system-i386",
    kbuild="i386",
    compiler_option="-m32",
    triplet="i386-linux-gnu",
    merged=("bin", "lib", "sbin"),
    call_table="syscalls_32.h",
    call_prefix="__ia32_",
    cpu="pentium3",
    multiboot=True,
    kernel_text=(0xC1000000, 0xC3000000),
    module_text=(0xD0000000, 0xFFFFF000),
)
AMD64 = Architecture(
    name="amd64",
    bits=64,
    qemu=_QEMU_64,
    kbuild="x86_64",
    compiler_option="-m64",
    triplet="x86_64-linux-gnu",
    merged=("bin", "lib", "lib64", "sbin"),
    call_table="syscalls_64.h",
    call_prefix="__x64_",
    cpu="Skylake-Client",
    multiboot=False,
    kernel_text=(0xFFFFFFFF81000000, 0xFFFFFFFF84000000),
    module_text=(0xFFFFFFFFC0000000, 0xFFFFFFFFFF000000),
)
ARCHITECTURES = {arch.name: arch for arch in (I386, AMD64)}
