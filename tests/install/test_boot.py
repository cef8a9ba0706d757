# SPDX-License-Identifier: GPL-2.0-or-later
"""An installed system boots: the module is loaded, its fuse blows when a boot is cut, the kernel's own rules hold."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import schemas
from conftest import ROOT
from installed import KERNELS, Copy, installed_root
from shell import WAIT_FOR
from sysenter.build import build_module
from sysenter.kernels.provide import provide
from sysenter.kernels.root import disk_image
from sysenter.lab import guest_with_shell_for
from sysenter.lab.guest import Output
from sysenter.lab.qemu import GuestLost, Machine
from sysenter.lab.system import System, system_for
from sysenter.steps import Steps, run_command

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="a system is installed in a chroot, which takes root"),
    pytest.mark.xdist_group("install"),
]

Boot = Callable[..., Output]


@pytest.fixture(scope="module", params=KERNELS)
def disk(request: pytest.FixtureRequest, steps: Steps, tmp_path_factory: pytest.TempPathFactory) -> tuple[System, Path]:
    """A system on which the module is installed, with --at-boot, and an image of it to boot and to write to."""
    folder = tmp_path_factory.mktemp("boot")
    root = installed_root(steps, request.param)
    said = Copy(steps, root, folder).run("sysenter install --all-kernels --at-boot")
    assert "the module is built" in said, said
    shutil.rmtree(folder / "files/src")
    copy = folder / "whole"
    copy.mkdir()
    for part in (root.folder, folder / "files"):
        run_command(steps, ["cp", "-a", "--remove-destination", f"{part}/.", copy], what="copy a system", timeout=600)
    image = folder / "system.ext4"
    disk_image(steps, copy, image, free=256)
    shutil.rmtree(copy)
    guest = guest_with_shell_for(steps, provide(steps, request.param, offline=False), "tcg")
    return replace(system_for(steps, guest, root, offline=False), image=image), image


def written_to(machine: Machine) -> Machine:
    """The machine, whose disk keeps what is written."""
    return replace(machine, extra=tuple(word.replace("snapshot=on", "snapshot=off") for word in machine.extra))


def own_sources() -> bytes:
    """This checkout, for a system on which only what install wrote is left."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as sources:
        sources.add(ROOT / "src", "src", filter=lambda member: None if "__pycache__" in member.name else member)
    return packed.getvalue()


# What `install --try` does once the module is built.
TRY = """from sysenter.ending import conclude
from sysenter.install.trial import try_now
from sysenter.steps import Steps
steps = Steps()
print("status", conclude(steps, lambda: try_now(steps) or 0))"""
# A kernel of the same version and another flavour.
OTHER = {"amd64": "bookworm-cloud-amd64", "i386": "bookworm-686-pae"}

WAIT = """
for second in $(seq 90); do [ -e /sys/module/sysenter ] && break; sleep 1; done
"""


def test_it_is_loaded_at_boot_and_a_boot_that_is_cut_blows_the_fuse(
    steps: Steps, disk: tuple[System, Path], tmp_path: Path
) -> None:
    """On a disk of its own: the fuse stays blown on it."""
    system = replace(disk[0], image=tmp_path / "cut.ext4")
    run_command(steps, ["cp", "--sparse=always", disk[1], system.image], what="copy a disk", timeout=600)
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
    assert said.endswith("/var/lib/sysenter/fuse\nfast\nas stock"), said
    after = """
systemctl start sysenter.service
[ -e /sys/module/sysenter ] || echo "not loaded"
journalctl -b -u sysenter.service -o cat | grep -m 1 "not loaded"
systemctl start sysenter-settled.service; systemctl stop sysenter.service
[ -e /var/lib/sysenter/fuse ] && echo "the mark stays"
rm /var/lib/sysenter/fuse
systemctl start sysenter.service
[ -e /sys/module/sysenter ] && echo "loaded again"
systemctl start sysenter-settled.service
[ -e /var/lib/sysenter/fuse ] || echo "the mark is gone"
systemd-run -q --wait --pipe -p SystemCallFilter=~reboot /usr/lib/sysenter/trial; echo "watched: $?"
rmmod sysenter; modprobe sysenter scope=all
/usr/lib/sysenter/trial && echo "all as stock"
systemd-run -q --wait --pipe -p SystemCallFilter=~reboot /usr/lib/sysenter/trial; echo "watched: $?"
"""
    output = system.boot(steps, after, {}, what="the second boot", timeout=240)
    assert output.text[0] == "not loaded", output.text
    assert output.text[1].startswith("sysenter: not loaded: the boot of ")
    assert output.text[2:5] == ("the mark stays", "loaded again", "the mark is gone"), output.text
    # seccomp keeps a task on the kernel's own entry
    none = "sysenter: no fast path to try: the kernel took the calls itself (auditing, or a tracer?)"
    assert output.text[5:] == (none, "watched: 2", "all as stock", none, "watched: 2"), output.text
    assert not output.bad_lines(), output.console


