# SPDX-License-Identifier: GPL-2.0-or-later
"""Load and unload: nothing is left behind, nothing hangs, whoever is inside and whoever is in the way."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

import pytest

from conftest import AMD64
from shell import FREE_MEMORY, WAIT_FOR, load_module
from sysenter.build.present import build_present_module
from sysenter.lab.guest import Output
from sysenter.steps import Steps
from sysenter.target.arch import I386
from sysenter.target.target import Target

RunTask = Callable[..., Output]

SLEEPS = ("read", "poll", "epoll", "nanosleep", "futex", "sigtimedwait", "pselect6", "io_uring", "wait4", "reboot")


_SHELL_SAYS = ("Killed", "Segmentation fault")  # of a job that ended so

# The symbols of the entry; on amd64 those that the copy in use has.
ENTRY = {
    "i386": "sysenter_entry sysenter_past_trampoline sysenter_call_body sysenter_body_returns sysenter_leaves"
    " sysenter_left sysenter_dispatch",
    "amd64": "sysenter_entry sysenter_entry_no_ibt sysenter_entry_pti",
}


pytestmark = pytest.mark.parametrize("target", ["bookworm-686", *AMD64], indirect=True, scope="session")


@pytest.fixture(scope="session")
def rival(module_of: Callable[[str], bytes]) -> bytes:
    """A module that takes the SYSENTER registers, or probes the entry (tests/native/rival)."""
    return module_of("rival")


@pytest.fixture(scope="session")
def kvm_intel(module_of: Callable[[str], bytes]) -> bytes:
    """A module of this name that can be held, as a virtual machine holds KVM's (tests/native/vm)."""
    return module_of("vm")


def test_virtual_machines_are_waited_for(in_guest: RunTask, kvm_intel: bytes) -> None:
    """One keeps the entry of its beginning and brings it back at each of its exits, after an unload too."""
    output = in_guest(
        WAIT_FOR
        + """
machine=/sys/module/kvm_intel/parameters/machine
insmod /kvm_intel.ko machine=1
insmod /sysenter.ko 2>/dev/null; ls -d /sys/module/sysenter 2>/dev/null
dmesg | grep -q 'sysenter: refused: a virtual machine' && echo refused
echo 0 >$machine; insmod /sysenter.ko && echo loaded
echo 1 >$machine; rmmod sysenter & wait_for "dmesg | grep -q 'unload waits'"
/lib/sysenter/callers; echo "callers $?"
echo 0 >$machine; wait %1; echo "rmmod $?"
dmesg | grep -q 'sysenter: unload waits: a virtual machine' && echo waited
ls -d /sys/module/sysenter
""",
        files={"kvm_intel.ko": kvm_intel},
        cpus=2,
        load=False,
    )
    text = [line for line in output.text if not line.startswith("ls:")]
    assert text == ["refused", "loaded", "callers 0", "rmmod 0", "waited"], output.text


@pytest.mark.parametrize("scope", ["marked", pytest.param("all", marks=pytest.mark.long)])
def test_unload_ends_while_tasks_sleep_inside_for_ever(in_guest: RunTask, target: Target, scope: str) -> None:
    """Their mappings are gone, so any user could hold the module for ever otherwise."""
    # amd64: whoever sleeps with a return address of its own choice is seen as well
    sleeps = (*SLEEPS, "nowhere") if target.arch is not I386 and scope == "marked" else SLEEPS
    output = in_guest(
        f"""
{WAIT_FOR}
{"export SYSENTER_PATH=stock" if scope == "all" else ""}
for sleep in {" ".join(sleeps)}; do
	insmod /sysenter.ko scope={scope}
	/lib/sysenter/hazards_unload $sleep >/tmp/said &
	sleep 0.3	# so that a child of its sleeps too
	wait_for 'asleep $!'
	[ $(cat /sys/module/sysenter/parameters/calls) -gt 0 ] || echo "$sleep: no fast call"
	wait_for '[ $(cat /sys/module/sysenter/refcnt) = 0 ]'	# no mapping is left
	timeout -s KILL 10 rmmod sysenter && echo "$sleep: went"
	cat /tmp/said
	kill -9 $!; wait $!
done
exit 0
""",
        load=False,
        timeout=120,
    )
    text = [line for line in output.text if not line.startswith("sh:") and line not in _SHELL_SAYS]
    # Calls that signal(7) says a stop and continue ends with EINTR may do so; no other may end.
    ended = {"epoll", "sigtimedwait", "io_uring"}
    assert [line for line in text if line.endswith("went")] == [f"{sleep}: went" for sleep in sleeps], text
    assert {line.split(":")[0] for line in text if line.endswith(": -4")} <= ended, text
    assert not [line for line in text if not line.endswith((": went", ": -4"))], text


