# SPDX-License-Identifier: GPL-2.0-or-later
"""What tests do with QEMU's debugger interface: stop the machine before an instruction, do something, let it go on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sysenter.lab.gdbstub import Stub, attached
from sysenter.lab.gdbstub import gdb_options as options

__all__ = ["options", "steps_of_a_call", "stop_at_each"]


def steps_of_a_call(
    path: Path, entry: int, bits: int, seconds: float, *, most: int = 5000, over: range = range(0)
) -> list[int]:
    """The address of each instruction, in order, from the next one executed at `entry` until the processor is at
    CPL 3 again, or `most`. QEMU lets no interrupt in while it steps. Waits `seconds` for the first. Leaves the
    machine running.

    over: a function in this text that is called from outside of it runs as a whole, and with interrupts. Only its
    first instruction is listed. If it has not returned after a second, the list ends there.
    """
    # `g` is 16 registers of 8 bytes or 8 of 4, then the instruction pointer, the flags and cs
    size, count, stack = (8, 16, 7) if bits == 64 else (4, 8, 4)
    steps: list[int] = []
    with attached(path) as stub:
        stub.run_to(entry, seconds)
        while len(steps) < most:
            registers = stub.registers()
            if registers[(count + 1) * size + 4] & 3:
                break
            before = steps[-1] if steps else 0
            at, top = (int.from_bytes(registers[n * size : (n + 1) * size], "little") for n in (count, stack))
            steps.append(at)
            if at in over and before not in over:
                back = _word(stub, top, size)
                if before < back <= before + 7:  # a call's return address; the longest call has 7 bytes
                    try:
                        stub.run_to(back, 1)
                    except TimeoutError:
                        stub.interrupt()
                        stub.must(f"z1,{back:x},1")
                        break
                    continue
            stub.step()
    return steps


def _word(stub: Stub, address: int, size: int) -> int:
    """What stands there; 0 where nothing is mapped, as above a stack that is empty."""
    try:
        return int.from_bytes(stub.read(address, size), "little")
    except OSError:
        return 0


def stop_at_each(path: Path, addresses: list[int], action: Callable[[], object], seconds: float) -> list[int]:
    """Stop the machine before the instruction at each of `addresses` in turn, do `action`
    while it stands, and let it run on. Returns those at which it stopped within `seconds`."""
    stopped = []
    with attached(path) as stub:
        for address in addresses:
            # connecting has stopped it, as the stop before has
            stub.must(f"Z1,{address:x},1")
            stub.send("c")
            try:
                stub.reply(seconds)
            except TimeoutError:
                stub.interrupt()
            else:
                stopped.append(address)
                action()
            stub.must(f"z1,{address:x},1")
    return stopped
