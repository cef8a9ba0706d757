# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the cycles go: a path with one of its pieces taken out or exchanged.

A piece is found in the trace by what its instructions are, not by where a kernel has
them, and taken out by NOPs in its place, by a jump over it, or by a call of something
else. Without it the call must still give its result; the mitigations and checks that are taken out here
are what a path is there for, so this says what they cost, not that they could go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from capstone import CS_OP_IMM, CS_OP_MEM, CS_OP_REG, x86

from sysenter.replay.bundle import Bundle, Call
from sysenter.replay.operands import Decoder
from sysenter.replay.result import Difference, Result, quartiles
from sysenter.replay.rules import nop
from sysenter.replay.runner import Key

__all__ = ["VERW", "Cost", "Piece", "Walk", "costs_of", "pieces_of", "steps_of_pieces"]

VERW = "VERW"

_ENTRY_TEXT = 0x2000  # bytes around an entry's first instruction that its own code is in
_FUNCTION = 0x400  # bytes around a step that are of the same function
_PT_RIP = 0x80  # of struct pt_regs, amd64
_REL8 = range(-128, 128)
Patches = Sequence[tuple[int, bytes]]


@dataclass(frozen=True)
class Piece:
    """A path without one of its pieces, as a call that the runner can make."""

    path: str
    what: str
    call: Call
    """The call as the runner makes it, with the path's name and a number."""
    added_to: str = ""
    """The path's name and number to which it is added, if it is not taken out of the path."""


