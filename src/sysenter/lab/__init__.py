# SPDX-License-Identifier: GPL-2.0-or-later
"""Virtual machines with a target in them. This is the door: it makes the guest that a target needs."""

from __future__ import annotations

from sysenter.errors import Refused
from sysenter.lab.accelerator import choose_accelerator
from sysenter.lab.guest import Guest
from sysenter.lab.legacy_guest import legacy_guest_for
from sysenter.lab.present_guest import PresentGuest, present_guest_for
from sysenter.steps import Steps
from sysenter.target.generation import Generation
from sysenter.target.target import Target

__all__ = ["choose_present", "guest_for", "guest_with_shell_for"]


def guest_for(steps: Steps, target: Target, accelerator: str = "auto") -> Guest:
    """Make everything that booting `target` takes, its module among it.

    accelerator: "tcg", "kvm", or "auto" for what a probe finds. Raises SysenterError for what
    this generation of kernels does not have.
    """
    match target.generation:
        case Generation.PRESENT:
            return present_guest_for(steps, target, choose_accelerator(steps, target, accelerator))
        case Generation.LEGACY:
            return legacy_guest_for(steps, target, accelerator)


def guest_with_shell_for(
    steps: Steps, target: Target, accelerator: str = "auto", *, refusal: str = "has no shell here"
) -> PresentGuest:
    """The same, for work that takes a shell and Debian's programs in the guest.

    refusal: what is said of a kernel that has none, behind its release.
    """
    return present_guest_for(steps, *choose_present(steps, target, accelerator, refusal=refusal))


def choose_present(
    steps: Steps, target: Target, accelerator: str, *, refusal: str = "has no shell here"
) -> tuple[Target, str]:
    """The target and what runs it, for work that makes its guests itself; refused as by guest_with_shell_for()."""
    if not target.generation.runs_debian:
        raise Refused(f"{target.release} {refusal}", hint="`run` and `build` take 2.2 and 2.4")
    return target, choose_accelerator(steps, target, accelerator)
