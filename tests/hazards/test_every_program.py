# SPDX-License-Identifier: GPL-2.0-or-later
"""scope=all: every program's calls, unmodified, get what the stock kernel gives; unload leaves nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from cases import assert_each_did_its_part
from conftest import AMD64
from guests import guest_for
from shell import WAIT_FOR
from sysenter.build import build_module
from sysenter.kernels.provide import provide
from sysenter.lab.guest import Output
from sysenter.steps import Steps

RunTask = Callable[..., Output]

# kernel, processor, CPUs, more of the command line
MACHINES = [
    pytest.param("bookworm-amd64", None, 4, "preempt=full", id="6.1-preempt", marks=pytest.mark.long),
    pytest.param("bookworm-amd64", "EPYC-Milan", 2, "", id="6.1-amd", marks=pytest.mark.long),
    pytest.param("bookworm-amd64", "EPYC", 2, "", id="6.1-zen1", marks=pytest.mark.long),
    pytest.param("bookworm-amd64", None, 1, "pti=on", id="6.1-pti", marks=pytest.mark.long),
    pytest.param("bookworm-backports-amd64", None, 2, "preempt=full", id="6.12", marks=pytest.mark.long),
    pytest.param("trixie-backports-amd64", None, 2, "pti=on preempt=full", id="7-pti-preempt"),
    pytest.param("trixie-backports-amd64", "EPYC-Milan", 2, "", id="7-amd", marks=pytest.mark.long),
]
# hazards_system last: once audit has been on, the kernel watches all tasks, and none is served
PROGRAMS = ("hazards_calls", "hazards_watch", "hazards_signals", "hazards_arch", "hazards_system")


def same_with_and_without(
    steps: Steps, kernel: str, cpu: str | None, cpus: int, append: str, programs: Sequence[str]
) -> tuple[dict[str, str], list[int]]:
    """What each case says without the module, having seen that it says the same with it; calls served after each
    program."""
    target = replace(provide(steps, kernel, offline=False), cpus=cpus)
    guest = guest_for(steps, target, "tcg")

    def said(load: str, go: str) -> tuple[dict[str, str], Output]:
        lines = ["mount -t tracefs tracefs /sys/kernel/tracing; export SYSENTER_PATH=stock", load]
        for program in programs:
            lines += [f"/lib/sysenter/{program}; /lib/sysenter/{program} -root"]
            lines += [f"echo {program} $(cat /sys/module/sysenter/parameters/calls_all)"] if load else []
        output = guest.run(
            steps,
            "\n".join([*lines, go]),
            {"sysenter.ko": build_module(steps, target).module.read_bytes()},
            what="unmodified programs",
            timeout=300,
            machine=guest.machine(append=append, cpu=cpu),
        )
        assert not output.bad_lines(), output.console
        return {r["case"]: r["stock"] for r in output.records}, output

    stock, _ = said("", "")
    every, output = said("insmod /sysenter.ko scope=all || exit 99", "rmmod sysenter && echo went")
    differ = [case for case in stock if stock[case] != every.get(case)]
    assert not differ, "\n".join(f"{case}:\n  stock {stock[case]}\n  all   {every.get(case)}" for case in differ)
    assert "went" in output.text, output.text
    counts = [int(line.split()[1]) for line in output.text if line.startswith("hazards_")]
    assert len(counts) == len(programs)
    return stock, counts


@pytest.mark.parametrize(("kernel", "cpu", "cpus", "append"), MACHINES)
def test_unmodified_programs_get_what_stock_gives(
    steps: Steps, kernel: str, cpu: str | None, cpus: int, append: str
) -> None:
    """Hostile callers, watchers and signals once without the module and once with it, every register compared."""
    stock, counts = same_with_and_without(steps, kernel, cpu, cpus, append, PROGRAMS)
    assert_each_did_its_part(stock, PROGRAMS, "amd64")
    assert counts[0] > 1000, f"served {counts[0]} calls: the comparison says nothing"
    assert counts[:-1] == sorted(set(counts[:-1])), counts


@pytest.mark.long
@pytest.mark.parametrize("kernel", ["bookworm-amd64", "trixie-backports-amd64"])
def test_where_the_kernel_patches_its_text(steps: Steps, kernel: str) -> None:
    """Probes in the kernel and in programs, tracers, tracepoints, cgroups; one CPU, as in test_callers.py."""
    programs = ("hazards_patched",)
    stock, counts = same_with_and_without(steps, kernel, None, 1, "", programs)
    assert_each_did_its_part(stock, programs, "amd64")
    assert counts[0] > 1000, counts


# The others boot one guest each for all kernels of AMD64.
each_kernel = pytest.mark.parametrize("target", AMD64, indirect=True, scope="session")


@pytest.fixture(scope="session")
def rival(module_of: Callable[[str], bytes]) -> bytes:
    """A module that takes the same call in the kernel's entry (tests/native/rival)."""
    return module_of("rival")


