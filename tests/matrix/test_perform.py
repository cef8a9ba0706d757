# SPDX-License-Identifier: GPL-2.0-or-later
"""What comes of a job: nothing that was not carried out passes."""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest

from sysenter.bench import run as bench_run
from sysenter.bench.result import Result
from sysenter.errors import Refused, SysenterError
from sysenter.kernels.provide import provide
from sysenter.matrix import perform
from sysenter.matrix.perform import DIFFERS, PASSED, Done, Work
from sysenter.matrix.plan import Job
from sysenter.processes import Interrupted
from sysenter.steps import Steps
from sysenter.target.target import Target

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


def test_a_benchmark_is_of_the_paths_that_can_work_as_the_commands_is(
    monkeypatch: pytest.MonkeyPatch, steps: Steps
) -> None:
    """By `fast`, which AMD's amd64 processors have not, it was refused, and that was kept."""
    paths: list[object] = []

    def bench(*given: object, **more: object) -> Result:
        paths.append(more["paths"])
        return Result("6.1", "amd64", "EPYC", "tcg", "a processor", "0.1.0")

    monkeypatch.setattr(bench_run, "bench", bench)
    monkeypatch.setattr(bench_run, "vendor", lambda model: "AuthenticAMD")
    target = replace(provide(steps, "bookworm-amd64", offline=False), cpu="EPYC")
    for scope in ("", "marked"):
        perform._bench(steps, target, Work(Job("bench", "", "bookworm-amd64", "", scope), "", "tcg", True))
    assert paths == [("stock", "all"), ("stock", "fast")]


def test_the_processor_that_is_told_is_the_guests(monkeypatch: pytest.MonkeyPatch, steps: Steps) -> None:
    """On an AMD host with KVM a guest has a model of AMD's, instead of the kernel's own."""
    given: list[tuple[str, str]] = []

    def run(steps: Steps, target: Target, work: Work) -> Done:
        given.append((target.cpu, work.accelerator))
        return Done(PASSED)

    monkeypatch.setattr(perform, "choose_present", lambda _, target, wanted: (replace(target, cpu="EPYC"), "kvm"))
    monkeypatch.setattr(perform, "_DO", {"run": run, "check": run})
    monkeypatch.setattr(shutil, "which", lambda program: program)
    for kind in ("run", "check"):
        done = perform.perform(steps, Work(Job(kind, "", "bookworm-686", "", ""), "", "auto", True))
        assert done.cpu == given[-1][0]
    assert given == [("EPYC", "kvm"), ("pentium3", "auto")]


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
