# SPDX-License-Identifier: GPL-2.0-or-later
"""What can go wrong with an installed module: full disks, another version, a clone that has gone, other kernels."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from installed import LIST, Copy, installed_root
from sysenter.kernels.debian import Apt
from sysenter.kernels.provide import provide
from sysenter.steps import Steps

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="installing is tried in a chroot, which takes root"),
    pytest.mark.xdist_group("install"),
    pytest.mark.long,
]

InRoot = Callable[..., str]

# The versions that DKMS knows, and those whose sources stand.
VERSIONS = "dkms status sysenter | cut -d, -f1; ls -d /usr/src/sysenter-*"


@pytest.fixture
def system(steps: Steps, tmp_path: Path) -> Copy:
    """One for each test: what a failed one leaves does not make the next one fail."""
    system = Copy(steps, installed_root(steps, "bookworm-amd64"), tmp_path)
    system.run("dkms generate_mok >/dev/null 2>&1")
    return system


@pytest.fixture
def in_root(system: Copy) -> InRoot:
    return system.run


# Where an install writes, step by step; with room for less than it writes there.
@pytest.mark.parametrize(
    ("folder", "size"),
    [
        ("/var/lib/sysenter", "4k"),
        ("/usr/src", "200k"),
        ("/usr/lib/sysenter", "4k"),
        ("/etc/systemd/system", "4k"),
        ("/var/lib/dkms", "1m"),
        ("/var/lib/dkms", "4m"),
        ("/lib/modules/$release/updates", "64k"),
    ],
)
def test_a_disk_that_fills_up_at_any_step_leaves_nothing(in_root: InRoot, folder: str, size: str) -> None:
    """The 64 MiB that install wants to see are not looked for: another program takes them meanwhile."""
    said = in_root(f"""