class Walk:
    """The instructions of a call, in the order in which they are executed."""

    def __init__(self, bundle: Bundle, call: Call) -> None:
        self._decoder = decoder = Decoder(64 if bundle.arch == "amd64" else 32)
        patched = dict(call.patches)
        assert call.trace is not None
        self.call, self.bundle = call, bundle
        self.steps: list[Any] = []
        for address, length in zip(call.trace, call.lengths, strict=True):
            code = patched.get(address) or bundle.read(address, int(length, 16))
            self.steps.append(decoder.decode(code, address))
        first = self.steps[0].address
        own = [abs(step.address - first) < _ENTRY_TEXT for step in self.steps]
        # the entry's own code, around what it calls
        self.into = next(n for n, is_own in enumerate(own) if not is_own)
        self.back = len(own) - 1 - next(n for n, is_own in enumerate(reversed(own)) if not is_own) + 1

    def entry(self) -> range:
        """The entry's steps before it calls anything."""
        return range(self.into)

    def exit(self) -> range:
        """The entry's steps after what it called."""
        return range(self.back, len(self.steps))

    def find(self, where: Iterable[int], test: Callable[[Any], bool]) -> int | None:
        """The number of the first step for which `test` is true."""
        return next((n for n in where if test(self.steps[n])), None)

    # --- ways to take something out: patches --------------------------------------

    def nops(self, which: Iterable[int]) -> tuple[tuple[int, bytes], ...]:
        """Patches that replace these steps by NOPs. Neighbouring steps share a patch."""
        patches: list[tuple[int, int]] = []
        for step in sorted({(self.steps[n].address, self.steps[n].size) for n in which}):
            if patches and sum(patches[-1]) == step[0] and patches[-1][1] + step[1] <= 64:
                patches[-1] = (patches[-1][0], patches[-1][1] + step[1])
            else:
                patches.append(step)
        return tuple((at, nop(size)) for at, size in patches)

    def jump(self, start: int, end: int, first: bytes = b"") -> tuple[tuple[int, bytes], ...]:
        """Patches that jump from step `start` to step `end`, with `first` before the jump; none without room for it."""
        at, to = self.steps[start].address + len(first), self.steps[end].address
        code = b"\xeb" + (to - at - 2).to_bytes(1, "little", signed=True) if to - at - 2 in _REL8 else b""
        code = first + (code or b"\xe9" + (to - at - 5).to_bytes(4, "little", signed=True))
        room = 0
        for n in range(start, end):
            if self.steps[n].address != self.steps[start].address + room:
                break
            room += self.steps[n].size
        return ((self.steps[start].address, code),) if room >= len(code) else ()

    def call_of(self, step: int, target: int) -> tuple[tuple[int, bytes], ...]:
        """A patch that calls another function at this step."""
        at = self.steps[step].address
        return ((at, b"\xe8" + (target - at - 5).to_bytes(4, "little", signed=True)),)

    def left_out(self, patches: Patches) -> list[int]:
        """The steps that these patches leave out: replaced, jumped over, or in a function that is not called."""
        which: list[int] = []
        until = 0
        for n, step in enumerate(self.steps):
            patch = next(((at, new) for at, new in patches if at <= step.address < at + len(new)), None)
            if n < until or patch is None:
                continue
            new = list(self._decoder.disassemble(patch[1], patch[0]))
            goes = next((each for each in new if each.mnemonic in ("jmp", "call")), None)
            end: int | None = n + 1
            if goes is not None and goes.operands[0].type == CS_OP_IMM and step.address == patch[0]:
                end = self.find(range(n + 1, len(self.steps)), lambda s, to=goes.operands[0].imm: s.address == to)  # type: ignore[misc]
            elif step.mnemonic == "call":
                end = self._returned(n)
            until = n + 1 if end is None else end
            which += range(n + 1 if goes is not None and goes.mnemonic == "call" else n, until)
        return which

    def _returned(self, call: int) -> int | None:
        """The first step after the function that is called there."""
        behind = self.steps[call].address + self.steps[call].size
        return self.find(range(call + 1, len(self.steps)), lambda s: s.address == behind)

    # --- what pieces both paths have ----------------------------------------------

    def clearing(self, where: range) -> tuple[tuple[int, bytes], ...]:
        """XORs of a register with itself."""
        return self.nops(n for n in where if _clears(self.steps[n]))

    def dispatch(self) -> tuple[int, int] | None:
        """The step that calls the dispatcher, and the first of the call's body.

        In between is nothing but comparisons and jumps, or a retpoline; on i386 also a frame pointer, and a call
        of the body from there.
        """
        for n, step in enumerate(self.steps[:-8]):
            if step.mnemonic != "call" or step.operands[0].type != CS_OP_IMM:
                continue
            ahead = self.steps[n + 1 : n + 8]
            # a retpoline: CALL, the target over the return address, RET; before it i386 reads the target
            inner = next((m for m, other in enumerate(ahead) if other.mnemonic == "call"), None)
            returns = next((m for m, other in enumerate(ahead) if other.mnemonic == "ret"), None)
            if inner is not None and returns is not None and inner < returns - 1:
                before = all(other.mnemonic.startswith(("mov", "nop", "lea")) for other in ahead[:inner])
                if before and ahead[inner + 1].op_str.split(", ")[0].endswith("sp]"):
                    return n, n + 1 + returns + 1
            last, compared = None, False
            for m in range(n + 1, len(self.steps)):
                name = self.steps[m].mnemonic
                compared = compared or name in ("cmp", "test")
                if name == "jmp":
                    last = m + 1
                elif name == "call" and compared and self.bundle.arch == "i386":
                    last = m + 1
                    break
                elif not name.startswith(("nop", "endbr", "cmp", "test", "j")) and not self._frame_pointer(m):
                    break
            if last is not None and compared:
                return n, last
        return None

    def _frame_pointer(self, n: int) -> bool:
        """Is the step one of PUSH %ebp; MOV %esp, %ebp? LEA: what i386's compilers have for a NOP."""
        text = f"{self.steps[n].mnemonic} {self.steps[n].op_str}"
        return text in ("push ebp", "mov ebp, esp") or text.startswith("lea esi, ")

    def body_twice(self) -> tuple[tuple[int, bytes], ...]:
        """Patches that run the body a second time, by a direct call. Its code is put where this call never comes:
        into the exit work."""
        dispatch = self.dispatch()
        spare = self.find(self.exit(), lambda s: s.mnemonic == "jne")
        if dispatch is None or spare is None:
            return ()
        cave, body = self.steps[spare].operands[0].imm, self.steps[dispatch[1]].address
        keep, back = (b"\x57", b"\x5f") if self.bundle.arch == "amd64" else (b"\x50", b"\x58")  # pt_regs
        code = keep + b"\xe8" + (body - cave - 6).to_bytes(4, "little", signed=True) + back
        code += b"\xe9" + (body - cave - len(code) - 5).to_bytes(4, "little", signed=True)
        return (*self.call_of(dispatch[0], cave), (cave, code))

    def called(self, name: str) -> int | None:
        """The step that calls a function of the kernel's."""
        target = next((at for at, symbol in self.bundle.symbols.items() if symbol == name), None)
        return self.find(range(len(self.steps)), lambda s: s.mnemonic == "call" and s.operands[0].imm == target)


def _clears(step: Any) -> bool:
    return (
        step.mnemonic == "xor"
        and all(operand.type == CS_OP_REG for operand in step.operands)
        and step.operands[0].reg == step.operands[1].reg
    )


