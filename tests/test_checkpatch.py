# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's own checkpatch.pl on native/present: what it finds is listed here with the reason, or mended."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import ROOT
from sysenter.cache import cache_path, fill, lock
from sysenter.errors import SysenterError
from sysenter.kernels.debian import Apt, unpack
from sysenter.steps import Steps

_PACKAGE = "linux-source-6.1"  # bookworm's
_SCRIPTS = ("checkpatch.pl", "spelling.txt", "const_structs.checkpatch")

# Type -> why it stays, and the files that have it.
ALLOWED: dict[str, tuple[str, set[str]]] = {
    "AVOID_EXTERNS": (
        "symbols of the assembly, each used by one C file: a header would show them to all",
        {
            "arch_amd64.c",
            "arch_i386.c",
            "device.c",
            "kernel.c",
            "pti_i386.c",
            "scope_amd64.c",
            "syscall_i386.c",
            "taskgate_i386.c",
            "trial.c",
        },
    ),
    "COMPLEX_MACRO": ("lists for an X macro are not expressions", {"compat.h", "kernel.c"}),
    "MACRO_ARG_REUSE": ("X macros, and the head of a for loop", {"arch_amd64.c", "compat.h", "kernel.c"}),
    "MULTISTATEMENT_MACRO_USE_DO_WHILE": ("X macros, and the head of a for loop", {"arch_amd64.c", "kernel.c"}),
    "TRAILING_SEMICOLON": ("an X macro that defines a variable for each", {"kernel.c"}),
    "INIT_ATTRIBUTE": ("they are const: it does not see that across the struct's members", {"arch_i386.c", "calls.c"}),
    "ASSIGN_IN_IF": ("the steps of the load, each of which may fail: a ladder is longer and no clearer", {"main.c"}),
    "MULTIPLE_ASSIGNMENTS": ("two words that are always the same", {"scope_amd64.c"}),
    "LONG_LINE": ("what the log says is one line, to be searched for", {"arch_amd64.c"}),
    "LONG_LINE_STRING": ("what the log says is one line, to be searched for", {"arch_amd64.c", "main.c"}),
    "CAMELCASE": ("Elf32_Nhdr is the kernel's name", {"guard.c"}),
    "NR_CPUS": ("the assembly makes a stub for each", {"syscall_i386.c"}),
    "BIT_MACRO": ("the assembly reads it too", {"frame.h"}),
    "EMBEDDED_FILENAME": ("another file's name ends like its own", {"syscall_i386.S"}),
}


def _script(steps: Steps) -> Path:
    """checkpatch.pl and what it reads, from Debian's package of the kernel's source."""
    folder = cache_path() / "checkpatch" / _PACKAGE
    with lock("checkpatch"):
        if not folder.exists():
            (package,) = Apt(steps, "bookworm", "amd64", offline=False).fetch([_PACKAGE])
            with fill(folder) as new:
                unpack(steps, package, new, lambda name: name.endswith(".tar.xz") or name == "usr/src")
                tarball = new / f"usr/src/{_PACKAGE}.tar.xz"
                members = [f"{_PACKAGE}/scripts/{name}" for name in _SCRIPTS]
                argv = ["tar", "-xJf", str(tarball), "-C", str(new), "--strip-components=2", *members]
                subprocess.run(argv, check=True, timeout=600)
                shutil.rmtree(new / "usr")
    return folder / "checkpatch.pl"


@pytest.mark.long  # 130 MB to fetch
@pytest.mark.skipif(not shutil.which("perl"), reason="perl, which it is written in, is not installed")
def test_checkpatch_finds_what_is_listed_and_nothing_else(steps: Steps, tmp_path: Path) -> None:
    try:
        script = _script(steps)
    except SysenterError as error:
        pytest.skip(f"checkpatch.pl of {_PACKAGE}: {error}")
    options = ["--no-tree", "--strict", "--terse", "--show-types", "--max-line-length=120", "--file"]
    found: dict[str, set[str]] = {}
    lines: list[str] = []
    # it leaves files of its own in the folder that it is called in
    shutil.copytree(ROOT / "src/sysenter/native/present", tmp_path / "present")
    for path in sorted((tmp_path / "present").glob("*.[chS]")):
        argv = ["perl", str(script), *options, path.name]
        done = subprocess.run(argv, cwd=path.parent, capture_output=True, text=True, timeout=120)
        assert done.returncode == (1 if "total: " in done.stdout else 0), done.stderr  # it has read the file
        for line in done.stdout.splitlines():
            if match := re.match(r"(\S+?):\d+: (?:ERROR|WARNING|CHECK):(\w+): ", line):
                found.setdefault(match[2], set()).add(match[1])
                lines.append(line)
    assert found == {kind: files for kind, (_, files) in ALLOWED.items()}, "\n".join(lines)
