# SPDX-License-Identifier: GPL-2.0-or-later
"""What `exec` runs in the guest, run here: output, errors and status come apart, whatever is written."""

from __future__ import annotations

import base64
import json
import os
import random
import subprocess
import time
from pathlib import Path

import pytest

from sysenter.build.native import compile_programs
from sysenter.steps import Steps
from sysenter.target.arch import AMD64, I386


@pytest.fixture(scope="module", params=[AMD64, I386], ids=lambda arch: arch.name)
def channels(request: pytest.FixtureRequest, steps: Steps) -> Path:
    return compile_programs(steps, request.param) / "channels"


def said(channels: Path, script: str, **more: bytes) -> tuple[bytes, bytes, int]:
    done = subprocess.run([channels, "sh", "-c", script], capture_output=True, timeout=60, check=True, **more)  # type: ignore[call-overload]
    assert done.stderr == b""
    *records, last = [json.loads(line) for line in done.stdout.splitlines()]
    out, err = (b"".join(base64.b64decode(r[key]) for r in records if key in r) for key in ("out", "err"))
    assert all(set(r) <= {"out", "err"} for r in records)
    return out, err, last["status"]


def test_they_come_apart(channels: Path) -> None:
    assert said(channels, "printf abc; exit 7") == (b"abc", b"", 7)
    assert said(channels, """echo '{"status": 9}'; echo '{"exit": 3}' >&2; exit 1""") == (
        b'{"status": 9}\n',
        b'{"exit": 3}\n',
        1,
    )
    assert said(channels, "exit 0") == (b"", b"", 0)
    assert said(channels, "exec >&- 2>&-; exit 255") == (b"", b"", 255)
    assert said(channels, "kill -9 $$") == (b"", b"", 137)
    assert said(channels, "exec /nowhere/program")[2] == 127


def test_every_byte_arrives(channels: Path, tmp_path: Path) -> None:
    for size in (1, 2, 3, 3071, 3072, 3073, 65_536, 1_000_003):
        data = random.Random(size).randbytes(size)
        (tmp_path / "data").write_bytes(data)
        assert said(channels, f"cat {tmp_path}/data; cat {tmp_path}/data >&2") == (data, data, 0)


def test_what_is_left_in_the_background_is_not_waited_for(channels: Path, tmp_path: Path) -> None:
    start = time.monotonic()
    writes = f"while echo x; do [ -e {tmp_path}/written ] || >{tmp_path}/written; done"
    until_written = f"while [ ! -e {tmp_path}/written ]; do sleep 0.1; done"
    out, _, status = said(channels, f"sh -c 'exec sleep 30' & ({writes}) & {until_written}; exit 4")
    assert status == 4
    assert set(out) == set(b"x\n")
    assert time.monotonic() - start < 20


def test_nobody_to_be_told_is_an_end(channels: Path) -> None:
    with open(os.devnull, "rb") as closed:  # not writable
        assert subprocess.run([channels, "echo", "x"], stdout=closed, timeout=20).returncode == 126
