# SPDX-License-Identifier: GPL-2.0-or-later
"""Every command with its defaults, on one kernel of each family: what a user types first.

run, selftests, mitigations and check have tests of their own on the default kernel; what
takes minutes runs with --long.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import schemas
from conftest import ROOT, Keep, RunCli, one_line_error
from legacy_kernels import on_each_kernel, parameters
from sysenter import __version__
from sysenter.defaults import ROUNDS
from sysenter.options import read_options

_FAMILIES = ("bookworm-686", "bookworm-686-pae", "bookworm-amd64", "bookworm-backports-amd64", "trixie-backports-amd64")
_LONG = pytest.mark.long


def _families(*quick: str) -> list[object]:
    return [pytest.param(name, marks=() if name in quick else _LONG, id=name) for name in _FAMILIES]


@pytest.mark.parametrize("family", _families("bookworm-686", "bookworm-amd64"))
def test_build(cli: RunCli, family: str) -> None:
    done = cli("build", "--kernel", family, timeout=500)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).read_bytes().startswith(b"\x7fELF")


@pytest.mark.parametrize("family", _families("trixie-backports-amd64"))
def test_exec(cli: RunCli, family: str) -> None:
    done = cli("exec", "--kernel", family, "--", "cat /sys/module/sysenter/parameters/fast_table; exit 5", timeout=500)
    assert done.returncode == 5, done.stderr
    assert int(done.stdout) > 300


@pytest.mark.parametrize("family", _families())
def test_run(cli: RunCli, tmp_path: Path, family: str) -> None:
    done = cli("run", "--kernel", family, "--json", str(tmp_path / "out.json"), timeout=900)
    assert done.returncode == 0, done.stderr
    said = json.loads((tmp_path / "out.json").read_text())
    schemas.hold("run", said)
    assert said["guard"]["accepted"]
    assert len(said["dd"][0]["seconds"]) == ROUNDS
    assert f"sock_register {said['guard']['sock_register']}: accepted" in done.stdout


@on_each_kernel
@pytest.mark.parametrize("path", parameters(), ids=lambda path: path.parent.name)
def test_old_kernels(cli: RunCli, path: Path) -> None:
    kernel = str(path)
    assert cli("build", "--kernel", kernel, timeout=300).returncode == 0
    done = cli("run", "--kernel", kernel, timeout=900)
    assert done.returncode == 0, done.stderr
    for command in (("exec", "--", "true"), ("selftests",), ("mitigations",), ("replay",)):
        assert "has no" in one_line_error(cli(command[0], "--kernel", kernel, *command[1:]))


@pytest.mark.long
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("family", _FAMILIES)
@pytest.mark.parametrize("command", ["selftests", "mitigations"])
def test_selftests_and_mitigations(
    cli: RunCli, on_sample_page: Keep, tmp_path: Path, command: str, family: str
) -> None:
    file = tmp_path / "found.json"
    done = cli(command, "--kernel", family, "--json", str(file), timeout=1400)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    schemas.hold(command, json.loads(file.read_text()))
    on_sample_page(file, f"{command}-{family}")


@pytest.mark.long
@pytest.mark.timeout(3000)
def test_check(cli: RunCli) -> None:
    done = cli("check", timeout=2900)
    assert done.returncode == 0, done.stdout + done.stderr


def test_export(cli: RunCli, tmp_path: Path) -> None:
    done = cli("export")
    assert done.returncode == 0
    assert done.stdout.startswith("#")
    assert cli("export", "-o", str(tmp_path / "sysenter.c")).stdout == ""
    assert (tmp_path / "sysenter.c").read_text() == done.stdout


def test_doctor_tells_of_a_cache_and_a_temporary_folder_that_will_not_do(cli: RunCli, tmp_path: Path) -> None:
    said = cli("doctor").stdout
    assert "python3" in said
    assert "Debian's archive keys" in said
    done = cli("doctor", env={"XDG_CACHE_HOME": str(tmp_path / "a b"), "TMPDIR": "/nowhere"})
    assert done.returncode == 1
    assert "MISS  cache folder" in done.stdout
    assert "MISS  temporary folder" in done.stdout
    assert "set XDG_CACHE_HOME" in done.stdout


# -S: no package of any environment is found
@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["run", "--help"], ["kernels"], ["export"], ["doctor"], ["manual"]],
)
def test_asking_takes_no_python_package(arguments: list[str]) -> None:
    code = (
        "import sys\nsys.path.insert(0, sys.argv.pop(1))\nfrom sysenter.cli import main\n"
        "try:\n    status = main(sys.argv[1:])\nfinally:\n    assert 'rich' not in sys.modules\nsys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, ROOT / "src", *arguments], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout


def test_the_version_is_the_projects(cli: RunCli) -> None:
    assert cli("--version").stdout == f"sysenter {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "--rounds", "x"), "argument --rounds: 'x' is no whole number from 1 to"),
        (("run", "--rounds", "0"), "argument --rounds: '0' is no whole number from 1 to"),
        (("run", "--count", "1e3"), "argument --count: '1e3' is no whole number"),
        (("exec", "--timeout", "-1", "--", "x"), "'-1' is no whole number"),
        (("exec", "--timeout", "99999999999999999999", "--", "x"), "is no whole number from 1 to"),
        (("check", "--seed", "x"), "argument --seed: 'x' is no whole number"),
        (("check", "--mutants", "nan"), "'nan' is no whole number"),
        (("replay", "--processes", ""), "'' is no whole number"),
    ],
)
def test_a_bad_number_is_named(cli: RunCli, arguments: tuple[str, ...], message: str) -> None:
    done = cli(*arguments)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "arguments",
    [
        *(("bench", "--against"), ("bench", "--save"), ("matrix", "--scheduler"), ("matrix", "--worker")),
        *(("run", "--qemu"), ("run", "--cpu"), ("replay", "--cpu"), ("matrix", "--cpu"), ("matrix", "--scope")),
    ],
)
def test_a_name_that_is_empty_is_none(cli: RunCli, arguments: tuple[str, ...]) -> None:
    """As a script's variable that is not set: nothing was compared, with status 0, or all of it was done here."""
    done = cli(*arguments, "")
    assert done.returncode == 2
    assert f"argument {arguments[1]}: it is empty, and names nothing" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("words", [("run", "--offlin"), ("run", "--no-inst"), ("--debu", "run")])
