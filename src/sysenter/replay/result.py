# SPDX-License-Identifier: GPL-2.0-or-later
"""The result of a replay, from several processes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median, quantiles

from sysenter.replay.bundle import Bundle
from sysenter.replay.runner import Key, Mixed, Run, Verdict

__all__ = ["Difference", "Result", "quartiles", "quiet", "quiet_together", "summarise"]

_QUIET = 1.04  # of the least: a process in which stock took more was disturbed
_ORDER = {"stock": 0, "fast": 2}
_LEAST = 3  # processes to keep whatever they say


@dataclass(frozen=True)
class Difference:
    """stock - path in TSC cycles of one call: what a path saves. Quartiles and median over batches and processes."""

    low: float
    middle: float
    high: float


@dataclass(frozen=True)
class Result:
    """A replay."""

    kernel: str
    """Its release and version."""
    arch: str
    cpu: str
    """The guest's model, which chose the path."""
    processor: str
    """The one that the replay ran on."""
    tsc_mhz: float
    """The frequency of its time-stamp counter."""
    core: float
    """Cycles of the core for one of the counter's."""
    processes: tuple[int, int]
    """How many were undisturbed, and how many there were."""
    verdicts: tuple[Verdict, ...]
    samples: dict[Key, tuple[float, ...]]
    """Cycles in each undisturbed process."""
    savings: dict[Key, Difference]
    """What each path but stock saves against it."""
    mixture: dict[Mixed, float]
    noise: dict[str, float]
    """Way of calling -> what a difference must be above to be one."""

    def cycles(self, key: Key) -> float | None:
        """The median over processes; None if it was not timed."""
        return median(self.samples[key]) if key in self.samples else None

    def is_difference(self, key: Key) -> bool:
        """Whether what a path saves is more than the noise."""
        return key in self.savings and abs(self.savings[key].middle) > self.noise[key.way]

    @property
    def unverified(self) -> tuple[Verdict, ...]:
        """The calls that were not the guest's, and have no times."""
        return tuple(verdict for verdict in self.verdicts if not verdict.verified)


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile. Of one value, all three are that value."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return low, middle, high


def _stock_total(run: Run) -> float:
    return sum(cycles for key, cycles in run.cycles.items() if key.path == "stock" and key.way != "nested")


def quiet(runs: Sequence[Run]) -> list[int]:
    """Which of the processes ran undisturbed, by what stock took in them."""
    totals = [_stock_total(run) for run in runs]
    order = sorted(range(len(runs)), key=totals.__getitem__)
    return sorted(i for n, i in enumerate(order) if n < _LEAST or totals[i] <= _QUIET * totals[order[0]])


def quiet_together(runs: Sequence[Sequence[Run]]) -> list[int]:
    """Which processes ran undisturbed for several bundles, whose processes alternated: where one is left out, its
    partner is too. Where hardly one is quiet for all, those in which stock took the least of all bundles together."""
    common = sorted(set.intersection(*(set(quiet(own)) for own in runs)))
    if len(common) >= _LEAST:
        return common
    totals = [sum(map(_stock_total, partners)) for partners in zip(*runs, strict=True)]
    return sorted(sorted(range(len(totals)), key=totals.__getitem__)[:_LEAST])


def summarise(bundle: Bundle, runs: Sequence[Run], undisturbed: Sequence[int] | None = None) -> Result:
    """The processes together. undisturbed: which of them count; by default quiet()'s."""
    chosen = quiet(runs) if undisturbed is None else list(undisturbed)
    kept = [runs[i] for i in chosen]
    verdicts = _verdicts(runs)
    bad = {(v.call, v.path) for v in verdicts if not v.verified}
    keys = [key for key in kept[0].cycles if (key.call, key.path) not in bad]
    samples = {key: tuple(run.cycles[key] for run in kept if key in run.cycles) for key in keys}
    savings = {}
    for key in keys:
        found = [run.less[key] for run in kept if key in run.less]
        if found:
            # within a process and between them: the wider of the two
            within = [median(-each[i] for each in found) for i in (2, 1, 0)]
            between = quartiles([-each[1] for each in found])
            savings[key] = Difference(min(within[0], between[0]), between[1], max(within[2], between[2]))
    mixed = {which for run in kept for which in run.mixture}
    return Result(
        kernel=bundle.kernel,
        arch=bundle.arch,
        cpu=bundle.processor,
        processor=runs[0].processor,
        tsc_mhz=median(run.tsc_mhz for run in kept),
        core=median(run.core for run in kept),
        processes=(len(kept), len(runs)),
        verdicts=verdicts,
        samples=samples,
        savings=savings,
        mixture={
            which: median(run.mixture[which] for run in kept if which in run.mixture)
            for which in sorted(mixed, key=lambda m: (m.verw, m.kib, m.order == "random", _ORDER.get(m.path, 1), m.way))
        },
        noise=_noise(kept),
    )


def _verdicts(runs: Iterable[Run]) -> tuple[Verdict, ...]:
    """Whether each call was the guest's: the worst verdict of any process."""
    worst: dict[tuple[str, str], Verdict] = {}
    for run in runs:
        for verdict in run.verdicts:
            key = (verdict.call, verdict.path)
            if key not in worst or (worst[key].verified and not verdict.verified):
                worst[key] = verdict
    return tuple(worst.values())


def _noise(runs: Sequence[Run]) -> dict[str, float]:
    """The noise of each way of calling, in cycles. Nine of ten differences of one process are within it from their
    median over all processes, and so is stock that is timed twice. It is at least two steps of the counter."""
    noise: dict[str, float] = {}
    for way in {key.way for run in runs for key in run.cycles}:
        apart = [abs(each[1]) for run in runs for key, each in run.twin.items() if key.way == way]
        for key in {key for run in runs for key in run.less if key.way == way}:
            found = [run.less[key][1] for run in runs if key in run.less]
            apart += [abs(each - median(found)) for each in found]
        apart.sort()
        step = max(run.step for run in runs)
        noise[way] = max(apart[int(0.9 * (len(apart) - 1))] if apart else 0.0, 2 * step)
    return noise
