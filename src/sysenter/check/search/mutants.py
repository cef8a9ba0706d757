# SPDX-License-Identifier: GPL-2.0-or-later
"""Mutants, wrong versions of a handler: they show that the checker can fail.

They are made from the object: each instruction removed; each constant, register and condition
changed; each fix-up, patch and jump into the kernel removed or changed. A mutant's key is made
of words that stay the same when other code moves.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from capstone import x86

from sysenter.check.code.instructions import decode, details
from sysenter.check.code.objectfile import EntryObject, PatchSite, Section
from sysenter.check.kernels.legacy_syscall import PATCH_COUNT, PATCH_STACK

__all__ = ["Mutant", "mutants"]


@dataclass(frozen=True)
class Mutant:
    """A wrong version of a handler."""

    key: str
    """Stable words, `instruction: change`, with as much of where it stands (after which instruction, behind
    which symbol) as tells it from others."""
    plain: str
    """`instruction: change` alone."""
    object: EntryObject
    """The handler with it."""
    places: tuple[int, ...]
    """The addresses at which the code differs. A case that executes none of them is not affected."""


# opcodes whose ModRM.reg is a part of the opcode (SDM Vol. 2D, A.4)
_GROUPS = (0x80, 0x81, 0x83, 0x8F, 0xBA, 0xC0, 0xC1, 0xC6, 0xC7, 0xD0, 0xD1, 0xD2, 0xD3, 0xF6, 0xF7, 0xFE, 0xFF)
_MASKED = ("test", "and", "or", "xor")  # they clear CF (SDM Vol. 2); a constant of theirs is a set of bits
_MANY = 12  # bits of a mask, of which not each is dropped in turn
_REPLACEMENTS = ".altinstr_replacement"
# symbol -> how far before it the module's C writes a word (native/legacy/copy.c, way_gentle.c)
_WRITTEN_BEFORE = {
    "sysenter_debug_entry": 4,
    "sysenter_debug_distance": 4,
    "sysenter_gdt_test": 5,
    "sysenter_gdt_mark": 5,
}


@dataclass(frozen=True)
class _Words:
    """An instruction in words, the one before it, and the symbol before it."""

    plain: str
    after: str
    inside: str


@dataclass(frozen=True)
class _Found:
    words: _Words
    change: str
    object: EntryObject
    places: tuple[int, ...]


class _Text:
    """The instructions of a code section with their relocations."""

    def __init__(self, entry: EntryObject, name: str, reachable: frozenset[int] | None = None) -> None:
        self.entry, self.name, self.reachable = entry, name, reachable
        self.section = entry.sections[name]
        self.patch_sites = entry.patch_sites() if name != _REPLACEMENTS else ()
        self.written_at_load = _written_at_load(entry) if name != _REPLACEMENTS else frozenset[int]()
        self.instructions = list(self._sweep())
        self.before = dict(zip((i.address for i in self.instructions[1:]), self.instructions, strict=False))
        self.labels = sorted(((at, n) for n, (where, at) in entry.symbols.items() if where == name and n), reverse=True)

    def _sweep(self) -> Iterator[Any]:
        at, data = 0, self.section.data
        while at < len(data):
            ins = details(data[at : at + 15], at, self.entry.bits)
            if ins is None:
                at += 1
                continue
            if ins.mnemonic != "nop":
                yield ins
            at += ins.size

    def walk(self) -> Iterator[Any]:
        return (i for i in self.instructions if self.reachable is None or i.address in self.reachable)

    def words(self, ins: Any) -> _Words:
        before = self.before.get(ins.address)
        start = next((at for at, _ in self.labels if at <= ins.address), 0)
        inside = min((n for at, n in self.labels if at == start), default=self.name)
        return _Words(self.plain(ins), self.plain(before) if before else "", inside)

    def plain(self, ins: Any, depth: int = 0) -> str:
        """The instruction as text that does not change when others move."""
        size, at = ins.size, ins.address
        text = f"{ins.mnemonic} {ins.op_str}".strip()
        for r in self.section.relocations:
            if at <= r.offset < at + size:
                text = self._named(text, r.symbol, r.offset)
        for site in self.patch_sites:
            if at <= site.at < at + size:
                variable = "0x7fffffff" in text  # PERCPU_PATCHED in entry_amd64.S
                return text.replace("0x7fffffff", site.symbol) if variable else f"{ins.mnemonic} {site.symbol}"
        if _branches(ins):
            target = ins.operands[0].imm
            behind = details(self.section.data[target : target + 15], target, self.entry.bits)
            return f"{ins.mnemonic} to {{{self.plain(behind, depth + 1)}}}" if behind and depth < 3 else ins.mnemonic
        for op in ins.operands:
            if op.type == x86.X86_OP_MEM and ins.reg_name(op.mem.base) == "rip":
                text = text.replace(f"rip + {op.mem.disp:#x}", self._symbol(self.name, at + size + op.mem.disp))
        return text

    def _named(self, text: str, symbol: str, offset: int) -> str:
        """`text` with the words of a relocation: a section's offset changes with all before it."""
        if symbol not in self.entry.sections:
            return f"{text} [{symbol}]"
        place = int.from_bytes(self.section.data[offset : offset + 4], "little")
        written = f"{place:#x}" if place > 9 else str(place)
        return text.replace(f"[{written}]", f"[{self._symbol(symbol, place)}]")

    def _symbol(self, section: str, place: int) -> str:
        names = sorted(n for n, (where, at) in self.entry.symbols.items() if (where, at) == (section, place) and n)
        return names[0] if names else f"{section}+{place:#x}"

    def carry_is_clear(self, at: int) -> bool:
        """Is the instruction before `at` one that clears CF? (CMP with 0 borrows nothing)"""
        ins = self.before.get(at)
        if ins is None or ins.mnemonic != "cmp":
            return ins is not None and ins.mnemonic in _MASKED
        return bool(ins.operands[1].type == x86.X86_OP_IMM and ins.operands[1].imm == 0)

    def masks(self, ins: Any) -> bool:
        """Is its constant a set of bits? Also PUSH before POPF."""
        if ins.mnemonic in _MASKED:
            return True
        behind = details(self.section.data[ins.address + ins.size :][:15], 0, self.entry.bits)
        return bool(ins.mnemonic == "push" and behind and behind.mnemonic.startswith("popf"))

    def changed(self, at: int, new: bytes, keep_relocations: bool = True) -> EntryObject:
        data = self.section.data[:at] + new + self.section.data[at + len(new) :]
        kept = tuple(r for r in self.section.relocations if keep_relocations or not at <= r.offset < at + len(new))
        return _with(self.entry, replace(self.section, data=data, relocations=kept))


