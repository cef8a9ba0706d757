# SPDX-License-Identifier: GPL-2.0-or-later
"""Ctrl-C while install has Debian's packages installed: dpkg is not killed in its midst, a download is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import ROOT, interruptible

_CODE = """
import sys
from sysenter.ending import conclude
from sysenter.install.install import _fetch_packages
from sysenter.steps import Steps
sys.exit(conclude(Steps(), lambda: _fetch_packages(Steps(), ["dkms"]) or 0))
"""
# It says what it is at, takes its time, and says that it is done.
_APT = """#!/bin/sh
case "$*" in update) exit ;; *--download-only*) step=download ;; *) step=install ;; esac
: >{folder}/$step; sleep {seconds}; : >{folder}/$step-done
"""


@pytest.mark.parametrize(("step", "seconds", "done"), [("download", "60", False), ("install", "1", True)])
def test_ctrl_c_waits_for_dpkg_alone(tmp_path: Path, step: str, seconds: str, done: bool) -> None:
    apt = tmp_path / "apt-get"
    apt.write_text(_APT.format(folder=tmp_path, seconds=f"$([ $step = {step} ] && echo {seconds} || echo 0)"))
    apt.chmod(0o755)
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    argv = [sys.executable, "-c", _CODE]
    with subprocess.Popen(argv, env=env, stderr=subprocess.PIPE, text=True, preexec_fn=interruptible) as command:
        deadline = time.monotonic() + 60
        while not (tmp_path / step).exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        command.send_signal(signal.SIGINT)
        _, said = command.communicate(timeout=20)
    assert command.returncode == 130, said
    assert said.splitlines()[-1].startswith("sysenter: interrupted")
    assert (tmp_path / f"{step}-done").exists() == done
