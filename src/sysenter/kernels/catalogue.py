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


DEFAULT = "bookworm-686"

CATALOGUE: tuple[DebianKernel, ...] = (
    DebianKernel("bookworm-686", "bookworm", "i386", "686", "pentium3"),
    # The entry does not switch page tables, so the module refuses to load
    # where the kernel isolates them (PTI, which needs PAE).
    DebianKernel("bookworm-686-pae", "bookworm", "i386", "686-pae", "pentium3", "nopti"),
)
