# SPDX-License-Identifier: GPL-2.0-or-later
"""What an install takes, by what is there before it: modules of other kernels, what was chosen, Debian packages."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from sysenter.errors import SysenterError
from sysenter.install import dkms, files, install, status, uninstall
from sysenter.install.files import Manifest, put, read_manifest
from sysenter.install.machine import InstalledKernel
from sysenter.install.status import kernel_status
from sysenter.steps import Steps

RUNNING = os.uname().release
VERSION = "0.1.0.12345678"


class Machine:
    """A machine's folders, its kernels, and what modinfo says of the module for each."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.modules: dict[str, dict[str, str]] = {}
        self.kernels = [InstalledKernel(RUNNING, None, folder / "headers")]
        self.package = ""
        for name in ("AT_BOOT", "HOOK", "LIBRARY", "RUN", "SCOPE", "SOURCES", "STATE", "_MANIFEST"):
            path = folder / str(getattr(files, name)).lstrip("/")
            for module in (files, install, status):
                if hasattr(module, name):
                    monkeypatch.setattr(module, name, path)
        units = tuple(folder / str(unit).lstrip("/") for unit in files.UNITS)
        monkeypatch.setattr(dkms, "_FOLDER", folder / "var/lib/dkms/sysenter")
        for module in (files, install):
            monkeypatch.setattr(module, "UNITS", units)
            monkeypatch.setattr(module, "preload_library", lambda: folder / "usr/lib/x/sysenter/libsysenter.so")
        for module in (dkms, install, status):
            monkeypatch.setattr(module, "modinfo", self._modinfo, raising=False)
        for module in (install, status):
            monkeypatch.setattr(module, "installed_kernels", lambda: tuple(self.kernels))
        for module in (install, status, uninstall):
            monkeypatch.setattr(module, "packaged", lambda: self.package)
        monkeypatch.setattr(install, "missing_packages", lambda wanted: ())
        monkeypatch.setattr(install, "tree_version", lambda project: VERSION)
        monkeypatch.setattr(files, "owned", lambda path: False)

    def _modinfo(self, release: str, field: str, module: Path | None = None) -> str:
        """Of a module that DKMS has built: its text is its target."""
        return module.read_text() if module else self.modules.get(release, {}).get(field, "")

    def built(self, release: str, version: str, target: str = "6.1 #1") -> None:
        """DKMS has built this version for a kernel."""
        self.modules[release] = {"dkms_version": version, "target": target}
        built = dkms._FOLDER / version / release / "x86_64/module/sysenter.ko"
        built.parent.mkdir(parents=True)
        built.write_text(target)
        if not (dkms._FOLDER / version / "source").is_symlink():
            (dkms._FOLDER / version / "source").symlink_to(self.folder)

    def chosen(self) -> None:
        """By an earlier install: another scope, and to be loaded at each boot."""
        wanted = {files.SCOPE: (b"options sysenter scope=all\n", 0o644), files.AT_BOOT: (b"", 0o644)}
        put(Manifest("older", "then"), wanted)

    def plan(self, *, all_kernels: bool = False, at_boot: bool = False, scope: str | None = None) -> install.Plan:
        return install.plan_for("0.1.0", all_kernels=all_kernels, at_boot=at_boot, scope=scope)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def _words(plan: install.Plan) -> list[str]:
    return [" ".join(argv) for argv in plan.commands]


def _of(release: str = RUNNING) -> str:
    return f"sysenter/{VERSION} -k {release}"


@pytest.mark.parametrize("target", ["none", "another image"])
def test_a_placeholder_and_a_module_of_another_image_are_built_again(machine: Machine, target: str) -> None:
    """DKMS's `install --force` puts the old one there again, whatever has been mended since."""
    (machine.folder / "image").touch()
    machine.kernels = [InstalledKernel(RUNNING, machine.folder / "image", machine.folder)]
    machine.built(RUNNING, VERSION, target)
    if target != "none":
        assert kernel_status(machine.kernels[0]).reason.endswith("cannot be read, so it may be stale")
        image = bytearray(0x8000)
        image[0x202:0x206] = b"HdrS"
        image[0x20E:0x210] = (0x300).to_bytes(2, "little")
        image[0x500:0x510] = f"{RUNNING} (x) #2".encode()[:16]
        (machine.folder / "image").write_bytes(image)
    assert kernel_status(machine.kernels[0]).state in ("refused", "stale")
    again = [f"dkms unbuild {_of()}", f"dkms install --force {_of()}"]
    assert _words(machine.plan()) == again
    machine.package = VERSION
    assert _words(machine.plan()) == again


def test_what_is_good_is_not_built_again(machine: Machine) -> None:
    machine.built(RUNNING, VERSION)
    assert _words(machine.plan()) == [f"dkms install --force {_of()}"]
    machine.package = VERSION
    assert _words(machine.plan()) == []


def test_a_version_that_comes_back_is_not_built_again(machine: Machine) -> None:
    """DKMS has it still, and the disk may be full."""
    machine.built(RUNNING, VERSION)
    machine.built("newer", "newer")
    machine.modules[RUNNING] = machine.modules["newer"]
    assert [" ".join(argv) for argv in dkms.commands(VERSION, machine.kernels[0])] == [f"dkms install --force {_of()}"]


def test_beside_packages_a_placeholder_stays_where_nothing_can_be_built(machine: Machine) -> None:
    machine.built(RUNNING, VERSION, "none")
    machine.kernels = [replace(machine.kernels[0], headers=None)]
    machine.package = VERSION
    assert _words(machine.plan(all_kernels=True)) == []


