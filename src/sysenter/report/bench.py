# SPDX-License-Identifier: GPL-2.0-or-later
"""The tables that `bench` prints."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sysenter.bench.baseline import Change
from sysenter.bench.result import FEWEST, Result

__all__ = ["print_bench", "print_changes"]


def _rate(result: Result, key: str, path: str) -> str:
    timed = result.workloads[key][path]
    seconds = sum(timed.seconds)
    return f"{sum(timed.calls) / seconds:,.0f}" if seconds and sum(timed.calls) else "-"


def print_bench(result: Result, console: Console) -> None:
    """One row for each workload and path."""
    emulated = result.accelerator == "tcg"
    how = "emulated (TCG): the times are the emulator's, the counts exact" if emulated else "on KVM"
    console.print(Text(f"\nLinux {result.kernel} ({result.arch}) on {result.cpu}, {how}"))
    time = "median s (emulated)" if emulated else "median s"
    table = Table(
        "workload",
        "path",
        time,
        "times stock's speed (95 %)",
        "outliers",
        "guest instructions",
        "x stock",
        "in the kernel",
        "fast calls a s",
    )
    for key, paths in result.workloads.items():
        stock = paths.get("stock")
        for number, (path, timed) in enumerate(paths.items()):
            compared = None if path == "stock" else result.compared(key, path)
            base = stock.instructions if stock else None
            fewer = "-"
            if base and timed.instructions and path != "stock":
                fewer = f"{timed.instructions / base:.3f}"
            table.add_row(
                key if number == 0 else "",
                path,
                f"{median(timed.seconds):.4f}" if timed.seconds else "-",
                compared.words if compared else "-",
                ", ".join(map(str, compared.outliers)) if compared and compared.outliers else "-",
                f"{timed.instructions:,}" if timed.instructions else "-",
                fewer,
                f"{100 * timed.kernel_share:.0f} %" if timed.kernel_share is not None else "-",
                _rate(result, key, path),
                end_section=number == len(paths) - 1,
            )
    console.print(table)
    if any(timed.kernel_share is not None for paths in result.workloads.values() for timed in paths.values()):
        whose = "emulated" if emulated else "its"
        console.print(
            f"in the kernel: what part of {whose} processor time is the kernel's (system calls, faults, interrupts), "
            "sampled: no path can save more",
            soft_wrap=True,
        )
    if not result.complete:
        console.print("interrupted: these are the rounds that were done; the same command with --resume goes on")


def print_changes(found: Sequence[Change], tolerance: float, console: Console, other: Sequence[str] = ()) -> None:
    """What has changed since a baseline, the worst first. other: workloads that are not compared."""
    table = Table("workload", "path", "by", "before", "now", "change %")
    for change in sorted(found, key=lambda c: -c.percent):
        mark = "  slower" if change.percent > tolerance else ""
        table.add_row(
            change.key,
            change.path,
            change.what,
            f"{change.before:,.3f}".rstrip("0").rstrip("."),
            f"{change.now:,.3f}".rstrip("0").rstrip("."),
            f"{change.percent:+.2f}{mark}",
        )
    if found:
        console.print(table)
    else:
        console.print(
            f"against the baseline: no difference shown (of times it takes {FEWEST} rounds or more in both)",
            soft_wrap=True,
        )
    if other:
        console.print(
            f"not compared, their commands are others in the baseline: {', '.join(other)}", soft_wrap=True, markup=False
        )
