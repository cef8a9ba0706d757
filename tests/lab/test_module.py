# SPDX-License-Identifier: GPL-2.0-or-later
"""The module on a real kernel: who may load it, who holds it, how it leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from guests import guest_for
from shell import WAIT_FOR
from sysenter.build.module import Module
from sysenter.build.present import build_present_module, with_changes
from sysenter.lab.guest import Guest, Output
from sysenter.steps import Steps
from sysenter.target.target import Guard, Target

RunTask = Callable[..., Output]
_CALLS = "/sys/module/sysenter/parameters/calls"
# what the kernel says of a module that it refuses begins with the module's name as well
_REFUSED = "insmod /sysenter.ko && echo loaded; dmesg | grep 'sysenter: '; ls /dev/sysenter; true"


def refusal(steps: Steps, guest: Guest, module: Module, append: str = "") -> str:
    output = guest.run(
        steps,
        _REFUSED,
        {"sysenter.ko": module.module.read_bytes()},
        what="a refusal",
        timeout=120,
        machine=guest.machine(append=append),
    )
    text = "\n".join(output.text)
    assert "loaded" not in text
    assert "No such file" in text, "a refused module left its device behind"
    return text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: with_changes(g, release="6.1.0-49-686"), "built for release 6.1.0-49-686"),
        (lambda g: with_changes(g, shift=16), "sock_register at _stext"),
        pytest.param(lambda g: replace(g, version="#1 SMP another build"), "built for version", marks=pytest.mark.long),
        pytest.param(lambda g: replace(g, build_id="00" * 20), "built for build id", marks=pytest.mark.long),
    ],
    ids=["release", "sock_register", "version", "build-id"],
)
def test_a_module_for_another_kernel_is_refused(
    steps: Steps, target: Target, guest: Guest, change: Callable[[Guard], Guard], message: str
) -> None:
    module = build_present_module(steps, target, guard=change(target.guard), what=" (changed, to be refused)")
    assert message in refusal(steps, guest, module)


@pytest.mark.long
def test_the_686_module_is_refused_by_686_pae_and_the_other_way(
    steps: Steps, target: Target, pae_target: Target, guest: Guest, module: Module
) -> None:
    """By the kernel, which compares versions of its symbols; by the guard where it lets one in."""
    pae_module, pae_guest = build_present_module(steps, pae_target), guest_for(steps, pae_target, "tcg")
    for here, other in ((pae_guest, module), (guest, pae_module)):
        assert "disagrees about version of symbol" in refusal(steps, here, other)
    for here, guard in ((pae_guest, target.guard), (guest, pae_target.guard)):
        let_in = build_present_module(steps, here.target, guard=guard, what=" (guarded as the other's)")
        assert f"refused: built for release {guard.release}" in refusal(steps, here, let_in)


def test_getppid_takes_at_most_205_instructions_with_isolated_page_tables(steps: Steps, pae_target: Target) -> None:
    guest, module = guest_for(steps, replace(pae_target, append=""), "tcg"), build_present_module(steps, pae_target)
    output = guest.run(
        steps,
        "insmod /sysenter.ko || exit 99\n/lib/sysenter/calls; rmmod sysenter && echo went\n"
        "grep -c '^bugs.*cpu_meltdown' /proc/cpuinfo; dmesg | grep -o 'page tables isolation: enabled'",
        {"sysenter.ko": module.module.read_bytes()},
        what="counting instructions",
        timeout=120,
        machine=guest.machine(icount=True),
    )
    assert not output.bad_lines(), output.console
    assert output.text == ("went", "1", "page tables isolation: enabled"), output.text
    counts = {r["path"]: r["tsc"] - r["empty"] for r in output.records if r["call"] == "getppid"}
    assert counts["fast"] <= 205  # 30 more than once, and 25 cycles fewer (docs/entries.md)
    assert counts["stock"] > 350, "the stock path is not what it is compared with"


def test_no_sysenter_is_refused_by_name(steps: Steps, guest: Guest, module: Module) -> None:
    machine = guest.machine(cpu="pentium3,-sep")
    files = {"sysenter.ko": module.module.read_bytes()}
    output = guest.run(steps, _REFUSED, files, what="a refusal", timeout=120, machine=machine)
    assert "no SYSENTER" in "\n".join(output.text)


def test_a_kernel_without_a_vdso_is_refused_by_name(steps: Steps, guest: Guest, module: Module) -> None:
    """A fast call returns to the vDSO's landing pad."""
    assert "boot without vdso32=0" in refusal(steps, guest, module, append="vdso32=0")


