# SPDX-License-Identifier: GPL-2.0-or-later
"""The two generations of kernels. Each of build, lab and measure has an implementation for each."""

from __future__ import annotations

from enum import Enum

__all__ = ["Generation"]


class Generation(Enum):
    """Of which kind a kernel is.

    Asked for in four places: the doors of build, lab and measure (their __init__.py), which
    choose an implementation, and kernels/provide.py, which fetches what the guest runs.
    """

    PRESENT = "present"
    """Kernels of today: kbuild, an initramfs with Debian's programs, a shell."""
    LEGACY = "legacy"
    """Linux 2.2 and 2.4: a compiler of their time, a ramdisk with one program of ours."""

    @classmethod
    def of(cls, release: str) -> Generation:
        """The generation of the kernel that says `release` (`uname -r`) of itself."""
        return cls.LEGACY if release.startswith(("2.2.", "2.4.")) else cls.PRESENT

    @property
    def runs_debian(self) -> bool:
        """Whether programs of a present Debian run on such a kernel."""
        return self is Generation.PRESENT
