# SPDX-License-Identifier: GPL-2.0-or-later
"""Real cycles: a kernel's system-call paths, replayed in a process on the processor at hand."""

__all__ = ["NO_LEGACY"]

NO_LEGACY = (
    "what its paths differ in is the mode switch, INT and IRET against SYSENTER and SYSEXIT, which a replay leaves out"
)
