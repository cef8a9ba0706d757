# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds for Linux 2.2 and 2.4: the module, the guest's one program, its image."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from sysenter.build.module import Module
from sysenter.build.native import NATIVE, compiler, compiler_version, sources_digest
from sysenter.cache import cache_folder, digest, fill, lock
from sysenter.errors import SysenterError
from sysenter.kernels.debian import Apt, unpack
from sysenter.kernels.root import mke2fs
from sysenter.processes import output_of
from sysenter.steps import Steps, run_command
from sysenter.target.system_map import parse_system_map
from sysenter.target.target import Target

__all__ = ["build_legacy_module", "legacy_image", "legacy_image_of", "legacy_init", "legacy_preload"]

# No libc of today runs on 2.2 as it is: freestanding, static, and nothing that a
# Pentium III does not have.
_GUEST_OPTIONS = (
    "-m32",
    "-march=i586",
    "-mno-sse",
    "-mno-mmx",
    "-ffreestanding",
    "-nostdlib",
    "-static",
    "-fno-pie",
    "-no-pie",
    "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables",
    "-fomit-frame-pointer",
    "-fcf-protection=none",
    "-O2",
    "-Wall",
    "-Wextra",
    "-Wno-unused-parameter",
    "-Wno-missing-field-initializers",
    "-Werror",
    "-Wl,--build-id=none",
)
_IMAGE_KIB = 2048
_LEGACY_INITS: dict[str, tuple[str, ...]] = {
    "init": (),
    "init-syscall": ("-DBY_SYSCALL",),
    "init-int80": ("-DBY_INT80",),
}
_MUSL = "i386-linux-musl"  # Debian's name for musl's folders
_MUSL_LOADER = "lib/ld-musl-i386.so.1"


def build_legacy_module(steps: Steps, target: Target) -> Module:
    """Build the module for a 2.2 or 2.4 target, or take the one built before.

    Raises SysenterError with the compiler's last lines if it does not build.
    """
    if target.system_map is None:
        raise SysenterError(f"{target.name}: no System.map", hint="name it in kernel.toml")
    cc = target.cc or f"{compiler()} -m32"
    _check_headers(target)
    if not _is_compiler(cc.split()[0]):
        raise SysenterError(
            f"{cc.split()[0]} is no C compiler: it does not tell its version", hint="name one by `cc` in kernel.toml"
        )
    key = digest(
        [
            cc,
            compiler_version(cc.split()[0]),
            target.system_map.read_bytes(),
            str(target.headers),
            (target.headers / "include/linux/autoconf.h").read_bytes(),
            sources_digest("legacy"),
        ]
    )
    folder = cache_folder() / "modules" / f"{target.release}-{key}"
    with lock(f"module-{target.release}"):
        if not (folder / "sysenter.o").exists():
            with steps.step(f"build the module for {target.release}"), fill(folder) as new:
                sources = NATIVE / "legacy"
                run_command(
                    steps,
                    ["sh", sources / "build.sh", sources, target.headers, target.system_map, new],
                    what=f"build the module for {target.release}",
                    timeout=120,
                    env={"CC": cc, "LD": "ld -m elf_i386"},
                    hint="the lines above are the build's own",
                )
    return Module(folder / "sysenter.o", folder / "entry.o", folder / "offsets.h")


def _check_headers(target: Target) -> None:
    """Raise SysenterError if the headers are not configured, or not of the kernel's release."""
    config, version = (target.headers / "include/linux" / name for name in ("autoconf.h", "version.h"))
    for file, made_by in ((config, "make oldconfig"), (version, "make dep")):
        if not file.is_file():
            raise SysenterError(
                f"{target.headers} is no configured tree: it has no include/linux/{file.name}",
                hint=f"`{made_by}` in the kernel's source writes it",
            )
    found = re.search(r'^#define UTS_RELEASE "(.*)"', version.read_text(errors="replace"), re.MULTILINE)
    # vendors have several in there, for one of several configurations
    if not re.search(rf'UTS_RELEASE "{re.escape(target.release)}"', version.read_text(errors="replace")):
        raise SysenterError(
            f"{target.headers} is of {found[1] if found else 'no release'}, the kernel is {target.release}",
            hint="`headers` in kernel.toml must be the tree that the kernel was built from",
        )


@cache
def _is_compiler(cc: str) -> bool:
    return bool(re.match(r"(egcs-)?\d", output_of([cc, "-dumpversion"])))


def legacy_init(steps: Steps) -> Path:
    """The guest's program: init, loader, workloads and hostile callers.

    The folder also has init-syscall, the same program for AMD's instruction, and init-int80,
    the same for int 0x80, which does the same work without the module.
    """
    folder = (
        cache_folder() / "programs" / f"legacy-{digest([compiler_version(compiler()), sources_digest('guest/legacy')])}"
    )
    with lock("programs"):
        if not folder.exists():
            with steps.step("compile the guest's program (2.2, 2.4)"), fill(folder) as new:
                sources = sorted((NATIVE / "guest/legacy").glob("*.c"))
                for name, options in _LEGACY_INITS.items():
                    run_command(
                        steps,
                        [compiler(), *_GUEST_OPTIONS, *options, "-o", new / name, *sources],
                        what="compile guest/legacy",
                        timeout=120,
                        hint="is gcc with 32-bit support (gcc-multilib) installed? `./sysenter doctor` tells",
                    )
    return folder / "init"


