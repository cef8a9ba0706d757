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


def test_no_fast_path_is_told_as_that(
    monkeypatch: pytest.MonkeyPatch, loaded: Path, steps: Steps, tmp_path: Path
) -> None:
    """And not as a bug to report. The module is not left loaded."""
    said = "sysenter: no fast path to try: the kernel took the calls itself (is this program traced?)"
    _machine(monkeypatch, loaded, SysenterError("the trial failed with status 2", hint="a bug", detail=said))
    with pytest.raises(SysenterError, match="no fast path to try: the kernel took the calls itself") as raised:
        trial.try_now(steps)
    assert "bug" not in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not loaded.exists()


def _compiled(folder: Path, *more: Path, limit: int = 40) -> Path:
    """The trial, with the module's folder of /sys in a folder, and its limit in seconds."""
    source = (ROOT / "src/sysenter/native/install/trial.c").read_text()
    for old, new in (
        ("#define LIMIT\t40", f"#define LIMIT\t{limit}"),
        ('"/sys/module/sysenter"', f'"{folder}/module"'),
    ):
        assert old in source
        source = source.replace(old, new)
    (folder / "trial.c").write_text(source)
    flags = ["-Wall", "-Wextra", "-Werror", "-O2", f"-I{ROOT}/src/sysenter/native/present"]
    flags.append(f"-I{ROOT}/src/sysenter/native/user")
    subprocess.run(["gcc", *flags, "-o", folder / "trial-here", folder / "trial.c", *more], check=True)
    return folder / "trial-here"


def _module(folder: Path, scope: str) -> None:
    """A module of this scope, whose count of calls stays as it is."""
    (folder / "module/parameters").mkdir(parents=True)
    (folder / "module/parameters/scope").write_text(f"{scope}\n")
    (folder / "module/parameters/calls").write_text("5000\n")


@pytest.mark.skipif(Path("/dev/sysenter").exists(), reason="here the trial would use the module")
@pytest.mark.parametrize(
    ("scope", "why"),
    [
        ("", "the module is not loaded"),
        ("marked", "the module's page cannot be mapped (a 32-bit program on a 64-bit kernel cannot)"),
        ("all", "the kernel took the calls itself (auditing, or a tracer?)"),
    ],
)
def test_a_trial_without_a_fast_call_does_not_pass(tmp_path: Path, scope: str, why: str) -> None:
    """It would let a boot load what it has not tried."""
    if scope:
        _module(tmp_path, scope)
    done = subprocess.run([_compiled(tmp_path)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, f"sysenter: no fast path to try: {why}\n")


# What the trial takes from its C library, in place of it: no call is ever interrupted, so the first one that waits
# for a signal sleeps for ever.
_NO_SIGNALS = """
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>
int setitimer(__itimer_which_t which, const struct itimerval *new, struct itimerval *old)
{
	return which == ITIMER_REAL ? 0 : syscall(SYS_setitimer, which, new, old);
}
"""


@pytest.mark.skipif(Path("/dev/sysenter").exists(), reason="here the trial would use the module")
def test_a_trial_that_sleeps_for_ever_is_a_failure(tmp_path: Path) -> None:
    """And it leaves no process behind, whose mapping would hold the module."""
    _module(tmp_path, "all")
    (tmp_path / "no_signals.c").write_text(_NO_SIGNALS)
    program = _compiled(tmp_path, tmp_path / "no_signals.c", limit=1)
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
