# SPDX-License-Identifier: GPL-2.0-or-later
"""From saved results to the text of a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path as File
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sysenter import __version__
from sysenter.replay.purpose import KINDS
from sysenter.report.page.charts import LANES, Charts, Mark
from sysenter.report.page.figures import (
    PATHS,
    WAYS,
    Cycles,
    Path,
    Pieces,
    Ratios,
    cycles_of,
    instructions_of,
    measured,
    paths_of,
    pieces_of,
    ratios_of,
)
from sysenter.report.page.saved import COMMANDS, DAMAGE, Saved, read, reading

__all__ = ["page"]

_FEW = 3  # results side by side, a chart each; of more there is a chart for each workload
NOT_SHOWN = "no difference shown"
PATH_WORDS = {
    "int80": "the oldest way in, an interrupt",
    "stock": "the kernel's own entry, without the module",
    "all": "an unmodified program, with the module",
    "fast": "a program that asks for the fast path",
}


@dataclass(frozen=True)
class Headline:
    """A sentence with a figure, at the top."""

    figure: str
    unit: str
    words: str


def _headlines(cycles: Sequence[Cycles], ratios: Sequence[Ratios], paths: Sequence[Path]) -> list[Headline]:
    found = []
    for each in [c for c in cycles if c.names][:1]:
        call = "getppid" if "getppid" in each.names else each.names[0]
        stock = each.get(call, "stock")
        for path in ("fast", "all"):
            own = each.get(call, path)
            if own and stock and "overlap" in own.cycles and "overlap" in stock.cycles:
                against = f"by stock’s entry: {stock.cycles['overlap']:.0f}"
                if own.saves.get("overlap") == NOT_SHOWN:
                    against = "no difference to stock’s entry shown"
                found.append(
                    Headline(
                        f"{own.cycles['overlap']:.0f}",
                        "cycles",
                        f"for {call} by path {path}; {against}. {each.kernel}, replayed on {each.processor}.",
                    )
                )
    for ratio in [r for r in ratios if r.ratios][:1]:
        ours = [r for r in ratio.ratios if r.path != "int80"]
        shown = [r for r in ours if r.shown]
        emulated = ", emulated" if ratio.emulated else ""
        if shown:
            top, words = max(shown, key=lambda r: r.median), f", the most of {len(ratio.workloads)}"
            if top.median < 1:
                top = min(shown, key=lambda r: r.median)
                words = f" is slower, and none of {len(ratio.workloads)} is shown to be faster"
            found.append(
                Headline(
                    f"{top.median:.2f} ×",
                    f"stock’s speed{emulated}",
                    f"{top.workload} by path {top.path}{words}: {ratio.kernel}.",
                )
            )
        elif any(r.words == NOT_SHOWN for r in ours):
            found.append(
                Headline("no difference", "shown", f"in any of {', '.join(ratio.workloads[:4])}: {ratio.label}.")
            )
    by = {p.path: p for p in paths if (p.file, p.call) == (paths[0].file, paths[0].call)}
    shorter = by.get("fast") or by.get("all")
    if shorter and "stock" in by:
        found.append(
            Headline(
                f"{len(shorter.steps)}",
                "instructions",
                f"from the program’s {shorter.call} to its return by path {shorter.path}; "
                f"by stock’s: {len(by['stock'].steps)}. {shorter.kernel}, exact.",
            )
        )
    return found[:4]


def _labels(results: Sequence[Cycles | Ratios]) -> list[str]:
    """A name for each result. Results with the same name get the file's name as well."""
    labels = [each.label for each in results]
    return [
        f"{label} ({each.file})" if labels.count(label) > 1 else label
        for label, each in zip(labels, results, strict=True)
    ]


def _cycles_charts(charts: Charts, cycles: Sequence[Cycles]) -> list[tuple[str, Markup]]:
    """(heading, chart): for each result, or of many results for each call."""
    if not cycles:
        return []
    most = max((v for each in cycles for call in each.calls for v in call.cycles.values()), default=1.0) * 1.05
    marks = [
        (label, call.call, Mark("", call.path, call.samples.get("overlap", ()), call.cycles["overlap"]))
        for label, each in zip(_labels(cycles), cycles, strict=True)
        for call in each.calls
        if "overlap" in call.cycles
    ]
    return _faceted(
        charts, marks, "cycles of the time-stamp counter, in a loop", (0, most), "Cycles of a call by each path", None
    )


def _ratios_charts(charts: Charts, ratios: Sequence[Ratios]) -> list[tuple[str, Markup]]:
    if not ratios:
        return []
    values = [1.0, *(v for each in ratios for r in each.ratios for v in (r.median, r.low or 1, r.high or 1))]
    least, most = min(values), max(values)
    room = max(0.08 * (most - least), 0.02)
    marks = [
        (
            label,
            r.workload,
            Mark("", r.path, r.rounds, r.median, (r.low, r.high) if r.low and r.high else None, hollow=not r.shown),
        )
        for label, each in zip(_labels(ratios), ratios, strict=True)
        for r in each.ratios
    ]
    emulated = [each.emulated for each in ratios]
    word = ", emulated" if all(emulated) else ", emulated where the row says so" if any(emulated) else ""
    return _faceted(
        charts,
        marks,
        f"times stock’s speed{word}",
        (least - room, most + room),
        "Times stock’s speed by each path",
        1.0,
    )


