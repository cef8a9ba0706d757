# SPDX-License-Identifier: GPL-2.0-or-later
"""The table that `bench --here` prints."""

from __future__ import annotations

from statistics import median

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sysenter.bench.here import Here

__all__ = ["print_here"]


def print_here(here: Here, console: Console) -> None:
    """One row for each call and path."""
    console.print(Text(f"\nLinux {here.kernel} ({here.arch}) on this machine's {here.processor}, scope {here.scope}"))
    table = Table(title="one call, in cycles of the time-stamp counter", title_justify="left")
    for name in ("call", "path", "least", "against stock", "median in a row", "times stock's speed (95 %)"):
        table.add_column(name, justify="left" if name in ("call", "path") else "right")
    for call, paths in here.calls.items():
        for number, (path, cycles) in enumerate(paths.items()):
            compared = here.compared(call, path)
            table.add_row(
                call if number == 0 else "",
                path,
                str(cycles.least),
                f"{cycles.least - paths['stock'].least:+d}" if "stock" in paths else "-",
                f"{median(cycles.rounds):.0f}",
                compared.words if compared else "-",
                end_section=number == len(paths) - 1,
            )
    console.print(table)
    console.print(
        "least: of many single calls, less what reading the counter takes; in a row: one of many, its rounds "
        "paired with stock's",
        soft_wrap=True,
    )
    if here.scope != "marked":
        console.print(
            f"scope {here.scope}: every program's calls are the module's, so there is no stock path to compare with "
            "(load it with scope=marked for one)",
            soft_wrap=True,
        )
    if here.virtual:
        console.print("this machine is a virtual one: its counter may be emulated, and then these are no cycles")
