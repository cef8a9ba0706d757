# SPDX-License-Identifier: GPL-2.0-or-later
"""Instructions for the relocation's tests: assembled and linked where a kernel has its text."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from sysenter.replay.operands import Decoder

__all__ = ["instruction"]


def instruction(tmp_path: Path, text: str, bits: int, address: int, **symbols: int) -> Any:
    """The first instruction of `text`, AT&T syntax, as capstone has it at `address`. symbols: of other files."""
    source, linked, binary = tmp_path / "a.S", tmp_path / "a.elf", tmp_path / "a.bin"
    source.write_text(f".text\n.globl _start\n_start: {text}\n")
    mode = ["-m64", "-Wl,-m,elf_x86_64"] if bits == 64 else ["-m32", "-Wl,-m,elf_i386"]
    subprocess.run(
        [
            "gcc",
            *mode,
            "-nostdlib",
            "-static",
            "-no-pie",
            "-Wl,--build-id=none",
            f"-Wl,-Ttext={address:#x}",
            *(f"-Wl,--defsym={name}={value:#x}" for name, value in symbols.items()),
            "-o",
            linked,
            source,
        ],
        check=True,
        capture_output=True,
    )
    subprocess.run(["objcopy", "-O", "binary", "-j", ".text", linked, binary], check=True)
    return Decoder(bits).decode(binary.read_bytes(), address)
