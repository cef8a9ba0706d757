# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel laid out as it will stand in memory, and the notes that its link left there."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import NoteSegment

from sysenter.errors import SysenterError
from sysenter.target.image import BzImage

__all__ = ["Memory", "build_id", "has_pvh_entry"]


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
        """The addresses at which these bytes are."""
        for base, data in self.pieces:
            at = data.find(needle)
            while at >= 0:
                yield base + at
                at = data.find(needle, at + 1)


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