def _names(step: Any, *registers: str) -> bool:
    return any(o.type == CS_OP_REG and step.reg_name(o.reg) in registers for o in step.operands)


def _per_cpu(step: Any) -> bool:
    return any(o.type == CS_OP_MEM and o.mem.segment in (x86.X86_REG_GS, x86.X86_REG_FS) for o in step.operands)


_DIRECT = "dispatch: a direct call of the body instead"
_BODY = "the call's body"


def _both(walk: Walk) -> Iterable[tuple[str, Patches]]:
    yield "registers cleared at the entry", walk.clearing(walk.entry())
    dispatch = walk.dispatch()
    if dispatch:
        yield _DIRECT, walk.call_of(dispatch[0], walk.steps[dispatch[1]].address)
    clock = [n for n, step in enumerate(walk.steps) if step.mnemonic == "rdtsc"]
    if clock:
        yield "RDTSC (for the stack offset)", walk.nops(clock)
    segments = [
        n
        for n, step in enumerate(walk.steps)
        if step.mnemonic in ("mov", "pop")
        and step.operands
        and step.operands[0].type == CS_OP_REG
        and step.operands[0].reg in (x86.X86_REG_DS, x86.X86_REG_ES)
    ]
    if segments:
        yield "ds and es loaded", walk.nops(segments)


def _stock_amd64(walk: Walk) -> Iterable[tuple[str, Patches]]:
    everywhere = range(len(walk.steps))
    enter, leave = walk.called("syscall_enter_from_user_mode"), walk.called("syscall_exit_to_user_mode")
    if enter is not None:  # gives its second argument, the number
        yield "enter work", ((walk.steps[enter].address, bytes.fromhex("4889f06690")),)
    if leave is not None:
        yield "exit work", walk.nops([leave])
    fpu = walk.called("fpregs_assert_state_consistent")
    if fpu is not None:
        yield "exit work: the FPU's state looked at", walk.nops([fpu])
    draw = walk.called("prandom_u32_state")
    moved = [n for n in everywhere if walk.steps[n].mnemonic == "sub" and walk.steps[n].op_str == "rsp, rax"]
    if draw is not None:
        yield "stack offset drawn", walk.nops([draw])
    if moved:
        yield "stack offset taken off", walk.nops(moved[:1])
    dispatch, pops = walk.dispatch(), walk.find(walk.exit(), lambda s: s.mnemonic == "pop")
    # since 6.7 do_syscall_64() itself looks whether SYSRET may be used; the module's stand-in asks before the call
    looks = walk.find(
        range(dispatch[1] if dispatch else 0, len(walk.steps)),
        lambda s: (
            s.mnemonic == "mov"
            and s.operands[0].type == CS_OP_REG
            and s.operands[1].type == CS_OP_MEM
            and s.operands[1].mem.disp == _PT_RIP
            and s.operands[1].mem.base not in (0, x86.X86_REG_RIP)
            and dispatch is not None
            and abs(s.address - walk.steps[dispatch[0]].address) < _FUNCTION
        ),
    )
    if looks is not None and looks < walk.back and dispatch:
        stored = walk.find(range(dispatch[1], looks), lambda s: s.op_str.endswith("+ 0x50], rax"))
        if leave is None and stored is not None:
            yield "exit work", walk.jump(stored + 1, looks)
        done = walk.find(range(looks, walk.back), lambda s: s.mnemonic == "lea" and s.op_str.startswith("rsp, [rbp"))
        if done is not None:
            yield "may SYSRET be used?", walk.jump(looks, done, bytes.fromhex("b801000000"))
    elif pops is not None:
        first = walk.find(walk.exit(), lambda s: s.op_str.endswith("[rsp + 0x58]"))
        if first is not None and first < pops:
            yield "may SYSRET be used?", walk.jump(first, pops)
    second = walk.find(walk.exit(), lambda s: s.op_str == "rdi, rsp")
    if second is not None:
        after = walk.find(range(second, len(walk.steps)), lambda s: s.op_str == "rsp" and s.mnemonic == "pop")
        if after is not None:  # pop rdi; mov 0x20(%rsp), %rsp
            yield "second stack at the exit", walk.jump(second, after + 1, bytes.fromhex("5f488b642420"))


