# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest's log shows: tests rest on it."""

from __future__ import annotations

import pytest

from guests import guest_for
from sysenter.kernels.provide import provide
from sysenter.lab.loading import LOAD
from sysenter.steps import Steps


@pytest.mark.parametrize("kernel", ["bookworm-686", "trixie-backports-amd64"])
def test_a_kernels_warning_reaches_the_log_that_is_read(steps: Steps, kernel: str) -> None:
    """WARN() logs at level 4; a clean log says something only if such a line would be in it. What a kernel says of its
    processor before anything is loaded is none. What it says before the module is loaded is its own."""
    guest = guest_for(steps, provide(steps, kernel, offline=False), "tcg")
    task = LOAD + "echo '<4>WARNING: CPU: 0 PID: 1 at a test' >/dev/kmsg\n"
    task += "echo '<4>RETBleed: WARNING: Spectre v2 mitigation leaves CPU vulnerable' >/dev/kmsg\nload_module\n"
    task += "echo '<4>WARNING: CPU: 0 PID: 1 with the module' >/dev/kmsg\n"
    output = guest.run(steps, task, {}, what="a warning", timeout=60)
    assert "leaves CPU vulnerable" in output.console
    before, after = output.bad_lines()
    assert "at a test" in before
    assert "with the module" in after
    assert output.bad_lines_by() == ([before], [after])