def _written_at_load(entry: EntryObject) -> frozenset[int]:
    """Where in the text stand words that the module's C writes: no constants of the handler's."""
    places = {site.at for site in entry.patch_sites()}
    places |= {entry.symbols[s][1] - distance for s, distance in _WRITTEN_BEFORE.items() if s in entry.symbols}
    stubs = entry.sections.get(".rodata.sysenter_stub_patch_sites")
    if stubs is None and "sysenter_syscall_stubs" in entry.symbols:  # Linux 2.4; the first stub stands for all
        first = entry.symbols["sysenter_syscall_stubs"][1]
        places |= {first + PATCH_STACK, first + PATCH_COUNT}
    return frozenset(places | {at for (at,) in struct.iter_unpack("<I", stubs.data if stubs else b"")})


def _branches(ins: Any) -> bool:
    """Is it a jump or call to an address in the text?"""
    return bool((ins.mnemonic.startswith("j") or ins.mnemonic == "call") and ins.operands[0].type == x86.X86_OP_IMM)


def _drop_patch_site(entry: EntryObject, site: PatchSite) -> EntryObject:
    """Without its record: a removed instruction must not be filled in again."""
    records = entry.sections[".rodata.sysenter_patch_sites"]
    end = site.record + site.size
    moved = [
        replace(r, offset=r.offset - site.size * (r.offset >= end))
        for r in records.relocations
        if not site.record <= r.offset < end
    ]
    section = replace(records, data=records.data[: site.record] + records.data[end:], relocations=tuple(moved))
    return replace(entry, sections={**entry.sections, ".rodata.sysenter_patch_sites": section})


def _constants(value: int, width: int, masks: bool) -> Iterator[tuple[str, int]]:
    """Wrong values for a constant of `width` bytes."""
    bits = 8 * width
    if not masks:
        yield "+0x1", value + 1
        yield "-0x1", value - 1
        top = 1 << (value.bit_length() or bits) - 1
        yield "without its highest bit" if value else f"+{top:#x}", value ^ top
        return
    negative = value.bit_count() > bits // 2  # AND: what it clears is the set
    mask = value ^ (1 << bits) - 1 if negative else value
    members = [1 << n for n in range(bits) if mask >> n & 1]
    for bit in members if len(members) <= _MANY else (members[0], members[-1]):
        yield f"without {bit:#x}", value ^ bit
    yield "shifted left", value ^ mask ^ (mask << 1)


