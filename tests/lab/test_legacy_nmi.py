# SPDX-License-Identifier: GPL-2.0-or-later
"""NMIs where the entry has no stack to take them on, and everywhere.

The entry's first instructions cannot be hit by chance: QEMU's debugger stub stops
the machine there and its monitor injects the NMI.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from cases import assert_no_worker_was_wrong
from gdbstub import options as gdb_options
from gdbstub import stop_at_each
from legacy_kernels import build_test_module, on_each_kernel, parameters
from monitor import Command, again_and_again, monitor, word_at
from sysenter.kernels.provide import provide
from sysenter.lab.legacy_guest import LegacyGuest, LegacyOutput, legacy_guest_for
from sysenter.lab.qemu import GuestLost
from sysenter.measure.legacy import load_command
from sysenter.steps import Steps
from sysenter.target.system_map import parse_system_map

pytestmark = on_each_kernel

K6_STYLE = "athlon,-sep,+syscall"  # SYSCALL and no SYSENTER
PAGE_OFFSET = 0xC0000000
LOOK = "cat /proc/interrupts"


@pytest.fixture(params=parameters(), ids=lambda path: path.parent.name)
def legacy(request: pytest.FixtureRequest, steps: Steps) -> LegacyGuest:
    return legacy_guest_for(steps, provide(steps, str(request.param), offline=True))


class _Injector:
    """Sends an NMI at the entry + each offset, and at its last instruction, once the guest has told where that is."""

    def __init__(self, folder: Path, offsets: tuple[int, ...], *, at_exit: bool = False) -> None:
        self._folder, self._offsets, self._at_exit = folder, offsets, at_exit
        self._thread = threading.Thread(target=lambda: None)
        self._told: dict[str, int] = {}
        self.wanted: list[int] = []
        self.hits: list[int] = []

    @contextmanager
    def options(self) -> Iterator[tuple[str, ...]]:
        """QEMU's, while a guest runs."""
        with monitor(self._folder) as (options, send):
            self._send = send
            yield (*gdb_options(self._folder / "gdb"), *options)
            self._thread.join(60)

    def on_line(self, line: str) -> None:
        if match := re.search(r"(entry|sysret|steps) (0x)?([0-9a-f]+)", line):
            self._told[match[1]] = int(match[3], 16)
        if self.wanted or "entry" not in self._told or (self._at_exit and "sysret" not in self._told):
            return
        self.wanted = [self._told["entry"] + offset for offset in self._offsets]
        self.wanted += [self._told["sysret"]] if self._at_exit else []

        def inject() -> None:
            self.hits = stop_at_each(self._folder / "gdb", self.wanted, lambda: self._send("nmi"), 30)

        self._thread = threading.Thread(target=inject)
        self._thread.start()


def test_an_nmi_on_the_entry_stack_is_taken_on_the_tasks_own(legacy: LegacyGuest, steps: Steps, tmp_path: Path) -> None:
    old = legacy.target.release.startswith("2.2.")
    # Before each instruction of entry.S that searches for the stack, and before the first ones that have it.
    searching, found = ((0, 4, 8, 0x10, 0x16), (0x1A, 0x21, 0x27)) if old else ((0, 4), (8,))
    injector = _Injector(tmp_path, (*searching, *found))
    plan = [
        load_command("gentle" if old else None),
        "cat /proc/sysenter",
        "dd fast 1 3000000",
        "cat /proc/sysenter",
        "hostile all",
        "unload sysenter",
    ]
    with injector.options() as options:
        out = legacy.run(
            steps,
            plan,
            what="NMI at the entry",
            timeout=120,
            machine=legacy.machine(cpus=1, extra=options),
            on_line=injector.on_line,
        )
    assert injector.hits == injector.wanted
    assert [out.result(step) for step in range(1, 7)] == [0] * 6
    taken = [r["text"] for r in out.events("line") if r["text"].startswith("nmi ")]
    assert taken == ["nmi 0", f"nmi {len(searching)}"]


def test_an_nmi_in_syscalls_window_writes_nowhere(legacy: LegacyGuest, steps: Steps, tmp_path: Path) -> None:
    """ESP is the caller's before the first instruction, no more before the second, and again before SYSRET."""
    if legacy.target.release.startswith("2.2."):
        pytest.skip("2.2 has no entry by SYSCALL")
    injector = _Injector(tmp_path, (0, 7), at_exit=True)
    plan = [
        load_command(None),
        "cat /proc/sysenter",
        "window calls 100000",
        "cat /proc/sysenter",
        "hostile all",
        "unload sysenter",
    ]
    with injector.options() as options:
        out = legacy.run(
            steps,
            plan,
            what="NMI in the window",
            timeout=120,
            machine=legacy.machine(cpu=K6_STYLE, cpus=1, extra=options),
            on_line=injector.on_line,
        )
    assert injector.hits == injector.wanted
    assert [(r["calls"], r["changed"], r["wrong"]) for r in out.events("window")] == [(100_000, 0, 0)]
    assert [out.result(step) for step in range(1, 7)] == [0] * 6
    taken = [r["text"] for r in out.events("line") if r["text"].startswith("nmi ")]
    assert taken == ["nmi 0", "nmi 2"]


def nmis(out: LegacyOutput) -> int:
    """How many came from one LOOK to the next, on all processors."""
    before, after = (sum(map(int, r["text"].split()[1:])) for r in out.events("line") if r["text"].startswith("NMI:"))
    return after - before


