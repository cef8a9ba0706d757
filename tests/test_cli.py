# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands as a user types them: the main job, and every mistake."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import schemas
from conftest import ROOT, Keep, RunCli, interruptible, one_line_error
from sysenter.cache import cache_folder
from sysenter.defaults import ROUNDS
from sysenter.lab.guest import Guest
from sysenter.lab.qemu import GuestLost
from sysenter.steps import Steps
from sysenter.target.target import Target

PATHS = ("int80", "stock", "fast", "all")


@pytest.mark.parametrize("kernel", ["bookworm-686", pytest.param("bookworm-686-pae", marks=pytest.mark.long)])
def test_run_does_the_main_job(
    cli: RunCli, on_sample_page: Keep, tmp_path: Path, target: Target, pae_target: Target, kernel: str
) -> None:
    # "-" is standard output, and the tables are on the other then
    place = {"bookworm-686": str(tmp_path / "out.json"), "bookworm-686-pae": "-"}[kernel]
    done = cli("run", "--kernel", kernel, "--accelerator", "tcg", "--offline", "--json", place, timeout=300)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout if place == "-" else Path(place).read_text())
    if place != "-":
        on_sample_page(Path(place), f"run-{kernel}")
    expected = {"bookworm-686": target, "bookworm-686-pae": pae_target}[kernel]
    schemas.hold("run", said)
    assert said["target"] == {
        "release": expected.release,
        "arch": "i386",
        "cpu": "pentium3",
        "accelerator": "tcg",
        "cpus": 1,
    }
    assert said["guard"] == {
        "release": expected.release,
        "sock_register": f"0x{expected.guard.sock_register:x}",
        "accepted": True,
    }
    cost = {(c["call"], c["path"]): c["instructions"] for c in said["calls"]}
    assert set(cost) == {(c, p) for c in ("getppid", "read", "write") for p in PATHS}
    # It was 170, and 200 fewer: the entry that takes fewer cycles has more instructions (docs/entries.md).
    assert cost["getppid", "fast"] <= 190
    for call in ("getppid", "read", "write"):
        for path in ("fast", "all"):
            assert cost[call, path] <= cost[call, "stock"] - 180
    # Aimed at are 1.35 and 1.6 (docs/entries.md has what was measured); a host that
    # is busy with something else blurs the pairs, so this only sees real losses.
    assert said["speedup"]["dd_fast_over_stock"] > 1.15
    assert said["speedup"]["dd_fast_over_int80"] > 1.25
    assert {runs["path"] for runs in said["dd"]} == set(PATHS)
    for runs in said["dd"]:
        assert len(runs["seconds"]) == len(runs["fast_calls"]) == ROUNDS
        assert all((calls >= 2 * runs["count"]) == (runs["path"] in ("fast", "all")) for calls in runs["fast_calls"])
    assert said["after_unload"] == {"registers_restored": True, "stock_calls_work": True}
    assert said["kernel_log"] == []
    assert "dd on the fast path:" in (done.stderr if place == "-" else done.stdout)
    assert {c["call"] for c in said["replay"]["calls"] if c["verified"]} == {"getppid", "read", "write"}


def test_kernels_lists_the_catalogue_and_the_cache(cli: RunCli, target: Target) -> None:
    done = cli("kernels")
    assert done.returncode == 0
    assert "bookworm-686-pae" in done.stdout
    assert target.release in done.stdout


def test_dry_run_prints_the_qemu_line_and_starts_nothing(cli: RunCli, target: Target) -> None:
    done = cli("run", "--dry-run", "--accelerator", "tcg")
    assert done.returncode == 0
    assert Path(done.stdout.split()[0]).name == "qemu-system-i386"
    assert "-icount" in done.stdout
    assert "SYSENTER" not in done.stdout


def test_exec_keeps_output_errors_and_status_apart(target: Target) -> None:
    script = r"""uname -r; printf '{"exit": 3}\n{"status": 4}\n\377\000\r\n'; echo an error >&2; printf abc; exit 7"""
    done = subprocess.run(
        [sys.executable, "-m", "sysenter", "exec", "--accelerator", "tcg", "--", script],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        timeout=120,
    )
    expected = b'{"exit": 3}\n{"status": 4}\n\377\0\r\nabc'
    assert done.stdout == target.release.encode() + b"\n" + expected
    assert done.stderr.endswith(b"an error\n")
    assert done.returncode == 7


