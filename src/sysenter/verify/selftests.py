# SPDX-License-Identifier: GPL-2.0-or-later
"""Other people's tests on every path: the kernel's own, CPython's, stress-ng (suites.py).

Run before the module is loaded, with it loaded, with calls sent by the fast path, and
after unload. Results, and what the kernel's log says, are held against those before, on
the same emulator, not against an ideal.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from sysenter.errors import SysenterError
from sysenter.kernels.root import debian_root
from sysenter.lab.loading import LOAD, check_loaded
from sysenter.lab.present_guest import PresentGuest
from sysenter.lab.qemu import patience
from sysenter.lab.system import System, system_for
from sysenter.steps import Steps
from sysenter.verify.selftest_programs import built, kernel_entry
from sysenter.verify.suites import Suite

__all__ = ["PHASES", "SelftestResult", "new_trouble", "selftests"]

_FAST = "SYSENTER_CALLS=all LD_PRELOAD=/lib/sysenter/libsysenter.so "
# name -> (which build, whether the module is loaded, environment)
PHASES: Mapping[str, tuple[str, bool, str]] = {
    "before": ("static", False, ""),
    "before, dynamic": ("dynamic", False, ""),
    "loaded": ("static", True, ""),
    "fast": ("dynamic", True, _FAST),
    "after": ("static", False, ""),
}
_AGAINST = {"loaded": "before", "fast": "before, dynamic", "after": "before"}
_CALLS = "/sys/module/sysenter/parameters/calls"
# Seconds for a program that took too long on the stock kernel already.
_SECONDS_AGAIN = 5
# One that ended in the first phase, perhaps just in time, has so many times the seconds in the others: a slower host is
# no difference.
_TIMES = 3
# How a program says that one of its cases went well, or not: kselftest, TAP, unittest, stress-ng.
_GOOD = r"\[OK\]|^ok |\.\.\. ok$| successful run completed"
_BAD = r"\[FAIL\]|^not ok |\.\.\. (FAIL|ERROR)$|^stress-ng: fail"
_NOT_RUN = ("126 ", "127 ")  # the status of a program that is not there or cannot be run (POSIX, timeout)
_MARK = "sysenter selftests, phase: "
# A program that was killed may leave children behind that have the stub mapped: all but this shell and init go.
_UNLOAD = """
unload_module() {
	kill -9 -1 2>/dev/null
	for try in 1 2 3 4 5 6 7 8 9 10; do rmmod sysenter 2>/dev/null && return; sleep 0.3; done
	exit 4
}
"""


@dataclass(frozen=True)
class SelftestResult:
    """What came of one program."""

    name: str
    outcomes: Mapping[str, str]
    """Phase -> exit status, and how often it said that something went well / did not."""
    said: tuple[str, ...] = ()
    """Its last lines in each phase where its status was not 0, with the phase before them."""

    @property
    def differs(self) -> tuple[str, ...]:
        """The phases whose outcome is not that of the stock kernel."""
        base = {p: self.outcomes.get(b, self.outcomes.get("before")) for p, b in _AGAINST.items()}
        # a program that is only linked statically has no outcome on the fast path
        return tuple(p for p in _AGAINST if (p != "fast" or p in self.outcomes) and self.outcomes.get(p) != base[p])


def _task(suite: Suite, builds: Mapping[str, Mapping[str, str]], scope: str) -> str:
    """builds: build -> row's name -> command line. Programs of packages have one build, the dynamic one.

    scope: the module's. If that is all, no program is moved to the fast path: all are on it while it is loaded.
    """
    inside = "debian " if suite.packages else ""
    lines = [f"options=scope={scope}", LOAD, _UNLOAD]
    lines += ["echo 0 >/proc/sys/vm/mmap_min_addr; mkdir /tmp/slow"]  # vm86 lives at address 0
    loaded = False
    for phase, (build, load, environment) in PHASES.items():
        if (suite.packages and phase == "before, dynamic") or (scope == "all" and phase == "fast"):
            continue
        if load != loaded:
            lines.append("load_module" if load else "unload_module")
            loaded = load
        # of level 4: with the lines of the console that a fault makes
        lines.append(f"echo '<4>{_MARK}{phase}' >/dev/kmsg")
        for row, command in builds["dynamic" if suite.packages else build].items():
            slow = f"/tmp/slow/{re.sub(r'[^a-zA-Z0-9_]', '-', row)}"
            mark = f": >{slow}" if phase.startswith("before") else ":"
            seconds = suite.seconds * patience() * (1 if phase == "before" else _TIMES)
            lines += [
                f"limit={round(seconds)}; [ ! -e {slow} ] || limit={_SECONDS_AGAIN}",
                f"{environment}{inside}timeout -s KILL $limit {command} >/tmp/said 2>&1 </dev/null; status=$?",
                f"good=$(grep -cE {shlex.quote(_GOOD)} /tmp/said); bad=$(grep -cE {shlex.quote(_BAD)} /tmp/said)",
                # killed: how far it came is chance
                f"[ $status != 137 ] || {{ good=- bad=-; {mark}; }}",
                f'echo "{{\\"program\\": \\"{row}\\", \\"phase\\": \\"{phase}\\", '
                '\\"outcome\\": \\"$status $good/$bad\\"}"',
            ]
            lines.append(f"[ $status = 0 ] || tail -n 4 /tmp/said | cut -c 1-200 | sed 's|^|{row}, {phase}: |'")
        if phase == ("loaded" if scope == "all" else "fast"):
            lines.append(f'echo "{{\\"fast_calls\\": $(cat {_CALLS})}}"')
    return "\n".join([*lines, "exit 0", ""])


def new_trouble(console: str, bad: list[str]) -> list[str]:
    """The bad lines of a log that are new since the module was loaded. Lines that differ in figures only are the same.

    What the stock kernel says as well is no fault of ours: mov_ss_trap makes it oops under QEMU.
    """

    def bare(line: str) -> str:
        return re.sub(r"^\[[^]]*\]\s*|0x[0-9a-f]+|\b[0-9a-f]{8,16}\b|\d+", "", line)

    stock: set[str] = set()
    found: list[str] = []
    loaded = False
    for line in console.splitlines():
        if _MARK in line:
            loaded = loaded or not line.split(_MARK)[1].startswith("before")
        elif line in bad and not loaded:
            stock.add(bare(line))
        elif line in bad and bare(line) not in stock:
            found.append(line)
    return found


def selftests(
    steps: Steps, guest: PresentGuest, suite: Suite, *, offline: bool, scope: str = "marked"
) -> tuple[tuple[SelftestResult, ...], list[str]]:
    """Run a suite; returns a result for each program, and the lines of the kernel's log that tell of a fault.

    scope: the module's, marked, all or both.

    Raises SysenterError if the guest is lost or the module is not accepted.
    """
    files = {}
    builds: Mapping[str, Mapping[str, str]]
    if suite.packages:
        entry = kernel_entry(guest.target)
        # Of bookworm on all kernels: the tests' names are those of its packages.
        root = debian_root(steps, "bookworm", entry.arch.name, suite.packages, offline=offline)
        where: PresentGuest | System = system_for(steps, guest, root, offline=offline)
        builds = {"dynamic": suite.commands}
    else:
        where = guest
        folder, found = built(steps, suite, guest.target, offline=offline)
        builds = {b: {row: f"/tests/{command}" for row, command in rows.items()} for b, rows in found.items()}
        files = {f"tests/{path.parent.name}/{path.name}": path.read_bytes() for path in sorted(folder.glob("*/*"))}
    count = len(builds["dynamic"])
    if not count:
        raise SysenterError(
            f"none of the programs of {suite.name} compiles here", hint="--debug shows the compiler's lines"
        )
    with steps.step(f"run {suite.about} in {guest.target.release}, {4 if suite.packages else len(PHASES)} times"):
        output = where.run(
            steps,
            _task(suite, builds, scope),
            files,
            what=suite.about,
            timeout=120 + len(PHASES) * count * suite.seconds,
            machine=where.machine(memory=suite.memory),
        )
    check_loaded(output)
    if output.status:
        raise SysenterError(
            f"the guest stopped with status {output.status}",
            hint="4: the module did not go",
            detail="\n".join(output.console.splitlines()[-8:]),
        )
    if not sum(output.of("fast_calls")):
        raise SysenterError("no fast call was made", hint="the preload library did not find /dev/sysenter in the guest")
    outcomes: dict[str, dict[str, str]] = {}
    for record in (r for r in output.records if "program" in r):
        outcomes.setdefault(record["program"], {})[record["phase"]] = record["outcome"]
    if all(by_phase.get("before", _NOT_RUN[0]).startswith(_NOT_RUN) for by_phase in outcomes.values()):
        raise SysenterError(  # the same in every phase, so no difference would be found
            f"no program of {suite.name} could be run in the guest: before the module was loaded",
            hint="the lines above are the guest's",
            detail="\n".join(output.text[:5]),
        )
    results = []
    for name, by_phase in sorted(outcomes.items()):
        said = [line.removeprefix(f"{name}, ") for line in output.text if line.startswith(f"{name}, ")]
        results.append(SelftestResult(name, by_phase, tuple(said)))
    return tuple(results), new_trouble(output.console, output.bad_lines())
