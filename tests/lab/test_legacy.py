# SPDX-License-Identifier: GPL-2.0-or-later
"""Linux 2.2 and 2.4: load, use, abuse and unload, on whatever kernels the user has.

SYSENTER_LEGACY_STORM is the seconds that the storm lasts (10).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

import schemas
from cases import assert_no_worker_was_wrong
from conftest import RunCli, one_line_error
from legacy_kernels import KERNELS, build_test_module, on_each_kernel, parameters
from sysenter.build.legacy import build_legacy_module, legacy_preload
from sysenter.kernels.provide import provide
from sysenter.lab.legacy_guest import LegacyGuest, legacy_guest_for
from sysenter.measure.legacy import load_command, still_there
from sysenter.steps import Steps
from sysenter.target.target import Target

_SECONDS = int(os.environ.get("SYSENTER_LEGACY_STORM", "10"))
# The guest's seconds are longer than ours where the host is busy: it loses ticks.
_LIMIT = 6 * _SECONDS + 60

pytestmark = on_each_kernel


@pytest.fixture(scope="module", params=parameters(), ids=lambda path: path.parent.name)
def legacy(request: pytest.FixtureRequest, steps: Steps) -> LegacyGuest:
    return legacy_guest_for(steps, provide(steps, str(request.param), offline=True))


@pytest.fixture
def legacy_smp(legacy: LegacyGuest) -> LegacyGuest:
    if legacy.target.cpus == 1:
        pytest.skip("of several processors")
    return legacy


K6_STYLE = "athlon,-sep,+syscall"  # SYSCALL and no SYSENTER


def _ways(target: Target) -> list[tuple[str | None, str | None]]:
    """The module's option and the processor, None for the target's own."""
    if target.release.startswith("2.2."):
        return [("cruel", None), ("gentle", None)]
    return [(None, None), (None, K6_STYLE)]


def test_every_hostile_caller_gets_what_int80_would_give_it(legacy: LegacyGuest, steps: Steps) -> None:
    for way, cpu in _ways(legacy.target):
        out = legacy.run(
            steps,
            [load_command(way), "hostile all", "cat /proc/sysenter", "unload sysenter"],
            what=f"hostile callers, {way} {cpu}",
            timeout=90,
            machine=legacy.machine(cpu=cpu),
        )
        wrong = [(r["case"], r["status"], r["signal"]) for r in out.events("hostile") if not r["ok"]]
        assert not wrong
        assert len(out.events("hostile")) > 30
        assert [out.result(step) for step in (1, 2, 3, 4)] == [0] * 4
        # if all were sent on to the kernel's entry, all would be as by int 0x80
        told = [r["text"].split() for r in out.events("line")]
        assert sum(int(words[2]) for words in told if words[0] == "calls") > 2000, told
        slow = {words[0]: int(words[1]) for words in told if len(words) == 2 and words[1].isdigit()}
        assert min(slow[name] for name in ("declined", "exit_work", "fault", "vm86", "trapped")) > 0, slow
        assert not out.bad_lines()


@pytest.mark.timeout(_LIMIT + 60)
@pytest.mark.parametrize("nth", [0, 1], ids=["first-way", "second-way"])
def test_busy_processes_see_no_wrong_result(legacy: LegacyGuest, steps: Steps, nth: int) -> None:
    """One way each, in the order of _ways(): a storm of ten minutes is long enough."""
    way, cpu = _ways(legacy.target)[nth]
    plan = [load_command(way), f"storm {_SECONDS}", "unload sysenter"]
    out = legacy.run(steps, plan, what=f"storm, {way} {cpu}", timeout=_LIMIT, machine=legacy.machine(cpu=cpu))
    assert [out.result(step) for step in (1, 2, 3)] == [0, 0, 0], out.events("storm")
    assert_no_worker_was_wrong(out)
    assert not out.bad_lines()


def test_unload_puts_back_the_very_bytes(legacy: LegacyGuest, steps: Steps) -> None:
    look = still_there(legacy)
    for way, cpu in _ways(legacy.target):
        plan = [*look, load_command(way), *look[:-1], "unload sysenter", *look] * 3
        out = legacy.run(steps, plan, what=f"load and unload, {way} {cpu}", timeout=60, machine=legacy.machine(cpu=cpu))
        assert len({r["idt"] for r in out.events("off")}) == 1
        peeks = [r["bytes"] for r in out.events("peek")]
        n = len(look) - 1
        rounds = [peeks[i : i + 3 * n] for i in range(0, len(peeks), 3 * n)]
        assert len(rounds) == 3
        for found in rounds:
            assert found[:n] == found[2 * n :] == rounds[0][:n]
            assert found[n : 2 * n] != found[:n]
        assert [r["result"] for r in out.events("done")] == [0] * len(plan)
        assert not out.bad_lines()


def test_a_call_that_sleeps_keeps_the_module(legacy: LegacyGuest, steps: Steps) -> None:
    plan = ["load /sysenter.o sysenter", "sleeper", "unload sysenter", "reap", "unload sysenter"]
    for way, cpu in _ways(legacy.target):
        plan[0] = load_command(way)
        out = legacy.run(steps, plan, what="unload under a sleeper", timeout=60, machine=legacy.machine(cpu=cpu))
        assert [out.result(step) for step in range(1, 6)] == [0, 0, -16, 0, 0]
        assert not out.bad_lines()


def test_an_open_report_keeps_the_module(legacy: LegacyGuest, steps: Steps) -> None:
    """Reading it after an unload would run what is no longer there. `release` also reads far behind its end."""
    plan = [load_command(None), "hold /proc/sysenter", "unload sysenter", "release", "unload sysenter"]
    out = legacy.run(steps, plan, what="unload under a reader", timeout=60)
    assert [out.result(step) for step in range(1, 6)] == [0, 0, -16, 0, 0]
    assert not out.bad_lines()


def test_processors_without_sysenter_are_refused(legacy: LegacyGuest, steps: Steps) -> None:
    for cpu in ("pentium3,-sep", "pentium3,family=6,model=1,stepping=1"):
        plan = ["try load /sysenter.o sysenter", "count int80"]
        out = legacy.run(steps, plan, what=cpu, timeout=60, machine=legacy.machine(cpu=cpu))
        assert out.result(1) != 0
        assert "has no SYSENTER" in out.refusal()
        assert out.result(2) == 0
        assert not out.bad_lines()


def test_the_first_athlons_are_not_taken_for_the_first_pentium_pros(legacy: LegacyGuest, steps: Steps) -> None:
    plan = [load_command(None), "count fast", "unload sysenter"]
    out = legacy.run(steps, plan, what="K7", timeout=60, machine=legacy.machine(cpu="athlon,model=1,stepping=2"))
    assert [out.result(step) for step in (1, 2, 3)] == [0, 0, 0]


def test_processors_that_wait_for_each_other_can_be_held(legacy_smp: LegacyGuest, steps: Steps, tmp_path: Path) -> None:
    """One that is held may have the lock for which two others wait with interrupts off. The machine stood still."""
    locks = build_test_module(steps, legacy_smp.target, "locks", tmp_path)
    there_and_back = ["load /sysenter.o sysenter", "unload sysenter"] * 8
    plan = ["load /locks.o locks", *there_and_back, "unload locks", "count int80"]
    out = legacy_smp.run(
        steps,
        plan,
        what="load and unload, 4 processors, locks",
        timeout=_LIMIT,
        machine=legacy_smp.machine(extra=["-smp", "4,sockets=4"]),
        files={"locks.o": locks},
    )
    assert [out.result(step) for step in range(1, len(plan) + 1)] == [0] * len(plan)
    assert not out.bad_lines()


def test_processors_may_have_gaps_in_their_numbers(legacy_smp: LegacyGuest, steps: Steps) -> None:
    """2.2 takes the APIC's number. With two threads a package the second package's is 2, and 1 is not used."""
    for way, cpu in _ways(legacy_smp.target):
        machine = legacy_smp.machine(cpu=cpu, extra=["-smp", "4,sockets=2,cores=2"])
        plan = [load_command(way), f"storm {min(_SECONDS, 2)}", "cat /proc/sysenter", "unload sysenter"]
        out = legacy_smp.run(steps, plan, what=f"gaps, {way}", timeout=_LIMIT, machine=machine)
        assert [out.result(step) for step in range(1, 5)] == [0] * 4
        counts = [r["text"].split() for r in out.events("line") if r["text"].startswith("calls cpu")]
        assert len(counts) == 2
        assert all(int(count) for _, _, count in counts)


def test_a_module_by_another_task_struct_is_refused(legacy: LegacyGuest, steps: Steps, tmp_path: Path) -> None:
    """Headers of the same release, or another compiler. No task's stack would be found at unload: EBUSY for ever."""
    headers = tmp_path / "headers"
    shutil.copytree(legacy.target.headers, headers, symlinks=True)
    sched = headers / "include/linux/sched.h"
    other, members = re.subn(
        r"(?m)^(\tstruct thread_struct t\w+;)$", r"\tlong somebody_elses[4];\n\1", sched.read_text()
    )
    assert members == 1
    sched.write_text(other)
    module = build_legacy_module(steps, replace(legacy.target, headers=headers))
    out = replace(legacy, module=module).run(
        steps, ["try load /sysenter.o sysenter", "count int80"], what="a module by another task_struct", timeout=60
    )
    assert out.result(1) != 0
    assert "task_struct is not as built for" in out.refusal()
    assert out.result(2) == 0


