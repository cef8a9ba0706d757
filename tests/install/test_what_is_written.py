# SPDX-License-Identifier: GPL-2.0-or-later
"""What install writes: the preload library as the lab tests it, folders that everybody can look into, whole files."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import nullcontext
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerSymSection
from elftools.elf.sections import SymbolTableSection

from conftest import ROOT
from sysenter.build.native import NATIVE, PRELOAD_OPTIONS
from sysenter.install import files, install
from sysenter.install.files import Manifest, put, read_manifest, take_away
from sysenter.steps import Steps
from sysenter.target.arch import ARCHITECTURES, Architecture


@pytest.mark.parametrize("arch", ARCHITECTURES.values(), ids=str)
def test_the_installed_library_needs_no_c_library_and_is_not_libpthread(
    steps: Steps, arch: Architecture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(install, "architecture", lambda: arch)
    written = {path.name: content for path, (content, _) in install._compiled_files(steps).items()}
    (tmp_path / "library").write_bytes(written["libsysenter.so"])
    with (tmp_path / "library").open("rb") as file:
        elf = ELFFile(file)
        symbols, versions = elf.get_section_by_name(".dynsym"), elf.get_section_by_name(".gnu.version")
        assert isinstance(symbols, SymbolTableSection)
        assert isinstance(versions, GNUVerSymSection), "no function has a version"
        of = {s.name: versions.get_symbol(n)["ndx"] for n, s in enumerate(symbols.iter_symbols()) if s.name}
        taken = [s["st_info"]["bind"] for s in symbols.iter_symbols() if s.name and s["st_shndx"] == "SHN_UNDEF"]
    assert set(taken) == {"STB_WEAK"}
    assert (of["pthread_create"], of["thrd_create"], of["read"]) == (2, 2, "VER_NDX_GLOBAL")


def test_debians_package_compiles_it_in_the_same_way() -> None:
    text = (ROOT / "debian/rules").read_text()
    for option in PRELOAD_OPTIONS:
        assert option.replace(str(NATIVE), "$(NATIVE)") in text


def test_a_clone_in_a_folder_with_a_comma_compiles_it(tmp_path: Path) -> None:
    """gcc divides what -Wl, gives to the linker at its commas."""
    clone = tmp_path / "a,b"
    for name in ("user", "present"):
        shutil.copytree(NATIVE / name, clone / name)
    options = [option.replace(str(NATIVE), str(clone)) for option in PRELOAD_OPTIONS]
    argv = ["gcc", "-O2", *options, f"-I{clone}/present", f"-I{clone}/user", "-o", f"{tmp_path}/library"]
    subprocess.run([*argv, f"{clone}/user/preload_amd64.c"], check=True, timeout=60)


def test_roots_umask_does_not_close_it_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    umask = []

    def written(*_: object, **__: object) -> dict[str, str]:
        umask.append(os.umask(0o022))
        os.umask(umask[-1])
        return {}

    for name, stand_in in (("check_system", lambda: None), ("alone", nullcontext), ("packaged", lambda: "")):
        monkeypatch.setattr(install, name, stand_in)
    monkeypatch.setattr(install, "_install", written)
    before = os.umask(0o077)
    try:
        install.install(Steps(), "1.0", all_kernels=False, at_boot=False, scope=None)
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
    assert umask == [0o022]


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder for the manifest."""
    monkeypatch.setattr(files, "STATE", tmp_path / "state")
    monkeypatch.setattr(files, "_MANIFEST", tmp_path / "state/manifest.json")
    return tmp_path / "state"


def test_each_file_is_on_the_disk_before_it_has_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: Path
) -> None:
    """A power cut could leave an empty hook otherwise, which is no program, and a kernel's update would stop."""
    done: list[tuple[str, str]] = []
    sync, replace = os.fsync, os.replace

    def synced(handle: int) -> None:
        done.append(("sync", Path(f"/proc/self/fd/{handle}").readlink().name))
        sync(handle)

    def replaced(new: Path, path: Path) -> None:
        done.append(("replace", path.name))
        replace(new, path)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    put(Manifest("1", "now"), {tmp_path / "hook": (b"#!/bin/sh", 0o755)})
    assert done == [
        ("sync", "manifest.json.sysenter-new"),
        ("replace", "manifest.json"),
        ("sync", "state"),
        ("sync", "hook.sysenter-new"),
        ("replace", "hook"),
    ]
    assert (tmp_path / "hook").stat().st_mode & 0o777 == 0o755


def test_what_a_kill_leaves_half_written_goes_too(tmp_path: Path, state: Path) -> None:
    """Else its folder could not be removed, and no uninstall came to its end."""
    put(Manifest("1", "now"), {tmp_path / "sources/main.c": (b"whole", 0o644)})
    (tmp_path / "sources/main.c.sysenter-new").write_bytes(b"ha")
    manifest = read_manifest()
    assert manifest is not None
    assert take_away(manifest) == []
    assert list(tmp_path.iterdir()) == []