release=$(basename /boot/vmlinuz-*); release=${{release#vmlinuz-}}
folder={folder}
[ -d $folder ] || {{ mkdir $folder; made=$folder; }}
{LIST} >/tmp/before
(cd $folder; find . | sort) >/tmp/was
mkdir -p /tmp/small; mount -t tmpfs -o size={size} t /tmp/small && mkdir /tmp/small/files /tmp/small/work &&
mount -t overlay -o lowerdir=$folder,upperdir=/tmp/small/files,workdir=/tmp/small/work t $folder || exit
PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/src python3 -c 'import sys
from sysenter.install import install
install._check_room = lambda: None
from sysenter.cli import main
sys.exit(main(["install", "--all-kernels", "--at-boot"]))' >/tmp/said 2>&1; echo "status $?"
grep -c Traceback /tmp/said; tail -n 1 /tmp/said
(cd $folder; find . | sort) | diff /tmp/was - && echo "as before"
umount $folder; umount /tmp/small
{LIST} | diff /tmp/before - && echo same
[ -z "$made" ] || rmdir $made
""")
    lines = said.splitlines()
    assert lines[0] == "status 1", said
    assert lines[1] == "0", said
    assert lines[2].startswith("sysenter: "), said
    assert lines[2].endswith(")"), said
    assert lines[-2:] == ["as before", "same"], said


def test_another_version_takes_the_place_of_the_first(in_root: InRoot) -> None:
    """Upgrade, downgrade, and an upgrade that fails or is cut: what was there before is there again. What was chosen
    at the first install stays.
    """
    said = in_root(
        f"""
{LIST} >/tmp/before
main=/src/sysenter/native/present/main.c; cp $main /tmp/main.c
sysenter install --all-kernels --at-boot --scope both >/dev/null 2>&1; echo "first $?"
{VERSIONS}
echo '/* newer */' >>$main
sysenter install --all-kernels >/tmp/said 2>&1; echo "newer $?"
{VERSIONS}
grep -c "kept from the install before: " /tmp/said
cat /etc/modprobe.d/sysenter.conf; ls /var/lib/sysenter/at-boot
cp /tmp/main.c $main
sysenter install --all-kernels --at-boot --scope marked >/dev/null 2>&1; echo "older $?"
{VERSIONS}
cat /etc/modprobe.d/sysenter.conf
{LIST} >/tmp/installed
echo '/* newest */' >>$main
mv /usr/bin/systemctl /root/; ln -s /bin/false /usr/bin/systemctl
sysenter install --all-kernels --at-boot >/dev/null 2>&1; echo "no systemd $?"
mv /root/systemctl /usr/bin/systemctl
{VERSIONS}
sysenter status | grep -o 'built' | sort -u
{LIST} | diff /tmp/installed - && echo "as it was installed"
PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/src setsid python3 -c 'import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from sysenter.cli import main
sys.exit(main(["install", "--all-kernels", "--at-boot"]))' >/tmp/said 2>&1 &
for tenth in $(seq 900); do ls /var/lib/dkms/sysenter/*/build/main.o >/dev/null 2>&1 && break; sleep 0.1; done
kill -INT -$!; wait $!; echo "cut $?"
{VERSIONS}
sysenter status | grep -o 'built' | sort -u
{LIST} | diff /tmp/installed - && echo "as it was installed"
cp /tmp/main.c $main
sysenter uninstall >/dev/null 2>&1; echo "uninstall $?"
{LIST} | diff /tmp/before - && echo same
""",
        timeout=900,
    )
    lines = said.splitlines()
    first = lines[1]
    assert lines[0] == "first 0", said
    assert lines[3] == "newer 0"
    newer = lines[4]
    assert newer.startswith("sysenter/")
    assert newer != first
    there = [first, f"/usr/src/{first.replace('/', '-')}"]
    as_before = [*there, "built", "as it was installed"]
    assert lines[5:] == [
        f"/usr/src/{newer.replace('/', '-')}",
        "2",
        "options sysenter scope=both",
        "/var/lib/sysenter/at-boot",
        "older 0",
        *there,
        "options sysenter scope=marked",
        "no systemd 1",
        *as_before,
        "cut 130",
        *as_before,
        "uninstall 0",
        "same",
    ], said


def test_what_is_installed_needs_no_clone(in_root: InRoot) -> None:
    """The clone has moved: a kernel's hook builds, programs run, and any other clone uninstalls."""
    said = in_root(
        f"""
{LIST} >/tmp/before
sysenter install --all-kernels --at-boot >/dev/null 2>&1; echo "install $?"
mv /src/sysenter /src/away
kernel=$(basename /boot/vmlinuz-*); kernel=${{kernel#vmlinuz-}}
dkms unbuild $(dkms status sysenter | cut -d, -f1) -k $kernel >/dev/null 2>&1
rm -f /etc/kernel/postinst.d/initramfs-tools.off; mv /etc/kernel/postinst.d/initramfs-tools /root/
run-parts --arg=$kernel --arg=/boot/vmlinuz-$kernel /etc/kernel/postinst.d >/tmp/hooks 2>&1; echo "hooks $?"
mv /root/initramfs-tools /etc/kernel/postinst.d/
modinfo -k $kernel -F target sysenter | cut -c1-4
sysenter-run echo "a program runs"
mv /src/away /src/sysenter
sysenter uninstall >/dev/null 2>&1; echo "uninstall $?"
{LIST} | diff /tmp/before - && echo same
"""
    )
    expected = ["install 0", "hooks 0", "6.1.", "a program runs", "uninstall 0", "same"]
    assert said.splitlines() == expected, said


def test_a_read_only_boot_is_none_of_our_business(in_root: InRoot) -> None:
    said = in_root(f"""
{LIST} >/tmp/before
mount --bind /boot /boot && mount -o remount,ro,bind /boot; touch /boot/x 2>/dev/null && echo writable
sysenter install --all-kernels 2>/dev/null; echo "install $?"; sysenter uninstall 2>/dev/null
umount /boot
{LIST} | diff /tmp/before - && echo same
""")
    assert "the module is built\ninstall 0\nsame\n" in said, said


def test_other_containers_are_told_apart_too(in_root: InRoot) -> None:
    """By podman's mark, and by what systemd says."""
    said = in_root("""
touch /run/.containerenv; sysenter install --all-kernels; echo "status $?"; rm -f /run/.containerenv
mv /usr/bin/systemd-detect-virt /root/
printf '#!/bin/sh\\necho lxc\\n' >/usr/bin/systemd-detect-virt; chmod +x /usr/bin/systemd-detect-virt
sysenter install --all-kernels; echo "status $?"
mv /root/systemd-detect-virt /usr/bin/
""")
    hint = "its kernel and its modules are the host's (install on the host, as root)"
    expected = [f"sysenter: this is {what}: {hint}" for what in ("a container", "a container (lxc)")]
    assert said.splitlines() == [expected[0], "status 1", expected[1], "status 1"], said


# Further moments than test_an_interrupted_install_leaves_nothing has, each by a file that is there from then on.
@pytest.mark.parametrize(
    "sign",
    [
        "/usr/src/sysenter-*/dkms.conf",
        "/var/lib/dkms/sysenter/*/source",
        "/var/lib/dkms/sysenter/*/build/calls.h",
        "/lib/modules/*/updates/dkms/sysenter.ko*",
        "/var/lib/sysenter/at-boot",
        "/etc/systemd/system/multi-user.target.wants/sysenter.service",
    ],
)
def test_ctrl_c_at_further_steps_leaves_nothing_or_all(in_root: InRoot, sign: str) -> None:
    """Nothing if it came in time; all, if install was at its end already, and perhaps about to say so."""
    said = in_root(f"""
{LIST} >/tmp/before
PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/src setsid python3 -c 'import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from sysenter.cli import main
sys.exit(main(["install", "--all-kernels", "--at-boot"]))' >/tmp/said 2>&1 &
for hundredth in $(seq 9000); do ls {sign} >/dev/null 2>&1 && break; sleep 0.01; done
kill -INT -$! 2>/dev/null; wait $!; echo "status $?"
whole() {{
    ls /var/lib/sysenter/manifest.json /var/lib/sysenter/at-boot /lib/modules/*/updates/dkms/sysenter.ko* \\
        /etc/systemd/system/*.wants/sysenter.service /etc/systemd/system/*.wants/sysenter-settled.timer >/dev/null
}}
if {LIST} | diff /tmp/before - >/tmp/diff; then echo same; else whole && echo all; fi
grep -c Traceback /tmp/said
sysenter uninstall >/dev/null 2>&1
{LIST} | diff /tmp/before - && echo gone
""")
    ends = ("status 130\nsame", "status 0\nall", "status 130\nall")
    assert said in [f"{end}\n0\ngone\n" for end in ends], said


