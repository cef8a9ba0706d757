# SPDX-License-Identifier: GPL-2.0-or-later
"""KVM where it really boots a guest, else TCG.

/dev/kvm can be there, open, and still not run an unmodified kernel (nested and
restricted virtualisation), so nothing but a boot tells.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from sysenter.cache import UNREADABLE, cache_folder, digest, write_whole
from sysenter.lab.present_guest import present_guest_for
from sysenter.lab.qemu import GuestLost, qemu_program
from sysenter.steps import Steps
from sysenter.target.target import Target

__all__ = ["choose_accelerator"]

_PROBE_SECONDS = 8.0  # a kernel that KVM runs is in its userland within two


def choose_accelerator(steps: Steps, target: Target, wanted: str) -> str:
    """ "kvm" or "tcg" for a present kernel: as the user wants, or with "auto" what a probe finds.

    A probe's answer is kept until the host boots anew.
    """
    if wanted != "auto":
        return wanted
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text()
    # What the user adds may be why a guest does not boot: it says nothing about one without it.
    qemu = qemu_program(target.arch.qemu_for(target.cpu))
    parts = [boot_id, target.release, target.cpu, target.append, *target.qemu_args, qemu]
    kept = cache_folder() / "accelerator" / f"{digest(parts)}.json"
    try:
        return str(json.loads(kept.read_text())["accelerator"])
    except UNREADABLE:
        pass
    answer = "kvm"
    guest = present_guest_for(steps, target, "kvm")  # what fails here says nothing about KVM
    with steps.step("probe whether KVM boots a guest here"):
        try:
            guest.run(steps, "true", what="the KVM probe", timeout=_PROBE_SECONDS)
        except GuestLost:
            answer = "tcg"
    if answer == "tcg":
        steps.say("         it does not: emulating with TCG")
    write_whole(kept, json.dumps({"accelerator": answer}))
    return answer
