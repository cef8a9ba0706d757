# SPDX-License-Identifier: GPL-2.0-or-later
"""Hostile callers, watchers and signals: the fast path and the kernel's own answer the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cases import assert_each_did_its_part
from guests import guest_for
from sysenter.build import build_module
from sysenter.kernels.provide import provide
from sysenter.steps import Steps

# The machines that each case is run on: kernel, CPUs, more of the command line. With
# preempt=full a task may lose the CPU anywhere inside that has interrupts on.
MACHINES = [
    pytest.param("bookworm-686", 1, "", id="686-1", marks=pytest.mark.long),
    pytest.param("bookworm-686", 4, "", id="686-4", marks=pytest.mark.long),
    pytest.param("bookworm-686", 4, "preempt=full", id="686-4-preempt"),
    pytest.param("bookworm-686-pae", 4, "", id="pae-4", marks=pytest.mark.long),
    pytest.param("bookworm-686-pae", 2, "pti=on preempt=full", id="pae-2-pti-preempt", marks=pytest.mark.long),
    pytest.param("bookworm-amd64", 4, "preempt=full", id="amd64-6.1-4-preempt", marks=pytest.mark.long),
    pytest.param("bookworm-amd64", 2, "pti=on", id="amd64-6.1-2-pti", marks=pytest.mark.long),
    pytest.param("bookworm-backports-amd64", 2, "preempt=full", id="amd64-6.12-backports"),
    pytest.param("trixie-amd64", 2, "pti=on preempt=full", id="amd64-6.12"),
    pytest.param("trixie-backports-amd64", 2, "pti=on preempt=full", id="amd64-7-2-pti-preempt"),
    pytest.param("trixie-backports-amd64", 1, "", id="amd64-7-1", marks=pytest.mark.long),
]


def outcomes(steps: Steps, kernel: str, cpus: int, append: str, programs: list[str]) -> list[dict[str, Any]]:
    """Run hazard programs in a guest; its log must stay clean and the module must go at the end.

    Each program must have made fast calls: if all were sent on to the kernel's entry, both paths say the same.
    """
    target = replace(provide(steps, kernel, offline=False), cpus=cpus)
    guest = guest_for(steps, target, "tcg")
    lines = ["insmod /sysenter.ko || exit 99", "mount -t tracefs tracefs /sys/kernel/tracing"]
    calls = "$(cat /sys/module/sysenter/parameters/calls)"
    for program in programs:
        lines += [f"before={calls}", f"/lib/sysenter/{program}; /lib/sysenter/{program} -root"]
        lines += [f"echo {program} $(({calls} - before))"]
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
    fast = {line.split()[0]: int(line.split()[1]) for line in output.text if line.startswith("hazards_")}
    assert fast.keys() == set(programs), output.text
    assert min(fast.values()) > 40, f"fast calls: {fast}"
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
    target = provide(steps, kernel, offline=False)
    assert_each_did_its_part(said, programs, target.arch.name)
    # since 7.0 a kernel looks for a sequence only as it goes back from an interrupt (include/linux/rseq_entry.h)
    if not target.release.startswith("7."):
        assert said.get("rseq_over_the_stub", "aborted some").startswith("aborted some")


@pytest.mark.parametrize(
    "kernel", ["bookworm-686", pytest.param("bookworm-amd64", marks=pytest.mark.long), "trixie-backports-amd64"]
)
def test_where_the_kernel_patches_its_text(steps: Steps, kernel: str) -> None:
    """Probes, tracepoints, cgroups. On one CPU: TCG with several keeps breakpoints that are gone."""
    programs = ["hazards_patched"]
    said = same(outcomes(steps, kernel, 1, "", programs))
    assert_each_did_its_part(said, programs, provide(steps, kernel, offline=False).arch.name)
