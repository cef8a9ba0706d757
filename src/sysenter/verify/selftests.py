# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's own tests of its entry code, tools/testing/selftests/x86, on every path.

From Debian's source package of the target, built for it and run in its guest four
times: before the module is loaded, with it loaded, with every call that libc makes
sent by the fast path, and after unload. Results are held against those before,
on the same emulator, not against an ideal.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sysenter.build.native import compiler, compiler_version
from sysenter.cache import cache_folder, digest, fill, lock
from sysenter.errors import SysenterError
from sysenter.kernels.catalogue import CATALOGUE
from sysenter.kernels.debian import Apt, unpack
from sysenter.lab.loading import LOAD, check_loaded
from sysenter.lab.present_guest import PresentGuest
from sysenter.steps import Steps, run_command
from sysenter.target.target import Target

__all__ = ["PHASES", "SelftestResult", "selftests"]

# name -> (which build, whether the module is loaded, environment)
PHASES: Mapping[str, tuple[str, bool, str]] = {
    "before": ("static", False, ""),
    "before, dynamic": ("dynamic", False, ""),
    "loaded": ("static", True, ""),
    "fast": ("dynamic", True, "SYSENTER_CALLS=all LD_PRELOAD=/lib/sysenter/libsysenter.so "),
    "after": ("static", False, ""),
}
_AGAINST = {"loaded": "before", "fast": "before, dynamic", "after": "before"}
_PARTS = ("tools/testing/selftests/x86", "tools/testing/selftests/kselftest.h", "arch/x86/include")
# Programs that say nothing about the fast path, and why.
_STATIC_ONLY = {
    "check_initial_reg_state": "has an entry point of its own, before any library",
    "unwind_vdso": "steps through the vDSO's own entry, which libc then does not call",
}
_CALLS = "/sys/module/sysenter/parameters/calls"
_SECONDS = 20  # for one program


@dataclass(frozen=True)
class SelftestResult:
    """One program. outcomes: phase -> exit status, and how often it said [OK] / [FAIL]."""

    name: str
    outcomes: Mapping[str, str]

    @property
    def differs(self) -> tuple[str, ...]:
        """The phases whose outcome is not that of the stock kernel."""
        return tuple(p for p, base in _AGAINST.items() if self.outcomes.get(p) != self.outcomes.get(base))


def _sources(steps: Steps, target: Target, *, offline: bool) -> Path:
    entry = next((e for e in CATALOGUE if e.name == target.name), None)
    if entry is None:
        raise SysenterError(
            f"{target.name}: no source package is known for this kernel", hint="give a kernel of the catalogue"
        )
    package = "linux-source-" + ".".join(target.release.split(".")[:2])
    folder = cache_folder() / "selftests" / f"{entry.suite}-{package}"
    with lock("selftests-sources"):
        if not folder.exists():
            fetched = Apt(steps, entry.suite, entry.arch.name, offline=offline).fetch([package])
            with steps.step(f"unpack the selftests of {package}"), fill(folder) as new:
                unpack(steps, fetched[0], new, lambda name: name.endswith(".tar.xz") or name == "usr/src")
                tarball = new / f"usr/src/{package}.tar.xz"
                members = [f"{package}/{part}" for part in _PARTS]
                run_command(
                    steps, ["tar", "-xJf", tarball, "-C", new, "--strip-components=1", *members],
                    what="unpack the selftests", timeout=300,
                )  # fmt: skip
                tarball.unlink()
    return folder


def _names(makefile: str, bits: int) -> list[str]:
    """The programs that the Makefile builds for a word of so many bits."""
    wanted = ("TARGETS_C_BOTHBITS", f"TARGETS_C_{bits}BIT_ONLY", "TARGETS_C_32BIT_NEEDED")
    lists = re.findall(r"^(\w+)\s*:=\s*((?:.*\\\n)*.*)$", makefile, re.M)
    return [name for key, value in lists if key in wanted for name in value.replace("\\\n", " ").split()]


def _extra(makefile: str, name: str, bits: int) -> list[str]:
    """Assembly files that a program is linked with, as the Makefile says."""
    return re.findall(rf"^\$\(OUTPUT\)/{name}_{bits}:\s*(\S+\.S)", makefile, re.M)


