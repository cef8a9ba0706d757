# SPDX-License-Identifier: GPL-2.0-or-later
"""Real cycles: a kernel's system-call paths, replayed in a process on the processor at hand."""
