# SPDX-License-Identifier: GPL-2.0-or-later
"""`./sysenter check`: runs, shows progress, says what was found."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from sysenter.check.handlers import HANDLERS, Subject, handler_named
from sysenter.check.pool import Caught, callers, checked, mutants_checked
from sysenter.check.search.explore import Tally
from sysenter.check.search.mutants import mutants
from sysenter.check.search.survivors import harmless

__all__ = ["MutantReport", "Report", "check", "check_mutants", "write_json"]

REQUIRED = 0.95  # of a handler's mutants


@dataclass
class Report:
    """What a check of one handler found. callers: how many different ones came; stories: of
    failures; ok: as it should be."""

    handler: str
    callers: int
    tally: Tally = field(default_factory=Tally)
    stories: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        must_fail = HANDLERS[self.handler].must_fail
        keys = {f.key for f in self.tally.failures}
        return must_fail in keys if must_fail else not keys

    def as_json(self) -> dict[str, Any]:
        return {
            "handler": self.handler, "ok": self.ok,
            "callers": self.callers, "cases": self.tally.cases, "events": self.tally.events,
            "failures": len(self.tally.failures), "broken": sorted({f.key for f in self.tally.failures}),
            "must_fail": HANDLERS[self.handler].must_fail, "stories": self.stories,
        }  # fmt: skip


@dataclass
class MutantReport:
    """tried: how many; survivors: not caught; unexplained: those without a reason."""

    handler: str
    tried: int
    caught: list[Caught]
    survivors: list[str]
    unexplained: list[str]
    total: int

    @property
    def ok(self) -> bool:
        return not self.unexplained and len(self.caught) >= REQUIRED * self.tried

    def as_json(self) -> dict[str, Any]:
        return {
            "handler": self.handler, "ok": self.ok, "tried": self.tried, "of": self.total,
            "caught": len(self.caught), "survivors": self.survivors, "unexplained": self.unexplained,
        }  # fmt: skip


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=console, transient=True,
    )  # fmt: skip


def check(console: Console, subjects: Sequence[Subject], seed: int) -> list[Report]:
    """The whole check of each subject, with progress on `console`."""
    reports = {s.handler: Report(s.handler, callers(s, seed)) for s in subjects}
    started = time.monotonic()
    with _progress(console) as progress:
        bar = progress.add_task("checking", total=None)
        for done in checked(subjects, seed):
            if isinstance(done, int):
                progress.update(bar, total=done)
                continue
            subject, _, tally, stories = done
            report = reports[subject.handler]
            report.tally.add(tally)
            report.stories += stories
            progress.advance(bar)
    for report in reports.values():
        expected = HANDLERS[report.handler].must_fail
        verdict = "ok" if report.ok else "FAILED"
        if expected and report.ok:
            verdict = f"fails as it must ({expected})"
        console.print(
            f"{report.handler}: {verdict}; {report.callers} different callers, {report.tally.cases} runs,"
            f" {report.tally.events} events let happen, {len(report.tally.failures)} failures", markup=False,
        )  # fmt: skip
        # of each property the shortest: a story's first line says which
        shortest = {story.partition("\n")[0]: story for story in sorted(report.stories, key=len, reverse=True)}
        for story in sorted(shortest.values(), key=len)[: 1 if expected else 3]:
            console.print(story, markup=False, highlight=False, soft_wrap=True)
    console.print(f"{time.monotonic() - started:.0f} s, seed {seed}", markup=False)
    return list(reports.values())


def check_mutants(console: Console, subject: Subject, count: int | None, seed: int) -> MutantReport:
    """Check `count` mutants (all with None), chosen by `seed`."""
    entry, _ = subject.load()
    handler = handler_named(subject.handler)
    total = len(list(mutants(entry, handler.section, handler.roots)))
    chosen = list(range(total))
    if count is not None and count < total:
        chosen = sorted(random.Random(seed).sample(chosen, count))
    fates = []
    with _progress(console) as progress:
        bar = progress.add_task(f"mutants of {subject.handler}", total=len(chosen))
        for fate in mutants_checked(subject, chosen, seed):
            fates.append(fate)
            progress.advance(bar)
    listed = harmless(subject.handler)
    reasons = {f.key: listed.get(f.key, listed.get(f.plain)) for f in fates if not f.by}
    survivors = sorted(reasons)
    report = MutantReport(
        subject.handler, len(chosen), [f for f in fates if f.by], survivors,
        [key for key in survivors if not reasons[key]], total,
    )  # fmt: skip
    console.print(
        f"{subject.handler}: {len(report.caught)} of {report.tried} mutants caught"
        f" ({100 * len(report.caught) / max(report.tried, 1):.1f} %), {len(survivors)} survive,"
        f" {len(report.unexplained)} of them without a reason; seed {seed}", markup=False,
    )  # fmt: skip
    for key in survivors:
        console.print(
            f"  {key}\n    {reasons[key] or 'NOT EXPLAINED in survivors.toml'}", markup=False, highlight=False
        )
    return report


def write_json(path: Path, reports: Sequence[Report], mutated: Sequence[MutantReport], seed: int) -> None:
    """Schema 1, see docs/checker.md."""
    result = {
        "schema": 1, "seed": seed, "handlers": [r.as_json() for r in reports],
        "mutants": [m.as_json() for m in mutated],
    }  # fmt: skip
    path.write_text(json.dumps(result, indent=1) + "\n")
