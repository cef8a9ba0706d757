# SPDX-License-Identifier: GPL-2.0-or-later
"""A ratio is of pairs, so a host that drifts does not change it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysenter.build.native import NATIVE
from sysenter.lab.loading import LOAD
from sysenter.measure.measurement import Measurement, paired_ratio
from sysenter.measure.present import _task

_TIME = st.floats(0.01, 100)


@given(st.lists(_TIME, min_size=1, max_size=9), st.floats(0.5, 4))
def test_a_host_that_drifts_does_not_change_the_ratio(fast: list[float], ratio: float) -> None:
    assert paired_ratio([f * ratio for f in fast], fast) == pytest.approx(ratio)


def test_one_bad_round_does_not_decide() -> None:
    assert paired_ratio([1.5, 1.5, 9.0, 1.5, 1.5], [1.0, 1.0, 1.0, 1.0, 1.0]) == 1.5


def test_no_rounds_are_no_ratio() -> None:
    with pytest.raises(ValueError, match="no rounds"):
        paired_ratio([], [])


def _measured(*, registers_restored: bool | None) -> Measurement:
    return Measurement(
        release="6.1.0",
        arch="amd64",
        cpu="Icelake-Server",
        accelerator="tcg",
        cpus=1,
        sock_register=0,
        accepted=True,
        calls=(),
        dd=(),
        fast_table=1,
        overhead=None,
        registers_restored=registers_restored,
        stock_after_unload=True,
        log=(),
    )


def test_registers_that_nobody_could_read_are_not_called_changed() -> None:
    """A kernel of the user's own may have its msr driver as a module that the guest does not get."""
    assert _measured(registers_restored=None).left_as_found
    assert not _measured(registers_restored=False).left_as_found


@given(st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=20))
def test_a_setting_of_a_task_is_one_word_whatever_is_in_it(option: str) -> None:
    """`--module-option "x'; poweroff"` is an option that the module does not know, and no command."""
    head = _task("count.sh", options=option).removesuffix(LOAD + (NATIVE / "guest/tasks/count.sh").read_text())
    done = subprocess.run(["sh", "-c", head + 'printf %s. "$options"'], capture_output=True, timeout=20)
    assert done.stdout.decode() == option + "."


@pytest.mark.parametrize(("ends", "status"), [("exit 0", 0), ("kill -SEGV $$", 6)])
def test_calls_that_a_signal_ended_are_no_result(tmp_path: Path, ends: str, status: int) -> None:
    """A call that kills its program on one path was left out of the table, and the run passed."""
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\necho \'{{"call": "getppid", "path": "int80"}}\'\n{ends}\n')
    program.chmod(0o755)
    task = LOAD.replace("/lib/sysenter/calls", str(program)).replace("/tmp/calls", str(tmp_path / "calls"))
    done = subprocess.run(["sh", "-c", f"{task}\ncount_calls timed"], capture_output=True, text=True, timeout=20)
    assert done.returncode == status, done.stderr
    assert ('{"timed": {"call": "getppid", "path": "int80"}}' in done.stdout) == (status == 0)
    for name in ("time", "count"):
        assert "lib/sysenter/calls" not in (NATIVE / f"guest/tasks/{name}.sh").read_text()
