# SPDX-License-Identifier: GPL-2.0-or-later
"""Uninstall: the module unloaded, DKMS's builds and our files gone. Idempotent."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from sysenter.errors import SysenterError
from sysenter.install import dkms
from sysenter.install.files import Manifest, alone, read_manifest, take_away, what_stands
from sysenter.install.machine import LOADED, packaged, read_word
from sysenter.steps import Steps, run_command

__all__ = ["holders", "remove_all", "uninstall", "unload"]

_LIMIT = 30  # seconds that an unload may take
# HAZARD: an unload that waits, for a virtual machine say, cannot be killed, and whoever had started it would wait, too.
_RMMOD = """rmmod sysenter </dev/null >/dev/null 2>&1 &
for tenth in $(seq $(($0 * 10))); do
	kill -0 $! 2>/dev/null || exit 0
	sleep 0.1
done
exit 1"""


def holders() -> list[str]:
    """The processes that have the module's page mapped, and so hold it: "PID (NAME)"."""
    found = []
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            if "/dev/sysenter" in maps.read_text(errors="replace"):
                found.append(f"{maps.parent.name} ({(maps.parent / 'comm').read_text().strip()})")
        except OSError:
            continue  # it has ended
    return found


def unload(steps: Steps, wait: float) -> None:
    """Unload the module if it is loaded, waiting `wait` seconds for whoever holds it. Raises SysenterError."""
    deadline = time.monotonic() + wait
    while LOADED.exists():
        try:
            run_command(steps, ["sh", "-c", _RMMOD, str(_LIMIT)], what="unload the module", timeout=2 * _LIMIT)
        except SysenterError as error:
            if read_word(f"{LOADED}/initstate") == "going":
                raise SysenterError(
                    "the module is on its way out, and waits for a call, a virtual machine or another module",
                    hint="`dmesg | grep sysenter` says for whom; end that, then uninstall again",
                ) from error
        if LOADED.exists() and time.monotonic() >= deadline:
            who = ", ".join(holders()[:5])
            raise SysenterError(
                f"the module is in use{f' by {who}' if who else ''}",
                hint="end those programs, or wait for them with --wait SECONDS",
            )
        time.sleep(0.5)


def remove_all(steps: Steps, manifest: Manifest) -> None:
    """Take everything away that the manifest and DKMS know of. Raises SysenterError if something stays."""
    units = [Path(name).name for name in manifest.files if name.startswith("/etc/systemd/system/")]
    if units:
        _quietly(steps, "systemctl", "disable", *units)
    for version in dkms.versions():
        dkms.withdraw(steps, version)
    dkms.remove_left_behind(steps)
    left = take_away(manifest)
    if units:
        _quietly(steps, "systemctl", "daemon-reload")
    if left:
        raise SysenterError(
            f"{len(left)} files could not be removed: {left[0]}",
            hint="mend that, then uninstall again",
            detail="\n".join(left),
        )


def _quietly(steps: Steps, *argv: str) -> None:
    """A command whose failure leaves nothing of ours behind: systemd may not be the one that runs."""
    with suppress(SysenterError):
        run_command(steps, argv, what=f"{argv[0]} {argv[1]}", timeout=60)


def uninstall(steps: Steps, *, wait: float) -> bool:
    """All of it; returns False if nothing was installed. wait: seconds for whoever holds the module."""
    if packaged():
        raise SysenterError(
            "sysenter was installed by its Debian packages, which take it away",
            hint="apt-get purge sysenter sysenter-dkms",
        )
    if not (read_manifest() or what_stands().files or dkms.versions() or dkms.left_behind()):
        return False
    if os.geteuid() != 0:
        raise SysenterError(
            "uninstall takes files of /usr and /etc away and needs root", hint="sudo ./sysenter uninstall"
        )
    with alone():
        manifest = read_manifest() or what_stands()
        with steps.step("unload the module"):
            unload(steps, wait)
        with steps.step("take modules, sources, library and units away"):
            remove_all(steps, manifest)
    return True
