# SPDX-License-Identifier: GPL-2.0-or-later
"""The table that `selftests` prints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from sysenter.lab.guest import Guest
from sysenter.verify.selftests import PHASES, SelftestResult

__all__ = ["print_selftests", "to_json"]


def print_selftests(results: Iterable[SelftestResult], console: Console) -> None:
    """Print each program's outcome in each phase."""
    results = list(results)
    phases = [phase for phase in PHASES if any(phase in result.outcomes for result in results)]
    table = Table("program", *phases, "as stock")
    for result in results:
        cells = [result.outcomes.get(phase, "-") for phase in phases]
        table.add_row(result.name, *cells, "no" if result.differs else "yes")
    console.print(table)


def to_json(
    guest: Guest, suite: str, scope: str, results: Iterable[SelftestResult], log: Sequence[str]
) -> dict[str, Any]:
    """What came of a suite, as the object that docs/json.md describes, schema 1."""
    return {
        "schema": 1,
        "kind": "selftests",
        "kernel": guest.target.release,
        "arch": guest.target.arch.name,
        "cpu": guest.target.cpu,
        "suite": suite,
        "scope": scope,
        "programs": [
            {
                "program": result.name,
                "outcomes": dict(result.outcomes),
                "differs": list(result.differs),
                "said": list(result.said),
            }
            for result in results
        ],
        "kernel_log": list(log),
    }
