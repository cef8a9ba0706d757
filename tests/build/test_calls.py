# SPDX-License-Identifier: GPL-2.0-or-later
"""The fast table follows from its rule, for a real kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from sysenter.build.calls import OUTSIDE, fast_calls
from sysenter.build.generated import common_headers
from sysenter.errors import SysenterError
from sysenter.kernels.provide import provide
from sysenter.steps import Steps
from sysenter.target.arch import AMD64, I386
from sysenter.target.image import read_bzimage
from sysenter.target.kallsyms import kallsyms
from sysenter.target.memory import Memory
from sysenter.target.target import Target


def table_of(target: Target) -> dict[str, tuple[int, int]]:
    table = target.headers / "arch/x86/include/generated/asm" / target.arch.call_table
    calls = fast_calls(table, common_headers(target.headers), target.arch)
    return {c.symbol.removeprefix(target.arch.call_prefix + "sys_"): (c.nr, c.arguments) for c in calls}


def test_numbers_and_arguments_are_the_kernels(target: Target) -> None:
    table = table_of(target)
    assert table["read"] == (3, 3)
    assert table["write"] == (4, 3)
    assert table["getppid"] == (64, 0)
    assert table["mmap_pgoff"] == (192, 6)
    assert table["pselect6"][1] == 6
    assert table["ppoll"][1] == 5
    assert table["futex"][1] == 6


# With whose numbers a program would die, or the module would go on while it is gone; what each is for: OUTSIDE.
_NEVER = {"fork", "vfork", "clone", "clone3", "execve", "execveat", "rt_sigreturn", "restart_syscall", "exit"}
_NEVER |= {"exit_group", "ptrace", "seccomp", "prctl", "personality", "iopl", "ioperm", "modify_ldt", "mremap"}
_NEVER |= {"sigaltstack", "delete_module", "reboot"}
_OF_I386 = {"sigreturn", "vm86", "vm86old", "set_thread_area", "get_thread_area"}


@pytest.mark.parametrize("kernel", ["bookworm-686", "bookworm-amd64"])
def test_calls_that_need_their_callers_registers_stay_outside(steps: Steps, kernel: str) -> None:
    target = provide(steps, kernel, offline=False)
    table = table_of(target)
    for reason, names in OUTSIDE.items():
        assert not names & table.keys(), reason
    never = _NEVER | (_OF_I386 if target.arch is I386 else {"arch_prctl"})
    assert never <= set().union(*OUTSIDE.values())
    assert len(table) > 300


# pt_regs of the arguments: bx cx dx si di bp; di si dx r10 r8 r9
_ARGUMENTS_AT = {
    "i386": {0x0: 1, 0x4: 2, 0x8: 3, 0xC: 4, 0x10: 5, 0x14: 6},
    "amd64": {0x70: 1, 0x68: 2, 0x60: 3, 0x38: 4, 0x48: 5, 0x40: 6},
}


@pytest.mark.parametrize(
    "kernel", ["bookworm-686", "bookworm-amd64", pytest.param("trixie-backports-amd64", marks=pytest.mark.long)]
)
def test_no_body_reads_more_arguments_than_the_table_says(steps: Steps, kernel: str) -> None:
    """The kernel's own wrappers load what they use from pt_regs (eax, rdi): look at them."""
    import capstone

    target = provide(steps, kernel, offline=False)
    amd64 = target.arch is AMD64
    prefix, first = ("__x64_sys_", "rdi") if amd64 else ("__ia32_sys_", "eax")
    memory = Memory.of(read_bzimage(target.image.read_bytes(), "image"))
    symbols = kallsyms(memory)
    machine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64 if amd64 else capstone.CS_MODE_32)
    machine.detail = True
    base, data = memory.pieces[0]
    looked_at = 0
    for name, (_, arguments) in table_of(target).items():
        address = symbols.get(prefix + name)
        if address is None:
            continue
        holders = {first}
        for i in machine.disasm(data[address - base : address - base + 200], address):
            if i.address <= address + 8 and i.mnemonic == "call":
                continue  # __fentry__, until the kernel patches it at boot
            if i.mnemonic in ("call", "ret", "jmp"):
                break
            for operand in i.operands:
                if operand.type == capstone.x86.X86_OP_MEM and i.reg_name(operand.mem.base) in holders:
                    needed = _ARGUMENTS_AT[target.arch.name].get(operand.mem.disp)
                    if needed is not None and not operand.mem.index:
                        assert needed <= arguments, f"{name} reads argument {needed}, the table gives it {arguments}"
                        looked_at += 1
            written = i.op_str.split(",")[0].strip()
            if i.mnemonic == "mov" and i.op_str.split(",")[-1].strip() in holders:
                holders.add(written)
            elif written in holders and i.mnemonic not in ("cmp", "test", "push"):
                holders.discard(written)
            if not holders:
                break
    assert looked_at > 300


def test_a_table_of_another_form_is_refused(tmp_path: Path, target: Target) -> None:
    (tmp_path / "syscalls_32.h").write_text("nothing\n")
    with pytest.raises(SysenterError, match="no __SYSCALL"):
        fast_calls(tmp_path / "syscalls_32.h", common_headers(target.headers), I386)
