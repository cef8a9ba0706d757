# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's debugger interface: gdb's remote serial protocol, as far as it is needed here.

A packet is `$DATA#CHECKSUM`, answered by `+` ("Debugging with GDB", appendix E).
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sysenter.lab.qemu import patience

__all__ = ["Stub", "attached", "gdb_options", "short_name"]

_MOST = 2000  # bytes of memory in a packet; QEMU's limit is 4096 characters, two for each byte


@contextmanager
def short_name(folder: Path) -> Iterator[Path]:
    """A name of a folder for other processes of this user too, as long as the block lasts.

    A socket's name has at most 107 bytes (unix(7)), and the user's folder for temporary files may have more.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield Path(f"/proc/{os.getpid()}/fd/{handle}")
    finally:
        os.close(handle)


def gdb_options(path: Path) -> tuple[str, ...]:
    """QEMU's options that open the debugger interface at the socket `path`."""
    # QEMU takes a comma twice for one in a name.
    return ("-gdb", f"unix:{str(path).replace(',', ',,')},server=on,wait=off")


class Stub:
    """A connection. Making it stops the machine.

    Every method that waits raises TimeoutError, also when the machine has gone.
    """

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._received = b""
        self._unanswered = b""  # `+`, sent together with the next command

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def send(self, command: str) -> None:
        """Send a command, and do not wait for its answer."""
        self._socket.sendall(self._unanswered + f"${command}#{sum(command.encode()) & 0xFF:02x}".encode())
        self._unanswered = b""

    def interrupt(self) -> None:
        """Stop the machine where it is."""
        self._socket.sendall(self._unanswered + b"\x03")
        self._unanswered = b""
        self.reply(10)

    def reply(self, seconds: float) -> str:
        """The next packet's contents."""
        self._socket.settimeout(seconds * patience())
        while not (packet := re.search(rb"\$([^#]*)#..", self._received)):
            more = self._socket.recv(65536)
            if not more:
                raise TimeoutError("the machine has gone")
            self._received += more
        self._received = self._received[packet.end() :]
        self._unanswered = b"+"
        return packet[1].decode()

    def ask(self, command: str) -> str:
        """The next packet that is an answer. A report that the machine has stopped is none, and is skipped."""
        self.send(command)
        while (answer := self.reply(10)).startswith("T"):
            pass
        return answer

    def must(self, command: str) -> None:
        """Send a command whose answer is OK. Raises OSError with any other answer."""
        answer = self.ask(command)
        if answer != "OK":
            raise OSError(f"QEMU's debugger interface answers {answer!r} to {command[:60]!r}")

    def monitor(self, command: str) -> str:
        """The output of a command of QEMU's monitor."""
        self.send("qRcmd," + command.encode().hex())
        said = ""
        while (answer := self.reply(30)) != "OK":
            if answer.startswith("O"):
                said += bytes.fromhex(answer[1:]).decode(errors="replace")
            elif not answer.startswith("T"):
                raise OSError(f"QEMU's monitor answers {answer!r} to {command!r}")
        return said

    def run_to(self, address: int, seconds: float) -> None:
        """Let the machine run until it is about to execute the instruction at a virtual address."""
        self.must(f"Z1,{address:x},1")
        self.send("c")
        self.reply(seconds)
        self.must(f"z1,{address:x},1")

    def step(self) -> None:
        """Execute one instruction. QEMU lets no interrupt in meanwhile."""
        self.send("s")
        self.reply(10)

    def registers(self) -> bytes:
        """All registers, in the form of the `g` packet."""
        return bytes.fromhex(self.ask("g"))

    def read(self, address: int, length: int) -> bytes:
        """Memory, by virtual address (see physical_memory()). Raises OSError if it is not mapped."""
        data = b""
        while len(data) < length:
            answer = self.ask(f"m{address + len(data):x},{min(_MOST, length - len(data)):x}")
            if answer.startswith("E"):
                raise OSError(f"no memory at {address + len(data):#x}")
            data += bytes.fromhex(answer)
        return data

    def write(self, address: int, data: bytes) -> None:
        """Change memory. Raises OSError if it is not mapped."""
        self.must(f"M{address:x},{len(data):x}:{data.hex()}")

    @contextmanager
    def physical_memory(self) -> Iterator[None]:
        """A block in which addresses are physical addresses."""
        self.must("Qqemu.PhyMemMode:1")
        try:
            yield
        finally:
            self.must("Qqemu.PhyMemMode:0")


@contextmanager
def attached(path: Path) -> Iterator[Stub]:
    """A connection as a block: the machine is stopped at its beginning and runs on at its end."""
    stub = Stub(path)
    try:
        yield stub
        stub.send("D")
        time.sleep(0.1)
    finally:
        stub.close()
