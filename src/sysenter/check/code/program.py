# SPDX-License-Identifier: GPL-2.0-or-later
"""The handler laid out at its address, ready to run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sysenter.check.code.instructions import Instruction, decode
from sysenter.check.code.objectfile import Alternative, EntryObject, Section
from sysenter.check.cpu.memory import Memory
from sysenter.errors import SysenterError

__all__ = ["Program", "lay_out"]


@dataclass
class Program:
    """A handler's section, laid out in memory."""

    object: EntryObject
    section: str
    start: int
    """Its first address."""
    end: int
    """The address behind it."""
    exceptions: Mapping[int, int]
    """Faulting address -> fix-up."""
    symbols: Mapping[str, int]
    memory: Memory
    outside: Mapping[int, str]  # addresses of the kernel's and the module's other symbols
    _decoded: dict[int, Instruction | None] = field(default_factory=dict)

    def instruction(self, address: int) -> Instruction | None:
        """What stands at `address` of the text, or None if it is no instruction."""
        try:
            return self._decoded[address]
        except KeyError:
            pass
        ins = None
        if self.start <= address < self.end:
            region = self.memory.pages[address >> 12]
            at = region.offset + address - region.start
            size = min(15, self.end - address)
            ins = decode(bytes(self.memory.bytes[at : at + size]), address, self.object.bits)
        self._decoded[address] = ins
        return ins

    def where(self, address: int) -> str:
        """`entry_i386.S:123` if the object says so, else symbol + offset."""
        line = self.object.lines.get(("0", address - self.start))
        if line:
            return f"{line[0]}:{line[1]}"
        return self.near(address)

    def near(self, address: int) -> str:
        """Symbol of the text and distance from it."""
        start = max((a for a in self.symbols.values() if self.start <= a <= address < self.end), default=self.start)
        # a name for the whole text is the last to choose
        name = min((n for n, a in self.symbols.items() if a == start and n), default=self.section)
        return f"{name}+{address - start:#x}"

    def told(self, ins: Instruction) -> str:
        """The instruction, with names for the addresses that have one."""

        def named(found: re.Match[str]) -> str:
            minus, digits = found.groups()
            value = (1 << self.object.bits) - int(digits, 16) if minus else int(digits, 16)
            if ins.target and value == ins.target and self.instruction(value):
                name = self.where(value).removesuffix("+0x0")
            elif self.start <= value < self.end:
                name = self.near(value).removesuffix("+0x0")
            elif value in self.outside:
                name = self.outside[value]
            else:
                return found[0]
            return f"+ {name}" if minus else name

        return re.sub(r"(- )?0x([0-9a-f]{8,16})", named, ins.text)

    def fill_in(self, at: int, value: int) -> None:
        """Write a word into the instruction at hand, as the module's C does at load; a mutant may have none there."""
        if self.memory.word(at) != 0x90909090:
            self.memory.write(at, value)


def lay_out(
    entry: EntryObject,
    section: str,
    memory: Memory,
    places: Mapping[str, int],
    externals: Mapping[str, int],
    features: frozenset[int],
    patch_sites: Mapping[str, int],
) -> Program:
    """Write `entry`'s sections into `memory` at `places` and relocate them.

    places: section -> address of a region that is there already. externals:
    symbol -> address. patch_sites: kernel symbol -> address, for the records in
    .rodata.sysenter_patch_sites. features: of the processor, those alternatives are patched in.
    """
    symbols = {name: places[where] + offset for name, (where, offset) in entry.symbols.items() if where in places}
    code = bytearray(entry.sections[section].data)
    # of several in one place the last stands: apply_alternatives() writes them in order
    chosen = list({a.at: a for a in entry.alternatives() if a.feature in features}.values())
    _patch_alternatives(entry, chosen, code)
    for name, address in places.items():
        data = code if name == section else bytearray(entry.sections[name].data)
        _relocate(
            _kept(entry.sections[name], chosen if name == section else []),
            data,
            address,
            {**externals, **symbols, **places},
        )
        if name == section:
            _relocate_replacements(entry, chosen, data, address, {**externals, **symbols, **places})
            _write_patch_sites(entry, data, address, patch_sites)
        region = memory.pages[address >> 12]
        at = region.offset + address - region.start
        memory.bytes[at : at + len(data)] = bytes(data)
    base = places[section]
    pairs = {base + fault: base + fixup for fault, fixup in entry.exceptions()}
    outside = {address: name for name, address in {**patch_sites, **externals}.items()}
    return Program(entry, section, base, base + len(code), pairs, symbols, memory, outside)


def _patch_alternatives(entry: EntryObject, chosen: list[Alternative], code: bytearray) -> None:
    for alternative in chosen:
        replacement = entry.sections[".altinstr_replacement"].data
        new = replacement[alternative.replacement : alternative.replacement + alternative.replacement_length]
        code[alternative.at : alternative.at + alternative.length] = new.ljust(alternative.length, b"\x90")


def _kept(section: Section, chosen: list[Alternative]) -> Section:
    """Without the relocations of what alternatives have taken away."""
    gone = [range(a.at, a.at + a.length) for a in chosen]
    return replace(section, relocations=tuple(r for r in section.relocations if not any(r.offset in g for g in gone)))


def _put(data: bytearray, at: int, size: int, value: int) -> None:
    """Add `value` to what is in place."""
    value += int.from_bytes(data[at : at + size], "little")
    data[at : at + size] = (value % (1 << 8 * size)).to_bytes(size, "little")


def _relocate_replacements(
    entry: EntryObject, chosen: list[Alternative], code: bytearray, address: int, symbols: Mapping[str, int]
) -> None:
    """References inside patched-in instructions: absolute ones, and those of a jump, which the kernel works out
    anew for its place (recompute_jump(), later apply_relocation())."""
    section = entry.sections.get(".altinstr_replacement")
    for alternative in chosen:
        for r in section.relocations if section else ():
            at = r.offset - alternative.replacement
            if 0 <= at < alternative.replacement_length:
                place = at + alternative.at
                _put(code, place, r.size, symbols[r.symbol] - (address + place if r.relative else 0))


def _relocate(section: Section, data: bytearray, address: int, symbols: Mapping[str, int]) -> None:
    for r in section.relocations:
        if r.symbol not in symbols:
            raise SysenterError(
                f"{r.symbol}: the handler refers to it and the checker's kernel has no such symbol",
                hint="add it to the handler's description in sysenter/check",
            )
        _put(data, r.offset, r.size, symbols[r.symbol] - (address + r.offset if r.relative else 0))


def _write_patch_sites(entry: EntryObject, code: bytearray, address: int, patch_sites: Mapping[str, int]) -> None:
    """As sysenter_write_patch_sites() does at load (native/present/kernel.c)."""
    for site in entry.patch_sites():
        if site.symbol not in patch_sites:
            raise SysenterError(
                f"{site.symbol}: the handler refers to it and the checker has no model of it",
                hint="write one in the handler's description in sysenter/check",
            )
        value = patch_sites[site.symbol] - (address + site.at + 4 if site.relative else 0)
        code[site.at : site.at + 4] = (value & 0xFFFFFFFF).to_bytes(4, "little")