def test_ctrl_c_while_uninstalling_is_mended_by_another(in_root: InRoot) -> None:
    said = in_root(f"""
{LIST} >/tmp/before
sysenter install --all-kernels --at-boot >/dev/null 2>&1; echo "install $?"
PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/src setsid python3 -c 'import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from sysenter.cli import main
sys.exit(main(["uninstall"]))' >/tmp/said 2>&1 &
for hundredth in $(seq 9000); do ls /lib/modules/*/updates/dkms/sysenter.ko* >/dev/null 2>&1 || break; sleep 0.01; done
kill -INT -$!; wait $!; echo "cut $?"; grep -c Traceback /tmp/said
sysenter uninstall >/dev/null 2>&1; echo "uninstall $?"
{LIST} | diff /tmp/before - && echo same
""")
    lines = said.splitlines()
    assert lines[0] == "install 0", said
    assert lines[1] in ("cut 130", "cut 0"), said
    assert lines[2:] == ["0", "uninstall 0", "same"], said


def test_a_kernel_of_backports_comes_and_goes(system: Copy) -> None:
    """By dpkg, with its hooks, all packages at once as apt gives them; purged again."""
    kernel = provide(system.steps, "bookworm-backports-amd64", offline=False)
    release = kernel.release
    assert kernel.modules is not None
    record = json.loads((kernel.modules / "kernel.json").read_text())
    wanted = [package.partition("=")[0] for package in record["packages"].split()]
    # its scripts are linux-base's of that suite, its kbuild wants pahole
    packages = Apt(system.steps, "bookworm-backports", "amd64", offline=False).fetch([*wanted, "linux-base"])
    release_suite = Apt(system.steps, "bookworm", "amd64", offline=False)
    more = [name for name in release_suite.closure(["pahole"]) if name not in system.root.packages]
    folder = system.sources / "packages"
    folder.mkdir(parents=True)
    for package in (*packages, *release_suite.fetch(more)):
        shutil.copy(package.path, folder / package.path.name)
    said = system.run(
        f"""
rm -f /etc/kernel/postinst.d/initramfs-tools /etc/kernel/postrm.d/initramfs-tools
sysenter install --all-kernels >/dev/null 2>&1; echo "install $?"
dpkg -i /src/packages/*.deb >/tmp/dpkg 2>&1; echo "packages $?"
modinfo -k {release} -F refused sysenter; modinfo -k {release} -F target sysenter | cut -c1-40
dpkg --audit
dpkg --purge {" ".join(wanted)} >>/tmp/dpkg 2>&1; echo "purge $?"
ls /lib/modules; dkms status sysenter | cut -d, -f2 | tr -d ' '
sysenter status | grep -c {release}
sysenter uninstall >/dev/null 2>&1; echo "uninstall $?"
""",
        timeout=500,
    )
    assert said.splitlines() == [
        "install 0",
        "packages 0",
        f"{release} #1 SMP PREEMPT_DYNAMIC"[:40],
        "purge 0",
        system.release,
        system.release,
        "0",
        "uninstall 0",
    ], said