@pytest.mark.parametrize(
    ("scope", "until_told"),
    [
        ("marked", False),
        pytest.param("marked", True, marks=pytest.mark.long),
        pytest.param("all", False, marks=pytest.mark.long),
    ],
)
def test_unload_waits_for_a_task_that_nothing_wakes(in_guest: RunTask, scope: str, until_told: bool) -> None:
    """It would come back to text that is gone. A task that is dead and has no stack any more is looked at meanwhile."""
    output = in_guest(
        f"""
{WAIT_FOR}
{"export SYSENTER_PATH=stock" if scope == "all" else ""}
cat >/tmp/modprobe <<'END'
#!/bin/busybox sh
while [ ! -e /tmp/let ]; do /bin/busybox sleep 0.1; done
END
chmod +x /tmp/modprobe; echo /tmp/modprobe >/proc/sys/kernel/modprobe
sh -c '/bin/busybox sleep 0.1 & exec /bin/busybox sleep 1000' & parent=$!
insmod /sysenter.ko scope={scope}
/lib/sysenter/hazards_unload socket >/tmp/said & sleeper=$!
wait_for "grep -q '^State:.D' /proc/$sleeper/status" && echo "asleep"
wait_for '[ $(cat /sys/module/sysenter/refcnt) = 0 ]'	# its mapping is gone
wait_for "grep -q '^State:.Z' /proc/[0-9]*/status"
grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l
[ $(cat /sys/module/sysenter/parameters/calls) -gt 0 ] && echo "by a fast call"
rmmod sysenter & unload=$!
wait_for 'grep -q going /sys/module/sysenter/initstate'
sleep 1
for second in $(seq {60 * until_told}); do dmesg | grep -q 'unload waits' && break; sleep 1; done
[ -d /sys/module/sysenter ] && [ -d /proc/$unload ] && echo "waited for"
dmesg | grep -o 'unload waits: hazards_unload.* is still inside a call' | sed 's/[0-9]//g'
touch /tmp/let; wait $unload; echo "rmmod $?"
wait $sleeper; cat /tmp/said
kill -9 $parent; wait $parent
exit 0
""",
        load=False,
    )
    text = [line for line in output.text if line not in _SHELL_SAYS]
    notice = ["unload waits: hazards_unload[] is still inside a call"] if until_told else []
    assert text == ["asleep", "1", "by a fast call", "waited for", *notice, "rmmod 0", "socket: -97"], output.text


@pytest.mark.parametrize("scope", ["marked", pytest.param("all", marks=pytest.mark.long)])
def test_a_fast_call_may_remove_the_module(in_guest: RunTask, scope: str) -> None:
    output = in_guest(
        load_module(scope)
        + "timeout -s KILL 10 /lib/sysenter/hazards_unload delete_module; ls -d /sys/module/sysenter; true",
        load=False,
    )
    assert "delete_module: 0" in output.text
    assert "/sys/module/sysenter" not in output.text


