# SPDX-License-Identifier: GPL-2.0-or-later
"""Would a user's machine survive this entry code? What the checker says of each handler."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

import schemas
from conftest import ROOT, Keep, RunCli, interruptible, one_line_error
from sysenter.build.module import Module
from sysenter.check.command import MutantReport, Report, check, check_mutants
from sysenter.check.handlers import HANDLERS, Subject
from sysenter.check.pool import Caught
from sysenter.check.subjects import subject
from sysenter.errors import SysenterError
from sysenter.steps import Steps

# Whose mutants are sampled without --long: one for i386, amd64 and 2.2.
_QUICK = ("present-i386", "present-amd64-all", "legacy-gentle")
LEGACY = [name for name in HANDLERS if name.startswith("legacy-")]


def silent() -> Console:
    return Console(file=io.StringIO(), width=120)


@pytest.fixture
def present(module: Module) -> Subject:
    return Subject("present-i386", module.entry, module.offsets)


def test_present_i386_holds(present: Subject) -> None:
    (report,) = check(silent(), [present], seed=1)
    assert report.ok, "\n".join(report.stories)
    assert report.tally.cases > 20000
    assert report.tally.events > 10000


@pytest.mark.parametrize("name", ["present-i386-syscall", "present-i386-syscall-gateless"])
def test_amds_syscall_needs_its_task_gates(module: Module, name: str) -> None:
    (report,) = check(silent(), [Subject(name, module.entry, module.offsets)], seed=1)
    assert report.ok, "\n".join(report.stories)
    assert report.tally.failures or report.tally.cases > 20000


@pytest.mark.parametrize(
    ("name", "kernel", "cases", "events"),
    [
        ("present-amd64", "bookworm-amd64", 20000, 10000),
        # whose exit looks by itself whether SYSRET may be used; and one that is told
        ("present-amd64-all", "bookworm-amd64", 10000, 5000),
        ("present-amd64-all", "bookworm-backports-amd64", 10000, 5000),
    ],
)
def test_present_amd64_holds(steps: Steps, name: str, kernel: str, cases: int, events: int) -> None:
    (report,) = check(silent(), [subject(steps, name, kernel, False)], seed=1)
    assert report.ok, "\n".join(report.stories)
    assert report.tally.cases > cases
    assert report.tally.events > events


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in _QUICK else pytest.mark.long)
        for name, handler in HANDLERS.items()
        if not handler.must_fail
    ],
)
def test_a_sample_of_mutants_is_caught(steps: Steps, name: str) -> None:
    """A check that lets wrong handlers pass assures nothing. `check --mutants` tries all of them."""
    default = HANDLERS[name].default_kernel or "bookworm-686"
    report = check_mutants(silent(), subject(steps, name, default, False), 12, seed=7)
    assert report.tried == 12
    assert not report.unexplained
    assert len(report.caught) >= 0.8 * report.tried


@pytest.mark.parametrize("name", LEGACY)
def test_legacy_handlers_are_as_they_must_be(steps: Steps, name: str) -> None:
    console = silent()
    (report,) = check(console, [subject(steps, name, "", True)], seed=1)
    assert report.ok, "\n".join(report.stories)
    if HANDLERS[name].must_fail == "number":
        story = next(s for s in report.stories if "runs body" in s)
        assert "CPU 0, task 0" in story
        assert "CPU 1, task 1" in story


def test_command_writes_what_it_found(cli: RunCli, on_sample_page: Keep, tmp_path: Path) -> None:
    done = cli("check", "legacy-cruel", "--json", str(tmp_path / "found.json"))
    assert done.returncode == 0, done.stderr
    on_sample_page(tmp_path / "found.json", "check")
    found = json.loads((tmp_path / "found.json").read_text())
    schemas.hold("check", found)
    assert found["handlers"][0]["ok"] is True
    assert found["handlers"][0]["events"] > 1000


def started(*arguments: str) -> subprocess.Popen[str]:
    """Python with this project, in a group of its own that Ctrl-C reaches."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        preexec_fn=interruptible,
    )


