# SPDX-License-Identifier: GPL-2.0-or-later
"""What an interrupted benchmark has measured, until --resume goes on with it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sysenter.bench.baseline import data_folder
from sysenter.bench.result import Result, from_json
from sysenter.bench.workloads import Workload
from sysenter.cache import digest, write_whole
from sysenter.errors import SysenterError

__all__ = ["forget", "keep", "key_of", "load"]


def key_of(machine: Result, workloads: Sequence[Workload], paths: Sequence[str]) -> str:
    """A name for what is measured: the machine, the module's options, the workloads, the paths."""
    what = [*machine.machine.values(), machine.version, *machine.module_options, "", *paths, ""]
    return digest([*what, *(f"{w.key} {w.command}" for w in workloads)])


def _path(key: str) -> Path:
    return data_folder() / "interrupted" / f"{key}.json"


def keep(key: str, result: Result) -> None:
    """Keep what was measured."""
    write_whole(_path(key), json.dumps(result.to_json()))


def load(key: str) -> Result:
    """What was kept; what failed then is tried again. Raises SysenterError if there is nothing, or it is damaged."""
    path = _path(key)
    try:
        return replace(from_json(json.loads(path.read_text()), str(path)), failed=[])
    except FileNotFoundError:
        raise SysenterError(
            "there is nothing to go on with: no benchmark of these workloads on this machine was interrupted",
            hint="leave --resume away, or give the words that the interrupted one had",
        ) from None
    except ValueError as error:
        raise SysenterError(f"{path} is damaged: {error}", hint="leave --resume away: it begins anew") from error


def forget(key: str) -> None:
    """Remove what was kept: the benchmark is complete."""
    _path(key).unlink(missing_ok=True)
