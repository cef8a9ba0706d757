# SPDX-License-Identifier: GPL-2.0-or-later
"""The JSON of `run --json`: a contract (docs/json.md). Keys are added, not changed."""

from __future__ import annotations

from typing import Any

from sysenter.measure.measurement import DdRuns, Measurement
from sysenter.replay.result import Result
from sysenter.report.replay import to_json as replay_to_json

__all__ = ["to_json"]


def _dd(d: DdRuns) -> dict[str, Any]:
    return {
        "path": d.path,
        "block": d.block,
        "count": d.count,
        "seconds": list(d.seconds),
        "fast_calls": list(d.fast_calls),
    }


def _rounded(ratio: float | None) -> float | None:
    return None if ratio is None else round(ratio, 3)


def _preload(m: Measurement) -> dict[str, Any]:
    if m.preload:
        return {"preload": {"dd": [_dd(d) for d in m.preload], "fast_over_int80": round(m.preload_over_int80, 3)}}
    return {"preload": {"dd": [], "why_not": m.no_preload}} if m.no_preload else {}


def to_json(m: Measurement, replay: Result | str) -> dict[str, Any]:
    """A measurement as the object that docs/json.md describes, schema 1.

    replay: the calls on this machine's processor, or why there are none.
    """
    return {
        "schema": 1,
        "target": {
            "release": m.release,
            "arch": m.arch,
            "cpu": m.cpu,
            "accelerator": m.accelerator,
            "cpus": m.cpus,
        },
        "guard": {"release": m.release, "sock_register": f"0x{m.sock_register:x}", "accepted": m.accepted},
        "calls": [
            {
                "call": c.call,
                "path": c.path,
                "instructions": c.instructions,
                "ns": c.ns,
                **({} if c.cycles is None else {"cycles": c.cycles}),
            }
            for c in m.calls
        ],
        "dd": [_dd(d) for d in m.dd],
        "speedup": {
            "dd_fast_over_stock": _rounded(m.fast_over_stock),
            "dd_fast_over_int80": _rounded(m.fast_over_int80),
            **({} if m.all_over_stock is None else {"dd_all_over_stock": _rounded(m.all_over_stock)}),
        },
        "module": {
            **({} if m.scope == "marked" else {"scope": m.scope}),
            "fast_table": m.fast_table,
            "toll_on_stock": m.overhead,
            **({"way": m.way} if m.way else {}),
        },
        **(
            {"context_switches": [{"path": s.path, "loaded": s.loaded, "ns": round(s.ns)} for s in m.switches]}
            if m.switches
            else {}
        ),
        **_preload(m),
        "after_unload": {"registers_restored": m.registers_restored, "stock_calls_work": m.stock_after_unload},
        "kernel_log": list(m.log),
        "replay": {"calls": [], "why_not": replay} if isinstance(replay, str) else replay_to_json(replay),
    }
