# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's debugger interface (gdb's remote serial protocol), as far as tests need it: stop
the machine before an instruction, do something, let it go on."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["options", "steps_of_a_call", "stop_at_each"]


def options(path: Path) -> tuple[str, ...]:
    """QEMU's, for an interface at the socket `path`."""
    return ("-gdb", f"unix:{path},server=on,wait=off")


class _Stub:
    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._received = b""

    def close(self) -> None:
        self._socket.close()

    def send(self, command: str) -> None:
        self._socket.sendall(f"${command}#{sum(command.encode()) & 0xFF:02x}".encode())

    def interrupt(self) -> None:
        """Stop the machine where it is; raises TimeoutError if it has gone."""
        self._socket.sendall(b"\x03")
        self.reply(10)

    def reply(self, seconds: float) -> str:
        """The next packet's contents. Raises TimeoutError."""
        self._socket.settimeout(seconds)
        while not (packet := re.search(rb"\$([^#]*)#..", self._received)):
            more = self._socket.recv(4096)
            if not more:
                raise TimeoutError("the machine has gone")
            self._received += more
        self._received = self._received[packet.end() :]
        self._socket.sendall(b"+")
        return packet[1].decode()

    def ask(self, command: str) -> str:
        """The answer; that the machine stands, which connecting to it says too, is none."""
        self.send(command)
        while (answer := self.reply(10)).startswith("T"):
            pass
        return answer


@contextmanager
def _attached(path: Path) -> Iterator[_Stub]:
    """The interface; connecting stops the machine, which runs on at the end."""
    stub = _Stub(path)
    try:
        yield stub
        stub.send("D")
        time.sleep(0.1)
    finally:
        stub.close()


def steps_of_a_call(path: Path, entry: int, bits: int, seconds: float, most: int = 5000) -> list[int]:
    """The address of each instruction, in order, from the next one executed at `entry` until the processor is at
    CPL 3 again, or `most`. QEMU lets no interrupt in while it steps. Waits `seconds` for the first. Leaves the
    machine running."""
    # `g` is 16 registers of 8 bytes or 8 of 4, then the instruction pointer, the flags and cs
    size, pointer = (8, 16 * 8) if bits == 64 else (4, 8 * 4)
    selector = pointer + size + 4
    steps: list[int] = []
    with _attached(path) as stub:
        assert stub.ask(f"Z1,{entry:x},1") == "OK"
        stub.send("c")
        stub.reply(seconds)
        assert stub.ask(f"z1,{entry:x},1") == "OK"
        while len(steps) < most:
            registers = bytes.fromhex(stub.ask("g"))
            if registers[selector] & 3:
                break
            steps.append(int.from_bytes(registers[pointer : pointer + size], "little"))
            stub.send("s")
            stub.reply(10)
    return steps


def stop_at_each(path: Path, addresses: list[int], action: Callable[[], None], seconds: float) -> list[int]:
    """Stop the machine before the instruction at each of `addresses` in turn, do `action`
    while it stands, and let it run on. Returns those at which it stopped within `seconds`."""
    stopped = []
    with _attached(path) as stub:
        for address in addresses:
            # connecting has stopped it, as the stop before has
            assert stub.ask(f"Z1,{address:x},1") == "OK"
            stub.send("c")
            try:
                stub.reply(seconds)
            except TimeoutError:
                stub.interrupt()
            else:
                stopped.append(address)
                action()
            assert stub.ask(f"z1,{address:x},1") == "OK"
    return stopped
