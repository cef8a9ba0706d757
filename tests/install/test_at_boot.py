# SPDX-License-Identifier: GPL-2.0-or-later
"""The fuse of --at-boot, by its script alone: which boots blow it, and which leave it as it is."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from conftest import ROOT

_PLACES = ("/var/lib/sysenter", "/usr/lib/sysenter/trial", "/proc/sys/kernel/random/boot_id", "/proc/cmdline")


class Boots:
    """The script with its places in a folder, and stand-ins for what it runs: each a line of shell."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        text = (ROOT / "src/sysenter/native/install/at-boot").read_text()
        for place in _PLACES:
            assert place in text
            text = text.replace(place, str(folder / Path(place).name))
        (folder / "sysenter").mkdir()
        (folder / "cmdline").write_text("quiet\n")
        self.script = folder / "at-boot"
        self.script.write_text(text)
        self.number = 0
        self.stands_for(modprobe="exit 0", rmmod="exit 0", trial="exit 0")

    @property
    def mark(self) -> Path:
        return self.folder / "sysenter/fuse"

    def stands_for(self, **programs: str) -> None:
        for name, line in programs.items():
            (self.folder / name).write_text(f'#!/bin/sh\necho {name} >>"{self.folder}/ran"\n{line}\n')
            (self.folder / name).chmod(0o755)

    def say(self, word: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", str(self.script), word],
            env={"PATH": f"{self.folder}:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )

    def boot(self) -> str:
        """Another boot. Returns which programs it ran."""
        self.number += 1
        (self.folder / "boot_id").write_text(f"boot-{self.number}\n")
        (self.folder / "ran").write_text("")
        self.said = self.say("start")
        return " ".join((self.folder / "ran").read_text().split())


@pytest.fixture
def boots(tmp_path: Path) -> Boots:
    return Boots(tmp_path)


@pytest.mark.parametrize("end", ["settled", "stop"])
def test_a_boot_that_comes_up_well_leaves_no_mark(boots: Boots, end: str) -> None:
    for _ in range(2):
        assert boots.boot() == "modprobe trial"
        assert boots.mark.exists()
        assert boots.say(end).returncode == 0
        assert not boots.mark.exists()


@pytest.mark.parametrize("end", ["settled", "stop"])
def test_boots_without_the_module_leave_the_blown_fuse(boots: Boots, end: str) -> None:
    """They come up well, of course; a boot after them that loaded it again would be cut again."""
    assert boots.boot() == "modprobe trial"  # and is cut here
    for _ in range(3):
        assert boots.boot() == ""
        assert boots.said.stdout.startswith("sysenter: not loaded: the boot of ")
        assert boots.said.stdout.count("\n") == 1
        assert boots.say(end).returncode == 0
    (boots.folder / "cmdline").write_text("quiet sysenter.off\n")
    assert boots.boot() == ""
    assert boots.say(end).returncode == 0
    assert boots.mark.exists()


def test_an_empty_mark_is_a_blown_fuse(boots: Boots) -> None:
    """As a power cut may leave it, where it was written after an oops."""
    boots.mark.touch()
    assert boots.boot() == ""
    assert "the boot of an unknown time did not come up well" in boots.said.stdout


def test_a_refused_load_is_no_reason_to_blow_it_and_a_killed_one_is(boots: Boots) -> None:
    """An oops in the module's load kills modprobe."""
    boots.stands_for(modprobe="exit 1")
    assert boots.boot() == "modprobe"
    assert boots.said.returncode == 1
    assert not boots.mark.exists()
    boots.stands_for(modprobe="kill -KILL $$")
    assert boots.boot() == "modprobe"
    assert boots.said.returncode == 1
    boots.say("stop")  # of the unit that somebody has started once more
    assert boots.boot() == ""


def test_a_module_that_differs_and_does_not_go_blows_it(boots: Boots) -> None:
    boots.stands_for(trial="exit 1")
    assert boots.boot() == "modprobe trial rmmod"
    assert boots.said.returncode == 1
    assert not boots.mark.exists()
    boots.stands_for(rmmod="exit 1")
    assert boots.boot() == "modprobe trial rmmod"
    assert boots.said.returncode == 1
    boots.say("stop")
    assert boots.boot() == ""


def test_a_mark_that_cannot_be_written_blows_nothing(boots: Boots) -> None:
    """A full disk: nothing is loaded, and the next boot loads it."""
    boots.stands_for(date="echo half; exit 1")
    assert boots.boot() == "date"
    assert boots.said.returncode == 1
    assert not boots.mark.exists()
