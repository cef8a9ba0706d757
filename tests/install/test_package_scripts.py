# SPDX-License-Identifier: GPL-2.0-or-later
"""What the Debian packages' scripts do on removal, with stand-ins; test_packages.py runs them whole."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

from conftest import ROOT


def _run(folder: Path, script: str, word: str) -> str:
    """Run it with its places in a folder, and the programs there before all others."""
    text = (ROOT / "debian" / script).read_text()
    for place in ("/sys/module/", "/var/lib/", "/etc/"):
        text = text.replace(f"={place}", f"={folder}{place}").replace(f" {place}", f" {folder}{place}")
    done = subprocess.run(
        ["sh", "-c", text, script, word],
        env={"PATH": f"{folder}:/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 0
    return done.stdout


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """A loaded module that nothing holds, and an rmmod that does not come to an end."""
    module = tmp_path / "sys/module/sysenter"
    module.mkdir(parents=True)
    (module / "refcnt").write_text("0\n")
    for name, line in (("rmmod", f"echo $$ >{tmp_path}/rmmod-runs; exec sleep 60"), ("seq", "echo 1 2")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    return module


def test_a_removal_does_not_wait_for_an_unload_that_waits(tmp_path: Path, module: Path) -> None:
    start = time.monotonic()
    said = _run(tmp_path, "sysenter.prerm", "remove")
    assert time.monotonic() - start < 15
    assert "it stays loaded until that ends, or until the next boot" in said
    subprocess.run(["kill", (tmp_path / "rmmod-runs").read_text().strip()], check=True)


def test_a_removal_unloads_what_nothing_holds(tmp_path: Path, module: Path) -> None:
    (tmp_path / "rmmod").write_text(f"#!/bin/sh\nrm -r {module}\n")
    assert _run(tmp_path, "sysenter.prerm", "upgrade") == ""
    assert module.exists()
    assert _run(tmp_path, "sysenter.prerm", "remove") == ""
    assert not module.exists()


def test_what_holds_the_module_keeps_it(tmp_path: Path, module: Path) -> None:
    (module / "refcnt").write_text("2\n")
    assert "the module is in use" in _run(tmp_path, "sysenter.prerm", "remove")
    assert not (tmp_path / "rmmod-runs").exists()


@pytest.mark.parametrize("clone", [False, True])
def test_a_purge_leaves_the_manifest_of_an_install_from_a_clone(tmp_path: Path, clone: bool) -> None:
    """Its files under /usr/src and /etc/systemd are no package's; without the manifest nothing took them away."""
    state = tmp_path / "var/lib/sysenter"
    state.mkdir(parents=True)
    files = ["/var/lib/sysenter/at-boot", *(["/usr/src/sysenter-0.1.0.12345678/main.c"] if clone else [])]
    (state / "manifest.json").write_text(json.dumps({"version": "0.1.0", "files": files}))
    wants = tmp_path / "etc/systemd/system/sysenter.service.wants"
    for path in (state / "at-boot", state / "fuse", tmp_path / "etc/modprobe.d/sysenter.conf", wants / "x"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    said = _run(tmp_path, "sysenter.postrm", "purge")
    assert ("./sysenter uninstall takes it away" in said) == clone
    left = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()]
    assert left == (["var/lib/sysenter/manifest.json"] if clone else [])
    assert state.exists() == clone
