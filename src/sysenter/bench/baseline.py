# SPDX-License-Identifier: GPL-2.0-or-later
"""Saved results, and what has become slower since."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sysenter.bench.result import FEWEST, Result, from_json
from sysenter.cache import home_folder, write_whole
from sysenter.errors import SysenterError

__all__ = [
    "Change",
    "changes",
    "check_common",
    "check_machine",
    "data_folder",
    "load",
    "other_commands",
    "place_of",
    "save",
]


def data_folder() -> Path:
    """$XDG_DATA_HOME/sysenter/bench, or ~/.local/share/sysenter/bench (XDG Base Directory)."""
    base = os.environ.get("XDG_DATA_HOME", "")
    if not os.path.isabs(base):
        hint = "set XDG_DATA_HOME to the absolute path of a folder"
        base = os.path.join(home_folder("baselines", hint), ".local/share")
    return Path(base) / "sysenter/bench"


def place_of(name: str) -> Path:
    """The file of a baseline. Raises SysenterError if its name cannot be a file's."""
    if not re.fullmatch(r"[\w.+-]{1,100}", name):
        raise SysenterError(f"{name!r} is no name for a baseline", hint="up to 100 letters, digits and . _ + - are")
    return data_folder() / f"{name}.json"


def save(result: Result, name: str) -> Path:
    """Keep a result under a name; returns its file."""
    path = place_of(name)
    write_whole(path, json.dumps(result.to_json(), indent=1) + "\n")
    return path


def load(name: str) -> Result:
    """The result under a name. Raises SysenterError if there is none, or it is damaged."""
    path = place_of(name)
    try:
        return from_json(json.loads(path.read_text()), str(path))
    except FileNotFoundError as error:
        known = ", ".join(sorted(p.stem for p in data_folder().glob("*.json"))) or "none yet"
        raise SysenterError(f"no baseline {name!r}", hint=f"--save makes one; there are: {known}") from error
    except ValueError as error:
        raise SysenterError(f"{path} is damaged: {error}", hint="save it again") from error


@dataclass(frozen=True)
class Change:
    """What became of one workload on one path."""

    key: str
    path: str
    what: str
    """instructions, or times stock's speed."""
    before: float
    now: float
    percent: float
    """Positive: worse."""


def check_machine(before: Result, now: Result, *, anyway: bool) -> None:
    """Raise SysenterError if two results are not of the same kind of machine, unless they are compared anyway."""
    differ = [k for k, v in before.machine.items() if now.machine[k] != v and (v or k != "emulator")]
    if differ and not anyway:
        what = ", ".join(f"{k} {before.machine[k]!r} and {now.machine[k]!r}" for k in differ)
        raise SysenterError(f"the baseline is of another machine: {what}", hint="--anyway compares them all the same")


def other_commands(before: Result, commands: Mapping[str, str]) -> list[str]:
    """The workloads whose command is not what it was, as one that makes its call more often. commands: of now."""
    return [key for key, command in commands.items() if before.commands.get(key, command) != command]


def check_common(before: Result, name: str, commands: Mapping[str, str], paths: Sequence[str]) -> None:
    """Raise SysenterError if a baseline has none of these workloads by any of these paths but stock: it would find
    nothing slower, whatever has become of them. commands: workload -> what is timed."""
    paths = [path for path in paths if path != "stock"]
    there = [key for key in commands if any(path in before.workloads.get(key, {}) for path in paths)]
    if not set(there) <= set(other_commands(before, commands)):
        return
    if there:
        raise SysenterError(
            f"nothing to compare: the commands of these workloads are others in baseline {name!r}",
            hint=f"save it anew; {there[0]} was {before.commands[there[0]]!r}",
        )
    has = [f"{key} by {path}" for key, timed in before.workloads.items() for path in timed if path != "stock"]
    raise SysenterError(
        f"nothing to compare: baseline {name!r} has none of these workloads by {' or '.join(paths)}",
        hint=f"it has {', '.join(has) or 'none at all'}",
    )


def changes(before: Result, now: Result, *, anyway: bool) -> list[Change]:
    """Every workload that both have, by exact instructions where both have them, else by its ratio to stock.

    A workload whose command has changed is another one. Times of different days say nothing, but a
    ratio of paired rounds does, if there are rounds enough for an interval. anyway: also where the
    machines are not the same. Raises SysenterError if they are not.
    """
    check_machine(before, now, anyway=anyway)
    found = []
    other = other_commands(before, now.commands)
    for key, paths in now.workloads.items():
        for path, timed in paths.items() if key not in other else ():
            old = before.workloads.get(key, {}).get(path)
            if old is None:
                continue
            if timed.instructions and old.instructions:
                percent = 100 * (timed.instructions / old.instructions - 1)
                found.append(Change(key, path, "instructions", old.instructions, timed.instructions, percent))
            elif path != "stock":
                was, is_now = before.compared(key, path), now.compared(key, path)
                if not was or not is_now or min(was.rounds, is_now.rounds) < FEWEST:
                    continue
                # a change is one only where the two intervals have nothing in common
                if is_now.high < was.low or is_now.low > was.high:
                    percent = 100 * (was.median / is_now.median - 1)
                    found.append(Change(key, path, "times stock", was.median, is_now.median, percent))
    return found
