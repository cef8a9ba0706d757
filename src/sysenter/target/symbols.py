# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a kernel keeps its symbols, and how to read them without booting it.

Three sources, each the kernel's own:
- kallsyms, compressed inside every present kernel (kernel/kallsyms.c,
  scripts/kallsyms.c);
- the export table of 2.2 and 2.4, pairs of (address, pointer to name);
- System.map, which must be held against one of the two: it is a separate file
  and may belong to another kernel.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import NoteSegment

from sysenter.errors import SysenterError
from sysenter.target.image import BzImage

__all__ = ["Memory", "build_id", "exported", "has_pvh_entry", "kallsyms", "parse_system_map"]

# In kallsyms_token_table the digits stand for themselves: nothing in a kernel
# but this table has these twenty bytes in a row.
_DIGITS = b"".join(bytes([c, 0]) for c in b"0123456789")
_TYPES = frozenset(bytes([c]) for c in b"tTdDbBrRwWaAvVuni?")
_MAP_LINE = re.compile(r"^([0-9a-fA-F]{8,16}) ([A-Za-z?]) (\S+)")


@dataclass(frozen=True)
class Memory:
    """The kernel's initialised memory: (virtual address, bytes) pieces."""

    pieces: tuple[tuple[int, bytes], ...]
    bits: int

    @classmethod
    def of(cls, image: BzImage) -> Memory:
        """Lay out `image`'s kernel as it will stand in memory, before KASLR."""
        if not image.is_elf:
            return cls(((image.load_address, image.kernel),), 32)
        try:
            elf = ELFFile(io.BytesIO(image.kernel))
            pieces = tuple(
                (int(s["p_vaddr"]), s.data()) for s in elf.iter_segments() if s["p_type"] == "PT_LOAD" and s["p_filesz"]
            )
            return cls(pieces, int(elf.elfclass))
        except ELFError as error:
            raise SysenterError(f"the kernel inside the image is no readable ELF file: {error}") from error

    def find(self, needle: bytes) -> Iterator[int]:
        """Addresses at which `needle` stands."""
        for base, data in self.pieces:
            at = data.find(needle)
            while at >= 0:
                yield base + at
                at = data.find(needle, at + 1)


def parse_system_map(text: str, name: str) -> dict[str, int]:
    """Symbols of a System.map; of a name that occurs twice, the first.

    Raises SysenterError if a line is not `address type name`.
    """
    symbols: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        match = _MAP_LINE.match(line)
        if not match:
            raise SysenterError(
                f"{name}:{number}: not a System.map line: {line[:40]!r}, expected 'address type name'",
                hint="give the System.map that this kernel's build wrote",
            )
        symbols.setdefault(match[3], int(match[1], 16))
    if not symbols:
        raise SysenterError(f"{name}: no symbols in it", hint="give the System.map that this kernel's build wrote")
    return symbols


def exported(memory: Memory, name: str) -> int | None:
    """Address that a 2.2 or 2.4 kernel's export table gives for `name`.

    The table (struct module_symbol: value, pointer to name) has no header, so
    go from the string to the pointer to it to the value before that pointer.
    With CONFIG_MODVERSIONS the string ends in _R and a checksum.
    Returns None if the kernel does not export the name.
    """
    plain = b"\0" + name.encode()
    for string_at in [*memory.find(plain + b"\0"), *memory.find(plain + b"_R")]:
        for pointer_at in memory.find(struct.pack("<I", string_at + 1)):
            for base, data in memory.pieces:
                if base + 4 <= pointer_at < base + len(data) and pointer_at % 4 == 0:
                    (value,) = struct.unpack_from("<I", data, pointer_at - 4 - base)
                    if 0xC0000000 <= value < 0xFF000000:
                        return int(value)
    return None


def _tokens(data: bytes, digits_at: int) -> tuple[int, list[bytes], int] | None:
    """Token table around its digits: (its offset, 256 tokens, offset behind it)."""
    start = digits_at
    for _ in range(ord("0")):  # one NUL ends each token before the digits
        start = data.rfind(b"\0", 0, start - 1) + 1
        if start <= 0:
            return None
    tokens, at = [], start
    for _ in range(256):
        end = data.find(b"\0", at, at + 64)
        if end < 0:
            return None
        tokens.append(data[at:end])
        at = end + 1
    # Other tables of characters have the digits in a row too; only this one
    # is text throughout.
    return (start, tokens, at) if all(t.isascii() and t.decode().isprintable() for t in tokens) else None


