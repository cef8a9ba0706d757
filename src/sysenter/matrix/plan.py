# SPDX-License-Identifier: GPL-2.0-or-later
"""What a matrix consists of: its jobs, from options or from a TOML file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product, zip_longest
from pathlib import Path
from typing import Any

from sysenter.bench.workloads import chosen
from sysenter.check.handlers import handler_named
from sysenter.errors import SysenterError
from sysenter.kernels.catalogue import CATALOGUE
from sysenter.verify.suites import SUITES

__all__ = ["KINDS", "SCOPES", "TESTS", "Job", "Product", "expand", "read_products"]

SCOPES = ("marked", "all", "both")


@dataclass(frozen=True)
class _Kind:
    """A kind of job."""

    about: str
    axes: tuple[str, ...]
    """Which of cpu and scope make a difference to it."""
    argument: str = ""
    """What may stand behind its name and a colon, in words."""


KINDS: Mapping[str, _Kind] = {
    "run": _Kind("the main job", ("cpu", "scope")),
    "selftests": _Kind("other people's tests", ("cpu", "scope"), "a suite"),
    "mitigations": _Kind("what the entries do against the processor's faults", ("cpu", "scope")),
    "bench": _Kind("benchmarks", ("cpu", "scope"), "workloads, as calls/null,dd/bs=1"),
    "check": _Kind("the entry-code checker", (), "a handler"),
    "mutants": _Kind("that the checker catches wrong versions", (), "a handler"),
    "hazards": _Kind("hostile callers, life and unload; in a clone", (), "a file of tests, as test_life, or a test"),
    "storm": _Kind("random calls, signals, kills, hotplug and NMIs; in a clone", ("scope",), "minutes of each way"),
    "loads": _Kind("loads and unloads that must leave nothing behind; in a clone", ("scope",), "how many"),
}
TESTS = ("hazards", "storm", "loads")
"""The kinds of job that are tests of a clone."""


@dataclass(frozen=True)
class Job:
    """One cell of the matrix: what is done once."""

    kind: str
    """A name of KINDS."""
    argument: str
    """What stood behind its colon; "" for nothing."""
    kernel: str
    """A name of the catalogue, or the absolute path of a kernel.toml."""
    cpu: str
    """QEMU's processor model; "" for the kernel's own."""
    scope: str
    """marked, all or both; "" for the job's own choice."""
    append: str = ""
    """More of the kernel's command line."""
    module_options: tuple[str, ...] = ()
    rounds: int = 0
    """Of run and bench; 0 for their own number."""
    count: int = 0
    """Of run; 0 for its own."""

    @property
    def name(self) -> str:
        """As the user says it: the kind, with its argument."""
        return f"{self.kind}:{self.argument}" if self.argument else self.kind

    @property
    def words(self) -> str:
        """The job for a line of text."""
        kernel = Path(self.kernel).parent.name if self.kernel.endswith(".toml") else self.kernel
        parts = (self.name, kernel, self.cpu, self.scope, self.append, *self.module_options)
        return " ".join(filter(None, parts))

    def to_json(self) -> dict[str, Any]:
        """What a worker is given."""
        return {**asdict(self), "module_options": list(self.module_options)}

    @classmethod
    def of_json(cls, data: Mapping[str, Any]) -> Job:
        """The inverse."""
        return cls(**{**data, "module_options": tuple(data["module_options"])})


@dataclass(frozen=True)
class Product:
    """kernels × processors × scopes × jobs."""

    kernels: tuple[str, ...]
    cpus: tuple[str, ...] = ("",)
    scopes: tuple[str, ...] = ("",)
    jobs: tuple[str, ...] = ("run",)
    append: str = ""
    module_options: tuple[str, ...] = ()
    rounds: int = 0
    count: int = 0


def _kernel(name: str, folder: Path) -> str:
    if name.endswith(".toml"):
        return str((folder / name).resolve())
    if all(entry.name != name for entry in CATALOGUE):
        known = ", ".join(entry.name for entry in CATALOGUE)
        raise SysenterError(f"unknown kernel {name!r}", hint=f"one of {known}, or the path of a kernel.toml")
    return name


