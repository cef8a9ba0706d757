# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds the module and the guest's programs, for kernels of either generation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sysenter.steps import Steps
from sysenter.target.generation import Generation

if TYPE_CHECKING:
    from sysenter.build.module import Module
    from sysenter.target.target import Target

__all__ = ["build_module"]


def build_module(steps: Steps, target: Target) -> Module:
    """Build the module for `target`, or take the one built before.

    Raises SysenterError with the compiler's last lines if it does not build.
    """
    # Here, so that `export` needs no Python packages.
    from sysenter.build.legacy import build_legacy_module
    from sysenter.build.present import build_present_module

    match target.generation:
        case Generation.PRESENT:
            return build_present_module(steps, target)
        case Generation.LEGACY:
            return build_legacy_module(steps, target)
