# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernels that `--kernel NAME` knows."""

from __future__ import annotations

from dataclasses import dataclass

from sysenter.target.arch import AMD64, I386, Architecture

__all__ = ["CATALOGUE", "DEFAULT", "DebianKernel"]


@dataclass(frozen=True)
class DebianKernel:
    """A kernel that Debian ships."""

    name: str
    """What the user calls it."""
    suite: str
    """Debian's, as bookworm-backports."""
    arch: Architecture
    flavour: str
    """The end of the package's name, as in linux-image-FLAVOUR."""
    cpu: str
    """QEMU's processor model for it."""
    append: str = ""
    """Words that its command line needs in our guests."""

    @property
    def release_suite(self) -> str:
        """The Debian release that it is made for: that has its C library and its compiler."""
        return self.suite.removesuffix("-backports")


DEFAULT = "bookworm-686"

CATALOGUE: tuple[DebianKernel, ...] = (
    DebianKernel("bookworm-686", "bookworm", I386, "686", "pentium3"),
    # The kernel isolates its page tables on every processor that had Meltdown, and under
    # TCG a call then takes 30 us. `pti=on` gives what it does there.
    DebianKernel("bookworm-686-pae", "bookworm", I386, "686-pae", "pentium3", "nopti"),
    # An Intel model: in 64-bit mode AMD's processors have no SYSENTER. Ice Lake
    # servers are not affected by Meltdown, but emulated ones cannot say so (no
    # IA32_ARCH_CAPABILITIES under TCG): nopti is what the kernel chooses on a real
    # one. `pti=on` gives page-table isolation.
    DebianKernel("bookworm-amd64", "bookworm", AMD64, "amd64", "Icelake-Server", "nopti"),
    DebianKernel("bookworm-backports-amd64", "bookworm-backports", AMD64, "amd64", "Icelake-Server", "nopti"),
    DebianKernel("trixie-amd64", "trixie", AMD64, "amd64", "Icelake-Server", "nopti"),
    DebianKernel("trixie-backports-amd64", "trixie-backports", AMD64, "amd64", "Icelake-Server", "nopti"),
    # For rented machines (its image is compressed with LZ4), and PREEMPT_RT.
    DebianKernel("bookworm-cloud-amd64", "bookworm", AMD64, "cloud-amd64", "Icelake-Server", "nopti"),
    DebianKernel("bookworm-rt-amd64", "bookworm", AMD64, "rt-amd64", "Icelake-Server", "nopti"),
    DebianKernel("trixie-cloud-amd64", "trixie", AMD64, "cloud-amd64", "Icelake-Server", "nopti"),
    DebianKernel("trixie-rt-amd64", "trixie", AMD64, "rt-amd64", "Icelake-Server", "nopti"),
)
