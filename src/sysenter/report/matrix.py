# SPDX-License-Identifier: GPL-2.0-or-later
"""The table that `matrix` prints, and the page of what is supported, which it makes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sysenter.matrix.plan import TESTS
from sysenter.matrix.run import Cell, Matrix

__all__ = ["print_matrix", "support_page"]


def _kernel(cell: Cell) -> str:
    name = cell.job.kernel
    return Path(name).parent.name if name.endswith(".toml") else name


class _Notes:
    """Reasons, each told once."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def mark(self, text: str) -> str:
        if text not in self.texts:
            self.texts.append(text)
        return f"[{self.texts.index(text) + 1}]"


def _why(cell: Cell) -> str:
    return str(cell.outcome["why"] or "; ".join(cell.outcome["differs"]))


def _found(cell: Cell) -> str:
    """What a job found, in a few words; JSON has all of it."""
    of: dict[str, Any] = cell.outcome["figures"]
    match cell.job.kind:
        case "run":
            costs = of["instructions"].get("getppid", {})
            return ", ".join(f"{path} {n}" for path, n in costs.items() if n is not None and path != "int80")
        case "selftests":
            return f"{of['same']} of {of['programs']} alike"
        case "mitigations":
            return ", ".join(of["fast"]) or "none"
        case "check":
            return f"{len(of)} handler{'s' if len(of) != 1 else ''}, {sum(h['cases'] for h in of.values()):,} cases"
        case "mutants":
            return f"{sum(h['caught'] for h in of.values())} of {sum(h['tried'] for h in of.values())} caught"
        case kind if kind in TESTS:
            return f"{of['passed']} test{'s' if of['passed'] != 1 else ''}, {of['skipped']} skipped"
        case "bench":
            least = {
                path: min((w[path]["instructions"] / w["stock"]["instructions"], key) for key, w in counted.items())
                for path in ("fast", "all")
                if (counted := {k: w for k, w in of["workloads"].items() if _both_counted(w, path)})
            }
            keys = ", ".join(dict.fromkeys(key for _, key in least.values()))
            ratios = ", ".join(f"{path} {ratio:.2f}" for path, (ratio, _) in least.items())
            return f"{ratios} of stock's ({keys})" if ratios else ""  # with KVM nothing is counted
    return ""


def _both_counted(workload: dict[str, Any], path: str) -> bool:
    return all(workload.get(each, {}).get("instructions") for each in ("stock", path))


def _cell_words(cell: Cell, notes: _Notes) -> str:
    outcome = str(cell.outcome["outcome"])
    if outcome == "differs":
        outcome = "DIFFERS"
    if outcome == "failed":
        outcome = "FAILED"
    if _why(cell):
        return f"{outcome} {notes.mark(_why(cell))}"
    found = _found(cell) if outcome == "passed" else ""
    return f"{outcome}: {found}" if found else outcome


def print_matrix(found: Matrix, console: Console) -> None:
    """A row for each kernel, processor and scope, a column for each job; below it what was refused or differed."""
    names = list(dict.fromkeys(cell.job.name for cell in found.cells))
    rows: dict[tuple[str, ...], dict[str, Cell]] = {}
    for cell in found.cells:
        cpu = str(cell.outcome["cpu"] or cell.job.cpu) if cell.job.kind not in ("check", "mutants", *TESTS) else "-"
        more = " ".join((cell.job.append, *cell.job.module_options)).strip()
        rows.setdefault((_kernel(cell), cpu, cell.job.scope, more), {})[cell.job.name] = cell
    notes = _Notes()
    table = Table("kernel", "processor", "scope", "more", *names)
    for row, cells in sorted(rows.items()):
        kernel, cpu, scope, more = row
        said = [_cell_words(cells[name], notes) if name in cells else "" for name in names]
        table.add_row(kernel, cpu, scope or "-", more or "-", *(Text(words) for words in said))
    if rows:
        console.print(table)
    for number, text in enumerate(notes.texts, 1):
        console.print(Text(f"[{number}] {text}"), soft_wrap=True)
    share = found.core_share
    done_now = sum(not c.kept for c in found.cells)
    if share is not None and done_now:
        console.print(
            f"{done_now} job{'s' if done_now > 1 else ''} in {found.wall_seconds:.0f} s, "
            f"which used {100 * share:.0f} % of {found.cores} core{'s' if found.cores > 1 else ''}"
        )
    if not found.complete:
        console.print(f"{len(found.cells)} of {found.asked} jobs are done; the same command goes on with the rest")


