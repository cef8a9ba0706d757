# SPDX-License-Identifier: GPL-2.0-or-later
"""However a command ends, its programs end with it, and its folders are gone; what is said is one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import ROOT, interruptible

_HEAD = """
import os, sys, threading, time
from sysenter.cache import fill, lock, write_whole
from sysenter.ending import conclude, ready_streams
from sysenter.errors import SysenterError
from sysenter.kernels.debian import Package, unpack
from sysenter.processes import running
from sysenter.scratch import scratch_folder
from sysenter.steps import Steps, run_command
from pathlib import Path
ready_streams()
steps = Steps()
here = Path(sys.argv[1])
def command():
"""
# Each is at work, with a program or without, when the signal comes.
_STEPS = {
    # a compiler's driver, whose own child goes on when only it is killed
    "a program": 'run_command(steps, ["sh", "-c", "sleep 77 & touch started; wait"], what="x", timeout=60, cwd=here)',
    "a program that will not hear": """
    run_command(steps, ["sh", "-c", "trap '' TERM INT HUP; touch started; while :; do sleep 77; done"], what="x",
                timeout=60, cwd=here)""",
    # as a job of a matrix: what it runs is in a group of its own
    "a program of ours": """
    inner = ("import sys; from sysenter.ending import conclude; from sysenter.steps import Steps, run_command; "
             "argv = ['sh', '-c', 'touch started; sleep 77']; "
             "sys.exit(conclude(Steps(), lambda: len(run_command(Steps(), argv, what='x', timeout=60))))")
    with running([sys.executable, "-c", inner], what="x", env=dict(os.environ), cwd=here, ours=True) as process:
        process.wait()""",
    "a program in a thread": """
    def work():
        run_command(steps, ["sh", "-c", "touch started; sleep 77"], what="x", timeout=60, cwd=here)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()""",
    "filling a folder of the cache": """
    with fill(here / "cache/whole") as new:
        (new / "half").touch()
        (here / "started").touch()
        time.sleep(60)""",
    "waiting for a lock": """
    with lock("one"):
        (here / "started").touch()
        with lock("one"):
            pass""",
    "a folder for a moment": """
    with scratch_folder() as folder:
        (folder / "x").touch()
        (here / "started").touch()
        time.sleep(60)""",
}


def _run(tmp_path: Path, body: str, *, stdout: int = subprocess.PIPE, ignore: str = "") -> subprocess.Popen[str]:
    code = _HEAD + f"    {body.strip()}\n    return 0\nsys.exit(conclude(steps, command))\n"
    (tmp_path / "tmp").mkdir(exist_ok=True)
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "src"),
        "TMPDIR": str(tmp_path / "tmp"),
        "XDG_CACHE_HOME": str(tmp_path),
    }
    argv = [*(["env", f"--ignore-signal={ignore}"] if ignore else []), sys.executable, "-c", code, str(tmp_path)]
    return subprocess.Popen(
        argv,
        env=env,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=None if ignore else interruptible,
    )


def _left(folder: Path) -> list[str]:
    """Programs that are at work in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(process / "cwd") == str(folder):
                found.append((process / "cmdline").read_text())
        except OSError:
            pass
    return found


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("step", _STEPS)
def test_a_signal_at_any_step_leaves_nothing(tmp_path: Path, step: str, number: signal.Signals) -> None:
    process = _run(tmp_path, _STEPS[step])
    _wait_for(tmp_path / "started")
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 128 + number, said
    assert said.count("sysenter: interrupted") == 1
    assert "Traceback" not in said or step == "a program in a thread"
    assert not list((tmp_path / "tmp").iterdir())
    assert not list((tmp_path / "cache").glob(".*") if (tmp_path / "cache").exists() else [])
    deadline = time.monotonic() + 30  # what goes on would be there for longer
    while left := _left(tmp_path):
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


def test_a_signal_that_the_caller_ignores_is_ignored(tmp_path: Path) -> None:
    body = """(here / "started").touch()
    time.sleep(1)
    print("done")"""
    process = _run(tmp_path, body, ignore="HUP,INT")  # as nohup, and as a shell's background job
    _wait_for(tmp_path / "started")
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "done\n")


