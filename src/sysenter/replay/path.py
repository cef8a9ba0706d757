# SPDX-License-Identifier: GPL-2.0-or-later
"""A call's whole path, for people: each instruction from the program's call to its return.

The instructions are those of a snapshot (snapshot.py), as the guest executed them; their names
are the kernel's own, from its image, and the module's, from its object file.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import capstone
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from sysenter.errors import SysenterError
from sysenter.lab.present_guest import PresentGuest
from sysenter.replay.pieces import steps_of_pieces
from sysenter.replay.purpose import Purpose, purpose_of
from sysenter.replay.relocate import relocated
from sysenter.replay.snapshot import Snapshot, take
from sysenter.replay.source import Line, lines_of
from sysenter.replay.trace import Trace
from sysenter.steps import Steps
from sysenter.target.image import read_bzimage
from sysenter.target.kallsyms import kallsyms
from sysenter.target.memory import Memory

__all__ = ["LANES", "Path", "Paths", "Step", "paths_of"]

LANES = ("user", "entry", "body", "exit")
_ORDER = ("int80", "stock", "all", "fast")
# The function that a call's number names: where the entry ends and the call's own work begins.
_BODY = re.compile(r"^(__(x64|ia32)_(compat_)?sys_|__do_sys_|sys_)\w+$")
_MODULE = " [sysenter]"


@dataclass(frozen=True)
class Step:
    """One instruction, executed once."""

    lane: str
    """One of LANES: the program's own stub, the way in, the call's own work, the way out."""
    symbol: str
    """The function that it is in, `[sysenter]` behind it if it is the module's; "" if it has none."""
    offset: int
    """From that symbol, in bytes."""
    text: str
    """The instruction, in AT&T syntax."""
    purpose: Purpose
    piece: str = ""
    """The name that `replay --pieces` gives to what it is a part of."""


@dataclass(frozen=True)
class Path:
    """A call by one path."""

    call: str
    path: str
    steps: tuple[Step, ...]


class _Names:
    """Address -> the symbol that it is in."""

    def __init__(self, symbols: Mapping[str, int]) -> None:
        best: dict[int, str] = {}
        for name, address in symbols.items():
            if name.startswith(("__pfx_", "__cfi_", ".L")):
                continue
            # of several names of a call's function the one that says so
            if address not in best or (_BODY.match(name) and not _BODY.match(best[address])):
                best[address] = name
        self._at = sorted(best)
        self._names = [best[address] for address in self._at]

    def find(self, address: int) -> tuple[str, int]:
        """(symbol, offset from it); ("", 0) if there is none near it."""
        n = bisect_right(self._at, address) - 1
        if n < 0 or address - self._at[n] > 1 << 16:
            return "", 0
        return self._names[n], address - self._at[n]


def _module_symbols(guest: PresentGuest, snapshot: Snapshot) -> dict[str, int]:
    """Where the module's entry code stood in the guest."""
    base = snapshot.symbols.get("sysenter_entry")
    if base is None:
        return {}
    with guest.module.entry.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection)
        entry = next(s for s in table.iter_symbols() if s.name == "sysenter_entry")
        return {
            s.name + _MODULE: base + s["st_value"] - entry["st_value"]
            for s in table.iter_symbols()
            if s["st_shndx"] == entry["st_shndx"] and s.name and s["st_info"]["type"] != "STT_SECTION"
        }


class _Reader:
    """Bytes -> text, with the kernel's names for what is jumped to."""

    def __init__(self, bits: int, names: _Names) -> None:
        self._capstone = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64 if bits == 64 else capstone.CS_MODE_32)
        self._capstone.syntax = capstone.CS_OPT_SYNTAX_ATT
        self._names = names

    def text(self, code: bytes, address: int) -> str:
        each = next(self._capstone.disasm(code, address, 1))
        words = f"{each.mnemonic} {each.op_str}".strip()
        target = re.fullmatch(r"0x([0-9a-f]+)", each.op_str)
        if target and (each.mnemonic.startswith(("j", "call"))):
            name, offset = self._names.find(int(target[1], 16))
            if name:
                words = f"{each.mnemonic} {name.removesuffix(_MODULE)}{f'+{offset:#x}' if offset else ''}"
        return words


