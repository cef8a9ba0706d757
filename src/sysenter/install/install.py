# SPDX-License-Identifier: GPL-2.0-or-later
"""Install: packages, sources under DKMS, the preload library, the unit for boot.

Nothing is loaded by installing. What fails half-way is undone, and another version that
was installed before comes back; what a kill leaves half-way, `uninstall` undoes.
"""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sysenter.build.native import NATIVE, PRELOAD_OPTIONS
from sysenter.errors import SysenterError
from sysenter.install import dkms
from sysenter.install.files import (
    AT_BOOT,
    HOOK,
    LIBRARY,
    RUN,
    SCOPE,
    SOURCES,
    STATE,
    UNITS,
    Manifest,
    alone,
    contents_of,
    preload_library,
    put,
    put_back,
    read_manifest,
    remove,
    take_away,
    what_stands,
)
from sysenter.install.machine import (
    InstalledKernel,
    architecture,
    check_system,
    installed_kernels,
    missing_packages,
    modinfo,
    packaged,
    read_word,
    secure_boot,
    signatures_enforced,
)
from sysenter.install.status import kernel_status
from sysenter.install.tree import FROM_DEBIAN, dkms_tree, tree_version
from sysenter.install.uninstall import remove_all
from sysenter.processes import cleaning_up, undisturbed
from sysenter.scratch import scratch_folder
from sysenter.steps import Steps, run_command

__all__ = ["Plan", "boot_state", "install", "plan_for"]

_ENABLE = ("systemctl", "enable", "sysenter.service", "sysenter-settled.timer")
_PROGRAMS = ("trial",)
_HELD = "Could not get lock"  # apt says so, and ends; DPkg::Lock::Timeout is not for the lock of its lists
_AGAIN, _PATIENCE = 2.0, 600.0  # seconds between two tries then, and until no more is tried


@dataclass(frozen=True)
class Plan:
    """What an install would do here."""

    version: str
    """DKMS's version of the module."""
    kernels: tuple[InstalledKernel, ...]
    """The kernels that it is built for now."""
    packages: tuple[str, ...]
    """Debian's packages that are missing."""
    files: dict[Path, int]
    """Every file that is written, and its mode."""
    commands: tuple[tuple[str, ...], ...]
    """Every command that changes the system, in order."""
    kept: dict[Path, str]
    """What was chosen by an earlier install and stays: its file, and what it says."""


def _static_files(version: str, scope: str | None) -> dict[Path, tuple[bytes, int]]:
    native = NATIVE / "install"
    files = {
        SOURCES / f"{dkms.NAME}-{version}" / name: (content, 0o755 if name == "build.sh" else 0o644)
        for name, content in dkms_tree(version).items()
    }
    files[LIBRARY / "at-boot"] = ((native / "at-boot").read_bytes(), 0o755)
    files[RUN] = ((native / "sysenter-run").read_bytes(), 0o755)
    files[HOOK] = ((native / "kernel-hook").read_bytes(), 0o755)
    for unit in UNITS:
        files[unit] = ((native / unit.name).read_bytes(), 0o644)
    if scope:
        files |= _scope_file(scope)
    return files


def _scope_file(scope: str) -> dict[Path, tuple[bytes, int]]:
    return {SCOPE: (f"options sysenter scope={scope}\n".encode(), 0o644)}


def _compiled_paths() -> dict[Path, int]:
    paths = {LIBRARY / name: 0o755 for name in _PROGRAMS}
    return {**paths, preload_library(): 0o644}


def _compiled_files(steps: Steps) -> dict[Path, tuple[bytes, int]]:
    """The programs of this machine's word size, compiled here."""
    arch = architecture()
    includes: list[str | Path] = ["-I", NATIVE / "present", "-I", NATIVE / "user"]
    argv: list[str | Path] = ["gcc", arch.compiler_option, "-O2", "-Wall", *includes]
    made: dict[Path, tuple[bytes, int]] = {}
    with scratch_folder() as folder:
        for program in _PROGRAMS:
            source = NATIVE / "install" / f"{program}.c"
            run_command(steps, [*argv, "-o", folder / program, source], what=f"compile {source.name}", timeout=60)
        library: list[str | Path] = [
            *PRELOAD_OPTIONS,
            "-o",
            folder / "libsysenter.so",
            NATIVE / f"user/preload_{arch}.c",
        ]
        run_command(steps, [*argv, *library], what="compile the preload library", timeout=60)
        for path, mode in _compiled_paths().items():
            made[path] = ((folder / path.name).read_bytes(), mode)
    return made


