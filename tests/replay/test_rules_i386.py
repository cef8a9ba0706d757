# SPDX-License-Identifier: GPL-2.0-or-later
"""Each rule by which an i386 kernel's instructions run in a 32-bit process."""

from __future__ import annotations

from pathlib import Path

import pytest

from assembled import instruction
from sysenter.replay.operands import Decoder
from sysenter.replay.rules import verw_selector
from sysenter.replay.rules_i386 import rewrite, selector_in_memory, sysexit

TEXT = 0xC1123450


def shown(code: bytes) -> str:
    decoded = Decoder(32).decode(code, TEXT)
    assert decoded.size == len(code)
    return f"{decoded.mnemonic} {decoded.op_str}"


def test_sysexit_becomes_a_jump_to_edx(tmp_path: Path) -> None:
    new = sysexit(instruction(tmp_path, "sysexit", 32, TEXT))
    assert new is not None
    assert shown(new) == "jmp edx"


@pytest.mark.parametrize(
    ("text", "now"),
    [("movl $0x7b, %eax", "mov eax, 0x2b"), ("movl $0xd8, %eax", "mov eax, 0x6b"), ("cmpw $0x7b, %ax", "cmp ax, 0x2b")],
)
def test_the_entry_codes_selectors_are_the_processes(tmp_path: Path, text: str, now: str) -> None:
    old = instruction(tmp_path, text, 32, TEXT)
    assert shown(rewrite(old, entry_code=True)) == now
    assert rewrite(old, entry_code=False) == old.bytes, "elsewhere the number is some other"


def test_a_selector_in_memory_is_found_where_it_is_loaded(tmp_path: Path) -> None:
    assert selector_in_memory(instruction(tmp_path, "movw %cs:0xd0801234, %ds", 32, TEXT)) == 0xD0801234
    assert selector_in_memory(instruction(tmp_path, "movw 0xd0801234, %fs", 32, TEXT)) == 0xD0801234
    assert selector_in_memory(instruction(tmp_path, "movw 4(%esp), %ds", 32, TEXT)) is None
    assert selector_in_memory(instruction(tmp_path, "movl 0xd0801234, %eax", 32, TEXT)) is None


def test_the_selector_that_verw_asks_about_is_found(tmp_path: Path) -> None:
    assert verw_selector(instruction(tmp_path, "verw %cs:0xd0801234", 32, TEXT)) == 0xD0801234
    assert verw_selector(instruction(tmp_path, "verw 4(%esp)", 32, TEXT)) is None
    assert verw_selector(instruction(tmp_path, "verr 0xd0801234", 32, TEXT)) is None


def test_a_privileged_instruction_becomes_a_nop(tmp_path: Path) -> None:
    assert shown(rewrite(instruction(tmp_path, "sti", 32, TEXT), entry_code=True)).startswith("nop")
