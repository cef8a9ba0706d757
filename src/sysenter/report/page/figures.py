# SPDX-License-Identifier: GPL-2.0-or-later
"""What the saved results say, as the tables and charts of the page take it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

from sysenter.bench.result import Comparison, from_json
from sysenter.report.page.saved import Saved, reading

__all__ = [
    "PATHS",
    "WAYS",
    "Cycles",
    "Instructions",
    "Measured",
    "Path",
    "Piece",
    "Ratio",
    "Ratios",
    "Stretch",
    "Subject",
    "cycles_of",
    "instructions_of",
    "measured",
    "paths_of",
    "pieces_of",
    "ratios_of",
]

PATHS = ("int80", "stock", "all", "fast")
WAYS = {"overlap": "in a loop", "serial": "kept apart", "nested": "below 24 functions"}


@dataclass(frozen=True)
class Measured:
    """The subject of a file: kernel, processor, and where its times are from."""

    file: str
    command: str
    kernel: str
    arch: str
    cpu: str
    """The guest's processor model."""
    times: str
    """Where its times are from: a processor or an emulator."""


def _release(kernel: str) -> str:
    return kernel.partition(" ")[0]


def _emulated(accelerator: str) -> bool:
    return accelerator in ("tcg", "bochs")


def _times(accelerator: str) -> str:
    return "emulated" if _emulated(accelerator) else "KVM, on this processor"


def measured(saved: Saved) -> Measured:
    """A line of the page's table of files."""
    data, kind = saved.data, saved.kind
    with reading(saved):
        if kind == "run":
            target = data["target"]
            times = _times(target["accelerator"])
            if data.get("replay", {}).get("calls"):
                times += f"; cycles of {data['replay']['processor']}"
            return Measured(saved.name, kind, target["release"], target["arch"], target["cpu"], times)
        kernel = _release(str(data.get("kernel", "")))
        if kind == "bench":
            times = _times(data["accelerator"])
        elif kind in ("replay", "pieces"):
            times = f"cycles of {data['processor']}"
        else:
            times = "none: exact instructions" if kind == "trace" else "none"
        return Measured(saved.name, kind, kernel, data.get("arch", ""), data.get("cpu", ""), times)


class Subject(NamedTuple):
    """What was replayed or traced. Of another build, or for another processor, a path has other instructions."""

    kernel: str
    """Release and version."""
    cpu: str
    """The guest's processor model, which chose the paths."""


def _subject(data: Mapping[str, Any]) -> Subject:
    return Subject(str(data["kernel"]), str(data["cpu"]))


# --- cycles: replay ------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """A call by one path, in cycles of the time-stamp counter."""

    call: str
    path: str
    instructions: int
    cycles: Mapping[str, float]
    samples: Mapping[str, Sequence[float]]
    saves: Mapping[str, str]
    """Way -> what it saves against stock, in words."""


@dataclass(frozen=True)
class Cycles:
    """A replay."""

    file: str
    kernel: str
    subject: Subject
    processor: str
    calls: tuple[Call, ...]
    left_out: str
    unverified: tuple[str, ...]

    @property
    def label(self) -> str:
        return f"{self.kernel} on {self.processor}"

    @property
    def names(self) -> list[str]:
        """The calls, each once."""
        return list(dict.fromkeys(call.call for call in self.calls))

    def get(self, call: str, path: str) -> Call | None:
        return next((each for each in self.calls if (each.call, each.path) == (call, path)), None)


