# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds the module for a present kernel, by that kernel's own build system."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

from sysenter.build.generated import generated_headers
from sysenter.build.module import Module
from sysenter.build.native import NATIVE, compiler_version, sources_digest
from sysenter.cache import cache_folder, digest, fill, lock
from sysenter.errors import SysenterError
from sysenter.steps import Steps, run_command
from sysenter.target.target import Guard, Target

__all__ = ["build_present_module", "kbuild", "with_changes"]


def _compiler(target: Target) -> str:
    if target.cc and not shutil.which(target.cc):
        raise SysenterError(f"no compiler {target.cc} is here", hint="name another by `cc` in kernel.toml")
    return target.cc or ("gcc-12" if shutil.which("gcc-12") else "gcc")


def kbuild(steps: Steps, target: Target, folder: Path, *, options: str = "") -> str:
    """Build the modules whose Kbuild is in `folder`; returns what the kernel's build said.

    options: for the compiler, more than the kernel's own. Raises SysenterError.
    """
    cc = _compiler(target)
    output = run_command(
        steps,
        [
            "make",
            "-C",
            target.headers,
            f"M={folder}",
            f"ARCH={target.arch.kbuild}",
            f"CC={cc}",
            f"HOSTCC={cc}",
            f"KCFLAGS={options}",
            f"-j{os.cpu_count() or 1}",
            "CONFIG_DEBUG_INFO_BTF_MODULES=",
            "modules",
        ],
        what=f"build the module for {target.release}",
        timeout=300,
        hint="the lines above are the kernel build's own",
    )
    # A guest loads it several times as fast without its debugging data.
    for module in folder.glob("*.ko"):
        run_command(steps, ["objcopy", "--strip-debug", module], what="strip the module", timeout=60)
    return output


def build_present_module(
    steps: Steps, target: Target, *, guard: Guard | None = None, what: str = "", options: str = ""
) -> Module:
    """Build the module for `target`, or take the one built before.

    guard: other values than the target's own, to show that they are refused.
    options: for the compiler, more than the kernel's own; tests build with
    -DSYSENTER_FAULT_INJECTION.
    Raises SysenterError with the compiler's last lines if it does not build.
    """
    guard = guard or target.guard
    headers = generated_headers(guard, target.headers, target.arch)
    cc = _compiler(target)
    parts = [str(target.headers), str(headers), sources_digest("present", "user"), cc, compiler_version(cc), options]
    key = digest(parts)
    folder = cache_folder() / "modules" / f"{target.release}-{key}"
    with lock(f"module-{target.release}"):
        if not (folder / "sysenter.ko").exists():
            with steps.step(f"build the module for {guard.release}{what}"), fill(folder) as new:
                for source in (NATIVE / "present", NATIVE / "user"):
                    shutil.copytree(source, new, dirs_exist_ok=True)
                for name, text in headers.items():
                    (new / name).write_text(text)
                output = kbuild(steps, target, new, options=options)
                # objtool's among them: it only warns of what a kernel then trips over
                (new / "build.log").write_text(output)
                for line in output.splitlines():
                    if "warning: " in line and "pahole" not in line:
                        steps.say(line)
    return Module(folder / "sysenter.ko", folder / f"entry_{target.arch.name}.o", folder / "offsets.h")


def with_changes(guard: Guard, *, release: str | None = None, shift: int = 0) -> Guard:
    """The guard of a kernel that is not this one: another release, or another address of sock_register."""
    return replace(guard, release=release or guard.release, sock_register=guard.sock_register + shift)
