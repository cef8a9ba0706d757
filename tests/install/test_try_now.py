# SPDX-License-Identifier: GPL-2.0-or-later
"""What `install --try` leaves behind if its trial does not come to a good end; test_boot.py does it in a guest."""

from __future__ import annotations

from pathlib import Path

import pytest

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
