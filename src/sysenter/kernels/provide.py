# SPDX-License-Identifier: GPL-2.0-or-later
"""From what the user says after `--kernel` to a target on the disk."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

from sysenter.cache import UNREADABLE, cache_folder, digest, file_sha256, fill, lock, write_whole
from sysenter.errors import SysenterError
from sysenter.kernels.cached import kernel_folder
from sysenter.kernels.catalogue import CATALOGUE, DebianKernel
from sysenter.kernels.debian import Apt, unpack, words_of
from sysenter.kernels.description import Description, read_description
from sysenter.kernels.toolchain import host_programs, module_compiler, wrap_host_program
from sysenter.steps import Steps
from sysenter.target.arch import I386, Architecture
from sysenter.target.generation import Generation
from sysenter.target.target import Guard, Target, guard_of

__all__ = ["provide", "unpacked_kernel"]

# Raise when what is unpacked changes: folders of another layout are made anew.
_LAYOUT = "2"
_USERLAND = ("libc6", "libgcc-s1", "coreutils", "busybox-static")  # libc opens libgcc when a thread is cancelled
# From the image's package: the kernel, and the driver that shows the MSRs.
_IMAGE_FILES = re.compile(r"^boot/|lib/modules/[^/]+/vmlinuz$|/kernel/arch/x86/kernel/msr\.ko")
_IMAGE_PACKAGES = ("linux-image-", "linux-binary-", "linux-modules-")


def provide(steps: Steps, kernel: str, *, offline: bool) -> Target:
    """The target that `kernel` names: one of the catalogue, or a kernel.toml.

    Fetches and unpacks what the cache does not hold. Raises SysenterError for an
    unknown name, a bad kernel.toml, damaged files, or a missing network.
    """
    for entry in CATALOGUE:
        if entry.name == kernel:
            with lock(f"kernel-{entry.name}"):
                return _debian_target(steps, entry, offline=offline)
    if kernel.endswith(".toml"):
        return _described_target(steps, read_description(Path(kernel)), offline=offline)
    names = ", ".join(entry.name for entry in CATALOGUE)
    raise SysenterError(f"unknown kernel {kernel!r}", hint=f"one of {names}, or the path of a kernel.toml")


def _debian_target(steps: Steps, entry: DebianKernel, *, offline: bool) -> Target:
    folder = kernel_folder(entry)
    record = unpacked_kernel(folder)
    if record is None:
        _unpack_kernel(steps, entry, folder, offline=offline)
        record = unpacked_kernel(folder)
        if record is None:
            raise SysenterError(f"{folder} is damaged right after it was made", hint="is the disk full or failing?")
    release = record["release"]
    headers = folder / f"usr/src/linux-headers-{release}"
    apt = Apt(steps, entry.release_suite, entry.arch.name, offline=offline)
    return Target(
        name=entry.name,
        arch=entry.arch,
        image=folder / record["image"],
        headers=headers,
        cc=module_compiler(steps, apt, headers),
        cpu=entry.cpu,
        cpus=1,
        qemu_args=(),
        append=entry.append,
        guard=_guard(steps, folder / record["image"], None, None, folder / "guard.json"),
        userland=userland(steps, entry.release_suite, entry.arch.name, offline=offline),
        modules=folder,
    )


def unpacked_kernel(folder: Path) -> dict[str, str] | None:
    """The record of an unpacked kernel; None if it is absent or damaged, or the cache was moved."""
    try:
        record: dict[str, str] = json.loads((folder / "kernel.json").read_text())
        # The headers' Makefile has the folder's path in it: a moved or copied cache would use the old place.
        makefile = (folder / f"usr/src/linux-headers-{record['release']}/Makefile").read_text(errors="replace")
        if (
            record["layout"] == _LAYOUT
            and f"{folder}/usr/src/" in makefile
            and file_sha256(folder / record["image"]) == record["sha256"]
        ):
            return record
    except UNREADABLE:
        pass
    return None


def _unpack_kernel(steps: Steps, entry: DebianKernel, folder: Path, *, offline: bool) -> None:
    apt = Apt(steps, entry.suite, entry.arch.name, offline=offline)
    names = _package_names(apt, entry, folder)
    packages = apt.fetch(names)
    with steps.step(f"unpack {entry.name}"), fill(folder) as new:
        for package in packages:
            if package.name.startswith(_IMAGE_PACKAGES):
                unpack(steps, package, new, lambda name: bool(_IMAGE_FILES.search(name)))
            else:
                unpack(steps, package, new)
        release = names[0].removeprefix("linux-image-")
        image = next(
            (i for i in (f"boot/vmlinuz-{release}", f"usr/lib/modules/{release}/vmlinuz") if (new / i).exists()), ""
        )
        if not image:
            raise SysenterError(f"no kernel image in {names[0]}", hint="a newer sysenter may know where it is now")
        # The packages expect to be at /usr/src; their Makefile says so once.
        makefile = new / f"usr/src/linux-headers-{release}/Makefile"
        makefile.write_text(makefile.read_text().replace("/usr/src/", f"{folder}/usr/src/"))
        for program in host_programs(new):
            wrap_host_program(steps, Apt(steps, entry.release_suite, entry.arch.name, offline=offline), program)
        record = {
            "layout": _LAYOUT,
            "release": release,
            "image": image,
            "sha256": file_sha256(new / image),
            "packages": " ".join(f"{p.name}={p.version}" for p in packages),
        }
        (new / "kernel.json").write_text(json.dumps(record))


def _package_names(apt: Apt, entry: DebianKernel, folder: Path) -> list[str]:
    """The packages of the kernel that the flavour's meta-package stands for."""
    names_file = folder.parent / f"{entry.name}.packages"
    if apt.offline and (known := words_of(names_file)):
        return known
    depends = apt.field(f"linux-image-{entry.flavour}", "Depends")
    match = re.search(r"linux-image-([\w.+-]+)", depends)
    if not match:
        raise SysenterError(
            f"Debian {entry.suite} names no kernel for linux-image-{entry.flavour}", hint="the mirror may be incomplete"
        )
    release = match[1]
    headers = apt.field(f"linux-headers-{release}", "Depends")
    more = re.findall(r"(linux-(?:headers|kbuild)-[\w.+-]+)", headers)
    # Since 6.17 the package of this name has nothing but dependencies.
    image = apt.field(f"linux-image-{release}", "Depends")
    more += re.findall(rf"(linux-(?:binary|modules)-{re.escape(release)})", image)
    names = [f"linux-image-{release}", f"linux-headers-{release}", *more]
    write_whole(names_file, " ".join(names))
    return names