class _Kernel:
    """2.2 on several processors, which does not stand every NMI (docs/evidence.md): do_nmi() prints, and printk()
    takes two locks that the interrupted processor may hold. It runs the bottom halves that wait, too."""

    def __init__(self, legacy: LegacyGuest, send: Command) -> None:
        assert legacy.target.system_map is not None
        self._symbols = parse_system_map(legacy.target.system_map.read_text(), "System.map")
        self._send = send

    def word(self, name: str) -> int | None:
        return word_at(self._send, self._symbols[name] - PAGE_OFFSET)

    def nmi_if_it_can_take_one(self) -> None:
        self._send("stop")
        if self.word("console_lock") == self.word("waitqueue_lock") == 0:
            waiting, wanted = self.word("bh_active"), self.word("bh_mask")
            if waiting is not None and wanted is not None and not waiting & wanted:
                self._send("nmi")
        self._send("cont")

    def spins(self) -> bool:
        """Whether processor 0 waits for a lock, and a writer has waitqueue_lock."""
        self._send("cpu 0")
        eip = re.search(r"EIP=([0-9a-f]+)", self._send("info registers"))
        lock = self.word("waitqueue_lock")
        return bool(eip and lock and lock >> 31 and int(eip[1], 16) >= self._symbols["stext_lock"])


def _several_on_2_2(legacy: LegacyGuest) -> bool:
    return legacy.target.release.startswith("2.2.") and legacy.target.cpus > 1


@pytest.mark.parametrize("cpu", [None, K6_STYLE])
def test_nmis_everywhere_lose_nothing(legacy: LegacyGuest, steps: Steps, tmp_path: Path, cpu: str | None) -> None:
    """By SYSCALL each is a task switch, which saves neither CR3 nor LDTR, CR0.TS or DR7."""
    old = legacy.target.release.startswith("2.2.")
    if old and cpu:
        pytest.skip("2.2 has no entry by SYSCALL")
    load = load_command("gentle" if old else None)
    plan = [LOOK, load, "storm 10", LOOK, "cat /proc/sysenter", "unload sysenter", "off"]
    storm = threading.Event()  # not before: a BIOS dies of them

    def on_line(line: str) -> None:
        if '"command": "storm"' in line:
            storm.clear() if '"done"' in line else storm.set()

    with monitor(tmp_path) as (options, send):
        nmi = _Kernel(legacy, send).nmi_if_it_can_take_one if _several_on_2_2(legacy) else lambda: send("nmi")
        machine = legacy.machine(cpu=cpu, extra=options)
        # Neither does print three lines for each: that takes longer than the pause.
        machine = replace(machine, append=machine.append + " quiet nmi_watchdog=1")
        with again_and_again(0.003, lambda: storm.is_set() and nmi()):
            out = legacy.run(steps, plan, what=f"NMIs, {cpu}", timeout=150, machine=machine, on_line=on_line)
    assert_no_worker_was_wrong(out)
    assert [out.result(step) for step in range(1, len(plan) + 1)] == [0] * len(plan)
    assert not [line for line in out.bad_lines() if "Uhhuh" not in line]
    assert nmis(out) > 100
    told = dict(r["text"].split()[:2] for r in out.events("line") if r["file"] == "/proc/sysenter")
    if cpu:
        assert int(told["nmi"]) > 0, "no NMI came in the window"
    if cpu and legacy.target.cpus == 1:
        assert int(told["steps"]) > 0, "no NMI came while page tables were changed"


def test_nmis_stop_2_2_on_several_processors_by_int80_alone(legacy: LegacyGuest, steps: Steps, tmp_path: Path) -> None:
    """No module is loaded. Because of it the test above asks before each NMI."""
    if not _several_on_2_2(legacy):
        pytest.skip("of 2.2 on several processors")
    storm, stands_still = threading.Event(), threading.Event()
    spun = 0

    with monitor(tmp_path) as (options, send):
        kernel = _Kernel(legacy, send)

        def nmi() -> None:
            nonlocal spun
            if not storm.is_set():
                return
            spun = spun + 1 if kernel.spins() else 0
            if spun < 500:  # with no NMI between the last of them
                send("nmi")
            elif spun == 1000:
                stands_still.set()

        machine = legacy.machine(extra=options)
        machine = replace(machine, append=machine.append + " quiet")
        with again_and_again(0.003, nmi), pytest.raises(GuestLost, match="stopped"):
            legacy.run(
                steps,
                ["run /init-int80 storm 60"],
                what="NMIs, int 0x80",
                timeout=150,
                machine=machine,
                on_line=lambda line: storm.set() if '"command": "run"' in line else None,
                stop=stands_still,
            )


def test_nmis_leave_the_kernel_its_own_fpu(legacy: LegacyGuest, steps: Steps, tmp_path: Path) -> None:
    """A task switch sets CR0.TS, and that the kernel had it clear for itself is written nowhere."""
    if legacy.target.release.startswith("2.2."):
        pytest.skip("2.2 has no entry by SYSCALL")
    fpu = build_test_module(steps, legacy.target, "fpu", tmp_path)
    plan = [load_command(None), LOOK, "load /fpu.o fpu", LOOK, "unload fpu", "unload sysenter"]
    using = threading.Event()

    def on_line(line: str) -> None:
        if '"step": 3' in line:
            using.clear() if '"done"' in line else using.set()

    with monitor(tmp_path) as (options, send), again_and_again(0.003, lambda: using.is_set() and send("nmi")):
        machine = legacy.machine(cpu=K6_STYLE, cpus=1, extra=options)
        machine = replace(machine, append=machine.append + " quiet nmi_watchdog=1")
        out = legacy.run(
            steps,
            plan,
            what="NMIs while the kernel uses the FPU",
            timeout=120,
            machine=machine,
            on_line=on_line,
            files={"fpu.o": fpu},
        )
    assert [out.result(step) for step in range(1, 7)] == [0] * 6
    assert nmis(out) > 20
