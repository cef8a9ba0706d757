# SPDX-License-Identifier: GPL-2.0-or-later
"""What DKMS runs where a module cannot be built: a placeholder that real tools read and no kernel loads."""

from __future__ import annotations

import io
import os
import subprocess
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from sysenter.install.prepare import main, placeholder
from sysenter.install.tree import dkms_tree, tree_version


@pytest.mark.parametrize("bits", [32, 64])
def test_a_placeholder_is_an_elf_file_that_says_why(bits: int) -> None:
    data = placeholder("no compiler: apt-get install gcc", version="0.1.0", bits=bits)
    elf = ELFFile(io.BytesIO(data))
    assert elf.elfclass == bits
    assert elf["e_type"] == "ET_REL"
    info = elf.get_section_by_name(".modinfo")
    assert info is not None
    fields = dict(field.split("=", 1) for field in info.data().decode().rstrip("\0").split("\0"))
    assert fields["refused"] == "no compiler: apt-get install gcc"
    assert fields["target"] == "none"
    assert fields["vermagic"].startswith("none (")
    symbols = elf.get_section_by_name(".symtab")
    assert symbols is not None
    assert symbols["sh_link"] == 3


def test_a_reason_that_is_not_utf_8_makes_a_placeholder_too(tmp_path: Path) -> None:
    """As a compiler may give it; without a sysenter.ko DKMS fails, and the kernel's update with it."""
    (tmp_path / "version.h").write_text('#define SYSENTER_VERSION "0.1.0"\n')
    reason = os.fsdecode(b"error: no \xff.h")
    assert main(["placeholder", "9.9.9-none", str(tmp_path), reason]) == 0
    assert b"refused=error: no ?.h\0" in (tmp_path / "sysenter.ko").read_bytes()


def test_an_image_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["headers", "9.9.9-none", str(tmp_path), str(tmp_path)]) == 1
    assert capsys.readouterr().err == "no image of 9.9.9-none yet (it is built when the image is installed)\n"


def test_the_tree_has_all_that_building_imports(tmp_path: Path) -> None:
    """DKMS builds without this package's folder: the copied Python has to do alone."""
    for name, content in dkms_tree("0.1.0").items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    code = "import sysenter.install.prepare, sysenter.build.generated, sysenter.target.target, sys; print(*sys.path)"
    from sys import executable

    done = subprocess.run(
        [executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(tmp_path / 'python')!r}); {code}"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert str(tmp_path) in done.stdout


def test_a_changed_tree_is_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    from sysenter.install import tree

    before = tree_version("0.1.0")
    sources = tree._sources()
    monkeypatch.setattr(tree, "_sources", lambda: {**sources, "main.c": b"other"})
    assert tree_version("0.1.0") != before
