# SPDX-License-Identifier: GPL-2.0-or-later
"""What is inside a kernel image: the setup header, the decompressed kernel.

Source of the layout: Documentation/x86/boot.rst ("The Real-Mode Kernel
Header") and Documentation/x86/zero-page.rst of the kernel.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lz4.block
import zstandard

from sysenter.errors import SysenterError

__all__ = ["BzImage", "banner", "read_bzimage"]

_HDRS = b"HdrS"
_XZ, _GZIP, _ZSTD = b"\xfd7zXZ\0", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"
_BZIP2, _LZMA, _LZ4 = b"BZh", b"\x5d\0\0", b"\x02\x21\x4c\x18"
_LZ4_BLOCK = 8 << 20  # what each but the last unpacks to
_ELF = b"\x7fELF"
_DAMAGED = (ValueError, OSError, EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError, lz4.block.LZ4BlockError)


@dataclass(frozen=True)
class BzImage:
    """A Linux/x86 boot image."""

    setup: bytes
    """The real-mode part with the setup header at 0x1f1."""
    version: str
    """What `uname -r` and `uname -v` will say, in one line."""
    kernel: bytes
    """The decompressed kernel: an ELF file since 2.6.2x, before that the flat binary that runs at
    `load_address`."""
    load_address: int

    @property
    def release(self) -> str:
        """`uname -r` of this kernel."""
        return self.version.split(" ", 1)[0]

    @property
    def is_elf(self) -> bool:
        """Whether the payload is an ELF file (False on 2.2 and 2.4)."""
        return self.kernel.startswith(_ELF)


def _decompress(payload: bytes) -> bytes:
    # The payload carries the length of the kernel behind its stream, so
    # trailing bytes are expected; an end that is missing is not.
    decompressor: Any
    if payload.startswith(_XZ):
        decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ)
    elif payload.startswith(_GZIP):
        decompressor = zlib.decompressobj(16 + zlib.MAX_WBITS)
    elif payload.startswith(_ZSTD):
        decompressor = zstandard.ZstdDecompressor().decompressobj()
    elif payload.startswith(_BZIP2):
        decompressor = bz2.BZ2Decompressor()
    elif payload.startswith(_LZMA):
        decompressor = lzma.LZMADecompressor(lzma.FORMAT_ALONE)
    elif payload.startswith(_LZ4):
        return _decompress_lz4(payload)
    else:
        raise ValueError("unknown compression")
    data: bytes = decompressor.decompress(payload)
    if not decompressor.eof:
        raise EOFError
    return data


def _decompress_lz4(payload: bytes) -> bytes:
    """`lz4 -l`: blocks, the length before each, and no end; then the kernel's length."""
    at, end, data = len(_LZ4), len(payload) - 4, b""
    while at < end:
        (size,) = struct.unpack_from("<I", payload, at)
        data += lz4.block.decompress(payload[at + 4 : min(at + 4 + size, end)], uncompressed_size=_LZ4_BLOCK)
        at += 4 + size
    if at != end or len(data) != struct.unpack_from("<I", payload, end)[0]:
        raise EOFError
    return data


def _version(setup: bytes) -> str:
    """kernel_version of the setup header: a pointer at 0x20e, less 0x200."""
    (at,) = struct.unpack_from("<H", setup, 0x20E)
    return setup[0x200 + at : 0x200 + at + 256].split(b"\0")[0].decode("ascii", "replace")


def banner(path: Path) -> str:
    """What `uname -r` and `uname -v` will say of an image, in one line; "" if it is none. Unpacks nothing."""
    try:
        with path.open("rb") as file:
            setup = file.read(0x8000)
    except OSError:
        return ""
    return _version(setup) if len(setup) > 0x210 and setup[0x202:0x206] == _HDRS else ""


def read_bzimage(data: bytes, name: str) -> BzImage:
    """Take a bzImage apart.

    `data` is the file, `name` what to call it in an error. Raises
    SysenterError if it is not a Linux/x86 boot image or is damaged.
    """

    def bad(why: str) -> SysenterError:
        return SysenterError(f"{name}: {why}", hint="give the bzImage or vmlinuz of a Linux/x86 kernel")

    if len(data) < 0x10000 or data[0x202:0x206] != _HDRS:
        raise bad("not a Linux/x86 boot image (no HdrS at 0x202)")
    (protocol,) = struct.unpack_from("<H", data, 0x206)
    setup_size = ((data[0x1F1] or 4) + 1) * 512
    version = _version(data[:0x8000])
    body = data[setup_size:]
    if protocol >= 0x208:
        offset, length = struct.unpack_from("<II", data, 0x248)
        candidates = [body[offset : offset + length]]
    else:
        # Before protocol 2.08 nothing says where the payload is; 2.2 and 2.4
        # compress with gzip, whose deflate header has flags 0 there.
        candidates = []
        at = body.find(_GZIP)
        while at >= 0 and len(candidates) < 16:
            candidates.append(body[at:])
            at = body.find(_GZIP, at + 1)
    for payload in candidates:
        try:
            kernel = _decompress(payload)
        except _DAMAGED:
            continue
        if len(kernel) > 0x40000:
            return BzImage(data[:setup_size], version, kernel, 0xC0100000)
    raise bad("its compressed kernel cannot be unpacked; the file is damaged, cut short, or compressed with LZO")