def test_a_module_for_another_kernel_is_refused(legacy: LegacyGuest, steps: Steps, tmp_path: Path) -> None:
    assert legacy.target.system_map is not None
    other = tmp_path / "System.map"
    lines = legacy.target.system_map.read_text().splitlines()
    shift = [
        f"{int(a, 16) + 16:08x} {rest}" if rest.endswith(" sock_register") else f"{a} {rest}"
        for a, rest in (line.split(maxsplit=1) for line in lines)
    ]
    other.write_text("\n".join(shift) + "\n")
    module = build_legacy_module(steps, replace(legacy.target, system_map=other))
    out = replace(legacy, module=module).run(
        steps, ["try load /sysenter.o sysenter", "count int80"], what="another kernel's module", timeout=60
    )
    assert out.result(1) != 0
    assert "sock_register" in out.refusal()
    assert out.result(2) == 0


def test_a_module_by_other_headers_is_refused_before_it_uses_them(
    legacy: LegacyGuest, steps: Steps, tmp_path: Path
) -> None:
    """With another task_struct even the number of this CPU is read from a stray place."""
    assert legacy.target.system_map is not None
    headers = tmp_path / "headers"
    shutil.copytree(legacy.target.headers, headers, symlinks=True)
    sched = headers / "include/linux/sched.h"
    text = sched.read_text()
    first = re.search(r"struct task_struct \{\n", text)
    assert first is not None
    sched.write_text(f"{text[: first.end()]}\tchar somebody_elses[0x3e0];\n{text[first.end() :]}")
    other = tmp_path / "System.map"
    other.write_text(re.sub(r"^.*( . sock_register)$", r"c0000000\1", legacy.target.system_map.read_text(), flags=re.M))
    module = build_legacy_module(steps, replace(legacy.target, headers=headers, system_map=other))
    out = replace(legacy, module=module).run(
        steps, ["try load /sysenter.o sysenter", "count int80"], what="a module by other headers", timeout=60
    )
    assert out.result(1) != 0
    assert "sock_register" in out.refusal()
    assert out.result(2) == 0
    assert not out.bad_lines()


