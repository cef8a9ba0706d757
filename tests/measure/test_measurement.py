# SPDX-License-Identifier: GPL-2.0-or-later
"""A ratio is of pairs, so a host that drifts does not change it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysenter.measure.measurement import paired_ratio

_TIME = st.floats(0.01, 100)


@given(st.lists(_TIME, min_size=1, max_size=9), st.floats(0.5, 4))
def test_a_host_that_drifts_does_not_change_the_ratio(fast: list[float], ratio: float) -> None:
    assert paired_ratio([f * ratio for f in fast], fast) == pytest.approx(ratio)


def test_one_bad_round_does_not_decide() -> None:
    assert paired_ratio([1.5, 1.5, 9.0, 1.5, 1.5], [1.0, 1.0, 1.0, 1.0, 1.0]) == 1.5


def test_no_rounds_are_no_ratio() -> None:
    with pytest.raises(ValueError, match="no rounds"):
        paired_ratio([], [])