def plan_for(project: str, *, all_kernels: bool, at_boot: bool, scope: str | None) -> Plan:
    """What installing here takes; changes nothing. project: the project's version."""
    before = _manifest_before()
    if package := packaged():
        return _plan_beside_packages(package, before, all_kernels=all_kernels, at_boot=at_boot, scope=scope)
    version = tree_version(project)
    running = os.uname().release
    known = installed_kernels()
    kernels = tuple(k for k in known if all_kernels or k.release == running or _has_another(k, version))
    if not kernels and not all_kernels:
        kernels = (InstalledKernel(running, None, None),)
    headers = tuple(f"linux-headers-{k.release}" for k in kernels if k.headers is None)
    packages = (*missing_packages(FROM_DEBIAN), *headers)
    commands: list[tuple[str, ...]] = []
    if packages:
        commands.append(("apt-get", "install", "-y", "--no-install-recommends", *packages))
    known_versions = dkms.versions()
    if version not in known_versions:
        commands.append(("dkms", "add", f"{dkms.NAME}/{version}"))
    for kernel in kernels:
        commands += dkms.commands(version, kernel)
    commands += [("dkms", "remove", f"{dkms.NAME}/{old}", "--all") for old in known_versions if old != version]
    files = {path: mode for path, (_, mode) in _static_files(version, scope).items()} | _compiled_paths()
    if at_boot:
        commands.append(_ENABLE)
        files[AT_BOOT] = 0o644
    return Plan(version, kernels, packages, files, tuple(commands), _kept(before, at_boot=at_boot, scope=scope))


def _has_another(kernel: InstalledKernel, version: str) -> bool:
    """Whether a kernel has a module of another version, which goes, and can have one of this version instead."""
    return kernel.headers is not None and modinfo(kernel.release, "dkms_version") not in ("", version)


def _plan_beside_packages(
    version: str, before: Manifest | None, *, all_kernels: bool, at_boot: bool, scope: str | None
) -> Plan:
    """What an install takes where this project's Debian packages have brought the files."""
    states = [(k, kernel_status(k)) for k in installed_kernels() if all_kernels or k.release == os.uname().release]
    # what is there stays where nothing else can be built
    kernels = tuple(k for k, now in states if now.state == "not built" or (now.state != "built" and k.headers))
    files = {SCOPE: 0o644} if scope else {}
    commands = [argv for kernel in kernels for argv in dkms.commands(version, kernel)]
    if at_boot:
        commands.append(_ENABLE)
        files[AT_BOOT] = 0o644
    return Plan(version, kernels, (), files, tuple(commands), _kept(before, at_boot=at_boot, scope=scope))


def _kept(before: Manifest | None, *, at_boot: bool, scope: str | None) -> dict[Path, str]:
    kept = {}
    if before and str(SCOPE) in before.files and SCOPE.exists() and not scope:
        kept[SCOPE] = f"{'; '.join(read_word(str(SCOPE)).splitlines())} (--scope chooses another)"
    if AT_BOOT.exists() and not at_boot:
        kept[AT_BOOT] = f"loaded at each boot (rm {AT_BOOT} ends that)"
    return kept