def test_exec_that_nobody_reads_ends(target: Target) -> None:
    done = subprocess.run(
        [
            "sh",
            "-c",
            '"$@" | head -c 3',
            "sh",
            sys.executable,
            "-m",
            "sysenter",
            "exec",
            "--accelerator",
            "tcg",
            "--",
            "yes",
        ],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        timeout=120,
    )
    assert done.stdout == b"y\ny"
    assert b"sysenter:" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "--accelerator", "tcg", "--rounds", "1", "--count", "1000"),
        pytest.param(("bench", "calls/null", "--accelerator", "tcg"), marks=pytest.mark.long),
        pytest.param(("replay", "--calls", "getppid"), marks=pytest.mark.long),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_module_option_that_is_none_is_refused(cli: RunCli, target: Target, arguments: tuple[str, ...]) -> None:
    """Linux loads a module with an option that it does not know, and what it then does is not what was asked for."""
    done = cli(*arguments, "--module-option", "entri=syscall")
    assert "the module was not accepted: it has no parameter entri" in one_line_error(done)


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "--rounds", "1", "--count", "1000"),
        ("exec", "--", "exit 3"),
        pytest.param(("selftests",), marks=pytest.mark.long),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_refused_module_says_why(cli: RunCli, target: Target, arguments: tuple[str, ...]) -> None:
    command, *others = arguments
    done = cli(command, "--accelerator", "tcg", "--cpu", "pentium3,-sep", *others)
    assert "the module was not accepted: this processor has no SYSENTER" in one_line_error(done)
    assert done.returncode == 1


def test_debug_shows_commands_and_a_traceback(cli: RunCli) -> None:
    done = cli("run", "--debug", "--kernel", "nonsense")
    assert "Traceback" in done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "--kernel", "bookwurm"), "unknown kernel 'bookwurm'"),
        (("run", "--kernel", "/nowhere/kernel.toml"), "cannot be read"),
        (("run", "--json", "/nowhere/out.json", "--accelerator", "tcg"), "cannot write"),
        (("shell",), "needs a terminal"),
    ],
)
def test_a_mistake_gets_one_line(cli: RunCli, target: Target, arguments: tuple[str, ...], message: str) -> None:
    assert message in one_line_error(cli(*arguments))


def test_no_network_and_no_cache(cli: RunCli, tmp_path: Path) -> None:
    empty = {"XDG_CACHE_HOME": str(tmp_path)}
    assert "--offline forbids" in one_line_error(cli("run", "--offline", env=empty))
    unreachable = {**empty, "SYSENTER_DEBIAN_MIRROR": "http://127.0.0.1:9/debian/"}
    assert "is there a network?" in one_line_error(cli("run", env=unreachable))


def copy_cache(to: Path) -> Path:
    """A cache with the packages of the default kernel but nothing unpacked."""
    for name in ("packages/bookworm-i386", "apt"):
        shutil.copytree(cache_folder() / name, to / "sysenter" / name)
    kernels = to / "sysenter/kernels"
    kernels.mkdir()
    for file in (cache_folder() / "kernels").glob("*.packages"):
        shutil.copy(file, kernels)
    return to / "sysenter"


