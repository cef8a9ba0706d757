# SPDX-License-Identifier: GPL-2.0-or-later
"""The form of a kernel that QEMU starts fastest."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.elffile import ELFFile

from sysenter.build.native import NATIVE, compiler
from sysenter.cache import cache_folder, digest, file_sha256, fill, lock
from sysenter.steps import Steps, run_command
from sysenter.target.image import BzImage, read_bzimage
from sysenter.target.memory import has_pvh_entry
from sysenter.target.target import Target

__all__ = ["boot_image", "boot_params", "entered_behind_header", "legacy_boot_image"]

_SHIM_AT = 0x100000
_JMP_SHORT = 0xEB


@dataclass(frozen=True)
class _Segment:
    address: int
    data: bytes
    memory_size: int


def boot_image(steps: Steps, target: Target) -> Path:
    """The file to give to QEMU's -kernel for `target`, a present kernel.

    On i386 its decompressed ELF file behind a Multiboot shim (native/guest/boot.S); on amd64
    that file as it is, by its PVH entry (CONFIG_PVH), or the image if it has none.
    """
    if not target.arch.multiboot:
        return _vmlinux(steps, target) or target.image
    shim = NATIVE / "guest/boot.S"
    key = digest([file_sha256(target.image), shim.read_bytes(), "1"])
    folder = cache_folder() / "boot" / f"{target.release}-{key}"
    with lock("boot"):
        if not (folder / "kernel.elf").exists():
            with steps.step("prepare the kernel for a fast boot"), fill(folder) as new:
                image = read_bzimage(target.image.read_bytes(), str(target.image))
                (new / "kernel.elf").write_bytes(_multiboot(steps, image, shim, new))
    return folder / "kernel.elf"


def legacy_boot_image(steps: Steps, target: Target) -> Path:
    """The file to give to QEMU's -kernel for a 2.2 or 2.4: its bzImage, or one made of it (entered_behind_header)."""
    image = target.image.read_bytes()
    mended = entered_behind_header(image)
    if mended == image:
        return target.image
    folder = cache_folder() / "boot" / f"{target.release}-{digest([mended])}"
    with lock("boot"):
        if not folder.exists():
            with steps.step("move the entry of the kernel's setup out of QEMU's way"), fill(folder) as new:
                (new / "bzImage").write_bytes(mended)
    return folder / "bzImage"


def entered_behind_header(image: bytes) -> bytes:
    """A bzImage that boots although QEMU's -kernel writes four bytes at 0x22c of its setup.

    From version 2.03 of the boot protocol on that is initrd_addr_max, and the image is
    returned as it is. Before that (Documentation/i386/boot.txt) 2.2's setup has its first
    instructions there. So the setup gets one more sector, with code that restores these bytes
    and jumps to them. The jump at 0x200 reaches that code through the four bytes at 0x220,
    which only a kernel's own boot sector uses (bootsect_kludge).
    """
    sectors = image[0x1F1] or 4
    entry = 0x202 + image[0x201]
    (version,) = struct.unpack_from("<H", image, 0x206)
    if image[0x202:0x206] != b"HdrS" or version >= 0x203 or image[0x200] != _JMP_SHORT or not 0x22C <= entry < 0x230:
        return image
    at = 512 * (sectors + 1) - 0x200  # of the sector that is added, in the setup's segment
    overwritten = image[0x22C:0x230]
    put_back = b"\x2e\x66\xc7\x06" + struct.pack("<H", 0x2C) + overwritten  # movl $overwritten,%cs:0x2c (16-bit)
    put_back += _jump(at + len(put_back), entry - 0x200)
    head = bytearray(image[: at + 0x200])
    head[0x1F1] = sectors + 1
    head[0x201] = 0x220 - 0x202
    head[0x220:0x223] = _jump(0x20, at)
    return bytes(head) + put_back.ljust(512, b"\0") + image[at + 0x200 :]


def _jump(at: int, to: int) -> bytes:
    """jmp rel16 at `at`."""
    return b"\xe9" + struct.pack("<h", to - (at + 3))


def _vmlinux(steps: Steps, target: Target) -> Path | None:
    """The kernel as an ELF file; None if QEMU has no entry to it."""
    folder = cache_folder() / "boot" / f"{target.release}-{digest([file_sha256(target.image), '2'])}"
    with lock("boot"):
        if not folder.exists():
            with steps.step("prepare the kernel for a fast boot"), fill(folder) as new:
                image = read_bzimage(target.image.read_bytes(), str(target.image))
                if has_pvh_entry(image):
                    (new / "vmlinux").write_bytes(image.kernel)
    return folder / "vmlinux" if (folder / "vmlinux").exists() else None


def boot_params(image: BzImage) -> bytes:
    """The zero page (zero-page.rst), with a copy of the kernel's setup header."""
    page = bytearray(4096)
    end = 0x202 + image.setup[0x201]
    page[0x1F1:end] = image.setup[0x1F1:end]
    struct.pack_into("<H", page, 0x1FA, 0xFFFF)  # vid_mode: normal
    return bytes(page)


def _multiboot(steps: Steps, image: BzImage, shim: Path, scratch: Path) -> bytes:
    elf = ELFFile(io.BytesIO(image.kernel))
    (scratch / "boot_params.bin").write_bytes(boot_params(image))
    entry = f"-DKERNEL_ENTRY={elf['e_entry']:#x}"
    argv = [
        compiler(),
        "-m32",
        "-nostdlib",
        "-static",
        "-Wl,--build-id=none",
        f"-Wl,-Ttext={_SHIM_AT:#x}",
        "-Wa,-I,.",
        entry,
        "-o",
        "shim.elf",
        str(shim),
    ]
    run_command(steps, argv, what="assemble the boot shim", timeout=60, cwd=scratch)
    shim_elf = ELFFile(io.BytesIO((scratch / "shim.elf").read_bytes()))
    at_shim = [part for part in shim_elf.iter_segments() if part["p_vaddr"] == _SHIM_AT]
    segments = [_Segment(_SHIM_AT, part.data(), part["p_memsz"]) for part in at_shim]
    for part in elf.iter_segments():
        if part["p_type"] == "PT_LOAD":
            segments.append(_Segment(part["p_paddr"], part.data(), part["p_memsz"]))
    return _elf32(segments, shim_elf["e_entry"])


def _elf32(segments: list[_Segment], entry: int) -> bytes:
    """An ELF32 executable; Multiboot wants its header in the first 8 KiB."""
    offset = 52 + 32 * len(segments)
    headers, data = b"", b""
    for segment in segments:
        padding = -(offset + len(data)) % 16
        data += bytes(padding)
        at = offset + len(data)
        headers += struct.pack(
            "<8I", 1, at, segment.address, segment.address, len(segment.data), segment.memory_size, 7, 16
        )
        data += segment.data
    ident = b"\x7fELF\x01\x01\x01".ljust(16, b"\0")
    header = ident + struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, entry, 52, 0, 0, 52, 32, len(segments), 0, 0, 0)
    return header + headers + data