def _lanes(trace: Trace, names: _Names, reader: _Reader) -> list[str]:
    """The lane of each step in the kernel: the body is what the call's function executes, and what it calls."""
    lanes, depth, body = [], 0, None
    state = "entry"
    for step in trace.steps:
        name, offset = names.find(step)
        # a word that a return takes: the body's own return goes below the depth that it began at
        if state == "entry" and offset == 0 and _BODY.match(name):
            state, body = "body", depth
        lanes.append(state)
        text = reader.text(trace.code[step], step)
        if text.startswith("call"):
            depth += 1
        elif text.startswith("ret"):
            depth -= 1
            if state == "body" and body is not None and depth < body:
                state = "exit"
    if "body" not in lanes:
        raise SysenterError("no function of the call's was found in its path", hint="this is a bug: report it")
    return lanes


def _path(
    call: str, path: str, trace: Trace, names: _Names, reader: _Reader, arch: str, pieces: Mapping[int, str]
) -> Path:
    texts = [reader.text(trace.code[step], step) for step in trace.steps]
    where = [names.find(step) for step in trace.steps]
    ours = [n for n, (name, _) in enumerate(where) if name.endswith(_MODULE)]
    lines: dict[int, Line | None] = dict(zip(ours, lines_of(arch, [texts[n] for n in ours]), strict=True))
    steps = []
    for at, code in trace.before:
        text = reader.text(code, at)
        steps.append(Step("user", "", 0, text, purpose_of("user", "", text)))
    for n, lane in enumerate(_lanes(trace, names, reader)):
        name, offset = where[n]
        piece = pieces.get(n, "")
        purpose = purpose_of(lane, name.removesuffix(_MODULE), texts[n], piece=piece, line=lines.get(n))
        steps.append(Step(lane, name, offset, texts[n], purpose, piece))
    for at, code in trace.behind:
        text = reader.text(code, at)
        steps.append(Step("user", "", 0, text, purpose_of("user", "", text)))
    return Path(call, path, tuple(steps))


@dataclass(frozen=True)
class Paths:
    """What `replay --trace` writes down."""

    kernel: str
    """Its release and version."""
    arch: str
    cpu: str
    """The guest's processor model, which decided the kernel's paths."""
    options: str
    """The module's parameters."""
    paths: tuple[Path, ...]

    def to_json(self) -> dict[str, Any]:
        """As the object that docs/json.md describes, schema 1."""
        return {
            "schema": 1,
            "kind": "trace",
            "kernel": self.kernel,
            "arch": self.arch,
            "cpu": self.cpu,
            "module_options": self.options.split(),
            "paths": [
                {"call": each.call, "path": each.path, "steps": [_step_json(step) for step in each.steps]}
                for each in self.paths
            ],
        }


def _step_json(step: Step) -> dict[str, Any]:
    return {
        "lane": step.lane,
        **({"symbol": step.symbol, "offset": step.offset} if step.symbol else {}),
        "instruction": step.text,
        "for": step.purpose.kind,
        **({"why": step.purpose.why} if step.purpose.why else {}),
        **({"by": step.purpose.by} if step.purpose.by else {}),
        **({"piece": step.piece} if step.piece else {}),
    }


def paths_of(steps: Steps, guest: PresentGuest, options: Sequence[str], names: Sequence[str]) -> Paths:
    """Calls by each path that they have in the guest. options: the module's. Raises SysenterError."""
    snapshot = take(steps, guest, options=" ".join(options))
    image = Memory.of(read_bzimage(guest.target.image.read_bytes(), str(guest.target.image)))
    symbols = _Names({**kallsyms(image), **_module_symbols(guest, snapshot)})
    reader = _Reader(snapshot.bits, symbols)
    bundle = relocated(snapshot)
    found = []
    for name in names:
        traces = {path: trace for (call, path), trace in snapshot.traces.items() if call == name}
        if name in snapshot.int80:
            traces["int80"] = snapshot.int80[name]
        pieces = steps_of_pieces(bundle, name)
        for path in sorted(traces, key=_ORDER.index):
            found.append(_path(name, path, traces[path], symbols, reader, snapshot.arch, pieces.get(path, {})))
    return Paths(f"{snapshot.release} {snapshot.version}", snapshot.arch, snapshot.cpu, snapshot.options, tuple(found))
