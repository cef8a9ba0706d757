# SPDX-License-Identifier: GPL-2.0-or-later
"""The amd64 entry on Debian's real kernels, with and without page-table isolation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import pytest

from guests import PROGRAMS, guest_for
from shell import WAIT_FOR
from sysenter.build import build_module
from sysenter.build.module import Module
from sysenter.build.native import PROGRAMS as NATIVE_PROGRAMS
from sysenter.build.native import compile_programs
from sysenter.kernels.catalogue import CATALOGUE
from sysenter.kernels.provide import provide
from sysenter.lab.guest import Guest, Output
from sysenter.steps import Steps
from sysenter.target.arch import AMD64, I386

KERNELS = [entry.name for entry in CATALOGUE if entry.arch is AMD64]
# For tests in which 6.1 does much the same as 7.x.
_newest = pytest.mark.parametrize(
    "lab",
    [pytest.param(name, marks=pytest.mark.long) if name == "bookworm-amd64" else name for name in KERNELS],
    indirect=True,
    scope="module",
)
_LOAD = "insmod /sysenter.ko || { dmesg | grep 'sysenter: refused'; exit 99; }\n"
_CALLS = "/sys/module/sysenter/parameters/calls"


@dataclass(frozen=True)
class Lab:
    """A kernel with its guest and module, and how to run a task in it."""

    steps: Steps
    guest: Guest
    module: Module

    def __call__(
        self,
        task: str,
        *,
        append: str = "",
        cpu: str | None = None,
        cpus: int = 1,
        icount: bool = False,
        timeout: float = 120,
    ) -> Output:
        machine = self.guest.machine(append=append, cpu=cpu, cpus=cpus, icount=icount)
        files = {"sysenter.ko": self.module.module.read_bytes()}
        output = self.guest.run(self.steps, task, files, what="a test", timeout=timeout, machine=machine)
        # The kernel's own opinion of a mitigation that the command line chose is no fault.
        bad = [line for line in output.bad_lines() if "mitigation" not in line]
        assert not bad, output.console
        return output


@cache
def _lab(name: str) -> Lab:
    steps = Steps()
    target = provide(steps, name, offline=False)
    return Lab(steps, guest_for(steps, target, "tcg"), build_module(steps, target))


@pytest.fixture(scope="module", params=KERNELS)
def lab(request: pytest.FixtureRequest) -> Lab:
    return _lab(request.param)


def test_it_builds_without_a_warning(lab: Lab) -> None:
    log = (lab.module.module.parent / "build.log").read_text()
    assert "LD [M]" in log, log
    warnings = [line for line in log.splitlines() if "warning" in line.lower() and "pahole" not in line]
    assert not warnings


@pytest.mark.parametrize(
    ("append", "limit"), [pytest.param("", 200, marks=pytest.mark.long), ("pti=on", 212)], ids=["nopti", "pti"]
)
def test_getppid_takes_no_more_instructions_than_promised(lab: Lab, append: str, limit: int) -> None:
    """By a retpoline: 175 and 187: x64_sys_call()'s comparisons are 22 more, but save cycles (docs/entries.md)."""
    output = lab(_LOAD + "/lib/sysenter/calls", append=append, icount=True)
    counts = {(r["call"], r["path"]): r["tsc"] - r["empty"] for r in output.records}
    assert counts["getppid", "fast"] <= limit
    assert counts["getppid", "stock"] > 300, "the stock path is not what it is compared with"


@_newest
def test_an_ordinary_program_works_on_it_and_without_it(lab: Lab) -> None:
    output = lab(f"""{_LOAD}
export LD_PRELOAD=/lib/sysenter/libsysenter.so
before=$(cat {_CALLS})
/lib/sysenter/callers; echo "fast: $?"
after=$(cat {_CALLS})
[ $((after - before)) -gt 40000 ] && echo "counted"
LD_PRELOAD= rmmod sysenter
/lib/sysenter/callers; echo "unloaded: $?"
""")
    assert [line for line in output.text if line in ("fast: 0", "counted", "unloaded: 0")] == [
        "fast: 0",
        "counted",
        "unloaded: 0",
    ], output.text


@_newest
@pytest.mark.parametrize("append", ["", "pti=on"], ids=["nopti", "pti"])
def test_a_task_asleep_inside_is_waited_for_and_loses_nothing(lab: Lab, append: str) -> None:
    output = lab(
        _LOAD
        + WAIT_FOR
        + """/lib/sysenter/sleeper &
wait_for 'asleep $! && [ $(cat /sys/module/sysenter/refcnt) = 0 ]'
rmmod sysenter && echo went
echo x >/tmp/wake
wait $!; echo "sleeper: $?"
""",
        append=append,
    )
    assert "went" in output.text
    assert "sleeper: 0" in output.text


