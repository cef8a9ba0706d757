# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's own entry tests give with the module, on the fast path and after it what they gave before."""

from __future__ import annotations

import pytest

from guests import guest_for
from sysenter.kernels.provide import provide
from sysenter.steps import Steps
from sysenter.verify.selftests import selftests


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "kernel",
    [
        "bookworm-686",
        pytest.param("bookworm-amd64", marks=pytest.mark.long),
        pytest.param("trixie-backports-amd64", marks=pytest.mark.long),
    ],
)
def test_they_say_the_same(steps: Steps, kernel: str) -> None:
    target = provide(steps, kernel, offline=False)
    results, log = selftests(steps, guest_for(steps, target, "tcg"), offline=False)
    assert len(results) >= 15, [result.name for result in results]
    assert not [(result.name, result.outcomes) for result in results if result.differs]
    assert not log
