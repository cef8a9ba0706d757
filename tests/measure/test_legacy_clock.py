# SPDX-License-Identifier: GPL-2.0-or-later
"""A clock that went back makes no figure: the round counts for no path."""

from __future__ import annotations

import pytest

from sysenter.errors import SysenterError
from sysenter.measure.legacy import without_jumps
from sysenter.measure.measurement import DdRuns

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