def test_several_signals_at_once_do_no_more_than_one(tmp_path: Path) -> None:
    process = _run(tmp_path, _STEPS["a program"])
    _wait_for(tmp_path / "started")
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGTERM, signal.SIGHUP):
        process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode in (128 + signal.SIGTERM, 128 + signal.SIGHUP)
    assert said.count("\n") == 1
    assert not list((tmp_path / "tmp").iterdir())


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    process = _run(tmp_path, 'print("line\\n" * 200_000)')
    assert process.stdout
    assert process.stdout.readline() == "line\n"
    process.stdout.close()
    assert process.stderr
    assert process.stderr.read() == ""
    assert process.wait(20) == 128 + signal.SIGPIPE


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize(("shell", "status"), [(">&-", 0), (">&- 2>&-", 0), ("<&- >&- 2>&-", 0), (">/dev/full", 1)])
def test_an_output_that_is_closed_or_full(tmp_path: Path, shell: str, status: int, buffered: bool) -> None:
    body = """(here / "result").write_text(run_command(steps, ["echo", "hi"], what="x", timeout=20))
    print("×")
    return 0"""
    code = _HEAD + f"    {body}\nsys.exit(conclude(steps, command))\n"
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONUNBUFFERED": "" if buffered else "1"}
    done = subprocess.run(
        ["sh", "-c", f'"$@" {shell}', "sh", sys.executable, "-c", code, str(tmp_path)],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "result").read_text() == "hi\n"
    if status:
        assert done.stderr.startswith("sysenter: ")
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("asked", ["--help", "--version"])
def test_help_for_a_full_disk_is_one_line(asked: str) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONUNBUFFERED": ""}
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "sysenter", asked],
            env=env,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "No space left on device (free some space)" in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "koi8-r", "latin-1", "utf-8", "utf-16"])
def test_any_character_set(tmp_path: Path, encoding: str) -> None:
    code = _HEAD + '    print("1.5 × 3 µs ┃")\n    steps.say("× …")\n    return 0\nsys.exit(conclude(steps, command))\n'
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", code, "."], env=env, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    shown = {"utf-8": "1.5 × 3 µs ┃", "utf-16": "1.5 × 3 µs ┃", "latin-1": "1.5 × 3 µs ?", "koi8-r": "1.5 x 3 us ?"}
    assert done.stdout.decode(encoding).strip() == shown.get(encoding, "1.5 x 3 us ?")


@pytest.mark.parametrize(
    ("exception", "line"),
    [
        ('LookupError("two\\nlines")', "sysenter: unexpected LookupError at <string>:"),
        ("KeyError('x')", "sysenter: unexpected KeyError"),
        ('SysenterError("what", hint="do this", detail="more")', "sysenter: what (do this)"),
        ('OSError(28, "No space left on device")', "free some space"),
        ('UnicodeDecodeError("ascii", b"x", 0, 1, "why")', "UnicodeDecodeError"),
        ("RecursionError()", "RecursionError"),
        ("MemoryError()", "memory"),
    ],
)
def test_any_exception_is_one_line(tmp_path: Path, exception: str, line: str) -> None:
    process = _run(tmp_path, f'print("a result"); raise {exception}')
    out, said = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "Traceback" not in said
    assert line in said.splitlines()[-1]
    assert said.splitlines()[-1].endswith(")")
    assert out == "a result\n"


def test_a_program_that_is_not_there_or_cannot_be_run(tmp_path: Path) -> None:
    (tmp_path / "no-program").write_text("x")
    for program in ("/nowhere/program", "no-such-program", tmp_path, tmp_path / "no-program", "x\\0y"):
        process = _run(tmp_path, f'run_command(steps, ["{program}"], what="the thing", timeout=20)')
        _, said = process.communicate(timeout=20)
        assert process.returncode == 1
        assert said.startswith("sysenter: the thing: ")
        assert said.count("\n") == 1
