# SPDX-License-Identifier: GPL-2.0-or-later
"""What comes of a job: nothing that was not carried out passes."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest

from sysenter.bench import run as bench_run
from sysenter.bench.result import Result
from sysenter.errors import Refused, SysenterError
from sysenter.kernels.provide import provide
from sysenter.matrix import perform
from sysenter.matrix.perform import DIFFERS, PASSED, Work
from sysenter.matrix.plan import Job
from sysenter.processes import Interrupted
from sysenter.steps import Steps

GOOD, SKIPPED = '<testcase name="a"/>', '<testcase name="b"><skipped message="no KVM here"/></testcase>'
BAD = '<testcase name="c"><failure message="1 is not 2"/></testcase>'
PYTEST = SysenterError("the hazards' tests: sysenter failed with status 1", detail="its last lines")


def _cases(text: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(f"<testsuite>{text}</testsuite>"))


def test_tests_of_hazards_that_ran_are_counted() -> None:
    done = perform._of_cases(_cases(GOOD + SKIPPED), None)
    assert (done.outcome, done.figures) == (PASSED, {"passed": 1, "skipped": 1, "failed": 0})
    done = perform._of_cases(_cases(GOOD + BAD + BAD), PYTEST)
    assert (done.outcome, done.differs) == (DIFFERS, ("c: 1 is not 2",))
    assert done.figures == {"passed": 1, "skipped": 0, "failed": 2}
    assert done.detail == "its last lines"


@pytest.mark.parametrize(
    ("cases", "failure", "words"),
    [
        ("", PYTEST, "failed with status 1"),  # pytest found no test of this name
        (GOOD, PYTEST, "failed with status 1"),  # it ended badly with no test that failed
        ("", None, "none has this name"),
        (SKIPPED, None, "no test was carried out: no KVM here"),
    ],
)
def test_no_test_of_hazards_is_no_answer(cases: str, failure: SysenterError | None, words: str) -> None:
    with pytest.raises(SysenterError, match=words):
        perform._of_cases(_cases(cases), failure)


def test_a_benchmark_that_a_signal_ended_is_no_answer(monkeypatch: pytest.MonkeyPatch, steps: Steps) -> None:
    part = Result("6.1", "i386", "pentium3", "tcg", "a processor", "0.1.0", complete=False)
    monkeypatch.setattr(bench_run, "bench", lambda *given, **more: part)
    target = provide(steps, "bookworm-686", offline=False)
    with pytest.raises(Interrupted):
        perform._bench(steps, target, Work(Job("bench", "", "bookworm-686", "", ""), "", "tcg", True))


@pytest.mark.parametrize(
    ("kind", "scope", "why"),
    [
        ("storm", "both", "the storm is of one scope"),
        ("storm", "all", "has no scope all"),
        ("loads", "", "no such test"),
    ],
)
def test_what_no_test_can_is_refused(steps: Steps, kind: str, scope: str, why: str) -> None:
    """On 2.2 and 2.4, of which there is one here only in name."""
    target = provide(steps, "bookworm-686", offline=False)
    old = replace(target, guard=replace(target.guard, release="2.2.26"))
    assert not old.generation.runs_debian
    with pytest.raises(Refused, match=why):
        perform._DO[kind](steps, old, Work(Job(kind, "", "x/kernel.toml", "", scope), "", "tcg", True))


def test_there_are_no_mutants_of_a_known_bad_handler(steps: Steps) -> None:
    target = provide(steps, "bookworm-686", offline=False)
    job = Job("mutants", "legacy-global", "bookworm-686", "", "")
    with pytest.raises(Refused, match="known bad"):
        perform._check(steps, target, Work(job, "", "tcg", True))
