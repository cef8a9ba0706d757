# SPDX-License-Identifier: GPL-2.0-or-later
"""The tasks behind `shell` and `exec`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from sysenter.build.native import NATIVE

__all__ = ["SHELL_TASK", "exec_task"]

SHELL_TASK = (NATIVE / "guest/tasks/shell.sh").read_text()


def exec_task(command: Sequence[str]) -> str:
    """A task that loads the module and runs a command; its status is the task's.

    One word is a line for the shell, several are a program and its arguments.
    """
    line = command[0] if len(command) == 1 else shlex.join(command)
    return f"insmod /sysenter.ko || exit 125\n{line}\n"
