# SPDX-License-Identifier: GPL-2.0-or-later
"""The C and assembly sources, and the compiler for user programs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from sysenter.cache import cache_folder, digest, fill, lock
from sysenter.steps import Steps, run_command

__all__ = ["NATIVE", "compile_programs", "compiler", "compiler_version", "sources_digest"]

NATIVE = Path(__file__).resolve().parent.parent / "native"

# What runs in a guest of the present kernels: name -> (source, extra options).
_PROGRAMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "calls": ("guest/calls.c", ("-static", "-no-pie")),
    "msr": ("guest/msr.c", ("-static",)),
    "callers": ("guest/callers.c", ()),  # dynamic: it is for LD_PRELOAD
    "kexec": ("guest/kexec_{arch}.c", ("-static",)),
    "sleeper": ("guest/sleeper.c", ("-static",)),
    "vsyscall": ("guest/vsyscall_{arch}.c", ("-static",)),
    "libsysenter.so": ("user/preload_{arch}.c", ("-shared", "-fPIC", "-nostdlib")),
    "hazards_arch": ("guest/hazards_arch_{arch}.c", ("-static",)),
    "hazards_calls": ("guest/hazards_calls.c", ("-static",)),
    "hazards_watch": ("guest/hazards_watch.c", ("-static",)),
    "hazards_signals": ("guest/hazards_signals.c", ("-static",)),
    "hazards_patched": ("guest/hazards_patched.c", ("-static",)),
    "hazards_system": ("guest/hazards_system.c", ("-static",)),
    "hazards_unload": ("guest/hazards_unload.c", ("-static",)),
    "hazards_storm": ("guest/hazards_storm.c", ("-static",)),
    "ldt": ("guest/ldt_{arch}.c", ("-static", "-no-pie")),
    "window": ("guest/window_{arch}.c", ("-static", "-no-pie")),
}


def sources_digest(*folders: str) -> str:
    """A digest of everything below native/FOLDER, for each folder."""
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
    """The compiler's own words about its version; "" if it cannot be run."""
    import subprocess

    try:
        return subprocess.run([cc, "--version"], capture_output=True, text=True, timeout=20).stdout.split("\n")[0]
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _options(arch: str) -> Sequence[str]:
    includes = ("-I", str(NATIVE / "present"))
    return ("-m64" if arch == "amd64" else "-m32", "-O2", "-Wall", "-Wextra", "-Werror", *includes)


def compile_programs(steps: Steps, arch: str) -> Path:
    """Compile the guest's programs and the preload library; returns their folder."""
    cc = compiler()
    key = digest([arch, compiler_version(cc), sources_digest("guest", "user", "present"), str(_PROGRAMS)])
    folder = cache_folder() / "programs" / f"{arch}-{key}"
    with lock("programs"):
        if not folder.exists():
            with steps.step(f"compile the guest's programs and the preload library ({arch})"), fill(folder) as new:
                for name, (template, options) in _PROGRAMS.items():
                    source = template.format(arch=arch)
                    if not (NATIVE / source).exists():
                        continue  # of the other architecture
                    argv = [cc, *_options(arch), *options, "-o", str(new / name), str(NATIVE / source)]
                    run_command(
                        steps, argv, what=f"compile {source}", timeout=120,
                        hint="is gcc with 32-bit support (gcc-multilib) installed? `./sysenter doctor` tells",
                    )  # fmt: skip
    return folder
