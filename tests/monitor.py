# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's monitor beside a running guest: NMIs, and waking it up."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

Command = Callable[[str], None]


@contextmanager
def monitor(folder: Path) -> Iterator[tuple[tuple[str, ...], Command]]:
    """Yields QEMU's options for a monitor, and a function that sends it a command.

    A command sent while no guest runs is lost, which suits what is sent again and again.
    """
    path = folder / "monitor"
    connections: list[socket.socket] = []

    def until_prompt(connection: socket.socket) -> None:
        """Until QEMU has done what came before."""
        said = b""
        while not said.endswith(b"(qemu) "):
            chunk = connection.recv(65536)
            if not chunk:
                raise OSError("QEMU has ended")
            said += chunk

    def send(command: str) -> None:
        try:
            if not connections:
                connection = socket.socket(socket.AF_UNIX)
                connection.settimeout(5)
                connection.connect(str(path))
                connections.append(connection)
                until_prompt(connection)
            connections[0].sendall(command.encode() + b"\n")
            until_prompt(connections[0])
        except OSError:
            connections.clear()

    yield ("-monitor", f"unix:{path},server,nowait"), send
    for connection in connections:
        connection.close()


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
