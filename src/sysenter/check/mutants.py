# SPDX-License-Identifier: GPL-2.0-or-later
"""Wrong versions of a handler: a checker that cannot fail assures nothing.

Made of the object itself: each instruction removed, each constant, register and
condition changed, each fix-up, patch and jump into the kernel removed or bent.
A mutant's key is words that stay the same while unrelated code moves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from capstone import x86

from sysenter.check.instructions import decode, details
from sysenter.check.objectfile import EntryObject, Hole, Section

__all__ = ["Mutant", "mutants"]


@dataclass(frozen=True)
class Mutant:
    """key: stable words, `instruction: change`. object: the handler with it. places: in
    the text; whoever comes to none of them does not notice. Empty: who knows."""

    key: str
    object: EntryObject
    places: tuple[int, ...] = ()


# opcodes whose ModRM.reg is a part of the opcode (SDM Vol. 2D, A.4)
_GROUPS = (0x80, 0x81, 0x83, 0x8F, 0xBA, 0xC0, 0xC1, 0xC6, 0xC7, 0xD0, 0xD1, 0xD2, 0xD3, 0xF6, 0xF7, 0xFE, 0xFF)
_Found = tuple[str, EntryObject, tuple[int, ...]]


class _Text:
    """The instructions of a code section with their relocations."""

    def __init__(self, entry: EntryObject, name: str, reachable: frozenset[int] | None = None) -> None:
        self.entry, self.name, self.reachable = entry, name, reachable
        self.section = entry.sections[name]
        self.holes = entry.holes() if name != ".altinstr_replacement" else ()

    def walk(self) -> Iterator[tuple[int, object]]:
        at, data = 0, self.section.data
        while at < len(data):
            ins = details(data[at : at + 15], at, self.entry.bits)
            if ins is None:
                at += 1
                continue
            size = ins.size
            if ins.mnemonic != "nop" and (self.reachable is None or at in self.reachable):
                yield at, ins
            at += size

    def words(self, ins: object) -> str:
        """The instruction as text that does not change when others move."""
        size, at = ins.size, ins.address  # type: ignore[attr-defined]
        text = f"{ins.mnemonic} {ins.op_str}".strip()  # type: ignore[attr-defined]
        for r in self.section.relocations:
            if at <= r.offset < at + size:
                text += f" [{r.symbol}]"
        for hole in self.holes:
            if at <= hole.at < at + size:
                variable = "0x7fffffff" in text  # PERCPU_HOLE in entry_amd64.S
                name = ins.mnemonic  # type: ignore[attr-defined]
                return text.replace("0x7fffffff", hole.symbol) if variable else f"{name} {hole.symbol}"
        if ins.mnemonic.startswith("j") or ins.mnemonic == "call":  # type: ignore[attr-defined]
            target = ins.operands[0].imm  # type: ignore[attr-defined]
            behind = details(self.section.data[target : target + 15], target, self.entry.bits)
            text = f"{ins.mnemonic} to {{{behind.mnemonic} {behind.op_str}}}" if behind else text  # type: ignore[attr-defined]
        return text

    def carry_is_clear(self, at: int) -> bool:
        """Is the instruction before `at` one that clears CF? (SDM Vol. 2, AND, OR, TEST, XOR)"""
        return any(i.mnemonic in ("test", "and", "or", "xor") for before, i in self.walk() if before + i.size == at)  # type: ignore[attr-defined]

    def changed(self, at: int, new: bytes, keep_relocations: bool = True) -> EntryObject:
        data = self.section.data[:at] + new + self.section.data[at + len(new) :]
        kept = tuple(
            r for r in self.section.relocations if keep_relocations or not at <= r.offset < at + len(new)
        )  # fmt: skip
        section = replace(self.section, data=data, relocations=kept)
        return replace(self.entry, sections={**self.entry.sections, self.name: section})


def _drop_hole(entry: EntryObject, hole: Hole) -> EntryObject:
    """Without its record: a removed instruction must not be filled in again."""
    records = entry.sections[".rodata.sysenter_holes"]
    end = hole.record + hole.size
    moved = [
        replace(r, offset=r.offset - hole.size * (r.offset >= end))
        for r in records.relocations
        if not hole.record <= r.offset < end
    ]  # fmt: skip
    section = replace(records, data=records.data[: hole.record] + records.data[end:], relocations=tuple(moved))
    return replace(entry, sections={**entry.sections, ".rodata.sysenter_holes": section})


def _changes(text: _Text, at: int, ins: object) -> Iterator[tuple[str, EntryObject]]:
    """(what was done, the object) for each mutant of one instruction."""
    size: int = ins.size  # type: ignore[attr-defined]
    raw = text.section.data[at : at + size]
    removed = text.changed(at, b"\x90" * size, keep_relocations=False)
    for hole in text.holes:
        if at <= hole.at < at + size:
            removed = _drop_hole(text.changed(at, b"\x90" * size, keep_relocations=False), hole)
    if raw != b"\xcc" and raw != b"\x90" * size:
        yield "removed", removed
    encoding = ins.encoding  # type: ignore[attr-defined]
    relocated = {r.offset for r in text.section.relocations}
    # what the module's C writes at load is no constant: holes, and what these stand behind
    behind = ("sysenter_debug_entry", "sysenter_debug_distance")
    holes = {hole.at for hole in text.holes} | {text.entry.symbols[s][1] - 4 for s in behind if s in text.entry.symbols}
    branch = ins.mnemonic.startswith("j") or ins.mnemonic == "call"  # type: ignore[attr-defined]
    for what, offset, width in (("constant", encoding.imm_offset, encoding.imm_size),
                                ("displacement", encoding.disp_offset, encoding.disp_size)):  # fmt: skip
        if not offset or branch or at + offset in holes:
            continue
        value = int.from_bytes(raw[offset : offset + width], "little")
        top = 1 << (value.bit_length() or 8 * width) - 1
        changes = {f"{what} {step:+#x}": value + step for step in (1, -1)}
        changes[f"{what} without its highest bit" if value else f"{what} {top:+#x}"] = value ^ top
        if what == "displacement" or at + offset in relocated:
            changes = {f"{what} {step:+#x}": value + step for step in (4, -4)}
        for name, changed in changes.items():
            new = (changed % (1 << 8 * width)).to_bytes(width, "little")
            yield name, text.changed(at, raw[:offset] + new + raw[offset + width :])
    if ins.mnemonic.startswith("j") and ins.mnemonic != "jmp":  # type: ignore[attr-defined]
        place = 1 if raw[0] == 0x0F else 0
        for name, bits in (("condition inverted", 1), ("condition's neighbour", 2), ("condition's other neighbour", 4)):
            if bits == 2 and text.carry_is_clear(at) and raw[place] & 12 == 4:
                continue  # je and jbe, jne and ja: the same when CF is 0
            yield name, text.changed(at, raw[:place] + bytes([raw[place] ^ bits]) + raw[place + 1 :])
    yield from _register_changes(text, at, ins, raw)
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


def _register_changes(text: _Text, at: int, ins: object, raw: bytes) -> Iterator[tuple[str, EntryObject]]:
    encoding = ins.encoding  # type: ignore[attr-defined]
    operands = ins.operands  # type: ignore[attr-defined]
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


def _numbered(found: Iterator[_Found]) -> Iterator[Mutant]:
    seen: dict[str, int] = {}
    for key, entry, places in found:
        seen[key] = seen.get(key, 0) + 1
        yield Mutant(key if seen[key] == 1 else f"{key} ({seen[key]})", entry, places)


def _reachable(entry: EntryObject, name: str, roots: tuple[str, ...]) -> frozenset[int]:
    """Offsets of the instructions that can be reached from `roots` and their fix-ups."""
    data = entry.sections[name].data
    fixups = dict(entry.exceptions())
    behind = {a.at: a.at + a.length for a in entry.alternatives()}
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
        if ins.kind in ("jmp", "jcc", "call") and ins.target:
            todo.append(ins.target)
        if ins.kind not in ("jmp", "ret", "iretd", "sysexit", "sysretq", "ud2", "int3"):
            todo.append(at + ins.size)
    return frozenset(found)


def _in_text(entry: EntryObject, name: str, reachable: frozenset[int] | None = None) -> Iterator[_Found]:
    text = _Text(entry, name, reachable)
    for at, ins in text.walk():
        places: tuple[int, ...] = (at,)
        if name == ".altinstr_replacement":
            # the site's start, or inside it: wherever it has been patched in
            places = tuple(
                a.at + at - a.replacement for a in entry.alternatives()
                if a.replacement <= at < a.replacement + a.replacement_length
            )  # fmt: skip
        for what, changed in _changes(text, at, ins):
            yield f"{text.words(ins)}: {what}", changed, places


def _around(entry: EntryObject, name: str, reachable: frozenset[int] | None) -> Iterator[_Found]:
    """Fix-ups, alternatives, jumps into the kernel and constants in memory."""
    pairs = entry.sections.get("__ex_table")
    count = len(entry.exceptions())
    text = _Text(entry, name)
    for index, (fault, fixup) in enumerate(entry.exceptions()):
        assert pairs is not None
        if reachable is not None and fault not in reachable:
            continue
        words = text.words(details(text.section.data[fault : fault + 15], fault, entry.bits))
        size = len(pairs.data) // count
        # a fault address in no text: as good as no entry, and the relocations stay in place
        cut = pairs.data[: index * size] + b"\xff\xff\xff\x3f" + pairs.data[index * size + 4 :]
        yield f"fix-up of {words}: removed", _with(entry, replace(pairs, data=cut)), (fault,)
        for other in (fault, entry.exceptions()[(index + 1) % count][1]):
            if other == fixup:
                continue
            data = bytearray(pairs.data)
            data[index * size + 4 : index * size + 8] = other.to_bytes(4, "little")
            kind = "to itself" if other == fault else "to the next one's"
            yield f"fix-up of {words}: {kind}", _with(entry, replace(pairs, data=bytes(data))), (fault,)
    records = entry.sections.get(".rodata.sysenter_holes")
    if records is not None:
        names = sorted({r.symbol for r in records.relocations if r.symbol.startswith("kernel_")})
        word = entry.bits // 8
        starts = [at for at, _ in text.walk()]
        instructions = {
            hole.record + word: max((at for at in starts if at <= hole.at), default=0) for hole in entry.holes()
        }  # fmt: skip
        for r in records.relocations:
            if r.symbol in names:
                other_name = names[(names.index(r.symbol) + 1) % len(names)]
                changed = tuple(replace(x, symbol=other_name) if x is r else x for x in records.relocations)
                whole = _with(entry, replace(records, relocations=changed))
                yield f"hole for {r.symbol}: {other_name}", whole, (instructions[r.offset],)
    rodata = entry.sections.get(".rodata")
    if rodata is not None and "sysenter_user_ds" in entry.symbols:
        for symbol, (where, offset) in entry.symbols.items():
            if where == ".rodata":
                for step in (1, -8, 8):
                    data = bytearray(rodata.data)
                    data[offset] = (data[offset] + step) & 0xFF
                    yield f"{symbol}: constant {step:+d}", _with(entry, replace(rodata, data=bytes(data))), ()


def _with(entry: EntryObject, section: Section) -> EntryObject:
    return replace(entry, sections={**entry.sections, section.name: section})


def mutants(entry: EntryObject, section: str, roots: tuple[str, ...] = ()) -> Iterator[Mutant]:
    """All mutants of the handler in `section`, in a fixed order.

    roots: where it begins, if other handlers stand in the same section.
    """
    reachable = _reachable(entry, section, roots) if roots else None

    def found() -> Iterator[_Found]:
        yield from _in_text(entry, section, reachable)
        if ".altinstr_replacement" in entry.sections:
            yield from _in_text(entry, ".altinstr_replacement")
        yield from _around(entry, section, reachable)

    yield from _numbered(found())
