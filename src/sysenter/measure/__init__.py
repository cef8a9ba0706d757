# SPDX-License-Identifier: GPL-2.0-or-later
"""The main job: dd and single calls over each entry path, on kernels of either generation."""

from __future__ import annotations

from collections.abc import Sequence

from sysenter.errors import Refused
from sysenter.lab.guest import Guest
from sysenter.lab.legacy_guest import LegacyGuest
from sysenter.lab.present_guest import PresentGuest
from sysenter.measure.legacy import measure_legacy
from sysenter.measure.measurement import Measurement
from sysenter.measure.present import measure_present
from sysenter.steps import Steps

__all__ = ["measure"]


def measure(
    steps: Steps,
    guest: Guest,
    *,
    rounds: int,
    count: int,
    block: int = 1,
    options: Sequence[str] = (),
    offline: bool = False,
    scope: str = "",
) -> Measurement:
    """Boot the guest, load the module, measure each entry path, unload.

    rounds: how often each path's dd runs. count: reads and writes of each, of `block` bytes.
    options: the module's parameters, as entry=syscall. offline: fetch nothing. scope: marked, all or both, whose
    calls are fast; "" for what can work on the guest's processor. Raises SysenterError
    if the module is refused, a call gives a wrong result, or the fast path was not really taken.
    """
    match guest:
        case PresentGuest():
            return measure_present(steps, guest, rounds=rounds, count=count, block=block, options=options, scope=scope)
        case LegacyGuest():
            if scope not in ("", "marked"):
                raise Refused(f"{guest.target.release} has no --scope {scope}", hint="present kernels have it")
            return measure_legacy(
                steps, guest, rounds=rounds, count=count, block=block, options=options, offline=offline
            )
        case _:
            raise TypeError(f"nothing measures in a {type(guest).__name__}")