@pytest.mark.long
def test_a_word_on_the_command_line_keeps_it_out(steps: Steps, disk: tuple[System, Path]) -> None:
    system, _ = disk
    machine = system.machine(memory=1024, append="sysenter.off")
    task = "rm -f /var/lib/sysenter/fuse; systemctl start sysenter.service; ls -d /sys/module/sysenter || echo out\n"
    task += "journalctl -b -u sysenter.service -o cat | grep -m 1 sysenter.off"
    output = system.boot(steps, task, {}, what="a boot with sysenter.off", timeout=240, machine=machine)
    assert output.text[-2:] == (
        "out",
        "sysenter: not loaded: sysenter.off is on the kernel's command line",
    ), output.text


@pytest.mark.long
def test_this_machine_is_measured(steps: Steps, disk: tuple[System, Path]) -> None:
    """`bench --here` with each scope: every path that there is, each in fewer cycles than what it replaces."""
    system, _ = disk
    task = """
tar -C / -xf /lab/src.tar
systemctl start sysenter.service; systemctl stop sysenter.service; rmmod sysenter
export PYTHONPATH=/src
python3 -m sysenter bench --here
for scope in marked all both; do
	modprobe sysenter scope=$scope
	python3 -m sysenter bench --here --rounds 5 --json /tmp/$scope.json
	printf '{"here": '; tr -d '\\n' </tmp/$scope.json; echo '}'
	rmmod sysenter
done
"""
    files = {"lab/src.tar": own_sources()}
    output = system.boot(steps, task, files, what="bench --here", timeout=400)
    assert not output.bad_lines(), output.console
    assert "sysenter: bench --here: the module is not loaded here (sudo sysenter install --try)" in output.text
    found = output.of("here")
    assert [here["scope"] for here in found] == ["marked", "all", "both"], output.text
    for here, paths in zip(found, ({"stock", "fast"}, {"all"}, {"all", "fast"}), strict=True):
        schemas.hold("bench-here", here)
        cycles = {(row["call"], row["path"]): row["least"] for row in here["calls"]}
        assert {path for _, path in cycles} == {"int80", *paths}
        assert len(cycles) == 6 * (1 + len(paths))
        assert all(cycles[call, path] < cycles[call, "int80"] for call, path in cycles if path in ("fast", "all"))
    assert any("this machine is a virtual one" in line for line in output.text)


@pytest.mark.long
def test_uninstall_on_a_system_that_runs(steps: Steps, disk: tuple[System, Path]) -> None:
    """It says who holds the module, waits if asked to, and then nothing is left, in memory neither."""
    system, _ = disk
    other = build_module(steps, provide(steps, OTHER[system.guest.target.arch.name], offline=False))
    files = {"lab/src.tar": own_sources(), "lab/other.ko": other.module.read_bytes()}
    task = f"""
tar -C / -xf /lab/src.tar
export PYTHONPATH=/src
{WAIT}{WAIT_FOR}
# the lab's own programs, which stand there too
find /usr/lib/sysenter -type f ! -name at-boot ! -name trial -delete
insmod /lab/other.ko 2>&1 | grep -o "Invalid module format\\|File exists"
python3 -m sysenter status --json - 2>/dev/null | grep -c '"since": "20'
sysenter-run sleep 1000 &
wait_for '[ "$(cat /proc/$!/comm)" = sleep ] && grep -q /dev/sysenter /proc/$!/maps'
python3 -m sysenter uninstall 2>&1 | tail -n 1 | sed "s/by $! /by PID /"
{{ sleep 5; kill $!; }} &
python3 -m sysenter uninstall --wait 60 >/dev/null 2>&1; echo "uninstall $?"
python3 -m sysenter uninstall 2>&1
ls -d /sys/module/sysenter /dev/sysenter /var/lib/sysenter /usr/lib/sysenter /usr/src/sysenter-* 2>/dev/null
ls /lib/modules/*/updates/dkms/sysenter* /etc/systemd/system/*.wants/sysenter* 2>/dev/null
modprobe sysenter 2>&1 | grep -c "not found"
"""
    output = system.boot(steps, task, files, what="uninstall", timeout=400)
    assert not output.bad_lines(), output.console
    said = [line for line in output.text if "Terminated" not in line]
    assert said[:6] == [
        "Invalid module format",
        "1",
        "sysenter: the module is in use by PID (sleep) (end those programs, or wait for them with --wait SECONDS)",
        "uninstall 0",
        "nothing was installed",
        "1",
    ], output.text


