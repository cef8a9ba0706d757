# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the cache is, what is no place for one, and two runs that want the same of it."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from conftest import ROOT, RunCli, one_line_error
from sysenter import cache
from sysenter.cache import cache_folder, cache_path, digest, lock, write_whole
from sysenter.errors import SysenterError
from sysenter.kernels.provide import unpacked_kernel
from sysenter.processes import NETWORK, PASSED_ON, environment
from sysenter.scratch import scratch_folder, temporary_folder
from sysenter.steps import Steps, run_command
from sysenter.target.target import Target


def test_a_name_that_is_not_utf8_has_a_digest() -> None:
    """As of a folder from another system, in which a kernel.toml is."""
    assert digest([os.fsdecode(b"/home/\xe9/kernel.toml")]) == digest([b"/home/\xe9/kernel.toml"])


@pytest.mark.parametrize(
    ("xdg", "home", "expected"),
    [
        ("/a/b", "/h", "/a/b/sysenter"),
        ("relative", "/h", "/h/.cache/sysenter"),  # XDG: to be ignored
        ("", "/h", "/h/.cache/sysenter"),
        (None, None, f"{os.path.realpath(pwd.getpwuid(os.getuid()).pw_dir)}/.cache/sysenter"),  # as under cron
        (None, "not/absolute", f"{os.path.realpath(pwd.getpwuid(os.getuid()).pw_dir)}/.cache/sysenter"),
    ],
)
def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, xdg: str | None, home: str | None, expected: str) -> None:
    for name, value in (("XDG_CACHE_HOME", xdg), ("HOME", home)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert str(cache_path()) == expected


def test_a_user_without_a_home_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)
    with pytest.raises(SysenterError, match="no HOME"):
        cache_path()


