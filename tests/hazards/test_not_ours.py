# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults of the emulator's and of a kernel's that the tests keep away from, on stock kernels, no module loaded.

Where one of these fails, somebody has mended the fault: what is said of it in docs/hazards.md, and what the
tests leave out for its sake, can go.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import AMD64, ROOT
from guests import guest_for
from shell import HOTPLUG
from sysenter.build.native import compiler
from sysenter.kernels.provide import provide
from sysenter.lab.qemu import GuestLost
from sysenter.steps import Steps, run_command
from sysenter.target.target import Target

pytestmark = pytest.mark.long


def compiled(steps: Steps, target: Target, name: str, folder: Path) -> dict[str, bytes]:
    """A program of tests/native/not_ours, as a guest's file."""
    argv: list[str | Path] = [compiler(), f"-m{target.bits}", "-O1", "-static", "-o", folder / name]
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
        guest.run(
            steps, task, compiled(steps, target, "rings", tmp_path), what="rings", timeout=330, machine=machine
        )  # fmt: skip
    assert "EIP: io_wq_for_each_worker" in lost.value.detail
    assert "Not tainted" in lost.value.detail
