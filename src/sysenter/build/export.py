# SPDX-License-Identifier: GPL-2.0-or-later
"""The single file for Linux 2.2 and 2.4: C to a compiler, a script to a shell.

A shell takes the first line, `#if 0`, for a comment and runs what follows up to
its `exit`; a compiler skips just that. Behind it stand the sources that the lab
builds from, unchanged, each in a preprocessor section of its own; a compiler
that is given no section's name compiles the preload library.
"""

from __future__ import annotations

from sysenter.build.native import NATIVE

__all__ = ["single_file"]

_FOLDER = NATIVE / "legacy"
_FILES = (
    "build.sh",
    "legacy.h",
    "module.h",
    "taskgate.h",
    "offsets.c",
    "entry.S",
    "syscall.S",
    "main.c",
    "guard.c",
    "cpus.c",
    "gates.c",
    "way_tss.c",
    "way_cruel.c",
    "way_gentle.c",
    "taskgate.c",
    "copy.c",
    "unload.c",
    "proc.c",
    "preload.c",
    "gain.c",
)
_DEFAULT = "preload.c"


def _section(name: str, text: str) -> str:
    macro = "SYSENTER_FILE_" + name.replace(".", "_")
    condition = f"#if defined({macro})"
    if name == _DEFAULT:
        condition = "#if !defined(SYSENTER_ASSEMBLY) && !defined(__KERNEL__)"
    if not text.endswith("\n"):
        raise ValueError(f"{name} does not end with a newline")
    return f"/* FILE {name} */\n{condition}\n{text}#endif\n/* END {name} */\n"


def single_file() -> str:
    """The text of sysenter.c."""
    # the script opens with what the file is; of the two licence lines the first is enough
    licence, head = (_FOLDER / "head.sh").read_text().split("\n", 1)
    script = (_FOLDER / "install.sh").read_text().removeprefix(f"{licence}\n")
    sections = "".join(_section(name, (_FOLDER / name).read_text()) for name in _FILES)
    return f"#if 0\n{licence}\n{head}\n{script}exit 0\n#endif\n{sections}"
