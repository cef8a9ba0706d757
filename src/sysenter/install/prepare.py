# SPDX-License-Identifier: GPL-2.0-or-later
"""What native/install/build.sh needs of Python, run by DKMS with the distribution's own Python.

prepare headers RELEASE HEADERS FOLDER: calls.h and target.h for an installed kernel.
prepare placeholder RELEASE FOLDER REASON: a sysenter.ko that no kernel loads.

Needs elftools, zstandard and lz4 (Debian's python3-pyelftools, python3-zstandard,
python3-lz4), and no network.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

from sysenter.errors import SysenterError

__all__ = ["image_of", "main", "placeholder"]


def image_of(release: str) -> Path | None:
    """The image of an installed kernel; None if it is not there (its headers may come first)."""
    places = (f"/boot/vmlinuz-{release}", f"/usr/lib/modules/{release}/vmlinuz", f"/lib/modules/{release}/vmlinuz")
    return next((path for path in map(Path, places) if path.exists()), None)


def _write_headers(release: str, headers: Path, folder: Path) -> None:
    # Here, and not above: a placeholder is made where these packages are missing, too.
    from sysenter.build.generated import generated_headers
    from sysenter.target.arch import AMD64, I386
    from sysenter.target.target import guard_of

    image = image_of(release)
    if image is None:
        raise SysenterError(f"no image of {release} yet", hint="it is built when the image is installed")
    guard = guard_of(image, None)
    if guard.release != release:
        raise SysenterError(f"{image} is {guard.release} and not {release}", hint="reinstall its package")
    arch = AMD64 if "CONFIG_X86_64=y" in (headers / ".config").read_text().splitlines() else I386
    for name, text in generated_headers(guard, headers, arch).items():
        (folder / name).write_text(text)


def placeholder(reason: str, *, version: str, bits: int) -> bytes:
    """A module with nothing in it but why there is none.

    The kernel compares its vermagic first and refuses it, with that text in its log;
    `modinfo -F refused` shows it as well. An ELF relocatable file (ELF specification 1.2,
    chapter 1) of four sections: .modinfo, an empty symbol table, and two tables of names.
    """
    wide = bits == 64
    fields = {"name": "sysenter", "license": "GPL", "dkms_version": version, "target": "none", "refused": reason}
    fields["vermagic"] = f"none ({reason})"
    # a compiler may have named a file that is not UTF-8
    info = b"".join(f"{key}={value}".encode(errors="replace") + b"\0" for key, value in fields.items())
    names = b"\0.modinfo\0.symtab\0.strtab\0.shstrtab\0"
    symbol = bytes(24 if wide else 16)
    header_size, entry = (64, 64) if wide else (52, 40)
    # name, type (SHT_), flags (SHF_ALLOC: 2), content, link, info, alignment, entry size
    sections: list[tuple[bytes, int, int, bytes, int, int, int, int]] = [
        (b".modinfo", 1, 2, info, 0, 0, 1, 0),
        (b".symtab", 2, 0, symbol, 3, 1, 8, len(symbol)),
        (b".strtab", 3, 0, b"\0", 0, 0, 1, 0),
        (b".shstrtab", 3, 0, names, 0, 0, 1, 0),
    ]
    data, rows = bytearray(), [bytes(entry)]
    for name, kind, flags, content, link, more, alignment, size in sections:
        data += bytes(-(header_size + len(data)) % alignment)
        values = (names.index(name), kind, flags, 0, header_size + len(data), len(content), link, more, alignment, size)
        rows.append(struct.pack("<IIQQQQIIQQ" if wide else "<10I", *values))
        data += content
    data += bytes(-(header_size + len(data)) % 8)
    machine, ident = (62, 2) if wide else (3, 1)  # EM_X86_64, EM_386; ELFCLASS64, ELFCLASS32
    header = b"\x7fELF" + bytes([ident, 1, 1]) + bytes(9)
    layout = "<HHIQQQIHHHHHH" if wide else "<HHIIIIIHHHHHH"
    header += struct.pack(layout, 1, machine, 1, 0, 0, header_size + len(data), 0, header_size, 0, 0, entry, 5, 4)
    return header + bytes(data) + b"".join(rows)


def main(arguments: Sequence[str]) -> int:
    """Run one of the two; an error is one line on stderr and status 1."""
    try:
        if arguments[0] == "headers":
            release, headers, folder = arguments[1:]
            _write_headers(release, Path(headers), Path(folder))
        else:
            release, folder, reason = arguments[1:]
            bits = 64 if os.uname().machine == "x86_64" else 32
            version = (Path(folder) / "version.h").read_text().split('"')[1]
            (Path(folder) / "sysenter.ko").write_bytes(placeholder(reason, version=version, bits=bits))
    except (SysenterError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except ImportError as error:
        print(f"{error} (apt-get install python3-pyelftools python3-zstandard python3-lz4)", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
