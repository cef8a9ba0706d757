# SPDX-License-Identifier: GPL-2.0-or-later
"""The assembled entry code: what the compiler left, laid out as a module loader would.

Sections are placed, relocations applied (i386 psABI: R_386_32, R_386_PC32), the
kernel's alternatives patched in (arch/x86/kernel/alternative.c) and the
exception table read (arch/x86/include/asm/extable_fixup_types.h).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from sysenter.errors import SysenterError

__all__ = ["Alternative", "EntryObject", "Relocation", "Section", "parse_offsets"]

_ABSOLUTE, _RELATIVE = 1, 2  # R_386_32, R_386_PC32
_PLT = 4  # R_386_PLT32: as _RELATIVE in a static link


@dataclass(frozen=True)
class Relocation:
    """At `offset` of its section: `symbol` (a section's name for a local one)."""

    offset: int
    symbol: str
    relative: bool


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
class EntryObject:
    """An object file with entry code in it.

    symbols: name -> (section, offset). lines: offset in the code section ->
    (file, line), where the assembler left debug information.
    """

    path: Path
    sections: Mapping[str, Section]
    symbols: Mapping[str, tuple[str, int]]
    lines: Mapping[tuple[str, int], tuple[str, int]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> EntryObject:
        """Read `path`. Raises SysenterError if it is no 32-bit x86 object."""
        try:
            with path.open("rb") as file:
                elf = ELFFile(file)
                if elf["e_machine"] != "EM_386" or elf["e_type"] != "ET_REL":
                    raise SysenterError(f"{path}: not a relocatable i386 object", hint="give the handler's .o file")
                return cls(path, _sections(elf), _symbols(elf), _lines(elf))
        except (OSError, ELFError) as error:
            raise SysenterError(f"{path}: {error}", hint="give the handler's .o file") from error

    def alternatives(self) -> tuple[Alternative, ...]:
        """Records of .altinstructions, as offsets in text and replacement section.

        struct alt_instr: s32 instr, s32 replacement, u16 cpuid (u32 since 6.4),
        u8 lengths; the record size tells which.
        """
        section = self.sections.get(".altinstructions")
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
    relocations: dict[int, list[Relocation]] = {}
    for section in elf.iter_sections():
        if section["sh_type"] != "SHT_REL":
            continue
        for entry in section.iter_relocations():
            symbol = table.get_symbol(entry["r_info_sym"])
            name = symbol.name
            if symbol["st_info"]["type"] == "STT_SECTION":
                name = names[symbol["st_shndx"]]
            if entry["r_info_type"] not in (_ABSOLUTE, _RELATIVE, _PLT):
                continue  # debug sections may hold others
            relocations.setdefault(section["sh_info"], []).append(
                Relocation(entry["r_offset"], name, entry["r_info_type"] != _ABSOLUTE)
            )
    found = {}
    for index, section in enumerate(elf.iter_sections()):
        if not section["sh_flags"] & 2:  # SHF_ALLOC
            continue
        data = bytes(section["sh_size"]) if section["sh_type"] == "SHT_NOBITS" else section.data()
        found[section.name] = Section(
            section.name, data, tuple(relocations.get(index, ())),
            bool(section["sh_flags"] & 1), bool(section["sh_flags"] & 4),
        )  # fmt: skip
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


def parse_offsets(path: Path) -> dict[str, int]:
    """`#define NAME number` lines of an offsets.h that the build made."""
    try:
        text = path.read_text()
    except OSError as error:
        raise SysenterError(f"{path}: {error.strerror}", hint="give the offsets.h of the handler's build") from error
    found = re.findall(r"^#define\s+(\w+)\s+(-?(?:0x[0-9a-fA-F]+|\d+))\b", text, re.M)
    if not found:
        raise SysenterError(f"{path}: no constants in it", hint="give the offsets.h of the handler's build")
    return {name: int(value, 0) for name, value in found}
