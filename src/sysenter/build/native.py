# SPDX-License-Identifier: GPL-2.0-or-later
"""The C and assembly sources, and the compiler for user programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sysenter.cache import cache_folder, digest, fill, lock
from sysenter.processes import output_of
from sysenter.steps import Steps, run_command
from sysenter.target.arch import Architecture

__all__ = [
    "NATIVE",
    "PRELOAD_OPTIONS",
    "PROGRAMS",
    "Program",
    "compile_programs",
    "compiler",
    "compiler_version",
    "sources_digest",
]

NATIVE = Path(__file__).resolve().parent.parent / "native"


@dataclass(frozen=True)
class Program:
    """A program for a guest of the present kernels."""

    name: str
    """Its file in the guest's /lib/sysenter."""
    source: Path
    """Its C file; "{arch}" in it stands for the architecture, and where there is no such file the architecture
    has no such program."""
    options: tuple[str, ...] = ()
    """More of the compiler's."""


# HAZARD: the compiler may insert calls of the C library by itself (memset, strlen, a stack protector's). Then the
# preload library would need a function that not every process has. Without the versions, it would take the place of
# libpthread's functions in programs for glibc. debian/rules has the same options.
PRELOAD_OPTIONS = (
    "-shared",
    "-fPIC",
    "-nostdlib",
    "-fno-builtin",
    "-fno-tree-loop-distribute-patterns",
    "-fno-stack-protector",
    "-Xlinker",  # -Wl, would divide a folder's name at its commas
    f"--version-script={NATIVE / 'user/preload.map'}",
)

# What the product runs in a guest; tests bring more.
PROGRAMS = (
    Program("calls", NATIVE / "guest/calls.c", ("-static", "-no-pie")),
    Program("channels", NATIVE / "guest/channels.c", ("-static",)),
    Program("msr", NATIVE / "guest/msr.c", ("-static",)),
    Program("libsysenter.so", NATIVE / "user/preload_{arch}.c", PRELOAD_OPTIONS),
)


def sources_digest(*folders: str) -> str:
    """A digest of all files below native/FOLDER, for these folders."""
    parts: list[bytes | str] = []
    for folder in folders:
        for path in sorted((NATIVE / folder).rglob("*")):
            if path.is_file():
                parts += [str(path.relative_to(NATIVE)), path.read_bytes()]
    return digest(parts)


def compiler() -> str:
    """The host's C compiler."""
    return "gcc"


@cache
def compiler_version(cc: str) -> str:
    """The version that the compiler prints; "" if it cannot be run."""
    return output_of([cc, "--version"]).split("\n")[0]


def _options(arch: Architecture) -> Sequence[str]:
    includes = ("-I", str(NATIVE / "present"), "-I", str(NATIVE / "user"))
    return (arch.compiler_option, "-O2", "-Wall", "-Wextra", "-Werror", *includes)


def compile_programs(steps: Steps, arch: Architecture, programs: Sequence[Program] = PROGRAMS) -> Path:
    """Compile programs for a guest, and the preload library among them; returns their folder.

    Raises SysenterError with the compiler's last lines if one does not compile.
    """
    cc = compiler()
    sources = {path for program in programs for path in program.source.parent.iterdir() if path.is_file()}
    parts = [part for path in sorted(sources) for part in (path.name, path.read_bytes())]
    key = digest([arch.name, compiler_version(cc), sources_digest("user", "present"), *parts, str(programs)])
    folder = cache_folder() / "programs" / f"{arch.name}-{key}"
    with lock("programs"):
        if not folder.exists():
            with steps.step(f"compile the guest's programs ({arch.name})"), fill(folder) as new:
                for program in programs:
                    source = program.source.with_name(program.source.name.format(arch=arch.name))
                    if not source.exists():
                        continue  # of the other architecture
                    argv = [cc, *_options(arch), *program.options, "-o", str(new / program.name), str(source)]
                    run_command(
                        steps,
                        argv,
                        what=f"compile {source.name}",
                        timeout=120,
                        hint="is gcc with 32-bit support (gcc-multilib) installed? `./sysenter doctor` tells",
                    )
    return folder
