# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's own tests: fetched as Debian's source package of the target, and compiled for it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from sysenter.build.native import compiler, compiler_version
from sysenter.cache import cache_folder, digest, fill, lock
from sysenter.errors import SysenterError
from sysenter.kernels.catalogue import CATALOGUE, DebianKernel
from sysenter.kernels.debian import Apt, unpack
from sysenter.steps import Steps, run_command
from sysenter.target.target import Target
from sysenter.verify.suites import Suite

__all__ = ["built", "kernel_entry"]

_PARTS = ("tools/testing/selftests", "tools/include", "arch/x86/include")
# Of x86's: programs that say nothing about the fast path, and why.
_STATIC_ONLY = {
    "check_initial_reg_state": "has an entry point of its own, before any library",
    "unwind_vdso": "steps through the vDSO's own entry, which libc then does not call",
}
# In what a compiler says that failed for another reason than the program's text.
_NOT_THE_PROGRAMS = ("No space left", "ended by signal", "Killed", "not done after", "not installed", "cannot be run")


def kernel_entry(target: Target) -> DebianKernel:
    """The catalogue's entry of a target. Raises SysenterError if it is a kernel of the user's own."""
    entry = next((e for e in CATALOGUE if e.name == target.name), None)
    if entry is None:
        raise SysenterError(
            f"{target.name}: no source package is known for this kernel", hint="give a kernel of the catalogue"
        )
    return entry


def _sources(steps: Steps, target: Target, *, offline: bool) -> Path:
    entry = kernel_entry(target)
    package = "linux-source-" + ".".join(target.release.split(".")[:2])
    folder = cache_folder() / "selftests" / f"{entry.suite}-{package}-{digest(_PARTS)}"
    with lock("selftests-sources"):
        if not folder.exists():
            apt = Apt(steps, entry.suite, entry.arch.name, offline=offline)
            (source,) = apt.fetch([package])
            with steps.step(f"unpack the selftests of {package}"), fill(folder) as new:
                unpack(steps, source, new, lambda name: name.endswith(".tar.xz") or name == "usr/src")
                tarball = new / f"usr/src/{package}.tar.xz"
                members = [f"{package}/{part}" for part in _PARTS]
                run_command(
                    steps,
                    ["tar", "-xJf", tarball, "-C", new, "--strip-components=1", *members],
                    what="unpack the selftests",
                    timeout=600,
                )
                tarball.unlink()
    return folder


def _libcap(steps: Steps, target: Target, *, offline: bool) -> list[str]:
    """The compiler's words for a program that uses libcap."""
    entry = kernel_entry(target)
    folder = cache_folder() / "selftests" / f"libcap-{entry.release_suite}-{entry.arch.name}"
    with lock("selftests-sources"):
        if not folder.exists():
            apt = Apt(steps, entry.release_suite, entry.arch.name, offline=offline)
            (package,) = apt.fetch(["libcap-dev"])
            with fill(folder) as new:
                unpack(steps, package, new, lambda name: name.endswith((".h", ".a")))
    return [f"-I{folder}/usr/include", *map(str, folder.rglob("libcap.a"))]


def _names(makefile: str, bits: int) -> list[str]:
    """The programs that x86's Makefile builds for a word of so many bits."""
    wanted = ("TARGETS_C_BOTHBITS", f"TARGETS_C_{bits}BIT_ONLY", "TARGETS_C_32BIT_NEEDED")
    lists = re.findall(r"^(\w+)\s*:=\s*((?:.*\\\n)*.*)$", makefile, re.M)
    return [name for key, value in lists if key in wanted for name in value.replace("\\\n", " ").split()]


def _extra(makefile: str, name: str, bits: int) -> list[str]:
    """More files that a program is compiled of, as x86's Makefile says."""
    its = rf"{name}_{bits}"
    forms = (
        rf"^\$\(OUTPUT\)/{its}:\s*(\S+\.S)",
        rf"call extra-files,{its},(\S+\.S)\)",  # 6.12
        rf"^\$\(OUTPUT\)/{its}: EXTRA_FILES \+= (\S+\.c)",  # 7.3
    )
    return [file for form in forms for file in re.findall(form, makefile, re.M)]


def built(steps: Steps, suite: Suite, target: Target, *, offline: bool) -> tuple[Path, Mapping[str, Mapping[str, str]]]:
    """Both builds of each of the kernel's programs in a folder: build -> row's name -> command line in it.

    Those that do not compile are left out, and named.
    """
    sources = _sources(steps, target, offline=offline)
    tests = sources / "tools/testing/selftests" / suite.folder
    makefile = (tests / "Makefile").read_text()
    lines = suite.programs or tuple(_names(makefile, target.arch.bits))
    names = list(dict.fromkeys(line.split()[0] for line in lines))
    key = digest([str(sources), target.arch.name, compiler_version(compiler()), str(suite), str(_STATIC_ONLY), "8"])
    folder = cache_folder() / "selftests" / f"{target.arch.name}-{suite.name}-{key}"
    with lock("selftests-programs"):
        if not folder.exists():
            with steps.step(f"build the selftests of {suite.name}, static and dynamic"), fill(folder) as new:
                for name in names:
                    more = [str(tests / part) for part in _extra(makefile, name, target.arch.bits)]
                    if "sys/capability.h" in (tests / f"{name}.c").read_text():
                        more += _libcap(steps, target, offline=offline)
                    _build(steps, tests, suite, target, name, more, new)
    builds = {}
    for build in ("static", "dynamic"):
        there = {path.name for path in (folder / build).iterdir()}
        builds[build] = {line: f"{build}/{line}" for line in sorted(lines) if line.split()[0] in there}
    return folder, builds


def _build(steps: Steps, tests: Path, suite: Suite, target: Target, name: str, more: list[str], new: Path) -> None:
    for build, options in (("static", ["-static"]), ("dynamic", ["-static-libgcc"])):
        (new / build).mkdir(exist_ok=True)
        if build == "dynamic" and name in _STATIC_ONLY:
            continue
        start = ["-Wl,-ereal_start"] if name == "check_initial_reg_state" else []
        argv: list[str | Path] = [
            compiler(),
            target.arch.compiler_option,
            "-O2",
            "-std=gnu99",
            "-pthread",
            "-w",
            "-no-pie",
            f"-I{tests.parent}",  # kselftest.h, which newer ones name alone
            *options,
            *start,
            *(option.format(folder=tests) for option in suite.options),
            "-o",
            new / build / name,
            tests / f"{name}.c",
            *more,
            "-lrt",
            "-ldl",
            "-lm",
        ]
        try:
            run_command(steps, argv, what=f"build {name}", timeout=180)
        except SysenterError as error:
            if any(word in f"{error.message}\n{error.detail}" for word in _NOT_THE_PROGRAMS):
                raise  # what is left out now would be left out of every later run
            steps.say(f"         {name} ({build}) is left out: {error.message}")
