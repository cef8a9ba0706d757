# SPDX-License-Identifier: GPL-2.0-or-later
"""What `replay` prints: its tables; and its JSON for scripts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sysenter.replay.result import Result, quartiles
from sysenter.replay.runner import Key, Mixed

if TYPE_CHECKING:  # capstone is not loaded for a table
    from sysenter.replay.command import Outcome
    from sysenter.replay.compare import Change
    from sysenter.replay.path import Paths
    from sysenter.replay.pieces import Cost

__all__ = ["LEFT_OUT", "cell", "pieces_to_json", "print_replay", "to_json"]

_WAYS = ("overlap", "serial", "nested")
LEFT_OUT = (
    "left out: the mode switch itself (SYSCALL, SYSENTER, SYSRET, SYSEXIT, SWAPGS, CR3, STI, CLI), which a process "
    "cannot execute: real calls cost more by that, on each path alike but for SYSENTER against SYSCALL"
)


def _verws(result: Result) -> list[bool]:
    return sorted({key.verw for key in result.samples})


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _calls_table(result: Result, verw: bool) -> Table:
    title = f"TSC cycles of one call, without the caller's own{', VERW executed' if verw else ''}"
    table = Table(title=title, title_justify="left")
    for name in (
        "call",
        "path",
        "instructions",
        *_WAYS,
        "core's, overlap",
        "core's, serial",
        "stock - path, overlap",
        "stock - path, serial",
    ):
        table.add_column(name, justify="left" if name in ("call", "path") else "right")
    for call in dict.fromkeys(verdict.call for verdict in result.verdicts):
        own = [verdict for verdict in result.verdicts if verdict.call == call]
        for v in own:
            cycles = [result.cycles(Key(call, v.path, verw, way)) for way in _WAYS]
            table.add_row(
                call,
                v.path,
                str(v.guest) if v.verified else f"{v.guest}, here {v.replayed}",
                *map(_number, cycles),
                *(_number(None if c is None else c * result.core) for c in cycles[:2]),
                *(_saved(result, Key(call, v.path, verw, way)) for way in _WAYS[:2]),
                end_section=v is own[-1],
            )
    return table


def _saved(result: Result, key: Key) -> str:
    if key not in result.savings:
        return ""
    saved = result.savings[key]
    if not result.is_difference(key):
        return "within the noise"
    return f"{saved.middle:+.1f} ({saved.low:+.1f} to {saved.high:+.1f})"


def _mixture_table(result: Result) -> Table:
    table = Table(
        title="calls of all kinds mixed, TSC cycles of one call (difference from stock)", title_justify="left"
    )
    paths = list(dict.fromkeys(which.path for which in result.mixture))
    for name in ("order", "between", "VERW", "way", *paths):
        table.add_column(name, justify="left" if name not in paths else "right")
    rows = dict.fromkeys((m.order, m.kib, m.verw, m.way) for m in result.mixture)
    for order, kib, verw, way in rows:
        cells, stock = [], result.mixture.get(Mixed("stock", order, kib, verw, way))
        for path in paths:
            own = result.mixture.get(Mixed(path, order, kib, verw, way))
            less = "" if own is None or stock is None or path == "stock" else f" ({own - stock:+.1f})"
            cells.append(_number(own) + less)
        between = f"{kib} KiB of other code and data" if kib else "nothing"
        table.add_row(order, between, "yes" if verw else "no", way, *cells)
    return table


def _print_result(result: Result, console: Console) -> None:
    """The tables of a replay."""
    console.print(
        Text(
            f"{result.kernel}, its paths as chosen for {result.cpu}, on {result.processor}: 1 cycle of the TSC "
            f"({result.tsc_mhz:.0f} MHz) is {result.core:.2f} of the core; "
            f"{result.processes[0]} of {result.processes[1]} processes undisturbed"
        )
    )
    for verw in _verws(result) or [False]:
        console.print(_calls_table(result, verw))
    if result.mixture:
        console.print(_mixture_table(result))
    noise = ", ".join(f"{way} {result.noise[way]:.1f}" for way in _WAYS if way in result.noise)
    for line in (
        "instructions: the guest's; the replay executes the same. stock - path: median (quartiles). overlap: calls "
        "in a loop; serial: LFENCE at both mode switches; nested: below 24 functions, which return afterwards",
        f"noise (nine of ten differences in one process are within it from their median): {noise} TSC cycles",
        LEFT_OUT,
        *(
            ["32-bit code runs in compatibility mode here: a segment register's load costs what it does there"]
            if result.arch == "i386"
            else []
        ),
        *(f"not verified, so not timed: {v.call} by {v.path}: {v.why}" for v in result.unverified),
    ):
        console.print(Text(line))


def _cycles_json(result: Result, call: str, path: str, verw: bool) -> dict[str, float]:
    found = {way: result.cycles(Key(call, path, verw, way)) for way in _WAYS}
    return {way: round(value, 2) for way, value in found.items() if value is not None}


def cell(result: Result, call: str, path: str) -> str:
    """Cycles of a call, overlapping / serial, without VERW; "-" if there are none."""
    found = [result.cycles(Key(call, path, False, way)) for way in _WAYS[:2]]
    return "-" if None in found else " / ".join(map(_number, found))


def to_json(result: Result) -> dict[str, Any]:
    """A replay as the object that docs/json.md describes, schema 1."""
    calls: list[dict[str, Any]] = []
    for v in result.verdicts:
        for verw in _verws(result) or [False]:
            entry: dict[str, Any] = {
                "call": v.call,
                "path": v.path,
                "instructions": v.guest,
                "verified": v.verified,
                "verw": verw,
                "cycles": _cycles_json(result, v.call, v.path, verw),
            }
            if not v.verified:
                entry["why"] = v.why
            entry["samples"] = {
                way: [round(each, 2) for each in result.samples[key]]
                for way in _WAYS
                if (key := Key(v.call, v.path, verw, way)) in result.samples
            }
            saved = {
                way: {
                    "quartiles": [round(s.low, 2), round(s.middle, 2), round(s.high, 2)],
                    "above_noise": result.is_difference(key),
                }
                for way in _WAYS
                if (key := Key(v.call, v.path, verw, way)) in result.savings and (s := result.savings[key])
            }
            if saved:
                entry["saves"] = saved
            calls.append(entry)
    mixture: dict[tuple[str, str, int, bool], dict[str, float]] = {}
    for which, cycles in result.mixture.items():
        mixture.setdefault((which.path, which.order, which.kib, which.verw), {})[which.way] = round(cycles, 2)
    return {
        "schema": 1,
        "processor": result.processor,
        "tsc_mhz": result.tsc_mhz,
        "core_cycles": round(result.core, 3),
        "kernel": result.kernel,
        "arch": result.arch,
        "cpu": result.cpu,
        "processes": {"undisturbed": result.processes[0], "all": result.processes[1]},
        "noise": {way: round(value, 2) for way, value in result.noise.items()},
        "calls": calls,
        "mixture": [
            {"path": path, "order": order, "between_kib": kib, "verw": verw, "cycles": cycles}
            for (path, order, kib, verw), cycles in mixture.items()
        ],
        "left_out": LEFT_OUT,
    }


def _print_changes(changes: Sequence[Change], name: str, console: Console) -> None:
    """The table of what has changed, and a line for each path over all calls."""
    table = Table(title=f"against {name}: now - then, TSC cycles: median (quartiles)", title_justify="left")
    for column in ("call", "path", "VERW", "way", "change"):
        table.add_column(column)
    for each in changes:
        if each.significant:
            change = each.change
            table.add_row(
                each.key.call,
                each.key.path,
                "yes" if each.key.verw else "no",
                each.key.way,
                f"{change.middle:+.1f} ({change.low:+.1f} to {change.high:+.1f})",
            )
    if table.row_count:
        console.print(table)
    groups = dict.fromkeys((each.key.path, each.key.verw, each.key.way) for each in changes)
    for path, verw, way in groups:
        own = [e for e in changes if (e.key.path, e.key.verw, e.key.way) == (path, verw, way)]
        low, middle, high = quartiles([e.change.middle for e in own])
        slower, faster = sum(e.slower for e in own), sum(e.significant and not e.slower for e in own)
        console.print(
            Text(
                f"{path}, {way}{', VERW' if verw else ''}: {middle:+.1f} ({low:+.1f} to {high:+.1f}) "
                f"over {len(own)} calls, {slower} slower, {faster} faster"
            )
        )


def pieces_to_json(costs: Sequence[Cost], result: Result, name: str) -> dict[str, Any]:
    """What pieces cost, as the object that docs/json.md describes, schema 1."""
    return {
        "schema": 1,
        "processor": result.processor,
        "kernel": result.kernel,
        "cpu": result.cpu,
        "noise": {way: round(value, 2) for way, value in result.noise.items()},
        "pieces": [
            {
                "call": name,
                "path": cost.path,
                "piece": cost.what,
                "instructions": cost.instructions,
                "costs": {
                    way: [round(each, 2) for each in (found.low, found.middle, found.high)]
                    for way, found in cost.costs.items()
                },
                "above_noise": sorted(cost.above_noise),
            }
            for cost in costs
        ],
    }


def _print_costs(costs: Sequence[Cost], result: Result, name: str, console: Console) -> None:
    """A table: what each piece costs."""
    table = Table(
        title=f"{name}: what each piece of a path costs (the path with it minus the path without it), TSC cycles",
        title_justify="left",
    )
    for column in ("path", "piece", "instructions", *_WAYS):
        table.add_column(column, justify="left" if column in ("path", "piece") else "right")
    for cost in costs:
        cells = []
        for way in _WAYS:
            found = cost.costs.get(way)
            if found is None:
                cells.append("another result")
            elif way not in cost.above_noise:
                cells.append("within the noise")
            else:
                cells.append(f"{found.middle:+.1f} ({found.low:+.1f} to {found.high:+.1f})")
        table.add_row(cost.path, cost.what, str(cost.instructions) if cost.costs else "-", *cells)
    console.print(table)
    noise = ", ".join(f"{way} {result.noise[way]:.1f}" for way in _WAYS)
    for line in (
        f"{result.kernel} on {result.processor}; noise: {noise} TSC cycles",
        "a piece is taken out by NOPs in its place, which count as instructions, by a jump over it, or by another "
        "call; pieces overlap one another in time, so their costs do not add up to the path's",
    ):
        console.print(Text(line))


def _print_paths(paths: Paths, console: Console) -> None:
    """How many instructions each path has in each lane."""
    lanes_there = list(dict.fromkeys(step.lane for step in paths.paths[0].steps))
    table = Table(title=f"instructions in {paths.kernel}, on {paths.cpu}", title_justify="left")
    for column in ("call", "path", *lanes_there, "together"):
        table.add_column(column, justify="left" if column in ("call", "path") else "right")
    for each in paths.paths:
        lanes = [sum(step.lane == lane for step in each.steps) for lane in lanes_there]
        table.add_row(each.call, each.path, *map(str, lanes), str(len(each.steps)))
    console.print(table)


def print_replay(outcome: Outcome, console: Console) -> None:
    """Print what came of a replay."""
    if outcome.paths:
        _print_paths(outcome.paths, console)
    elif outcome.exported:
        size = sum(path.stat().st_size for path in outcome.exported.iterdir())
        console.print(f"{outcome.exported}: {size / 1e6:.1f} MB", soft_wrap=True)
    elif outcome.result and outcome.costs is not None:
        _print_costs(outcome.costs, outcome.result, outcome.call, console)
    elif outcome.result:
        _print_result(outcome.result, console)
        if outcome.against:
            _print_changes(outcome.changes(), outcome.against, console)