def _fetch_packages(steps: Steps, packages: Sequence[str]) -> None:
    hint = "is there a network? A kernel that is not Debian's has no headers in Debian: install them by hand"

    def apt_get(*words: str, timeout: float) -> None:
        environment = {"DEBIAN_FRONTEND": "noninteractive"}
        argv = ["apt-get", *words]
        run_command(steps, argv, what=f"apt-get {words[0]}", timeout=timeout, env=environment, network=True, hint=hint)

    install = ("install", "-y", "--no-install-recommends")
    with steps.step(f"install Debian packages: {' '.join(packages)}"):
        _when_free(steps, lambda: apt_get("update", timeout=300))
        _when_free(steps, lambda: apt_get(*install, "--download-only", *packages, timeout=1800))

        def by_dpkg() -> None:
            # HAZARD: a signal ends what runs here, and dpkg that is killed leaves a system to be repaired. So it waits.
            with undisturbed():
                apt_get(*install, *packages, timeout=1800)

        _when_free(steps, by_dpkg)


def _when_free(steps: Steps, apt: Callable[[], None]) -> None:
    """Run apt once no other one, as of Debian's daily upgrades, holds what it needs. Raises SysenterError."""
    start, said = time.monotonic(), False
    while True:
        try:
            return apt()
        except SysenterError as error:
            if _HELD not in error.detail:
                raise
            if time.monotonic() - start > _PATIENCE:
                raise SysenterError(
                    f"another apt or dpkg has been at work on this machine for {_PATIENCE / 60:.0f} minutes",
                    hint="wait for it, or end it",
                    detail=error.detail,
                ) from error
        if not said:
            steps.say("         waiting for another apt or dpkg on this machine")
            said = True
        time.sleep(_AGAIN)


def _check_room() -> None:
    for folder in ("/usr/src", "/usr/lib", "/var/lib", "/etc/kernel", "/lib/modules"):
        status = os.statvfs(next(p for p in (Path(folder), *Path(folder).parents) if p.exists()))
        if status.f_flag & os.ST_RDONLY:
            raise SysenterError(f"{folder} is on a read-only file system", hint="remount it writable first")
        if status.f_bavail * status.f_frsize < 64 << 20:
            raise SysenterError(f"{folder} has less than 64 MiB free", hint="free some space first")


@contextmanager
def _for_everybody() -> Iterator[None]:
    """Folders that are made here, and files of DKMS's, can be read by everybody, whatever root's umask is."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


def install(
    steps: Steps, project: str, *, all_kernels: bool, at_boot: bool, scope: str | None, fetch: bool = True
) -> dict[str, str]:
    """Install; returns kernel release -> why it has no module ("" if it has one).

    project: the project's version. fetch: whether missing packages may be installed.
    Raises SysenterError if a step fails, everything undone: what was installed before is there again.
    """
    check_system()
    with alone(), _for_everybody():
        if version := packaged():
            return _beside_packages(steps, version, all_kernels=all_kernels, at_boot=at_boot, scope=scope)
        return _install(steps, project, all_kernels=all_kernels, at_boot=at_boot, scope=scope, fetch=fetch)


def _install(
    steps: Steps, project: str, *, all_kernels: bool, at_boot: bool, scope: str | None, fetch: bool
) -> dict[str, str]:
    before = _manifest_before(steps)
    plan = plan_for(project, all_kernels=all_kernels, at_boot=at_boot, scope=scope)
    _check_room()
    if plan.packages:
        if not fetch:
            raise SysenterError(
                f"missing Debian packages: {' '.join(plan.packages)}",
                hint=f"apt-get install --no-install-recommends {' '.join(plan.packages)}",
            )
        _fetch_packages(steps, plan.packages)
        plan = plan_for(project, all_kernels=all_kernels, at_boot=at_boot, scope=scope)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    manifest = Manifest(plan.version, now, packages=list(plan.packages))
    was = contents_of(before) if before and before.version in dkms.versions() else None
    if before is not None:  # an upgrade, or once more: what the old one wrote goes, at the latest by uninstall
        manifest.files, manifest.folders = list(before.files), list(before.folders)
        manifest.packages += before.packages
    refused = {}
    try:
        with steps.step("write the sources, the preload library and the units"):
            put(manifest, {**_static_files(plan.version, scope), **_compiled_files(steps)})
        dkms.add(steps, plan.version)
        for kernel in plan.kernels:
            with steps.step(f"build the module for {kernel.release}"):
                refused[kernel.release] = dkms.build(steps, plan.version, kernel)
        _forget_older(steps, manifest, plan)
        if at_boot:
            _at_boot(steps, manifest)
    except BaseException:
        with cleaning_up():
            if before is None or was is None:
                with steps.step("undo what was installed"):
                    remove_all(steps, manifest)
            else:
                with steps.step(f"bring {before.version} back"):
                    _bring_back(steps, manifest, plan, before, was)
        raise
    _say_kept(steps, plan)
    return refused


def _say_kept(steps: Steps, plan: Plan) -> None:
    for what in plan.kept.values():
        steps.say(f"         kept from the install before: {what}")


def _manifest_before(steps: Steps | None = None) -> Manifest | None:
    """The manifest of what is installed; of a damaged one's install what stands where install writes."""
    try:
        return read_manifest()
    except SysenterError as error:
        if steps:
            steps.say(f"         {error.message}: what is there is taken to be an install's")
    return what_stands()


