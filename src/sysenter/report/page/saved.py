# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that `--json` and `--trace` wrote, read again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import UndefinedError

from sysenter.errors import SysenterError

__all__ = ["COMMANDS", "DAMAGE", "Saved", "read", "reading"]

# kind -> (the command that writes it, keys that only it has)
_KINDS = {
    "run": ("run --json", {"target", "dd", "speedup"}),
    "replay": ("replay --json", {"tsc_mhz", "calls", "noise"}),
    "pieces": ("replay --pieces --json", {"pieces", "noise"}),
    "trace": ("replay --trace", {"paths", "module_options"}),
    "bench": ("bench --json", {"workloads", "accelerator"}),
    "check": ("check --json", {"handlers", "mutants"}),
    "mitigations": ("mitigations --json", {"machines", "scope"}),
    "selftests": ("selftests --json", {"programs", "suite"}),
}
COMMANDS = {kind: f"./sysenter {command}" for kind, (command, _) in _KINDS.items()}
_SCHEMA = 1
_HINT = f"it takes what {', '.join(command for command, _ in _KINDS.values())} wrote"


@dataclass(frozen=True)
class Saved:
    """One file."""

    name: str
    """The file's, without its folder."""
    kind: str
    """The command that wrote it; `pieces` and `trace` are replay's."""
    data: dict[str, Any]


def read(path: Path) -> Saved:
    """Read a file. Raises SysenterError, in one line, if it is missing, damaged, or something else."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SysenterError(f"cannot read {path}: {error.strerror}", hint=_HINT) from error
    except (ValueError, RecursionError) as error:  # not text, a number of too many digits, too many brackets
        where = f"line {error.lineno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise SysenterError(f"{path} is no JSON, or damaged ({where})", hint=_HINT) from error
    if isinstance(data, dict):
        for kind, (_, keys) in _KINDS.items():
            if data.get("kind", kind) == kind and keys <= data.keys():
                if data.get("schema") != _SCHEMA:
                    raise SysenterError(
                        f"{path} has schema {data.get('schema')!r}, and this reads schema {_SCHEMA}",
                        hint="write it anew with this version",
                    )
                return Saved(path.name, kind, data)
    raise SysenterError(f"{path} is JSON, but nothing that is known here", hint=_HINT)


DAMAGE = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, UndefinedError)
"""What is raised by reading data of another form than it should have."""


@contextmanager
def reading(saved: Saved) -> Iterator[None]:
    """A block that reads a file's data: if something is missing there, the error says that the file is damaged."""
    try:
        yield
    except DAMAGE as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise SysenterError(
            f"{saved.name} is damaged: as a result of `{COMMANDS[saved.kind]}` it cannot be read ({what})",
            hint="write it anew",
        ) from error
