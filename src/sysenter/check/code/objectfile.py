# SPDX-License-Identifier: GPL-2.0-or-later
"""The assembled entry code: what the compiler left, laid out as a module loader would.

Sections are placed, relocations applied (i386 psABI: R_386_32, R_386_PC32; x86-64
psABI: R_X86_64_64, _32, _32S, _PC32, _PLT32, their addends put in place), the
kernel's alternatives patched in (arch/x86/kernel/alternative.c) and the
exception table read (arch/x86/include/asm/extable_fixup_types.h).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from sysenter.errors import SysenterError

__all__ = ["Alternative", "EntryObject", "PatchSite", "Relocation", "Section", "parse_offsets"]

# relocation type -> (bytes, relative), by the psABI's numbers; PLT32 as PC32 in a static link
_TYPES = {
    "EM_386": {1: (4, False), 2: (4, True), 4: (4, True)},
    "EM_X86_64": {1: (8, False), 2: (4, True), 4: (4, True), 10: (4, False), 11: (4, False)},
}
_ALTERNATIVES = ".altinstructions"


@dataclass(frozen=True)
class Relocation:
    """At `offset` of its section, `size` bytes: `symbol` (a section's name for a local one)."""

    offset: int
    symbol: str
    relative: bool
    size: int = 4


@dataclass(frozen=True)
class Section:
    name: str
    data: bytes
    relocations: tuple[Relocation, ...]
    writable: bool
    executable: bool


@dataclass(frozen=True)
class Alternative:
    """Replace `length` bytes at `at` if the processor has `feature` (its number)."""

    at: int
    length: int
    replacement: int
    replacement_length: int
    feature: int


@dataclass(frozen=True)
class PatchSite:
    """Bytes at `at` of the text that the module fills with the address of the kernel's `symbol`.

    By native/present/kernel.c.
    """

    at: int
    symbol: str
    relative: bool
    record: int
    """Where that is written down."""
    size: int
    """Of a record, in bytes."""


@dataclass(frozen=True)
class EntryObject:
    """An object file with entry code in it."""

    path: Path
    sections: Mapping[str, Section]
    symbols: Mapping[str, tuple[str, int]]
    """Name -> (section, offset)."""
    bits: int = 32
    """32 or 64."""
    lines: Mapping[tuple[str, int], tuple[str, int]] = field(default_factory=dict)
    """Offset in the code section -> (file, line), where the assembler left debug information."""

    @classmethod
    def load(cls, path: Path) -> EntryObject:
        """Read `path`. Raises SysenterError if it is no x86 object."""
        try:
            with path.open("rb") as file:
                elf = ELFFile(file)
                if elf["e_machine"] not in _TYPES or elf["e_type"] != "ET_REL":
                    raise SysenterError(f"{path}: not a relocatable x86 object", hint="give the handler's .o file")
                return cls(path, _sections(elf), _symbols(elf), elf.elfclass, _lines(elf))
        except (OSError, ELFError) as error:
            raise SysenterError(f"{path}: {error}", hint="give the handler's .o file") from error

    def alternatives(self) -> tuple[Alternative, ...]:
        """Records of .altinstructions, as offsets in text and replacement section.

        struct alt_instr: s32 instr, s32 replacement, u16 cpuid (u32 since 6.4),
        u8 lengths; the record size tells which.
        """
        section = self.sections.get(_ALTERNATIVES)
        if section is None or not section.data:
            return ()
        count = len(section.relocations) // 2
        size = len(section.data) // count
        found = []
        for index in range(count):
            base = index * size
            instr, replacement = struct.unpack_from("<ii", section.data, base)
            if size == 12:  # 6.1: u16 cpuid, u8 instrlen, u8 replacementlen
                feature, length, replaced = struct.unpack_from("<HBB", section.data, base + 8)
            else:  # 6.3: u32 ft_flags, u8, u8
                feature, length, replaced = struct.unpack_from("<IBB", section.data, base + 8)
            # REL, PC-relative to the field itself: the addend in place is the target's offset
            found.append(Alternative(instr, length, replacement, replaced, feature & 0xFFFF))
        return tuple(found)

    def without_alternatives(self, start: int, end: int) -> EntryObject:
        """The same without those for `start` <= place in the text < `end`."""
        section, records = self.sections.get(_ALTERNATIVES), self.alternatives()
        if section is None or not records:
            return self
        size = len(section.data) // len(records)
        kept = [n for n, record in enumerate(records) if not start <= record.at < end]
        data = b"".join(section.data[n * size : (n + 1) * size] for n in kept)
        moved = tuple(
            replace(r, offset=r.offset + (new - old) * size)
            for new, old in enumerate(kept)
            for r in section.relocations
            if r.offset // size == old
        )
        return replace(self, sections={**self.sections, _ALTERNATIVES: replace(section, data=data, relocations=moved)})

    def patch_sites(self) -> tuple[PatchSite, ...]:
        """Records of .rodata.sysenter_patch_sites: place, address of kernel_SYMBOL, relative; a word each."""
        section = self.sections.get(".rodata.sysenter_patch_sites")
        if section is None:
            return ()
        word = self.bits // 8
        names = {r.offset: r.symbol.removeprefix("kernel_") for r in section.relocations}
        found = []
        for base in range(0, len(section.data), 3 * word):
            at, _, relative = struct.unpack_from("<III" if word == 4 else "<QQQ", section.data, base)
            found.append(PatchSite(at, names[base + word], bool(relative), base, 3 * word))
        return tuple(found)

    def exceptions(self) -> tuple[tuple[int, int], ...]:
        """(faulting, fix-up) offsets in the text section.

        Present kernels: s32 insn, s32 fixup, u32 type, relative; 2.2 and 2.4:
        two absolute words.
        """
        section = self.sections.get("__ex_table")
        if section is None:
            return ()
        relative = any(r.relative for r in section.relocations)
        size = 12 if relative else 8
        pairs = []
        for base in range(0, len(section.data), size):
            insn, fixup = struct.unpack_from("<ii", section.data, base)
            pairs.append((insn, fixup))
        return tuple(pairs)


def _sections(elf: Any) -> dict[str, Section]:
    names = {i: s.name for i, s in enumerate(elf.iter_sections())}
    table = elf.get_section_by_name(".symtab")
    types = _TYPES[elf["e_machine"]]
    relocations: dict[int, list[Relocation]] = {}
    addends: dict[int, list[tuple[int, int, int]]] = {}
    for section in elf.iter_sections():
        if section["sh_type"] not in ("SHT_REL", "SHT_RELA"):
            continue
        for entry in section.iter_relocations():
            symbol = table.get_symbol(entry["r_info_sym"])
            name = symbol.name
            if symbol["st_info"]["type"] == "STT_SECTION":
                name = names[symbol["st_shndx"]]
            if entry["r_info_type"] not in types:
                continue  # debug sections may hold others
            size, relative = types[entry["r_info_type"]]
            relocations.setdefault(section["sh_info"], []).append(Relocation(entry["r_offset"], name, relative, size))
            if entry.is_RELA():
                addends.setdefault(section["sh_info"], []).append((entry["r_offset"], entry["r_addend"], size))
    found = {}
    for index, section in enumerate(elf.iter_sections()):
        if not section["sh_flags"] & 2:  # SHF_ALLOC
            continue
        data = bytearray(section["sh_size"] if section["sh_type"] == "SHT_NOBITS" else section.data())
        for at, addend, size in addends.get(index, ()):
            data[at : at + size] = (addend % (1 << 8 * size)).to_bytes(size, "little")
        found[section.name] = Section(
            section.name,
            bytes(data),
            tuple(relocations.get(index, ())),
            bool(section["sh_flags"] & 1),
            bool(section["sh_flags"] & 4),
        )
    return found


def _symbols(elf: Any) -> dict[str, tuple[str, int]]:
    names = {i: s.name for i, s in enumerate(elf.iter_sections())}
    return {
        s.name: (names[s["st_shndx"]], s["st_value"])
        for s in elf.get_section_by_name(".symtab").iter_symbols()
        if s.name and isinstance(s["st_shndx"], int)
    }


def _lines(elf: Any) -> dict[tuple[str, int], tuple[str, int]]:
    """Source lines; an object without debug information, or with one that
    pyelftools cannot read, has none: a story then names bytes only."""
    lines: dict[tuple[str, int], tuple[str, int]] = {}
    if not elf.has_dwarf_info():
        return lines
    try:
        dwarf = elf.get_dwarf_info(relocate_dwarf_sections=True)
        for unit in dwarf.iter_CUs():
            program = dwarf.line_program_for_CU(unit)
            if program is None:
                continue
            files = program.header["file_entry"]
            base = 0 if program.header["version"] >= 5 else 1
            section = 0
            for entry in program.get_entries():
                if entry.state is None:
                    continue
                name = files[entry.state.file - base].name.decode()
                if entry.state.end_sequence:
                    section += 1
                else:
                    lines.setdefault((str(section), entry.state.address), (name, entry.state.line))
    except Exception:  # any damage in debug data must not stop the check
        return {}
    return lines


class _Constants(dict[str, int]):
    """Name -> value. A name that is not there is the user's error: the file is another build's."""

    path = Path()

    def __missing__(self, name: str) -> int:
        raise SysenterError(f"{self.path}: no constant {name}", hint="give the offsets.h of the handler's build")


def parse_offsets(path: Path) -> dict[str, int]:
    """`#define NAME number` lines of an offsets.h that the build made. Raises SysenterError, later too: if one is
    wanted that is not there."""
    try:
        text = path.read_text(errors="replace")
    except OSError as error:
        raise SysenterError(f"{path}: {error.strerror}", hint="give the offsets.h of the handler's build") from error
    found = re.findall(r"^#define\s+(\w+)\s+(-?(?:0x[0-9a-fA-F]+|\d+))\b", text, re.M)
    if not found:
        raise SysenterError(f"{path}: no constants in it", hint="give the offsets.h of the handler's build")
    constants = _Constants({name: int(value, 0) for name, value in found})
    constants.path = path
    return constants