def test_a_process_that_depends_on_the_module_holds_it(in_guest: RunTask) -> None:
    output = in_guest("""
SYSENTER_CALLS=all LD_PRELOAD=/lib/sysenter/libsysenter.so \\
	/gnu/bin/dd if=/dev/zero of=/dev/null bs=1 count=300000 2>/tmp/said &
for n in $(seq 100); do	# until it makes fast calls
	[ $(cat /sys/module/sysenter/parameters/calls) -gt 1000 ] && break
	sleep 0.1
done
rmmod sysenter 2>&1 && echo "went"
rmmod sysenter 2>&1 && echo "went"
wait $!; echo "dd: $?"
cat /tmp/said
rmmod sysenter && echo "went at last"
""")
    text = "\n".join(output.text)
    assert "Resource temporarily unavailable" in text
    assert "300000+0 records out" in text
    assert "dd: 0" in text
    assert output.text[-1] == "went at last"
    assert "\nwent\n" not in text


@pytest.mark.parametrize("cpus", [pytest.param(1, marks=pytest.mark.long), 4])
def test_it_loads_and_leaves_again_and_again_under_load(in_guest: RunTask, cpus: int) -> None:
    output = in_guest(
        """
rmmod sysenter
for n in 1 2 3; do
	(
		export LD_PRELOAD=/lib/sysenter/libsysenter.so SYSENTER_CALLS=all
		while :; do
			/gnu/bin/dd if=/dev/zero of=/dev/null bs=1 count=3000 2>/dev/null || echo lost
			sleep 0.1
		done
	) &
done
left=0; try=0; calls=0
while { [ $left -lt 12 ] || [ $calls -le 1000 ]; } && [ $try -lt 600 ]; do
	try=$((try + 1))
	insmod /sysenter.ko 2>/dev/null
	sleep 0.02
	calls=$((calls + $(cat /sys/module/sysenter/parameters/calls)))
	rmmod sysenter 2>/dev/null && left=$((left + 1))
done
[ $calls -gt 1000 ] && echo "under fast calls"
[ $left -ge 12 ] && echo "left often"
""",
        cpus=cpus,
        timeout=200,
    )
    assert "left often" in output.text, output.text
    assert "under fast calls" in output.text, output.text
    assert "lost" not in output.text


def test_every_call_of_a_process_and_its_children_goes_the_fast_way(in_guest: RunTask) -> None:
    output = in_guest(f"""
export LD_PRELOAD=/lib/sysenter/libsysenter.so
before=$(cat {_CALLS})
SYSENTER_CALLS=all /lib/sysenter/callers
echo "status $?"
after=$(cat {_CALLS})
echo "fast calls $((after - before))"
""")
    assert "status 0" in output.text, output.text
    counted = next(int(line.split()[-1]) for line in output.text if line.startswith("fast calls"))
    assert counted > 40_000, "threads or children were left on the stock path"


def test_stock_and_int80_callers_see_nothing_of_it(in_guest: RunTask) -> None:
    """The same program, with the module loaded and unloaded, on the kernel's own paths."""
    output = in_guest("""
/lib/sysenter/callers; echo "stock, loaded: $?"
SYSENTER_CALLS=all SYSENTER_PATH=int80 LD_PRELOAD=/lib/sysenter/libsysenter.so /lib/sysenter/callers
echo "int80, loaded: $?"
rmmod sysenter
SYSENTER_CALLS=all LD_PRELOAD=/lib/sysenter/libsysenter.so /lib/sysenter/callers
echo "stock, unloaded: $?"
""")
    assert [line for line in output.text if line.endswith(": 0")] == [
        "stock, loaded: 0",
        "int80, loaded: 0",
        "stock, unloaded: 0",
    ]


def test_a_task_asleep_inside_is_waited_for_and_loses_nothing(in_guest: RunTask) -> None:
    """Its mapping is gone, so nothing holds the module but the return address on its stack."""
    output = in_guest(
        WAIT_FOR
        + """
/lib/sysenter/sleeper &
wait_for 'asleep $! && [ $(cat /sys/module/sysenter/refcnt) = 0 ]'
rmmod sysenter && echo "went"
echo x >/tmp/wake
wait $!; echo "sleeper: $?"
"""
    )
    assert "went" in output.text
    assert "sleeper: 0" in output.text
