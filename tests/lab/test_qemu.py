# SPDX-License-Identifier: GPL-2.0-or-later
"""What a lost guest's console is taken for."""

from __future__ import annotations

import pytest

from sysenter.lab.qemu import stale_breakpoint

# Two lines of a real oops (7.3.4 amd64, QEMU 7.2 with two CPUs, no module in), and what makes it another one.
_STALE = """\
[    4.080501] Oops: int3: 0000 [#1] SMP NOPTI
[    4.099518] RIP: 0010:sched_clock_cpu+0x9/0x1f0
[    4.115765] Code: 90 90 f3 0f 1e fa 41 54 55 53 66 <90> e8 f1 2e ed ff 48 03 05 9a 26 13 02 48
"""


@pytest.mark.parametrize(
    ("console", "stale"),
    [
        (_STALE, True),
        (_STALE.replace("66 <90>", "cc <90>"), False),  # a breakpoint that is there: somebody's
        (_STALE.replace("int3:", "general protection fault:"), False),
        ("", False),
    ],
    ids=["not in memory", "in memory", "another oops", "silent"],
)
def test_only_a_breakpoint_that_is_not_in_memory_is_the_emulators_fault(console: str, stale: bool) -> None:
    assert stale_breakpoint(console) is stale
