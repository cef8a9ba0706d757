# SPDX-License-Identifier: GPL-2.0-or-later
"""A processor that only says that it has SYSENTER: as loaded, its programs would die of SIGILL."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from conftest import ROOT
from guests import guest_for
from sysenter.build import build_module
from sysenter.build.present import kbuild
from sysenter.kernels.provide import provide
from sysenter.steps import Steps


@pytest.mark.parametrize(
    ("kernel", "cpu", "append", "why"),
    [
        ("bookworm-686", "pentium3,-sep", "", "SYSENTER faults"),
        ("bookworm-amd64", "EPYC", "mitigations=off", "SYSENTER is an invalid instruction"),
        pytest.param(
            "trixie-backports-amd64",
            "EPYC",
            "mitigations=off",
            "SYSENTER is an invalid instruction",
            marks=pytest.mark.long,
        ),
    ],
)
def test_sysenter_that_faults_is_refused(
    steps: Steps, kernel: str, cpu: str, append: str, why: str, tmp_path: Path
) -> None:
    target = provide(steps, kernel, offline=False)
    folder = tmp_path / "pretend"
    shutil.copytree(ROOT / "tests/native/pretend", folder)
    kbuild(steps, target, folder)
    files = {"sysenter.ko": build_module(steps, target).module.read_bytes()}
    files["pretend.ko"] = (folder / "pretend.ko").read_bytes()
    guest = guest_for(steps, target, "tcg")
    task = """
insmod /pretend.ko || exit 98
/lib/sysenter/msr >/tmp/before; [ -s /tmp/before ] || exit 97; insmod /sysenter.ko 2>/dev/null && echo loaded
dmesg | grep -m 1 'sysenter: refused'; /lib/sysenter/msr | cmp - /tmp/before && echo "registers as before"
"""
    output = guest.run(
        steps,
        "insmod /lib/sysenter/msr.ko\n" + task,
        files,
        what="a trial",
        timeout=60,
        machine=guest.machine(cpu=cpu, append=append),
    )
    assert not output.bad_lines(), output.console
    assert output.status == 0, output.text
    assert "loaded" not in output.text
    assert why in output.text[0], output.text
    assert output.text[1:] == ("registers as before",)
