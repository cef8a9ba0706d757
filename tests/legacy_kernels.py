# SPDX-License-Identifier: GPL-2.0-or-later
"""The 2.2 and 2.4 kernels to test on: SYSENTER_LEGACY_KERNELS names a folder of
folders that each hold a kernel.toml. None of them is in the repository."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from conftest import ROOT
from sysenter.build.native import compiler
from sysenter.steps import Steps, run_command
from sysenter.target.target import Target

__all__ = ["KERNELS", "build_test_module", "on_each_kernel", "parameters"]

_FOLDER = os.environ.get("SYSENTER_LEGACY_KERNELS", "")
KERNELS = sorted(Path(_FOLDER).glob("*/kernel.toml")) if _FOLDER else []

on_each_kernel = pytest.mark.skipif(not KERNELS, reason="SYSENTER_LEGACY_KERNELS names no folder with */kernel.toml")


def parameters() -> list[Path]:
    """For a fixture's params; never empty, so that the skip is shown with its reason."""
    return KERNELS or [Path("none/kernel.toml")]


def build_test_module(steps: Steps, target: Target, name: str, folder: Path) -> bytes:
    """The module tests/native/NAME/NAME.c, built for the target in `folder`."""
    cc = (target.cc or f"{compiler()} -m32").split()
    source = ROOT / "tests/native" / name / f"{name}.c"
    argv = [*cc, "-D__KERNEL__", "-DMODULE", "-O2", "-fomit-frame-pointer", "-fno-strict-aliasing"]
    if target.release.startswith("2.2.") and target.cpus > 1:
        argv += ["-D__SMP__"]
    raw, assembly, made = (folder / f"{name}{end}" for end in (".raw", ".s", ".o"))
    run_command(
        steps, [*argv, f"-I{target.headers}/include", "-S", "-o", raw, source], what=f"build {name}.c", timeout=60
    )
    # as native/legacy/build.sh: assemblers of today want .modinfo's flags each time
    assembly.write_text(re.sub(r"(?m)^(\s*\.section\s+\.modinfo)\s*$", r'\1,"a"', raw.read_text()))
    run_command(steps, [*cc, "-c", "-o", made, assembly], what=f"assemble {name}.c", timeout=60)
    return made.read_bytes()
