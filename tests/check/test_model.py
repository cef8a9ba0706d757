# SPDX-License-Identifier: GPL-2.0-or-later
"""Is the modelled machine like a real one, and does the checker see what it must?"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sysenter.build.module import Module
from sysenter.build.native import NATIVE
from sysenter.check.case import Call, Case, Event
from sysenter.check.cases import ProcessorCase, differs, processor_cases
from sysenter.check.explore import run
from sysenter.check.handlers import HANDLERS
from sysenter.check.mutants import mutants
from sysenter.check.objectfile import EntryObject, parse_offsets
from sysenter.check.present_i386 import MARK, PresentI386
from sysenter.check.story import tell
from sysenter.check.survivors import harmless
from sysenter.lab.guest import Output


@pytest.mark.parametrize("case", processor_cases(), ids=lambda c: c.name)
def test_model_does_as_the_table_says(case: ProcessorCase) -> None:
    assert not differs(case)


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The guest program that runs the table."""
    path = tmp_path_factory.mktemp("processor") / "processor"
    subprocess.run(
        ["gcc", "-m32", "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-no-pie", "-o", path,
         NATIVE / "guest" / "processor.c"],
        check=True, timeout=60,
    )  # fmt: skip
    return path


def test_this_machine_does_as_the_table_says(program: Path) -> None:
    try:
        done = subprocess.run([program], capture_output=True, text=True, timeout=20)
    except OSError:
        pytest.skip("this kernel runs no 32-bit programs")
    assert done.returncode == 0, "\n".join(line for line in done.stdout.splitlines() if "FAIL" in line)


def test_a_machine_in_the_lab_does_as_the_table_says(in_guest: Callable[..., Output], program: Path) -> None:
    output = in_guest("/processor", files={"processor": program.read_bytes()}, load=False)
    assert output.status == 0, "\n".join(line for line in output.text if "FAIL" in line)


@pytest.fixture(scope="session")
def entry(module: Module) -> tuple[EntryObject, dict[str, int]]:
    return EntryObject.load(module.entry), parse_offsets(module.offsets)


def test_story_tells_what_struck_where(entry: tuple[EntryObject, dict[str, int]]) -> None:
    """A mutant that leaves interrupts on at the exit: the story must name the moment."""
    mutant = next(m for m in mutants(entry[0], ".text.sysenter") if m.key == "cli: removed")
    kernel = PresentI386(mutant.object, entry[1])
    failure = run(kernel, Case((Call(eax=MARK | 3),)), tell=True)
    assert failure is not None
    assert failure.key == "interrupts"
    story = tell(kernel, failure)
    assert "Task 0 executes SYSENTER with eax = 0x80000003" in story
    assert "sysexit" in story


def test_nmi_on_the_entry_stack_costs_the_frame_and_nothing_else(entry: tuple[EntryObject, dict[str, int]]) -> None:
    kernel = PresentI386(*entry)
    call = Call(eax=MARK | 3)
    for step in range(1, 8):
        assert run(kernel, Case((call, call), (Event(step, "nmi", call=1),))) is None


def test_unload_is_seen_to_need_the_mark(entry: tuple[EntryObject, dict[str, int]]) -> None:
    """Without FRAME_SS a sleeper would be overlooked and its text freed."""
    key = "mov dword ptr [esp + 0x40], 0x5359007b: removed"
    mutant = next(m for m in mutants(entry[0], ".text.sysenter") if m.key == key)
    failure = run(PresentI386(mutant.object, entry[1]), Case((Call(eax=MARK | 3, sleeps="same"),)))
    assert failure is not None
    assert failure.key == "inside"


def test_each_listed_survivor_is_a_mutant_of_today(entry: tuple[EntryObject, dict[str, int]]) -> None:
    handler = HANDLERS["present-i386"]
    keys = {m.key for m in mutants(entry[0], handler.section, handler.roots)}
    stale = set(harmless("present-i386")) - keys
    assert not stale, "survivors.toml lists mutants that no longer exist"


def test_a_stock_caller_with_any_flag_is_untouched(entry: tuple[EntryObject, dict[str, int]]) -> None:
    kernel = PresentI386(*entry)
    plain = Call(eax=4)
    for flags in (0x302, 0x602, 0x4202, 0x40202, 0x3202, 0x200202, 0xAD7):
        assert run(kernel, Case((replace(plain, flags=flags),))) is None