def test_ctrl_c_ends_all_of_it_in_one_line() -> None:
    """As a terminal does it: to the command and its workers at once."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one processor: no workers")
    with started("-m", "sysenter", "check", "legacy-tss", "--offline") as command:
        children = Path(f"/proc/{command.pid}/task/{command.pid}/children")
        deadline = time.monotonic() + 60
        while len(children.read_text().split()) < 2:
            assert time.monotonic() < deadline, "no workers came"
            assert command.poll() is None, "it ended before it could be interrupted"
            time.sleep(0.1)
        os.killpg(command.pid, signal.SIGINT)
        try:
            _, said = command.communicate(timeout=60)
        finally:
            command.kill()
    assert command.returncode == 130
    assert said.strip().splitlines()[-1].startswith("sysenter: interrupted")
    assert "Traceback" not in said


_POOL = """
import multiprocessing, sys, time
from pathlib import Path
from sysenter.check import pool
from sysenter.ending import conclude
from sysenter.steps import Steps
start = multiprocessing.context.ForkProcess.start
def slowly(self):
    start(self)
    Path(sys.argv[1]).touch()
    time.sleep(0.5)
multiprocessing.context.ForkProcess.start = slowly
pool.use_processes(2)
status = conclude(Steps(), lambda: len(list(pool._spread(time.sleep, [60, 60]))))
print(status, multiprocessing.active_children(), flush=True)
"""


def test_ctrl_c_while_the_workers_are_started_leaves_none(tmp_path: Path) -> None:
    with started("-c", _POOL, str(tmp_path / "started")) as command:
        try:
            deadline = time.monotonic() + 60
            while not (tmp_path / "started").exists():
                assert time.monotonic() < deadline, "no workers came"
                time.sleep(0.02)
            os.killpg(command.pid, signal.SIGINT)
            said, _ = command.communicate(timeout=60)
        finally:
            command.kill()
    assert said == "130 []\n"


_KILLED = """
import os, sys, time
from sysenter.check import pool
from sysenter.ending import conclude
from sysenter.steps import Steps
def job(number):
    if number == 2:
        os.kill(os.getpid(), 9)
    time.sleep(0.2)
pool.use_processes(2)
sys.exit(conclude(Steps(), lambda: len(list(pool._spread(job, range(6))))))
"""


def test_a_worker_that_is_killed_is_one_line() -> None:
    """As when memory ends; multiprocessing's pool alone waits for its job for ever."""
    with started("-c", _KILLED) as command:
        try:
            _, said = command.communicate(timeout=60)
        finally:
            command.kill()
    assert said.startswith("sysenter: a process of the check was ended by signal 9 ("), said
    assert command.returncode == 1


def test_command_names_a_handler_that_is_not_there(cli: RunCli) -> None:
    assert "present-i386" in one_line_error(cli("check", "vax"))


def test_a_check_of_nothing_is_not_passed() -> None:
    """No case was run, no mutant was tried."""
    report = Report("present-amd64", 0)
    assert not report.ok
    report.tally.cases = 1
    assert report.ok
    assert not MutantReport("present-amd64", 0, [], {}, 0).ok


def test_a_small_sample_of_mutants_does_not_fail_by_chance() -> None:
    """Of 19 with one survivor, which has its reason, fewer than 95 % are caught."""
    caught = [Caught(f"mutant {n}", "", "stack", "a part") for n in range(18)]
    assert MutantReport("present-i386", 19, caught, {"a": "harmless"}, 700).ok
    assert not MutantReport("present-i386", 19, caught, {"a": ""}, 700).ok
    assert not MutantReport("present-i386", 19, caught, {"a": "harmless"}, 19).ok, "of all of them that is too few"


def test_the_files_of_another_build_are_one_line(module: Module, steps: Steps, tmp_path: Path) -> None:
    """--object and --offsets: what is not in them was an unexpected KeyError, of whichever came first."""
    with pytest.raises(SysenterError, match="no sysenter_entry_tss in it"):
        Subject("legacy-tss", module.entry, module.offsets).load()
    for content in (b"#define NR_CALLS 1\n", b"\xff#define NR_CALLS 1\n#define X 1\n"):
        (tmp_path / "offsets.h").write_bytes(content)
        with pytest.raises(SysenterError, match=r"offsets\.h: no constant \w+ .give the offsets\.h"):
            check(silent(), [Subject("present-i386", module.entry, tmp_path / "offsets.h")], seed=1)
