# SPDX-License-Identifier: GPL-2.0-or-later
"""Is the modelled machine like a real one, and does the checker see what it must?"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from guests import SOURCES
from processor_cases import ProcessorCase, differs, processor_cases
from sysenter.build.module import Module
from sysenter.check.case import Call, Call64, Case, Event
from sysenter.check.code.instructions import Access, Instruction
from sysenter.check.code.objectfile import EntryObject, parse_offsets
from sysenter.check.cpu.processor import Cpu, Processor
from sysenter.check.handlers import HANDLERS, Job
from sysenter.check.kernels.present_i386 import MARK, PresentI386
from sysenter.check.search.explore import run, shrink
from sysenter.check.search.interleave import in_all_orders
from sysenter.check.search.mutants import Mutant, mutants
from sysenter.check.search.survivors import harmless
from sysenter.check.story import tell
from sysenter.check.subjects import subject
from sysenter.lab.guest import Output
from sysenter.steps import Steps


@pytest.mark.parametrize("case", processor_cases(), ids=lambda c: c.name)
def test_model_does_as_the_table_says(case: ProcessorCase) -> None:
    assert not differs(case)


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The guest program that runs the table."""
    path = tmp_path_factory.mktemp("processor") / "processor"
    subprocess.run(
        [
            "gcc",
            "-m32",
            "-O2",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-static",
            "-no-pie",
            "-o",
            path,
            SOURCES / "processor.c",
        ],
        check=True,
        timeout=60,
    )
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


def mutant_of(whole: EntryObject, plain: str) -> Mutant:
    handler = HANDLERS["present-i386"]
    return next(m for m in mutants(whole, handler.section, handler.roots) if m.plain == plain)


def test_story_tells_what_struck_where(entry: tuple[EntryObject, dict[str, int]]) -> None:
    """A mutant that leaves interrupts on at the exit: the story must name the moment."""
    mutant = mutant_of(entry[0], "cli: removed")
    kernel = PresentI386(mutant.object, entry[1])
    failure = run(kernel, Case((Call(number=MARK | 3),)), tell=True)
    assert failure is not None
    assert failure.key == "interrupts"
    story = tell(kernel, failure)
    assert "Task 0 executes SYSENTER with eax = 0x80000003" in story
    assert "sysexit" in story


def test_story_is_short_and_names_what_it_talks_of(steps: Steps) -> None:
    """The mistake of 2001, work that comes between the look and SYSEXIT: could a person follow it?"""
    bench = subject(steps, "legacy-tss", "", True).bench(1)
    handler = bench.handler
    wrong = next(m for m in mutants(bench.entry, handler.section, handler.roots) if m.plain == "cli: removed")
    bench = bench.with_object(wrong.object)
    failure = bench.perform(Job("interrupted"), stop=True).failures[0]
    story = tell(bench.kernel(""), shrink(bench.kernel, failure))
    lines = story.splitlines()
    assert lines[0] == "legacy-tss breaks this rule: no return to user mode with work pending."
    assert "  Task 0 executes SYSENTER with eax = 0x3." in lines
    assert any("another CPU sets need_resched" in line for line in lines)
    assert any("jne sysenter_called_tss+" in line for line in lines)
    assert "sysexit" in lines[-2]
    assert len(lines) < 22


def test_nmi_on_the_entry_stack_costs_the_frame_and_nothing_else(entry: tuple[EntryObject, dict[str, int]]) -> None:
    kernel = PresentI386(*entry)
    call = Call(number=MARK | 3)
    for step in range(1, 8):
        assert run(kernel, Case((call, call), (Event(step, "nmi", call=1),))) is None


