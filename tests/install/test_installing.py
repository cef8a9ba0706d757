# SPDX-License-Identifier: GPL-2.0-or-later
"""Install, kernel updates, uninstall: on a real Debian system, natively in a chroot, and booted."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

import pytest

from installed import KERNELS, LIST, Copy, installed_root
from sysenter.steps import Steps

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="installing is tried in a chroot, which takes root"),
    pytest.mark.xdist_group("install"),
]

InRoot = Callable[..., str]


@pytest.fixture(scope="module", params=KERNELS)
def system(request: pytest.FixtureRequest, steps: Steps, tmp_path_factory: pytest.TempPathFactory) -> Copy:
    return Copy(steps, installed_root(steps, request.param), tmp_path_factory.mktemp("system"))


@pytest.fixture
def in_root(system: Copy) -> InRoot:
    return system.run


def test_install_says_what_it_would_do_and_does_nothing(in_root: InRoot) -> None:
    said = in_root(
        f"{LIST} >/tmp/a; sysenter install --all-kernels --at-boot --dry-run; {LIST} | diff /tmp/a - && echo same"
    )
    assert "dkms install --force sysenter/" in said
    assert "/etc/kernel/postinst.d/00-sysenter" in said
    assert said.endswith("same\n"), said


def test_uninstall_leaves_nothing(in_root: InRoot, system: Copy) -> None:
    """But DKMS's own keys, which other modules may be signed with by now. Who is not root is told so."""
    said = in_root(f"""
dkms generate_mok >/dev/null 2>&1
{LIST} >/tmp/before
sysenter install --all-kernels --at-boot 2>&1 || exit
modinfo -k {system.release} -F target sysenter
ls /usr/lib/*/sysenter/libsysenter.so /usr/bin/sysenter-run
{LIST} | diff /tmp/before - | grep -c '^>' | sed 's/^/files more: /'
user() {{ setpriv --reuid 1000 env PYTHONPATH=/src python3 -m sysenter "$@" 2>&1; }}
user uninstall
chmod 600 /boot/vmlinuz-*; user status --json - | grep -A 1 '"state"'; chmod 644 /boot/vmlinuz-*
mkdir -p /var/lib/dkms/sysenter/0.0/build	# of an older install that was killed as DKMS was told
sysenter uninstall && sysenter uninstall
{LIST} | diff /tmp/before - && echo "nothing left"
""")
    assert f"\n{system.release} #1 SMP" in said
    assert "and needs root (sudo sysenter uninstall)" in said, said
    assert '"state": "built"' in said, said
    assert f"vmlinuz-{system.release} cannot be read, so it may be stale" in said
    assert int(said.split("files more: ")[1].split()[0]) > 20, "the list of files does not show what an install adds"
    assert "nothing left" in said, said