@pytest.mark.parametrize("name", ["a b", "a,b", "a:b", "a'b", "a$b", "a#b", "a\nb", "a\udce9b"])
def test_a_folder_that_the_kernels_build_cannot_take_is_refused_at_the_start(
    cli: RunCli, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / name
    done = cli("build", "--offline", env={"XDG_CACHE_HOME": str(folder)})
    said = done.stderr.strip()
    assert done.returncode == 1
    assert "Traceback" not in said
    assert "which the kernel's build cannot take" in said
    assert "XDG_CACHE_HOME" in said
    assert not folder.exists()


def test_a_folder_that_cannot_be_made_is_named(cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", Path("/proc/nowhere")):
        said = one_line_error(cli("build", "--offline", env={"XDG_CACHE_HOME": str(place)}))
        assert "cannot be used" in said
        assert "XDG_CACHE_HOME" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a disk")
@pytest.mark.parametrize(("option", "message"), [("noexec", "noexec"), ("ro", "Read-only")])
def test_a_disk_that_will_not_do_is_named(cli: RunCli, tmp_path: Path, option: str, message: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", option, "tmpfs", disk], check=True)
    try:
        said = one_line_error(cli("build", "--offline", env={"XDG_CACHE_HOME": str(disk)}))
        assert message in said
        assert "XDG_CACHE_HOME" in said
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_temporary_folders(cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: Target) -> None:
    for bad in (tmp_path / "nowhere", tmp_path / "100%"):
        (tmp_path / "100%").mkdir(exist_ok=True)
        monkeypatch.setenv("TMPDIR", str(bad))
        with pytest.raises(SysenterError, match="temporary folder"):
            temporary_folder()
    said = one_line_error(cli("exec", "true", "--accelerator", "tcg", env={"TMPDIR": str(tmp_path / "nowhere")}))
    assert "set TMPDIR" in said


def test_a_lock_that_is_held_is_waited_for_with_a_word(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "XDG_CACHE_HOME": str(tmp_path)}
    hold = "from sysenter.cache import lock\nwith lock('a-thing'): print('held', flush=True); open(0).read()"
    argv, pipe = [sys.executable, "-c", hold], subprocess.PIPE
    with subprocess.Popen(argv, env=env, stdin=pipe, stdout=pipe, text=True) as holder:
        assert holder.stdin
        assert holder.stdout
        holder.stdout.readline()
        with subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stderr=pipe, text=True) as second:
            assert second.stderr
            said = second.stderr.readline()
            holder.stdin.close()
    assert second.returncode == 0
    assert f"waiting for another run (process {holder.pid})" in said
    assert "a-thing" in said


def test_a_lock_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cache, "_PATIENCE", 0.3)
    free = threading.Event()

    def hold() -> None:
        with lock("a-thing"):
            held.set()
            free.wait(30)

    held = threading.Event()
    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(30)
    try:
        with pytest.raises(SysenterError, match="another run has held"), lock("a-thing"):
            pass
    finally:
        free.set()
        thread.join()


def test_a_small_file_is_never_seen_half_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    texts = {"a" * 100_000, "b" * 100_000}
    write_whole(path, min(texts))
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            for text in texts:
                write_whole(path, text)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        assert all(path.read_text() in texts for _ in range(300))
    finally:
        done.set()
        thread.join()
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_what_is_left_over_is_swept_and_what_is_in_use_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    old = time.time() - 3600
    for name in ("sysenter-scratch-left", "sysenter-other", "other"):
        (tmp_path / name / "in").mkdir(parents=True)
        os.utime(tmp_path / name, (old, old))
    (tmp_path / "sysenter-scratch-young").mkdir()
    (tmp_path / "sysenter-scratch-link").symlink_to(tmp_path / "other")
    with scratch_folder() as used:
        os.utime(used, (old, old))
        again = "from sysenter.scratch import scratch_folder\nwith scratch_folder(): pass"
        subprocess.run([sys.executable, "-c", again], env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, check=True)
        assert used.exists()
    assert {p.name for p in tmp_path.iterdir()} == {
        "sysenter-other",
        "other",
        "sysenter-scratch-young",
        "sysenter-scratch-link",
    }


# What would change what a tool makes, and what a user may well have set.
_STRANGE = {
    "CROSS_COMPILE": "nothing-",
    "LLVM": "1",
    "KBUILD_OUTPUT": "/nowhere",
    "KBUILD_EXTMOD": "/nowhere",
    "ARCH": "arm",
    "MAKEFLAGS": "-n",
    "MAKELEVEL": "3",
    "GNUMAKEFLAGS": "-n",
    "CC": "false",
    "CFLAGS": "-m16",
    "CPATH": "/nowhere",
    "C_INCLUDE_PATH": "/nowhere",
    "LIBRARY_PATH": "/nowhere",
    "GCC_EXEC_PREFIX": "/nowhere/",
    "COMPILER_PATH": "/x",
    "LD_LIBRARY_PATH": "/nowhere",
    "LD_PRELOAD": "/nowhere.so",
    "QEMU_AUDIO_DRV": "x",
    "G_MESSAGES_DEBUG": "all",
    "LC_ALL": "xx_XX",
    "LANGUAGE": "de",
    "POSIXLY_CORRECT": "1",
    "GREP_OPTIONS": "-v",
    "BASH_ENV": "/nowhere",
    "ENV": "/nowhere",
    "KCFLAGS": "-Dsysenter=1",
    "V": "2",
    "W": "1",
    "PYTHONHOME_": "x",
    "DESTDIR": "/nowhere",
}


def test_programs_get_what_is_listed_and_nothing_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {**_STRANGE, "https_proxy": "http://p", "HOME": "/h"}.items():
        monkeypatch.setenv(name, value)
    assert set(environment()) <= {*PASSED_ON, "LC_ALL"}
    assert set(environment(network=True)) <= {*PASSED_ON, *NETWORK, "LC_ALL"}
    assert environment(network=True)["https_proxy"] == "http://p"
    monkeypatch.setenv("SYSENTER_DEBIAN_MIRROR", "http://m/debian/")  # matrix's workers and tests
    assert environment(ours=True).items() - environment().items() >= {("SYSENTER_DEBIAN_MIRROR", "http://m/debian/")}
    told = run_command(Steps(), ["env"], what="show it", timeout=20)
    names = {line.partition("=")[0] for line in told.splitlines()}
    assert names <= {*PASSED_ON, "LC_ALL", "TMPDIR", "PWD", "SHLVL", "_"}
    assert names >= {"PATH", "HOME", "LC_ALL"}
    monkeypatch.delenv("PATH")
    assert run_command(Steps(), ["true"], what="as under cron", timeout=20) == ""


def copy_packages(to: Path, kernel: str, architecture: str) -> None:
    """A cache with one kernel's packages, nothing of it unpacked."""
    for name in ("packages", "apt"):
        for path in (cache_folder() / name / architecture).rglob("*"):
            place = to / "sysenter" / path.relative_to(cache_folder())
            if path.is_dir():
                place.mkdir(parents=True, exist_ok=True)
            elif "cache" not in path.parts[-3:]:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(path)
    (to / "sysenter/kernels").mkdir(parents=True, exist_ok=True)
    (to / f"sysenter/kernels/{kernel}.packages").write_text((cache_folder() / f"kernels/{kernel}.packages").read_text())


def test_two_first_runs_at_once_then_moved(cli: RunCli, tmp_path: Path, target: Target) -> None:
    copy_packages(tmp_path / "old", "bookworm-686", "bookworm-i386")
    # nor does what the caller has in the environment reach the build
    strange = {k: v for k, v in _STRANGE.items() if not k.startswith("LD_")}  # Python itself would read those
    env = {**strange, "XDG_CACHE_HOME": str(tmp_path / "old")}
    done: list[subprocess.CompletedProcess[str]] = []
    threads = [
        threading.Thread(target=lambda: done.append(cli("build", "--offline", env=env, timeout=400))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.returncode for each in done] == [0, 0], [each.stderr for each in done]
    assert done[0].stdout == done[1].stdout
    assert sum("build the module" in each.stderr for each in done) == 1
    # What was unpacked has its place's path in it, so at another place it is made anew.
    old, new = tmp_path / "old/sysenter/kernels/bookworm-686", tmp_path / "new/sysenter/kernels/bookworm-686"
    assert unpacked_kernel(old)
    (tmp_path / "old").rename(tmp_path / "new")
    assert new.exists()
    assert unpacked_kernel(new) is None


@pytest.mark.long  # unpacks and builds once more
def test_a_cache_that_was_moved_is_used_at_its_new_place(cli: RunCli, tmp_path: Path, target: Target) -> None:
    copy_packages(tmp_path / "old", "bookworm-686", "bookworm-i386")
    assert cli("build", "--offline", env={"XDG_CACHE_HOME": str(tmp_path / "old")}, timeout=400).returncode == 0
    (tmp_path / "old").rename(tmp_path / "new")
    done = cli("build", "--offline", env={"XDG_CACHE_HOME": str(tmp_path / "new")}, timeout=400)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path / "new"))
    for tree in (tmp_path / "new/sysenter/kernels/bookworm-686/usr/src").glob("linux-headers-*-686"):
        assert str(tmp_path / "old") not in (tree / "Makefile").read_text()