@_newest
def test_it_loads_and_leaves_again_and_again_under_load(lab: Lab) -> None:
    output = lab(
        """
for n in 1 2; do
	(
		export LD_PRELOAD=/lib/sysenter/libsysenter.so
		while :; do
			/gnu/bin/dd if=/dev/zero of=/dev/null bs=1 count=3000 2>/dev/null || echo lost
			sleep 0.4
		done
	) &
done
left=0; try=0; calls=0
while { [ $left -lt 6 ] || [ $calls -le 1000 ]; } && [ $try -lt 400 ]; do
	try=$((try + 1))
	insmod /sysenter.ko 2>/dev/null
	sleep 0.02
	calls=$((calls + $(cat /sys/module/sysenter/parameters/calls)))
	rmmod sysenter 2>/dev/null && left=$((left + 1))
done
[ $calls -gt 1000 ] && echo "under fast calls"
[ $left -ge 6 ] && echo "left often"
""",
        cpus=2,
        append="pti=on",
        timeout=280,
    )
    assert "left often" in output.text, output.text
    assert "under fast calls" in output.text, output.text
    assert "lost" not in output.text


_IBRS = "setcpuid=240,249 spectre_v2=ibrs"  # MSR_SPEC_CTRL, IBRS: TCG has neither, but lets the MSR be written


_DIES = "does not boot with it on this emulator, the module not there"


@pytest.mark.parametrize(
    ("cpu", "append", "shown", "not_on"),
    [
        # quick by getppid's count above
        pytest.param(None, "pti=on", "meltdown:Mitigation: PTI", {}, marks=pytest.mark.long),
        pytest.param(None, "spectre_v2=retpoline,lfence", "BHI: SW loop", {"7.": _DIES}, marks=pytest.mark.long),
        ("Skylake-Client", _IBRS, "spectre_v2:Mitigation: IBRS", {"6.1.": "has no setcpuid", "6.12.": _DIES}),
    ],
    ids=["pti", "branch-history", "ibrs"],
)
def test_a_mitigation_that_the_kernel_applies_is_applied_here(
    lab: Lab, cpu: str | None, append: str, shown: str, not_on: dict[str, str]
) -> None:
    """Both paths get longer by it, and the fast one still works."""
    release = lab.guest.target.release
    if why := next((why for start, why in not_on.items() if release.startswith(start)), ""):
        pytest.skip(f"{release} {why}: {append}")
    show = "cd /sys/devices/system/cpu/vulnerabilities; grep . meltdown spectre_v2\n"
    task = show + _LOAD + "/lib/sysenter/calls"
    plain, changed = lab(task, icount=True, cpu=cpu), lab(task, icount=True, cpu=cpu, append=append)
    assert shown in "\n".join(changed.text), changed.text

    def getppid(output: Output, path: str) -> int:
        return next(int(r["tsc"]) for r in output.records if r["call"] == "getppid" and r["path"] == path)

    for path in ("stock", "fast"):
        assert getppid(changed, path) > getppid(plain, path)


@pytest.mark.parametrize(
    ("cpu", "append", "why"),
    [
        ("EPYC", "", "AuthenticAMD"),
        (None, "nohz_full=1", "nohz_full"),
        (None, "ia32_emulation=0", "ia32_emulation=0"),
        # what the kernel does before the registers it left 0
        pytest.param(None, "ia32_emulation=0 nohz_full=1", "nohz_full", marks=pytest.mark.long),
        ("Skylake-Client", "retbleed=stuff spectre_v2=retpoline", "retbleed=stuff"),
    ],
    ids=["amd", "nohz_full", "no-ia32", "both", "call-depth"],
)
def test_what_it_cannot_honour_is_refused_by_name(lab: Lab, cpu: str | None, append: str, why: str) -> None:
    if lab.guest.target.release.startswith("6.1.") and ("ia32" in append or "stuff" in append):
        pytest.skip(f"6.1 has no {append.split()[0]}")
    output = lab(f"{_LOAD} echo loaded", cpu=cpu, append=append, cpus=2)
    assert "loaded" not in output.text
    assert why in "\n".join(output.text), output.text


