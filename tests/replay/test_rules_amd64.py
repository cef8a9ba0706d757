# SPDX-License-Identifier: GPL-2.0-or-later
"""Each rule by which an amd64 kernel's instructions and data are moved to where a process can have them."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import pytest

from assembled import instruction
from sysenter.replay.operands import Decoder
from sysenter.replay.rules import Unreplayable, nop, verw_selector, without_privilege
from sysenter.replay.rules_amd64 import (
    Space,
    absolute_displacement,
    absolute_immediate,
    interrupt_flag_test,
    move_data,
    per_cpu_displacement,
    rewrite,
    sysret,
)

TEXT = 0xFFFFFFFF81123450
MOVED = 0x01123450
TABLE = 0xFFFFFFFF82000100
MODULE = 0xFFFFFFFFC0201000
GS = 0xFFFF88800EA00000
SPACE = Space(range(0xFFFFFFFF81000000, 0xFFFFFFFF84000000), frozenset({MODULE}), GS, per_cpu_in_image=False)
# since 6.15: a variable's name is an address in the image, and GS base its distance from there
LATER = replace(SPACE, per_cpu=GS - 0xFFFFFFFF82800000 & (1 << 64) - 1, per_cpu_in_image=True)


def shown(code: bytes, address: int = MOVED) -> str:
    """A moved instruction, disassembled at its new place."""
    decoded = Decoder(64).decode(code, address)
    assert decoded.size == len(code)
    return f"{decoded.mnemonic} {decoded.op_str}".strip()


@pytest.mark.parametrize("address", [TEXT, TABLE, MODULE + 8])
def test_image_and_modules_move_together(address: int) -> None:
    assert SPACE.named(address)
    assert Space.moved(address) == address - 0xFFFFFFFF80000000


@pytest.mark.parametrize("address", [0xFFFF888000001000, 0xFFFFC900005E3F58, 0xFFFFFE0000002000])
def test_other_kernel_addresses_lose_their_topmost_bits(address: int) -> None:
    assert not SPACE.named(address)
    assert Space.moved(address) == address & 0x7FFFFFFFFFFF


@pytest.mark.parametrize("address", [0, 0x20001000, 0x7FFFFFFFFFFF])
def test_a_users_address_stays(address: int) -> None:
    assert Space.moved(address) == address


def test_the_selector_that_verw_asks_about_is_found(tmp_path: Path) -> None:
    assert verw_selector(instruction(tmp_path, "verw there(%rip)", 64, TEXT, there=TABLE)) == TABLE
    assert verw_selector(instruction(tmp_path, "verw (%rsp)", 64, TEXT)) is None


@pytest.mark.parametrize(
    "text",
    [
        "swapgs",
        "cli",
        "sti",
        "stac",
        "clac",
        "mov %cr3, %rax",
        "mov %rsp, %cr3",
        "wrmsr",
        "mov %rax, %dr7",
        "invlpg (%rax)",
    ],
)
def test_a_privileged_instruction_becomes_a_nop_of_its_length(tmp_path: Path, text: str) -> None:
    old = instruction(tmp_path, text, 64, TEXT)
    new = without_privilege(old)
    assert new is not None
    assert len(new) == old.size
    assert shown(new).startswith(("nop", "xchg ax, ax")), shown(new)


@pytest.mark.parametrize("text", ["iretq", "hlt", "ltr %ax"])
def test_what_no_nop_stands_for_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(Unreplayable, match=hex(TEXT)):
        without_privilege(instruction(tmp_path, text, 64, TEXT))


def test_any_length_of_nops() -> None:
    for length in range(1, 40):
        code = nop(length)
        assert len(code) == length
        while code:
            decoded = Decoder(64).decode(code, 0)
            assert decoded.mnemonic == "nop" or decoded.op_str == "ax, ax"
            code = code[decoded.size :]


def test_sysret_becomes_a_jump_to_rcx(tmp_path: Path) -> None:
    old = instruction(tmp_path, "sysretq", 64, TEXT)
    new = sysret(old)
    assert new is not None
    assert len(new) == old.size
    assert Decoder(64).decode(new, 0).op_str == "rcx"
    assert sysret(instruction(tmp_path, "syscall", 64, TEXT)) is None


def test_a_table_in_the_image_is_found_at_its_new_place(tmp_path: Path) -> None:
    new = absolute_displacement(instruction(tmp_path, f"movq {TABLE:#x}(,%rax,8), %r11", 64, TEXT), SPACE)
    assert new is not None
    assert shown(new) == "mov r11, qword ptr [rax*8 + 0x2000100]"


@pytest.mark.parametrize("text", ["movq 8(%rbx), %rax", "movq -0x80(%rsp), %rax", "movq 0x1f6c0(,%rax,8), %rax"])
def test_what_is_no_address_stays_as_it_is(tmp_path: Path, text: str) -> None:
    old = instruction(tmp_path, text, 64, TEXT)
    assert rewrite(old, SPACE) == old.bytes


@pytest.mark.parametrize("space", [SPACE, LATER])
def test_a_per_cpu_variable_stays_the_same_one(tmp_path: Path, space: Space) -> None:
    """By its displacement alone and relative to RIP, in kernels before and since 6.15."""
    name = 0x1F6C0 if space is SPACE else 0xFFFFFFFF8281F6C0
    where = Space.moved((space.per_cpu + name) & (1 << 64) - 1)
    for text in (
        f"movq %gs:{name if space is SPACE else name - (1 << 64)}, %rax",
        "incq %gs:variable(%rip)",
    ):
        old = instruction(tmp_path, text, 64, TEXT, variable=name)
        new = per_cpu_displacement(old, space)
        assert new is not None
        assert len(new) == old.size
        moved = Decoder(64).decode(new, MOVED)
        memory = next(o.mem for o in moved.operands if o.type == 3)
        at = memory.disp + (MOVED + moved.size if memory.base else 0)
        assert (space.moved_per_cpu + at) & (1 << 64) - 1 == where, text


@pytest.mark.parametrize(
    ("text", "now"),
    [
        (f"movq ${TABLE - (1 << 64)}, %rdi", "mov rdi, 0x2000100"),
        (f"movabsq ${TABLE:#x}, %rdi", "movabs rdi, 0x2000100"),
        (f"cmpq ${TABLE - (1 << 64)}, %rdi", "cmp rdi, 0x2000100"),
        (f"pushq ${TABLE - (1 << 64)}", "push 0x2000100"),
    ],
)
def test_an_address_as_immediate_is_moved(tmp_path: Path, text: str, now: str) -> None:
    new = absolute_immediate(instruction(tmp_path, text, 64, TEXT), SPACE)
    assert new is not None
    assert shown(new) == now


@pytest.mark.parametrize(
    "text", ["cmpq $-4095, %rax", "movl $1, %eax", "jmp . + 0x1000", "call . - 0x1000", "movabsq $0x7ffffffff000, %rax"]
)
def test_other_immediates_and_relative_jumps_stay(tmp_path: Path, text: str) -> None:
    old = instruction(tmp_path, text, 64, TEXT)
    assert absolute_immediate(old, SPACE) is None
    assert rewrite(old, SPACE) == old.bytes


def test_an_instruction_with_two_addresses_has_both_moved(tmp_path: Path) -> None:
    old = instruction(tmp_path, f"movq ${TABLE - (1 << 64)}, {TABLE - (1 << 64)}", 64, TEXT)
    assert shown(rewrite(old, SPACE)) == "mov qword ptr [0x2000100], 0x2000100"


def test_the_interrupt_flag_is_not_asked_for(tmp_path: Path) -> None:
    """SYSENTER clears it, a process has it set always."""
    new = interrupt_flag_test(instruction(tmp_path, "testl $0x3ff728, (%rsp)", 64, TEXT))
    assert new is not None
    assert shown(new) == "test dword ptr [rsp], 0x3ff528"
    assert interrupt_flag_test(instruction(tmp_path, "testl $0x3ff728, 8(%rsp)", 64, TEXT)) is None
    assert interrupt_flag_test(instruction(tmp_path, "testl $0x100, (%rsp)", 64, TEXT)) is None


def test_addresses_in_memory_are_moved_and_nothing_else() -> None:
    words = {
        TEXT: MOVED,
        MODULE + 16: 0x40201010,
        GS: GS & 0x7FFFFFFFFFFF,
        0xFFFFC90000001000: 0x490000001000,
        0x20001000: 0x20001000,
        0xFFFFFFFFFFFFFFDA: 0xFFFFFFFFFFFFFFDA,
        0xFFFFFFFFC0999000: 0xFFFFFFFFC0999000,
    }
    page = struct.pack(f"<{len(words)}Q", *words).ljust(4096, b"\0")
    assert move_data(page, SPACE) == struct.pack(f"<{len(words)}Q", *words.values()).ljust(4096, b"\0")


def test_the_tss_has_its_stacks_at_odd_places() -> None:
    page = struct.pack("<IQ", 0x68, 0xFFFFFE0000003000).ljust(4096, b"\0")
    assert move_data(page, SPACE) == struct.pack("<IQ", 0x68, 0x7E0000003000).ljust(4096, b"\0")