def _has_mmap2(target: Target) -> bool:
    assert target.system_map is not None
    return "sys_mmap2" in parse_system_map(target.system_map.read_text(errors="replace"), str(target.system_map))


def legacy_preload(steps: Steps, target: Target, *, offline: bool) -> dict[str, bytes]:
    """A dynamically linked dd, and the library for its LD_PRELOAD.

    Today's glibc refuses 2.4. Debian's musl runs there: it uses modify_ldt if there is no
    set_thread_area. On 2.2 before.c runs before musl's loader and replaces the two calls that
    are missing. Returns the guest's files by name.
    """
    apt = Apt(steps, "bookworm", "i386", offline=offline)
    packages = apt.fetch(["musl", "musl-dev"])
    cc = compiler()
    key = digest(
        [
            compiler_version(cc),
            sources_digest("guest/legacy", "legacy"),
            Path(__file__).read_bytes(),
            *(p.version for p in packages),
        ]
    )
    folder = cache_folder() / "programs" / f"legacy-musl-{key}"
    with lock("programs"):
        if not folder.exists():
            with steps.step("compile dd and the preload library (musl)"), fill(folder) as new:
                root = new / "musl"
                for package in packages:
                    unpack(steps, package, root, lambda name: not name.startswith("usr/share"))
                built_in = run_command(
                    steps, [cc, "-print-file-name=include"], what="ask gcc for its headers", timeout=20
                ).strip()
                library = root / "usr/lib" / _MUSL
                common: list[str | Path] = [
                    "-m32",
                    "-march=i586",
                    "-fcf-protection=none",
                    "-fno-stack-protector",
                    "-O2",
                    "-nostdlib",
                ]
                dd: list[str | Path] = [
                    "-fno-pie",
                    "-no-pie",
                    "-U_FORTIFY_SOURCE",
                    "-nostdinc",
                    "-isystem",
                    root / "usr/include" / _MUSL,
                    "-isystem",
                    built_in,
                    f"-Wl,--dynamic-linker=/{_MUSL_LOADER}",
                    "-o",
                    new / "dd",
                    library / "crt1.o",
                    library / "crti.o",
                    NATIVE / "guest/legacy/musl/dd.c",
                    "-L",
                    root / "lib" / _MUSL,
                    "-lc",
                    library / "crtn.o",
                ]
                preload: list[str | Path] = [
                    "-shared",
                    "-fPIC",
                    "-o",
                    new / "libsysenter.so",
                    NATIVE / "legacy/preload.c",
                ]
                before: list[str | Path] = [
                    *_GUEST_OPTIONS,
                    "-Wl,-Ttext-segment=0x50000000",
                    "-o",
                    new / "before",
                    NATIVE / "guest/legacy/musl/before.c",
                ]
                for name, options in (
                    ("dd", [*common, *dd]),
                    ("libsysenter.so", [*common, *preload]),
                    ("before", before),
                ):
                    run_command(
                        steps,
                        [cc, *options],
                        what=f"compile {name} against musl",
                        timeout=60,
                        hint="is gcc with 32-bit support (gcc-multilib) installed? `./sysenter doctor` tells",
                    )
    musl = (folder / "musl/lib" / _MUSL / "libc.so").read_bytes()
    loader = {_MUSL_LOADER: musl}
    if not _has_mmap2(target):
        loader = {_MUSL_LOADER: (folder / "before").read_bytes(), "lib/libc.so": musl}
    return {
        **loader,
        "bin/dd": (folder / "dd").read_bytes(),
        "lib/libsysenter.so": (folder / "libsysenter.so").read_bytes(),
    }


def legacy_image(steps: Steps, files: Mapping[str, bytes], work: Path) -> bytes:
    """A ramdisk with `files` (name to content).

    work: a folder to make it in. Device nodes are the guest's own affair, so
    this takes no root.
    """
    root = work / "root"
    # a block, and what tells where it is, for each KiB; tables of inodes
    needed = sum(len(content) // 1000 + 3 for content in files.values()) + _IMAGE_KIB // 16
    if needed > _IMAGE_KIB:
        raise SysenterError(
            f"the guest's files take {needed} KiB, its ramdisk has {_IMAGE_KIB}",
            hint=f"its plan is {len(files.get('plan', b'')) >> 10} KiB of it: fewer --rounds",
        )
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o755)
    return legacy_image_of(steps, root, work / "ramdisk")


def legacy_image_of(steps: Steps, root: Path, image: Path, *, kib: int = _IMAGE_KIB) -> bytes:
    """A folder as an ext2 ramdisk of `kib` KiB as 2.2 reads it: revision 0."""
    run_command(
        steps,
        [
            mke2fs(),
            "-q",
            "-F",
            "-t",
            "ext2",
            "-r",
            "0",
            "-O",
            "none",
            "-b",
            "1024",
            "-N",
            str(kib // 4),
            "-d",
            root,
            image,
            str(kib),
        ],
        what="make the guest's ramdisk",
        timeout=60,
    )
    return image.read_bytes()
