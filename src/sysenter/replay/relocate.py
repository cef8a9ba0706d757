# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes a bundle of a snapshot: moves the paths to addresses that a process can use."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from sysenter.errors import SysenterError
from sysenter.replay import rules_amd64, rules_i386
from sysenter.replay.bundle import Bundle, Call
from sysenter.replay.operands import Decoder
from sysenter.replay.rules import PROCESS_DS, Unreplayable, verw_selector
from sysenter.replay.snapshot import Snapshot
from sysenter.replay.trace import PAGE, Trace

__all__ = ["relocated", "space_of"]

_MODULES_AMD64 = range(0xFFFFFFFFA0000000, 0xFFFFFFFFFF000000)  # MODULES_VADDR, MODULES_END
_NEEDED = {64: ("_stext", "_end"), 32: ("entry_SYSENTER_32",)}  # symbols
_KERNEL_I386 = 0xC0000000  # PAGE_OFFSET
_MODULES_I386 = 0xC8000000  # above 128 MiB of memory is no kernel image


class _Memory:
    """The snapshot's pages, to be changed: physical page -> contents."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._where = {virtual: physical for virtual, (physical, _) in snapshot.pages.items()}
        self.contents = {physical: bytearray(data) for physical, data in snapshot.pages.values()}

    def read(self, address: int, length: int) -> bytes:
        return bytes(self._byte(address + i)[0][self._byte(address + i)[1]] for i in range(length))

    def write(self, address: int, data: bytes) -> None:
        for i, value in enumerate(data):
            page, at = self._byte(address + i)
            page[at] = value

    def _byte(self, address: int) -> tuple[bytearray, int]:
        return self.contents[self._where[address & -PAGE]], address % PAGE

    def physical(self, address: int) -> int:
        return self._where[address & -PAGE]


def space_of(snapshot: Snapshot) -> rules_amd64.Space:
    """An amd64 snapshot's address space."""
    image = range(snapshot.symbols["_stext"], snapshot.symbols["_end"])
    return rules_amd64.Space(
        image,
        frozenset(page for page in snapshot.pages if page in _MODULES_AMD64),
        snapshot.per_cpu,
        per_cpu_in_image=snapshot.symbols.get("__per_cpu_start", 0) in image,
    )


def relocated(snapshot: Snapshot) -> Bundle:
    """The bundle of a snapshot. Raises SysenterError if a path has an instruction that cannot be replayed, or if the
    kernel's kallsyms does not say where its image is."""
    if missing := [name for name in _NEEDED[snapshot.bits] if name not in snapshot.symbols]:
        raise SysenterError(
            f"this kernel's paths cannot be replayed: its kallsyms has no {missing[0]}",
            hint="a kernel with CONFIG_KALLSYMS_ALL has it",
        )
    decoder, memory = Decoder(snapshot.bits), _Memory(snapshot)
    try:
        if snapshot.bits == 64:
            return _amd64(snapshot, decoder, memory)
        return _i386(snapshot, decoder, memory)
    except Unreplayable as error:
        raise SysenterError(
            f"this path cannot be replayed in a process: it has {error}",
            hint="another --append or --cpu may choose another path",
        ) from error


def _amd64(snapshot: Snapshot, decoder: Decoder, memory: _Memory) -> Bundle:
    space = space_of(snapshot)
    text = {memory.physical(address) for address in snapshot.executed}
    for physical, page in memory.contents.items():
        if physical not in text:
            page[:] = rules_amd64.move_data(bytes(page), space)
    verws = _rewrite_executed(
        snapshot, decoder, memory, lambda instruction: rules_amd64.rewrite(instruction, space), space.moved
    )
    calls = []
    for (name, path), trace in snapshot.traces.items():
        calls.append(
            Call(
                name,
                path,
                entry=space.moved(trace.steps[0]),
                stack=space.moved(trace.stack) if trace.stack >> 63 else 0,
                result=trace.result,
                registers=trace.arguments,
                patches=_patches(trace, memory, decoder, lambda i: rules_amd64.rewrite(i, space), space.moved),
                trace=tuple(space.moved(step) for step in trace.steps),
                **_code(trace, decoder, lambda i: rules_amd64.rewrite(i, space)),
            )
        )
    return _bundle(snapshot, memory, space.moved, space.moved_per_cpu, 0, verws, tuple(calls))


