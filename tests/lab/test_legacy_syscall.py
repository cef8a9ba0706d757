# SPDX-License-Identifier: GPL-2.0-or-later
"""AMD's SYSCALL on Linux 2.4: who gets it, and what it leaves alone.

The hostile callers, storms and unloads of test_legacy.py run by it too; NMIs are in
test_legacy_nmi.py.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import schemas
from conftest import RunCli, one_line_error
from legacy_kernels import KERNELS, on_each_kernel, parameters
from sysenter.build.legacy import legacy_preload
from sysenter.kernels.provide import provide
from sysenter.lab.legacy_guest import LegacyGuest, legacy_guest_for
from sysenter.measure.legacy import load_command
from sysenter.steps import Steps

pytestmark = on_each_kernel

K6_STYLE = "athlon,-sep,+syscall"  # SYSCALL and no SYSENTER
BOTH = "athlon,+syscall"


@pytest.fixture(scope="module", params=parameters(), ids=lambda path: path.parent.name)
def legacy(request: pytest.FixtureRequest, steps: Steps) -> LegacyGuest:
    return legacy_guest_for(steps, provide(steps, str(request.param), offline=True))


@pytest.fixture
def legacy_2_4(legacy: LegacyGuest) -> LegacyGuest:
    if legacy.target.release.startswith("2.2."):
        pytest.skip("2.2 has no entry by SYSCALL")
    return legacy


@pytest.mark.parametrize(
    ("cpu", "option", "way"),
    [
        (K6_STYLE, None, "syscall"),
        # a K6-2
        ("athlon,-sep,+syscall,family=5,model=8,stepping=12", None, "syscall"),
        (BOTH, None, "tss"),
        (BOTH, "entry=syscall", "syscall"),
        (BOTH, "entry=sysenter", "tss"),
        ("Opteron_G1,+syscall", None, "tss"),
        ("Opteron_G1,-sep,+syscall", "entry=auto", "syscall"),
        ("phenom,+syscall", None, "tss"),
    ],
)
def test_what_a_processor_enters_by(
    legacy_2_4: LegacyGuest, steps: Steps, cpu: str, option: str | None, way: str
) -> None:
    """SYSENTER where there is one; and programs do as the module says."""
    plan = [load_command(option), "cat /proc/sysenter", "dd fast 1 1000", "cat /proc/sysenter", "unload sysenter"]
    out = legacy_2_4.run(steps, plan, what=cpu, timeout=60, machine=legacy_2_4.machine(cpu=cpu))
    texts = [r["text"] for r in out.events("line")]
    assert texts.count(f"way {way}") == 2
    counts = [int(text.split()[2]) for text in texts if text.startswith("calls cpu")]
    half = len(counts) // 2
    assert sum(counts[half:]) - sum(counts[:half]) == 2000
    assert [out.result(step) for step in range(1, 6)] == [0] * 5
    assert not out.bad_lines()


@pytest.mark.parametrize(
    ("cpu", "option", "message"),
    [
        (K6_STYLE, "entry=sysenter", "has no SYSENTER"),
        ("athlon,-sep", None, "has no SYSENTER and no SYSCALL"),
        ("pentium3", "entry=syscall", "has no SYSCALL"),
        (BOTH, "entry=best", "entry=best"),
    ],
)
def test_refused(legacy: LegacyGuest, steps: Steps, cpu: str, option: str | None, message: str) -> None:
    plan = ["off", f"try {load_command(option)}", "off", "count int80"]
    out = legacy.run(steps, plan, what=cpu, timeout=60, machine=legacy.machine(cpu=cpu))
    assert out.result(2) != 0
    if legacy.target.release.startswith("2.2."):
        message = message.replace(" and no SYSCALL", "").replace("has no SYSCALL", "this is for 2.4")
    assert message in out.refusal()
    first, last = out.events("off")
    assert first == last
    assert [out.result(step) for step in (1, 3, 4)] == [0, 0, 0]
    assert not out.bad_lines()


def test_a_second_one_is_refused(legacy_2_4: LegacyGuest, steps: Steps) -> None:
    """Under another name, by the other entry. It would put its own handlers into the first one's task gates."""
    second = "try load /sysenter.o second entry="
    for first, other in (("syscall", "sysenter"), ("sysenter", "syscall")):
        plan = [load_command(f"entry={first}"), f"{second}{other}", "dd fast 1 100", "unload sysenter", "off"]
        out = legacy_2_4.run(steps, plan, what=f"{first} twice", timeout=60, machine=legacy_2_4.machine(cpu=BOTH))
        assert [out.result(step) == 0 for step in range(1, 6)] == [True, False, True, True, True]
        assert not out.bad_lines()


