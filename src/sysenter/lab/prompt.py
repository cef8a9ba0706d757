# SPDX-License-Identifier: GPL-2.0-or-later
"""The tasks behind `shell` and `exec`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from sysenter.build.native import NATIVE
from sysenter.lab.loading import LOAD

__all__ = ["EXEC_TASK", "SHELL_TASK", "command_line"]

SHELL_TASK = (NATIVE / "guest/tasks/shell.sh").read_text()


# Loads the module with $options and runs /command; channels.c says what comes out.
EXEC_TASK = f"{LOAD}load_module\n/lib/sysenter/channels sh /command\n"


def command_line(command: Sequence[str]) -> str:
    """What a user wants run, for the guest's shell: one word is a line for it, several are a program and its
    arguments."""
    return f"{command[0] if len(command) == 1 else shlex.join(command)}\n"