def test_a_damaged_package_is_not_used_and_a_damaged_kernel_is_made_anew(
    cli: RunCli, tmp_path: Path, target: Target
) -> None:
    cache = copy_cache(tmp_path)
    env = {"XDG_CACHE_HOME": str(tmp_path)}
    package = next((cache / "packages").glob("*/linux-image-*-686_*.deb"))
    data = package.read_bytes()
    for damaged in (data[: len(data) // 2], data[:-100] + bytes(100), b""):
        package.write_bytes(damaged)
        done = cli("build", "--offline", env=env)
        assert "is damaged" in done.stderr
        assert "not in the cache" in one_line_error(done)
    package.write_bytes(data)
    assert cli("build", "--offline", env=env).returncode == 0
    image = next((cache / "kernels/bookworm-686/boot").glob("vmlinuz-*"))
    image.write_bytes(image.read_bytes()[:1000])
    assert cli("build", "--offline", env=env).returncode == 0
    assert len(image.read_bytes()) > 1000


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small disk")
@pytest.mark.long
def test_a_full_disk_leaves_a_usable_cache(cli: RunCli, tmp_path: Path, target: Target) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    copied = copy_cache(tmp_path / "copy")
    size = sum(f.stat().st_size for f in copied.rglob("*") if f.is_file()) >> 10  # KiB
    size += 20_000  # room for the packages, not for what is in them
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", disk], check=True)
    try:
        shutil.move(copied, disk)
        env = {"XDG_CACHE_HOME": str(disk)}
        assert "No space left" in one_line_error(cli("build", "--offline", env=env))
        subprocess.run(["mount", "-o", f"remount,size={size + (2 << 20)}k", disk], check=True)
        assert cli("build", "--offline", env=env).returncode == 0
    finally:
        subprocess.run(["umount", "-l", disk], check=False)


def qemus_of(folder: Path) -> list[int]:
    """Processes of QEMU that have a file of `folder` open."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            links = [os.readlink(link) for link in (process / "fd").iterdir()]
            if b"qemu-system" in (process / "cmdline").read_bytes() and any(str(folder) in link for link in links):
                found.append(int(process.name))
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_no_qemu_and_no_folder_is_left_behind(tmp_path: Path, target: Target, number: signal.Signals) -> None:
    # QEMU divides a file's name at spaces, commas and colons in one place or another
    temporary = tmp_path / "a b,c:d"
    temporary.mkdir()
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(temporary)}
    argv = [sys.executable, "-m", "sysenter", "run", "--accelerator", "tcg", "--rounds", "50"]
    with subprocess.Popen(
        argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=interruptible
    ) as process:
        assert process.stderr is not None
        deadline = time.monotonic() + 60
        while len(qemus_of(temporary)) < 2:
            assert time.monotonic() < deadline, "QEMU did not start"
            time.sleep(0.1)
        process.send_signal(number)
        said = process.stderr.read()
        status = process.wait(20)
    deadline = time.monotonic() + 5  # a guest that goes on would be there for longer
    while qemus_of(temporary):
        assert time.monotonic() < deadline, "QEMU lives"
        time.sleep(0.1)
    if number == signal.SIGKILL:  # what it has left, the next run removes
        left = list(temporary.iterdir())
        assert left
        for folder in left:
            os.utime(folder, (time.time() - 3600,) * 2)
        subprocess.run(
            [sys.executable, "-c", "from sysenter.scratch import *\nwith scratch_folder(): pass"], env=env, check=True
        )
    else:
        assert status == 128 + number
        assert "nothing is left running" in said.splitlines()[-1]
        assert "Traceback" not in said
    assert not list(temporary.iterdir())


@pytest.mark.parametrize(
    ("task", "timeout", "message"),
    [
        ("echo c >/proc/sysrq-trigger", 30, "the kernel panicked"),
        ("sleep 1000", 6, "no end of its task"),
        ("while :; do cat /bin/busybox; done", 60, "wrote more than"),
        ("poweroff -f", 30, "ended before its task was done"),
    ],
    ids=["panic", "hang", "flood", "early-end"],
)
def test_a_lost_guest_is_told_apart(steps: Steps, guest: Guest, task: str, timeout: float, message: str) -> None:
    with pytest.raises(GuestLost, match=message):
        guest.run(steps, task, {}, what="a test", timeout=timeout)


def test_a_package_that_is_missing_or_old_is_named(cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "unicorn.py").write_text("")  # one without what is asked of it
    said = one_line_error(cli("check", "legacy-tss", "--offline", env={"PYTHONPATH": f"{tmp_path}:{ROOT / 'src'}"}))
    assert "this needs the Python package unicorn: cannot import name" in said


def test_run_shows_its_table_without_capstone(monkeypatch: pytest.MonkeyPatch, steps: Steps) -> None:
    """Debian's package depends on none, and Debian 12 has an older one."""
    from sysenter import cli

    monkeypatch.setitem(sys.modules, "sysenter.replay.command", None)
    why = cli._replayed(steps, None, [])  # type: ignore[arg-type]
    assert str(why).startswith("a replay needs Capstone 5 for Python")