@pytest.mark.long
def test_a_trial_that_fails_unloads_the_module(steps: Steps, disk: tuple[System, Path]) -> None:
    """So does one that a signal ends. What is in the way of a load is told before it."""
    system, _ = disk
    task = """
tar -C / -xf /lab/src.tar
systemctl start sysenter.service; systemctl stop sysenter.service; rmmod sysenter
export PYTHONPATH=/src
printf '#!/bin/sh\\nsleep 100\\n' >/usr/lib/sysenter/trial
python3 -c '__TRY__' &
for tenth in $(seq 300); do [ -e /sys/module/sysenter ] && break; sleep 0.1; done
sleep 1; kill -TERM $!; wait $!
ls -d /sys/module/sysenter 2>/dev/null
printf '#!/bin/sh\\necho "sysenter: getppid differs on the fast path"; exit 1\\n' >/usr/lib/sysenter/trial
python3 -c '__TRY__'
ls -d /sys/module/sysenter 2>/dev/null
systemctl start sysenter.service || echo "at boot: status $?"
ls -d /sys/module/sysenter /var/lib/sysenter/fuse 2>/dev/null
echo 1 >/proc/sys/kernel/modules_disabled; python3 -c '__TRY__'
sed -i 's/PREEMPT_DYNAMIC Debian/PREEMPT_DYNAMIC DEBIAN/' /boot/vmlinuz-*; python3 -c '__TRY__'
mv /lib/modules/*/updates/dkms/sysenter.ko* /root/; python3 -c '__TRY__'
""".replace("__TRY__", TRY)
    output = system.boot(steps, task, {"lab/src.tar": own_sources()}, what="a failing trial", timeout=240)
    said = "\n".join(output.text)
    assert "sysenter: getppid differs on the fast path" in said, said
    assert output.text.count("status 143") == 1, said
    assert said.count("the module is unloaded again") == 2
    assert "the trial: /usr/lib/sysenter/trial failed with status 1 (this is a bug" in said
    assert output.text.count("status 1") == 4
    for reason in (
        "this kernel loads no more modules (kernel.modules_disabled) (reboot without it)",
        f"the module is not of the image that /boot has for {system.guest.target.release} (built for ",
        f"there is no module for the running kernel, {system.guest.target.release} (install --all-kernels builds it)",
    ):
        assert f"sysenter: {reason}" in said, said
    assert "at boot: status 1" in output.text
    assert "/sys/module/sysenter" not in output.text
    assert "/var/lib/sysenter/fuse" not in output.text
    assert not output.bad_lines(), output.console


@pytest.mark.long
def test_a_kernel_that_loads_signed_modules_only_says_so(steps: Steps, disk: tuple[System, Path]) -> None:
    """With module.sig_enforce=1 on its command line, and DKMS's key not enrolled: boot goes on, `--try` and
    `status` say what that means.
    """
    system, _ = disk
    machine = system.machine(memory=1024, append="module.sig_enforce=1")
    # The lab's guests start without the kernel's built-in keys, by which the drivers of the disk are signed.
    without_keys = " initcall_blacklist=load_system_certificate_list"
    assert without_keys in machine.append
    machine = replace(machine, append=machine.append.replace(without_keys, ""))
    task = """
tar -C / -xf /lab/src.tar
export PYTHONPATH=/src
rm -f /var/lib/sysenter/fuse; systemctl stop sysenter.service # of the boot that another test cuts
systemctl start sysenter.service || echo "at boot: status $?"
journalctl -b -u sysenter.service -o cat | grep -o -m 1 "Key was rejected by service" | sed 's/^/at boot: /'
ls /var/lib/sysenter/fuse 2>/dev/null
python3 -c '__TRY__'
python3 -m sysenter status
""".replace("__TRY__", TRY)
    files = {"lab/src.tar": own_sources()}
    output = system.boot(steps, task, files, what="a boot with signed modules only", timeout=240, machine=machine)
    said = "\n".join(output.text)
    assert "at boot: status 1\nat boot: Key was rejected by service\n" in said, said
    assert "/var/lib/sysenter/fuse" not in output.text, said
    assert said.count("Key was rejected by service") == 2, said
    assert "this kernel loads signed modules only: mokutil --import /var/lib/dkms/mok.pub" in said
    assert "status 1" in output.text
    assert "signed modules only: yes" in said
    assert not output.bad_lines(), output.console
