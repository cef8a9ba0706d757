# SPDX-License-Identifier: GPL-2.0-or-later
"""The table that `mitigations` prints."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table

from sysenter.lab.guest import Guest
from sysenter.verify.mitigations import Applied

__all__ = ["print_mitigations", "to_json"]


def _words(which: Iterable[str]) -> str:
    return ", ".join(which) or "none"


def print_mitigations(found: Iterable[Applied], console: Console) -> None:
    """Print what the kernel does about each fault, and what both entries execute."""
    table = Table(
        "processor", "command line", "the kernel mitigates", "its entry", "the fast entry", "which, or why refused"
    )
    for applied in found:
        if applied.lost:
            table.add_row(applied.cpu, applied.append, "-", "-", "-", f"does not boot: {applied.lost}")
            continue
        entries = ("-", "-") if applied.refused else (_words(sorted(applied.stock)), _words(sorted(applied.fast)))
        table.add_row(
            applied.cpu,
            applied.append,
            _words(f"{fault} ({how})" for fault, how in applied.mitigated.items()),
            *entries,
            applied.refused or applied.copy,
        )
    console.print(table)


def to_json(guest: Guest, scope: str, found: Iterable[Applied]) -> dict[str, Any]:
    """What was found, as the object that docs/json.md describes, schema 1."""
    return {
        "schema": 1,
        "kind": "mitigations",
        "kernel": guest.target.release,
        "arch": guest.target.arch.name,
        "scope": scope,
        "machines": [
            {
                "cpu": applied.cpu,
                "append": applied.append,
                "faults": dict(applied.kernel),
                "mitigated": applied.mitigated,
                "stock": sorted(applied.stock),
                "fast": sorted(applied.fast),
                "missing": sorted(applied.missing),
                "entry": applied.copy,
                "refused": applied.refused,
                "lost": applied.lost,
            }
            for applied in found
        ],
    }