def test_a_user_with_tf_writes_nowhere(legacy_2_4: LegacyGuest, steps: Steps) -> None:
    """#DB at the entry's first instruction, ESP anywhere: user memory, the kernel's, none."""
    plan = [load_command(None), "window step", "unload sysenter"]
    out = legacy_2_4.run(steps, plan, what="TF", timeout=60, machine=legacy_2_4.machine(cpu=K6_STYLE))
    found = [(r["esp"], r["changed"], r["right"]) for r in out.events("window")]
    assert found == [(esp, 0, 1) for esp in ("user", "kernel", "none", "0", "-1")]
    assert min(r["traps"] for r in out.events("window")) > 0
    assert [out.result(step) for step in (1, 2, 3)] == [0, 0, 0]
    assert not out.bad_lines()


def test_run_prints_the_table_and_writes_the_json(legacy_2_4: LegacyGuest, cli: RunCli, tmp_path: Path) -> None:
    description = next(p for p in KERNELS if p.parent.name == legacy_2_4.target.name)
    done = cli("run", "--kernel", str(description), "--cpu", K6_STYLE, "--rounds", "3", "--json", str(tmp_path / "m"))
    assert done.returncode == 0, done.stderr
    m = json.loads((tmp_path / "m").read_text())
    schemas.hold("run", m)
    assert m["module"] == {"fast_table": 210, "toll_on_stock": 0, "way": "syscall"}
    assert m["after_unload"] == {"registers_restored": True, "stock_calls_work": True}
    cost = {(c["call"], c["path"]): c["instructions"] for c in m["calls"]}
    assert cost["getppid", "fast"] - cost["getppid", "int80"] <= 14
    fast = next(d for d in m["dd"] if d["path"] == "fast")
    assert min(fast["fast_calls"]) >= 2 * fast["count"]
    counted = {d["path"]: set(d["fast_calls"]) for d in m["preload"]["dd"]}
    assert counted == {"int80": {0}, "fast": {2 * m["dd"][0]["count"]}}


def test_run_names_an_option_that_the_module_refuses(legacy_2_4: LegacyGuest, cli: RunCli) -> None:
    description = next(p for p in KERNELS if p.parent.name == legacy_2_4.target.name)
    done = cli("run", "--kernel", str(description), "--module-option", "entry=syscall", "--rounds", "1")
    assert "has no SYSCALL" in one_line_error(done)


def test_ld_preload_follows(legacy_2_4: LegacyGuest, steps: Steps) -> None:
    """The same library on a processor with both: by each entry it makes the calls that it should."""
    look, dd = (
        "cat /proc/sysenter",
        "run LD_PRELOAD=/lib/libsysenter.so /bin/dd if=/dev/zero of=/dev/null bs=1 count=500",
    )
    plan = [dd]
    for entry in ("syscall", "sysenter", "syscall"):
        plan += [load_command(f"entry={entry}"), dd, look, "unload sysenter"]
    out = legacy_2_4.run(
        steps,
        plan,
        what="LD_PRELOAD",
        timeout=60,
        machine=legacy_2_4.machine(cpu=BOTH),
        files=legacy_preload(steps, legacy_2_4.target, offline=False),
    )
    assert [out.result(step) for step in range(1, len(plan) + 1)] == [0] * len(plan)
    texts = [r["text"] for r in out.events("line")]
    assert [text for text in texts if text.startswith("way ")] == ["way syscall", "way tss", "way syscall"]
    cpus = sum(text.startswith("calls ") for text in texts) // 3
    counts = [int(text.split()[2]) for text in texts if text.startswith("calls ")]
    assert [sum(counts[i : i + cpus]) for i in range(0, 3 * cpus, cpus)] == [1000] * 3
