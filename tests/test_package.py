# SPDX-License-Identifier: GPL-2.0-or-later
"""What another machine gets: a wheel with all that the commands need, completion, a manual page."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import ROOT, RunCli, one_line_error
from sysenter import __version__
from sysenter.build.export import single_file
from sysenter.cli import _COMMANDS
from sysenter.options import parser
from sysenter.target.target import Target

# Commands that never fetch anything: they have no --offline.
_LOCAL = {"report", "kernels", "doctor", "export", "completion", "manual", "status", "uninstall"}


def commands() -> dict[str, argparse.ArgumentParser]:
    (found,) = (a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(found.choices)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by the pinned backend, without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    argv = [sys.executable, "-m", "pip", "wheel", "-q", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*argv, "-w", folder, ROOT], check=True, timeout=120)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command of a fresh environment with the wheel in it; the packages that it needs are the tests' own."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=120)
    python = folder / "bin/python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-index", "--no-deps", wheel], check=True, timeout=120)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return subprocess.run(
            [folder / "bin/sysenter", *arguments],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


def test_the_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "src/sysenter"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert {name.removeprefix("src/") for name in tracked} <= held
    assert not [name for name in held if "__pycache__" in name]


def test_the_installed_command_needs_no_clone(
    installed: Callable[..., subprocess.CompletedProcess[str]], target: Target
) -> None:
    assert installed("--version").stdout == f"sysenter {__version__}\n"
    assert installed("export").stdout == single_file()
    done = installed("build", "--offline")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).stat().st_size > 10_000
    done = installed("check", "legacy-cruel", "--object", "/nowhere", "--offsets", "/nowhere")
    assert "(`sysenter exec " in one_line_error(installed("shell"))  # and not ./sysenter
    assert "/nowhere" in one_line_error(done)  # Unicorn and the checker came along


def _asked(name: str) -> set[str]:
    lines = (ROOT / name).read_text().splitlines()
    return {line.partition(";")[0].strip() for line in lines if line and line[0] not in "#-"}


def test_the_package_and_the_pinned_environment_need_the_same() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    named = {re.split(r"[<>=~ ]", line)[0] for line in project["project"]["dependencies"]}
    assert named == _asked("requirements.in")
    drawn = project["project"]["optional-dependencies"]["report"]
    assert {re.split(r"[<>=~ ]", line)[0] for line in drawn} == _asked("requirements-report.in")
    pins = dict(re.findall(r"^([\w-]+)==([\w.]+)", (ROOT / "requirements-test.txt").read_text(), re.M))
    for line in [*project["project"]["dependencies"], *drawn, *project["build-system"]["requires"]]:
        name, _, least = re.split(r"(>=|==)", line)
        assert tuple(map(int, least.split("."))) <= tuple(map(int, pins[name].split("."))), line
        assert "==" not in line or pins[name] == least


def test_each_command_can_be_carried_out() -> None:
    assert set(commands()) == set(_COMMANDS)


def test_what_may_fetch_can_be_told_not_to(cli: RunCli, tmp_path: Path) -> None:
    empty = {"XDG_CACHE_HOME": str(tmp_path)}
    fetching = {name for name, command in commands().items() if "--offline" in command.format_help()}
    assert fetching == set(_COMMANDS) - _LOCAL
    # shell wants a terminal first; install is for the machine itself: tests/install
    for name in sorted(fetching - {"shell", "install"}):
        more = ("--", "true") if name == "exec" else ()
        assert "--offline forbids" in one_line_error(cli(name, "--offline", *more, env=empty)), name


@pytest.mark.parametrize(
    ("line", "offered", "not_offered"),
    [
        ("sysenter mit", "mitigations", "run"),
        ("sysenter run --kernel trixie-b", "trixie-backports-amd64", "bookworm-686"),
        ("sysenter run --accelerator ", "kvm", "run"),
    ],
)
def test_bash_completes(cli: RunCli, line: str, offered: str, not_offered: str) -> None:
    script = cli("completion", "bash").stdout
    words = line.split(" ")
    asking = (
        f"{script}\nCOMP_WORDS=({' '.join(repr(word) for word in words)}); COMP_CWORD={len(words) - 1}\n"
        'eval "$(complete -p sysenter | sed "s/.*-F \\([^ ]*\\).*/\\1/")"; printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(["bash", "-c", asking], capture_output=True, text=True, timeout=20)
    assert offered in done.stdout.split(), done.stdout + done.stderr
    assert not_offered not in done.stdout.split()


def test_the_manual_page_has_every_command_and_option(cli: RunCli) -> None:
    page = cli("manual").stdout
    shown = page
    if shutil.which("groff"):
        argv = ["groff", "-man", "-Tascii", "-ww", "-P-cbou"]
        done = subprocess.run(argv, input=page, capture_output=True, text=True, timeout=20)
        assert not done.stderr
        shown = done.stdout
    for name, command in commands().items():
        assert re.search(rf"^ *(\.SS )?{name}$", shown, re.M), name
        for action in command._actions:
            for option in action.option_strings:
                assert option in shown.replace("\\-", "-"), option
