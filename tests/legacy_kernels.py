# SPDX-License-Identifier: GPL-2.0-or-later
"""The 2.2 and 2.4 kernels to test on: SYSENTER_LEGACY_KERNELS names a folder of
folders that each hold a kernel.toml. None of them is in the repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

__all__ = ["KERNELS", "on_each_kernel", "parameters"]

_FOLDER = os.environ.get("SYSENTER_LEGACY_KERNELS", "")
KERNELS = sorted(Path(_FOLDER).glob("*/kernel.toml")) if _FOLDER else []

on_each_kernel = pytest.mark.skipif(not KERNELS, reason="SYSENTER_LEGACY_KERNELS names no folder with */kernel.toml")


def parameters() -> list[Path]:
    """For a fixture's params; never empty, so that the skip is shown with its reason."""
    return KERNELS or [Path("none/kernel.toml")]
