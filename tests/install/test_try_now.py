# SPDX-License-Identifier: GPL-2.0-or-later
"""What `install --try` leaves behind if its trial does not come to a good end; test_boot.py does it in a guest."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from conftest import ROOT
from sysenter.errors import SysenterError
from sysenter.install import trial
from sysenter.processes import Interrupted
from sysenter.steps import Steps


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is there while the module is loaded."""
    place = tmp_path / "loaded"
    monkeypatch.setattr(trial, "LOADED", place)
    monkeypatch.setattr(trial, "check_before_load", lambda: None)
    return place


def _machine(monkeypatch: pytest.MonkeyPatch, loaded: Path, ends: BaseException, *, stays: bool = False) -> None:
    """A machine on which the trial ends so. stays: whether the module cannot be unloaded."""

    def run(steps: Steps, argv: list[str | Path], **more: object) -> str:
        match str(argv[0]):
            case "modprobe":
                loaded.touch()
            case "rmmod" if stays:
                raise SysenterError("rmmod failed", detail="in use")
            case "rmmod":
                loaded.unlink()
            case _:
                raise ends
        return ""

    monkeypatch.setattr(trial, "run_command", run)


@pytest.mark.parametrize("ends", [SysenterError("getppid differs"), Interrupted(2)], ids=["differs", "Ctrl-C"])
def test_the_module_is_not_left_loaded(
    monkeypatch: pytest.MonkeyPatch, loaded: Path, steps: Steps, ends: BaseException
) -> None:
    _machine(monkeypatch, loaded, ends)
    with pytest.raises(type(ends)) as raised:
        trial.try_now(steps)
    assert raised.value is ends
    assert not loaded.exists()


def test_what_the_user_had_loaded_stays_at_ctrl_c(monkeypatch: pytest.MonkeyPatch, loaded: Path, steps: Steps) -> None:
    loaded.touch()
    _machine(monkeypatch, loaded, Interrupted(2))
    with pytest.raises(Interrupted):
        trial.try_now(steps)
    assert loaded.exists()
    _machine(monkeypatch, loaded, SysenterError("getppid differs"))
    with pytest.raises(SysenterError):
        trial.try_now(steps)
    assert not loaded.exists()


def test_what_differs_is_told_also_if_the_module_cannot_be_unloaded(
    monkeypatch: pytest.MonkeyPatch, loaded: Path, steps: Steps
) -> None:
    _machine(monkeypatch, loaded, SysenterError("getppid differs", detail="5 and 6"), stays=True)
    with pytest.raises(SysenterError, match="getppid differs; and the module is still loaded: rmmod failed") as raised:
        trial.try_now(steps)
    assert raised.value.detail == "5 and 6\nin use"


# What the trial takes from its C library, in place of it: no call is ever interrupted, so the first one that waits
# for a signal sleeps for ever.
_NO_SIGNALS = """
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>
int access(const char *path, int mode) { (void)path, (void)mode; return 0; }
int setitimer(__itimer_which_t which, const struct itimerval *new, struct itimerval *old)
{
	return which == ITIMER_REAL ? 0 : syscall(SYS_setitimer, which, new, old);
}
"""


@pytest.mark.skipif(Path("/dev/sysenter").exists(), reason="here the trial would use the module")
def test_a_trial_that_sleeps_for_ever_is_a_failure(tmp_path: Path) -> None:
    """And it leaves no process behind, whose mapping would hold the module."""
    source = (ROOT / "src/sysenter/native/install/trial.c").read_text()
    assert "#define LIMIT\t40" in source
    (tmp_path / "trial.c").write_text(source.replace("#define LIMIT\t40", "#define LIMIT\t1"))
    (tmp_path / "no_signals.c").write_text(_NO_SIGNALS)
    flags = ["-Wall", "-Wextra", "-Werror", "-O2", f"-I{ROOT}/src/sysenter/native/present"]
    flags.append(f"-I{ROOT}/src/sysenter/native/user")
    program = tmp_path / "trial-sleeps"
    subprocess.run(["gcc", *flags, "-o", program, tmp_path / "trial.c", tmp_path / "no_signals.c"], check=True)
    done = subprocess.run([program], capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (1, "sysenter: a program on the fast path did not end within 1 seconds\n")
    with subprocess.Popen([program], stdout=subprocess.DEVNULL) as killed:
        time.sleep(0.2)
        killed.kill()
    for _ in range(50):
        left = subprocess.run(["pgrep", "-f", program], stdout=subprocess.PIPE, text=True, check=False).stdout
        if not left:
            break
        time.sleep(0.1)
    assert not left
