# SPDX-License-Identifier: GPL-2.0-or-later
"""The symbols in a present kernel's image, without booting it: kallsyms, compressed
(kernel/kallsyms.c, scripts/kallsyms.c)."""

from __future__ import annotations

import struct
from itertools import pairwise

from sysenter.errors import SysenterError
from sysenter.target.memory import Memory

__all__ = ["kallsyms"]

# In kallsyms_token_table the digits stand for themselves: nothing in a kernel
# but this table has these twenty bytes in a row.
_DIGITS = b"".join(bytes([c, 0]) for c in b"0123456789")
_TYPES = frozenset(bytes([c]) for c in b"tTdDbBrRwWaAvVuni?")


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
        hint="sysenter needs a kernel with CONFIG_KALLSYMS and, before 7.0, CONFIG_KALLSYMS_BASE_RELATIVE",
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
            addresses = _without_base(data, base, offsets_at, count)
            if addresses:
                return dict(reversed(list(zip(parsed[0], addresses, strict=True))))
    return None


def _without_base(data: bytes, base: int, offsets_at: int, count: int) -> list[int] | None:
    """Addresses of a kernel since 7.0, which has no relative base, or None if these numbers are others.

    Each counts from its own place. A 32-bit kernel that is not relocatable has addresses (kallsyms_sym_address()).
    """
    if offsets_at + 4 * count > len(data):
        return None
    numbers = struct.unpack_from(f"<{count}i", data, offsets_at)
    place = base + offsets_at
    for addresses in ([place + 4 * i + n for i, n in enumerate(numbers)], [n & 0xFFFFFFFF for n in numbers]):
        # The table is in the order of addresses, and begins with the kernel's text;
        # no other reading of these numbers is.
        if abs(addresses[0] - base) < 1 << 24 and all(a <= b for a, b in pairwise(addresses)):
            return addresses
    return None


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
