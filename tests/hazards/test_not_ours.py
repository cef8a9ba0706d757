# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults of the emulator's and of a kernel's that the tests keep away from, on stock kernels, no module loaded.

Where one of these fails, somebody has mended the fault: what is said of it in docs/evidence.md, and what the
tests leave out for its sake, can go.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import AMD64, ROOT
from guests import guest_for, sockets
from monitor import sent_when_ready
from shell import HOTPLUG, LOAD
from sysenter.build.native import compiler
from sysenter.kernels.emulators import qemu_folder
from sysenter.kernels.provide import provide
from sysenter.lab.present_guest import TROUBLE
from sysenter.lab.qemu import GuestLost
from sysenter.steps import Steps, run_command
from sysenter.target.image import read_bzimage
from sysenter.target.kallsyms import kallsyms
from sysenter.target.memory import Memory
from sysenter.target.target import Target

pytestmark = pytest.mark.long


def compiled(steps: Steps, target: Target, name: str, folder: Path) -> dict[str, bytes]:
    """A program of tests/native/not_ours, as a guest's file."""
    argv: list[str | Path] = [compiler(), f"-m{target.arch.bits}", "-O1", "-static", "-o", folder / name]
    run_command(steps, [*argv, ROOT / f"tests/native/not_ours/{name}.c"], what=f"compile {name}", timeout=60)
    return {name: (folder / name).read_bytes()}


@pytest.mark.parametrize("kernel", AMD64)
def test_a_segment_with_a_base_ends_a_stock_kernel(steps: Steps, kernel: str, tmp_path: Path) -> None:
    """Because of it the hostile callers' segments have the base 0 on amd64 (LDT_BASE)."""
    target = provide(steps, kernel, offline=False)
    guest, files = guest_for(steps, target, "tcg"), compiled(steps, target, "segment_base", tmp_path)
    output = guest.run(steps, "/segment_base 0", files, what="the base 0", timeout=60)
    assert output.text == ("loaded", "ended")
    with pytest.raises(GuestLost, match="no end of its task") as lost:
        guest.run(steps, "/segment_base 0x1000", files, what="another base", timeout=60)
    assert lost.value.detail.endswith("loaded")


def test_rings_end_a_stock_6_1_when_a_cpu_comes_on_line(steps: Steps, tmp_path: Path) -> None:
    """Because of it the storm leaves io_uring_setup out."""
    target = provide(steps, "bookworm-686", offline=False)
    guest = guest_for(steps, target, "tcg")
    task = f"{HOTPLUG}\ntouch /tmp/go; hotplug & /rings 300; rm /tmp/go; wait"
    machine = guest.machine(cpus=4, append="preempt=full", extra=("-smp", "4,sockets=4"))
    with pytest.raises(GuestLost) as lost:
        guest.run(steps, task, compiled(steps, target, "rings", tmp_path), what="rings", timeout=330, machine=machine)
    assert "EIP: io_wq_for_each_worker" in lost.value.detail
    assert "Not tainted" in lost.value.detail


@pytest.mark.parametrize("kernel", ["bookworm-686", "bookworm-amd64"])
def test_cmpxchg8b_gives_flags_that_no_processor_has(steps: Steps, kernel: str, tmp_path: Path) -> None:
    """Because of it the lab knows kernels that such flags ended (lab/qemu.py, impossible_flags)."""
    target = provide(steps, kernel, offline=False)
    output = guest_for(steps, target, "tcg").run(
        steps, "/cmpxchg8b 0xc3db3200", compiled(steps, target, "cmpxchg8b", tmp_path), what="flags", timeout=60
    )
    assert [hex(flags) for flags in output.of("flags")] == ["0xc3db3242"]  # bits 22 to 31 are 0 (SDM 1, 3.4.3)


