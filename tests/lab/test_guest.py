# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest's log shows: tests rest on it. What `exec` prints of a guest that is started again."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest

from guests import guest_for
from sysenter.kernels.provide import provide
from sysenter.lab.loading import LOAD
from sysenter.lab.present_guest import PresentGuest
from sysenter.lab.qemu import GuestLost, Result
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


@pytest.mark.parametrize("written", [True, False])
def test_a_guest_that_begins_anew_prints_nothing_twice(
    monkeypatch: pytest.MonkeyPatch, steps: Steps, guest: PresentGuest, written: bool
) -> None:
    """QEMU's own fault may end a guest in the midst of a command, and what it wrote is on the user's terminal."""
    loaded, hello, status = '{"loaded": true}', '{"out": "aGVsbG8K"}', '{"status": 0}'

    def twice(*given: Any) -> Result:
        on_line: Callable[[str], object] = given[-2]
        told = [line for line in (loaded, *[hello] * written, loaded, hello, status) if not on_line(line)]
        return Result((*told, '{"exit": 0}'), "", 1.0)

    monkeypatch.setattr(PresentGuest, "_start", twice)
    out = io.BytesIO()
    if written:
        with pytest.raises(GuestLost, match="in the midst"):
            guest.execute(steps, ["echo hello"], out, out, timeout=1)
    else:
        assert guest.execute(steps, ["echo hello"], out, out, timeout=1) == 0
    assert out.getvalue() == b"hello\n"
