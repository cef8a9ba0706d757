# SPDX-License-Identifier: GPL-2.0-or-later
"""What makes no figure of 2.2 and 2.4: a clock that went back, and a fast path that was not taken."""

from __future__ import annotations

import pytest

from sysenter.errors import SysenterError
from sysenter.measure.legacy import without_jumps
from sysenter.measure.measurement import DdRuns, check_taken

_BACK = (2**64 - 3_000_000) / 1e6  # what the guest says of -3 s


def test_a_round_with_a_jump_is_left_out_on_both_paths() -> None:
    slow = DdRuns("int80", 1, 10, (0.3, 0.4, 0.5), (0, 1, 2))
    fast = DdRuns("fast", 1, 10, (0.1, _BACK, 0.2), (20, 21, 22))
    assert [(r.seconds, r.fast_calls) for r in without_jumps((slow, fast))] == [
        ((0.3, 0.5), (0, 2)),
        ((0.1, 0.2), (20, 22)),
    ]


def test_nothing_but_jumps_is_an_error() -> None:
    with pytest.raises(SysenterError, match="clock"):
        without_jumps((DdRuns("int80", 1, 10, (-0.1,), (0,)),))


def test_a_fast_path_that_was_not_taken_is_an_error() -> None:
    """With LD_PRELOAD the library leaves the calls to int 0x80 where it finds no module, and says nothing."""
    hints = {"fast": "this is a bug"}
    without, taken = DdRuns("int80", 1, 10, (0.3,), (0,)), DdRuns("fast", 1, 10, (0.1, 0.1), (20, 20))
    assert check_taken((without, taken), hints) == (without, taken)
    with pytest.raises(SysenterError, match="20 calls, but the module counted 0 fast ones"):
        check_taken((without, DdRuns("fast", 1, 10, (0.3, 0.3), (20, 0))), hints)
