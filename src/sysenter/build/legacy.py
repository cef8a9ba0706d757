# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds for Linux 2.2 and 2.4: the module, the guest's one program, its image."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from sysenter.build.module import Module
from sysenter.build.native import NATIVE, compiler, compiler_version, sources_digest
from sysenter.cache import cache_folder, digest, fill, lock
from sysenter.errors import SysenterError
from sysenter.steps import Steps, run_command
from sysenter.target.target import Target

__all__ = ["build_legacy_module", "legacy_image", "legacy_init"]

# No libc of today runs on 2.2: freestanding, static, and nothing that a
# Pentium III does not have.
_GUEST_OPTIONS = (
    "-m32", "-march=i586", "-mno-sse", "-mno-mmx", "-ffreestanding", "-nostdlib", "-static", "-fno-pie", "-no-pie",
    "-fno-stack-protector", "-fno-asynchronous-unwind-tables", "-fomit-frame-pointer", "-fcf-protection=none",
    "-O2", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-missing-field-initializers", "-Werror",
    "-Wl,--build-id=none",
)  # fmt: skip
_IMAGE_KIB = 2048


def build_legacy_module(steps: Steps, target: Target) -> Module:
    """Build the module for a 2.2 or 2.4 target, or take the one built before.

    Raises SysenterError with the compiler's last lines if it does not build.
    """
    if target.system_map is None:
        raise SysenterError(f"{target.name}: no System.map", hint="name it in kernel.toml")
    cc = target.cc or f"{compiler()} -m32"
    key = digest(
        [cc, compiler_version(cc.split()[0]), target.system_map.read_bytes(), str(target.headers),
         (target.headers / "include/linux/autoconf.h").read_bytes(), sources_digest("legacy")]
    )  # fmt: skip
    folder = cache_folder() / "modules" / f"{target.release}-{key}"
    with lock(f"module-{target.release}"):
        if not (folder / "sysenter.o").exists():
            with steps.step(f"build the module for {target.release}"), fill(folder) as new:
                sources = NATIVE / "legacy"
                run_command(
                    steps, ["sh", sources / "build.sh", sources, target.headers, target.system_map, new],
                    what=f"build the module for {target.release}", timeout=120,
                    env={"CC": cc, "LD": "ld -m elf_i386"}, hint="the lines above are the build's own",
                )  # fmt: skip
    return Module(folder / "sysenter.o", folder / "entry.o", folder / "offsets.h")


def legacy_init(steps: Steps) -> Path:
    """The guest's one program: init, loader, workloads and hostile callers."""
    folder = (
        cache_folder() / "programs" / f"legacy-{digest([compiler_version(compiler()), sources_digest('guest/legacy')])}"
    )
    with lock("programs"):
        if not folder.exists():
            with steps.step("compile the guest's program (2.2, 2.4)"), fill(folder) as new:
                sources = sorted((NATIVE / "guest/legacy").glob("*.c"))
                run_command(
                    steps, [compiler(), *_GUEST_OPTIONS, "-o", new / "init", *sources],
                    what="compile guest/legacy", timeout=120,
                    hint="is gcc with 32-bit support (gcc-multilib) installed? `./sysenter doctor` tells",
                )  # fmt: skip
    return folder / "init"


def _mke2fs() -> str:
    found = shutil.which("mke2fs", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if not found:
        raise SysenterError("mke2fs is not installed", hint="install Debian's e2fsprogs")
    return found


def legacy_image(steps: Steps, files: Mapping[str, bytes], work: Path) -> bytes:
    """An ext2 ramdisk with `files` (name to content) as 2.2 reads it: revision 0.

    work: a folder to make it in. Device nodes are the guest's own affair, so
    this takes no root.
    """
    root, image = work / "root", work / "ramdisk"
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o755)
    run_command(
        steps, [_mke2fs(), "-q", "-F", "-t", "ext2", "-r", "0", "-O", "none", "-b", "1024", "-d", root, image,
                str(_IMAGE_KIB)],
        what="make the guest's ramdisk", timeout=60,
    )  # fmt: skip
    return image.read_bytes()
