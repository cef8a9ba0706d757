# SPDX-License-Identifier: GPL-2.0-or-later
"""Emulators of a newer Debian, by that release's own loader; nothing of them is installed.

Bochs is trixie's on every host: bookworm's is an older version with faults of its own.
"""

from __future__ import annotations

import os
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from sysenter.errors import SysenterError
from sysenter.kernels.debian import Apt
from sysenter.kernels.toolchain import own_loader, own_script, release_root
from sysenter.processes import output_of
from sysenter.steps import Steps

__all__ = ["Bochs", "fetched_bochs", "qemu_folder"]

_SUITE = "trixie"
_QEMU = ("qemu-system-i386", "qemu-system-x86_64")


@dataclass(frozen=True)
class Bochs:
    """Bochs of a Debian release, in the cache."""

    root: Path

    @property
    def argv(self) -> list[str]:
        """The beginning of its command line: its own release's dynamic loader runs it."""
        return [*own_loader(self.root), str(self.root / "usr/bin/bochs-bin")]

    @property
    def environment(self) -> dict[str, str]:
        """Its environment: where its devices are (they are plugins), and TERM, for which it draws its screen."""
        plugins = self.root / "usr/lib/x86_64-linux-gnu/bochs/plugins"
        return {"LTDL_LIBRARY_PATH": str(plugins), "TERM": "linux"}

    @property
    def bios(self) -> Path:
        """The machine's BIOS."""
        return self.root / "usr/share/bochs/BIOS-bochs-latest"

    @property
    def vga_bios(self) -> Path:
        """The graphics card's BIOS, without which the machine's own does not boot."""
        return self.root / "usr/share/vgabios/vgabios.bin"


def _libraries(name: str) -> bool:
    """May this package have a library? Others of its dependencies have a desktop's data or a system's programs."""
    return name.startswith(("lib", "zlib1g", "bochs", "vgabios", "qemu-", "seabios"))


def _check_host(what: str) -> None:
    """What is fetched is for 64-bit hosts."""
    machine = os.uname().machine
    if machine != "x86_64":
        raise SysenterError(f"{what} is fetched for an amd64 host, and this is {machine}", hint="use Debian's own QEMU")


def fetched_bochs(steps: Steps, *, offline: bool) -> Bochs:
    """Bochs, fetched if it is not in the cache yet. Raises SysenterError if this host cannot run it."""
    _check_host("Bochs")
    apt = Apt(steps, _SUITE, "amd64", offline=offline)
    folders = ("usr/lib", "usr/bin/bochs-bin", "usr/share/bochs", "usr/share/vgabios")
    return Bochs(
        release_root(
            steps,
            apt,
            ("bochs", "bochs-term"),
            "Bochs",
            package=_libraries,
            wanted=lambda name: name.startswith(folders),
        )
    )


def qemu_folder(steps: Steps, which: str, *, offline: bool) -> Path:
    """A folder with QEMU's programs. which: such a folder, one of the programs, or the release, "trixie".

    Raises SysenterError if none is there.
    """
    if which == _SUITE:
        return _fetched_qemu(steps, offline=offline)
    path = Path(which).absolute()
    programs = [path / name for name in _QEMU] if path.is_dir() else [path]
    if any("QEMU" in output_of([program, "--version"]) for program in programs):
        return path
    raise SysenterError(
        f"{which} is no QEMU", hint=f"give qemu-system-x86_64's path, its folder's, or {_SUITE} for that release's"
    )


def _fetched_qemu(steps: Steps, *, offline: bool) -> Path:
    """Scripts that start QEMU of a newer release, by the names of its programs."""
    _check_host(f"{_SUITE}'s QEMU")
    apt = Apt(steps, _SUITE, "amd64", offline=offline)
    folders = ("usr/lib", "usr/bin/qemu-system-", "usr/share/qemu", "usr/share/seabios", "usr/share/vgabios")
    root = release_root(
        steps, apt, ("qemu-system-x86",), "QEMU", package=_libraries, wanted=lambda name: name.startswith(folders)
    )
    # -L also finds seabios's files, to which qemu's folder has links
    data = f" -L {shlex.quote(str(root / 'usr/share/qemu'))} -L {shlex.quote(str(root / 'usr/share/seabios'))}"
    for name in _QEMU:
        own_script(root, root / "usr/bin" / name, root / "bin" / name, data)
    if not shutil.which(_QEMU[1], path=str(root / "bin")):
        raise SysenterError(f"no {_QEMU[1]} in Debian {_SUITE}'s package", hint="a newer sysenter may know its name")
    return root / "bin"
