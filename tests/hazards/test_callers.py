# SPDX-License-Identifier: GPL-2.0-or-later
"""Hostile callers, watchers and signals: the fast path and the kernel's own answer the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from guests import guest_for
from sysenter.build import build_module
from sysenter.kernels.provide import provide
from sysenter.steps import Steps
from sysenter.target.arch import I386

# The machines that each case is run on: kernel, CPUs, more of the command line. With
# preempt=full a task may lose the CPU anywhere inside that has interrupts on.
MACHINES = [
    pytest.param("bookworm-686", 1, "", id="686-1", marks=pytest.mark.long),
    pytest.param("bookworm-686", 4, "", id="686-4", marks=pytest.mark.long),
    pytest.param("bookworm-686", 4, "preempt=full", id="686-4-preempt"),
    pytest.param("bookworm-686-pae", 4, "", id="pae-4", marks=pytest.mark.long),
    pytest.param("bookworm-686-pae", 2, "pti=on preempt=full", id="pae-2-pti-preempt", marks=pytest.mark.long),
    pytest.param("bookworm-amd64", 4, "preempt=full", id="amd64-6.1-4-preempt"),
    pytest.param("bookworm-amd64", 2, "pti=on", id="amd64-6.1-2-pti", marks=pytest.mark.long),
    pytest.param("bookworm-backports-amd64", 2, "preempt=full", id="amd64-6.12-backports"),
    pytest.param("trixie-amd64", 2, "pti=on preempt=full", id="amd64-6.12"),
    pytest.param("trixie-backports-amd64", 2, "pti=on preempt=full", id="amd64-7-2-pti-preempt"),
    pytest.param("trixie-backports-amd64", 1, "", id="amd64-7-1", marks=pytest.mark.long),
]


def outcomes(steps: Steps, kernel: str, cpus: int, append: str, programs: list[str]) -> list[dict[str, Any]]:
    """Run hazard programs in a guest; its log must stay clean and the module must go at the end."""
    target = replace(provide(steps, kernel, offline=False), cpus=cpus)
    guest = guest_for(steps, target, "tcg")
    lines = ["insmod /sysenter.ko || exit 99", "mount -t tracefs tracefs /sys/kernel/tracing"]
    lines += [f"/lib/sysenter/{program}; /lib/sysenter/{program} -root" for program in programs]
    lines += ["rmmod sysenter && echo went"]
    output = guest.run(
        steps,
        "\n".join(lines),
        {"sysenter.ko": build_module(steps, target).module.read_bytes()},
        what="hostile callers",
        timeout=200,
        machine=guest.machine(append=append),
    )
    assert not output.bad_lines(), output.console
    assert "went" in output.text, output.text
    return list(output.records)


def same(records: list[dict[str, Any]]) -> dict[str, str]:
    """Case -> what both paths said."""
    differ = [r for r in records if not r["same"]]
    assert not differ, "\n".join(f"{r['case']}:\n  fast  {r['fast']}\n  stock {r['stock']}" for r in differ)
    return {r["case"]: r["stock"] for r in records}


@pytest.mark.parametrize(("kernel", "cpus", "append"), MACHINES)
def test_fast_and_stock_give_the_same(steps: Steps, kernel: str, cpus: int, append: str) -> None:
    # the last turns auditing on, and from then on the kernel wants each call for itself
    programs = ["hazards_calls", "hazards_signals", "hazards_system", "hazards_arch", "hazards_watch"]
    said = same(outcomes(steps, kernel, cpus, append, programs))
    assert len(said) >= 70, f"only {len(said)} cases ran"
    # A comparison says nothing if both sides did nothing.
    assert "SIGSYS 31" in said["seccomp_trap"]
    assert "4 records" in said["audit"]
    assert "pipe_read" in said["proc_shows_call"]
    assert "core signal 3" in said["core_dump"]
    assert "no end" not in " ".join(said.values())


@pytest.mark.parametrize(
    "kernel", ["bookworm-686", pytest.param("bookworm-amd64", marks=pytest.mark.long), "trixie-backports-amd64"]
)
def test_where_the_kernel_patches_its_text(steps: Steps, kernel: str) -> None:
    """Probes, tracepoints, cgroups. On one CPU: TCG with several keeps breakpoints that are gone."""
    said = same(outcomes(steps, kernel, 1, "", ["hazards_patched"]))
    assert "in 7 out 7 end 1 " in said["kprobes"]
    # a call of i386's returns to the vDSO, which is no file to probe
    i386 = provide(steps, kernel, offline=False).arch is I386
    assert ("[vdso]" if i386 else "probed 8 exit 1") in said["uprobe_on_return"]
    assert "probed 1 " in said["uprobe_on_entering"]
    assert "leaf 7 end 1 " in said["function_tracer"]
    assert "leaf 7 end 1 " in said["function_graph_tracer"]
    assert said["tracepoints"].startswith("exit 0 enter 7 exit 7 mmap2 1 none 1 read's exit 1")
    assert "frozen ended 0 exit 1" in said["frozen"]
    assert said["killed_for_memory"].endswith("group 0 signal 9 exit 0 ")
