# SPDX-License-Identifier: GPL-2.0-or-later
"""DKMS: the distribution's own way to build a module for each kernel, now and at each update."""

from __future__ import annotations

import shutil
from pathlib import Path

from sysenter.errors import SysenterError
from sysenter.install.machine import InstalledKernel, modinfo
from sysenter.install.status import state_of
from sysenter.steps import Steps, run_command

__all__ = [
    "NAME",
    "add",
    "build",
    "commands",
    "left_behind",
    "remove_halves",
    "remove_left_behind",
    "versions",
    "withdraw",
]

NAME = "sysenter"
_FOLDER = Path("/var/lib/dkms") / NAME
_BUILD_LIMIT = 900  # seconds; an old machine takes minutes


def versions() -> tuple[str, ...]:
    """The versions of the module that DKMS knows, by its own folder."""
    return tuple(sorted(p.name for p in _FOLDER.iterdir() if (p / "source").is_symlink())) if _FOLDER.exists() else ()


def add(steps: Steps, version: str) -> None:
    """Make /usr/src/sysenter-VERSION known to it."""
    if version not in versions():
        run_command(steps, ["dkms", "add", f"{NAME}/{version}"], what="tell DKMS of the sources", timeout=60)


def commands(version: str, kernel: InstalledKernel) -> list[tuple[str, ...]]:
    """What builds and installs a version for a kernel.

    DKMS does not build again what it has built, `install --force` neither (its is_module_built()). So what is a
    placeholder, or of another image, is unbuilt first.
    """
    which = (f"{NAME}/{version}", "-k", kernel.release)
    there = (_FOLDER / version / kernel.release).glob(f"*/module/{NAME}.ko*")
    bad = any(state_of(kernel, modinfo(kernel.release, "target", module))[0] != "built" for module in there)
    return [*([("dkms", "unbuild", *which)] if bad else []), ("dkms", "install", "--force", *which)]


def build(steps: Steps, version: str, kernel: InstalledKernel) -> str:
    """Build and install for a kernel; returns why it has no module, "" if it has one. Raises SysenterError."""
    for argv in commands(version, kernel):
        run_command(
            steps,
            argv,
            what=f"build the module for {kernel.release}",
            timeout=_BUILD_LIMIT,
            hint=f"/var/lib/dkms/{NAME}/{version}/build/make.log has the build's own words",
        )
    if not modinfo(kernel.release, "target"):
        raise SysenterError(
            f"DKMS says that it built for {kernel.release}, and there is no module",
            hint=f"look at `dkms status {NAME}` and at the room on the disk",
        )
    refused = modinfo(kernel.release, "refused")
    if "No space left on device" in refused:  # an update goes on with a placeholder, an install does not
        raise SysenterError(f"the disk is full: no module for {kernel.release}", hint="free some space first")
    return refused


def withdraw(steps: Steps, version: str) -> None:
    """Take a version's modules, builds and DKMS's memory of it away; its sources stay."""
    argv = ["dkms", "remove", f"{NAME}/{version}", "--all"]
    said = ""
    try:
        run_command(steps, argv, what=f"have DKMS forget {version}", timeout=300)
    except SysenterError as error:  # without DKMS, whose own removal took the modules, nothing is left to forget
        said = error.detail
    if version in versions():
        raise SysenterError(f"DKMS still has {NAME}/{version}", hint=f"run `{' '.join(argv)}`", detail=said)


def remove_halves() -> None:
    """The folders of versions that DKMS does not know: it was interrupted before its link to the sources."""
    if not _FOLDER.exists():
        return
    for folder in _FOLDER.iterdir():
        if folder.is_dir() and not folder.is_symlink() and not (folder / "source").is_symlink():
            shutil.rmtree(folder)
    if not any(_FOLDER.iterdir()):
        _FOLDER.rmdir()


def left_behind() -> tuple[Path, ...]:
    """Modules that an interrupted DKMS has installed and does not know of. Ask this when it has no version."""
    return tuple(sorted(Path("/lib/modules").glob(f"*/updates/dkms/{NAME}.ko*")))


def remove_left_behind(steps: Steps) -> None:
    """Take these away, and have the kernels' lists of modules know; also folders that an interrupted DKMS made."""
    remove_halves()
    for module in left_behind():
        module.unlink(missing_ok=True)
        release = module.parts[3]
        run_command(steps, ["depmod", release], what=f"list the modules of {release} anew", timeout=300)
    for folder in Path("/lib/modules").glob("*/updates/dkms"):  # DKMS was interrupted behind its own unlink
        for each in (folder, folder.parent):
            if not any(each.iterdir()):
                each.rmdir()
