# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds the source line of an executed instruction of the module's entry, for the comment in that line.

The assembler gives one line number to all of a macro, so the text is aligned instead: the
sources with their macros expanded against the instructions in the order in which they were
executed, by mnemonic and registers. What does not align has no line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from sysenter.build.native import NATIVE

__all__ = ["Line", "lines_of"]

_SOURCES = {
    "amd64": ("entry_amd64.S", "all_amd64.S"),
    "i386": ("entry_i386.S", "pti_i386.S"),
}
_INSTRUCTION = re.compile(r"^([a-z][a-z0-9]*)(?:\s+(.*))?$")
_MACRO = re.compile(r"^\.macro\s+(\w+)(.*)$")
_ALTERNATIVE = re.compile(r'"([^"]*)"')
# A kernel's address is written into these, which stand in the source as bytes.
_BYTES = {"KERNEL_JMP": "jmp", "KERNEL_CALL": "call", "KERNEL_PUSH": "push", "RET": "ret"}
_ALIKE = {"jz": "je", "jnz": "jne", "jc": "jb", "jnc": "jae", "jnb": "jae", "jnae": "jb", "retq": "ret"}
_UNSEEN = {"endbr", "int3", "nop"}


@dataclass(frozen=True)
class Line:
    """An instruction of the source."""

    text: str
    comment: str
    """The comment in its line."""
    macros: tuple[str, ...]
    """The macros that it is in, the outermost first."""

    @property
    def key(self) -> tuple[str, ...]:
        """Mnemonic and registers."""
        return key_of(self.text)


def key_of(text: str) -> tuple[str, ...]:
    """The key for aligning an instruction (AT&T syntax): its mnemonic without the size, and its registers."""
    mnemonic, _, operands = text.partition(" ") if " " in text else text.partition("\t")
    mnemonic = _ALIKE.get(mnemonic, mnemonic)
    registers = [register for register in re.findall(r"%(\w+)", operands) if register not in ("rip", "cs", "ss")]
    if mnemonic.startswith(("j", "call")):
        return (mnemonic.removesuffix("q"), *registers)
    return (mnemonic.rstrip("bwlq"), *registers)


def _comments_out(text: str) -> Iterator[tuple[str, str]]:
    """(code, comment behind it) of each line."""
    # a comment of several lines says something of what follows, not of one line
    text = re.sub(r"/\*(?:[^*]|\*(?!/))*?\n(?:[^*]|\*(?!/))*?\*/", lambda m: "\n" * m[0].count("\n"), text)
    for line in text.splitlines():
        code, _, comment = line.partition("/*")
        yield code.strip(), comment.replace("*/", "").strip()


def _expanded(arch: str) -> Iterator[Line]:
    macros: dict[str, tuple[list[str], list[tuple[str, str]]]] = {}
    top: list[tuple[str, str]] = []
    for name in _SOURCES[arch]:
        inside: str | None = None
        for code, comment in _comments_out((NATIVE / "present" / name).read_text()):
            if match := _MACRO.match(code):
                inside = match[1]
                macros[inside] = ([word.split(":")[0].split("=")[0] for word in match[2].split()], [])
            elif code == ".endm":
                inside = None
            elif inside:
                macros[inside][1].append((code, comment))
            elif code:
                top.append((code, comment))

    def lines(body: Sequence[tuple[str, str]], around: tuple[str, ...]) -> Iterator[Line]:
        for code, comment in body:
            word, _, rest = code.partition(" ") if "\t" not in code.split(" ")[0] else code.partition("\t")
            if word in _BYTES:
                yield Line(_BYTES[word], comment, (*around, word))
            elif word in macros and word not in around:
                parameters, inner = macros[word]
                given = [part.strip() for part in rest.replace(",", " ").split()]
                values = dict(zip(parameters, (each.split("=")[-1] for each in given), strict=False))

                def filled(text: str, values: dict[str, str] = values) -> str:
                    return re.sub(r"\\(\w+)", lambda m: values.get(m[1], m[0]), text)

                yield from lines([(filled(c), k) for c, k in inner], (*around, word))
            elif word in ("ALTERNATIVE", "ALTERNATIVE_2"):
                for instruction in _ALTERNATIVE.findall(rest):
                    yield from lines([(instruction, comment)], around)
            elif _INSTRUCTION.match(code) and not code.endswith(":"):
                text = re.sub(r"PERCPU_PATCHED|PER_CPU_VAR\(\w+\)", "%gs:0", code)
                yield Line(re.sub(r"\s+", " ", text), comment, around)

    yield from lines(top, ())


def lines_of(arch: str, executed: Sequence[str]) -> list[Line | None]:
    """The source line of each executed instruction of the module (AT&T syntax, in order); None if not found."""
    source = list(_expanded(arch))
    found: list[Line | None] = [None] * len(executed)
    keys = [key_of(text) for text in executed]
    matcher = SequenceMatcher(None, [line.key for line in source], keys, autojunk=False)
    for block in matcher.get_matching_blocks():
        for n in range(block.size):
            if keys[block.b + n][0] not in _UNSEEN:
                found[block.b + n] = source[block.a + n]
    return found
