# SPDX-License-Identifier: GPL-2.0-or-later
"""The product inside a guest that has KVM: its own guests then run on real KVM, on the SVM that QEMU emulates."""

from __future__ import annotations

import re
import sysconfig
from collections.abc import Callable

import pytest

import schemas
from conftest import ROOT
from sysenter.build import build_module
from sysenter.cache import cache_folder
from sysenter.kernels.drivers import KVM, drivers
from sysenter.kernels.provide import provide
from sysenter.kernels.root import debian_root
from sysenter.lab.guest import Output
from sysenter.lab.present_guest import present_guest_for
from sysenter.lab.system import system_for
from sysenter.steps import Steps

pytestmark = [pytest.mark.long, pytest.mark.timeout(2400)]

KERNEL = "bookworm-amd64"
SOURCE = ROOT / "src"
# This machine's cache and checkout, at the same places as here so that what is in the cache is found, and its Python
# packages are shared; what is written stays in the guest's memory.
_SHARES = ("9pnet_virtio", "9p", "overlay")
_PACKAGES = ("python3", "qemu-system-x86", "gcc", "libc6-dev", "make", "apt", "kmod")
_PROLOGUE = """
for driver in /kvm/*.ko; do insmod $driver || echo "no $driver"; done
shared() { # NAME FOLDER: seen there, and may be written to
	mkdir -p /shares/$1 /debian$2 /upper
	mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=262144,cache=loose $1 /shares/$1 &&
	mkdir -p /memory/$1 && mount -t tmpfs t /memory/$1 && mkdir /memory/$1/up /memory/$1/work &&
	mount -t overlay -o lowerdir=/shares/$1,upperdir=/memory/$1/up,workdir=/memory/$1/work t /debian$2
}
shared cache CACHE && shared source SOURCE && shared packages /packages || exit 90
sysenter() {
	PYTHONPATH=SOURCE:/packages PYTHONDONTWRITEBYTECODE=1 SYSENTER_PATIENCE=10 \\
		debian python3 -m sysenter "$@"; echo "status $?"
}
"""

Nested = Callable[[str], Output]


@pytest.fixture(scope="module")
def nested(steps: Steps) -> Nested:
    """Run a task on a Debian system with KVM, where `sysenter` is this checkout's."""
    target = provide(steps, KERNEL, offline=False)
    build_module(steps, target)
    guest = present_guest_for(steps, target, "tcg")  # what one inside needs is in the cache now, too
    root = debian_root(steps, "bookworm", "amd64", _PACKAGES, offline=False)
    system = system_for(steps, guest, root, offline=False)
    found = drivers(steps, target, (*_SHARES, *KVM), offline=False)
    files = {
        f"kvm/{n:02}-{name}.ko": data for n, (name, data) in enumerate(found.items()) if name not in system.drivers
    }
    cache = cache_folder()
    places = {"cache": cache, "source": SOURCE, "packages": sysconfig.get_path("purelib")}
    shares = [
        word
        for name, folder in places.items()
        for word in ("-virtfs", f"local,path={folder},mount_tag={name},security_model=none,readonly=on")
    ]

    def run(task: str) -> Output:
        machine = system.machine(cpu="EPYC,+svm", cpus=2, memory=4096, extra=shares)
        prologue = _PROLOGUE.replace("CACHE", str(cache)).replace("SOURCE", str(SOURCE))
        return system.run(steps, prologue + task, files, what="a guest with KVM", timeout=1500, machine=machine)

    return run


def test_run_measures_on_kvm_inside_a_guest(nested: Nested) -> None:
    """The whole of `run`, on the processor that such a host has: AMD's, where unmodified programs are served."""
    output = nested(
        f"sysenter run --kernel {KERNEL} --accelerator kvm --offline --rounds 2 --count 5000 --json /tmp/run.json\n"
        "tr -d '\\n' </debian/tmp/run.json; echo"
    )
    said = "\n".join(output.text)
    assert "status 0" in output.text, said
    (found,) = [record for record in output.records if "schema" in record]
    schemas.hold("run", found)
    assert (found["target"]["accelerator"], found["target"]["cpu"]) == ("kvm", "EPYC"), said
    assert found["module"]["scope"] == "all"
    assert {call["path"] for call in found["calls"]} == {"int80", "stock", "all"}
    assert all(call["ns"] and call["instructions"] for call in found["calls"]), said
    assert found["after_unload"] == {"registers_restored": True, "stock_calls_work": True}
    replayed = found["replay"]["calls"]
    assert {(call["call"], call["path"]) for call in replayed} >= {("getppid", "stock"), ("getppid", "all")}, said
    assert all(call["verified"] and call["cycles"] for call in replayed), said
    # of this processor's mitigations the kernel warns as it starts
    assert not [line for line in output.bad_lines() if "Return Stack Overflow" not in line], output.console


def test_a_processor_that_only_says_it_is_intels_is_found_out_by_trial(nested: Nested) -> None:
    """In 64-bit mode KVM on AMD's processor has no SYSENTER to give, whatever vendor the guest reads.

    KVM stops a guest for good that tries one at CPL 0.
    """
    guest = f"--kernel {KERNEL} --accelerator kvm --offline --cpu EPYC,vendor=GenuineIntel"
    output = nested(f"sysenter exec {guest} -- true")
    said = "\n".join(output.text)
    assert "status 1" in output.text, said
    assert re.search(r"^sysenter: the module was not accepted: .*SYSENTER is an invalid instruction", said, re.M), said
