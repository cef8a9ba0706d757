# SPDX-License-Identifier: GPL-2.0-or-later
"""What `mitigations` reads off executed instructions, and that the fast entry has what the kernel's has."""

from __future__ import annotations

import pytest

from sysenter.build.module import build_module
from sysenter.kernels.provide import provide
from sysenter.lab.guest import guest_for
from sysenter.lab.mitigations import Instruction, mitigations, read_trace, seen
from sysenter.steps import Steps

LOG = """----------------
IN: entry_SYSCALL_64
0xffffffff81c00000:  0f 01 f8                 swapgs
0xffffffff81c0000c:  0f 22 dc                 movq     %rsp, %cr3
0xffffffff81c00010:  0f 30                    wrmsr
0xffffffff81c00012:  e8 09 1f 00 00           callq    0xffffffff81c01f20
0xffffffff81c00017:  0f 00 2d 02 00 00 00     verw     2(%rip)
"""


def test_the_trace_is_read_as_qemu_writes_it() -> None:
    trace = read_trace(LOG)
    assert trace[1] == Instruction(0xFFFFFFFF81C0000C, "movq     %rsp, %cr3")
    assert seen(trace, 0xFFFFFFFF81C01F20) == {"PTI", "IBRS", "BHB clearing", "VERW"}
    assert seen(trace[:1], 0xFFFFFFFF81C01F20) == frozenset()
    assert "BHB clearing" not in seen(trace, 0)
    assert seen(read_trace("0xc0001000:  ff e1                    jmpl     *%ecx\n"), 0) == {"indirect branches"}


@pytest.mark.parametrize(
    ("kernel", "cpu", "append", "expected"),
    [
        ("bookworm-686", "pentium3", "", {"VERW"}),
        ("bookworm-amd64", "Haswell", "", {"PTI", "VERW"}),
        ("trixie-backports-amd64", "Skylake-Client", "setcpuid=240,249 spectre_v2=ibrs", {"IBRS", "PTI", "VERW"}),
        ("trixie-backports-amd64", "Icelake-Server", "mitigations=off", set()),
    ],
)
def test_both_entries_execute_what_the_kernel_applies(
    steps: Steps, kernel: str, cpu: str, append: str, expected: set[str]
) -> None:
    target = provide(steps, kernel, offline=False)
    applied = mitigations(steps, guest_for(steps, target, "tcg"), build_module(steps, target), cpu, append)
    assert not applied.refused
    assert expected <= applied.stock
    assert applied.stock <= applied.fast, applied
    assert "indirect branches" not in applied.fast
    if not expected:
        assert not applied.fast


def test_a_refusal_names_the_mitigation_and_what_would_allow_loading(steps: Steps) -> None:
    target = provide(steps, "bookworm-686-pae", offline=False)
    applied = mitigations(steps, guest_for(steps, target, "tcg"), build_module(steps, target), "pentium3", "")
    assert "PTI" in applied.refused
    assert "boot with nopti" in applied.refused
