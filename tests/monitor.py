# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's monitor beside a running guest: NMIs, waking it up, and a look at its memory."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Command = Callable[[str], str]  # what QEMU said to a command


@contextmanager
def monitor(folder: Path) -> Iterator[tuple[tuple[str, ...], Command]]:
    """Yields QEMU's options for a monitor, and a function that sends it a command.

    A command sent while no guest runs is lost, with "" for an answer, which suits what is sent again and again.
    """
    path = folder / "monitor"
    connections: list[socket.socket] = []

    def until_prompt(connection: socket.socket) -> str:
        """Until QEMU has done what came before."""
        said = b""
        while not said.endswith(b"(qemu) "):
            chunk = connection.recv(65536)
            if not chunk:
                raise OSError("QEMU has ended")
            said += chunk
        return said.decode(errors="replace").replace("\r", "")

    def send(command: str) -> str:
        try:
            if not connections:
                connection = socket.socket(socket.AF_UNIX)
                connection.settimeout(5)
                connection.connect(str(path))
                connections.append(connection)
                until_prompt(connection)
            connections[0].sendall(command.encode() + b"\n")
            return until_prompt(connections[0])
        except OSError:
            connections.clear()
            return ""

    yield ("-monitor", f"unix:{path},server,nowait"), send
    for connection in connections:
        connection.close()


def word_at(send: Command, address: int) -> int | None:
    """The 32 bits at a physical address; None while no guest runs."""
    told = re.search(r"^[0-9a-f]+: 0x([0-9a-f]{8})$", send(f"xp /1wx {address:#x}"), re.MULTILINE)
    return int(told[1], 16) if told else None


@contextmanager
def again_and_again(seconds: float, action: Callable[[], object]) -> Iterator[None]:
    """Does something every so many seconds, in another thread, while the block runs."""
    stop = threading.Event()

    def loop() -> None:
        while not stop.wait(seconds):
            action()

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def sent_when_ready(
    folder: Path, command: str, seconds: float
) -> Iterator[tuple[tuple[str, ...], Callable[[dict[str, Any]], None]]]:
    """Sends a command every so many seconds, from the guest's record {"ready": ...} on.

    Yields QEMU's options for the monitor, and what is to be done with each record (on_record).
    """
    ready = threading.Event()  # an NMI before the kernel has its IDT ends the machine
    with (
        monitor(folder) as (options, send),
        again_and_again(seconds, lambda: send(command) if ready.is_set() else None),
    ):
        yield options, lambda record: ready.set() if "ready" in record else None
