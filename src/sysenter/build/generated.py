# SPDX-License-Identifier: GPL-2.0-or-later
"""The two headers that are written for a kernel before its module is built: calls.h and target.h.

Used here and, on a machine where the module is installed, by DKMS: nothing but the
standard library and what reads a kernel image is needed.
"""

from __future__ import annotations

from pathlib import Path

from sysenter.build.calls import calls_header, fast_calls
from sysenter.errors import SysenterError
from sysenter.target.arch import Architecture
from sysenter.target.target import Guard

__all__ = ["common_headers", "generated_headers"]


def common_headers(headers: Path) -> Path:
    """The tree with include/linux: the headers themselves, or Debian's -common."""
    if (headers / "include/linux/syscalls.h").exists():
        return headers
    makefile = headers / "Makefile"
    for word in makefile.read_text(errors="replace").split() if makefile.exists() else ():
        tree = Path(word).parent
        if word.endswith("/Makefile") and (tree / "include/linux/syscalls.h").exists():
            return tree
    raise SysenterError(f"{headers}: no include/linux/syscalls.h", hint="headers must be the kernel's configured tree")


def target_header(guard: Guard) -> str:
    """target.h, which native/present/guard.c includes."""
    return (
        "/* Written by sysenter.build.generated from the kernel image: the guard's values. */\n"
        f'#define TARGET_RELEASE\t\t"{guard.release}"\n'
        f'#define TARGET_VERSION\t\t"{guard.version}"\n'
        f"#define TARGET_SOCK_REGISTER\t0x{guard.sock_register:x}UL\n"
        f"#define TARGET_STEXT\t\t0x{guard.stext:x}UL\n"
        f'#define TARGET_BUILD_ID\t\t"{guard.build_id}"\n'
    )


def generated_headers(guard: Guard, headers: Path, arch: Architecture) -> dict[str, str]:
    """File name to text, for the kernel with this guard and these headers.

    Raises SysenterError if the headers are not a configured and built tree.
    """
    generated = headers / "arch/x86/include/generated/asm" / arch.call_table
    if not generated.exists():
        raise SysenterError(f"{generated} is missing", hint="headers must be the kernel's configured and built tree")
    calls = fast_calls(generated, common_headers(headers), arch)
    return {"calls.h": calls_header(calls), "target.h": target_header(guard)}