@pytest.mark.parametrize(
    ("symbol", "cpu", "append", "only_on"),
    [
        ("cpu_tlbstate", None, "pti=on", "6."),
        pytest.param("clear_bhb_loop", None, "spectre_v2=retpoline,lfence", "6.", marks=pytest.mark.long),
        pytest.param("x86_spec_ctrl_current", "Skylake-Client", _IBRS, "7.", marks=pytest.mark.long),
        ("x86_ibpb_exit_to_user", None, "vmscape=force setcpuid=250", "7."),
    ],
    ids=["pti", "branch-history", "ibrs", "vmscape"],
)
def test_a_mitigation_whose_symbol_is_elsewhere_is_refused(
    lab: Lab, symbol: str, cpu: str | None, append: str, only_on: str
) -> None:
    """Where the mitigation is off, the module does not miss the symbol. Nor does scope=all, but for one."""
    if not lab.guest.target.release.startswith(only_on):
        pytest.skip(f"{symbol}: on {only_on}x only")
    module = lab.module.module.read_bytes()
    looks_elsewhere = module.replace(f"{symbol}\0".encode(), f"{symbol[:-1]}_\0".encode())
    assert looks_elsewhere != module
    every_scope = symbol == "x86_ibpb_exit_to_user"
    task = """
insmod /elsewhere.ko scope=marked 2>/dev/null && echo marked
dmesg | grep -o 'refused: a mitigation.*' | sort -u
insmod /elsewhere.ko scope=all 2>/dev/null && echo all
true
"""
    machine = lab.guest.machine(append=append, cpu=cpu)
    files = {"elsewhere.ko": looks_elsewhere}
    output = lab.guest.run(lab.steps, task, files, what="a symbol elsewhere", timeout=120, machine=machine)
    said = f"refused: a mitigation is on whose {symbol[:-1]}_ is not where the kernels known here have it"
    assert output.text == (said, *([] if every_scope else ["all"])), output.console
    off = lab.guest.run(
        lab.steps,
        "insmod /elsewhere.ko && echo marked",
        files,
        what="the mitigation off",
        timeout=120,
        machine=lab.guest.machine(append="vmscape=off" if every_scope else ""),
    )
    assert off.text == ("marked",), off.console


@_newest
@pytest.mark.parametrize("append", [pytest.param("", marks=pytest.mark.long), "pti=on"], ids=["nopti", "pti"])
def test_32_bit_programs_keep_the_kernels_own_entry(lab: Lab, append: str) -> None:
    """Answers, flags and traps as before, no more than the few instructions that ask whose it is, and no stub."""
    programs = compile_programs(lab.steps, I386, (*NATIVE_PROGRAMS, *PROGRAMS))
    task = """/vsyscall32
/calls32 | sed 's/^/{"before": /; s/$/}/'
insmod /sysenter.ko || exit 99
echo loaded
/vsyscall32
/calls32 | sed 's/^/{"after": /; s/$/}/'
"""
    files = {"sysenter.ko": lab.module.module.read_bytes()}
    files |= {f"{name}32": (programs / name).read_bytes() for name in ("calls", "vsyscall")}
    machine = lab.guest.machine(icount=True, append=append)
    output = lab.guest.run(lab.steps, task, files, what="a test", timeout=120, machine=machine)
    assert not output.bad_lines(), output.console
    at = output.text.index("loaded")
    assert at >= 9
    assert output.text[:at] == output.text[at + 1 :]
    assert all("right" in line for line in output.text[:at]), output.text
    before, after = output.of("before"), output.of("after")
    assert len(before) == len(after) == 6
    for one, other in zip(before, after, strict=True):
        assert one["right"], one
        assert other["right"], other
        more = other["tsc"] - one["tsc"]
        assert more == (5 if one["path"] == "stock" else 0), (one, other)


@_newest
def test_a_cpu_that_leaves_and_comes_back_has_the_entry_again(lab: Lab) -> None:
    output = lab(
        f"""{_LOAD}
export LD_PRELOAD=/lib/sysenter/libsysenter.so
on_cpu_1() {{
	before=$(cat {_CALLS})
	taskset 2 /gnu/bin/dd if=/dev/zero of=/dev/null bs=1 count=1000 2>/dev/null && echo "ran"
	after=$(cat {_CALLS})
	[ $((after - before)) -ge 2000 ] && echo "fast"
}}
on_cpu_1
echo 0 >/sys/devices/system/cpu/cpu1/online && echo "offline"
echo 1 >/sys/devices/system/cpu/cpu1/online && echo "online"
on_cpu_1
# it goes while the processor is off line, and comes while it is
LD_PRELOAD=
echo 0 >/sys/devices/system/cpu/cpu1/online && rmmod sysenter && echo went
echo 1 >/sys/devices/system/cpu/cpu1/online && taskset 2 /lib/sysenter/callers && echo "right without"
echo 0 >/sys/devices/system/cpu/cpu1/online && insmod /sysenter.ko && echo "came"
echo 1 >/sys/devices/system/cpu/cpu1/online
LD_PRELOAD=/lib/sysenter/libsysenter.so
on_cpu_1
LD_PRELOAD= rmmod sysenter && echo went
""",
        cpus=2,
    )
    served = ("ran", "fast")
    between = ("offline", "online", *served, "went", "right without", "came")
    assert output.text == (*served, *between, *served, "went"), output.text


def test_no_probe_can_be_set_in_the_entry(lab: Lab) -> None:
    """One there would be taken with the user's GS and stack (see the HAZARD in entry_amd64.S)."""
    output = lab(f"""{_LOAD}
mount -t debugfs none /sys/kernel/debug
cd /sys/kernel/debug/tracing
echo 'p:other sysenter:sysenter_wait_until_left' 2>/dev/null >kprobe_events && echo "elsewhere"
echo 'p:mine sysenter:sysenter_entry_no_ibt' 2>/dev/null >>kprobe_events || echo "not here"
echo >kprobe_events
""")
    assert output.text == ("elsewhere", "not here"), output.text
