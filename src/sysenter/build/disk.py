# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk that a BIOS boots into a decompressed kernel: for emulators that load no kernel themselves.

Its boot sector (native/guest/disk_sector.S) reads two pieces to memory: the kernel,
with all that it is entered with, and the initramfs. Without the kernel's own real-mode
setup and decompressor a boot takes seconds less, under an emulator minutes.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path

from elftools.elf.elffile import ELFFile

from sysenter.build.boot import boot_params
from sysenter.build.native import NATIVE, compiler
from sysenter.cache import cache_folder, digest, file_sha256, fill, lock
from sysenter.errors import SysenterError
from sysenter.steps import Steps, run_command
from sysenter.target.image import read_bzimage
from sysenter.target.target import Target

__all__ = ["SMALLEST_MEMORY", "disk_image", "disk_kernel"]

# Physical addresses. A kernel is linked to stand at 16 MiB (CONFIG_PHYSICAL_START), below which is room.
_BASE = 0xE00000
_PAGE_TABLES, _BOOT_PARAMS, _COMMAND_LINE, _END = (_BASE + at for at in (0x1000, 0x7000, 0x8000, 0x9000))
_INITRD = 128 << 20
SMALLEST_MEMORY = 192  # MiB
_ACPI = 0x10000  # what the BIOS keeps for its tables at the memory's end
_BLOCK, _PIECES = 0x8000, 384  # disk_sector.S
_CYLINDER = 16 * 63 * 512
_RAM, _RESERVED, _ACPI_TABLES = 1, 2, 3  # types of the memory map (E820)


def disk_kernel(steps: Steps, target: Target) -> Path:
    """A folder with the boot sector and the kernel as it stands in memory, for disk_image()."""
    sources = [NATIVE / "guest/disk_sector.S", NATIVE / "guest/disk_entry.S"]
    key = digest([file_sha256(target.image), *(source.read_bytes() for source in sources), "1"])
    folder = cache_folder() / "boot" / f"{target.release}-disk-{key}"
    with lock("boot"):
        if not folder.exists():
            with steps.step("prepare the kernel for a boot from a disk"), fill(folder) as new:
                _make(steps, target, new)
    return folder


def _make(steps: Steps, target: Target, new: Path) -> None:
    image = read_bzimage(target.image.read_bytes(), str(target.image))
    elf = ELFFile(io.BytesIO(image.kernel))
    loads = [part for part in elf.iter_segments() if part["p_type"] == "PT_LOAD"]
    if min(part["p_paddr"] for part in loads) < _END or max(p["p_paddr"] + p["p_memsz"] for p in loads) > _INITRD:
        raise SysenterError(
            f"{target.release} is not linked to stand between {_END:#x} and {_INITRD:#x} in memory",
            hint="run it without --emulator bochs",
        )
    settings = {"KERNEL_ENTRY": elf["e_entry"], "BOOT_PARAMS": _BOOT_PARAMS}
    if target.arch.bits == 64:
        settings["PAGE_TABLES"] = _PAGE_TABLES
    memory = bytearray(max(part["p_paddr"] + part["p_filesz"] for part in loads) - _BASE)

    def put(at: int, data: bytes) -> None:
        memory[at - _BASE : at - _BASE + len(data)] = data

    put(_BASE, _assembled(steps, "disk_entry.S", _BASE, settings, new))
    put(_PAGE_TABLES, _page_tables())
    put(_BOOT_PARAMS, boot_params(image))
    for part in loads:
        put(part["p_paddr"], part.data())
    sector = _assembled(steps, "disk_sector.S", 0x7C00, {}, new)
    if len(sector) > _PIECES:
        raise SysenterError(f"the boot sector's code takes {len(sector)} bytes of {_PIECES}", hint="report it")
    (new / "sector").write_bytes(sector)
    (new / "memory").write_bytes(memory)


def _assembled(steps: Steps, source: str, address: int, settings: dict[str, int], scratch: Path) -> bytes:
    argv = [compiler(), "-m32", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none", f"-Wl,-Ttext={address:#x}"]
    argv += ["-Wl,--oformat=binary", *(f"-D{name}={value:#x}" for name, value in settings.items())]
    argv += ["-o", "assembled", str(NATIVE / "guest" / source)]
    run_command(steps, argv, what=f"assemble {source}", timeout=60, cwd=scratch)
    code = (scratch / "assembled").read_bytes()
    (scratch / "assembled").unlink()
    return code


def _page_tables() -> bytes:
    """The first 4 GiB at their own addresses, in pages of 2 MiB (SDM 3A 4.5): PML4, PDPT, four directories."""
    present, large = 3, 0x80
    top = struct.pack("<Q", (_PAGE_TABLES + 0x1000) | present).ljust(4096, b"\0")
    second = b"".join(struct.pack("<Q", (_PAGE_TABLES + 0x2000 + 0x1000 * n) | present) for n in range(4))
    return top + second.ljust(4096, b"\0") + b"".join(struct.pack("<Q", n << 21 | large | present) for n in range(2048))


def disk_image(folder: Path, command_line: str, initrd: bytes, memory: int) -> bytes:
    """A disk with the kernel of disk_kernel() and an initramfs. memory: MiB of the machine that it is for.

    Raises SysenterError if the initramfs has no room there.
    """
    top = (memory << 20) - _ACPI
    if _INITRD + len(initrd) > top:
        needed = (_INITRD + _ACPI + len(initrd) >> 20) + 64
        raise SysenterError(
            f"an initramfs of {len(initrd) >> 20} MiB has no room in {memory} MiB of memory",
            hint=f"the guest needs {needed} MiB here",
        )
    kernel = bytearray((folder / "memory").read_bytes())
    params = memoryview(kernel)[_BOOT_PARAMS - _BASE : _BOOT_PARAMS - _BASE + 4096]
    params[0x210] = 0xFF  # type_of_loader: none with a number of its own
    params[0x211] |= 1  # loadflags: LOADED_HIGH
    struct.pack_into("<II", params, 0x218, _INITRD, len(initrd))
    struct.pack_into("<I", params, 0x228, _COMMAND_LINE)
    ranges = (
        (0, 0x9F000, _RAM),
        (0x9F000, 0x61000, _RESERVED),
        (0x100000, top - 0x100000, _RAM),
        (top, _ACPI, _ACPI_TABLES),
    )
    params[0x1E8] = len(ranges)  # e820_entries
    for number, entry in enumerate(ranges):
        struct.pack_into("<QQI", params, 0x2D0 + 20 * number, *entry)
    line = command_line.encode(errors="surrogateescape") + b"\0"
    kernel[_COMMAND_LINE - _BASE : _COMMAND_LINE - _BASE + len(line)] = line
    disk, table = bytearray(_BLOCK), b""
    for address, data in ((_BASE, bytes(kernel)), (_INITRD, initrd)):
        blocks = -(-len(data) // _BLOCK)
        table += struct.pack("<III", len(disk) // 512, address, blocks)
        disk += data.ljust(blocks * _BLOCK, b"\0")
    sector = (folder / "sector").read_bytes().ljust(_PIECES, b"\0") + table
    disk[:512] = sector.ljust(510, b"\0") + b"\x55\xaa"
    return bytes(disk).ljust(-(-len(disk) // _CYLINDER) * _CYLINDER, b"\0")