def test_the_global_variable_is_refused_on_smp(legacy: LegacyGuest, steps: Steps) -> None:
    if not legacy.target.release.startswith("2.2."):
        pytest.skip("gentle-global is for 2.2")
    out = legacy.run(steps, [load_command("gentle-global")], what="gentle-global", timeout=60)
    assert (out.result(1) == 0) == (legacy.target.cpus == 1)
    if legacy.target.cpus > 1:
        assert "gentle-global" in out.refusal()


def test_a_plan_of_any_length_is_carried_out_whole(legacy: LegacyGuest, steps: Steps) -> None:
    plan = ["uname"] * 2000 + ["# " + "x" * 5000, "uname"]
    out = legacy.run(steps, plan, what="a long plan", timeout=60)
    assert [out.result(step) for step in (1, 2000, 2002)] == [0, 0, 0]
    assert len(out.events("uname")) == 2001


def test_what_does_not_fit_is_refused_and_not_cut(legacy: LegacyGuest, steps: Steps) -> None:
    plan = [
        "run /init " + "x " * 16,
        f"try load /sysenter.o sysenter way={'x' * 300}",
        "dd int80 65537 1",
        "dd int80 65536 1",
    ]
    out = legacy.run(steps, plan, what="too much", timeout=60)
    assert [out.result(step) for step in (1, 2, 3, 4)] == [-7, -7, -22, 0]