def _job(name: str) -> tuple[str, str]:
    """Kind and argument. Raises SysenterError for what is none."""
    kind, _, argument = name.partition(":")
    if kind not in KINDS:
        raise SysenterError(f"no job {name!r}", hint=f"one of {', '.join(KINDS)}; selftests:python names a suite")
    if argument and not KINDS[kind].argument:
        raise SysenterError(f"{kind} takes nothing behind a colon", hint=f"say {kind}")
    if argument and kind == "selftests" and argument not in SUITES:
        raise SysenterError(f"no suite {argument!r}", hint=f"one of {', '.join(SUITES)}")
    if argument and kind == "bench":
        chosen(argument.split(","))
    if argument and kind in ("check", "mutants"):
        handler_named(argument)
    if argument and kind in ("storm", "loads") and not re.fullmatch("[1-9][0-9]{0,5}", argument):
        raise SysenterError(
            f"{kind}:{argument}: behind the colon is {KINDS[kind].argument}, a whole number", hint=f"say {kind}:10"
        )
    return kind, argument


def expand(products: Iterable[Product], folder: Path) -> list[Job]:
    """Every job once, neighbours of different kernels: so two that start at once seldom wait for one build.

    folder: where relative paths of a kernel.toml begin. Raises SysenterError for an unknown kernel, scope or job.
    """
    by_kernel: dict[str, dict[Job, None]] = {}
    for p in products:
        for scope in p.scopes:
            if scope not in ("", *SCOPES):
                raise SysenterError(f"no scope {scope!r}", hint=f"one of {', '.join(SCOPES)}")
        for kernel, job, cpu, scope in product(p.kernels, p.jobs, p.cpus, p.scopes):
            kind, argument = _job(job)
            axes = KINDS[kind].axes
            path = _kernel(kernel, folder)
            one = Job(
                kind,
                argument,
                path,
                cpu if "cpu" in axes else "",
                scope if "scope" in axes else "",
                p.append if "cpu" in axes else "",
                p.module_options if kind in ("run", "bench") else (),
                p.rounds if kind in ("run", "bench") else 0,
                p.count if kind == "run" else 0,
            )
            by_kernel.setdefault(path, {})[one] = None
    rows = zip_longest(*by_kernel.values())
    return [job for row in rows for job in row if job is not None]


_KEYS: Mapping[str, type] = {
    "kernels": list,
    "cpus": list,
    "scopes": list,
    "jobs": list,
    "append": str,
    "module-options": list,
    "rounds": int,
    "count": int,
}
_NAMES = {list: "a list of strings", str: "a string", int: "a whole number from 1"}


def _right(value: object, kind: type) -> bool:
    if kind is list:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and value > 0
    return isinstance(value, kind)


def read_products(path: Path) -> list[Product]:
    """The [[product]] tables of a matrix file. Raises SysenterError, naming file and key."""

    def bad(what: str) -> SysenterError:
        return SysenterError(f"{path}: {what}", hint="docs/guides/comparing-kernels.md describes the file")

    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad(f"not TOML: {error}") from error
    except OSError as error:
        raise bad(f"cannot be read: {error.strerror}") from error
    tables = values.pop("product", None)
    if values or not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise bad("a file of [[product]] tables and nothing else is wanted")
    return [_product(table, bad) for table in tables]


def _product(table: Mapping[str, Any], bad: Any) -> Product:
    for key, value in table.items():
        if key not in _KEYS:
            raise bad(f"unknown key {key!r}; known are {', '.join(_KEYS)}")
        if not _right(value, _KEYS[key]):
            raise bad(f"key {key!r} must be {_NAMES[_KEYS[key]]}, not {value!r}")
    kernels: Sequence[str] = table.get("kernels", [])
    if not kernels:
        raise bad("key 'kernels' is missing, or empty")
    return Product(
        kernels=tuple(kernels),
        cpus=tuple(table.get("cpus", ())) or ("",),
        scopes=tuple(table.get("scopes", ())) or ("",),
        jobs=tuple(table.get("jobs", ())) or ("run",),
        append=table.get("append", ""),
        module_options=tuple(table.get("module-options", ())),
        rounds=table.get("rounds", 0),
        count=table.get("count", 0),
    )
