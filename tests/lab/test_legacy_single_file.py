# SPDX-License-Identifier: GPL-2.0-or-later
"""The single file on the old machine itself: `sh sysenter.c` installs, shows its gain and is removed.

SYSENTER_LEGACY_USERLAND names a folder with what such a machine has, made to run on
these kernels: a shell in bin/sh with the usual tools, dd (linked at run time), insmod
and rmmod in bin, gcc, as and ld in usr/bin. The kernel's headers and System.map are
laid beside it.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from legacy_kernels import on_each_kernel, parameters
from sysenter.build.export import single_file
from sysenter.build.legacy import legacy_image_of
from sysenter.kernels.provide import provide
from sysenter.lab.legacy_guest import legacy_guest_for
from sysenter.lab.qemu import run_machine
from sysenter.steps import Steps

_USERLAND = os.environ.get("SYSENTER_LEGACY_USERLAND", "")
_KIB = 30720
# Both ways that a kernel has: the one it takes unasked, and the other.
_GO = """\
PATH=/bin:/sbin:/usr/bin; export PATH
there_and_back() {
	sh /sysenter.c; echo "installed: $?"
	sh /sysenter.c remove; echo "removed: $?"
	grep '^sysenter ' /proc/modules
	echo "still loaded: $?"
	for left in /usr/local/lib/libsysenter.so /lib/modules/*/misc/sysenter.o /tmp/sysenter.*; do
		[ ! -e "$left" ] || echo "left behind: $left"
	done
}
there_and_back
case `uname -r` in
2.2.*) WAY=gentle; export WAY ;;
*) ENTRY=syscall; export ENTRY ;;
esac
there_and_back
"""
_AMD = "athlon,+syscall"  # SYSENTER and SYSCALL

pytestmark = [
    on_each_kernel,
    pytest.mark.skipif(not _USERLAND, reason="SYSENTER_LEGACY_USERLAND names no folder with a shell and a compiler"),
]


@pytest.mark.parametrize("kernel", parameters(), ids=lambda path: path.parent.name)
def test_the_file_installs_shows_its_gain_and_is_removed(kernel: Path, steps: Steps, tmp_path: Path) -> None:
    guest = legacy_guest_for(steps, provide(steps, str(kernel), offline=True))
    root = tmp_path / "root"
    shutil.copytree(_USERLAND, root, symlinks=True)
    assert guest.target.system_map is not None
    for folder in ("boot", "usr/src/linux/include", "tmp", "usr/local/lib"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for part in ("linux", "asm", "asm-generic"):
        if (source := guest.target.headers / "include" / part).exists():
            shutil.copytree(source, root / "usr/src/linux/include" / part)
    shutil.copy(guest.target.system_map, root / "boot/System.map")
    shutil.copy(guest.init, root / "init")
    (root / "sysenter.c").write_text(single_file())
    (root / "go").write_text(_GO)
    (root / "plan").write_text("run /bin/sh /go\n")
    is_2_2 = guest.target.release.startswith("2.2.")
    machine = guest.machine(cpu=None if is_2_2 else _AMD)
    machine = replace(machine, append=f"{machine.append} ramdisk_size={_KIB + 1024}", memory=192)
    image = legacy_image_of(steps, root, tmp_path / "ramdisk", kib=_KIB)
    result = run_machine(steps, machine, image, what="sh sysenter.c", timeout=300)
    said = "\n".join(result.lines)
    for line in ("installed: 0", "removed: 0", "still loaded: 1"):
        assert said.count(line) == 2, said
    assert "left behind" not in said
    assert re.findall(r"^way (\S+)$", said, re.MULTILINE) == (["cruel", "gentle"] if is_2_2 else ["tss", "syscall"])
    gains = re.findall(r"median of \d+ pairs: ([0-9.]+) times as fast", said)
    assert len(gains) == 2, said
    assert all(float(gain) > 1.1 for gain in gains), said
    print(f"{guest.target.name}: {' and '.join(gains)} times as fast")