def test_an_option_is_typed_in_full(cli: RunCli, words: tuple[str, ...]) -> None:
    """The launcher hears --offline and --no-install in full only: a part of one had installed what it forbids."""
    done = cli(*words, "--kernel", "nonsense")
    assert done.returncode == 2
    assert "error: " in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("check", "present-amd64", "--kernel", "bookworm-686-pae"), "bookworm-686-pae is not for present-amd64"),
        (("check", "legacy-tss", "--kernel", "bookwurm"), "--kernel bookwurm is not for legacy-tss"),
        (
            ("check", "present-i386", "--object", "x", "--offsets", "y", "--kernel", "bookworm-686-pae"),
            "--kernel bookworm-686-pae is not for --object",
        ),
        (("run", "--dry-run", "--json", "x"), "run --dry-run takes no --json"),
    ],
)
def test_what_would_be_passed_over_is_refused(cli: RunCli, arguments: tuple[str, ...], message: str) -> None:
    assert message in one_line_error(cli(*arguments, "--offline"))


@pytest.mark.parametrize("value", ["nan", "inf", "x", "-inf"])
def test_a_bad_patience_is_named(cli: RunCli, value: str) -> None:
    said = one_line_error(cli("exec", "--accelerator", "tcg", "--", "true", env={"SYSENTER_PATIENCE": value}))
    assert f"SYSENTER_PATIENCE is {value!r}, not a number" in said


@pytest.mark.parametrize("command", [("run",), ("check",), ("replay",)])
def test_a_place_for_json_is_looked_at_before_the_work(cli: RunCli, tmp_path: Path, command: tuple[str, ...]) -> None:
    # nothing is in this cache, so whatever came first would say that
    env = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    for place, message in ((tmp_path, "it is a folder"), (tmp_path / "no/file", "there is no folder")):
        assert message in one_line_error(cli(*command, "--offline", "--json", str(place), env=env))
    assert not (tmp_path / "cache").exists()


@pytest.mark.long  # half a minute of checking
def test_json_to_standard_output_has_the_tables_on_the_other(cli: RunCli) -> None:
    done = cli("check", "legacy-global", "--json", "-", timeout=500)
    said = json.loads(done.stdout)
    schemas.hold("check", said)
    assert "different callers" in done.stderr


def test_options_of_all_commands_may_stand_before_the_command(cli: RunCli) -> None:
    for arguments in (("--debug", "run"), ("run", "--debug"), ("--no-install", "--debug", "run")):
        done = cli(*arguments, "--kernel", "nonsense")
        assert "Traceback" in done.stderr
        assert done.returncode == 1


def test_options_of_all_commands_are_there_whether_given_or_not() -> None:
    for command in ("run", "build", "doctor", "install"):
        for before, behind in (([], []), (["--debug"], []), ([], ["--debug"]), (["--no-install"], ["--debug"])):
            options = read_options([*before, command, *behind])
            assert options.debug == ("--debug" in before + behind)
            assert options.no_install == ("--no-install" in before)