def test_no_probe_in_the_entry(in_guest: RunTask, rival: bytes, target: Target) -> None:
    """A kprobe there runs kernel code with the caller's segments and stack (the kernel forbids it in its own).

    So does a hardware breakpoint: it is tried at every byte of the entry.
    """
    parts = {"entry": ("sysenter_entry", "sysenter_entry_end"), "stand-in": ("sysenter_all", "sysenter_all_exit_done")}
    if target.arch is I386:  # without what fills the end of the stubs up, which nobody executes
        parts = {
            "entry": ("sysenter_entry", "sysenter_syscall_stubs_end"),
            "syscall": ("sysenter_syscall", "sysenter_entry_end"),
        }
    breaks = "\n".join(f"breaks $(at {first}) $(at {last}) {name}" for name, (first, last) in parts.items())
    output = in_guest(
        f"""
grep '.sysenter.$' /proc/kallsyms >/tmp/symbols
for symbol in {ENTRY[target.arch.name]}; do
	grep -q " $symbol[[:space:]]" /tmp/symbols || echo "no symbol $symbol"
	insmod /rival.ko probes=sysenter:$symbol 2>/dev/null && {{ echo "probed $symbol"; rmmod rival; }}
done
insmod /rival.ko probes=sysenter:sysenter_die_notify && echo "rival works"
rmmod rival
at() {{ echo $((0x$(awk -v name=$1 '$3 == name {{ print $1; exit }}' /tmp/symbols))); }}
said=/sys/module/rival/parameters
breaks() {{
	insmod /rival.ko breaks_from=$(printf 0x%x $1) breaks_to=$(printf 0x%x $2)
	echo "$3 of $(($2 - $1)): $(cat $said/broke)"
	[ $(cat $said/broke) = 0 ] || echo "the first at $3+$(($(cat $said/broke_at) - $1))"
	rmmod rival
}}
{breaks}
breaks $(at sysenter_die_notify) $(($(at sysenter_die_notify) + 4)) elsewhere
""",
        files={"rival.ko": rival},
    )
    assert output.text[0] == "rival works", output.text
    broke = {line.split()[0]: [int(n) for n in re.findall(r"\d+", line)] for line in output.text[1:-1]}
    assert list(broke) == [*parts, "elsewhere"], output.text
    assert all(broke[part][0] > 100 and broke[part][1] == 0 for part in parts), output.text
    assert broke["elsewhere"] == [4, 4], output.text


@pytest.mark.parametrize("cpu", ["takes=1", pytest.param("takes_cpu=0", marks=pytest.mark.long), "takes_cpu=1"])
def test_refuses_registers_that_another_module_has(in_guest: RunTask, rival: bytes, target: Target, cpu: str) -> None:
    # amd64's entry finds the caller's flags by the stack that the kernel has set, and so wants that one
    moved = "insmod /rival.ko moves_stack=1; insmod /sysenter.ko 2>&1 && echo 'on a moved stack'; rmmod rival"
    output = in_guest(
        f"""
{"" if target.arch is I386 else moved}
insmod /rival.ko {cpu}
insmod /sysenter.ko 2>&1; ls -d /dev/sysenter /sys/module/sysenter 2>/dev/null
/lib/sysenter/callers; echo "callers $?"
dmesg | grep 'sysenter: refused' | tail -n 1
rmmod rival
insmod /sysenter.ko && echo "loaded at last"
""",
        files={"rival.ko": rival},
        cpus=2,
        load=False,
    )
    text = "\n".join(output.text)
    assert "another module has it" in text
    assert "on a moved stack" not in text
    assert "callers 0" in text
    assert "/dev/sysenter" not in text
    assert output.text[-1] == "loaded at last"


def test_waits_for_a_module_that_stands_before_it(in_guest: RunTask, rival: bytes) -> None:
    output = in_guest(
        WAIT_FOR
        + """
insmod /rival.ko takes=1
rmmod sysenter & wait_for "dmesg | grep -q 'unload waits'"
/lib/sysenter/callers; echo "callers $?"
rmmod rival; wait %1; echo "rmmod $?"
/lib/sysenter/callers; echo "callers $?"
ls -d /sys/module/sysenter; dmesg | grep 'sysenter: unload waits'
""",
        files={"rival.ko": rival},
        cpus=2,
    )
    text = "\n".join(output.text)
    assert text.count("callers 0") == 2
    assert "rmmod 0" in text
    assert "on 2 CPU(s) another module" in text


def test_the_kernels_own_entry_is_no_other_modules(in_guest: RunTask, rival: bytes) -> None:
    """Something has written it back, as a hypervisor does at an exit. Nobody is to be waited for."""
    output = in_guest(
        WAIT_FOR
        + """
[ -e /lib/sysenter/msr.ko ] && insmod /lib/sysenter/msr.ko
entries() { /lib/sysenter/msr | grep -o '"eip": "[^"]*"'; }
insmod /rival.ko writes_back=1
entries >/tmp/stock
insmod /sysenter.ko && entries | cmp -s - /tmp/stock || echo "ours"
rmmod rival
[ -s /tmp/stock ] && entries | cmp -s - /tmp/stock && echo "written back"
rmmod sysenter & wait_for '[ ! -e /sys/module/sysenter ]'; ls -d /sys/module/sysenter
/lib/sysenter/callers; echo "callers $?"
dmesg | grep 'sysenter: unload'
""",
        files={"rival.ko": rival},
        cpus=2,
        load=False,
    )
    text = "\n".join(output.text)
    assert output.text[:2] == ("ours", "written back"), text
    assert "unload waits" not in text, text
    assert "callers 0" in text
    assert "/sys/module/sysenter: No such file" in text, text