def _fast_amd64(walk: Walk) -> Iterable[tuple[str, Patches]]:
    steps = walk.steps
    pushed = walk.find(walk.entry(), lambda s: s.mnemonic == "pushfq")
    tested = walk.find(walk.entry(), lambda s: s.mnemonic == "test" and s.op_str.startswith("dword ptr [rsp]"))
    if pushed is not None and tested is not None:
        yield "odd flags looked for", walk.nops([pushed, tested, tested + 1])
    guard = walk.find(walk.entry(), lambda s: s.mnemonic == "shr" and s.op_str == "rcx, 0x2f")
    if guard is not None:
        end = walk.find(range(guard, walk.into), lambda s: s.mnemonic == "jne")
        if end is not None:
            yield "the one comparison (work, frame, address, number)", walk.nops(range(guard, end + 1))
    kept = ("r12", "r13", "r14", "r15", "r12d", "r13d", "r14d", "r15d")
    own = [*walk.entry(), *walk.exit()]
    yield "r12 to r15 kept", walk.nops(n for n in own if _names(steps[n], *kept))
    counter = [n for n in walk.entry() if steps[n].mnemonic == "inc" and _per_cpu(steps[n])]
    yield "calls counted", walk.nops(counter)
    draw = walk.find(walk.entry(), lambda s: s.mnemonic == "imul")
    if draw is not None:
        near = range(max(draw - 1, 0), min(draw + 4, walk.into))
        yield (
            "stack offset drawn",
            walk.nops(
                n
                for n in near
                if n == draw
                or (_names(steps[n], "r10", "r10d") and steps[n].mnemonic != "lea")
                or (_per_cpu(steps[n]) and _names(steps[n], "rdx"))
            ),
        )
    work = walk.find(walk.exit(), lambda s: s.mnemonic == "and" and s.op_str.startswith("edi, "))
    if work is not None:
        end = walk.find(range(work, len(steps)), lambda s: s.mnemonic == "jne")
        if end is not None:
            yield "exit work looked for", walk.nops(range(work - 1, end + 1))
    yield "registers cleared at the exit", walk.clearing(walk.exit())


_PT_FS, _PT_ES = 0x24, 0x20  # of struct pt_regs, i386


def _other_selector(walk: Walk) -> Patches:
    """The exit's load of fs, which is null in nearly every program. The variant loads the slot beside it, a data
    segment."""
    load = walk.find(walk.exit(), lambda s: s.mnemonic == "mov" and s.op_str == f"fs, word ptr [esp + {_PT_FS:#x}]")
    if load is None:
        return ()
    code = bytes(walk.steps[load].bytes)
    return ((walk.steps[load].address, code[:-1] + bytes([_PT_ES])),)


def _stock_i386(walk: Walk) -> Iterable[tuple[str, Patches]]:
    yield "a null selector for fs, another instead", _other_selector(walk)
    leave = walk.called("syscall_exit_to_user_mode")
    if leave is not None:
        yield "exit work", walk.nops([leave])
    flags = walk.find(walk.exit(), lambda s: s.mnemonic == "popfd")
    if flags is not None:  # an ADD in its place, which keeps the stack pointer right
        yield "flags by POPF", walk.jump(flags - 1, flags + 1, bytes.fromhex("83c404"))


def _fast_i386(walk: Walk) -> Iterable[tuple[str, Patches]]:
    steps, entry = walk.steps, range(walk.into)

    def span(first: str, last: Callable[[Any], bool], where: range) -> Sequence[int]:
        """The steps from the one with these words to the one after it for which `last` holds."""
        start = walk.find(where, lambda s: f"{s.mnemonic} {s.op_str}".startswith(first))
        end = None if start is None else walk.find(range(start, where.stop), last)
        return () if start is None or end is None else range(start, end + 1)

    def is_jump(step: Any) -> bool:
        return bool(step.mnemonic in ("jne", "je", "js"))

    yield "a null selector for fs, another instead", _other_selector(walk)
    yield "odd flags looked for", walk.nops(span("test dword ptr [esp], ", is_jump, entry))
    looked = [*span("mov ecx, ds", is_jump, entry), *span("mov ecx, es", is_jump, entry)]
    yield "ds and es looked at", walk.nops(looked)
    yield "frame looked at", walk.nops(span("cmp dword ptr [esp + 0x40], ", is_jump, entry))
    yield "work looked for", walk.nops(span("cmp dword ptr ss:[ecx + ", is_jump, entry))
    yield "kind of call looked at", walk.nops(span("cmp byte ptr ss:[eax ", is_jump, entry))
    yield "calls counted", walk.nops(n for n in entry if steps[n].mnemonic == "inc" and _per_cpu(steps[n]))
    drawn = walk.find(entry, lambda s: s.mnemonic == "imul")
    if drawn is not None:
        moved = walk.find(range(drawn, walk.into), lambda s: s.mnemonic == "lea" and s.op_str.startswith("esp, "))
        yield "stack offset", walk.nops([*range(drawn, drawn + 3), *([moved] if moved is not None else [])])
    yield "exit work looked for", walk.nops(n for n in walk.exit() if steps[n].mnemonic in ("test", "jne"))
    yield "arithmetic flags set", walk.nops(span("xchg ", lambda s: bool(s.mnemonic == "sahf"), walk.exit()))


