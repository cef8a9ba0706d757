# SPDX-License-Identifier: GPL-2.0-or-later
"""While install has Debian's packages installed: Ctrl-C, which must not kill dpkg in its midst, and another apt."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import ROOT, interruptible
from sysenter.errors import SysenterError
from sysenter.install import install
from sysenter.steps import Steps

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


# Another apt has what it needs at each step, a few times.
_HELD = """#!/bin/sh
echo "$*" >>{folder}/words
if [ $(grep -cFx "$*" {folder}/words) -lt {times} ]; then
	echo "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 1 (apt-get)"; exit 100
fi
"""


@pytest.mark.parametrize(("times", "patience"), [(3, 600.0), (1000, 0.2)])
def test_another_apt_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, steps: Steps, times: int, patience: float
) -> None:
    """Debian's own daily upgrade, for instance; not for ever."""
    apt = tmp_path / "apt-get"
    apt.write_text(_HELD.format(folder=tmp_path, times=times))
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(install, "_AGAIN", 0.01)
    monkeypatch.setattr(install, "_PATIENCE", patience)
    if times == 3:
        install._fetch_packages(steps, ["dkms"])
    else:
        with pytest.raises(SysenterError, match="another apt or dpkg has been at work"):
            install._fetch_packages(steps, ["dkms"])
    words = (tmp_path / "words").read_text().splitlines()
    assert set(words) == ({"update"} if times == 1000 else {"update", words[3], words[6]})
    assert times == 1000 or len(words) == 9
