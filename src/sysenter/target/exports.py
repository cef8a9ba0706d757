# SPDX-License-Identifier: GPL-2.0-or-later
"""The export table of 2.2 and 2.4: pairs of an address and a pointer to its name."""

from __future__ import annotations

import struct

from sysenter.target.memory import Memory

__all__ = ["exported"]


def exported(memory: Memory, name: str) -> int | None:
    """Address that a 2.2 or 2.4 kernel's export table gives for `name`.

    The table (struct module_symbol: value, pointer to name) has no header, so
    go from the string to the pointer to it to the value before that pointer.
    With CONFIG_MODVERSIONS the string ends in _R and a checksum.
    Returns None if the kernel does not export the name.
    """
    plain = b"\0" + name.encode()
    for string_at in [*memory.find(plain + b"\0"), *memory.find(plain + b"_R")]:
        for pointer_at in memory.find(struct.pack("<I", string_at + 1)):
            for base, data in memory.pieces:
                if base + 4 <= pointer_at < base + len(data) and pointer_at % 4 == 0:
                    (value,) = struct.unpack_from("<I", data, pointer_at - 4 - base)
                    if 0xC0000000 <= value < 0xFF000000:
                        return int(value)
    return None
