# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/architecture.svg: the rooms of src/sysenter and who imports whom, read from the code.

python tests/architecture.py      draws it anew

A room stands as high as it can, below all that import it. An arrow goes from who imports to what is imported;
those that follow from others are left out. What is said in a box is the first sentence of
the room's docstring.
"""

from __future__ import annotations

import ast
import textwrap
from functools import cache
from pathlib import Path
from statistics import fmean
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src/sysenter"
PICTURE = ROOT / "docs/architecture.svg"
_WIDTH, _BOX, _HEIGHT, _GAP = 1080, 166, 86, 44
_STYLE = """
  text { font: 12px sans-serif; fill: #222 } .name { font-weight: bold; font-size: 14px }
  rect { fill: #eef1fb; stroke: #4051b5 } path { fill: none; stroke: #4051b5 } marker path { fill: #4051b5 }
  .paper { fill: #fff; stroke: none }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6e6e6 } rect { fill: #2b3050; stroke: #8c9eff } path { stroke: #8c9eff }
    marker path { fill: #8c9eff } .paper { fill: #1e2129 } }
"""


def imports() -> dict[str, set[str]]:
    """Room -> the rooms that it imports; `commands` is cli.py."""
    rooms = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    found: dict[str, set[str]] = {room: set() for room in rooms}
    for room in rooms:
        for path in (SOURCE / room).glob("**/*.py"):
            found[room] |= _imported(path) & rooms - {room}
    return found | {"commands": _imported(SOURCE / "cli.py") & rooms}


def _imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("sysenter.")}


def levels(edges: dict[str, set[str]]) -> dict[str, int]:
    """Room -> how many rooms stand above it. Rooms that import each other have no such order: ValueError."""

    @cache
    def level(room: str, below: tuple[str, ...] = ()) -> int:
        if room in below:
            raise ValueError(f"{' imports '.join([room, *below])}: a circle")
        return 1 + max((level(above, (room, *below)) for above, its in edges.items() if room in its), default=-1)

    return {room: level(room) for room in edges}


def reduced(edges: dict[str, set[str]]) -> dict[str, set[str]]:
    """Without those that follow from others."""

    def reach(room: str) -> set[str]:
        return set().union(*({below} | reach(below) for below in edges[room]))

    return {room: {b for b in below if not any(b in reach(other) for other in below)} for room, below in edges.items()}


def _said(room: str) -> list[str]:
    path = SOURCE / ("cli.py" if room == "commands" else f"{room}/__init__.py")
    doc = ast.get_docstring(ast.parse(path.read_text())) or ""
    first = "Each calls one room, and shows what comes of it" if room == "commands" else doc.split(".")[0]
    return textwrap.wrap(" ".join(first.split()), 22, max_lines=4, placeholder=" ...")


def picture() -> str:
    """The SVG, whole."""
    edges = imports()
    level = levels(edges)
    lowest = max(level.values())
    drawn = reduced(edges)
    place: dict[str, tuple[float, float]] = {}
    for height in range(lowest + 1):
        row = sorted(room for room in edges if level[room] == height)
        step = _WIDTH / len(row)
        for n, room in enumerate(row):
            above = [place[other][0] for other, below in drawn.items() if room in below]
            x = fmean(above) if above and len(row) == 1 else step * (n + 0.5)
            place[room] = (x, height * (_HEIGHT + _GAP) + _HEIGHT / 2 + 8)
    size = f"{_WIDTH} {lowest * (_HEIGHT + _GAP) + _HEIGHT + 16}"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" role="img">',
        "<title>The rooms of src/sysenter: who imports whom</title>",
        f"<style>{_STYLE}</style>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z"/></marker></defs>',
        f'<rect class="paper" width="{_WIDTH}" height="{size.split()[1]}"/>',
    ]
    for room, below in sorted(drawn.items()):
        for other in sorted(below):
            (x, y), (u, v) = place[room], place[other]
            start, end = y + _HEIGHT / 2, v - _HEIGHT / 2
            bend = _GAP if end - start < 2 * _GAP else 2 * _GAP
            lines.append(
                f'<path d="M{x:.0f} {start:.0f}C{x:.0f} {start + bend:.0f} {u:.0f} {end - bend:.0f} {u:.0f} {end:.0f}"'
                ' marker-end="url(#tip)"/>'
            )
    for room, (x, y) in sorted(place.items()):
        left, up = x - _BOX / 2, y - _HEIGHT / 2
        lines.append(f'<rect x="{left:.0f}" y="{up:.0f}" width="{_BOX}" height="{_HEIGHT}" rx="5"/>')
        lines.append(f'<text class="name" x="{left + 8:.0f}" y="{up + 18:.0f}">{escape(room)}</text>')
        for n, text in enumerate(_said(room)):
            lines.append(f'<text x="{left + 8:.0f}" y="{up + 34 + 15 * n:.0f}">{escape(text)}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


if __name__ == "__main__":
    PICTURE.write_text(picture())
