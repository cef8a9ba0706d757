# SPDX-License-Identifier: GPL-2.0-or-later
"""A replay held against an earlier one: what has become slower.

Against a bundle, the processes of both alternate, and differences are taken process by
process. Against a saved file that cannot be: there each path is held against stock in its own
run, which takes off what the machine's state does to both. Where both are of one kernel, its
stock path is the same code, and what changes there is the machine's: nothing less is a change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from sysenter.errors import SysenterError
from sysenter.replay.result import Difference, Result, quartiles
from sysenter.replay.runner import Key

__all__ = ["Change", "against_result", "against_saved", "become_slower", "called"]

_WAYS = ("overlap", "serial", "nested")


@dataclass(frozen=True)
class Change:
    """now - then of one figure, in TSC cycles."""

    key: Key
    change: Difference
    significant: bool
    """Whether it is above the noise of both, and with both quartiles on one side of zero."""

    @property
    def slower(self) -> bool:
        """Whether it has become slower for certain."""
        return self.significant and self.change.middle > 0


def _changes(
    now: Mapping[Key, Sequence[float]],
    then: Mapping[Key, Sequence[float]],
    noise: Mapping[str, float],
    *,
    paired: bool,
    same_kernel: bool,
) -> list[Change]:
    """paired: the n-th figures of both were taken right after one another."""
    changes: list[Change] = []
    limit = dict(noise)
    for key in [key for key in now if key in then]:
        if paired and len(now[key]) == len(then[key]):
            change = Difference(*quartiles([a - b for a, b in zip(now[key], then[key], strict=True)]))
        else:
            a, b = quartiles(now[key]), quartiles(then[key])
            change = Difference(a[0] - b[2], a[1] - b[1], a[2] - b[0])
        if same_kernel and key.path == "stock":
            limit[key.way] = max(limit.get(key.way, 0.0), abs(change.middle))
        changes.append(Change(key, change, change.low > 0 or change.high < 0))
    return [
        replace(
            each,
            significant=each.significant
            and not (same_kernel and each.key.path == "stock")
            and abs(each.change.middle) > limit.get(each.key.way, 0.0),
        )
        for each in changes
    ]


def against_result(now: Result, then: Result) -> list[Change]:
    """Two results whose processes alternated."""
    noise = {way: max(now.noise[way], then.noise.get(way, 0.0)) for way in now.noise}
    return _changes(now.samples, then.samples, noise, paired=True, same_kernel=now.kernel == then.kernel)


def _less_stock(samples: Mapping[Key, Sequence[float]]) -> dict[Key, tuple[float, ...]]:
    """Each path's cycles less stock's in the same process, and stock's own."""
    found = {}
    for key, own in samples.items():
        stock = samples.get(Key(key.call, "stock", key.verw, key.way))
        if key.path == "stock" or stock is None or len(stock) != len(own):
            found[key] = tuple(own)
        else:
            found[key] = tuple(a - b for a, b in zip(own, stock, strict=True))
    return found


def _no_replay(name: str, error: Exception) -> SysenterError:
    return SysenterError(f"{name} is no JSON of a replay ({error})", hint="give what replay --json wrote")


def called(saved: Any, name: str) -> list[str]:
    """The calls that the JSON of an earlier result has figures of. Raises SysenterError if it is none."""
    try:
        return [str(entry["call"]) for entry in saved["calls"] if entry["samples"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise _no_replay(name, error) from error


def against_saved(now: Result, saved: Any, name: str) -> list[Change]:
    """A result and the JSON of an earlier one. Raises SysenterError if that is none, or of another processor."""
    try:
        if saved["schema"] != 1:
            raise ValueError(f"schema {saved['schema']}")
        samples = {
            Key(entry["call"], entry["path"], entry["verw"], way): tuple(float(each) for each in values)
            for entry in saved["calls"]
            for way, values in entry["samples"].items()
        }
        if not all(samples.values()):
            raise ValueError("a call without figures")
        noise = {way: max(now.noise[way], float(saved["noise"].get(way, 0.0))) for way in now.noise}
        processor, kernel = saved["processor"], saved["kernel"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _no_replay(name, error) from error
    if processor != now.processor:
        raise SysenterError(
            f"{name} was measured on {processor}, this is {now.processor}",
            hint="export a bundle and give --against its folder",
        )
    return _changes(
        _less_stock(now.samples), _less_stock(samples), noise, paired=False, same_kernel=now.kernel == kernel
    )


def become_slower(changes: Sequence[Change]) -> list[Change]:
    """Those that have become slower for certain: by path and way of calling, if over all calls they have."""
    found = []
    for key in dict.fromkeys((each.key.path, each.key.verw, each.key.way) for each in changes):
        own = [e for e in changes if (e.key.path, e.key.verw, e.key.way) == key]
        if median(e.change.middle for e in own) > 0:
            found += [e for e in own if e.slower]
    return found
