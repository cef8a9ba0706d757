# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel of the user's own for a worker that does not have it: packed, sent once, kept there by its digest."""

from __future__ import annotations

import io
import json
import tarfile
from functools import cache
from pathlib import Path

import zstandard

from sysenter.cache import cache_folder, digest, file_sha256, fill, lock
from sysenter.kernels.description import Description, read_description

__all__ = ["artefact_of", "pack", "place_of", "unpack"]


@cache
def artefact_of(path: str) -> str:
    """A name for the content of a kernel.toml and all that it names, but for the compiler."""
    kernel = read_description(Path(path))
    parts: list[str] = [_toml(kernel)]
    parts += [file_sha256(kernel.image), file_sha256(kernel.system_map)]
    for file in sorted(kernel.headers.rglob("*")):
        if file.is_file():
            parts += [str(file.relative_to(kernel.headers)), file_sha256(file)]
    return digest(parts)


def _toml(kernel: Description) -> str:
    """The description, as it is where its files have been sent. JSON's strings and lists are TOML's."""
    values = {
        "release": kernel.release,
        "arch": kernel.arch.name,
        "image": "bzImage",
        "system-map": "System.map",
        "headers": "headers",
        **({"cc": kernel.cc} if kernel.cc else {}),
        "smp": kernel.smp,
        "qemu-args": list(kernel.qemu_args),
        "append": kernel.append,
        "cpu": kernel.cpu,
    }
    # TOML has no surrogates, by two of which JSON's ASCII names a character beyond U+FFFF
    return "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in values.items())


def pack(path: str) -> bytes:
    """The kernel with its image, System.map and headers. Its compiler has to be there already."""
    kernel = read_description(Path(path))
    packed = io.BytesIO()
    name = Path(path).parent.name
    with tarfile.open(fileobj=packed, mode="w") as archive:
        text = _toml(kernel).encode()
        entry = tarfile.TarInfo(f"{name}/kernel.toml")
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text))
        # what a link leads to, not the link: /boot/vmlinuz, /lib/modules/RELEASE/build
        archive.add(kernel.image.resolve(), f"{name}/bzImage")
        archive.add(kernel.system_map.resolve(), f"{name}/System.map")
        archive.add(kernel.headers.resolve(), f"{name}/headers")
    return zstandard.compress(packed.getvalue())


def place_of(artefact: str, path: str) -> Path:
    """Where the kernel.toml of a sent kernel is on this machine, if it is. path: on the sender's."""
    return cache_folder() / "matrix-kernels" / artefact / Path(path).parent.name / "kernel.toml"


def unpack(artefact: str, path: str, packed: bytes) -> None:
    """Put it there, if nobody else has."""
    place = place_of(artefact, path)
    with lock("matrix-kernels"):
        if place.exists():
            return
        with fill(place.parents[1]) as new, tarfile.open(fileobj=io.BytesIO(zstandard.decompress(packed))) as archive:
            if hasattr(tarfile, "data_filter"):  # since 3.11.4
                archive.extraction_filter = tarfile.data_filter
            archive.extractall(new)
