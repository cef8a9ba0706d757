# SPDX-License-Identifier: GPL-2.0-or-later
"""The page's charts: matplotlib's SVG, with the page's own fonts and colours.

Colours are variables of the page's style sheet, so that a chart is light, dark or printed as
the page is. matplotlib wants real ones: each role has a colour that nothing else has, and
the variable takes its place in the text.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from sysenter.report.page.figures import PATHS, Path

__all__ = ["LANES", "Charts", "Mark"]

# Kind of instruction -> (variable, hatching): never colour alone.
_KINDS = {
    "stub": ("--k-stub", ""),
    "switch": ("--k-switch", "xxxx"),
    "frame": ("--k-frame", "////"),
    "mitigation": ("--k-mitigation", ".."),
    "check": ("--k-check", "\\\\\\\\"),
    "dispatch": ("--k-dispatch", "----"),
    "body": ("--k-body", ""),
    "nop": ("--k-nop", ""),
    "other": ("--k-other", ""),
}
LANES = {"user": "program", "entry": "entry", "body": "the call's work", "exit": "exit"}
_MARKERS = {"int80": "D", "stock": "o", "all": "s", "fast": "^"}
_ROLES = ["--ink", "--soft", "--line", "--page", "--hatch"]
_ROLES += [f"--p-{path}" for path in PATHS] + [variable for variable, _ in _KINDS.values()]
_COLOURS = {role: f"#0a5e{n:02x}" for n, role in enumerate(_ROLES)}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: to be found, read aloud, and in the page's font
    "svg.hashsalt": "sysenter",
    "font.size": 11,
    "axes.edgecolor": _COLOURS["--line"],
    "axes.labelcolor": _COLOURS["--soft"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "text.color": _COLOURS["--ink"],
    "xtick.color": _COLOURS["--soft"],
    "ytick.color": _COLOURS["--ink"],
    "ytick.major.size": 0,
    "grid.color": _COLOURS["--line"],
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.7,
}


def _colour(role: str) -> str:
    return _COLOURS[role]


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    return figure, figure.add_subplot()


@dataclass(frozen=True)
class Mark:
    """What a chart of marks shows of one path in one row."""

    row: str
    path: str
    samples: Sequence[float]
    """Each measurement, shown faint."""
    middle: float
    interval: tuple[float, float] | None = None
    hollow: bool = False
    """No difference is shown."""


class Charts:
    """The charts of one page: each has ids of its own, and a pattern is in the first that uses it."""

    def __init__(self) -> None:
        self._count = 0
        self._patterns: set[str] = set()

    def _svg(self, figure: Figure, title: str) -> str:
        """The figure as an element of the page; title: what it is, for those who do not see it."""
        self._count += 1
        own = f"c{self._count}"
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
        text = out.getvalue()
        text = text[text.index("<svg") :]
        text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>", "", text, flags=re.S)
        patterns = dict(re.findall(r'(<pattern id="([\w-]+)".*?</pattern>)', text, re.S))
        for pattern, name in patterns.items():
            if name in self._patterns:
                text = text.replace(pattern, "")
            self._patterns.add(name)
        used = set(re.findall(r'(?:href="#|url\(#)([\w.-]+)', text))
        shared = set(patterns.values())

        def new(name: str) -> str:
            return name if name in shared or name in self._patterns else f"{own}-{name}"

        text = re.sub(r' id="([\w.-]+)"', lambda m: f' id="{new(m[1])}"' if m[1] in used else "", text)
        text = re.sub(r'(href="#|url\(#)([\w.-]+)', lambda m: m[1] + new(m[2]), text).replace("xlink:href", "href")
        for role, colour in _COLOURS.items():
            text = text.replace(colour, f"var({role})")
        # the page's font, in the chart's sizes
        text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", text)
        text = re.sub(r"font-family: [^;\"]*;?", "", text)
        text = re.sub(r"\s*\n\s*", " ", text)
        # in tags alone: between them are names, as 6.12.100
        text = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\.\d\d)\d+", r"\1", tag[0]), text)
        head = re.match(r"<svg[^>]*>", text)
        assert head
        box = re.search(r'viewBox="([^"]+)"', head[0])
        assert box
        wide = float(box[1].split()[2]) * 4 / 3  # points to pixels
        return (
            f'<svg role="img" viewBox="{box[1]}" style="max-width:{wide:.0f}px" aria-labelledby="{own}-title">'
            f'<title id="{own}-title">{escape(title)}</title>{text[head.end() :]}'
        )

    def marks(
        self,
        marks: Sequence[Mark],
        label: str,
        title: str,
        *,
        limits: tuple[float, float],
        line: float | None = None,
        wide: bool = False,
    ) -> str:
        """Rows of marks, one for each path. label: of the axis; line: a value to compare with; wide: long names."""
        with matplotlib.rc_context(_STYLE):
            rows = list(dict.fromkeys(mark.row for mark in marks))
            paths = [path for path in PATHS if any(mark.path == path for mark in marks)]
            figure, axes = _figure(10.4 if wide else 5.2, 0.75 + max(0.34, 0.17 * len(paths)) * len(rows))
            axes.set_yticks(range(len(rows)), rows)
            axes.set_ylim(len(rows) - 0.4, -0.6)
            axes.grid(axis="x")
            axes.set_axisbelow(True)
            if line is not None:
                axes.axvline(line, color=_colour("--p-stock"), linewidth=1.2)
            for mark in marks:
                # paths of one row do not hide each other
                y = rows.index(mark.row) + (paths.index(mark.path) - (len(paths) - 1) / 2) * 0.6 / max(len(paths), 2)
                colour, shape = _colour(f"--p-{mark.path}"), _MARKERS[mark.path]
                seen = [each for each in mark.samples if limits[0] <= each <= limits[1]]
                axes.plot(seen, [y] * len(seen), shape, color=colour, alpha=0.35, markersize=3.5, markeredgewidth=0)
                if mark.interval:
                    axes.plot(mark.interval, [y, y], color=colour, linewidth=1.6, solid_capstyle="butt")
                face = _colour("--page") if mark.hollow else colour
                axes.plot(
                    [mark.middle], [y], shape, color=colour, markerfacecolor=face, markersize=7, markeredgewidth=1.3
                )
            axes.set_xlim(*limits)
            axes.set_xlabel(label)
            return self._svg(figure, title)

    def path(self, path: Path, most: int, title: str, *, label: bool) -> str:
        """A path from left to right, a lane for each part of it; what each instruction is for.

        most: the axis's end; label: whether the axis says what it is of.
        """
        costs = _costs(path, most)
        levels = max((level for *_, level in costs), default=-1) + 1
        with matplotlib.rc_context(_STYLE):
            rows = list(LANES)
            names = [f"{LANES[lane]}  {path.lane(lane)}" for lane in rows] + ["cycles"] * bool(costs)
            below = 0.55 * levels
            figure, axes = _figure(10.4, 1.6 + 0.2 * label + 0.36 * below + 0.15 * bool(costs))
            axes.set_yticks([0, 1, 2, 3, *([4.1] if costs else [])], names)
            axes.set_ylim(3.5 + below + 0.45 * bool(costs), -0.5)
            for n in range(len(rows)):
                axes.axhline(n, color=_colour("--line"), linewidth=0.6, zorder=0)
            self._lanes(axes, path, rows, most)
            for start, end, words, level in costs:
                y = 3.85 + 0.55 * level
                axes.plot([start, end], [y, y], color=_colour("--ink"), linewidth=2, solid_capstyle="butt")
                axes.text((start + end) / 2, y + 0.1, words, ha="center", va="top", fontsize=8.5)
            axes.set_xlim(0, most)
            if label:
                axes.set_xlabel("instructions, in the order in which they are executed")
            return self._svg(figure, title)

    @staticmethod
    def _lanes(axes: Axes, path: Path, rows: Sequence[str], most: int) -> None:
        runs: list[tuple[str, str, int, int]] = []
        for step in path.steps:
            if runs and runs[-1][:2] == (step.lane, step.kind):
                lane, kind, start, count = runs.pop()
                runs.append((lane, kind, start, count + 1))
            else:
                runs.append((step.lane, step.kind, step.number - 1, 1))
        for own in dict.fromkeys(run[:2] for run in runs):
            variable, hatch = _KINDS[own[1]]
            axes.broken_barh(
                [run[2:] for run in runs if run[:2] == own],
                (rows.index(own[0]) - 0.4, 0.8),
                facecolor=_colour(variable),
                edgecolor=_colour("--hatch"),
                hatch=hatch,
                linewidth=0.3,
                zorder=2,
            )
        before = 0
        for lane, kind, start, count in runs:
            row = rows.index(lane)
            axes.plot([start, start], [before, row], color=_colour("--soft"), linewidth=0.8, zorder=1)
            before = row
            if count / most > 0.055:
                axes.text(
                    start + count / 2,
                    row,
                    f"{kind} {count}",
                    ha="center",
                    va="center",
                    fontsize=9.5,
                    bbox={"facecolor": _colour("--page"), "edgecolor": "none", "boxstyle": "round,pad=0.18"},
                    zorder=3,
                )


def _costs(path: Path, most: int) -> list[tuple[int, int, str, int]]:
    """(first step, step behind the last, words, level) of the pieces whose cost is above the noise."""
    found: list[tuple[int, int, str, int]] = []
    taken: dict[int, float] = {}
    for what, piece in path.pieces.items():
        if "overlap" not in piece.above_noise:
            continue
        runs: list[list[int]] = []
        for step in (s for s in path.steps if s.piece == what):
            if runs and runs[-1][1] == step.number - 1:
                runs[-1][1] = step.number
            else:
                runs.append([step.number - 1, step.number])
        if runs:
            start, end = max(runs, key=lambda run: run[1] - run[0])
            found.append((start, end, f"{piece.costs['overlap'][1]:+.0f}", 0))
    room = most / 40  # a label's width
    placed = []
    for start, end, words, _ in sorted(found):
        centre, half = (start + end) / 2, max((end - start) / 2, room / 2)
        level = next(n for n in range(len(found)) if taken.get(n, -room) <= centre - half)
        taken[level] = centre + half
        placed.append((start, end, words, level))
    return placed