_HEAD = """# Support

Which kernels and processors the module was tried on. Do not edit this page: it is made by

{command}

Each cell is one run of the main job (`./sysenter run`): boot the unmodified kernel in QEMU on that
processor model, load the module, make calls by each path, run dd, unload, look at the kernel's log
and registers. {ran}: it shows what works, and says nothing about speed.

- **marked**: programs that ask for it take the fast path. **all**: every program does.
- Debian's kernels boot without page-table isolation (`nopti`), because an emulated processor cannot
  say that it has no Meltdown. [What was tried to break it](hazards.md) ran with isolation too.
- The figures are guest instructions of one getppid, exact: stock / marked / all. On 2.2 and 2.4,
  stock is int 0x80; INT and IRET count as one instruction each there, and take most of the time.
{reasons}
sysenter {version}; {qemu}.
"""
_REASONS = "- A number in brackets is a reason below the tables.\n"


def _ran(found: Matrix) -> str:
    """What ran the guests, in words."""
    by = {cell.outcome["figures"].get("accelerator") for cell in found.cells if cell.job.kind == "run"}
    if "kvm" not in by:
        return "It is emulation (TCG)"
    return "KVM or emulation (TCG) ran it" if "tcg" in by else "KVM ran it"


def _works(cell: Cell, notes: _Notes) -> str:
    outcome, figures = cell.outcome["outcome"], cell.outcome["figures"]
    if outcome == "passed":
        scope = {"both": "marked, all"}.get(figures["scope"], figures["scope"])
        costs: dict[str, Any] = figures["instructions"].get("getppid", {})
        stock = costs.get("stock") if costs.get("stock") is not None else costs.get("int80")
        shown = [stock, costs.get("fast"), costs.get("all")]
        told = " / ".join("-" if n is None else str(n) for n in shown)
        return f"{scope}: {told}"
    word = {"refused": "refused", "differs": "**differs**"}.get(outcome, "**fails**")
    return f"{word} {notes.mark(_why(cell))}"


def support_page(found: Matrix, words: Sequence[str], version: str, qemu: str) -> str:
    """The page of what is supported, of the `run` jobs of a matrix.

    words: of the command, behind `matrix`: the files, then each option with its value.
    """
    notes = _Notes()
    command = " \\\n        ".join([f"    ./sysenter matrix {words[0]}".rstrip(), *words[1:]])
    parts: list[str] = []
    if not found.complete:
        parts.append(f"\n{len(found.cells)} of {found.asked} runs were made; a cell without words is one that was not.")
    groups: dict[str, list[Cell]] = {}
    for cell in found.cells:
        if cell.job.kind == "run":
            old = str(cell.outcome["release"]).startswith(("2.2.", "2.4."))
            groups.setdefault("2.2 and 2.4" if old else str(cell.outcome["arch"]), []).append(cell)
    for name in sorted(groups, key=lambda group: ["amd64", "i386", "2.2 and 2.4", ""].index(group)):
        parts.append(f"\n## {name or 'Not to be had'}\n")
        parts += _tables(groups[name], notes)
    if notes.texts:
        parts.append("\n## Reasons\n")
        for number, text in enumerate(notes.texts, 1):
            parts += wrap(f"{number}. {text}", 98, subsequent_indent="   ")
    reasons = _REASONS if notes.texts else ""
    head = _HEAD.format(command=command, ran=_ran(found), reasons=reasons, version=version, qemu=qemu).rstrip()
    return "\n".join([head, *parts]).rstrip() + "\n"


def _tables(cells: Sequence[Cell], notes: _Notes) -> list[str]:
    """A row for each processor, and a column for each kernel: at most four beside one another."""
    kernels = list(dict.fromkeys((_kernel(c), str(c.outcome["release"])) for c in sorted(cells, key=_kernel)))
    lines = []
    for first in range(0, len(kernels), 4):
        some = kernels[first : first + 4]
        rows: dict[str, dict[tuple[str, str], str]] = {}
        for cell in cells:
            kernel = (_kernel(cell), str(cell.outcome["release"]))
            if kernel in some:
                more = " ".join((cell.job.append, cell.job.scope, *cell.job.module_options)).split()
                machine = " ".join((f"`{cell.outcome['cpu'] or cell.job.cpu}`", *(f"`{word}`" for word in more)))
                rows.setdefault(machine, {})[kernel] = _works(cell, notes)
        lines.append("| processor | " + " | ".join(f"{name} ({release})" for name, release in some) + " |")
        lines.append("|---" * (len(some) + 1) + "|")
        for machine, of in rows.items():
            lines.append(f"| {machine} | " + " | ".join(of.get(kernel, "") for kernel in some) + " |")
        lines.append("")
    return lines
