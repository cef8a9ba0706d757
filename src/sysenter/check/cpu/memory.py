# SPDX-License-Identifier: GPL-2.0-or-later
"""The memory of the modelled machine: pages with an owner each.

Everything writable lies in one arena, so that a state is saved and brought back
by one copy. Unicorn maps the same bytes: neither side has a copy of its own.
"""

from __future__ import annotations

import ctypes
import struct
from dataclasses import dataclass
from enum import Enum

__all__ = ["PAGE", "Area", "Memory", "Region"]

PAGE = 4096


class Area(Enum):
    """The owner of memory. Properties allow or forbid an access by its owner."""

    TEXT = "the handler's text"
    CONSTANT = "read-only data"
    GLOBAL = "data that all CPUs share"
    CPU = "a CPU's own data"
    ENTRY_STACK = "a CPU's entry stack"
    TASK = "a task's structures"
    TASK_STACK = "a task's kernel stack"
    USER = "user memory"


@dataclass(frozen=True, slots=True)
class Region:
    """Bytes start <= address < end of one owner: a CPU or a task, by its number, or -1."""

    name: str
    area: Area
    start: int
    end: int
    offset: int
    """Where `start` is in the arena."""
    cpu: int = -1
    task: int = -1


class Memory:
    """Pages of an address space.

    A page holds at most one region; a region may end inside its last page, and
    what follows there belongs to nobody. `size`: bytes of the arena; width: of a
    word and an address.
    """

    def __init__(self, size: int, width: int = 4) -> None:
        self.size, self.width = size, width
        self._last = (1 << 8 * width) - 1
        self._word = struct.Struct("<I" if width == 4 else "<Q")
        self._raw = ctypes.create_string_buffer(size + PAGE)
        self.address = (ctypes.addressof(self._raw) + PAGE - 1) & -PAGE
        skip = self.address - ctypes.addressof(self._raw)
        self.bytes = memoryview(self._raw).cast("B")[skip : skip + size]
        self.pages: dict[int, Region] = {}
        self.regions: dict[str, Region] = {}
        self._used = 0
        self.constant = 0  # bytes at the arena's front that no state changes
        self.stacks = 0  # offset from which only stacks follow

    def add(self, name: str, area: Area, start: int, size: int, cpu: int = -1, task: int = -1) -> Region:
        """Give the pages of start .. start + size an owner; all bytes 0."""
        first, last = start // PAGE, (start + size - 1) // PAGE
        offset = self._used + start % PAGE
        self._used += (last - first + 1) * PAGE
        if self._used > self.size:
            raise ValueError(f"{name}: the arena of {self.size} bytes is full")
        region = Region(name, area, start, start + size, offset, cpu, task)
        for page in range(first, last + 1):
            if page in self.pages:
                raise ValueError(f"{name}: {page * PAGE:#x} belongs to {self.pages[page].name}")
            self.pages[page] = region
        self.regions[name] = region
        return region

    def at(self, address: int) -> Region | None:
        """The region that the byte at `address` belongs to."""
        region = self.pages.get(address >> 12)
        return region if region is not None and region.start <= address < region.end else None

    def read(self, address: int, size: int) -> int:
        """Little-endian value at `address`; the bytes may lie in two pages."""
        region = self.pages.get(address >> 12)
        if region is not None and address + size <= region.end:
            at = region.offset + address - region.start
            return int.from_bytes(self.bytes[at : at + size], "little")
        return sum(self._byte(address + i) << (8 * i) for i in range(size))

    def _byte(self, address: int) -> int:
        region = self.pages.get((address & self._last) >> 12)
        if region is None:
            raise KeyError(f"{address:#x} is not mapped")
        return self.bytes[region.offset + (address & self._last) - region.start]

    def word(self, address: int) -> int:
        """The word at `address`, which must not cross its region's end."""
        region = self.pages[address >> 12]
        return int(self._word.unpack_from(self.bytes, region.offset + address - region.start)[0])

    def write(self, address: int, value: int, size: int = 0) -> None:
        """The low `size` bytes of `value`, a word if it is not given."""
        region = self.pages[address >> 12]
        size = size or self.width
        at = region.offset + address - region.start
        self.bytes[at : at + size] = (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")

    def fill(self, start: int, end: int, pattern: bytes) -> None:
        """Repeat `pattern` over start .. end of one region."""
        if end > start:
            region = self.pages[start >> 12]
            at = region.offset + start - region.start
            count = end - start
            self.bytes[at : at + count] = (pattern * (count // len(pattern) + 1))[:count]

    def seal(self) -> None:
        """What has been added until now never changes: leave it out of save()."""
        self.constant = self._used

    def stacks_follow(self) -> None:
        """From here on only stacks are added: memory whose use ends at a pointer."""
        self.stacks = self._used

    def same(self, saved: bytes) -> bool:
        """Is all but the stacks as in `saved`?"""
        return saved.startswith(bytes(self.bytes[self.constant : self.stacks]))

    def same_between(self, saved: bytes, start: int, end: int) -> bool:
        """Are the bytes start .. end of one region as in `saved`?"""
        region = self.pages[start >> 12]
        at = region.offset + start - region.start
        return saved.startswith(bytes(self.bytes[at : at + end - start]), at - self.constant)

    def save(self) -> bytes:
        return bytes(self.bytes[self.constant : self._used])

    def restore(self, saved: bytes) -> None:
        self.bytes[self.constant : self._used] = saved
