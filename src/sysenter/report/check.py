# SPDX-License-Identifier: GPL-2.0-or-later
"""What `check` says: of each handler a line and its shortest stories, of its mutants those that survive."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill

from rich.console import Console

from sysenter.check.command import MutantReport, Report

__all__ = ["print_check", "print_mutants"]

_STORIES = 3  # of a handler that should have none
_IN = " " * 4


def print_check(reports: Sequence[Report], console: Console, *, seconds: float, seed: int) -> None:
    """Print what was found of each handler."""
    for report in reports:
        verdict = "ok" if report.ok else "FAILED"
        if report.must_fail and report.ok:
            verdict = f"fails as it must ({report.must_fail})"
        console.print(
            f"{report.handler}: {verdict}; {report.callers} different callers, {report.tally.cases} runs,"
            f" {report.tally.events} events injected, {len(report.tally.failures)} failures",
        )
        # of each property the shortest: a story's first line says which
        shortest = {story.partition("\n")[0]: story for story in sorted(report.stories, key=len, reverse=True)}
        for story in sorted(shortest.values(), key=len)[: 1 if report.must_fail else _STORIES]:
            console.print(story, soft_wrap=True)
    console.print(f"{seconds:.0f} s, seed {seed}")


def print_mutants(report: MutantReport, console: Console, *, seed: int) -> None:
    """Print how many of a handler's mutants were caught, and each other one with its reason."""
    console.print(
        f"{report.handler}: {len(report.caught)} of {report.tried} mutants caught"
        f" ({100 * len(report.caught) / max(report.tried, 1):.1f} %), {len(report.survivors)} survive,"
        f" {len(report.unexplained)} of them without a reason; seed {seed}",
    )
    for key, reason in report.survivors.items():
        said = fill(
            reason or "NOT EXPLAINED in survivors.toml", console.width, initial_indent=_IN, subsequent_indent=_IN
        )
        console.print(f"  {key}\n{said}")