def test_an_upgrade_builds_for_each_kernel_that_had_the_older_version(machine: Machine) -> None:
    """All of these lose it. One without headers cannot have the newer one, and no headers are fetched for it."""
    for release, headers in (("6.1-had", machine.folder), ("6.1-without", None), ("6.1-none", machine.folder)):
        machine.kernels.append(InstalledKernel(release, None, headers))
    for release in (RUNNING, "6.1-had", "6.1-without"):
        machine.built(release, "older")
    plan = machine.plan()
    assert [kernel.release for kernel in plan.kernels] == [RUNNING, "6.1-had"]
    assert plan.packages == ()
    assert _words(plan) == [
        f"dkms add sysenter/{VERSION}",
        f"dkms install --force {_of()}",
        f"dkms install --force {_of('6.1-had')}",
        "dkms remove sysenter/older --all",
    ]


@pytest.mark.parametrize("package", ["", VERSION])
def test_what_was_chosen_stays_until_something_else_is(machine: Machine, package: str) -> None:
    """Without a scope of its own an AMD processor's module is refused at each boot."""
    machine.package = package
    machine.chosen()
    kept = machine.plan().kept
    assert kept[files.SCOPE].startswith("options sysenter scope=all")
    assert kept[files.AT_BOOT].startswith("loaded at each boot")
    assert list(machine.plan(scope="marked").kept) == [files.AT_BOOT]
    assert list(machine.plan(at_boot=True).kept) == [files.SCOPE]
    for plan in (machine.plan(), machine.plan(scope="marked", at_boot=True)):
        manifest = read_manifest()
        assert manifest is not None
        install._forget_older(Steps(), manifest, plan)
        assert files.SCOPE.exists()
        assert files.AT_BOOT.exists()


def test_beside_packages_only_what_is_asked_for_is_planned(machine: Machine) -> None:
    machine.package = VERSION
    plan = machine.plan(at_boot=True, scope="both")
    assert set(plan.files) == {files.SCOPE, files.AT_BOOT}
    assert _words(plan)[0] == f"dkms install --force {_of()}"
    assert _words(plan)[1:] == ["systemctl enable sysenter.service sysenter-settled.timer"]


def test_status_tells_the_packages_version_after_their_upgrade(machine: Machine) -> None:
    machine.chosen()
    assert (status.status().version, status.status().when) == ("older", "then")
    machine.package = VERSION
    assert (status.status().version, status.status().when) == (VERSION, "")


def test_a_mark_that_a_power_cut_has_left_empty_is_a_blown_fuse(machine: Machine) -> None:
    files.STATE.mkdir(parents=True)
    assert status.status().fuse == ""
    (files.STATE / "fuse").touch()
    assert status.status().fuse == "an unknown time"


def _installed(machine: Machine) -> list[Path]:
    """Every file of an install."""
    tree = files.SOURCES / f"sysenter-{VERSION}"
    paths = [tree / "dkms.conf", tree / "version.h", tree / "python/x.py", files.LIBRARY / "trial"]
    paths += [files.preload_library(), files.RUN, files.HOOK, *files.UNITS]
    put(Manifest(VERSION, "now"), dict.fromkeys(paths, (b"x", 0o644)))
    machine.chosen()
    return [*paths, files.SCOPE, files.AT_BOOT]


def _uninstall(monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(dkms, "withdraw", lambda steps, version: None)
    monkeypatch.setattr(dkms, "remove_left_behind", lambda steps: None)
    monkeypatch.setattr(dkms, "left_behind", lambda: ())
    monkeypatch.setattr(uninstall, "run_command", lambda *_, **__: "")
    return uninstall.uninstall(Steps(), wait=0)


def test_uninstall_takes_all_away_without_a_manifest(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a purge of the Debian packages left it. A clone under /usr/src, and what a package owns, stay."""
    there = _installed(machine)
    clone = files.SOURCES / "sysenter-clone/README.md"
    clone.parent.mkdir()
    clone.touch()
    monkeypatch.setattr(files, "owned", lambda path: path == files.RUN)
    files._MANIFEST.unlink()
    assert _uninstall(monkeypatch)
    assert [path for path in there if path.exists()] == [files.RUN]
    assert not files.LIBRARY.exists()
    assert not (files.SOURCES / f"sysenter-{VERSION}").exists()
    assert clone.exists()
    assert not _uninstall(monkeypatch)


def test_uninstall_does_not_wait_for_an_unload_that_waits(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It cannot be killed then. The stand-in can, and is not."""
    (tmp_path / "loaded").mkdir()
    (tmp_path / "loaded/initstate").write_text("going\n")
    (tmp_path / "rmmod").write_text(f"#!/bin/sh\necho $$ >{tmp_path}/runs; exec sleep 60\n")
    (tmp_path / "rmmod").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(uninstall, "LOADED", tmp_path / "loaded")
    monkeypatch.setattr(uninstall, "_LIMIT", 1)
    with pytest.raises(SysenterError, match="the module is on its way out, and waits"):
        uninstall.unload(Steps(), wait=0)
    os.kill(int((tmp_path / "runs").read_text()), signal.SIGTERM)


def test_a_scope_of_the_users_own_file_stays(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    files.SCOPE.parent.mkdir(parents=True)
    files.SCOPE.write_text("options sysenter scope=all entry=syscall\n")
    assert not _uninstall(monkeypatch)
    assert files.SCOPE.exists()