def _changes(text: _Text, ins: Any) -> Iterator[tuple[str, EntryObject]]:
    """(what was done, the object) for each mutant of one instruction."""
    at: int = ins.address
    size: int = ins.size
    raw = text.section.data[at : at + size]
    removed = text.changed(at, b"\x90" * size, keep_relocations=False)
    for site in text.patch_sites:
        if at <= site.at < at + size:
            removed = _drop_patch_site(text.changed(at, b"\x90" * size, keep_relocations=False), site)
    if raw != b"\xcc" and raw != b"\x90" * size:
        yield "removed", removed
    yield from _constant_changes(text, ins, raw)
    if ins.mnemonic.startswith("j") and ins.mnemonic != "jmp":
        place = 1 if raw[0] == 0x0F else 0
        for name, bits in (("condition inverted", 1), ("condition's neighbour", 2), ("condition's other neighbour", 4)):
            if bits == 2 and text.carry_is_clear(at) and raw[place] & 12 == 4:
                continue  # je and jbe, jne and ja: the same when CF is 0
            yield name, text.changed(at, raw[:place] + bytes([raw[place] ^ bits]) + raw[place + 1 :])
    yield from _register_changes(text, at, ins, raw)
    yield from _other_symbols(text, at, size)
    rex = len(raw) - len(raw.lstrip(b"\x64\x65\x66\xf2\xf3\xf0\x2e\x3e"))
    if text.entry.bits == 64 and raw[rex] & 0xF8 == 0x48:
        yield "64 bits cut to 32", text.changed(at, raw[:rex] + bytes([raw[rex] & ~8]) + raw[rex + 1 :])
    for position, byte in enumerate(raw[:3]):
        if byte in b"\x2e\x36\x64\x65\x3e\xf0":
            yield (
                "prefix removed",
                text.changed(at, raw[:position] + b"\x90" + raw[position + 1 :])
                if position
                else (text.changed(at, b"\x90" + raw[1:])),
            )
            break
        if byte not in b"\x66\xf2\xf3":
            break


def _constant_changes(text: _Text, ins: Any, raw: bytes) -> Iterator[tuple[str, EntryObject]]:
    at, encoding = ins.address, ins.encoding
    relocated = {r.offset for r in text.section.relocations}
    for what, offset, width in (
        ("constant", encoding.imm_offset, encoding.imm_size),
        ("displacement", encoding.disp_offset, encoding.disp_size),
    ):
        if not offset or _branches(ins) or at + offset in text.written_at_load:
            continue
        value = int.from_bytes(raw[offset : offset + width], "little")
        wrong = dict(_constants(value, width, text.masks(ins)))
        if what == "displacement" or at + offset in relocated:
            wrong = {f"{step:+#x}": value + step for step in (4, -4)}
        for name, changed in wrong.items():
            new = (changed % (1 << 8 * width)).to_bytes(width, "little")
            if new != raw[offset : offset + width]:
                yield f"{what} {name}", text.changed(at, raw[:offset] + new + raw[offset + width :])


def _other_symbols(text: _Text, at: int, size: int) -> Iterator[tuple[str, EntryObject]]:
    """The symbols outside that it names, each exchanged for another that the text names."""
    relocations, own = text.section.relocations, {*text.entry.symbols, *text.entry.sections}
    for r in relocations:
        if at <= r.offset < at + size and r.symbol not in own:
            names = sorted({x.symbol for x in relocations if x.relative == r.relative} - own)
            other = names[(names.index(r.symbol) + 1) % len(names)]
            if other == r.symbol:
                continue
            changed = tuple(replace(x, symbol=other) if x is r else x for x in relocations)
            yield f"{other} for {r.symbol}", _with(text.entry, replace(text.section, relocations=changed))


