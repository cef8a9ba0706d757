# SPDX-License-Identifier: GPL-2.0-or-later
"""Loading the module in a guest, and saying why it was refused."""

from __future__ import annotations

from sysenter.build.native import NATIVE
from sysenter.errors import Refused
from sysenter.lab.guest import Output

__all__ = ["LOAD", "check_loaded"]

# The beginning of a task: defines load_module, which ends it where the module is refused.
LOAD = (NATIVE / "guest/tasks/load.sh").read_text()
_REFUSED = 3  # the task's status then


def check_loaded(output: Output) -> None:
    """Raise Refused, with the module's own reason, if load_module ended the task."""
    if output.status != _REFUSED or output.of("loaded"):
        return
    raise Refused(
        f"the module was not accepted: {output.refusal() or next(iter(output.text), 'the kernel would not load it')}",
        hint="`./sysenter shell` gives a prompt in this guest",
        detail="\n".join(dict.fromkeys(output.text[-4:])),
    )
