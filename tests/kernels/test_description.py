# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel.toml with a mistake is named, with file and key."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import ASCII, RunCli, one_line_error
from sysenter.errors import SysenterError
from sysenter.kernels.description import read_description

GOOD = {
    "release": '"2.4.22"',
    "arch": '"i386"',
    "image": '"bzImage"',
    "system-map": '"System.map"',
    "headers": '"linux"',
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "bzImage").touch()
    (tmp_path / "System.map").touch()
    (tmp_path / "linux").mkdir()
    return tmp_path


def write(folder: Path, values: dict[str, str]) -> Path:
    path = folder / "kernel.toml"
    path.write_text("".join(f"{k} = {v}\n" for k, v in values.items()), encoding="utf-8")
    return path


def test_paths_are_relative_to_the_file(folder: Path) -> None:
    kernel = read_description(write(folder, {**GOOD, "smp": "true", "append": '"noapic"'}))
    assert kernel.image == folder / "bzImage"
    assert kernel.headers == folder / "linux"
    assert kernel.smp
    assert kernel.append == "noapic"
    assert kernel.cc is None


def test_each_key_is_what_the_page_says(folder: Path) -> None:
    """docs/kernel.toml.md: the meaning of each, and what stands for one that is left out."""
    (folder / "bin").mkdir()
    (folder / "bin/gcc").touch()
    least = read_description(write(folder, GOOD))
    assert (least.release, least.arch.name, least.system_map) == ("2.4.22", "i386", folder / "System.map")
    assert (least.cc, least.smp, least.qemu_args, least.append, least.cpu) == (None, False, (), "", "pentium3")
    assert read_description(write(folder, {**GOOD, "arch": '"amd64"'})).cpu == "Skylake-Client"
    assert read_description(write(folder, {**GOOD, "smp": "true"})).qemu_args == ("-smp", "2,sockets=2")
    most = {"cc": '"bin/gcc"', "smp": "true", "qemu-args": '["-m", "768"]', "append": '"noapic"', "cpu": '"athlon"'}
    kernel = read_description(write(folder, {**GOOD, **most}))
    assert kernel.cc == str(folder / "bin/gcc")
    assert (kernel.qemu_args, kernel.append, kernel.cpu) == (("-m", "768"), "noapic", "athlon")
    assert read_description(write(folder, {**GOOD, "cc": '"gcc-12 -m32"'})).cc == "gcc-12 -m32"


def test_a_file_is_read_as_toml_wants_whatever_the_locale_is(cli: RunCli, folder: Path) -> None:
    path = write(folder, {**GOOD, "append": '"caf\u00e9"'})
    said = one_line_error(cli("build", "--kernel", str(path), "--offline", env=ASCII))
    assert "bzImage: not a Linux/x86 boot image" in said


def test_a_compiler_in_a_folder_with_a_space_is_told(folder: Path) -> None:
    (folder / "a b").mkdir()
    (folder / "a b/gcc").touch()
    with pytest.raises(SysenterError, match=r"key 'cc': a space in .*a b/gcc"):
        read_description(write(folder, {**GOOD, "cc": '"a b/gcc"'}))


@pytest.mark.parametrize("key", GOOD)
def test_a_missing_key_is_named(folder: Path, key: str) -> None:
    with pytest.raises(SysenterError, match=rf"kernel\.toml: key '{key}' is missing"):
        read_description(write(folder, {k: v for k, v in GOOD.items() if k != key}))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("release", "22", "key 'release' must be a string"),
        ("smp", '"yes"', "key 'smp' must be true or false"),
        ("qemu-args", '"-smp 2"', "key 'qemu-args' must be a list of strings"),
        ("qemu-args", "[2]", "key 'qemu-args' must be a list of strings"),
        ("arch", '"arm"', "key 'arch' must be 'i386' or 'amd64'"),
        ("image", '"vmlinux"', "key 'image': no such file"),
        ("headers", '"nowhere"', "key 'headers': no such folder"),
        ("cc", '"bin/gcc"', "key 'cc': no such file"),
        ("cc", '" "', "key 'cc' is blank"),
        ("kernel", '"x"', "unknown key 'kernel'"),
    ],
)
def test_a_wrong_key_is_named(folder: Path, key: str, value: str, message: str) -> None:
    with pytest.raises(SysenterError, match=message):
        read_description(write(folder, {**GOOD, key: value}))


def test_brackets_without_an_end_are_no_toml(folder: Path) -> None:
    with pytest.raises(SysenterError, match=r"kernel\.toml: not TOML"):
        read_description(write(folder, {**GOOD, "release": "[" * 3000}))


@settings(deadline=None)  # a busy host is no fault
@given(st.text(max_size=60))
def test_anything_else_is_refused_in_one_line(text: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "kernel.toml"
        path.write_text(text)
        with pytest.raises(SysenterError, match=r"kernel\.toml"):
            read_description(path)
