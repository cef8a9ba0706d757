# SPDX-License-Identifier: GPL-2.0-or-later
"""The table that `matrix` prints, of jobs of every kind that has been carried out.

jobs.json was written by `matrix --json` on bookworm-686 (run: bookworm-amd64); the benchmark is of one call.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import schemas
from sysenter.matrix.plan import KINDS, Job
from sysenter.matrix.run import Cell, Matrix
from sysenter.report.matrix import print_matrix

SAVED = json.loads(Path(__file__).with_name("jobs.json").read_text())


def _cell(job: dict[str, Any]) -> Cell:
    kind, _, argument = job["job"].partition(":")
    asked = Job(kind, argument, job["kernel"], "", job["scope"], job["append"], tuple(job["module_options"]))
    return Cell(asked, dict(job), job["kept"])


def _shown(cells: list[Cell], **more: Any) -> str:
    file = io.StringIO()
    found = Matrix(cells, asked=len(cells), wall_seconds=SAVED["wall_seconds"], cores=SAVED["cores"], **more)
    print_matrix(found, Console(file=file, width=300))
    return file.getvalue()


def _outcome(kind: str) -> dict[str, Any]:
    return next(job for job in SAVED["jobs"] if job["job"].partition(":")[0] == kind)


def test_there_is_a_job_of_every_kind() -> None:
    schemas.hold("matrix", SAVED)
    assert {job["job"].partition(":")[0] for job in SAVED["jobs"]} == set(KINDS)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("run", "passed: stock 331, fast 187, all 237"),
        ("selftests", "passed: {same} of {programs} alike"),
        ("mitigations", "passed: IBRS, VERW"),
        ("bench", "passed: fast 0.59, all 0.57 of stock's (calls/null)"),
        ("check", "passed: 1 handler, 56,428 cases"),
        ("hazards", "passed: 1 test, 0 skipped"),
        ("storm", "passed: 1 test, 0 skipped"),
        ("loads", "passed: 1 test, 0 skipped"),
    ],
)
def test_what_a_job_found_is_told(kind: str, words: str) -> None:
    job = _outcome(kind)
    shown = _shown([_cell(job)])
    assert words.format_map(job["figures"]) in shown
    assert f"1 job in {SAVED['wall_seconds']:.0f} s, which used" in shown


def test_what_differs_is_told_in_full_below() -> None:
    job = _outcome("mutants")
    assert job["outcome"] == "differs"
    shown = _shown([_cell(job)])
    assert "DIFFERS [1]" in shown
    assert f"[1] {'; '.join(job['differs'])}" in shown
    well = {**job, "outcome": "passed", "differs": []}
    assert "passed: {caught} of {tried} caught".format_map(job["figures"]["present-i386-syscall"]) in _shown(
        [_cell(well)]
    )