def _saves(entry: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for way, saved in entry.get("saves", {}).items():
        low, middle, high = saved["quartiles"]
        found[way] = f"{middle:.0f} ({low:.0f} to {high:.0f})" if saved["above_noise"] else "no difference shown"
    return found


def cycles_of(saved: Saved) -> Cycles | None:
    """The replay in a result of replay or run; None if there is none. Without VERW, which is timed apart."""
    data = saved.data.get("replay", {}) if saved.kind == "run" else saved.data
    with reading(saved):
        if not data.get("calls"):
            return None
        calls = tuple(
            Call(
                entry["call"],
                entry["path"],
                entry["instructions"],
                dict(entry["cycles"]),
                {way: [float(each) for each in found] for way, found in entry["samples"].items()},
                _saves(entry),
            )
            for entry in data["calls"]
            if entry["verified"] and not entry["verw"]
        )
        # once each, and not for VERW again
        bad = dict.fromkeys(
            f"{e['call']} by {e['path']}: {e.get('why', '')}" for e in data["calls"] if not e["verified"]
        )
        return Cycles(
            saved.name,
            _release(data["kernel"]),
            _subject(data),
            data["processor"],
            calls,
            data["left_out"],
            tuple(bad),
        )


# --- ratios: bench and run -----------------------------------------------------------


@dataclass(frozen=True)
class Ratio:
    """How many times as fast as stock a workload is by one path."""

    workload: str
    path: str
    rounds: tuple[float, ...]
    """The ratio in each round."""
    median: float
    low: float | None
    high: float | None
    """The 95 % interval of the median."""
    shown: bool
    words: str
    instructions: float | None = None
    """Guest instructions, in parts of stock's."""


@dataclass(frozen=True)
class Ratios:
    """All workloads of one result."""

    file: str
    kernel: str
    cpu: str
    emulated: bool
    ratios: tuple[Ratio, ...]
    complete: bool = True
    failed: tuple[str, ...] = ()
    """What did, in words."""

    @property
    def label(self) -> str:
        return f"{self.kernel} on {self.cpu}{', emulated' if self.emulated else ''}"

    @property
    def workloads(self) -> list[str]:
        return list(dict.fromkeys(each.workload for each in self.ratios))


def _ratio(workload: str, path: str, stock: Sequence[float], own: Sequence[float], c: Comparison) -> Ratio:
    rounds = tuple(s / p for s, p in zip(stock, own, strict=False) if p > 0)
    return Ratio(workload, path, rounds, c.median, c.low, c.high, c.shown, c.words)


def ratios_of(saved: Saved) -> Ratios | None:
    """A benchmark's ratios, or those of run's dd; None if there are none."""
    data = saved.data
    with reading(saved):
        if saved.kind == "run":
            seconds = {runs["path"]: [float(s) for s in runs["seconds"]] for runs in data["dd"]}
            if "stock" not in seconds:
                return None
            first, target = data["dd"][0], data["target"]
            # of the same form as a benchmark's, so that the same is said of them
            workload = f"dd/bs={first['block']}"
            timed = {p: {"seconds": s, "calls": [0] * len(s), "instructions": None} for p, s in seconds.items()}
            data = {
                "schema": 1,
                "kind": "bench",
                "kernel": target["release"],
                "arch": target["arch"],
                "cpu": target["cpu"],
                "accelerator": target["accelerator"],
                "processor": "",
                "version": "",
                "module_options": [],
                "complete": True,
                "workloads": {workload: timed},
            }
        result = from_json(data, saved.name)
        ratios = []
        for workload, paths in result.workloads.items():
            for path in (p for p in PATHS if p in paths and p != "stock"):
                if saved.kind == "bench" and result.is_unserved(path):
                    continue
                compared = result.compared(workload, path)
                if compared is None:
                    continue
                ratio = _ratio(workload, path, paths["stock"].seconds, paths[path].seconds, compared)
                own, base = paths[path].instructions, paths["stock"].instructions
                if own and base:
                    ratio = Ratio(**{**ratio.__dict__, "instructions": own / base})
                ratios.append(ratio)
        if not ratios and not result.failed:
            return None
        return Ratios(
            saved.name,
            result.kernel,
            result.cpu,
            _emulated(result.accelerator),
            tuple(ratios),
            result.complete,
            tuple(result.failed),
        )


# --- instructions: run ---------------------------------------------------------------


@dataclass(frozen=True)
class Instructions:
    """What run counted: (call, path) -> guest instructions."""

    file: str
    kernel: str
    cpu: str
    counts: Mapping[tuple[str, str], int]

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(call for call, _ in self.counts))

    @property
    def paths(self) -> list[str]:
        return [path for path in PATHS if any(path == each for _, each in self.counts)]


def instructions_of(saved: Saved) -> Instructions | None:
    """None if the result has no counts."""
    with reading(saved):
        counts = {(c["call"], c["path"]): c["instructions"] for c in saved.data["calls"] if c["instructions"]}
        target = saved.data["target"]
        return Instructions(saved.name, target["release"], target["cpu"], counts) if counts else None


