# SPDX-License-Identifier: GPL-2.0-or-later
"""Compilers and kernel-build tools of a newer Debian, run on this one.

A kernel's modules want the compiler that it was configured for, and its build
tools (modpost, objtool, ...) are programs of its own release, whose C library may
be newer than ours. Both run here by their own release's dynamic loader and
libraries, unpacked into the cache; nothing of it is installed.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection

from sysenter.cache import cache_folder, digest, fill, lock
from sysenter.errors import SysenterError
from sysenter.kernels.debian import Apt, unpack
from sysenter.steps import Steps

__all__ = ["host_programs", "module_compiler", "own_loader", "own_script", "release_root", "wrap_host_program"]

_LOADER = "usr/lib64/ld-linux-x86-64.so.2"
_LIBRARIES = "usr/lib/x86_64-linux-gnu"
# What the build tools are linked with, by the names of their packages since trixie.
_RUNTIME = ("libc6", "libelf1t64", "zlib1g", "libssl3t64")
_ELF_64 = b"\x7fELF\x02"


def module_compiler(steps: Steps, apt: Apt, headers: Path) -> str | None:
    """The compiler for modules of a kernel: a command, or None for the usual one.

    The kernel's configuration names it (CONFIG_CC_VERSION_TEXT). Where this
    machine has no compiler of that major version, that of the kernel's own release
    is fetched, if there the machine's own would be too old.
    """
    config = (headers / ".config").read_text(errors="replace")
    match = re.search(r"^CONFIG_CC_VERSION_TEXT=\"\S*gcc-(\d+)", config, re.M)
    if not match or shutil.which(f"gcc-{match[1]}"):
        return f"gcc-{match[1]}" if match else None
    if int(match[1]) <= 12:
        return None
    return str(_fetched_compiler(steps, apt, match[1]))


def _fetched_compiler(steps: Steps, apt: Apt, version: str) -> Path:
    root = release_root(steps, apt, (f"gcc-{version}-x86-64-linux-gnu",), f"gcc {version}")
    driver = root / f"usr/bin/x86_64-linux-gnu-gcc-{version}"
    script = root / f"bin/gcc-{version}"
    with lock(f"toolchain-{apt.suite}"):
        (root / "bin").mkdir(exist_ok=True)
        for tool in ("as", "ld"):
            link, program = root / "bin" / tool, root / f"usr/bin/x86_64-linux-gnu-{tool}"
            if not link.is_symlink() or link.readlink() != program:  # not made yet, or the cache was moved
                link.unlink(missing_ok=True)
                link.symlink_to(program)
    # The driver starts cc1, as and ld, which need the loader as it does.
    own_script(root, driver, script, f" -wrapper {','.join(own_loader(root))} -B{root}/bin")
    return script


def host_programs(tree: Path) -> Iterator[Path]:
    """The programs among a kernel's build tools that want a newer C library than ours."""
    ours = _version(os.confstr("CS_GNU_LIBC_VERSION") or "")
    for path in sorted(tree.glob("usr/lib/linux-kbuild-*/**/*")):
        if not path.is_symlink() and path.is_file() and os.access(path, os.X_OK) and _wanted_libc(path) > ours:
            yield path


def _version(text: str) -> tuple[int, ...]:
    match = re.search(r"(\d+)\.(\d+)", text)
    return tuple(int(n) for n in match.groups()) if match else (0, 0)


def _wanted_libc(path: Path) -> tuple[int, ...]:
    """The newest glibc that a program's symbol versions name; (0, 0) if it is no 64-bit program."""
    with path.open("rb") as file:
        if file.read(5) != _ELF_64:
            return (0, 0)
        needs = ELFFile(file).get_section_by_name(".gnu.version_r")
        names: list[str] = []
        if isinstance(needs, GNUVerNeedSection):
            names = [str(v.name) for _, versions in needs.iter_versions() for v in versions]
    return max((_version(n) for n in names if n.startswith("GLIBC_")), default=(0, 0))


def wrap_host_program(steps: Steps, apt: Apt, program: Path) -> None:
    """Put a script in the place of a program that runs it by its own release's loader."""
    root = release_root(steps, apt, _RUNTIME, "C library")
    original = program.with_name(f"{program.name}.elf")
    program.rename(original)
    # Some find others beside them by argv[0].
    loader = shlex.join(own_loader(root))
    _write_script(program, f'#!/bin/sh\nexec {loader} --argv0 "$0" "$0.elf" "$@"\n')


def own_loader(root: Path) -> list[str]:
    """The beginning of a command line that runs a program of release_root() by its own release's loader."""
    return [str(root / _LOADER), "--library-path", str(root / _LIBRARIES)]


def own_script(root: Path, program: Path, script: Path, options: str) -> None:
    """Write a script that starts a program of release_root() by its own release's loader, if it is not there yet.

    options: a shell's words, before those that the script is given. In a cache that was moved it is made anew.
    """
    text = f'#!/bin/sh\nexec {shlex.join([*own_loader(root), str(program)])}{options} "$@"\n'
    with lock("own-scripts"):
        if not os.access(script, os.X_OK) or script.read_text() != text:
            script.parent.mkdir(exist_ok=True)
            _write_script(script, text)


def _write_script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def release_root(
    steps: Steps,
    apt: Apt,
    names: tuple[str, ...],
    what: str,
    *,
    package: Callable[[str], bool] = lambda _: True,
    wanted: Callable[[str], bool] = lambda name: not name.startswith("usr/share"),
) -> Path:
    """Packages with all that they depend on, unpacked into one folder.

    package: which of these packages are fetched. wanted: which of their files, by path, are unpacked.
    """
    folder = cache_folder() / "toolchains" / f"{apt.suite}-{digest([*names])}"
    with lock(f"toolchain-{apt.suite}"):
        if not folder.exists():
            packages = apt.fetch({name: version for name, version in apt.closure(names).items() if package(name)})
            with steps.step(f"unpack the {what} of Debian {apt.suite}"), fill(folder) as new:
                for one in packages:
                    unpack(steps, one, new, wanted)
                if not (new / _LOADER).exists():
                    raise SysenterError(
                        f"no {_LOADER} in Debian {apt.suite}'s libc6", hint="a newer sysenter may know where it is now"
                    )
    return folder
