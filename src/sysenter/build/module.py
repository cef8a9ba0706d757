# SPDX-License-Identifier: GPL-2.0-or-later
"""What a build gives, on every kernel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Module"]


@dataclass(frozen=True)
class Module:
    """A module and what it was made of."""

    module: Path
    """What is loaded: sysenter.ko, or sysenter.o on 2.2 and 2.4."""
    entry: Path
    """The assembled entry code that went into it."""
    offsets: Path
    """The constants that code was assembled with: offsets.h."""
