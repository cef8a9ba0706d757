# SPDX-License-Identifier: GPL-2.0-or-later
"""The table that `kernels` prints."""

from __future__ import annotations

from typing import TextIO

from sysenter.kernels.cached import cached_release
from sysenter.kernels.catalogue import CATALOGUE, DEFAULT

__all__ = ["print_kernels"]


def print_kernels(out: TextIO) -> None:
    """Print the catalogue, and which of it is in the cache: without a package, for who has none yet."""
    rows = [("name", "Debian", "package", "processor", "in the cache")]
    for entry in CATALOGUE:
        rows.append(
            (
                entry.name + (" (default)" if entry.name == DEFAULT else ""),
                f"{entry.suite} {entry.arch}",
                f"linux-image-{entry.flavour}",
                entry.cpu,
                cached_release(entry) or "-",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip(), file=out)
