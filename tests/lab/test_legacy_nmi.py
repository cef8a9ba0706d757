# SPDX-License-Identifier: GPL-2.0-or-later
"""An NMI before the first instruction of the entry, where there is no stack to take it on.

It cannot be hit by chance: QEMU's debugger stub stops the machine at that
instruction and its monitor injects the NMI.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from pathlib import Path

import pytest

from legacy_kernels import on_each_kernel, parameters
from sysenter.kernels.provide import provide
from sysenter.lab.legacy import LegacyGuest, legacy_guest_for
from sysenter.measure.legacy import load_command
from sysenter.steps import Steps

pytestmark = on_each_kernel


class _Stub:
    """The few words of the GDB remote protocol that this takes."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(20)
        self._socket.connect(str(path))
        self._data = b""

    def send(self, packet: str) -> None:
        checksum = sum(packet.encode()) & 0xFF
        self._socket.sendall(f"${packet}#{checksum:02x}".encode())

    def receive(self) -> str:
        while True:
            match = re.match(rb"\+*\$([^#]*)#..", self._data)
            if match:
                self._data = self._data[match.end() :]
                self._socket.sendall(b"+")
                return match[1].decode()
            more = self._socket.recv(4096)
            assert more, "the stub hung up"
            self._data += more

    def ask(self, packet: str, answer: str) -> None:
        """Send a packet and wait for an answer that begins so; others in between are late."""
        self.send(packet)
        while not self.receive().startswith(answer):
            pass

    def interrupt(self) -> None:
        self._socket.sendall(b"\x03")
        while not self.receive().startswith("T02"):
            pass


def _inject(path: Path, entry: int, offsets: tuple[int, ...], hits: list[int]) -> None:
    """Stop at entry + each offset, inject an NMI there, go on."""
    stub = _Stub(path)
    for offset in offsets:
        address = f"{entry + offset:x}"
        stub.ask(f"Z1,{address},1", "OK")
        stub.ask("c", "T05")
        hits.append(offset)
        stub.ask(f"z1,{address},1", "OK")
        stub.ask("qRcmd," + b"nmi".hex(), "OK")
        stub.send("c")
        time.sleep(0.2)
        stub.interrupt()
    stub.send("D")


@pytest.fixture(params=parameters(), ids=lambda path: path.parent.name)
def legacy(request: pytest.FixtureRequest, steps: Steps) -> LegacyGuest:
    return legacy_guest_for(steps, provide(steps, str(request.param), offline=True))


def test_an_nmi_on_the_entry_stack_is_taken_on_the_tasks_own(legacy: LegacyGuest, steps: Steps, tmp_path: Path) -> None:
    old = legacy.target.release.startswith("2.2.")
    # Before each instruction of entry.S that searches for the stack, and before the first ones that have it.
    searching, found = ((0, 4, 8, 0x10, 0x16), (0x1A, 0x21, 0x27)) if old else ((0, 4), (8,))
    offsets = (*searching, *found)
    path = tmp_path / "gdb"
    hits: list[int] = []
    injector: list[threading.Thread] = []

    def on_line(line: str) -> None:
        match = re.search(r"entry 0x([0-9a-f]+)", line)
        if match and not injector:
            injector.append(threading.Thread(target=_inject, args=(path, int(match[1], 16), offsets, hits)))
            injector[0].start()

    machine = legacy.machine(cpus=1, extra=("-gdb", f"unix:{path},server=on,wait=off"))
    plan = [load_command("gentle" if old else None), "cat /proc/sysenter", "dd fast 1 3000000", "cat /proc/sysenter",
            "hostile all", "unload sysenter"]  # fmt: skip
    out = legacy.run(steps, plan, what="NMI at the entry", timeout=120, machine=machine, on_line=on_line)
    injector[0].join(5)
    assert hits == list(offsets)
    assert [out.result(step) for step in range(1, 7)] == [0] * 6
    taken = [r["text"] for r in out.events("line") if r["text"].startswith("nmi ")]
    assert taken == ["nmi 0", f"nmi {len(searching)}"]