def test_a_load_that_fails_at_any_step_leaves_nothing_behind(in_guest: RunTask, steps: Steps, target: Target) -> None:
    faulty = build_present_module(steps, target, what=" (with faults)", options="-DSYSENTER_FAULT_INJECTION")
    output = in_guest(
        """
[ -e /lib/sysenter/msr.ko ] && insmod /lib/sysenter/msr.ko
/lib/sysenter/msr >/tmp/before
[ -s /tmp/before ] || echo "no registers"
step=1
while [ $step -lt 100 ]; do
	if insmod /faulty.ko scope=both fail_at=$step 2>/dev/null; then
		rmmod sysenter
		echo "loaded $step"
		# twice in a row: the end, not a fault that did not matter
		[ "$last" = $((step - 1)) ] && [ $step -gt 12 ] && break
		last=$step
	fi
	/lib/sysenter/msr | cmp - /tmp/before || echo "registers differ after $step"
	ls -d /dev/sysenter /sys/module/sysenter /sys/class/misc/sysenter 2>/dev/null
	step=$((step + 1))
done
/lib/sysenter/callers; echo "callers $?"
""",
        files={"faulty.ko": faulty.module.read_bytes()},
        cpus=2,
        load=False,
        timeout=120,
    )
    loaded = [int(line.split()[1]) for line in output.text if line.startswith("loaded")]
    assert "callers 0" in output.text
    assert len(output.text) == len(loaded) + 1, output.text
    assert loaded[-1] - 2 >= 12, f"only {loaded[-1] - 2} steps were failed"


@pytest.mark.parametrize(
    "scope", ["marked", pytest.param("all", marks=pytest.mark.long), pytest.param("both", marks=pytest.mark.long)]
)
def test_many_loads_and_unloads_leak_nothing(in_guest: RunTask, target: Target, scope: str) -> None:
    """100 times, 60 on amd64; SYSENTER_LOADS says how many, 1,000 for an issue's acceptance."""
    loads = int(os.environ.get("SYSENTER_LOADS", "100" if target.arch is I386 else "60"))
    output = in_guest(
        FREE_MEMORY
        + f"""
load() {{
	n=0
	while [ $n -lt $1 ]; do
		insmod /sysenter.ko scope={scope} && rmmod sysenter || echo "lost $n"
		n=$((n + 1))
	done
}}
memory() {{
	echo "{{\\"free\\": $(free_memory)}}"
	awk '/^(SUnreclaim|VmallocUsed|KernelStack|Percpu):/ {{ print "{{\\"" $1 "\\": " $2 "}}" }}' \\
		/proc/meminfo | sed 's/://'
	# without what is freed and still listed, and tasks' stacks: kernel threads come and go
	areas=$(grep -c -v -E 'unpurged vm_area|kernel_clone' /proc/vmallocinfo)
	echo "{{\\"areas\\": $areas, \\"misc\\": $(wc -l </proc/misc)}}"
}}
load 20
memory
load {loads}
memory
""",
        load=False,
        timeout=60 + loads,
    )
    assert not output.text, output.text
    first, second = output.records[: len(output.records) // 2], output.records[len(output.records) // 2 :]
    before = {k: v for r in first for k, v in r.items()}
    after = {k: v for r in second for k, v in r.items()}
    assert before["areas"] == after["areas"]
    assert before["misc"] == after["misc"]
    # A leak of one page in each load would be 4 KiB times loads. What comes and goes by itself is as much as 40's.
    told = max(loads, 40)
    assert before["free"] - after["free"] < 2 * told, (before, after)
    assert after["SUnreclaim"] - before["SUnreclaim"] < told, (before, after)
    assert abs(after["Percpu"] - before["Percpu"]) <= 16, (before, after)