@pytest.mark.parametrize(
    ("name", "default"), [("present-i386", "bookworm-686"), ("present-amd64", "bookworm-amd64"), ("legacy-cruel", "")]
)
def test_an_answer_that_was_kept_is_unicorns(
    steps: Steps, monkeypatch: pytest.MonkeyPatch, name: str, default: str
) -> None:
    """The model looks up what Unicorn did before with the same values. Here Unicorn does each of these again."""
    run_plain, run_native, asked, looked_up = Processor._plain, Processor._native, 0, 0

    def native(self: Processor, cpu: Cpu, ins: Instruction) -> None:
        nonlocal asked
        asked += 1
        run_native(self, cpu, ins)

    def both(self: Processor, cpu: Cpu, ins: Instruction, operand: Access | None, linear: int) -> None:
        nonlocal looked_up
        before, memory, times = cpu.copy(), self.memory.save(), asked
        run_plain(self, cpu, ins, operand, linear)
        if asked > times:
            return
        found, left = cpu.copy(), self.memory.save()
        self.memory.restore(memory)
        cpu.registers, cpu.flags, cpu.eip = before.registers, before.flags, before.eip
        answers, self._answers = self._answers, {}
        run_plain(self, cpu, ins, operand, linear)
        self._answers = answers
        assert asked > times, ins.text
        assert (cpu, self.memory.save()) == (found, left), ins.text
        looked_up += 1

    monkeypatch.setattr(Processor, "_native", native)
    monkeypatch.setattr(Processor, "_plain", both)
    bench = subject(steps, name, default, not default).bench(seed=1)
    for part in ("lone", "interrupted", "scattered"):
        assert not bench.perform(Job(part, 0, max(1, len(bench.cases[part]) // 6))).failures
    assert looked_up > 1000


def test_two_cpus_come_to_what_they_share_in_all_orders(steps: Steps) -> None:
    """Each of two declined calls counts itself once in a word of both: before and after it, who goes first?"""
    bench = subject(steps, "legacy-tss", "", True).bench(seed=1)
    kernel = bench.kernel("")
    declined = replace(kernel.plain, number=7)
    shares = in_all_orders(kernel, Case((declined,), others=(declined,)), stop=False)
    assert (shares.cases, shares.failures) == (6, [])
    alone = in_all_orders(kernel, Case((kernel.plain,), others=(declined,)), stop=False)
    assert (alone.cases, alone.failures) == (2, [])


def test_a_cell_filled_by_each_call_again_is_seen(steps: Steps) -> None:
    bench = subject(steps, "legacy-gentle", "", True).bench(seed=1)
    handler = HANDLERS["legacy-gentle"]
    wrong = next(
        m
        for m in mutants(bench.entry, handler.section, handler.roots)
        if m.plain == "or byte ptr [esp + 0x7fffffff], 0x10: removed"
    )
    kernel = bench.with_object(wrong.object).kernel("")
    failure = run(kernel, Case((kernel.plain, kernel.plain)))
    assert failure is not None
    assert failure.key == "fast"


def test_unload_is_seen_to_need_the_mark(entry: tuple[EntryObject, dict[str, int]]) -> None:
    """Without FRAME_SS a sleeper would be overlooked and its text freed."""
    mutant = mutant_of(entry[0], "mov dword ptr [esp + 0x40], 0x5359007b: removed")
    failure = run(PresentI386(mutant.object, entry[1]), Case((Call(number=MARK | 3, sleeps="same"),)))
    assert failure is not None
    assert failure.key == "inside"


def test_what_was_unmapped_is_not_left_in_the_tlb(steps: Steps) -> None:
    """With PCIDs an entry that misses a flush leaves a freed page readable, and nothing else shows it: neither
    registers nor CR3 differ, and an emulator that flushes always does as if all was well."""
    bench = subject(steps, "present-amd64", "bookworm-amd64", False).bench(seed=1)
    handler, variant = bench.handler, "pti, pcid, ibrs"
    kernel = bench.kernel(variant)
    assert isinstance(kernel.plain, Call64)
    call = replace(kernel.plain, number=Call64.FAST)
    unmapping = Case((replace(call, unmaps=True), call), variant=variant)
    elsewhere = Case((replace(call, unmaps=True, sleeps="other"), call), variant=variant)
    assert run(kernel, unmapping) is None
    assert run(kernel, elsewhere) is None
    by_another = [Case((call,), (Event(step, "shootdown"),), variant=variant) for step in range(1, 80)]
    assert not [case for case in by_another if run(kernel, case)]
    wrong = {m.plain: m for m in mutants(bench.entry, handler.section, handler.roots)}
    for plain in ("jae to {bts r11, 0x3f}: condition inverted", "mov edi, r11d: removed"):
        mutated = bench.with_object(wrong[plain].object).kernel(variant)
        found = [run(mutated, case) for case in (unmapping, *by_another)]
        assert found[0] is not None
        assert found[0].key == "stale", plain
        assert any(failure is not None and failure.key == "stale" for failure in found[1:]), plain


def test_each_listed_survivor_is_a_mutant_of_today(steps: Steps, entry: tuple[EntryObject, dict[str, int]]) -> None:
    """A reason for what is no longer there would hide the next who has these words."""
    known: dict[str, set[str]] = {}
    for name, handler in HANDLERS.items():
        listed = set(harmless(name))
        whole = entry[0] if name == "present-i386" else subject(steps, name, handler.default_kernel, False).load()[0]
        today = {form for m in mutants(whole, handler.section, handler.roots) for form in (m.key, m.plain)}
        for key in listed:
            known.setdefault(key, set()).update({name} if key in today else ())
    stale = [key for key, names in known.items() if not names]
    assert not stale, "survivors.toml lists mutants that no longer exist"


def test_keys_of_mutants_are_all_different_and_stay_when_others_move(steps: Steps) -> None:
    """A reason belongs to an instruction at its place, not to whatever is the second of its kind."""
    handler = HANDLERS["legacy-tss"]
    whole = subject(steps, "legacy-tss", "", True).load()[0]
    keys = [m.key for m in mutants(whole, handler.section, handler.roots)]
    assert len(keys) == len(set(keys))
    fewer = {m.key for m in mutants(whole, handler.section, ("sysenter_nmi", "sysenter_debug"))}
    assert len(fewer) > 50
    assert len(fewer - set(keys)) < len(fewer) / 4, "keys that change with what stands elsewhere"


def test_a_stock_caller_with_any_flag_is_untouched(entry: tuple[EntryObject, dict[str, int]]) -> None:
    kernel = PresentI386(*entry)
    plain = Call(number=4)
    for flags in (0x302, 0x602, 0x4202, 0x40202, 0x3202, 0x200202, 0xAD7):
        assert run(kernel, Case((replace(plain, flags=flags),))) is None