@each_kernel
def test_it_leaves_while_tasks_sleep_inside_or_are_stopped(in_guest: RunTask) -> None:
    """A sleeper is woken and its call restarted; one that is stopped in its exit work goes back without us."""
    output = in_guest(
        WAIT_FOR
        + """
export SYSENTER_PATH=stock
insmod /sysenter.ko scope=all
for sleep in read poll nanosleep futex pselect6; do /lib/sysenter/hazards_unload $sleep & sleepers="$sleepers $!"; done
mkfifo /tmp/wake
/gnu/bin/dd if=/tmp/wake of=/tmp/copy bs=1 count=3 2>/dev/null & reader=$!
exec 9<>/tmp/wake
sh -c 'n=0; while [ $n -lt 200000 ]; do n=$((n + 1)); done; echo "counted $n"' & busy=$!
wait_for 'asleep $sleepers $reader'
kill -STOP $reader $busy
wait_for '! grep -q "^State:.[^TZ]" /proc/$reader/status /proc/$busy/status'
timeout -s KILL 20 rmmod sysenter && echo went
ls -d /sys/module/sysenter 2>/dev/null
kill -CONT $reader $busy
echo -n abc >&9; wait $reader; echo "reader $? $(cat /tmp/copy)"
wait $busy; echo "busy $?"
insmod /sysenter.ko scope=all && rmmod sysenter && echo "again"
exit 0
""",
        load=False,
        cpus=2,
        append="preempt=full",
    )
    text = [line for line in output.text if not line.startswith("sh:")]
    assert text == ["went", "reader 0 abc", "counted 200000", "busy 0", "again"], output.text


@each_kernel
def test_it_comes_and_goes_under_load(in_guest: RunTask) -> None:
    output = in_guest(
        WAIT_FOR
        + """
( while :; do /gnu/bin/dd if=/dev/zero of=/dev/null bs=1 count=2000 2>/dev/null || echo lost; done ) &
( while :; do /bin/busybox true || echo lost; echo x | cat >/dev/null; done ) &
( while :; do find /proc/self >/dev/null 2>&1; /bin/busybox sleep 0.02 || echo lost; done ) &
n=0
while [ $n -lt 8 ]; do
	scope=all; [ $((n % 2)) = 1 ] && [ -e /both ] && scope=both
	insmod /sysenter.ko scope=$scope || exit 98
	sleep 0.1
	wait_for '[ $(cat /sys/module/sysenter/parameters/calls_all) -gt 10 ]'
	if [ $n = 3 ]; then
		echo 0 >/sys/devices/system/cpu/cpu1/online; echo 1 >/sys/devices/system/cpu/cpu1/online
	fi
	timeout -s KILL 30 rmmod sysenter || { echo stuck; exit 97; }
	n=$((n + 1))
done
echo "loads $n"
exit 0
""",
        load=False,
        cpus=2,
        append="preempt=full",
        timeout=280,
        files={"both": b""},
    )
    assert list(output.text) == ["loads 8"], output.text


