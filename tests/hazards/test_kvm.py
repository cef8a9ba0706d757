# SPDX-License-Identifier: GPL-2.0-or-later
"""Beside real virtual machines: KVM's own module runs one inside the guest, on the SVM that QEMU emulates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from guests import guest_for, sockets
from monitor import sent_when_ready
from shell import HOTPLUG, LOAD, WAIT_FOR
from sysenter.build import build_module
from sysenter.kernels.drivers import KVM, drivers
from sysenter.kernels.provide import provide
from sysenter.lab.guest import Guest, Output
from sysenter.steps import Steps

# KVM, and a virtual machine of its: begin, and end WHAT.
_KVM = f"""{WAIT_FOR}
for driver in /drivers/*.ko; do insmod $driver || echo "no $driver"; done
insmod /lib/sysenter/msr.ko
begin() {{ rm -f /tmp/vm; /lib/sysenter/vm >/tmp/vm & vm=$!; wait_for "grep -q running /tmp/vm"; cat /tmp/vm; }}
end() {{ kill $vm; wait $vm; echo "$1: vm $?"; }}
"""
_TASK = """
count() { cat /sys/module/sysenter/parameters/calls; }
right() { # WHAT: every call by each path gives its answer, and the fast ones are the module's
	before=$(count); /lib/sysenter/calls >/tmp/calls
	echo "$1: $(grep -c '"right": true' /tmp/calls) right, $(grep -c '"right": false' /tmp/calls) wrong"
	[ $(($(count) - before)) -ge 7200 ] && echo "$1: fast"
}
/lib/sysenter/msr >/tmp/registers
[ -s /tmp/registers ] || echo "no registers"
begin
insmod /sysenter.ko 2>/dev/null && echo loaded
dmesg | grep -q 'sysenter: refused: a virtual machine' && echo "refused while one runs"
end before
insmod /sysenter.ko scope=$scope && echo loaded
right "without one"
begin
right during
LD_PRELOAD=/lib/sysenter/libsysenter.so /lib/sysenter/callers; echo "callers $?"
end loaded
right after
begin
rmmod sysenter & unload=$!
wait_for "dmesg | grep -q 'sysenter: unload waits: a virtual machine'" && echo "unload waits"
/lib/sysenter/calls | grep -c '"right": true'
kill -0 $vm && end waiting
wait $unload; echo "rmmod $?"; ls -d /sys/module/sysenter 2>/dev/null
/lib/sysenter/msr | cmp - /tmp/registers && echo "registers as before"
begin
/lib/sysenter/calls | grep -c '"right": true'
end unloaded
exit 0
"""
# killed: 128 + SIGTERM
_EXPECTED = """running
refused while one runs
before: vm 143
loaded
without one: 9 right, 0 wrong
without one: fast
running
during: 9 right, 0 wrong
during: fast
callers 0
loaded: vm 143
after: 9 right, 0 wrong
after: fast
running
unload waits
6
waiting: vm 143
rmmod 0
registers as before
running
6
unloaded: vm 143
"""


# As long as there is the file /tmp/go: virtual machines, one after the other. $1: seconds that each runs.
_MACHINES = """
machines() {
	while [ -e /tmp/go ]; do
		/lib/sysenter/vm >/tmp/vm.$1 & vm=$!
		sleep $1
		wait_for "grep -q running /tmp/vm.$1"
		kill $vm; wait $vm; status=$?
		[ $status = 143 ] || echo "a machine ended with $status"
		echo x >>/tmp/machines
	done
}
"""

# Waits for jobs. Those that have not ended after 90 s are ended, and it is said what each program is at.
_ALL_END = """
all_end() {
	{
		sleep 90
		for at in /proc/[0-9]*; do
			words=$(tr '\\0' ' ' <$at/cmdline)
			[ "$words" ] && echo "still there: ${at#/proc/} $words: $(cat $at/syscall)" && cat $at/stack
		done
		kill -9 $* 2>/dev/null; killall -9 callers vm
	} & late=$!
	wait $*
	kill $late 2>/dev/null
}
"""


def _guest(steps: Steps) -> tuple[Guest, dict[str, bytes]]:
    """With the module, and KVM's drivers, each by its place in their order."""
    target = provide(steps, "bookworm-686", offline=False)
    found = drivers(steps, target, KVM, offline=False)
    files = {f"drivers/{n:02}-{name}.ko": data for n, (name, data) in enumerate(found.items())}
    files["sysenter.ko"] = build_module(steps, target).module.read_bytes()
    return guest_for(steps, target), files


def _said(output: Output) -> list[str]:
    """Without what the shell says of a program that was killed."""
    return [line for line in output.text if line != "Terminated"]


def _bad_lines(output: Output) -> list[str]:
    """Without what the kernel warns of as it starts: this processor's mitigations."""
    return [line for line in output.bad_lines() if "Return Stack Overflow" not in line]


@pytest.mark.long
@pytest.mark.parametrize(("cpus", "scope"), [(1, "marked"), (2, "both")])
def test_a_real_virtual_machine_beside_it(steps: Steps, cpus: int, scope: str) -> None:
    """Load is refused while one runs; calls are right during and after; unload waits for its end."""
    guest, files = _guest(steps)
    machine = guest.machine(cpu="EPYC,+svm", cpus=cpus)
    output = guest.run(
        steps, f"scope={scope}\n{_KVM}{_TASK}", files, what="a virtual machine", timeout=180, machine=machine
    )
    assert not _bad_lines(output), output.console
    assert _said(output) == _EXPECTED.splitlines(), "\n".join((*output.text, output.console[-2000:]))


@pytest.mark.long
@pytest.mark.parametrize("scope", ["marked", "all"])
def test_virtual_machines_come_and_go_beside_fast_calls(
    steps: Steps, scope: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Two at once, on four processors that go off line and on. `--minutes 60`: for an hour."""
    seconds = int(60 * float(request.config.getoption("--minutes")))
    guest, files = _guest(steps)
    task = f"""
{_KVM}{LOAD}{HOTPLUG}{_MACHINES}{_ALL_END}
insmod /sysenter.ko scope={scope} || exit 99
/lib/sysenter/msr
touch /tmp/go /tmp/turns /tmp/machines
jobs=
for job in "machines 3" "machines 7" load load hotplug; do $job & jobs="$jobs $!"; done
sleep {seconds}
rm /tmp/go; all_end $jobs
/lib/sysenter/msr
echo "{{\\"turns\\": $(wc -l </tmp/turns), \\"machines\\": $(wc -l </tmp/machines)}}"
echo "{{\\"marked\\": $(cat /sys/module/sysenter/parameters/calls)}}"
echo "{{\\"all\\": $(cat /sys/module/sysenter/parameters/calls_all)}}"
rmmod sysenter && echo went
"""
    machine = guest.machine(cpu="EPYC,+svm", cpus=4, extra=sockets(4))
    output = guest.run(steps, task, files, what="virtual machines", timeout=seconds + 150, machine=machine)
    assert not _bad_lines(output), output.console[-4000:]
    assert _said(output) == ["went"], "\n".join(_said(output))
    assert len(set(output.of("eip"))) == 1, output.records
    assert len(output.of("eip")) == 8
    assert output.of("machines")[0] >= seconds // 10, output.records
    assert output.of("turns")[0] >= seconds // 30, output.records
    assert output.of(scope)[0] > 100 * seconds, output.records


@pytest.mark.long
@pytest.mark.parametrize("cpus", [1, 2])
def test_a_virtual_machine_runs_on_after_s3(steps: Steps, cpus: int, tmp_path: Path) -> None:
    """The machine sleeps three times under it; VMRUN and our registers are set up again, whichever comes first."""
    guest, files = _guest(steps)
    task = f"""
{_KVM}{LOAD}
insmod /sysenter.ko scope=both || exit 99
/lib/sysenter/msr
touch /tmp/go
load & load &
begin
echo '{{"ready": true}}'
for time in 1 2 3; do
	sleep 1
	echo mem >/sys/power/state && echo "slept $time"
	/lib/sysenter/msr
done
sleep 1
end "slept"
begin
end "another"
rm /tmp/go; wait
rmmod sysenter && echo went
"""
    with sent_when_ready(tmp_path, "system_wakeup", 1) as (options, on_record):
        machine = guest.machine(cpu="EPYC,+svm", cpus=cpus, extra=(*sockets(cpus), *options))
        machine = replace(machine, kernel=guest.target.image)  # as it is: see live() in test_life.py
        output = guest.run(
            steps, task, files, what="a virtual machine, and sleep", timeout=180, machine=machine, on_record=on_record
        )
    assert not _bad_lines(output), output.console[-4000:]
    expected = ["running", "slept 1", "slept 2", "slept 3", "slept: vm 143", "running", "another: vm 143", "went"]
    assert _said(output) == expected, "\n".join(_said(output))
    assert len(output.of("eip")) == 4 * cpus
    assert len(set(output.of("eip"))) == 1, output.records
