# SPDX-License-Identifier: GPL-2.0-or-later
"""AMD's SYSCALL on a 32-bit kernel: who gets it, who is refused, what is left after."""

from __future__ import annotations

import pytest

from sysenter.build.module import Module
from sysenter.lab.guest import Guest, Output, is_clean
from sysenter.steps import Steps

K6_STYLE = "athlon,-sep,+syscall"  # SYSCALL and no SYSENTER
BOTH = "athlon,+syscall"
# Linux warns of an Athlon on several processors by itself.
SMP = "Opteron_G1,-sep,+syscall"
ALLOW = "allow=syscall-window"


def told(steps: Steps, guest: Guest, module: Module, cpu: str, task: str, cpus: int = 1) -> Output:
    output = guest.run(
        steps, task, {"sysenter.ko": module.module.read_bytes()}, what="AMD", timeout=120,
        machine=guest.machine(cpu=cpu, cpus=cpus),
    )  # fmt: skip
    assert not is_clean(output.console), output.console[-4000:]
    return output


@pytest.mark.parametrize(
    ("cpu", "options", "message"),
    [
        (K6_STYLE, "", "allow=syscall-window accepts that"),
        (BOTH, "entry=syscall", "allow=syscall-window accepts that"),
        (K6_STYLE, f"entry=sysenter {ALLOW}", "this processor has no SYSENTER"),
        ("athlon,-sep", ALLOW, "has no SYSENTER and no SYSCALL"),
        ("pentium3", f"entry=syscall {ALLOW}", "has no SYSCALL"),
        (BOTH, "entry=best", "auto, sysenter or syscall"),
    ],
)
def test_refused(steps: Steps, guest: Guest, module: Module, cpu: str, options: str, message: str) -> None:
    task = f"insmod /sysenter.ko {options} && echo loaded; dmesg | grep 'sysenter: refused'; ls /dev/sysenter; true"
    text = "\n".join(told(steps, guest, module, cpu, task).text)
    assert message in text
    assert "loaded" not in text.split("refused")[0]
    assert "No such file" in text, "a refused module left its device behind"


def test_a_processor_with_both_enters_by_sysenter(steps: Steps, guest: Guest, module: Module) -> None:
    task = "insmod /sysenter.ko && dmesg | grep -c 'entry by SYSCALL'; rmmod sysenter && echo went"
    output = told(steps, guest, module, BOTH, task)
    assert output.text[-2:] == ("0", "went")


@pytest.mark.parametrize(("cpu", "cpus"), [(K6_STYLE, 1), (BOTH, 1), (SMP, 4)])
def test_calls_by_syscall_are_right_and_the_registers_come_back(
    steps: Steps, guest: Guest, module: Module, cpu: str, cpus: int
) -> None:
    task = f"""
        insmod /lib/sysenter/msr.ko
        /lib/sysenter/msr >/tmp/before
        insmod /sysenter.ko entry=syscall {ALLOW} || exit 99
        /lib/sysenter/msr >/tmp/loaded
        /lib/sysenter/calls
        for one in 1 2 3 4; do
            SYSENTER_CALLS=all LD_PRELOAD=/lib/sysenter/libsysenter.so /lib/sysenter/callers || echo wrong &
        done
        wait
        echo calls $(cat /sys/module/sysenter/parameters/calls)
        rmmod sysenter || exit 98
        /lib/sysenter/msr >/tmp/after
        [ -s /tmp/before ] && cmp /tmp/before /tmp/after && echo same
        cmp -s /tmp/before /tmp/loaded || echo changed
    """
    output = told(steps, guest, module, cpu, task, cpus)
    assert "same" in output.text, output.text
    assert "changed" in output.text, output.text
    assert "wrong" not in output.text, output.text
    assert all(record["right"] for record in output.records)
    assert any(record["path"] == "fast" for record in output.records)
    assert any(line.startswith("calls ") and int(line.split()[1]) > 4000 for line in output.text), output.text


def test_getppid_takes_at_most_160_instructions(steps: Steps, guest: Guest, module: Module) -> None:
    machine = guest.machine(cpu=K6_STYLE, icount=True)
    task = f"insmod /sysenter.ko {ALLOW} && /lib/sysenter/calls"
    files = {"sysenter.ko": module.module.read_bytes()}
    output = guest.run(steps, task, files, what="counting", timeout=120, machine=machine)
    counts = {r["path"]: r["tsc"] - r["empty"] for r in output.records if r["call"] == "getppid"}
    assert counts["fast"] <= 160 < counts["int80"], counts
