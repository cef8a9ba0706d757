# SPDX-License-Identifier: GPL-2.0-or-later
"""`./sysenter check`: runs the check and shows progress. report/check.py prints what was found."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from sysenter.check.handlers import HANDLERS, Subject, handler_named
from sysenter.check.pool import Caught, callers, checked, mutants_checked
from sysenter.check.search.explore import Tally
from sysenter.check.search.mutants import mutants
from sysenter.check.search.survivors import harmless

__all__ = ["MutantReport", "Report", "check", "check_mutants", "to_json"]

REQUIRED = 0.95  # of all of a handler's mutants


@dataclass
class Report:
    """What a check of one handler found."""

    handler: str
    callers: int
    """How many different callers were tried."""
    tally: Tally = field(default_factory=Tally)
    stories: list[str] = field(default_factory=list)
    """Of failures."""

    @property
    def must_fail(self) -> str:
        """The property that it is known to break; "" if it is sound."""
        return HANDLERS[self.handler].must_fail

    @property
    def ok(self) -> bool:
        """Whether cases were run and none failed; of a handler that is known to be bad, whether its property failed."""
        keys = {f.key for f in self.tally.failures}
        return self.must_fail in keys if self.must_fail else self.tally.cases > 0 and not keys

    def as_json(self) -> dict[str, Any]:
        return {
            "handler": self.handler,
            "ok": self.ok,
            "callers": self.callers,
            "cases": self.tally.cases,
            "events": self.tally.events,
            "failures": len(self.tally.failures),
            "broken": sorted({f.key for f in self.tally.failures}),
            "must_fail": self.must_fail,
            "stories": self.stories,
        }


@dataclass
class MutantReport:
    """What became of a handler's mutants."""

    handler: str
    tried: int
    caught: list[Caught]
    survivors: dict[str, str]
    """Those not caught, with the reason that survivors.toml gives for each; "" where it gives none."""
    total: int
    """How many mutants the handler has."""

    @property
    def unexplained(self) -> list[str]:
        """The survivors without a reason."""
        return [key for key, reason in self.survivors.items() if not reason]

    @property
    def ok(self) -> bool:
        """Whether there were any, each that was not caught has its reason, and of all of them enough were caught.

        A small sample has more survivors, or fewer, by chance.
        """
        enough = self.tried < self.total or len(self.caught) >= REQUIRED * self.tried
        return self.tried > 0 and not self.unexplained and enough

    def as_json(self) -> dict[str, Any]:
        return {
            "handler": self.handler,
            "ok": self.ok,
            "tried": self.tried,
            "of": self.total,
            "caught": len(self.caught),
            "survivors": list(self.survivors),
            "unexplained": self.unexplained,
        }


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


def check(console: Console, subjects: Sequence[Subject], seed: int) -> list[Report]:
    """The whole check of each subject, with progress on `console`."""
    reports = {s.handler: Report(s.handler, callers(s, seed)) for s in subjects}
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
    caught = [f for f in fates if f.by]
    return MutantReport(subject.handler, len(chosen), caught, {key: reasons[key] or "" for key in survivors}, total)


def to_json(reports: Sequence[Report], mutated: Sequence[MutantReport], seed: int) -> dict[str, Any]:
    """Schema 1, see docs/checker.md."""
    return {
        "schema": 1,
        "seed": seed,
        "handlers": [r.as_json() for r in reports],
        "mutants": [m.as_json() for m in mutated],
    }
