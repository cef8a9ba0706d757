# SPDX-License-Identifier: GPL-2.0-or-later
"""A real Debian system on a guest's disk: its own programs run in it, and it boots."""

from __future__ import annotations

import os

import pytest

from sysenter.build.module import Module
from sysenter.kernels.root import debian_root
from sysenter.lab.guest import Guest
from sysenter.lab.system import system_for
from sysenter.steps import Steps


@pytest.mark.parametrize(
    "target", ["bookworm-686", pytest.param("trixie-backports-amd64", marks=pytest.mark.long)], indirect=True
)
def test_programs_of_debians_packages_run_in_it(steps: Steps, guest: Guest, module: Module) -> None:
    """bash and perl are Debian's (busybox has neither), in a root of their own, with our library in its place."""
    suite = "bookworm" if guest.target.arch.name == "i386" else "trixie"
    root = debian_root(steps, suite, guest.target.arch.name, [], offline=False)
    assert "bash" in root.packages
    assert not root.configured
    task = """insmod /sysenter.ko || exit 99
debian bash -c 'echo $((6 * 7)) $(cat /lab/brought) $(stat -c %U /bin/bash) $(df --output=fstype / | tail -n 1)'
before=$(cat /sys/module/sysenter/parameters/calls)
LD_PRELOAD=/lib/sysenter/libsysenter.so debian dd if=/dev/zero of=/dev/null bs=1 count=1000 status=none || echo "dd: $?"
[ $(($(cat /sys/module/sysenter/parameters/calls) - before)) -ge 2000 ] && echo fast
debian sh -c 'exit 5'
"""
    output = system_for(steps, guest, root, offline=False).run(
        steps, task, {"sysenter.ko": module.module.read_bytes(), "lab/brought": b"hello"}, what="a test", timeout=120
    )
    assert output.text == ("42 hello root ext4", "fast"), output.text
    assert output.status == 5
    assert not output.bad_lines(), output.console


@pytest.mark.long
@pytest.mark.skipif(os.geteuid() != 0, reason="a configured system is made in a chroot, which takes root")
def test_a_configured_one_boots_its_systemd(steps: Steps, guest: Guest, module: Module) -> None:
    root = debian_root(steps, "bookworm", "i386", ["systemd-sysv", "dbus", "kmod"], offline=False, configured=True)
    task = """insmod /sysenter.ko || exit 99
cat /proc/1/comm
systemctl is-active multi-user.target dbus.service
dpkg --audit
dpkg-query -W -f '${Status}\\n' systemd
LD_PRELOAD=/lib/sysenter/libsysenter.so dd if=/dev/zero of=/dev/null bs=1 count=1000 status=none
[ "$(cat /sys/module/sysenter/parameters/calls)" -ge 2000 ] && echo fast
exit 3
"""
    output = system_for(steps, guest, root, offline=False).boot(
        steps, task, {"sysenter.ko": module.module.read_bytes()}, what="a test", timeout=200
    )
    assert output.text == ("systemd", "active", "active", "install ok installed", "fast"), output.text
    assert output.status == 3
    assert not output.bad_lines(), output.console