@each_kernel
def test_another_patcher_of_the_call_is_named_and_waited_for(in_guest: RunTask, rival: bytes) -> None:
    output = in_guest(
        WAIT_FOR
        + """
insmod /rival.ko takes_call=1
insmod /sysenter.ko scope=all 2>/dev/null; ls -d /sys/module/sysenter 2>/dev/null
dmesg | grep -o 'refused: scope=all: .* rival_call [^;]*'
rmmod rival
insmod /sysenter.ko scope=all && insmod /rival.ko takes_call=1 && echo "rival is before it"
rmmod sysenter & wait_for "dmesg | grep -q 'unload waits'"
/lib/sysenter/callers; echo "callers $?"
dmesg | grep -o 'unload waits: .* rival_call [^;]*' | tail -n 1
rmmod rival; wait %1; echo "rmmod $?"
ls -d /sys/module/sysenter 2>/dev/null
/lib/sysenter/callers; echo "callers $?"
""",
        load=False,
        cpus=2,
        files={"rival.ko": rival},
    )
    text = list(dict.fromkeys(output.text))
    assert text == [
        "refused: scope=all: the kernel's entry calls rival_call [rival] instead of do_syscall_64",
        "rival is before it",
        "callers 0",
        "unload waits: the kernel's entry calls rival_call [rival] instead of the stand-in of scope=all",
        "rmmod 0",
    ], output.text


@each_kernel
def test_who_traces_the_dispatch_sees_every_call(in_guest: RunTask) -> None:
    """x64_sys_call() is called; do_syscall_64(), and on 7.x both, cannot be probed, with or without the module.
    Probed and traced while it is loaded, and before it is."""
    output = in_guest(
        """
mount -t tracefs tracefs /sys/kernel/tracing
cd /sys/kernel/tracing
probe() { (echo "p:all $1" >kprobe_events) 2>/dev/null; }
probe do_syscall_64 && echo "probed"
probe x64_sys_call || echo "nobody can"
echo >kprobe_events
insmod /sysenter.ko scope=all
probe do_syscall_64 && echo "probed"
grep -qx 'do_syscall_64' available_filter_functions && echo "traceable"
probe x64_sys_call || { echo "nobody can"; cd /; rmmod sysenter && echo went; exit 0; }
hits() { awk '$1 == "all" { print $2 }' kprobe_profile; }
all_seen() {
	before=$(hits); served=$(cat /sys/module/sysenter/parameters/calls_all)
	/lib/sysenter/calls >/dev/null
	served=$(($(cat /sys/module/sysenter/parameters/calls_all) - served)); more=$(($(hits) - before))
	[ $served -gt 1000 ] && echo "served"
	[ $more -ge $served ] && echo "all seen" || echo "$more of $served"
}
echo 1 >events/kprobes/all/enable
all_seen
rmmod sysenter && insmod /sysenter.ko scope=all	# with the probe in its way
all_seen
echo 0 >events/kprobes/all/enable
echo >kprobe_events
echo x64_sys_call >set_ftrace_filter && echo function >current_tracer
/lib/sysenter/calls >/dev/null
echo 0 >tracing_on
[ $(grep -c x64_sys_call trace) -gt 1000 ] && echo traced
rmmod sysenter && insmod /sysenter.ko scope=all
echo >trace; echo 1 >tracing_on
/lib/sysenter/calls >/dev/null
echo 0 >tracing_on
[ $(grep -c x64_sys_call trace) -gt 1000 ] && echo traced
echo nop >current_tracer
cd /; rmmod sysenter && echo went
""",
        load=False,
    )
    seen = ["served", "all seen"] * 2 + ["traced"] * 2 + ["went"]
    assert list(output.text) in (seen, ["nobody can", "nobody can", "went"]), output.text


@each_kernel
@pytest.mark.parametrize(
    ("append", "why"),
    [("nohz_full=1", "nohz_full"), ("retbleed=stuff spectre_v2=retpoline setcpuid=362", "retbleed=stuff")],
    ids=["nohz_full", "call-depth"],
)
def test_what_it_cannot_serve_is_refused_by_name(in_guest: RunTask, append: str, why: str) -> None:
    output = in_guest(
        """
insmod /sysenter.ko scope=all 2>/dev/null && echo loaded && rmmod sysenter
insmod /sysenter.ko scope=some 2>/dev/null && echo loaded
for only_read in calls calls_all fast_table; do insmod /sysenter.ko $only_read=5 2>/dev/null && echo loaded; done
dmesg | grep -o 'sysenter: refused: .*'
grep -q stuff /proc/cmdline && grep . /sys/devices/system/cpu/vulnerabilities/retbleed
exit 0
""",
        load=False,
        append=append,
        cpus=2,
        cpu="Skylake-Client",
    )
    text = "\n".join(output.text)
    assert "scope=some is none of marked, all, both" in text
    for only_read in ("calls", "calls_all", "fast_table"):
        assert f"the parameter {only_read} can only be read" in text
    if why == "retbleed=stuff" and "Stuffing" not in text:
        pytest.skip("this kernel does not track the depth of calls here")
    assert "loaded" not in text
    assert why in text, text


