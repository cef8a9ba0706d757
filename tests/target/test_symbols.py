# SPDX-License-Identifier: GPL-2.0-or-later
"""The guard is only as good as what is read off the kernel."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
from collections.abc import Callable
from pathlib import Path

import lz4.block
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from sysenter.errors import SysenterError
from sysenter.lab.guest import Output
from sysenter.target import kallsyms as kallsyms_module
from sysenter.target.exports import exported
from sysenter.target.image import read_bzimage
from sysenter.target.kallsyms import kallsyms
from sysenter.target.memory import Memory
from sysenter.target.system_map import parse_system_map
from sysenter.target.target import Target, guard_of


def test_kallsyms_in_the_image_are_what_the_running_kernel_says(
    target: Target, in_guest: Callable[..., Output]
) -> None:
    output = in_guest("grep ' [tT] ' /proc/kallsyms | grep -v '\\[' | head -n 3000; uname -v", load=False)
    symbols = kallsyms(Memory.of(read_bzimage(target.image.read_bytes(), "image")))
    lines = [line.split() for line in output.text[:-1] if len(line.split()) == 3]
    seen: set[str] = set()
    for address, _, name in lines:
        if name not in seen:
            assert symbols[name] == int(address, 16), name
        seen.add(name)
    assert len(seen) > 2000
    assert output.text[-1] == target.guard.version


@pytest.mark.parametrize("relocatable", [True, False])
def test_a_table_without_a_base(target: Target, relocatable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As since 7.0: a number counts from its own place, or is the address in a 32-bit kernel that cannot move."""
    memory = Memory.of(read_bzimage(target.image.read_bytes(), "image"))
    seen: list[tuple[tuple[int, ...], int]] = []

    def resolve(names: list[str], offsets: tuple[int, ...], base: int, word: int) -> dict[str, int]:
        seen.append((offsets, base))
        return resolved(names, offsets, base, word)

    resolved = kallsyms_module._resolve
    monkeypatch.setattr(kallsyms_module, "_resolve", resolve)
    symbols = kallsyms(memory)
    ((offsets, base),) = seen
    table = struct.pack(f"<{len(offsets)}i", *offsets)
    (at,) = memory.find(table)
    addresses = [base + (offset & 0xFFFFFFFF) for offset in offsets]
    # in a later kernel's link no symbol is below the text, or an address of a per-CPU area's
    numbers = [a - (at + 4 * i) if relocatable else a for i, a in enumerate(addresses)]
    new = struct.pack(f"<{len(offsets)}I", *(n & 0xFFFFFFFF for n in numbers)) + bytes(4)
    pieces = []
    for start, data in memory.pieces:
        if start <= at < start + len(data):
            data = data[: at - start] + new + data[at - start + len(new) :]
        pieces.append((start, data))
    assert kallsyms(Memory(tuple(pieces), memory.bits)) == symbols
    assert len(seen) == 1, "read as a table with a base"


def test_a_damaged_image_is_named(target: Target, tmp_path: Path) -> None:
    data = bytearray(target.image.read_bytes())
    damaged = tmp_path / "vmlinuz"
    for change in (data[: len(data) // 2], b"", data[:0x202] + b"xxxx" + data[0x206:]):
        damaged.write_bytes(change)
        with pytest.raises(SysenterError, match=str(damaged)):
            guard_of(damaged, None)


def _lz4_legacy(data: bytes) -> bytes:
    blocks = [lz4.block.compress(data[at : at + (8 << 20)], store_size=False) for at in range(0, len(data), 8 << 20)]
    return b"\x02\x21\x4c\x18" + b"".join(struct.pack("<I", len(block)) + block for block in blocks)


@pytest.mark.parametrize(
    "compress",
    [
        gzip.compress,
        bz2.compress,
        lambda data: lzma.compress(data, preset=0),  # any preset shows it, the default takes a minute of a core
        zstandard.compress,
        _lz4_legacy,
        lambda data: lzma.compress(data, lzma.FORMAT_ALONE, preset=0),
    ],
    ids=["gzip", "bzip2", "xz", "zstd", "lz4", "lzma"],
)
def test_each_compression_that_a_kernel_may_have(target: Target, compress: Callable[[bytes], bytes]) -> None:
    """As arch/x86/boot/compressed makes it: the stream, then the kernel's length."""
    image = target.image.read_bytes()
    kernel = read_bzimage(image, "image").kernel[: 9 << 20]
    payload = compress(kernel) + struct.pack("<I", len(kernel))
    setup = bytearray(image[: (image[0x1F1] + 1) * 512])
    struct.pack_into("<II", setup, 0x248, 64, len(payload))
    assert read_bzimage(bytes(setup) + bytes(64) + payload, "made").kernel == kernel
    with pytest.raises(SysenterError, match="damaged"):
        read_bzimage(bytes(setup) + bytes(64) + payload[: len(payload) // 2], "cut")


def test_a_system_map_of_another_kernel_is_refused(target: Target, tmp_path: Path) -> None:
    path = tmp_path / "System.map"
    path.write_text(f"{target.guard.stext:08x} T _stext\n{target.guard.sock_register:08x} T sock_register\n")
    assert guard_of(target.image, path) == target.guard
    path.write_text(f"{target.guard.stext:08x} T _stext\n{target.guard.sock_register + 16:08x} T sock_register\n")
    with pytest.raises(SysenterError, match="of another kernel: sock_register"):
        guard_of(target.image, path)


@given(st.text(max_size=200))
def test_a_system_map_is_parsed_or_refused(text: str) -> None:
    try:
        symbols = parse_system_map(text, "map")
    except SysenterError as error:
        message = str(error)
    else:
        message = "map" if symbols else "accepted without a symbol"
    assert message.startswith("map")


@given(st.integers(0xC0000000, 0xFEFFFFFF), st.integers(0, 64))
def test_an_export_table_of_old_kernels_is_found_by_its_string(value: int, padding: int) -> None:
    base = 0xC0100000
    string = bytes(4 * padding) + b"\0sock_register\0"
    string += bytes(-len(string) % 4)
    table = struct.pack("<II", value, base + string.index(b"sock_register"))
    memory = Memory(((base, string + table),), 32)
    assert exported(memory, "sock_register") == value
    assert exported(memory, "sock_unregister") is None
