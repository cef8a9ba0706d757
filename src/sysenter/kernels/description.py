# SPDX-License-Identifier: GPL-2.0-or-later
"""kernel.toml: a kernel of the user's own."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sysenter.errors import SysenterError
from sysenter.target.arch import ARCHITECTURES, Architecture

__all__ = ["Description", "read_description"]


@dataclass(frozen=True)
class Description:
    """What a kernel.toml says, checked; paths are absolute."""

    path: Path
    """Of the file itself."""
    release: str
    """`uname -r`."""
    arch: Architecture
    image: Path
    """Its bzImage."""
    system_map: Path
    headers: Path
    """Its configured tree."""
    cc: str | None
    """The compiler for its modules; None for the system's."""
    smp: bool
    """Whether it is run with two processors."""
    qemu_args: tuple[str, ...]
    """More of QEMU's options."""
    append: str
    """More of the kernel's command line."""
    cpu: str
    """QEMU's processor model."""


_KEYS: dict[str, tuple[type, bool]] = {  # key: (type, whether it must be there)
    "release": (str, True),
    "arch": (str, True),
    "image": (str, True),
    "system-map": (str, True),
    "headers": (str, True),
    "cc": (str, False),
    "smp": (bool, False),
    "qemu-args": (list, False),
    "append": (str, False),
    "cpu": (str, False),
}
_NAMES = {str: "a string", bool: "true or false", list: "a list of strings"}


def read_description(path: Path) -> Description:
    """Read and check a kernel.toml. Raises SysenterError, naming file and key."""

    def bad(what: str, hint: str = "docs/kernel.toml.md describes the file") -> SysenterError:
        return SysenterError(f"{path}: {what}", hint=hint)

    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad(f"not TOML: {error}") from error
    except OSError as error:
        raise bad(f"cannot be read: {error.strerror}", hint="give the path of a kernel.toml") from error
    for key in values:
        if key not in _KEYS:
            raise bad(f"unknown key {key!r}; known are {', '.join(_KEYS)}")
    for key, (kind, required) in _KEYS.items():
        if key not in values:
            if required:
                raise bad(f"key {key!r} is missing")
        elif not isinstance(values[key], kind) or (
            kind is list and not all(isinstance(item, str) for item in values[key])
        ):
            raise bad(f"key {key!r} must be {_NAMES[kind]}, not {values[key]!r}")
    arch = ARCHITECTURES.get(values["arch"])
    if arch is None:
        raise bad(f"key 'arch' must be 'i386' or 'amd64', not {values['arch']!r}")
    folder = path.resolve().parent
    for key, is_kind, kind_name in (
        ("image", Path.is_file, "file"),
        ("system-map", Path.is_file, "file"),
        ("headers", Path.is_dir, "folder"),
    ):
        if not is_kind(folder / values[key]):
            raise bad(f"key {key!r}: no such {kind_name}: {folder / values[key]}")
    cc = values.get("cc")
    if cc and not cc.strip():
        raise bad("key 'cc' is blank", hint="name a compiler, or leave it away")
    if cc and "/" in cc:
        cc = str(folder / cc)
        if not Path(cc).is_file():
            raise bad(f"key 'cc': no such file: {cc}")
        if len(cc.split()) > 1:
            raise bad(f"key 'cc': a space in {cc}, which no kernel's build can take", hint="move it, or make a link")
    smp = values.get("smp", False)
    return Description(
        path=path.resolve(),
        release=values["release"],
        arch=arch,
        image=folder / values["image"],
        system_map=folder / values["system-map"],
        headers=folder / values["headers"],
        cc=cc,
        smp=smp,
        qemu_args=tuple(values.get("qemu-args", ("-smp", "2,sockets=2") if smp else ())),
        append=values.get("append", ""),
        cpu=values.get("cpu", arch.cpu),
    )
