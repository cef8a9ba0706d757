# SPDX-License-Identifier: GPL-2.0-or-later
"""Which system calls take the fast path, and with how many arguments.

The rule: every call of the target's own table whose body is an ordinary C
function, that is, takes its arguments from pt_regs, returns its result, and
neither reads nor writes the rest of its caller's state. What breaks the rule is
listed in OUTSIDE, each group with its reason; those calls work as ever, by the
kernel's slow path.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from sysenter.errors import SysenterError
from sysenter.target.arch import Architecture

__all__ = ["OUTSIDE", "FastCall", "calls_header", "fast_calls"]

_LIMIT = 512  # SYSENTER_NR in native/present/abi.h

# Reason -> names of system calls (without sys_). The fast path's pt_regs is not
# complete while the body runs, its return address is fixed at entry, and its
# exit looks at work flags only.
OUTSIDE: dict[str, frozenset[str]] = {
    "copies the caller's whole pt_regs to a child": frozenset({"fork", "vfork", "clone", "clone3"}),
    "replaces the caller's registers": frozenset(
        {
            "execve",
            "execveat",
            "sigreturn",
            "rt_sigreturn",
            "vm86",
            "vm86old",
            "restart_syscall",
            "uselib",
            "uretprobe",
            "uprobe",
        }
    ),
    # in a namespace of PIDs reboot() ends the caller, which may then wait for ever for others to be reaped
    "does not return": frozenset({"exit", "exit_group", "reboot"}),
    "decides how later entries of this task are treated": frozenset(
        {"ptrace", "seccomp", "prctl", "arch_prctl", "personality", "iopl", "ioperm"}
    ),
    "changes the segments that a caller's registers name": frozenset(
        {"modify_ldt", "set_thread_area", "get_thread_area"}
    ),
    "may move the landing pad (the vDSO)": frozenset({"mremap"}),
    "looks at the caller's stack pointer": frozenset({"sigaltstack"}),
    "may remove this module, which waits until no call is inside it": frozenset({"delete_module"}),
    "is not implemented": frozenset({"ni_syscall"}),
}
_OUTSIDE = frozenset().union(*OUTSIDE.values())

_ENTRY = re.compile(r"^__SYSCALL\w*\((\d+),\s*(\w+)")
_PROTOTYPE = re.compile(r"asmlinkage\s+long\s+sys_(\w+)\s*\(([^;]*?)\)\s*;")


@dataclass(frozen=True)
class FastCall:
    """One row of the fast table."""

    nr: int
    """The system call's number."""
    arguments: int
    """How many, 0 to 6, counted in registers."""
    symbol: str
    """The kernel's function, which takes a struct pt_regs."""


def _words(parameter: str, bits: int) -> int:
    return 2 if bits == 32 and re.search(r"\b(loff_t|u64|__u64|s64)\b(?![^,]*\*)", parameter) else 1


def _arity(headers: Path, bits: int) -> dict[str, int]:
    """Registers that each call's arguments take, from the kernel's prototypes."""
    text = (headers / "include/linux/syscalls.h").read_text(errors="replace")
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    arity = {}
    for name, parameters in _PROTOTYPE.findall(text):
        flat = " ".join(parameters.split())
        arity[name] = 0 if flat in ("", "void") else sum(_words(p, bits) for p in flat.split(","))
    return arity


def fast_calls(table: Path, headers: Path, arch: Architecture) -> tuple[FastCall, ...]:
    """Apply the rule to a kernel.

    table: its generated asm/syscalls_32.h or _64.h; headers: the tree with
    include/linux. A call whose prototype is not there is taken to have six arguments, the widest form. Raises
    SysenterError if the table has another form.
    """
    arity = _arity(headers, arch.bits)
    calls = []
    for line in table.read_text(errors="replace").splitlines():
        match = _ENTRY.match(line)
        if not match:
            continue
        nr, name = int(match[1]), match[2].removeprefix("sys_")
        if nr < _LIMIT and name not in _OUTSIDE:
            calls.append(FastCall(nr, min(arity.get(name, 6), 6), f"{arch.call_prefix}sys_{name}"))
    if not calls:
        raise SysenterError(
            f"{table}: no __SYSCALL lines in it", hint="give the headers that this kernel was built with"
        )
    return tuple(calls)


def calls_header(calls: tuple[FastCall, ...]) -> str:
    """calls.h, which native/present/calls.c includes."""
    return "".join(f"FAST_CALL({c.nr}, {c.arguments}, {c.symbol})\n" for c in calls)