def _build(steps: Steps, sources: Path, target: Target) -> Path:
    """Both builds of each program; those that do not compile are left out, and named."""
    tests = sources / "tools/testing/selftests/x86"
    makefile = (tests / "Makefile").read_text()
    key = digest([str(sources), target.arch.name, compiler_version(compiler()), str(_STATIC_ONLY), "3"])
    folder = cache_folder() / "selftests" / f"{target.arch.name}-{key}"
    with lock("selftests-programs"):
        if folder.exists():
            return folder
        with steps.step("build the selftests, static and dynamic"), fill(folder) as new:
            for name in _names(makefile, target.arch.bits):
                for build, options in (("static", ["-static"]), ("dynamic", ["-static-libgcc"])):
                    if build == "dynamic" and name in _STATIC_ONLY:
                        continue
                    start = ["-Wl,-ereal_start"] if name == "check_initial_reg_state" else []
                    (new / build).mkdir(exist_ok=True)
                    argv: list[str | Path] = [
                        compiler(), target.arch.compiler_option, "-O2", "-std=gnu99", "-pthread", "-w", "-no-pie",
                        *options, *start,
                        "-o", new / build / name, tests / f"{name}.c",
                        *(tests / extra for extra in _extra(makefile, name, target.arch.bits)), "-lrt", "-ldl", "-lm",
                    ]  # fmt: skip
                    try:
                        run_command(steps, argv, what=f"build {name}", timeout=120)
                    except SysenterError as error:
                        steps.say(f"         {name} ({build}) is left out: {error.message}")
    return folder


def _task(programs: Path) -> str:
    lines = [LOAD, "echo 0 >/proc/sys/vm/mmap_min_addr"]  # vm86 lives at address 0
    loaded = False
    for phase, (build, load, environment) in PHASES.items():
        if load != loaded:
            lines.append("load_module" if load else "rmmod sysenter || exit 4")
            loaded = load
        for program in sorted(path.name for path in (programs / build).iterdir()):
            lines += [
                f"{environment}timeout -s KILL {_SECONDS} /tests/{build}/{program} >/tmp/said 2>&1; status=$?",
                f'echo "{{\\"program\\": \\"{program}\\", \\"phase\\": \\"{phase}\\", \\"outcome\\": '
                "\\\"$status $(grep -c '\\[OK\\]' /tmp/said)/$(grep -c '\\[FAIL\\]' /tmp/said)\\\"}\"",
            ]
        if phase == "fast":
            lines.append(f'echo "{{\\"fast_calls\\": $(cat {_CALLS})}}"')
    return "\n".join([*lines, "exit 0", ""])


def selftests(steps: Steps, guest: PresentGuest, *, offline: bool) -> tuple[tuple[SelftestResult, ...], list[str]]:
    """Run them; returns a result for each program, and suspicious lines of the kernel's log.

    Raises SysenterError if the guest is lost or the module is not accepted.
    """
    programs = _build(steps, _sources(steps, guest.target, offline=offline), guest.target)
    files = {}
    for path in sorted(programs.glob("*/*")):
        files[f"tests/{path.parent.name}/{path.name}"] = path.read_bytes()
    with steps.step(f"run them in {guest.target.release}, {len(PHASES)} times"):
        output = guest.run(
            steps, _task(programs), files, what="the kernel's selftests", timeout=400, machine=guest.machine(memory=512)
        )
    check_loaded(output)
    if output.status:
        raise SysenterError(
            f"the guest stopped with status {output.status}", hint="4: the module did not go",
            detail="\n".join(output.console.splitlines()[-8:]),
        )  # fmt: skip
    if not sum(output.of("fast_calls")):
        raise SysenterError("no fast call was made", hint="the preload library did not find /dev/sysenter in the guest")
    outcomes: dict[str, dict[str, str]] = {}
    for record in (r for r in output.records if "program" in r):
        outcomes.setdefault(record["program"], {})[record["phase"]] = record["outcome"]
    results = tuple(SelftestResult(name, by_phase) for name, by_phase in sorted(outcomes.items()))
    return results, output.bad_lines()