def _found(walk: Walk) -> list[tuple[str, Patches]]:
    found = list(_both(walk))
    if walk.bundle.arch == "amd64":
        found += _fast_amd64(walk) if walk.call.path == "fast" else _stock_amd64(walk)
    else:  # on i386 an unmarked call goes by the same entry as a marked one
        found += _stock_i386(walk) if walk.call.path == "stock" else _fast_i386(walk)
    return found


def steps_of_pieces(bundle: Bundle, name: str) -> dict[str, dict[int, str]]:
    """Path -> number of a step of a call's -> the smallest piece that it is a part of."""
    paths = {}
    for call in (c for c in bundle.calls if c.name == name and c.trace is not None):
        walk = Walk(bundle, call)
        pieces = [(what, walk.left_out(patches)) for what, patches in _found(walk) if patches]
        pieces.append((VERW, [n for n, step in enumerate(walk.steps) if step.mnemonic == "verw"]))
        paths[call.path] = {n: what for what, which in sorted(pieces, key=lambda p: -len(p[1])) for n in which}
    return paths


def pieces_of(bundle: Bundle, name: str) -> list[Piece]:
    """The pieces found in the paths of a call. VERW is not among them, because each call is timed with and without."""
    pieces: list[Piece] = []
    calls = [c for c in bundle.calls if c.name == name and c.trace is not None]
    if bundle.arch == "i386" and any(c.path == "fast" for c in calls):
        calls = [c for c in calls if c.path != "all"]  # the same entry as fast
    for call in calls:
        walk = Walk(bundle, call)
        found = _found(walk)
        if call.path == "fast":
            found.append((_BODY, walk.body_twice()))
        for what, patches in found:
            if patches:
                # the piece's own come last: where both change a byte, it is the piece's
                new = replace(call, path=f"{call.path}-{len(pieces)}", patches=(*call.patches, *patches), trace=None)
                direct = (p.call.path for p in pieces if (p.path, p.what) == (call.path, _DIRECT))
                pieces.append(Piece(call.path, what, new, next(direct) if what == _BODY else ""))
    return pieces


@dataclass(frozen=True)
class Cost:
    """What a piece costs: the path with it minus the path without it, in TSC cycles by way of calling, and in
    instructions."""

    path: str
    what: str
    instructions: int
    costs: dict[str, Difference]
    """Empty if the call does not give its result without it."""
    above_noise: frozenset[str]
    """The ways in which it is a difference."""


_WAYS = ("overlap", "serial", "nested")


def _cost(result: Result, name: str, path: str, what: str, own: Callable[[str], Key], instructions: int) -> Cost:
    """The cost: the figures of `path` minus those of `own`."""
    costs: dict[str, Difference] = {}
    for way in _WAYS:
        own_samples, base = result.samples.get(own(way)), result.samples.get(Key(name, path, False, way))
        if own_samples and base and len(own_samples) == len(base):
            costs[way] = Difference(*quartiles([a - b for a, b in zip(base, own_samples, strict=True)]))
    above = frozenset(way for way, cost in costs.items() if abs(cost.middle) > result.noise[way])
    return Cost(path, what, instructions, costs, above)


def costs_of(pieces: Sequence[Piece], result: Result, name: str) -> list[Cost]:
    """What the pieces of a call's paths cost, from a replay with all of them."""
    counts = {(v.call, v.path): v.replayed for v in result.verdicts}
    costs = []
    for path in dict.fromkeys(piece.path for piece in pieces):
        with_verw = _cost(result, name, path, VERW, lambda way, path=path: Key(name, path, True, way), 0)  # type: ignore[misc]
        if with_verw.costs:
            turned = {way: Difference(-c.high, -c.middle, -c.low) for way, c in with_verw.costs.items()}
            costs.append(replace(with_verw, costs=turned, instructions=1))
        for piece in (p for p in pieces if p.path == path):
            whole, own = (piece.call.path, piece.added_to) if piece.added_to else (path, piece.call.path)
            fewer = counts[name, whole] - counts[name, own]
            cost = _cost(result, name, whole, piece.what, lambda way, own=own: Key(name, own, False, way), fewer)  # type: ignore[misc]
            costs.append(replace(cost, path=path))
    return costs
