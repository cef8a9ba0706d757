# SPDX-License-Identifier: GPL-2.0-or-later
"""The outcomes that are kept, each under a digest of its job's inputs."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from sysenter.cache import UNREADABLE, cache_folder, digest, file_sha256, write_whole
from sysenter.lab.qemu import qemu_version
from sysenter.matrix.artefact import artefact_of
from sysenter.matrix.perform import DIFFERS, KEPT, PASSED, Work
from sysenter.matrix.plan import TESTS

__all__ = ["effort", "keep", "kept", "key_of", "note_effort", "sources"]

_SCHEMA = "1"
_PACKAGE = Path(__file__).resolve().parents[1]
# What has no say in what comes of a job, and what only jobs of one kind run.
_NO_SAY = ("matrix/", "report/", "install/", "native/install/", "manual.py", "options.py", "cli.py", "doctor.py")
_JUDGE = "matrix/perform.py"  # it says what a job is, and what came of it
_ONLY = {
    "check/": ("check", "mutants"),
    "bench/": ("bench",),
    "native/bench/": ("bench",),
    "replay/": (),
    "native/replay/": (),
    "verify/": ("selftests", "mitigations"),
}


@cache
def _files() -> tuple[tuple[str, str], ...]:
    found = sorted(path for path in _PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return tuple((str(path.relative_to(_PACKAGE)), file_sha256(path)) for path in found)


@cache
def sources(kind: str = "") -> str:
    """A digest of the part of this program that can change the outcome of a kind of job; "": of all of it."""

    def has_say(name: str) -> bool:
        if not kind:
            return True
        if name.startswith(_NO_SAY) and name != _JUDGE:
            return False
        return all(kind in kinds for folder, kinds in _ONLY.items() if name.startswith(folder))

    more = []
    if kind in TESTS:
        tests = _PACKAGE.parents[1] / "tests"
        more = [file_sha256(path) for path in sorted(tests.rglob("*")) if path.is_file() and path.suffix != ".pyc"]
    return digest([part for name, content in _files() if has_say(name) for part in (name, content)] + more)


def key_of(work: Work) -> str:
    """The digest of a job's inputs: what it is, the kernel, this program, the emulator."""
    job = work.job
    # the user's own kernel by its content: its folder may move
    kernel = artefact_of(job.kernel) if job.kernel.endswith(".toml") else job.kernel
    what = json.dumps({**job.to_json(), "kernel": kernel}, sort_keys=True)
    return digest([_SCHEMA, what, work.identity, work.accelerator, sources(job.kind), qemu_version()])


# Processor seconds of a kind of job that was never done here, on an i386 kernel; on amd64 twice as many.
_GUESS = {
    "run": 15,
    "mitigations": 20,
    "bench": 40,
    "check": 60,
    "selftests": 150,
    "mutants": 600,
    "hazards": 1500,
    "storm": 1200,
    "loads": 900,
}


def _path(key: str) -> Path:
    return cache_folder() / "matrix" / f"{key}.json"


def _effort_path(work: Work) -> Path:
    """Known by the job alone: what has changed since makes no great difference to its length."""
    return _path("effort-" + digest([json.dumps(work.job.to_json(), sort_keys=True), work.accelerator]))


def effort(work: Work) -> float:
    """Processor seconds that a job is expected to take: what it took last, or a guess."""
    try:
        return float(json.loads(_effort_path(work).read_text())["cpu_seconds"])
    except UNREADABLE:
        return _GUESS[work.job.kind] * (2.0 if work.job.kernel.endswith("amd64") else 1.0)


def note_effort(work: Work, outcome: dict[str, Any]) -> None:
    """Keep what a job took, unless it came to no good end: then it may have ended early."""
    if outcome["outcome"] in (PASSED, DIFFERS):
        write_whole(_effort_path(work), json.dumps({"cpu_seconds": outcome["cpu_seconds"]}))


def keep(key: str, outcome: dict[str, Any]) -> None:
    """Keep an outcome, if it is an answer: what failed is done again."""
    if outcome["outcome"] in KEPT:
        write_whole(_path(key), json.dumps(outcome))


def kept(key: str) -> dict[str, Any] | None:
    """The outcome of a job with the same inputs; None if there is none."""
    try:
        outcome = json.loads(_path(key).read_text())
        return outcome if outcome["outcome"] in KEPT else None
    except UNREADABLE:
        return None