@pytest.mark.long
def test_an_update_goes_on_whatever_is_missing(in_root: InRoot, system: Copy) -> None:
    """Headers before their image; the image; the same release anew; no compiler; sources that do not build. Install
    again builds what is stale or a placeholder. Uninstall leaves nothing, without a manifest too.
    """
    kernel = system.release
    said = in_root(
        f"""
state() {{ sysenter status --json - 2>/dev/null | python3 -c 'import json, sys
for k in json.load(sys.stdin)["kernels"]: print(k["release"], k["state"], k["reason"][:40])'; }}
hooks() {{
	run-parts --arg={kernel} --arg=/boot/vmlinuz-{kernel} /etc/kernel/postinst.d >/tmp/hooks 2>&1
	echo "$1: hooks $?"
}}
rm -f /etc/kernel/postinst.d/initramfs-tools
dkms generate_mok >/dev/null 2>&1
{LIST} >/tmp/before
mv /boot/vmlinuz-{kernel} /root/
sysenter install --all-kernels >/dev/null 2>&1; echo "headers first: $?"; state
mv /root/vmlinuz-{kernel} /boot/; hooks "image"; state
cp /boot/vmlinuz-{kernel} /root/; sed -i 's/PREEMPT_DYNAMIC Debian/PREEMPT_DYNAMIC DEBIAN/' /boot/vmlinuz-{kernel}
state; hooks "anew"; state
cp /root/vmlinuz-{kernel} /boot/; state; sysenter install --all-kernels >/dev/null 2>&1; echo "stale: $?"; state
mkdir /root/off; mv /usr/bin/*gcc* /root/off/
dkms unbuild $(dkms status | cut -d, -f1) -k {kernel} >/dev/null; hooks "no compiler"; state
mv /root/off/* /usr/bin/
for file in /usr/src/sysenter-*/main.c; do echo '#error too new' >>$file; done
dkms unbuild $(dkms status | cut -d, -f1) -k {kernel} >/dev/null; hooks "does not build"; state
sysenter install --all-kernels --at-boot >/dev/null 2>&1; echo "again: $?"; state
rm /var/lib/sysenter/manifest.json
sysenter uninstall >/dev/null 2>&1; echo "uninstall: $?"; dkms status
{LIST} | diff /tmp/before - && echo same
""",
        timeout=500,
    )
    lines = [re.sub(r"\s+", " ", line).strip() for line in said.splitlines()]
    assert lines == [
        "headers first: 0",
        f"{kernel} refused no image of {kernel} yet (it is built"[: len(kernel) + 49],
        "image: hooks 0",
        f"{kernel} built",
        lines[4],
        "anew: hooks 0",
        f"{kernel} built",
        lines[7],
        "stale: 0",
        f"{kernel} built",
        "no compiler: hooks 0",
        f"{kernel} refused no compiler: apt-get install gcc",
        "does not build: hooks 0",
        lines[13],
        "again: 0",
        f"{kernel} built",
        "uninstall: 0",
        "same",
    ], said
    assert lines[4].startswith(f"{kernel} stale built for")
    assert lines[7].startswith(f"{kernel} stale built for")
    assert lines[13].startswith(f"{kernel} refused the kernel's build failed")


@pytest.mark.parametrize(
    ("what", "script", "words"),
    [
        ("another system", "echo ID=fedora >/etc/os-release; sysenter install", "install is for Debian"),
        ("Debian 11", "printf 'ID=debian\\nVERSION_ID=11\\n' >/etc/os-release; sysenter install", "Debian 12"),
        ("a container", "touch /.dockerenv; sysenter install", "the host's"),
        ("no headers", "sysenter install --no-install", "linux-headers-"),
        ("read-only", "mount -t tmpfs -o ro t /usr/src; sysenter install --all-kernels", "/usr/src is on a read-only"),
        ("full", "mount -t tmpfs -o size=1m t /usr/src; sysenter install --all-kernels", "less than 64 MiB free"),
        ("no root", "setpriv --reuid 1000 env PYTHONPATH=/src python3 -m sysenter install --all-kernels", "needs root"),
    ],
)
def test_a_machine_that_cannot_have_it_is_told_in_one_line(in_root: InRoot, what: str, script: str, words: str) -> None:
    said = in_root(f"""
{LIST} >/tmp/before; cp /etc/os-release /tmp/os-release
({script}) >/tmp/said 2>&1; echo "status $?"
rm -f /etc/os-release /.dockerenv; cp /tmp/os-release /etc/os-release; umount /usr/src 2>/dev/null
tail -n 1 /tmp/said; grep -c Traceback /tmp/said
{LIST} | diff /tmp/before - && echo same
""")
    assert said.startswith("status 1\n"), said
    assert words in said
    assert said.endswith("\n0\nsame\n"), said


@pytest.mark.parametrize(
    "sign", ["/var/lib/sysenter/manifest.json", "/var/lib/dkms/sysenter", "/var/lib/dkms/sysenter/*/build/main.o"]
)
def test_an_interrupted_install_leaves_nothing(in_root: InRoot, sign: str) -> None:
    """Ctrl-C once this file is there: at the first files, as DKMS is told, in the midst of the build."""
    said = in_root(f"""
{LIST} >/tmp/before
PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/src setsid python3 -c 'import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from sysenter.cli import main
sys.exit(main(["install", "--all-kernels"]))' >/tmp/said 2>&1 &
for tenth in $(seq 900); do ls {sign} >/dev/null 2>&1 && break; sleep 0.1; done
kill -INT -$!; wait $!; echo "status $?"
{LIST} | diff /tmp/before - && echo same; cat /tmp/said
""")
    assert said.startswith("status 130\nsame\n"), said
    assert "Traceback" not in said
