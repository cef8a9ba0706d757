# SPDX-License-Identifier: GPL-2.0-or-later
"""A bundle: a folder with what a replay needs, for native/replay/ and for another machine (packed by gzip).

`pages` is the memory, PAGE bytes each. `plan` is text, a line for each thing:

    sysenter-replay 1
    kernel RELEASE VERSION
    arch amd64|i386
    processor MODEL             of the guest
    pages SHA256                of the file `pages`
    per_cpu BASE                for GS (i386: FS)
    landing ADDRESS             where SYSEXIT goes (i386)
    map ADDRESS NUMBER          which of the pages is where
    verw ADDRESS LENGTH         a VERW on a path
    symbol ADDRESS NAME         of the kernel's, for people
    patch ADDRESS BYTES         other code, for the next call
    call NAME PATH ENTRY STACK RESULT REGISTER*7
    trace ADDRESS...            what the guest executed of the call before
    code SHA256 LENGTHS         of those instructions' bytes; a hex digit for the length of each
    end SHA256                  of all lines before

Numbers are in hex but NUMBER and LENGTH; STACK is where SYSENTER finds its stack, 0 for SYSCALL.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sysenter.errors import SysenterError
from sysenter.replay.trace import PAGE

__all__ = ["Bundle", "Call", "pack", "plan_of_calls", "read_bundle", "write_bundle"]

_FIRST = "sysenter-replay 1"


@dataclass(frozen=True)
class Call:
    """A call by one path, as the runner makes it."""

    name: str
    path: str
    entry: int
    stack: int
    result: int
    registers: tuple[int, ...]
    patches: tuple[tuple[int, bytes], ...] = ()
    """(address, bytes): what is written into the text while it runs."""
    trace: tuple[int, ...] | None = None
    """What the guest executed, None where that is not known."""
    lengths: str = ""
    """The length of each instruction of the trace, a hex digit each."""
    code: str = ""
    """SHA-256 of the trace's instructions' bytes, one after the other, as they are in a replay."""


@dataclass(frozen=True)
class Bundle:
    """A kernel's paths, at addresses that a process can have."""

    kernel: str
    arch: str
    processor: str
    per_cpu: int
    landing: int
    """The landing pad's address, 0 on amd64."""
    maps: dict[int, int]
    """Address -> number of its page in `pages`."""
    pages: bytes = field(repr=False)
    verws: tuple[tuple[int, int], ...]
    """(address, length) of each VERW."""
    calls: tuple[Call, ...]
    symbols: dict[int, str] = field(default_factory=dict)

    def read(self, address: int, length: int) -> bytes:
        """Memory at an address. Raises KeyError if it is not there."""
        data = b""
        while len(data) < length:
            at = address + len(data)
            start = self.maps[at & -PAGE] * PAGE + at % PAGE
            data += self.pages[start : (start & -PAGE) + PAGE][: length - len(data)]
        return data


def _call_lines(call: Call) -> list[str]:
    lines = [f"patch {at:x} {new.hex()}" for at, new in call.patches]
    # negative results in the word's own width
    words = (call.entry, call.stack, call.result, *call.registers)
    lines.append(f"call {call.name} {call.path} " + " ".join(f"{word:x}" for word in words))
    if call.trace is not None:
        lines.append("trace " + " ".join(f"{step:x}" for step in call.trace))
        lines.append(f"code {call.code} {call.lengths}")
    return lines


def plan_text(lines: Sequence[str]) -> str:
    """A plan of these lines, with its first and its last."""
    text = "\n".join([_FIRST, *lines]) + "\n"
    return f"{text}end {hashlib.sha256(text.encode()).hexdigest()}\n"


def plan_of_calls(calls: Sequence[Call]) -> str:
    """A plan of nothing but more calls, for the runner's -m."""
    return plan_text([line for call in calls for line in _call_lines(call)])