def _bring_back(
    steps: Steps, manifest: Manifest, plan: Plan, before: Manifest, was: dict[Path, tuple[bytes, int]]
) -> None:
    """What was installed before an install that failed."""
    if plan.version != before.version and plan.version in dkms.versions():
        dkms.withdraw(steps, plan.version)
    dkms.remove_halves()
    put_back(manifest, before, was)
    dkms.add(steps, before.version)  # where it was taken away already
    for kernel in plan.kernels:
        if modinfo(kernel.release, "dkms_version") != before.version:
            dkms.build(steps, before.version, kernel)


def _beside_packages(
    steps: Steps, version: str, *, all_kernels: bool, at_boot: bool, scope: str | None
) -> dict[str, str]:
    """Install's wishes where this project's Debian packages have brought the files; their purge takes all away."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    before = _manifest_before(steps)
    manifest = before or Manifest(version, now)
    plan = _plan_beside_packages(version, before, all_kernels=all_kernels, at_boot=at_boot, scope=scope)
    for kernel in plan.kernels:
        with steps.step(f"build the module for {kernel.release}"):
            dkms.build(steps, version, kernel)
    refused = {}
    for kernel in installed_kernels():
        if all_kernels or kernel.release == os.uname().release:
            found = kernel_status(kernel)
            refused[kernel.release] = "" if found.state == "built" else found.reason
    try:
        if scope:
            put(manifest, _scope_file(scope))
        if at_boot:
            _at_boot(steps, manifest)
    except BaseException:
        if before is None:
            with cleaning_up():
                take_away(manifest)
        raise
    _say_kept(steps, plan)
    return refused


def _forget_older(steps: Steps, manifest: Manifest, plan: Plan) -> None:
    for old in dkms.versions():
        if old != plan.version:
            with steps.step(f"take the older version {old} away"):
                dkms.withdraw(steps, old)
    ours = {str(path) for path in (*plan.files, *plan.kept)}
    for name in [name for name in manifest.files if name not in ours]:
        remove(Path(name))
        manifest.files.remove(name)
    for name in sorted(manifest.folders, reverse=True):
        path = Path(name)
        if not any(Path(f).is_relative_to(path) for f in manifest.files):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
            if not path.exists():
                manifest.folders.remove(name)
    manifest.write()


def _at_boot(steps: Steps, manifest: Manifest) -> None:
    put(manifest, {AT_BOOT: (b"", 0o644)})
    (STATE / "fuse").unlink(missing_ok=True)
    run_command(
        steps,
        _ENABLE,
        what="enable the units",
        timeout=60,
        hint="--at-boot needs systemd; without it, load the module from your own boot script",
    )


def boot_state() -> str:
    """What Secure Boot and the kernel's own rule mean for loading, in a sentence; "" if nothing."""
    if secure_boot():
        return "Secure Boot is on: DKMS's key must be enrolled (mokutil --import /var/lib/dkms/mok.pub, then reboot)"
    if signatures_enforced():
        return "this kernel loads signed modules only"
    return "" if read_word("/proc/sys/kernel/modules_disabled") != "1" else "this kernel loads no more modules"
