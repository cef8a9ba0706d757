# SPDX-License-Identifier: GPL-2.0-or-later
"""System.map: a file of its own, which may belong to another kernel.

So it is held against the symbols in the image: kallsyms, or the export table of 2.2 and 2.4.
"""

from __future__ import annotations

import re

from sysenter.errors import SysenterError

__all__ = ["parse_system_map"]

_MAP_LINE = re.compile(r"^([0-9a-fA-F]{8,16}) ([A-Za-z?]) (\S+)")


def parse_system_map(text: str, name: str) -> dict[str, int]:
    """Symbols of a System.map; of a name that occurs twice, the first.

    Raises SysenterError if a line is not `address type name`.
    """
    symbols: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        match = _MAP_LINE.match(line)
        if not match:
            raise SysenterError(
                f"{name}:{number}: not a System.map line: {line[:40]!r}, expected 'address type name'",
                hint="give the System.map that this kernel's build wrote",
            )
        symbols.setdefault(match[3], int(match[1], 16))
    if not symbols:
        raise SysenterError(f"{name}: no symbols in it", hint="give the System.map that this kernel's build wrote")
    return symbols
