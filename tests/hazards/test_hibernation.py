# SPDX-License-Identifier: GPL-2.0-or-later
"""Hibernation with the module in: the machine's memory goes to a disk, and comes back into one just booted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cases import cases_of
from guests import guest_for
from shell import LOAD, load_module
from sysenter.build import build_module
from sysenter.cache import cache_folder
from sysenter.kernels.catalogue import CATALOGUE
from sysenter.kernels.debian import Apt, unpack
from sysenter.kernels.drivers import linked
from sysenter.kernels.provide import provide
from sysenter.steps import Steps
from sysenter.target.arch import I386

# A kernel of Debian's has no disk built in: these, in the order that they need each other. In one with
# fewer modules, what is not there is in another.
DRIVERS = ("virtio", "virtio_ring", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "virtio_blk")

TASK = (
    LOAD
    + """
for driver in DRIVERS; do [ ! -e /$driver.ko ] || insmod /$driver.ko || exit 98; done
cat /sys/block/vda/dev >/tmp/disk || exit 97
insmod /lib/sysenter/msr.ko
if dd if=/dev/vda bs=4096 count=1 2>/dev/null | grep -q S1SUSPEND; then
	# the kernel that this one was: it goes on below, and nothing of this one is left
	cat /tmp/disk >/sys/power/resume
	echo "did not come back"; exit 96
fi
MODULE
touch /tmp/go; load & load & sleep 1
/lib/sysenter/msr
mkswap /dev/vda >/dev/null && swapon /dev/vda || exit 95
cat /tmp/disk >/sys/power/resume 2>/dev/null
echo shutdown >/sys/power/disk
# the first machine ends in the next line, and with it what it has to say; the second goes on there
echo '{"exit": 0}'
echo disk >/sys/power/state && echo "came back"
/lib/sysenter/msr
sleep 1
served=$(cat /sys/module/sysenter/parameters/calls_all)
/lib/sysenter/hazards_calls registers flags
echo "{\\"served\\": $(($(cat /sys/module/sysenter/parameters/calls_all) - served))}"
rm /tmp/go; wait
rmmod sysenter && echo went
/lib/sysenter/msr
""".replace("DRIVERS", " ".join(DRIVERS))
)


def drivers(steps: Steps, kernel: str, folder: Path) -> dict[str, bytes]:
    """The disk's drivers, from the kernel's own packages."""
    entry = next(entry for entry in CATALOGUE if entry.name == kernel)
    names = (cache_folder() / f"kernels/{kernel}.packages").read_text().split()
    apt = Apt(steps, entry.suite, entry.arch.name, offline=False)
    for package in apt.fetch([name for name in names if name.startswith(("linux-image-", "linux-modules-"))]):
        unpack(steps, package, folder, lambda name: Path(name).name.split(".")[0] in DRIVERS)
    return {f"{path.name.split('.')[0]}.ko": linked(path) for path in folder.rglob("*.ko*")}


@pytest.mark.parametrize(
    ("kernel", "cpus", "scope"),
    [
        pytest.param("bookworm-686", 1, "marked", marks=pytest.mark.long),
        pytest.param("bookworm-686-pae", 2, "marked", marks=pytest.mark.long),
        pytest.param("bookworm-amd64", 2, "marked", marks=pytest.mark.long),
        pytest.param("trixie-backports-amd64", 2, "marked", marks=pytest.mark.long),
        pytest.param("bookworm-686", 1, "all", marks=pytest.mark.long),
        pytest.param("bookworm-amd64", 2, "all", marks=pytest.mark.long),
        pytest.param("trixie-backports-amd64", 2, "all", marks=pytest.mark.long),
    ],
)
def test_hibernation(steps: Steps, kernel: str, cpus: int, scope: str, tmp_path: Path) -> None:
    """All registers are those of the kernel that was booted to bring the other one back; ours must return."""
    target = provide(steps, kernel, offline=False)
    guest, module = guest_for(steps, target, "tcg"), build_module(steps, target)
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(512 << 20)
    machine = guest.machine(
        cpus=cpus,
        extra=("-drive", f"file={disk},format=raw,if=virtio"),
        append="pti=on" if kernel.endswith("pae") else "",
    )
    # from the image as it is: the Multiboot shim's memory map is not the firmware's
    machine = replace(machine, kernel=target.image)
    files = {"sysenter.ko": module.module.read_bytes(), **drivers(steps, kernel, tmp_path / "drivers")}
    task = TASK.replace("MODULE", load_module(scope, "/lib/sysenter/hazards_calls registers flags"))
    before = guest.run(steps, task, files, what="going to sleep", timeout=100, machine=machine)
    assert not before.bad_lines(), before.console
    assert not before.text, before.text
    after = guest.run(steps, task, files, what="waking up", timeout=100, machine=machine)
    assert not after.bad_lines(), after.console[-4000:]
    assert after.text == ("came back", "went"), after.text
    entries = [[r["eip"] for r in output.records if "eip" in r] for output in (before, after)]
    assert len(set(entries[0])) == 1
    assert entries[1][:cpus] == entries[0], "a processor came back without the fast entry"
    assert len(set(entries[1][cpus:])) == 1
    if scope == "marked" or target.arch is I386:
        assert entries[1][cpus] != entries[0][0]
    if scope == "all":  # what the first machine said without the module comes first
        after = replace(after, records=(*before.records, *after.records))
    assert cases_of(after) == {"registers": 1, "flags": 1}
    assert (after.of("served")[0] > 50) == (scope == "all")