def _i386(snapshot: Snapshot, decoder: Decoder, memory: _Memory) -> Bundle:
    landings = {trace.back for trace in snapshot.traces.values()}
    if len(landings) != 1 or any(trace.stack < _KERNEL_I386 for trace in snapshot.traces.values()):
        raise SysenterError(
            "only SYSENTER of a 32-bit kernel is replayed, not AMD's SYSCALL", hint="take another --cpu, as pentium3"
        )
    entry_text = range(snapshot.symbols["entry_SYSENTER_32"] & -PAGE, snapshot.symbols["entry_SYSENTER_32"] + PAGE)

    def rewrite(instruction: Any) -> bytes:
        selector = rules_i386.selector_in_memory(instruction)
        if selector is not None:
            value = int.from_bytes(memory.read(selector, 2), "little")
            memory.write(selector, rules_i386.SELECTORS.get(value, value).to_bytes(2, "little"))
        entry_code = instruction.address in entry_text or instruction.address >= _MODULES_I386
        return rules_i386.rewrite(instruction, entry_code)

    def stays(address: int) -> int:
        return address

    verws = _rewrite_executed(snapshot, decoder, memory, rewrite, stays)
    calls = tuple(
        Call(
            name,
            path,
            trace.steps[0],
            trace.stack,
            trace.result,
            trace.arguments,
            _patches(trace, memory, decoder, rewrite, stays),
            trace.steps,
            **_code(trace, decoder, rewrite),
        )
        for (name, path), trace in snapshot.traces.items()
    )
    return _bundle(snapshot, memory, stays, snapshot.per_cpu, landings.pop(), verws, calls)


def _rewrite_executed(
    snapshot: Snapshot, decoder: Decoder, memory: _Memory, rewrite: Callable[[Any], bytes], moved: Callable[[int], int]
) -> tuple[tuple[int, int], ...]:
    """Change each executed instruction as it stands in memory; returns where VERWs are."""
    verws = []
    for address in sorted(snapshot.executed):
        instruction = decoder.decode(memory.read(address, _within(address, memory)), address)
        if instruction.mnemonic == "verw":
            verws.append((moved(address), instruction.size))
            selector = verw_selector(instruction)
            if selector is None:
                raise Unreplayable(f"{instruction.mnemonic} {instruction.op_str} at {address:#x}")
            memory.write(selector, PROCESS_DS.to_bytes(2, "little"))
        new = rewrite(instruction)
        if new != instruction.bytes:
            memory.write(address, new)
    return tuple(verws)


def _within(address: int, memory: _Memory) -> int:
    """How many bytes at most an instruction there can have: up to 15, not beyond what was saved."""
    try:
        memory.physical(address + 14)
    except KeyError:
        return PAGE - address % PAGE
    return 15


def _patches(
    trace: Trace, memory: _Memory, decoder: Decoder, rewrite: Callable[[Any], bytes], moved: Callable[[int], int]
) -> tuple[tuple[int, bytes], ...]:
    """The instructions of a trace that differ from memory, which was saved later."""
    patches = []
    for address, code in trace.code.items():
        new = rewrite(decoder.decode(code, address))
        if new != memory.read(address, len(new)):
            patches.append((moved(address), new))
    return tuple(patches)


def _code(trace: Trace, decoder: Decoder, rewrite: Callable[[Any], bytes]) -> dict[str, str]:
    """What a replay executes, byte for byte."""
    new = {address: rewrite(decoder.decode(code, address)) for address, code in trace.code.items()}
    return {
        "code": hashlib.sha256(b"".join(new[step] for step in trace.steps)).hexdigest(),
        "lengths": "".join(f"{len(new[step]):x}" for step in trace.steps),
    }


def _bundle(
    snapshot: Snapshot,
    memory: _Memory,
    moved: Callable[[int], int],
    per_cpu: int,
    landing: int,
    verws: tuple[tuple[int, int], ...],
    calls: tuple[Call, ...],
) -> Bundle:
    order: Mapping[int, int] = {physical: number for number, physical in enumerate(sorted(memory.contents))}
    return Bundle(
        kernel=f"{snapshot.release} {snapshot.version}",
        arch=snapshot.arch,
        processor=snapshot.cpu,
        per_cpu=per_cpu,
        landing=landing,
        maps={moved(virtual): order[physical] for virtual, (physical, _) in snapshot.pages.items()},
        pages=b"".join(bytes(memory.contents[physical]) for physical in order),
        verws=verws,
        calls=calls,
        symbols={moved(at): name for name, at in snapshot.symbols.items() if at > PAGE},
    )
