# SPDX-License-Identifier: GPL-2.0-or-later
"""Where results go."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from rich.console import Console

from sysenter.errors import SysenterError

__all__ = ["check_writable", "stdout"]


def stdout(width: int = 120) -> Console:
    """Standard output for results; into a file or a pipe they are not squeezed to 80 columns."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else width)


def check_writable(path: Path) -> None:
    """Raise SysenterError if a result cannot be written there: before the work, not after it."""
    if not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise SysenterError(f"cannot write {path}", hint="give --json a file in a folder that you can write to")
