# SPDX-License-Identifier: GPL-2.0-or-later
"""The table that `selftests` prints."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from sysenter.verify.selftests import PHASES, SelftestResult

__all__ = ["print_selftests"]


def print_selftests(results: Iterable[SelftestResult], console: Console) -> None:
    """Print each program's outcome in each phase."""
    results = list(results)
    phases = [phase for phase in PHASES if any(phase in result.outcomes for result in results)]
    table = Table("program", *phases, "as stock")
    for result in results:
        cells = [result.outcomes.get(phase, "-") for phase in phases]
        table.add_row(result.name, *cells, "no" if result.differs else "yes")
    console.print(table)
