# SPDX-License-Identifier: GPL-2.0-or-later
"""The table that `kernels` prints."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from sysenter.kernels.catalogue import CATALOGUE, DEFAULT
from sysenter.kernels.provide import cached_release

__all__ = ["print_kernels"]


def print_kernels(console: Console) -> None:
    """Print the catalogue, and which of it is in the cache."""
    table = Table("name", "Debian", "package", "processor", "in the cache")
    for entry in CATALOGUE:
        table.add_row(
            entry.name + (" (default)" if entry.name == DEFAULT else ""),
            f"{entry.suite} {entry.arch}",
            f"linux-image-{entry.flavour}",
            entry.cpu,
            cached_release(entry) or "-",
        )
    console.print(table)
