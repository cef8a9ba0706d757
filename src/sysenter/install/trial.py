# SPDX-License-Identifier: GPL-2.0-or-later
"""The first load: what can be known before it, the load, and a few thousand calls held against stock.

What is looked at before is what would make the load fail, so that the reason is told in one
line; the module itself looks again, since only it is asked at a boot.
"""

from __future__ import annotations

import os
import re

from sysenter.errors import SysenterError
from sysenter.install.files import LIBRARY
from sysenter.install.machine import LOADED, read_word, signatures_enforced
from sysenter.install.status import status
from sysenter.processes import cleaning_up, output_of
from sysenter.steps import Steps, run_command

__all__ = ["check_before_load", "try_now"]


def check_before_load() -> None:
    """See that the running kernel has a module of its own and may load it. Raises SysenterError, naming what is
    in the way.
    """
    found = status()
    running = next((kernel for kernel in found.kernels if kernel.running), None)
    release = os.uname().release
    if running is None or running.state == "not built":
        raise SysenterError(
            f"there is no module for the running kernel, {release}",
            hint=running.reason if running else "is its image in /boot? Then: ./sysenter install",
        )
    if running.state == "refused":
        raise SysenterError(
            f"there is no module for {release}: {running.reason}", hint="mend that, then ./sysenter install again"
        )
    if running.state == "stale":
        raise SysenterError(
            f"the module is not of the image that /boot has for {release} ({running.reason})",
            hint="reboot if the kernel has been updated, then ./sysenter install again",
        )
    if read_word("/proc/sys/kernel/modules_disabled") == "1":
        raise SysenterError("this kernel loads no more modules (kernel.modules_disabled)", hint="reboot without it")


def _refusals() -> list[str]:
    return re.findall(r"sysenter: refused: (.*)", output_of(["dmesg"]))


def _load(steps: Steps, release: str) -> None:
    hint = "`dmesg | grep sysenter` says why"
    if signatures_enforced():
        hint = (
            "this kernel loads signed modules only: mokutil --import /var/lib/dkms/mok.pub, reboot and confirm; "
            "`./sysenter status` shows the signer"
        )
    before = len(_refusals())  # an earlier load's reason may be another
    with steps.step(f"load the module into {release}"):
        try:
            run_command(steps, ["modprobe", "sysenter"], what="load the module", timeout=60, hint=hint)
        except SysenterError as error:
            said = _refusals()[before:]
            if not said or signatures_enforced():
                raise
            raise SysenterError(
                f"the module refuses this machine: {said[-1]}", hint=hint, detail=error.detail
            ) from error


def _compare(steps: Steps) -> None:
    try:
        run_command(
            steps,
            [LIBRARY / "trial"],
            what="the trial",
            timeout=60,
            hint="this is a bug: report it with the lines above",
        )
    except SysenterError as error:
        why = error.detail.rpartition("sysenter: no fast path to try: ")[2]  # its status 2
        if why == error.detail:
            raise
        raise SysenterError(
            f"no fast path to try: {why}", hint="programs run as on the stock kernel; mend that, then try again"
        ) from error


def try_now(steps: Steps) -> None:
    """Load the module now, and hold its answers against stock's; unload it if anything differs, or at Ctrl-C."""
    was_loaded = LOADED.exists()
    if was_loaded:
        steps.say("         the module is loaded already: it is tried as it is (`rmmod sysenter` first: loaded anew)")
    else:
        check_before_load()
    try:
        if not was_loaded:
            _load(steps, os.uname().release)
        with steps.step("a few thousand calls by the fast path, held against stock"):
            _compare(steps)
    except BaseException as error:
        # HAZARD: what was not tried to its end must not stay loaded. What the user had loaded stays at Ctrl-C.
        if LOADED.exists() and (isinstance(error, SysenterError) or not was_loaded):
            with cleaning_up():
                _unload(steps, error)
        raise


def _unload(steps: Steps, error: BaseException) -> None:
    """Unload the module after a trial that ended with an error. Raises one that tells of both if it stays."""
    try:
        run_command(steps, ["rmmod", "sysenter"], what="unload the module", timeout=60)
        steps.say("         the module is unloaded again")
    except SysenterError as stays:
        detail = "\n".join(filter(None, (getattr(error, "detail", ""), stays.detail)))
        raise SysenterError(
            f"{error or type(error).__name__}; and the module is still loaded: {stays.message}",
            hint="rmmod sysenter, or reboot",
            detail=detail,
        ) from error
