# SPDX-License-Identifier: GPL-2.0-or-later
"""A snapshot's guest in its thread, two runs that take the same snapshot at once, damage, a kernel with few symbols."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from sysenter.cache import cache_folder
from sysenter.errors import SysenterError
from sysenter.lab.present_guest import PresentGuest
from sysenter.processes import Interrupted
from sysenter.replay import command, snapshot
from sysenter.replay.relocate import relocated
from sysenter.replay.snapshot import Snapshot, take
from sysenter.steps import Steps


@pytest.mark.parametrize(
    "error",
    [SysenterError("lost"), OSError(28, "No space left on device"), Interrupted(2)],
    ids=lambda e: type(e).__name__,
)
def test_what_ends_the_guest_is_raised_where_it_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, steps: Steps, guest: PresentGuest, error: BaseException
) -> None:
    """And nowhere else: an exception that leaves a thread is a traceback on the user's terminal."""

    def run(*given: object, **more: object) -> Any:
        raise error

    uncaught: list[object] = []
    monkeypatch.setattr(threading, "excepthook", uncaught.append)
    monkeypatch.setattr(PresentGuest, "run", run)
    booted = snapshot._Booted(steps, guest, {}, "", guest.machine())
    with pytest.raises(type(error)) as raised:
        booted.wait("before")
    booted.end()
    assert raised.value is error
    assert not uncaught


def test_a_snapshot_that_another_run_has_taken_meanwhile_stays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, steps: Steps, guest: PresentGuest
) -> None:
    """It may be at reading it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    empty = Snapshot("6.1", "#1", "i386", "pentium3", "", {}, 0, {}, {}, frozenset(), {})
    monkeypatch.setattr(snapshot, "_take", lambda *given: empty)

    def meanwhile(taken: Snapshot) -> bool:
        take(steps, guest)
        (place,) = (cache_folder() / "replay").iterdir()
        (place / "read by another run").touch()
        return True

    take(steps, guest, accept=meanwhile)
    assert len(list((cache_folder() / "replay").glob("*/read by another run"))) == 1
    assert take(steps, guest) == empty


@pytest.mark.parametrize(
    ("name", "text"),
    [("snapshot.json", ""), ("snapshot.json", "[]"), ("snapshot.json", '{"physical": []}'), ("pages", "cut short")],
)
def test_a_kept_snapshot_that_is_damaged_is_taken_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, steps: Steps, guest: PresentGuest, name: str, text: str
) -> None:
    """As a power cut leaves it: it was an unexpected error of every later replay."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    page = bytes(range(256)) * 16
    whole = Snapshot("6.1", "#1", "i386", "pentium3", "", {}, 0, {}, {}, frozenset(), {0xC0000000: (0x1000, page)})
    monkeypatch.setattr(snapshot, "_take", lambda *given: whole)
    assert take(steps, guest) == whole
    (place,) = (cache_folder() / "replay").iterdir()
    (place / name).write_text(text)
    assert take(steps, guest) == whole
    monkeypatch.delattr(snapshot, "_take")
    assert take(steps, guest) == whole


@pytest.mark.parametrize(("arch", "missing"), [("amd64", "_end"), ("i386", "entry_SYSENTER_32")])
def test_a_kernel_that_does_not_say_where_it_is_is_one_line(arch: str, missing: str) -> None:
    """Without CONFIG_KALLSYMS_ALL there is no _end: `run` had shown nothing at all of what it measured."""
    bare = Snapshot("6.1", "#1", arch, "max", "", {"_stext": 0xFFFFFFFF81000000}, 0, {}, {}, frozenset(), {})
    with pytest.raises(SysenterError, match=f"kallsyms has no {missing}"):
        relocated(bare)


def test_a_full_disk_at_the_replay_does_not_take_what_run_measured(
    monkeypatch: pytest.MonkeyPatch, steps: Steps, guest: PresentGuest
) -> None:
    def full(*given: object) -> object:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(command, "bundle_of", full)
    assert "No space left" in str(command.replayed_calls(steps, guest, ()))
