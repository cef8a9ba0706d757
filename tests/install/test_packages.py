# SPDX-License-Identifier: GPL-2.0-or-later
"""The Debian packages: built from a clone, held to lintian, installed, purged, in a chroot of a real system."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import ROOT
from installed import LIST, Copy, installed_root
from sysenter.steps import Steps

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="packages are installed in a chroot, which takes root"),
    pytest.mark.xdist_group("install"),
    pytest.mark.long,
    pytest.mark.timeout(1800),
]

# And not build-essential, whose C++ nothing here needs: so dpkg-buildpackage does not look (-d).
BUILDING = ("dpkg-dev", "debhelper", "dh-dkms", "dh-python", "fakeroot", "lintian")

# man-db's marks, and DKMS's keys, which sign other modules too
TOOLS_OWN = r"grep -v '^/var/cache/man/\|^/var/lib/dkms/mok'"


@pytest.fixture
def system(steps: Steps, tmp_path: Path) -> Copy:
    """A system that can build packages, and a clone in it."""
    system = Copy(steps, installed_root(steps, "bookworm-amd64", BUILDING), tmp_path)
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for name in names:
        to = system.sources / "clone/sysenter" / name
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, to)
    return system


def test_the_packages_build_hold_install_and_go(system: Copy) -> None:
    """What docs/guides/install.md says, word by word; at the end the list of all files is what it was."""
    said = system.run(
        f"""
cd /src/clone/sysenter
dpkg-buildpackage -us -uc -d >/tmp/build 2>&1 || {{ tail -n 30 /tmp/build; exit; }}
cd ..; echo "made:" *.dsc *.deb
lintian --allow-root --fail-on error,warning --info *.changes && echo "lintian: nothing"
{LIST} | {TOOLS_OWN} >/tmp/before
dpkg -i ./sysenter_*.deb ./sysenter-dkms_*.deb >/tmp/dpkg 2>&1 || tail -n 20 /tmp/dpkg
sysenter() {{ /usr/bin/sysenter "$@"; }}
sysenter status
sed -i 's/PREEMPT_DYNAMIC Debian/PREEMPT_DYNAMIC DEBIAN/' /boot/vmlinuz-*
sysenter install --all-kernels --at-boot --dry-run | sed 's/^/dry: /'
sysenter install --all-kernels --at-boot --scope both 2>&1
modinfo -k {system.release} -F target sysenter | grep -c DEBIAN
sysenter install --all-kernels 2>&1 | grep -c "kept from the install before: "
ls /var/lib/sysenter/at-boot /etc/modprobe.d/sysenter.conf /etc/systemd/system/*.wants/sysenter*
sysenter uninstall 2>&1
sysenter-run echo "a program runs"
ls /usr/lib/x86_64-linux-gnu/sysenter/libsysenter.so /usr/lib/sysenter/trial /lib/systemd/system/sysenter.service
dpkg --purge sysenter sysenter-dkms >/tmp/purge 2>&1 || tail -n 20 /tmp/purge
{LIST} | {TOOLS_OWN} | diff /tmp/before - && echo "nothing left"
dkms status; dpkg --audit
""",
        timeout=900,
    )
    assert "sysenter_0.1.0.dsc" in said, said
    assert "lintian: nothing" in said, said
    kernel = system.release
    assert any(kernel in line and "built" in line for line in said.splitlines()), said
    assert f"{kernel}: the module is built" in said
    assert [line.partition("sysenter/0.")[0] for line in said.splitlines() if line.startswith("dry: ")] == [
        f"dry: version 0.1.0, for {kernel}",
        "dry: file     644 /var/lib/sysenter/at-boot",
        "dry: command  dkms unbuild ",
        "dry: command  dkms install --force ",
        "dry: command  systemctl enable sysenter.service sysenter-settled.timer",
    ], said
    assert "\n1\n2\n" in said, said
    assert "/etc/systemd/system/multi-user.target.wants/sysenter.service" in said
    assert "(apt-get purge sysenter sysenter-dkms)" in said
    assert "a program runs" in said
    assert said.endswith("nothing left\n"), said