def userland(steps: Steps, suite: str, architecture: str, *, offline: bool) -> Path:
    """Debian's dd, C library and a static shell, unpacked; returns their root."""
    folder = cache_folder() / "userland" / f"{suite}-{architecture}"
    stamp = folder / f"userland-{digest(_USERLAND)}.json"
    with lock(f"userland-{suite}-{architecture}"):
        try:
            record = json.loads(stamp.read_text())
            if all(file_sha256(folder / f) == s for f, s in record.items()):
                return folder
        except UNREADABLE:
            pass
        packages = Apt(steps, suite, architecture, offline=offline).fetch(_USERLAND)
        with steps.step(f"unpack dd, libc and a shell ({suite} {architecture})"), fill(folder) as new:
            for package in packages:
                unpack(steps, package, new, lambda name: not name.startswith("usr/share"))
            bin = "usr/bin" if (new / "usr/bin/dd").exists() else "bin"
            check = (f"{bin}/dd", f"{bin}/busybox")
            (new / stamp.name).write_text(json.dumps({f: file_sha256(new / f) for f in check}))
    return folder


def _guard(steps: Steps, image: Path, system_map: Path | None, arch: Architecture | None, kept: Path) -> Guard:
    """The guard of an image, as guard_of() has it; reading it takes seconds, so it is kept."""
    parts = [file_sha256(image), system_map.read_bytes() if system_map else "", _LAYOUT]
    key = digest([*parts, arch.name] if arch else parts)
    try:
        record = json.loads(kept.read_text())
        if record.pop("key") == key:
            return Guard(**record)
    except UNREADABLE:
        pass
    with steps.step("read the kernel's own symbols"):
        guard = guard_of(image, system_map, arch)
    write_whole(kept, json.dumps({"key": key, **asdict(guard)}))
    return guard


def _described_target(steps: Steps, kernel: Description, *, offline: bool) -> Target:
    kept = cache_folder() / "guards" / f"{digest([str(kernel.path)])}.json"
    guard = _guard(steps, kernel.image, kernel.system_map, kernel.arch, kept)
    if guard.release != kernel.release:
        raise SysenterError(
            f"{kernel.path}: release is {kernel.release!r}, but {kernel.image.name} is {guard.release!r}",
            hint="make the two agree",
        )
    debian = Generation.of(guard.release).runs_debian
    if not debian and kernel.arch is not I386:
        raise SysenterError(
            f"{kernel.path}: key 'arch' is {kernel.arch.name!r}, and {guard.release} is taken for i386 only",
            hint='arch = "i386", or another kernel',
        )
    # A tree of 2.2's or 2.4's has no such file: the build looks at what it has.
    made = kernel.headers / "include/generated/utsrelease.h"
    found = re.search(r'UTS_RELEASE "(.*)"', made.read_text(errors="replace")) if made.is_file() else None
    if found and found[1] != guard.release:
        raise SysenterError(
            f"{kernel.path}: {kernel.headers} is of {found[1]}, the kernel is {guard.release}",
            hint="`headers` must be the tree that the kernel was built from",
        )
    return Target(
        name=kernel.path.parent.name,
        arch=kernel.arch,
        image=kernel.image,
        headers=kernel.headers,
        cc=kernel.cc,
        cpu=kernel.cpu,
        cpus=2 if kernel.smp else 1,
        qemu_args=kernel.qemu_args,
        append=kernel.append,
        guard=guard,
        userland=userland(steps, "bookworm", kernel.arch.name, offline=offline) if debian else None,
        modules=None,
        system_map=kernel.system_map,
    )