def _faceted(
    charts: Charts,
    marks: Sequence[tuple[str, str, Mark]],
    label: str,
    limits: tuple[float, float],
    title: str,
    line: float | None,
) -> list[tuple[str, Markup]]:
    """marks: (result, workload, mark without its row)."""
    results = list(dict.fromkeys(result for result, _, _ in marks))
    workloads = list(dict.fromkeys(workload for _, workload, _ in marks))
    by_result = len(results) <= _FEW
    found = []
    for facet in results if by_result else workloads:
        own = [
            Mark(workload if by_result else result, m.path, m.samples, m.middle, m.interval, m.hollow)
            for result, workload, m in marks
            if facet == (result if by_result else workload)
        ]
        words = f"{title}: {facet}. The table below has the figures."
        found.append((facet, Markup(charts.marks(own, label, words, limits=limits, line=line, wide=not by_result))))
    return found


@dataclass(frozen=True)
class Drawn:
    """A path with its picture."""

    path: Path
    chart: Markup
    cycles: dict[str, float]
    """Way -> cycles, of a replay of the same kernel for the same processor."""

    @property
    def name(self) -> str:
        return f"{self.path.call} by {self.path.path}"


def _drawn(charts: Charts, paths: Sequence[Path], cycles: Sequence[Cycles]) -> list[list[Drawn]]:
    """The paths of each call on each kernel, with one axis."""
    groups: dict[tuple[str, str, str], list[Path]] = {}
    for path in paths:
        groups.setdefault((path.file, path.kernel, path.call), []).append(path)
    found = []
    for group in groups.values():
        most = max(len(path.steps) for path in group)
        drawn = []
        for path in group:
            lanes = ", ".join(f"{path.lane(lane)} in {words}" for lane, words in LANES.items())
            title = f"{path.call} by {path.path}: {len(path.steps)} instructions: {lanes}. The lists below have each."
            timed = next((c for c in cycles if c.subject == path.subject and c.get(path.call, path.path)), None)
            own = timed.get(path.call, path.path) if timed else None
            drawn.append(
                Drawn(
                    path,
                    Markup(charts.path(path, most, title, label=path is group[-1])),
                    dict(own.cycles) if own else {},
                )
            )
        found.append(drawn)
    return found


def _tables(saved: Sequence[Saved], kind: str, *needed: str) -> list[dict[str, Any]]:
    """Results that are shown as they are; needed: keys of each row."""
    found = []
    for each in (s for s in saved if s.kind == kind):
        rows = {"mitigations": "machines", "check": "handlers", "selftests": "programs"}[kind]
        with reading(each):
            for row in each.data[rows]:
                for key in needed:
                    row[key]
        found.append({"file": each.name, **each.data})
    return found


def page(files: Iterable[File]) -> str:
    """The page of these files. Raises SysenterError, naming the file, for one that cannot be read."""
    saved = [read(file) for file in files]
    try:
        return _page(saved)
    except DAMAGE:
        for each in saved:  # the one that cannot be shown alone either
            with reading(each):
                _page([each])
        raise


def _page(saved: Sequence[Saved]) -> str:
    of = {kind: [each for each in saved if each.kind == kind] for kind in COMMANDS}
    cycles = [c for each in [*of["replay"], *of["run"]] if (c := cycles_of(each))]
    benches = [r for each in of["bench"] if (r := ratios_of(each))]
    dds = [r for each in of["run"] if (r := ratios_of(each))]
    counts = [i for each in of["run"] if (i := instructions_of(each))]
    pieces: list[Pieces] = [p for each in of["pieces"] if (p := pieces_of(each))]
    paths = [path for each in of["trace"] for path in paths_of(each, pieces)]
    charts = Charts()
    environment = Environment(
        loader=PackageLoader("sysenter.report.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(
        version=__version__,
        few=_FEW,
        measured=[measured(each) for each in saved],
        # an emulator's dd is no headline
        headlines=_headlines(cycles, benches or [each for each in dds if not each.emulated], paths),
        cycles=cycles,
        cycles_charts=_cycles_charts(charts, cycles),
        benches=benches,
        benches_charts=_ratios_charts(charts, benches),
        dds=dds,
        dds_charts=_ratios_charts(charts, dds),
        counts=counts,
        pieces=pieces,
        drawn=_drawn(charts, paths, cycles),
        mitigations=_tables(
            saved, "mitigations", "cpu", "append", "mitigated", "stock", "fast", "missing", "refused", "lost"
        ),
        checks=_tables(saved, "check", "handler", "ok", "callers", "cases", "events", "failures", "must_fail"),
        selftests=_tables(saved, "selftests", "program", "outcomes", "differs"),
        commands=COMMANDS,
        kinds=KINDS,
        lanes=LANES,
        paths=PATHS,
        path_words=PATH_WORDS,
        ways=WAYS,
    )
