# SPDX-License-Identifier: GPL-2.0-or-later
"""AMD's SYSCALL on a 32-bit kernel: who gets it, who is refused, what is left after."""

from __future__ import annotations

import pytest

from sysenter.build.module import Module
from sysenter.lab.guest import Guest, Output
from sysenter.steps import Steps

K6_STYLE = "athlon,-sep,+syscall"  # SYSCALL and no SYSENTER
BOTH = "athlon,+syscall"
# Linux warns of an Athlon on several processors by itself.
SMP = "Opteron_G1,-sep,+syscall"


def told(steps: Steps, guest: Guest, module: Module, cpu: str, task: str, cpus: int = 1) -> Output:
    output = guest.run(
        steps,
        task,
        {"sysenter.ko": module.module.read_bytes()},
        what="AMD",
        timeout=120,
        machine=guest.machine(cpu=cpu, cpus=cpus),
    )
    assert not output.bad_lines(), output.console[-4000:]
    return output


@pytest.mark.parametrize(
    ("cpu", "options", "message"),
    [
        (K6_STYLE, "entry=sysenter", "this processor has no SYSENTER"),
        ("athlon,-sep", "", "has no SYSENTER and no SYSCALL"),
        ("pentium3", "entry=syscall", "has no SYSCALL"),
        (BOTH, "entry=best", "auto, sysenter or syscall"),
    ],
)
def test_refused(steps: Steps, guest: Guest, module: Module, cpu: str, options: str, message: str) -> None:
    task = f"insmod /sysenter.ko {options} && echo loaded; dmesg | grep 'sysenter: refused'; ls /dev/sysenter; true"
    text = "\n".join(told(steps, guest, module, cpu, task).text)
    assert message in text
    assert "loaded" not in text.split("refused")[0]
    assert "No such file" in text, "a refused module left its device behind"


@pytest.mark.parametrize(
    ("cpu", "by_syscall"),
    [
        (K6_STYLE, True),
        # a K6-2: family 5; it boots this kernel with an Athlon's other features only
        ("athlon,-sep,+syscall,family=5,model=8,stepping=12", True),
        (BOTH, False),
        pytest.param("Opteron_G1,+syscall", False, marks=pytest.mark.long),
        ("Opteron_G1,-sep,+syscall", True),
        pytest.param("phenom,+syscall", False, marks=pytest.mark.long),
    ],
)
def test_what_a_processor_enters_by(steps: Steps, guest: Guest, module: Module, cpu: str, by_syscall: bool) -> None:
    """SYSENTER where there is one; and the stub does as the module does."""
    task = """
        insmod /sysenter.ko || exit 99
        dmesg | grep -c 'entry by SYSCALL'
        SYSENTER_CALLS=all LD_PRELOAD=/lib/sysenter/libsysenter.so /lib/sysenter/callers || echo wrong
        [ $(cat /sys/module/sysenter/parameters/calls) -gt 1000 ] && echo many
        rmmod sysenter && echo went
    """
    output = told(steps, guest, module, cpu, task)
    assert output.text[-3:] == ("1" if by_syscall else "0", "many", "went"), output.text


@pytest.mark.parametrize(("cpu", "cpus"), [(K6_STYLE, 1), (BOTH, 1), (SMP, 4)])
def test_calls_by_syscall_are_right_and_the_registers_come_back(
    steps: Steps, guest: Guest, module: Module, cpu: str, cpus: int
) -> None:
    task = """
        insmod /lib/sysenter/msr.ko
        /lib/sysenter/msr >/tmp/before
        insmod /sysenter.ko entry=syscall || exit 99
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


def test_getppid_takes_at_most_205_instructions(steps: Steps, guest: Guest, module: Module) -> None:
    machine = guest.machine(cpu=K6_STYLE, icount=True)
    task = "insmod /sysenter.ko && /lib/sysenter/calls"
    files = {"sysenter.ko": module.module.read_bytes()}
    output = guest.run(steps, task, files, what="counting", timeout=120, machine=machine)
    counts = {r["path"]: r["tsc"] - r["empty"] for r in output.records if r["call"] == "getppid"}
    assert counts["fast"] <= 205 < counts["int80"], counts