def _register_changes(text: _Text, at: int, ins: Any, raw: bytes) -> Iterator[tuple[str, EntryObject]]:
    encoding = ins.encoding
    operands = ins.operands
    registers = [op for op in operands if op.type == x86.X86_OP_REG]
    modrm = encoding.modrm_offset
    if modrm:
        byte = raw[modrm]
        if registers and not (raw[modrm - 1] in _GROUPS and byte >> 6 != 3):
            shift = 0 if byte >> 6 == 3 and raw[modrm - 1] in _GROUPS else 3
            for step in (1, 5):
                number = ((byte >> shift & 7) + step) & 7
                new = byte & ~(7 << shift) | number << shift
                yield f"register {step:+d}", text.changed(at, raw[:modrm] + bytes([new]) + raw[modrm + 1 :])
        if byte >> 6 == 3 and len(registers) > 1:
            new = byte & ~7 | (byte + 1 & 7)
            yield "other register +1", text.changed(at, raw[:modrm] + bytes([new]) + raw[modrm + 1 :])
        if byte >> 6 != 3 and byte & 7 not in (4, 5):
            new = byte & ~7 | (byte + 1 & 7 if byte + 1 & 7 not in (4, 5) else 6)
            yield "base register", text.changed(at, raw[:modrm] + bytes([new]) + raw[modrm + 1 :])
    elif registers and len(raw) in (1, 5) and raw[0] & 0xF8 in (0x40, 0x48, 0x50, 0x58, 0xB8):
        yield "register +1", text.changed(at, bytes([raw[0] & 0xF8 | (raw[0] + 1 & 7)]) + raw[1:])


def _reachable(entry: EntryObject, name: str, roots: tuple[str, ...]) -> frozenset[int]:
    """Offsets of the instructions that can be reached from `roots` and their fix-ups."""
    data = entry.sections[name].data
    fixups = dict(entry.exceptions())
    behind = {a.at: a.at + a.length for a in entry.alternatives()}
    patched = _patched_jumps(entry, name)
    empty = {site.at for site in entry.patch_sites()}  # a target that is written at load
    todo, found = [entry.symbols[root][1] for root in roots], set[int]()
    while todo:
        at = todo.pop()
        ins = decode(data[at : at + 15], at, entry.bits) if 0 <= at < len(data) and at not in found else None
        if ins is None:
            continue
        found.add(at)
        if at in fixups:
            todo.append(fixups[at])
        if at in behind:
            todo.append(behind[at])
        todo += patched.get(at, ())
        if ins.kind in ("jmp", "jcc", "call") and ins.target and at + 1 not in empty:
            todo.append(ins.target)
        if ins.kind not in ("jmp", "ret", "iretd", "sysexit", "sysret", "sysretq", "ud2", "int3"):
            todo.append(at + ins.size)
    return frozenset(found)


def _patched_jumps(entry: EntryObject, name: str) -> dict[int, list[int]]:
    """Place of an alternative -> where the jumps in its replacement go."""
    section = entry.sections.get(_REPLACEMENTS)
    jumps: dict[int, list[int]] = {}
    for alternative in entry.alternatives() if section else ():
        for r in section.relocations if section else ():
            inside = 0 <= r.offset - alternative.replacement < alternative.replacement_length
            if section and inside and r.relative and r.symbol == name:
                distance = int.from_bytes(section.data[r.offset : r.offset + 4], "little", signed=True)
                jumps.setdefault(alternative.at, []).append(distance + 4)
    return jumps


def _told_apart(found: Sequence[_Found]) -> Iterator[Mutant]:
    """With keys that say no more of the place than they must, so that edits elsewhere leave them."""

    def forms(f: _Found) -> tuple[str, ...]:
        w = f.words
        places = ("", f" in {w.inside}", f" after {w.after or 'nothing'}", f" after {w.after}, in {w.inside}")
        return tuple(f"{w.plain}{place}: {f.change}" for place in places)

    common = Counter(form for f in found for form in set(forms(f)))
    seen: Counter[str] = Counter()
    for f in found:
        key = next((form for form in forms(f) if common[form] == 1), forms(f)[-1])
        seen[key] += 1
        yield Mutant(key if seen[key] == 1 else f"{key} ({seen[key]})", forms(f)[0], f.object, f.places)


def _in_text(entry: EntryObject, name: str, reachable: frozenset[int] | None = None) -> Iterator[_Found]:
    text = _Text(entry, name, reachable)
    for ins in text.walk():
        words, places = text.words(ins), (ins.address,)
        for what, changed in _changes(text, ins):
            yield _Found(words, what, changed, places)


