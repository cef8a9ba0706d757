# SPDX-License-Identifier: GPL-2.0-or-later
"""An installed system boots: the module is loaded, its fuse blows when a boot is cut, the kernel's own rules hold."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from installed import KERNEL, installed_root, run_in_copy
from sysenter.kernels.provide import provide
from sysenter.kernels.root import disk_image
from sysenter.lab import guest_with_shell_for
from sysenter.lab.guest import Output
from sysenter.lab.qemu import GuestLost, Machine
from sysenter.lab.system import System, system_for
from sysenter.steps import Steps

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="a system is installed in a chroot, which takes root"),
    pytest.mark.xdist_group("install"),
]

Boot = Callable[..., Output]


@pytest.fixture(scope="module")
def disk(steps: Steps, tmp_path_factory: pytest.TempPathFactory) -> tuple[System, Path]:
    """A system on which the module is installed, with --at-boot, and an image of it to boot and to write to."""
    folder = tmp_path_factory.mktemp("boot")
    root = installed_root(steps)
    copy = folder / "root"
    shutil.copytree(root.folder, copy, symlinks=True)
    said = run_in_copy(steps, copy, "sysenter install --all-kernels --at-boot && rm -rf /src")
    assert "the module is built" in said, said
    image = folder / "system.ext4"
    disk_image(steps, copy, image, free=256)
    shutil.rmtree(copy)
    guest = guest_with_shell_for(steps, provide(steps, KERNEL, offline=False), "tcg")
    return replace(system_for(steps, guest, root, offline=False), image=image), image


def written_to(machine: Machine) -> Machine:
    """The machine, whose disk keeps what is written."""
    return replace(machine, extra=tuple(word.replace("snapshot=on", "snapshot=off") for word in machine.extra))


WAIT = """
for second in $(seq 90); do [ -e /sys/module/sysenter ] && break; sleep 1; done
"""


def test_it_is_loaded_at_boot_and_a_boot_that_is_cut_blows_the_fuse(steps: Steps, disk: tuple[System, Path]) -> None:
    system, _ = disk
    boot_task = f"""{WAIT}
cat /sys/module/sysenter/parameters/calls >/dev/null && echo loaded
ls /var/lib/sysenter/fuse
before=$(cat /sys/module/sysenter/parameters/calls)
sysenter-run dd if=/dev/zero of=/dev/null bs=1 count=1000 status=none
[ $(($(cat /sys/module/sysenter/parameters/calls) - before)) -ge 2000 ] && echo fast
/usr/lib/sysenter/trial && echo "as stock"
sync
echo b >/proc/sysrq-trigger
"""
    machine = written_to(system.machine(memory=1024))
    with pytest.raises(GuestLost) as cut:  # no orderly end, as when the power goes
        system.boot(steps, boot_task, {}, what="the first boot", timeout=240, machine=machine)
    said = cut.value.detail
    assert "as stock" in said, said
    after = """
systemctl start sysenter.service
[ -e /sys/module/sysenter ] || echo "not loaded"
journalctl -b -u sysenter.service -o cat | grep -m 1 "not loaded"
rm /var/lib/sysenter/fuse
systemctl stop sysenter.service; systemctl start sysenter.service
[ -e /sys/module/sysenter ] && echo "loaded again"
systemctl start sysenter-settled.service
[ -e /var/lib/sysenter/fuse ] || echo "the mark is gone"
"""
    output = system.boot(steps, after, {}, what="the second boot", timeout=240)
    assert output.text[0] == "not loaded", output.text
    assert output.text[1].startswith("sysenter: not loaded: the boot of ")
    assert output.text[2:] == ("loaded again", "the mark is gone"), output.text
    assert not output.bad_lines(), output.console


def test_a_word_on_the_command_line_keeps_it_out(steps: Steps, disk: tuple[System, Path]) -> None:
    system, _ = disk
    machine = system.machine(memory=1024, append="sysenter.off")
    task = "rm -f /var/lib/sysenter/fuse; systemctl start sysenter.service; ls -d /sys/module/sysenter || echo out"
    output = system.boot(steps, task, {}, what="a boot with sysenter.off", timeout=240, machine=machine)
    assert output.text[-1] == "out", output.text


@pytest.mark.long
def test_a_kernel_that_loads_signed_modules_only_says_so(steps: Steps, disk: tuple[System, Path]) -> None:
    system, _ = disk
    machine = system.machine(memory=1024, append="module.sig_enforce=1")
    task = "modprobe sysenter; dmesg | grep -i -m 1 'key\\|signature'"
    output = system.boot(steps, task, {}, what="a boot with module.sig_enforce=1", timeout=240, machine=machine)
    assert "Key was rejected" in "\n".join(output.text), output.text
