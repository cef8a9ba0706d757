# SPDX-License-Identifier: GPL-2.0-or-later
"""What an instruction of a call's path is for.

Never guessed: it is read from the piece that it is a part of (pieces.py), from what the
instruction is, from the kernel's name for the function, or from the line of the module's
own source. An instruction of which none of these tells is `other`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sysenter.replay.source import Line

__all__ = ["KINDS", "Purpose", "purpose_of"]

KINDS = {
    "stub": "the program's own part",
    "switch": "mode switch: into the kernel or out of it, its GS, its interrupts",
    "frame": "the caller's registers, saved and restored",
    "mitigation": "against a fault of the processor",
    "check": "a test: is there anything else to do?",
    "dispatch": "from the number to the function",
    "body": "the call's own work",
    "nop": "a NOP: a mitigation or a hook that the kernel has patched out",
    "other": "nothing tells what it is for",
}


@dataclass(frozen=True)
class Purpose:
    """What an instruction is for, and what says so."""

    kind: str
    """One of KINDS."""
    why: str
    """In a few words; may be empty."""
    by: str
    """piece, instruction, symbol or source: what says so; "" for `other`."""


# The pieces of pieces.py.
_PIECES = {
    "registers cleared at the entry": "mitigation",
    "registers cleared at the exit": "mitigation",
    "dispatch: a direct call of the body instead": "dispatch",
    "RDTSC (for the stack offset)": "mitigation",
    "stack offset drawn": "mitigation",
    "stack offset taken off": "mitigation",
    "second stack at the exit": "mitigation",
    "VERW": "mitigation",
    "ds and es loaded": "frame",
    "r12 to r15 kept": "frame",
    "calls counted": "other",
    "enter work": "check",
    "exit work": "check",
    "exit work: the FPU's state looked at": "check",
    "exit work looked for": "check",
    "odd flags looked for": "check",
    "the one comparison (work, frame, address, number)": "check",
    "may SYSRET be used?": "check",
}
# What an instruction is, wherever it stands but in the body (AT&T syntax).
_INSTRUCTIONS = (
    (r"(syscall|sysenter|int \$0x80|sysret\w?|sysexit\w?|iret\w?)$", "switch", "the mode switch itself"),
    (r"(\w+ )?nop\w?\b|lea\w? (%ds:)?\(%esi\), %esi$|movl %esi, %esi$", "nop", ""),
    (r"verw ", "mitigation", "VERW: the processor's buffers cleared (MDS and its kin)"),
    (r"swapgs$", "switch", "GS: the kernel's for the user's"),
    (r"(cli|sti)$", "switch", "interrupts off or on"),
    (r"cld$", "switch", "the direction flag as compiled code wants it"),
    (r"(stac|clac)$", "mitigation", "SMAP: the user's memory out of reach"),
    (r"endbr(32|64)$", "mitigation", "IBT: where an indirect branch may land"),
    (r"mov\w? .*%cr3", "mitigation", "page-table isolation: CR3"),
    (r"bts\w? \$0x3f, ", "mitigation", "page-table isolation: no flush of this PCID"),
    (r"lfence$", "mitigation", "no speculation beyond it"),
    (r"wrmsr$", "mitigation", "IBRS: MSR_IA32_SPEC_CTRL written"),
    (r"sbb\w? (%\w+), \1$", "mitigation", "the number masked, also for speculation (CVE-2017-5753)"),
    (r"rdtsc$", "mitigation", "stack offset: the time-stamp counter"),
)
_MITIGATIONS = (
    (r"clear_bhb_loop$", "branch history cleared (BHI)"),
    (r"\w*untrain_ret\w*$|srso_\w+$|entry_ibpb$", "returns untrained (retbleed, SRSO)"),
    (r"(__x86_return_thunk|its_return_thunk)$", "a return that can be patched (retbleed, SRSO, ITS)"),
    (r"__x86_indirect_\w+$|__x86_call_thunk\w*$|its_\w*thunk\w*$", "retpoline (Spectre v2)"),
    (r"(prandom_u32_state|get_random_u8)$", "stack offset drawn"),
    (r"amd_clear_divider$", "the divider's last quotient (Zen 1)"),
)
_SYMBOLS = (
    (r"(x64|ia32)_sys_call$|sysenter_dispatch$", "dispatch", ""),
    (
        r"(syscall_)?enter_from_user_mode|syscall_trace_enter",
        "check",
        "ptrace, seccomp, audit, tracepoints",
    ),
    (r"syscall_exit_to_user_mode|syscall_exit_work", "check", "ptrace, audit, tracepoints"),
    (
        r"exit_to_user_mode|irqentry_exit|prepare_exit_to_usermode",
        "check",
        "signals, a reschedule",
    ),
    (r"fpregs_assert_state_consistent$", "check", "is the FPU's state the task's?"),
    (r"(sync_regs|fixup_bad_iret)$", "frame", "the frame moved to the task's stack"),
)
_ENTRY = re.compile(
    r"(entry_|asm_|swapgs_restore_regs|common_interrupt_return|restore_all|syscall_return|ret_from|error_|\.Lsys)", re.I
)
_MACROS = {
    "KERNEL_CR3": ("mitigation", "page-table isolation: CR3"),
    "USER_CR3": ("mitigation", "page-table isolation: CR3"),
    "ENTRY_MITIGATIONS": ("mitigation", "IBRS and branch history at the entry, where the kernel applies them"),
    "EXIT_MITIGATIONS": ("mitigation", "IBRS and VMSCAPE at the exit, where the kernel applies them"),
    "DRAW_STACK_OFFSET": ("mitigation", "stack offset: the next call's drawn"),
    "BUILD_FRAME": ("frame", "the frame's first words"),
    "LOOK_AT_SCOPE": ("check", "whose call is it?"),
    "LOOK_AT_SEGMENTS": ("check", "are ds and es as nearly everybody's?"),
    "SET_ARITHMETIC_FLAGS": ("frame", "the caller's arithmetic flags"),
}
_COMPARES = re.compile(r"(cmp|test|bt)[bwlq]? ")
_BRANCHES = re.compile(r"j(?!mp)\w+ ")
_LOOKS = re.compile(r"TASK_(syscall_work|ti_flags|unwind)|EXIT_WORK|X86_EFLAGS_TF|sysenter_(all_slow|expected|kinds)")
_STACK = re.compile(r"mov\w? .*, %[re]sp$|mov\w? %[re]sp, %[gf]s:")
_CLEARS = re.compile(r"xor\w? %(\w+), %\1$")
_SAVES = re.compile(r"(push|pop)[flqw]* ?|(mov|cs mov)\w? .*\(%[re]?(sp|bx|bp|di)\)|popf|pushf")


def _of_source(line: Line) -> Purpose | None:
    for macro in line.macros:
        if macro in _MACROS:
            kind, why = _MACROS[macro]
            return Purpose(kind, line.comment or why, "source")
    text = line.text
    if re.search(r"\$\(SYSENTER_NR - 1\)", text) and text.startswith("and"):
        return Purpose("mitigation", "the number masked, also for speculation (CVE-2017-5753)", "source")
    if re.search(r"sysenter_kstack_offset|[48] \* 25[56]", text):
        return Purpose("mitigation", "stack offset", "source")
    if "FRAME_SS" in text and text.startswith("mov"):
        return Purpose("frame", line.comment or "the word that says who is inside", "source")
    if re.search(r"FRAME\(|PT_(?!SIZE)\w+\(|%fs$", text) and text.startswith("mov"):
        return Purpose("frame", line.comment, "source")
    if re.search(
        r"TASK_(syscall_work|ti_flags|unwind)|EXIT_WORK|X86_EFLAGS_TF|sysenter_(all_slow|expected|kinds)", text
    ):
        return Purpose("check", line.comment, "source")
    if "sysenter_count" in text:
        return Purpose("other", "the call is counted", "source")
    if "dispatch" in line.macros or "runs the body" in line.comment:
        return Purpose("dispatch", line.comment, "source")
    return None


def purpose_of(lane: str, symbol: str, text: str, *, piece: str = "", line: Line | None = None) -> Purpose:
    """What one instruction is for.

    symbol: the function that it is in; text: in AT&T syntax; line: of the module's source, if it is the module's.
    """
    comment = line.comment if line else ""
    switch, *others = _INSTRUCTIONS
    if re.match(switch[0], text):
        return Purpose(switch[1], switch[2], "instruction")
    if lane == "user":
        return Purpose("stub", "", "instruction")
    for pattern, why in _MITIGATIONS:
        if re.match(pattern, symbol):
            return Purpose("mitigation", why, "symbol")
    if lane == "body":
        return Purpose("body", "", "symbol")
    for pattern, kind, why in others:
        if re.match(pattern, text):
            return Purpose(kind, comment or why, "instruction")
    if piece in _PIECES:
        return Purpose(_PIECES[piece], comment or piece.partition(":")[0], "piece")
    for pattern, kind, why in _SYMBOLS:
        if re.match(pattern, symbol):
            return Purpose(kind, why, "symbol")
    if line and (found := _of_source(line)):
        return found
    entry = line is not None or bool(_ENTRY.match(symbol))
    if entry and (match := re.match(r"mov\w? .*, %([defg]s)$", text)):
        return Purpose("frame", comment or f"{match[1]} loaded", "instruction")
    if entry and text.startswith("rep movs"):
        return Purpose("frame", "the frame copied to another stack", "instruction")
    if entry and _CLEARS.match(text):
        return Purpose("mitigation", comment or "a register of the caller's cleared", "instruction")
    if entry and _STACK.match(text):
        return Purpose("switch", comment or "the stack: the user's or the kernel's", "instruction")
    if _COMPARES.match(text) or _BRANCHES.match(text):
        return Purpose("check", comment, "instruction")
    if entry and _SAVES.match(text):
        return Purpose("frame", comment, "instruction")
    return Purpose("other", comment, "source" if comment else "")
