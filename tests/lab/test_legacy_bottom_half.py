# SPDX-License-Identifier: GPL-2.0-or-later
"""2.2: what an interrupt leaves to be done while a call is in its body is done before the program goes on.

Manfred Spraul's answer to the module of 2001 (linux-kernel, 2001-05-04): a call that holds a lock with
spin_lock_bh() holds the bottom half back, and nobody but the call's exit looks for it again. The moment is
made by QEMU's debugger interface: it marks a bottom half while the call is in its body.
"""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest

from gdbstub import options as gdb_options
from legacy_kernels import on_each_kernel, parameters
from sysenter.kernels.provide import provide
from sysenter.lab.gdbstub import Stub, attached
from sysenter.lab.legacy_guest import legacy_guest_for
from sysenter.measure.legacy import load_command
from sysenter.steps import Steps
from sysenter.target.system_map import parse_system_map

pytestmark = on_each_kernel

_TIMER, _NOBODYS = 0, 30  # TIMER_BH of interrupt.h, and a bit that no bottom half has
_ESP, _CS = 4 * 4, 10 * 4  # in the debugger's form of the registers
_PT_EIP = 0x28  # of pt_regs, which is on the stack when the body is done
_SHORT = 40  # instructions: more than the entry's own exit has
_PAGE = 4096


def _word(stub: Stub, address: int) -> int:
    return int.from_bytes(stub.read(address, 4), "little")


def _register(stub: Stub, at: int) -> int:
    return int.from_bytes(stub.registers()[at : at + 4], "little")


def _waits_in_user_mode(stub: Stub, symbols: dict[str, int], entry: int, bit: int) -> bool:
    """Mark the bottom half at the end of a fast read()'s body, and see whether it still waits in user mode."""
    back = 0
    while back // _PAGE != entry // _PAGE:  # not called by the copied entry
        stub.step()  # off the breakpoint, or it is the same call again
        stub.run_to(symbols["sys_read"], 30)
        back = _word(stub, _register(stub, _ESP))
    stub.run_to(back, 30)
    program = _word(stub, _register(stub, _ESP) + _PT_EIP)
    active = symbols["bh_active"]
    stub.write(active, (_word(stub, active) | 1 << bit).to_bytes(4, "little"))
    for _ in range(_SHORT):
        stub.step()  # QEMU lets no interrupt in, which would run it too
        if _register(stub, _CS) & 3:
            break
    else:  # by the kernel's exit
        stub.run_to(program, 30)
    waits = bool(_word(stub, active) >> bit & 1)
    stub.write(active, (_word(stub, active) & ~(1 << bit)).to_bytes(4, "little"))
    return waits


@pytest.mark.parametrize("way", ["cruel", "gentle"])
@pytest.mark.parametrize("path", parameters(), ids=lambda path: path.parent.name)
def test_a_bottom_half_does_not_wait_for_the_next_interrupt(steps: Steps, path: Path, way: str, tmp_path: Path) -> None:
    legacy = legacy_guest_for(steps, provide(steps, str(path), offline=True))
    if not legacy.target.release.startswith("2.2."):
        pytest.skip("the soft IRQs of 2.4.7 and later wake ksoftirqd")
    assert legacy.target.system_map is not None
    symbols = parse_system_map(legacy.target.system_map.read_text(), "System.map")
    waits: list[bool] = []

    def look(entry: int) -> None:
        with attached(tmp_path / "gdb") as stub:
            waits.extend(_waits_in_user_mode(stub, symbols, entry, bit) for bit in (_TIMER, _NOBODYS))

    looks: list[threading.Thread] = []

    def on_line(line: str) -> None:
        if not looks and (match := re.search(r"entry 0x([0-9a-f]+)", line)):
            looks.append(threading.Thread(target=look, args=(int(match[1], 16),)))
            looks[0].start()

    plan = [load_command(way), "cat /proc/sysenter", "dd fast 1 300000", "unload sysenter"]
    machine = legacy.machine(cpus=1, extra=gdb_options(tmp_path / "gdb"))
    out = legacy.run(steps, plan, what="a bottom half", timeout=120, machine=machine, on_line=on_line)
    looks[0].join()
    # One that is not enabled has to wait: so what is looked at does show one that waits.
    assert waits == [False, True]
    assert [out.result(step) for step in range(1, 5)] == [0] * 4
    assert not out.bad_lines()
