# SPDX-License-Identifier: GPL-2.0-or-later
"""The tasks behind `shell` and `exec`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

__all__ = ["SHELL_TASK", "exec_task"]

SHELL_TASK = """
export PS1='guest# '
cat <<'END'

A real kernel, and the module for it at hand:
    insmod /sysenter.ko                              load; rmmod sysenter unloads
    /lib/sysenter/calls                              cost of single calls on each path
    LD_PRELOAD=/lib/sysenter/libsysenter.so /gnu/bin/dd if=/dev/zero of=/dev/null bs=1 count=100000
    cat /sys/module/sysenter/parameters/calls        fast calls made
`exit` switches the machine off; Ctrl-A X ends it at once.

END
setsid cttyhack sh -i
"""


def exec_task(command: Sequence[str]) -> str:
    """A task that loads the module and runs a command; its status is the task's.

    One word is a line for the shell, several are a program and its arguments.
    """
    line = command[0] if len(command) == 1 else shlex.join(command)
    return f"insmod /sysenter.ko || exit 125\n{line}\n"
