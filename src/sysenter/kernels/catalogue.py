# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernels that `--kernel NAME` knows."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CATALOGUE", "DEFAULT", "DebianKernel"]


@dataclass(frozen=True)
class DebianKernel:
    """A kernel that Debian ships.

    name: what the user calls it. suite, architecture: Debian's.
    flavour: the end of the package's name, as in linux-image-FLAVOUR.
    cpu: QEMU's model for it. append: what its command line needs here.
    """

    name: str
    suite: str
    architecture: str
    flavour: str
    cpu: str
    append: str = ""

    @property
    def arch(self) -> str:
        """This project's word for the architecture: i386 or amd64."""
        return self.architecture

    @property
    def release_suite(self) -> str:
        """The suite that it is made for, with a C library and a compiler of its own."""
        return self.suite.removesuffix("-backports")


DEFAULT = "bookworm-686"

CATALOGUE: tuple[DebianKernel, ...] = (
    DebianKernel("bookworm-686", "bookworm", "i386", "686", "pentium3"),
    # The kernel isolates its page tables on every processor that had Meltdown, and under
    # TCG a call then takes 30 us. `pti=on` gives what it does there.
    DebianKernel("bookworm-686-pae", "bookworm", "i386", "686-pae", "pentium3", "nopti"),
    # An Intel model: in 64-bit mode AMD's processors have no SYSENTER. Ice Lake
    # servers are not affected by Meltdown, but emulated ones cannot say so (no
    # IA32_ARCH_CAPABILITIES under TCG): nopti is what the kernel chooses on a real
    # one. `pti=on` gives page-table isolation.
    DebianKernel("bookworm-amd64", "bookworm", "amd64", "amd64", "Icelake-Server", "nopti"),
    DebianKernel("bookworm-backports-amd64", "bookworm-backports", "amd64", "amd64", "Icelake-Server", "nopti"),
    DebianKernel("trixie-amd64", "trixie", "amd64", "amd64", "Icelake-Server", "nopti"),
    DebianKernel("trixie-backports-amd64", "trixie-backports", "amd64", "amd64", "Icelake-Server", "nopti"),
    # For rented machines (its image is compressed with LZ4), and PREEMPT_RT.
    DebianKernel("bookworm-cloud-amd64", "bookworm", "amd64", "cloud-amd64", "Icelake-Server", "nopti"),
    DebianKernel("bookworm-rt-amd64", "bookworm", "amd64", "rt-amd64", "Icelake-Server", "nopti"),
    DebianKernel("trixie-cloud-amd64", "trixie", "amd64", "cloud-amd64", "Icelake-Server", "nopti"),
    DebianKernel("trixie-rt-amd64", "trixie", "amd64", "rt-amd64", "Icelake-Server", "nopti"),
)