def _align(value: int, to: int) -> int:
    return -(-value // to) * to


def _name_at(data: bytes, at: int) -> tuple[int, int]:
    """Where the compressed name at `at` begins and ends, behind its length."""
    length, at = data[at], at + 1
    if length & 0x80:  # two bytes, since 6.1, for names of more than 127 tokens
        length, at = (length & 0x7F) | data[at] << 7, at + 1
    return at, at + length


def _names_length(data: bytes, at: int, count: int) -> int:
    """Bytes that the first `count` compressed names take."""
    start = at
    for _ in range(count):
        at = _name_at(data, at)[1]
    return at - start


def _names(data: bytes, at: int, count: int, tokens: list[bytes]) -> tuple[list[str], int] | None:
    """`count` names and the offset behind them, or None if those are not names."""
    names: list[str] = []
    for _ in range(count):
        begin, end = _name_at(data, at) if at + 2 < len(data) else (0, 0)
        # a type letter and a name; KSYM_NAME_LEN is 512
        if not begin < end <= begin + 512 or tokens[data[begin]][:1] not in _TYPES:
            return None
        text = b"".join([tokens[c] for c in data[begin:end]])
        names.append(text[1:].decode("ascii"))
        at = end
    return names, at


def kallsyms(memory: Memory) -> dict[str, int]:
    """Symbols in a present kernel's own kallsyms; of a name given twice, the first.

    Addresses are those of the link, before KASLR moves them. Raises
    SysenterError if there is no kallsyms table in a layout known here.
    """
    for base, data in memory.pieces:
        digits_at = data.find(_DIGITS)
        while digits_at >= 0:
            found = _tokens(data, digits_at)
            symbols = _kallsyms_at(base, data, memory.bits, *found) if found else None
            if symbols:
                return symbols
            digits_at = data.find(_DIGITS, digits_at + 1)
    raise SysenterError(
        "no kallsyms table found in the kernel image",
        hint="sysenter needs a kernel with CONFIG_KALLSYMS and CONFIG_KALLSYMS_BASE_RELATIVE",
    )


def _kallsyms_at(
    base: int, data: bytes, bits: int, table_at: int, tokens: list[bytes], table_end: int
) -> dict[str, int] | None:
    # Between one table and the next there is padding to a word of the kernel's,
    # since 7.0 to 4 bytes.
    for word in {bits // 8, 4}:
        symbols = _kallsyms_aligned(base, data, bits // 8, word, table_at, tokens, table_end)
        if symbols:
            return symbols
    return None


def _kallsyms_aligned(
    base: int, data: bytes, word: int, align: int, table_at: int, tokens: list[bytes], table_end: int
) -> dict[str, int] | None:
    # kallsyms_num_syms, kallsyms_names, kallsyms_markers stand in this order
    # somewhere before the tokens; since 6.2, and in distributions' older
    # kernels, kallsyms_seqs_of_names (3 bytes a symbol) may come between.
    window_at = _align(max(0, table_at - 0x1000000), align)
    words = struct.unpack_from(f"<{(table_at - window_at) // 4}I", data, window_at)
    for index in [i for i, w in enumerate(words) if 1000 < w < 0x100000]:
        count = words[index]
        num_syms_at = window_at + 4 * index
        if count >= (table_at - num_syms_at) // 4 or num_syms_at % align:
            continue
        parsed = _names(data, num_syms_at + align, count, tokens)
        if not parsed:
            continue
        markers_at = _align(parsed[1], 4)
        while data[markers_at : markers_at + 4] == data[markers_at + 4 : markers_at + 8] == bytes(4):
            markers_at += 4  # padding before the table's own first 0
        (second,) = struct.unpack_from("<I", data, markers_at + 4)
        if second != _names_length(data, num_syms_at + align, 256):
            continue
        # kallsyms_offsets and kallsyms_relative_base: before num_syms until
        # 6.3, behind kallsyms_token_index since.
        before = num_syms_at - word - _align(4 * count, word)
        behind = _align(_align(table_end, align) + 512, align)
        for offsets_at in (behind, before):
            base_at = _align(offsets_at + 4 * count, word)
            if offsets_at < 0 or base_at + word > len(data):
                continue
            (relative_base,) = struct.unpack_from("<Q" if word == 8 else "<I", data, base_at)
            if base & -0x1000000 <= relative_base <= base + 0x1000000 and relative_base % 4096 == 0:
                offsets = struct.unpack_from(f"<{count}i", data, offsets_at)
                return _resolve(parsed[0], offsets, relative_base, word)
            addresses = _self_relative(data, base, offsets_at, count) if word == 8 else None
            if addresses:
                return dict(reversed(list(zip(parsed[0], addresses, strict=True))))
    return None


def _self_relative(data: bytes, base: int, offsets_at: int, count: int) -> list[int] | None:
    """Addresses, if each offset counts from its own place (64-bit kernels since 7.0), else None."""
    if offsets_at + 4 * count > len(data):
        return None
    offsets = struct.unpack_from(f"<{count}i", data, offsets_at)
    addresses = [base + offsets_at + 4 * i + offset for i, offset in enumerate(offsets)]
    # The table is in the order of addresses, and begins with the kernel's text;
    # no other reading of these numbers is.
    in_order = all(a <= b for a, b in pairwise(addresses))
    return addresses if in_order and abs(addresses[0] - base) < 1 << 24 else None


def _resolve(names: list[str], offsets: tuple[int, ...], relative_base: int, word: int) -> dict[str, int]:
    symbols: dict[str, int] = {}
    # CONFIG_KALLSYMS_ABSOLUTE_PERCPU (64-bit): a negative offset is relative,
    # a positive one an absolute per-CPU address. Without it all are unsigned.
    absolute_percpu = word == 8 and any(o < 0 for o in offsets)
    for name, offset in zip(names, offsets, strict=True):
        if not absolute_percpu:
            address = relative_base + (offset & 0xFFFFFFFF)
        elif offset < 0:
            address = relative_base - 1 - offset
        else:
            address = offset
        symbols.setdefault(name, address)
    return symbols


def build_id(image: BzImage) -> str:
    """The kernel's GNU build id in hex, or "" if the link gave it none."""
    return next((str(note["n_desc"]) for note in _notes(image, "GNU", "NT_GNU_BUILD_ID")), "")


def has_pvh_entry(image: BzImage) -> bool:
    """Whether QEMU can start its ELF file (XEN_ELFNOTE_PHYS32_ENTRY, include/xen/interface/elfnote.h)."""
    return any(_notes(image, "Xen", 18))


def _notes(image: BzImage, owner: str, kind: str | int) -> Iterator[Any]:
    """An owner's ELF notes of one type; of another owner's the same number is something else."""
    if not image.is_elf:
        return
    for segment in ELFFile(io.BytesIO(image.kernel)).iter_segments():
        if isinstance(segment, NoteSegment):
            for note in segment.iter_notes():
                if (note["n_name"], note["n_type"]) == (owner, kind):
                    yield note