@pytest.mark.timeout(_LIMIT + 60)
def test_the_storm_without_the_module(legacy: LegacyGuest, steps: Steps) -> None:
    """The same work by int 0x80: what is wrong here as well is not the module's."""
    out = legacy.run(steps, [f"run /init-int80 storm {_SECONDS}"], what="storm by int 0x80", timeout=_LIMIT)
    assert out.result(1) == 0, out.events("storm")
    assert_no_worker_was_wrong(out)
    assert not out.bad_lines()


def test_run_prints_the_table_and_writes_the_json(legacy: LegacyGuest, cli: RunCli, tmp_path: Path) -> None:
    description = next(p for p in KERNELS if p.parent.name == legacy.target.name)
    done = cli("run", "--kernel", str(description), "--json", str(tmp_path / "m.json"))
    assert done.returncode == 0, done.stderr
    m = json.loads((tmp_path / "m.json").read_text())
    schemas.hold("run", m)
    assert m["after_unload"] == {"registers_restored": True, "stock_calls_work": True}
    cost = {(c["call"], c["path"]): c["instructions"] for c in m["calls"]}
    assert cost["getppid", "fast"] - cost["getppid", "int80"] <= 12
    assert m["module"]["toll_on_stock"] == 0
    fast = next(d for d in m["dd"] if d["path"] == "fast")
    assert min(fast["fast_calls"]) >= 2 * fast["count"]
    counted = {d["path"]: set(d["fast_calls"]) for d in m["preload"]["dd"]}
    assert counted == {"int80": {0}, "fast": {2 * m["dd"][0]["count"]}}


def test_ld_preload_gives_an_ordinary_program_the_fast_entry(legacy: LegacyGuest, steps: Steps) -> None:
    dd = "/bin/dd if=/dev/zero of=/dev/null bs=1 count=50000"
    with_library = f"run LD_PRELOAD=/lib/libsysenter.so {dd}"
    look = "cat /proc/sysenter"
    # Before the load and after the unload the library leaves the calls to int 0x80.
    pairs = [f"run {dd}", look, with_library, look] * 3
    plan = [with_library, load_command(None), look, *pairs, "unload sysenter", with_library]
    out = legacy.run(
        steps, plan, what="dd with LD_PRELOAD", timeout=90, files=legacy_preload(steps, legacy.target, offline=False)
    )
    assert [out.result(step) for step in range(1, len(plan) + 1)] == [0] * len(plan)
    counts = [0] * plan.count(look)
    number = -1
    for r in out.records:
        number += r.get("event") == "start" and r["command"] == "cat"
        if r.get("event") == "line" and r["text"].startswith("calls cpu"):
            counts[number] += int(r["text"].split()[2])
    assert [b - a for a, b in pairwise(counts)] == [0, 100_000] * 3
    assert not out.bad_lines()


def test_an_unknown_way_is_named(legacy: LegacyGuest, cli: RunCli) -> None:
    if legacy.target.release.startswith("2.2."):
        pytest.skip("2.2 has ways to choose from")
    description = next(p for p in KERNELS if p.parent.name == legacy.target.name)
    done = cli("run", "--kernel", str(description), "--module-option", "cruel", "--rounds", "1")
    assert "way=cruel" in one_line_error(done)


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox ash"])
def test_the_single_file_builds_what_the_lab_loads(
    legacy: LegacyGuest, cli: RunCli, tmp_path: Path, shell: str
) -> None:
    words = shell.split()
    if not shutil.which(words[0]):
        pytest.skip(f"{words[0]} is not installed")
    single = tmp_path / "sysenter.c"
    assert cli("export", "-o", str(single)).returncode == 0
    environment = {
        **os.environ,
        "HEADERS": str(legacy.target.headers),
        "SYSTEM_MAP": str(legacy.target.system_map),
        "CC": legacy.target.cc or "gcc -m32",
        "LD": "ld -m elf_i386",
    }
    subprocess.run([*words, single, "build", tmp_path / "out"], check=True, env=environment, timeout=120)
    assert (tmp_path / "out/sysenter.o").read_bytes() == legacy.module.module.read_bytes()