def _in_replacements(entry: EntryObject, section: str, reachable: frozenset[int] | None) -> Iterator[_Found]:
    """What alternatives patch in, named by what stands before the place."""
    text, around = _Text(entry, _REPLACEMENTS), _Text(entry, section)
    for ins in text.walk():
        # the site's start, or inside it: wherever it has been patched in
        places = tuple(
            a.at + ins.address - a.replacement
            for a in entry.alternatives()
            if a.replacement <= ins.address < a.replacement + a.replacement_length
            and (reachable is None or a.at in reachable)
        )
        if not places:  # this handler has no such site
            continue
        site = max((i for i in around.instructions if i.address < min(places)), key=lambda i: i.address)
        words = _Words(f"{text.plain(ins)}, patched in", around.plain(site), around.words(site).inside)
        for what, changed in _changes(text, ins):
            yield _Found(words, what, changed, places)


def _fix_ups(text: _Text) -> Iterator[_Found]:
    entry, pairs = text.entry, text.entry.sections.get("__ex_table")
    known = {ins.address: ins for ins in text.walk()}
    count = len(entry.exceptions())
    for index, (fault, fixup) in enumerate(entry.exceptions()):
        if pairs is None or fault not in known:
            continue
        words = text.words(known[fault])
        words = replace(words, plain=f"fix-up of {words.plain}")
        size = len(pairs.data) // count
        # a fault address in no text: as good as no entry, and the relocations stay in place
        cut = pairs.data[: index * size] + b"\xff\xff\xff\x3f" + pairs.data[index * size + 4 :]
        yield _Found(words, "removed", _with(entry, replace(pairs, data=cut)), (fault,))
        for other in (fault, entry.exceptions()[(index + 1) % count][1]):
            if other == fixup:
                continue
            data = bytearray(pairs.data)
            data[index * size + 4 : index * size + 8] = other.to_bytes(4, "little")
            kind = "to itself" if other == fault else "to the next one's"
            yield _Found(words, kind, _with(entry, replace(pairs, data=bytes(data))), (fault,))


def _patch_sites(text: _Text) -> Iterator[_Found]:
    """Jumps into the kernel and its variables: each site filled with another's symbol."""
    entry, records = text.entry, text.entry.sections.get(".rodata.sysenter_patch_sites")
    if records is None:
        return
    names = sorted({r.symbol for r in records.relocations if r.symbol.startswith("kernel_")})
    word = entry.bits // 8
    at = {site.record + word: site.at for site in entry.patch_sites()}
    for r in records.relocations:
        holder = next((i for i in text.walk() if i.address <= at.get(r.offset, -1) < i.address + i.size), None)
        if r.symbol not in names or holder is None:
            continue
        other = names[(names.index(r.symbol) + 1) % len(names)]
        changed = tuple(replace(x, symbol=other) if x is r else x for x in records.relocations)
        whole = _with(entry, replace(records, relocations=changed))
        yield _Found(text.words(holder), f"{other} for {r.symbol}", whole, (holder.address,))


def _memory_constants(text: _Text) -> Iterator[_Found]:
    """Words in .rodata that the text reads."""
    entry, rodata = text.entry, text.entry.sections.get(".rodata")
    if rodata is None:
        return
    for symbol, (where, offset) in entry.symbols.items():
        readers = tuple(
            ins.address
            for ins in text.walk()
            for r in text.section.relocations
            if ins.address <= r.offset < ins.address + ins.size
            and r.symbol == where == ".rodata"
            and int.from_bytes(text.section.data[r.offset : r.offset + 4], "little") == offset
        )
        for step in (1, -8, 8) if readers else ():
            data = bytearray(rodata.data)
            data[offset] = (data[offset] + step) & 0xFF
            words = _Words(symbol, "", "")
            yield _Found(words, f"constant {step:+d}", _with(entry, replace(rodata, data=bytes(data))), readers)


def _with(entry: EntryObject, section: Section) -> EntryObject:
    return replace(entry, sections={**entry.sections, section.name: section})


def mutants(entry: EntryObject, section: str, roots: tuple[str, ...] = ()) -> Iterator[Mutant]:
    """All mutants of the handler in `section`, in a fixed order.

    roots: where it begins, if other handlers stand in the same section.
    """
    reachable = _reachable(entry, section, roots) if roots else None
    text = _Text(entry, section, reachable)
    found = list(_in_text(entry, section, reachable))
    if _REPLACEMENTS in entry.sections:
        found += _in_replacements(entry, section, reachable)
    for more in (_fix_ups(text), _patch_sites(text), _memory_constants(text)):
        found += more
    yield from _told_apart(found)
