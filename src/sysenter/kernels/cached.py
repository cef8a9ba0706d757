# SPDX-License-Identifier: GPL-2.0-or-later
"""What the cache has of the catalogue's kernels."""

from __future__ import annotations

import json
from pathlib import Path

from sysenter.cache import UNREADABLE, cache_path
from sysenter.kernels.catalogue import DebianKernel

__all__ = ["cached_release", "kernel_folder"]


def kernel_folder(entry: DebianKernel) -> Path:
    """Where a catalogue kernel is unpacked."""
    return cache_path() / "kernels" / entry.name


def cached_release(entry: DebianKernel) -> str:
    """The release of a catalogue kernel in the cache, "" if it is not there."""
    try:
        return str(json.loads((kernel_folder(entry) / "kernel.json").read_text())["release"])
    except UNREADABLE:
        return ""
