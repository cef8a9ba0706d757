# SPDX-License-Identifier: GPL-2.0-or-later
"""Do SYSENTER, SYSEXIT, SYSCALL, SYSRET, IRET and STI do what the checker takes them to do?"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from guests import SOURCES
from processor_cases import differs_from
from sysenter.build.native import compiler
from sysenter.lab.qemu import Machine, run_machine
from sysenter.steps import Steps
from sysenter.target.arch import I386

_SOURCES = [SOURCES / "privileged.S", SOURCES / "privileged.c"]
_FREESTANDING = (
    "-m32",
    "-O2",
    "-Wall",
    "-Wextra",
    "-Wno-missing-field-initializers",
    "-Werror",
    "-ffreestanding",
    "-fno-pic",
    "-no-pie",
    "-nostdlib",
    "-static",
    "-mgeneral-regs-only",
    "-fno-stack-protector",
    "-fcf-protection=none",
    "-fno-asynchronous-unwind-tables",
    "-Wl,-Ttext=0x100000,--build-id=none",
)


# the second for AMD's SYSCALL, which qemu-system-i386 keeps off
@pytest.mark.parametrize(("cpu", "cases"), [("pentium3", 50), ("athlon,+syscall", 80)])
def test_model_does_what_a_machine_does_in_ring_0(steps: Steps, tmp_path: Path, cpu: str, cases: int) -> None:
    """A handler that is sound in a model of another processor may not be on this one."""
    image = tmp_path / "privileged"
    subprocess.run([compiler(), *_FREESTANDING, "-o", image, *_SOURCES], check=True, timeout=60)
    machine = Machine(I386.qemu_for(cpu), cpu, image, "", memory=16)
    result = run_machine(steps, machine, b"", what="the privileged cases", timeout=60)
    seen = [json.loads(line) for line in result.lines[:-1]]
    assert len(seen) > cases
    assert {s["vector"][0] for s in seen} == {1, 10, 13, 0x30, 0x40}, "a kind of event never came"
    wrong = [differs_from(s, bytes.fromhex(s["code"])) for s in seen]
    assert not any(wrong), "\n".join(w for w in wrong if w)