def around_cmpxchg8b(target: Target) -> tuple[int, int]:
    """Offsets in kmem_cache_alloc_lru(): the first instruction behind the last branch before its
    `cmpxchg8b %fs:(%esi); jne`, and the first behind that."""
    memory = Memory.of(read_bzimage(target.image.read_bytes(), target.image.name))
    start = kallsyms(memory)["kmem_cache_alloc_lru"]
    base, data = next(piece for piece in memory.pieces if 0 <= start - piece[0] < len(piece[1]))
    code = data[start - base :][:1024]
    found = re.search(rb"\x0f\x84....((?:(?!\x0f\x84).)*\x64\x0f\xc7\x0e\x75.)", code, re.DOTALL)
    if not found:
        pytest.skip(f"{target.name}: its kmem_cache_alloc_lru() is not of the kind known here")
    return found.start(1), found.end(1)


@pytest.mark.parametrize("kernel", ["bookworm-686", "bookworm-686-pae"])
def test_two_exceptions_around_cmpxchg8b_end_a_stock_kernel(steps: Steps, kernel: str) -> None:
    """One just before the block of QEMU's with that instruction, one just behind it; kprobes bring them about."""
    target = provide(steps, kernel, offline=False)
    places = around_cmpxchg8b(target)
    guest = guest_for(steps, target, "tcg")

    def bad(*offsets: int) -> list[str]:
        probes = [f"echo p:at_{at} kmem_cache_alloc_lru+{at} >>kprobe_events\n" for at in offsets]
        task = (
            "mount -t tracefs tracefs /sys/kernel/tracing; cd /sys/kernel/tracing\n"
            f"echo 0 >/proc/sys/debug/kprobes-optimization\n{''.join(probes)}"
            "echo 1 >events/kprobes/enable\nls / /sys/kernel >/dev/null; echo lived\n"
        )
        try:
            output = guest.run(steps, task, {}, what="probes", timeout=60)
        except GuestLost as lost:
            return [line for line in lost.detail.splitlines() if any(word in line for word in TROUBLE)]
        assert "lived" in output.text
        return output.bad_lines()

    for one in places:
        assert not bad(one)
    assert any("BUG: " in line for line in bad(*places))


@pytest.mark.parametrize("kernel", ["bookworm-686", "bookworm-amd64"])
@pytest.mark.parametrize(("qemu", "first"), [("", 0), ("trixie", 1)], ids=["qemu", "trixie"])
def test_qemu_10_saves_the_resume_flag_of_a_trap(
    steps: Steps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, qemu: str, first: int, kernel: str
) -> None:
    """Because of it hazards_watch.c leaves RF out. QEMU 7.2 does as the SDM says."""
    monkeypatch.delenv("SYSENTER_QEMU", raising=False)
    if qemu:
        monkeypatch.setenv("SYSENTER_QEMU", str(qemu_folder(steps, qemu, offline=False)))
    target = provide(steps, kernel, offline=False)
    program = compiled(steps, target, "resume_flag", tmp_path)
    output = guest_for(steps, target, "tcg").run(steps, "/resume_flag", program, what="a trap", timeout=60)
    assert output.of("resume_flag") == [first, 0]


def test_qemu_10_comes_back_from_s3(steps: Steps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No module. QEMU 7.2 ended in one of twelve boots of this kernel: test_suspend_to_memory begins again then."""
    monkeypatch.setenv("SYSENTER_QEMU", str(qemu_folder(steps, "trixie", offline=False)))
    target = provide(steps, "trixie-backports-amd64", offline=False)
    guest = guest_for(steps, target, "tcg")
    sleep = "for time in 1 2 3; do sleep 1; echo mem >/sys/power/state && echo slept $time; done"
    for boot in range(12):
        folder = tmp_path / str(boot)
        folder.mkdir()
        with sent_when_ready(folder, "system_wakeup", 1) as (options, on_record):
            machine = replace(guest.machine(cpus=2, extra=(*sockets(2), *options)), kernel=target.image)
            output = guest.run(
                steps,
                f"{LOAD}touch /tmp/go; echo '{{\"ready\": true}}'; load & load & {sleep}; rm /tmp/go; wait",
                {},
                what=f"S3, boot {boot}",
                timeout=120,
                machine=machine,
                on_record=on_record,
            )
        assert output.text == ("slept 1", "slept 2", "slept 3")
        assert not output.bad_lines(), output.console[-4000:]
