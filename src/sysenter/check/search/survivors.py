# SPDX-License-Identifier: GPL-2.0-or-later
"""The mutants that are known to be harmless, each with its reviewed reason."""

from __future__ import annotations

import tomllib
from pathlib import Path

from sysenter.errors import SysenterError

__all__ = ["harmless"]

_FILE = Path(__file__).with_name("survivors.toml")


def harmless(handler: str) -> dict[str, str]:
    """Mutant's key, or its plain words wherever they stand -> why no property can tell it from
    the handler itself. The groups are the handler's own and those of its families, whose names its own
    begins with (`legacy`; of present-i386-syscall, whose text is shared, `present-i386`).

    Raises SysenterError if an entry has no reason.
    """
    with _FILE.open("rb") as file:
        table = tomllib.load(file)
    reasons: dict[str, str] = {}
    words = handler.split("-")
    families = ("-".join(words[: n + 1]) for n in range(len(words)))
    for group in (group for family in families for group in table.get(family, [])):
        reason = group.get("reason", "").strip()
        if not reason:
            raise SysenterError(f"{_FILE.name}: a group of {handler} has no reason", hint="say why it is harmless")
        for key in group["mutants"]:
            reasons[key] = reason
    return reasons
