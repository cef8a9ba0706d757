# SPDX-License-Identifier: GPL-2.0-or-later
"""The tasks behind `shell` and `exec`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from sysenter.build.native import NATIVE
from sysenter.lab.loading import LOAD

__all__ = ["SHELL_TASK", "exec_task"]

SHELL_TASK = (NATIVE / "guest/tasks/shell.sh").read_text()


def exec_task(command: Sequence[str]) -> str:
    """A task that loads the module and runs a command; its status is the task's, once the
    module is loaded (sysenter.lab.loading, check_loaded).

    One word is a line for the shell, several are a program and its arguments.
    """
    line = command[0] if len(command) == 1 else shlex.join(command)
    return f"{LOAD}load_module\n{line}\n"