# --- the path ------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """An instruction of a path."""

    number: int
    lane: str
    symbol: str
    offset: int
    text: str
    kind: str
    why: str
    piece: str


@dataclass(frozen=True)
class Stretch:
    """Instructions in a row of one function."""

    lane: str
    symbol: str
    steps: tuple[Step, ...]

    @property
    def kinds(self) -> dict[str, int]:
        """Kind -> how many."""
        found: dict[str, int] = {}
        for step in self.steps:
            found[step.kind] = found.get(step.kind, 0) + 1
        return found

    @property
    def whys(self) -> list[str]:
        return list(dict.fromkeys(step.why for step in self.steps if step.why))

    @property
    def pieces(self) -> list[str]:
        return list(dict.fromkeys(step.piece for step in self.steps if step.piece))


@dataclass(frozen=True)
class Path:
    """A call by one path, whole."""

    file: str
    kernel: str
    arch: str
    subject: Subject
    call: str
    path: str
    steps: tuple[Step, ...]
    first: str = ""
    """What enters the kernel."""
    pieces: Mapping[str, Piece] = field(default_factory=dict)

    def lane(self, lane: str) -> int:
        """How many instructions are in it."""
        return sum(step.lane == lane for step in self.steps)

    def kind(self, kind: str) -> int:
        return sum(step.kind == kind for step in self.steps)

    def stretches(self) -> Iterator[Stretch]:
        for (lane, symbol), steps in groupby(self.steps, key=lambda step: (step.lane, step.symbol)):
            yield Stretch(lane, symbol, tuple(steps))


@dataclass(frozen=True)
class Piece:
    """What a path costs more with one of its pieces than without it, in cycles: way -> (quartiles, in words)."""

    path: str
    what: str
    instructions: int
    costs: Mapping[str, tuple[float, float, float]]
    above_noise: frozenset[str]

    def words(self, way: str) -> str:
        if way not in self.costs:
            return "another result without it"
        low, middle, high = self.costs[way]
        return f"{middle:+.0f} ({low:+.0f} to {high:+.0f})" if way in self.above_noise else "no difference shown"


@dataclass(frozen=True)
class Pieces:
    """What replay says of the pieces of one call."""

    file: str
    kernel: str
    subject: Subject
    processor: str
    call: str
    pieces: tuple[Piece, ...]


def pieces_of(saved: Saved) -> Pieces | None:
    with reading(saved):
        data = saved.data
        if not data["pieces"]:
            return None
        found = tuple(
            Piece(
                p["path"],
                p["piece"],
                p["instructions"],
                {way: (c[0], c[1], c[2]) for way, c in p["costs"].items()},
                frozenset(p["above_noise"]),
            )
            for p in data["pieces"]
        )
        call = data["pieces"][0]["call"]
        return Pieces(saved.name, _release(data["kernel"]), _subject(data), data["processor"], call, found)


def paths_of(saved: Saved, pieces: Sequence[Pieces]) -> list[Path]:
    """The paths of a trace, each with the costs of its pieces if one of `pieces` is of the same subject and call."""
    found = []
    with reading(saved):
        data = saved.data
        for each in data["paths"]:
            steps = tuple(
                Step(
                    n,
                    s["lane"],
                    s.get("symbol", ""),
                    s.get("offset", 0),
                    s["instruction"],
                    s["for"],
                    s.get("why", ""),
                    s.get("piece", ""),
                )
                for n, s in enumerate(each["steps"], 1)
            )
            if not steps:
                raise ValueError("a path without steps")
            own = next((p for p in pieces if (p.subject, p.call) == (_subject(data), each["call"])), None)
            costs = {p.what: p for p in own.pieces if p.path == each["path"]} if own else {}
            first = next((s.text for s in steps if s.lane == "user" and s.kind == "switch"), "")
            found.append(
                Path(
                    saved.name,
                    _release(data["kernel"]),
                    data["arch"],
                    _subject(data),
                    each["call"],
                    each["path"],
                    steps,
                    first,
                    costs,
                )
            )
    return found
