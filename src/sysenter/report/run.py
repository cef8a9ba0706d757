# SPDX-License-Identifier: GPL-2.0-or-later
"""The table that `run` prints."""

from __future__ import annotations

from statistics import median

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from sysenter.measure.measurement import PATHS, Measurement
from sysenter.replay.result import Result
from sysenter.report.replay import cell

__all__ = ["print_measurement"]

_HOW = {
    "kvm": "on KVM",
    "tcg": "emulated (TCG): the times are the emulator's, the counts exact",
    "bochs": "emulated (Bochs): the counts exact, the times made of them",
}


def _dd_table(m: Measurement) -> Table:
    first = m.dd[0]
    emulated = " (emulated time)" if m.accelerator != "kvm" else ""
    table = Table(
        title=f"dd if=/dev/zero of=/dev/null bs={first.block} count={first.count}, "
        f"{len(first.seconds)} rounds{emulated}",
        title_justify="left",
    )
    for name in ("path", "median s", "least", "most", "× int80", "× stock", "fast calls"):
        table.add_column(name, justify="left" if name == "path" else "right")
    for runs in m.dd:
        against = [median(o / s for o, s in zip(m.seconds(other), runs.seconds, strict=True)) for other in PATHS[:2]]
        table.add_row(
            runs.path,
            f"{median(runs.seconds):.3f}",
            f"{min(runs.seconds):.3f}",
            f"{max(runs.seconds):.3f}",
            *(f"{ratio:.2f}" for ratio in against),
            str(min(runs.fast_calls)),
        )
    return table


def _call_table(m: Measurement, replay: Result | str) -> Table:
    cycles = any(c.cycles is not None for c in m.calls)
    table = Table(title="one call, from the program's call to its return", title_justify="left")
    for name in (
        "call",
        "path",
        "guest instructions",
        "against stock",
        *(("cycles",) if cycles else ()),
        "ns" if m.accelerator == "kvm" else "ns (emulated)",
        *(("cycles, replayed here",) if isinstance(replay, Result) else ()),
    ):
        table.add_column(name, justify="left" if name in ("call", "path") else "right")
    stock = {c.call: c.instructions for c in m.calls if c.path == "stock"}
    for c in m.calls:
        base = stock.get(c.call)
        table.add_row(
            c.call,
            c.path,
            "-" if c.instructions is None else str(c.instructions),
            "-" if c.instructions is None or base is None else f"{c.instructions - base:+d}",
            *((str(c.cycles),) if cycles else ()),
            f"{c.ns:.0f}",
            *((cell(replay, c.call, c.path),) if isinstance(replay, Result) else ()),
            end_section=c.path == m.calls[-1].path,
        )
    return table


def _ratio_lines(m: Measurement) -> list[Text]:
    emulated = ", emulated" if m.accelerator != "kvm" else ""
    lines = []
    if m.fast_over_stock is not None and m.fast_over_int80 is not None:
        lines.append(
            Text(
                f"\ndd on the fast path: {m.fast_over_stock:.2f} times stock's speed, "
                f"{m.fast_over_int80:.2f} times int80's{emulated}"
            )
        )
    if m.all_over_stock is not None:
        lines.append(
            Text(f"dd, unmodified, while the scope is all: {m.all_over_stock:.2f} times stock's speed{emulated}")
        )
    return lines


def _switch_lines(m: Measurement) -> list[Text]:
    if not m.switches:
        return []
    costs = ", ".join(
        f"{s.path} {s.ns / 1000:.1f} µs {'with' if s.loaded else 'without'} the module" for s in m.switches
    )
    return [Text(f"a byte to and fro between two processes (2 context switches, 4 calls; way {m.way}): {costs}")]


def _preload_lines(m: Measurement) -> list[Text]:
    if m.preload:
        return [
            Text(
                f"a dd linked at run time: with LD_PRELOAD {m.preload_over_int80:.2f} times the speed "
                f"of without, {min(m.preload[1].fast_calls)} fast calls"
            )
        ]
    return [Text(f"dd is linked statically, and LD_PRELOAD not shown: {m.no_preload}")] if m.no_preload else []


def _replay_line(replay: Result | str) -> Text:
    if isinstance(replay, str):
        return Text(f"no cycles of this machine's processor: {replay}")
    return Text(
        f"cycles: of the TSC on this machine's {replay.processor}, the same paths replayed in a process, in a loop / "
        "serialised, without VERW and without the mode switch itself; `./sysenter replay` says more"
    )


def print_measurement(m: Measurement, console: Console, replay: Result | str) -> None:
    """Print a measurement for a person. replay: its calls on this machine's processor, or why there are none."""
    how = _HOW[m.accelerator]
    yes = {True: "yes", False: "NO", None: "not read (this guest has no msr driver)"}
    parts: list[RenderableType] = [
        Text(f"\nLinux {m.release} ({m.arch}) on {m.cpu}, {m.cpus} CPU, {how}"),
        Text(
            f"guard: release {m.release}, sock_register 0x{m.sock_register:x}: "
            f"{'accepted' if m.accepted else 'NOT ACCEPTED'}; "
            f"{m.fast_table} calls are fast\n"
        ),
        _dd_table(m),
        Text(""),
        _call_table(m, replay),
        _replay_line(replay),
        *_ratio_lines(m),
        *_preload_lines(m),
        *_switch_lines(m),
        *(
            [Text(f"while the module is loaded, a stock call takes {m.overhead} instructions more")]
            if m.overhead is not None
            else []
        ),
        Text(
            f"after unload: SYSENTER registers as before: {yes[m.registers_restored]}; "
            f"stock calls work: {yes[m.stock_after_unload]}; kernel log clean: {yes[not m.log]}"
        ),
    ]
    console.print(Group(*parts), soft_wrap=True)