def test_a_module_that_dkms_does_not_know_of_goes_too(system: Copy) -> None:
    """As an install leaves it that is killed just as DKMS has put the module there, or has taken it away again."""
    said = system.run(f"""
mkdir /lib/modules/0
{LIST} >/tmp/before
mkdir -p /lib/modules/0/updates/dkms
mkdir -p /lib/modules/{system.release}/updates/dkms; touch /lib/modules/{system.release}/updates/dkms/sysenter.ko
sysenter uninstall 2>&1; sysenter uninstall 2>&1
{LIST} | diff /tmp/before - && echo same
""")
    assert said.endswith("nothing was installed\nsame\n"), said


def test_a_damaged_manifest_and_two_installs_at_once(in_root: InRoot) -> None:
    """As an older version's install leaves them whose manifest was lost, and one that began while another ran."""
    said = in_root(f"""
{LIST} >/tmp/before
main=/src/sysenter/native/present/main.c; cp $main /tmp/main.c
echo '/* older */' >>$main
sysenter install --all-kernels --scope both >/dev/null 2>&1; echo "older $?"
cp /tmp/main.c $main
echo '{{"version": ' >/var/lib/sysenter/manifest.json
sysenter uninstall 2>&1 | tail -n 1
sysenter install --all-kernels >/tmp/one 2>&1 & sysenter install --all-kernels >/tmp/two 2>&1; echo "one $?"
wait $!; echo "another $?"
cat /tmp/one /tmp/two | grep -c "waiting for another run"
ls -d /usr/src/sysenter-* | wc -l
sysenter uninstall >/dev/null 2>&1; echo "uninstall $?"
{LIST} | diff /tmp/before - && echo same
""")
    lines = said.splitlines()
    assert lines[0] == "older 0", said
    assert "manifest.json is damaged" in lines[1]
    assert "(install again over it, then uninstall takes all away)" in lines[1]
    assert lines[2:] == ["one 0", "another 0", "1", "1", "uninstall 0", "same"], said