@each_kernel
def test_a_live_patch_settles_while_tasks_sleep_inside(in_guest: RunTask, module_of: Callable[[str], bytes]) -> None:
    """A task is patched where its stack can be trusted, the stand-in's part of a sleeper's stack with it."""
    output = in_guest(
        WAIT_FOR
        + """
insmod /sysenter.ko scope=all
settled() {
	for tenth in $(seq 100); do
		[ "$(cat /sys/kernel/livepatch/patch/transition 2>/dev/null || echo 0)" = 0 ] && echo "$1 settled" && return
		sleep 0.1
	done
	for task in /proc/[0-9]*; do
		[ "$(cat $task/patch_state)" = "$2" ] || echo "$1: $(cat $task/comm) $(tr '\\n' ' ' <$task/stack)"
	done
}
mkfifo /tmp/wake
for n in 1 2 3; do /gnu/bin/dd if=/tmp/wake of=/dev/null bs=1 count=1 2>/dev/null & done
exec 9<>/tmp/wake
for job in $(jobs -p); do
	wait_for 'grep -q pipe_read /proc/$job/wchan'
	grep -q sysenter_all /proc/$job/stack && grep -q entry_SYSCALL_64 /proc/$job/stack && echo "asleep inside"
done
insmod /patch.ko && settled on 1
[ "$(/lib/sysenter/callers parent)" = 4242 ] && echo patched
echo 0 >/sys/kernel/livepatch/patch/enabled; settled off 0
echo xxx >&9; wait
rmmod patch && echo "patch went"
rmmod sysenter && echo went
""",
        files={"patch.ko": module_of("patch")},
        load=False,
    )
    text = ["asleep inside"] * 3 + ["on settled", "patched", "off settled", "patch went", "went"]
    assert list(output.text) == text, output.text


@each_kernel
def test_a_live_patch_of_the_dispatch_reaches_every_call(in_guest: RunTask, module_of: Callable[[str], bytes]) -> None:
    """x64_sys_call() patched before the module is loaded, and while it is; do_syscall_64() can be by nobody."""
    output = in_guest(
        WAIT_FOR
        + """
mount -t tracefs tracefs /sys/kernel/tracing
functions=/sys/kernel/tracing/available_filter_functions
grep -qx do_syscall_64 $functions && echo "do_syscall_64 can be patched"
grep -qx x64_sys_call $functions || { echo "nobody can"; exit 0; }
answers() {
	served=$(cat /sys/module/sysenter/parameters/calls_all)
	[ "$(/lib/sysenter/callers parent)" = 4242 ] && answer=patched || answer=own
	[ $(cat /sys/module/sysenter/parameters/calls_all) -gt $served ] && echo "$1: $answer"
}
away() {
	echo 0 >/sys/kernel/livepatch/patch_dispatch/enabled
	for tenth in $(seq 200); do rmmod patch_dispatch 2>/dev/null && return; sleep 0.1; done
	echo "does not settle"
}
insmod /patch_dispatch.ko && insmod /sysenter.ko scope=all && answers "before load"
away; answers "away"
insmod /patch_dispatch.ko && wait_for '[ $(cat /sys/kernel/livepatch/patch_dispatch/transition) = 0 ]' &&
	answers "loaded"
rmmod sysenter && insmod /sysenter.ko scope=all && answers "again"
away; rmmod sysenter && echo went
""",
        files={"patch_dispatch.ko": module_of("patch_dispatch")},
        load=False,
    )
    patched = ["before load: patched", "away: own", "loaded: patched", "again: patched", "went"]
    assert list(output.text) in (patched, ["nobody can"]), output.text


