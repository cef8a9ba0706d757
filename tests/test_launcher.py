# SPDX-License-Identifier: GPL-2.0-or-later
"""`./sysenter`: called in every way, on a machine that lacks something, twice at once.

The machine is made up: PATH has only links to a few tools, and stubs for the rest.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import ROOT, interruptible

_TOOLS = (
    "sh",
    "dirname",
    "uname",
    "python3",
    "gcc",
    "make",
    "dpkg-deb",
    "setpriv",
    "cat",
    "date",
    "id",
    "env",
    "grep",
    "tail",
    "rm",
    "mktemp",
    "readlink",
    "flock",
)


class Box:
    """A made-up machine: bin/ is all of its PATH."""

    def __init__(self, root: Path) -> None:
        self.bin, self.cache = root / "bin", root / "cache"
        self.bin.mkdir()
        for tool in _TOOLS:
            there = shutil.which(tool)
            assert there
            (self.bin / tool).symlink_to(there)

    def stub(self, name: str, text: str) -> None:
        (self.bin / name).unlink(missing_ok=True)
        (self.bin / name).write_text(f"#!/bin/sh\n{text}\n")
        (self.bin / name).chmod(0o755)

    def environment(self, **more: str) -> dict[str, str]:
        return {"PATH": str(self.bin), "HOME": str(self.cache), "XDG_CACHE_HOME": str(self.cache), **more}

    def run(self, *arguments: str, program: Path = ROOT / "sysenter") -> subprocess.CompletedProcess[str]:
        return subprocess.run([program, *arguments], env=self.environment(), capture_output=True, text=True, timeout=60)


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def complete(box: Box) -> None:
    """Nothing is missing; python3 says its arguments, one a line."""
    for tool in ("qemu-system-i386", "mke2fs", "shellcheck"):
        box.stub(tool, "exit 0")
    box.stub("python3", '[ "$1" = -c ] && [ $# = 2 ] && exit 0\nprintf "%s\\n" "$@"')


def test_it_names_what_is_missing_and_installs_nothing(box: Box) -> None:
    box.stub("apt-get", "exit 1")
    done = box.run("run", "--no-install")
    assert done.returncode == 1
    assert done.stderr.startswith("sysenter: missing:")
    assert "qemu-system-x86 (apt-get install" in done.stderr
    assert done.stderr.count("\n") == 1
    assert box.run("--no-install", "run").stderr == done.stderr
    (box.bin / "apt-get").unlink()
    assert "your system" in box.run("run").stderr
    assert not box.cache.exists()


def test_arguments_arrive_as_they_were_given(box: Box) -> None:
    complete(box)
    done = box.run("--no-install", "exec", "a b", "", "*", "--", "--no-install", "test", "--help", "x\ty")
    said = done.stdout.splitlines()
    assert said[said.index("sysenter.environment") :][2:4] == ["no", "-c"], done.stderr
    assert said[said.index("sysenter") + 1 :] == [
        "exec",
        "a b",
        "",
        "*",
        "--",
        "--no-install",
        "test",
        "--help",
        "x\ty",
    ]


def test_offline_is_for_the_launcher_and_the_command(box: Box) -> None:
    complete(box)
    said = box.run("build", "--offline").stdout.splitlines()
    assert said[said.index("sysenter.environment") :][2:4] == ["no", "-c"]
    assert said[said.index("sysenter") + 1 :] == ["build", "--offline"]


@pytest.mark.parametrize("option", ["--no-install", "--offline"])
def test_install_is_told_that_nothing_may_be_fetched(box: Box, option: str) -> None:
    complete(box)
    said = box.run("install", option).stdout.splitlines()
    assert "--offline" in said[said.index("sysenter") + 1 :]


@pytest.mark.parametrize("arguments", [("test", "--no-install", "-k", "x"), ("--no-install", "test", "-k", "x")])
def test_the_tests_are_called_with_no_install_before_or_after(box: Box, arguments: tuple[str, ...]) -> None:
    complete(box)
    said = box.run(*arguments).stdout.splitlines()
    assert said[-5:] == ["no", "-m", "pytest", "-k", "x"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("docs",), ["mkdocs", "build"]),
        (("docs", "serve"), ["mkdocs", "serve"]),
        (("completion", "bash"), ["completion", "bash"]),
    ],
)
def test_documents_and_completion_need_python_packages_alone(
    box: Box, arguments: tuple[str, ...], said: list[str]
) -> None:
    complete(box)
    (box.bin / "qemu-system-i386").unlink()
    box.stub("apt-get", "exit 1")
    done = box.run("--no-install", *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == said


def test_it_is_found_through_links_from_another_folder_and_by_path(box: Box, tmp_path: Path) -> None:
    complete(box)
    for name, to in (("one", ROOT / "sysenter"), ("two", "one"), ("bin/sysenter", "../two")):
        (tmp_path / name).symlink_to(to)
    for program in ("./one", "two", "./two", str(tmp_path / "two"), "sysenter", "sh two"):
        done = subprocess.run(
            ["sh", "-c", f"PATH=$PATH:.; {program} build"],
            cwd=tmp_path,
            env=box.environment(),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert str(ROOT / "src") in done.stdout.splitlines(), (program, done)


def test_a_repository_in_an_odd_folder(tmp_path: Path) -> None:
    odd = tmp_path / "a b,c:d 'e"
    odd.mkdir()
    shutil.copy(ROOT / "sysenter", odd)
    shutil.copytree(ROOT / "src", odd / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "requirements.txt", odd)
    done = subprocess.run([odd / "sysenter", "doctor"], capture_output=True, text=True, timeout=120)
    assert "gcc" in done.stdout, done.stderr


def test_only_asking_installs_nothing(box: Box, tmp_path: Path) -> None:
    complete(box)
    (box.bin / "qemu-system-i386").unlink()
    box.stub("apt-get", f"echo called >>{tmp_path}/apt")
    for arguments in (
        ("--help",),
        ("--version",),
        ("run", "--help"),
        ("run", "-h"),
        ("kernels",),
        ("export",),
        ("doctor",),
        ("manual",),
        (),
    ):
        done = box.run(*arguments)
        assert done.returncode == 0, done.stderr
    assert not (tmp_path / "apt").exists()


def test_two_first_runs_at_once_install_once(box: Box, tmp_path: Path) -> None:
    complete(box)
    (box.bin / "make").unlink()
    box.stub("id", "echo 0")
    box.stub("sleep", f"echo >>{tmp_path}/slept")
    # fails at first, as where somebody else's apt is at work
    box.stub(
        "apt-get",
        f"""
        echo "$@" >>{tmp_path}/apt
        case $* in *install*) ;; *) exit 0 ;; esac
        [ -e {tmp_path}/slept ] || {{ echo "E: Could not get lock /var/lib/dpkg/lock-frontend"; exit 100; }}
        read -r _ </dev/null; {sys.executable} -c 'import time; time.sleep(1)'
        printf '#!/bin/sh\\n' >{box.bin}/make; {shutil.which("chmod")} 755 {box.bin}/make""",
    )
    runs = [
        subprocess.Popen(
            [ROOT / "sysenter", "build"],
            env=box.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [run.communicate(timeout=60) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    assert (tmp_path / "apt").read_text().count("install -y") == 2  # the failure, and one more
    assert any("waiting for another apt" in stderr for _, stderr in said)


def test_another_apt_is_not_waited_for_for_ever(box: Box, tmp_path: Path) -> None:
    """apt itself waits for some locks, ten minutes at each try."""
    complete(box)
    (box.bin / "make").unlink()
    box.stub("id", "echo 0")
    box.stub("sleep", "exit 0")
    clock = tmp_path / "clock"
    clock.write_text("1000\n")
    box.stub("date", f"read -r now <{clock}; echo $now")
    box.stub(
        "apt-get",
        f"""echo >>{tmp_path}/tries
        case $* in *install*) ;; *) exit 0 ;; esac
        read -r now <{clock}; echo $((now + 400)) >{clock}
        echo "E: Could not get lock /var/lib/dpkg/lock-frontend"; exit 100""",
    )
    done = box.run("build")
    assert done.returncode == 1
    assert "Could not get lock" in done.stderr
    assert (tmp_path / "tries").read_text().count("\n") == 4  # update and install, twice


def _environment(tmp_path: Path, requirements: str, **more: str) -> subprocess.Popen[str]:
    (tmp_path / "requirements.txt").write_text(requirements)
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "src"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "TMPDIR": str(tmp_path / "tmp"),
        **more,
    }
    (tmp_path / "tmp").mkdir(exist_ok=True)
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "sysenter.environment",
            str(tmp_path / "requirements.txt"),
            "yes",
            "-c",
            "import sys; print(sys.prefix)",
        ],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=interruptible,
    )


@pytest.mark.long
def test_two_first_runs_at_once_share_one_environment(tmp_path: Path) -> None:
    runs = [_environment(tmp_path, "") for _ in range(2)]
    said = [run.communicate(timeout=120) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    assert said[0][0] == said[1][0]
    assert sum("set up Python packages" in stderr for _, stderr in said) == 1
    # a cache that was moved, and its python with it
    (tmp_path / "cache").rename(tmp_path / "moved")
    moved = _environment(tmp_path, "", XDG_CACHE_HOME=str(tmp_path / "moved"))
    out, stderr = moved.communicate(timeout=120)
    assert out.startswith(str(tmp_path / "moved"))
    assert "set up" not in stderr
    # one whose python has gone is made anew
    python = Path(out.strip()) / "bin/python3"
    python.unlink()
    (python.parent / "python").unlink()
    again = _environment(tmp_path, "", XDG_CACHE_HOME=str(tmp_path / "moved"))
    assert again.communicate(timeout=120)[0] == out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_environment_that_was_interrupted_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    run = _environment(tmp_path, "")
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("cache/sysenter/.venv-*/bin")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    run.send_signal(number)
    _, stderr = run.communicate(timeout=20)
    assert run.returncode == 128 + number
    assert "nothing is left running" in stderr
    assert not list(tmp_path.glob("cache/sysenter/.venv-*"))
    assert not list(tmp_path.glob("cache/sysenter/venv-*/"))
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.long  # half a minute, most of it pip's own
def test_packages_that_do_not_come_are_one_line(tmp_path: Path) -> None:
    run = _environment(tmp_path, f"no-such-package @ file://{tmp_path}/none.whl --hash=sha256:{64 * '0'}\n")
    _, stderr = run.communicate(timeout=120)
    assert run.returncode == 1
    assert "Traceback" not in stderr.splitlines()[-1]
    assert stderr.splitlines()[-1].startswith("sysenter: fetch the Python packages")
    assert not list(tmp_path.glob("cache/sysenter/*venv-*/"))