def write_bundle(bundle: Bundle, folder: Path) -> None:
    """Write `plan` and `pages` into a folder that exists."""
    lines = [
        f"kernel {bundle.kernel}",
        f"arch {bundle.arch}",
        f"processor {bundle.processor}",
        f"pages {hashlib.sha256(bundle.pages).hexdigest()}",
        f"per_cpu {bundle.per_cpu:x}",
        *([f"landing {bundle.landing:x}"] if bundle.landing else []),
        *(f"map {at:x} {number}" for at, number in sorted(bundle.maps.items())),
        *(f"verw {at:x} {length}" for at, length in bundle.verws),
        *(f"symbol {at:x} {name}" for at, name in bundle.symbols.items()),
        *(line for call in bundle.calls for line in _call_lines(call)),
    ]
    (folder / "pages").write_bytes(bundle.pages)
    (folder / "plan").write_text(plan_text(lines))


def pack(source: Path, folder: Path) -> None:
    """Write a file into a folder, as NAME.gz, the same bytes each time."""
    (folder / f"{source.name}.gz").write_bytes(gzip.compress(source.read_bytes(), mtime=0))


def _contents(folder: Path, name: str) -> bytes:
    """Of a bundle's file, packed or not."""
    packed = folder / f"{name}.gz"
    return gzip.decompress(packed.read_bytes()) if packed.exists() else (folder / name).read_bytes()


def read_bundle(folder: Path) -> Bundle:
    """Read what write_bundle() wrote, packed or not.

    Raises SysenterError if it is damaged, or its parts are of two bundles.
    """

    def damaged(why: str) -> SysenterError:
        return SysenterError(f"{folder} is not a bundle, or damaged: {why}", hint="export it anew: replay --export DIR")

    try:
        text, pages = _contents(folder, "plan").decode(errors="replace"), _contents(folder, "pages")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise damaged(f"it cannot be unpacked ({error})") from error
    except OSError as error:
        raise damaged(f"{error.filename}: {error.strerror}") from error
    body, _, last = text.rpartition("end ")
    if not text.startswith(_FIRST + "\n"):
        raise damaged(f"its plan does not begin with '{_FIRST}'")
    if hashlib.sha256(body.encode()).hexdigest() != last.strip():
        raise damaged("its plan is not as it was written")
    try:
        bundle, digest = _parse(body.splitlines()[1:], pages)
    except (ValueError, IndexError, KeyError) as error:
        raise damaged(f"its plan cannot be read ({error})") from error
    if hashlib.sha256(pages).hexdigest() != digest:
        raise damaged(f"its pages are not those of its plan, which is of {bundle.kernel}")
    if any(not 0 <= number < len(pages) // PAGE for number in bundle.maps.values()):
        raise damaged("its plan names a page that it has not")
    return bundle


def _parse(lines: Sequence[str], pages: bytes) -> tuple[Bundle, str]:
    single: dict[str, str] = {}
    maps: dict[int, int] = {}
    verws: list[tuple[int, int]] = []
    symbols: dict[int, str] = {}
    calls: list[Call] = []
    patches: list[tuple[int, bytes]] = []
    for line in lines:
        word, _, rest = line.partition(" ")
        words = rest.split()
        if word == "map":
            maps[int(words[0], 16)] = int(words[1])
        elif word == "verw":
            verws.append((int(words[0], 16), int(words[1])))
        elif word == "symbol":
            symbols[int(words[0], 16)] = words[1]
        elif word == "patch":
            patches.append((int(words[0], 16), bytes.fromhex(words[1])))
        elif word == "call":
            entry, stack, result, *registers = (int(w, 16) for w in words[2:])
            calls.append(Call(words[0], words[1], entry, stack, result, tuple(registers), tuple(patches)))
            patches = []
        elif word == "trace":
            calls.append(replace(calls.pop(), trace=tuple(int(w, 16) for w in words)))
        elif word == "code":
            calls.append(replace(calls.pop(), code=words[0], lengths=words[1]))
        else:
            single[word] = rest
    return Bundle(
        kernel=single["kernel"],
        arch=single["arch"],
        processor=single["processor"],
        per_cpu=int(single["per_cpu"], 16),
        landing=int(single.get("landing", "0"), 16),
        maps=maps,
        pages=pages,
        verws=tuple(verws),
        calls=tuple(calls),
        symbols=symbols,
    ), single["pages"]
