# SPDX-License-Identifier: GPL-2.0-or-later
"""Beside real virtual machines: KVM's own module runs one inside the guest, on the SVM that QEMU emulates."""

from __future__ import annotations

import pytest

from guests import guest_for
from sysenter.build import build_module
from sysenter.kernels.drivers import KVM, drivers
from sysenter.kernels.provide import provide
from sysenter.steps import Steps

_TASK = """
for driver in /drivers/*.ko; do insmod $driver || echo "no $driver"; done
insmod /lib/sysenter/msr.ko
begin() { /lib/sysenter/vm >/tmp/vm & vm=$!; for n in $(seq 50); do grep -q running /tmp/vm && break; sleep 0.1; done
	cat /tmp/vm; }
end() { kill $vm; wait $vm; echo "$1: vm $?"; }
count() { cat /sys/module/sysenter/parameters/calls; }
right() { # WHAT: every call by each path gives its answer, and the fast ones are the module's
	before=$(count); /lib/sysenter/calls >/tmp/calls
	echo "$1: $(grep -c '"right": true' /tmp/calls) right, $(grep -c '"right": false' /tmp/calls) wrong"
	[ $(($(count) - before)) -ge 7200 ] && echo "$1: fast"
}
/lib/sysenter/msr >/tmp/registers
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
sleep 1
dmesg | grep -q 'sysenter: unload waits: a virtual machine' && echo "unload waits"
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


@pytest.mark.long
@pytest.mark.parametrize(("cpus", "scope"), [(1, "marked"), (2, "both")])
def test_a_real_virtual_machine_beside_it(steps: Steps, cpus: int, scope: str) -> None:
    """Load is refused while one runs; calls are right during and after; unload waits for its end."""
    target = provide(steps, "bookworm-686", offline=False)
    guest = guest_for(steps, target)
    found = drivers(steps, target, KVM, offline=False)
    files = {f"drivers/{n:02}-{name}.ko": data for n, (name, data) in enumerate(found.items())}
    files["sysenter.ko"] = build_module(steps, target).module.read_bytes()
    machine = guest.machine(cpu="EPYC,+svm", cpus=cpus)
    output = guest.run(steps, f"scope={scope}\n{_TASK}", files, what="a virtual machine", timeout=180, machine=machine)
    # of this processor's mitigations the kernel warns as it starts
    assert not [line for line in output.bad_lines() if "Return Stack Overflow" not in line], output.console
    said = [line for line in output.text if line != "Terminated"]
    assert said == _EXPECTED.splitlines(), "\n".join((*output.text, output.console[-2000:]))
