# SPDX-License-Identifier: GPL-2.0-or-later
"""Virtual machines with a target in them. These functions make the guest that a target needs."""

from __future__ import annotations

from dataclasses import replace

from sysenter.errors import Refused
from sysenter.kernels.catalogue import CATALOGUE
from sysenter.lab.accelerator import choose_accelerator
from sysenter.lab.guest import Guest
from sysenter.lab.legacy_guest import legacy_guest_for
from sysenter.lab.present_guest import PresentGuest, present_guest_for
from sysenter.lab.qemu import vendor
from sysenter.steps import Steps
from sysenter.target.arch import AMD64
from sysenter.target.generation import Generation
from sysenter.target.target import Target

__all__ = ["choose_present", "guest_for", "guest_with_shell_for"]

_AMDS = "EPYC"  # TCG has this model too: the guest that counts instructions runs on it


def guest_for(steps: Steps, target: Target, accelerator: str = "auto") -> Guest:
    """Make everything that booting `target` takes, its module among it.

    accelerator: "tcg", "kvm", or "auto" for what a probe finds. Raises SysenterError for what
    this generation of kernels does not have.
    """
    match target.generation:
        case Generation.PRESENT:
            return present_guest_for(steps, *_chosen(steps, target, accelerator))
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
    return _chosen(steps, target, accelerator)


def _chosen(steps: Steps, target: Target, wanted: str) -> tuple[Target, str]:
    """The target, with a processor model that works with its accelerator, and that accelerator.

    An AMD processor executes no SYSENTER in 64-bit mode, and with KVM that is so in the guest too, whatever
    model CPUID shows there. With the catalogue's model of an Intel processor the module would be refused. A
    model that the user named with --cpu is not changed.
    """
    accelerator = choose_accelerator(steps, target, wanted)
    own = next((entry.cpu for entry in CATALOGUE if entry.name == target.name), "")
    if accelerator == "kvm" and target.arch is AMD64 and target.cpu == own and vendor("host") != vendor(own):
        steps.say(f"         this processor is not Intel's: the guest has a model of AMD's, {_AMDS}, and not {own}")
        target = replace(target, cpu=_AMDS)
    return target, accelerator