@pytest.mark.long
@pytest.mark.parametrize(
    ("kernel", "append", "scope"),
    [
        ("bookworm-amd64", "preempt=full", "all"),
        ("trixie-backports-amd64", "", "all"),
        ("trixie-backports-amd64", "", "both"),
        ("bookworm-686", "", "all"),
    ],
)
def test_loads_and_leaves_while_thousands_sleep_inside(steps: Steps, kernel: str, append: str, scope: str) -> None:
    """40 times; SYSENTER_LOADS says how many. No call of theirs ends by it, each of them is served each time."""
    loads, sleepers = int(os.environ.get("SYSENTER_LOADS", "40")), 2000
    target = provide(steps, kernel, offline=False)
    guest = guest_for(steps, target, "tcg")
    output = guest.run(
        steps,
        "while :; do /gnu/bin/dd if=/dev/zero of=/dev/null bs=1 count=20000 2>/dev/null || echo lost; done &\n"
        "while :; do /bin/busybox true || echo lost; /bin/busybox sleep 0.05; done &\n"
        f"/lib/sysenter/many_sleepers {sleepers} {loads} /sysenter.ko scope={scope}",
        {"sysenter.ko": build_module(steps, target).module.read_bytes()},
        what="thousands inside",
        timeout=120 + 4 * loads,
        machine=guest.machine(append=append, cpus=2, memory=512),
    )
    assert not output.bad_lines(), output.console[-4000:]
    assert not output.text, output.text
    (told,) = output.of("sleepers")
    print(told)  # how long it took, and the longest unload: shown with -rP
    assert told["loads"] == loads, told
    assert told["wrong"] == 0, told
    assert told["least_served"] >= sleepers, told


BUDGETS = [  # getppid's, read's and write's guest instructions at most: measured, and what two compilers may differ
    pytest.param("bookworm-amd64", None, (240, 578, 500), id="6.1", marks=pytest.mark.long),
    pytest.param("bookworm-amd64", "EPYC-Milan", (265, 627, 544), id="6.1-amd"),
    pytest.param("trixie-backports-amd64", None, (237, 558, 512), id="7", marks=pytest.mark.long),
]


@pytest.mark.parametrize(("kernel", "cpu", "most"), BUDGETS)
def test_calls_take_no_more_instructions_than_promised(
    steps: Steps, kernel: str, cpu: str | None, most: tuple[int, ...]
) -> None:
    """By x64_sys_call() and the kernel's own exit; without those it would be 20 fewer, and more cycles."""
    target = provide(steps, kernel, offline=False)
    guest = guest_for(steps, target, "tcg")
    task = "/lib/sysenter/watched; insmod /sysenter.ko scope=all || exit 99\n/lib/sysenter/calls; /lib/sysenter/watched"
    task += "\n/lib/sysenter/served"
    files = {"sysenter.ko": build_module(steps, target).module.read_bytes()}
    output = guest.run(steps, task, files, what="counting", timeout=120, machine=guest.machine(icount=True, cpu=cpu))
    assert not output.bad_lines(), output.console
    counts = [r["tsc"] - r["empty"] for r in output.records if r.get("path") == "stock"]
    assert len(counts) == 3
    assert all(count <= limit for count, limit in zip(counts, most, strict=True)), counts
    # who is not served pays for being asked
    watched = [r for r in output.records if "watched" in r]
    before, after = watched[: len(watched) // 2], watched[len(watched) // 2 :]
    more = {a["watched"]: a["tsc"] - b["tsc"] for b, a in zip(before, after, strict=True)}
    assert more.keys() == {"number outside", "outside the table", "seccomp"}
    assert more["number outside"] <= 5, more
    assert more["outside the table"] <= 15, more
    assert more["seccomp"] <= 15, more
    # what replaces the caller's registers, or may be stopped inside its body, is the kernel's
    times = {r["served"]: r["times"] for r in output.records if "served" in r}
    assert times.pop("getppid") == 1, times
    assert len(times) == 8, times
    assert not any(times.values()), times
