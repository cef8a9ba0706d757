# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest would not find its files if the initramfs were malformed."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from sysenter.build.cpio import archive, tree

_NAME = st.from_regex(r"[a-z]{1,8}(/[a-z]{1,8}){0,2}", fullmatch=True)


def parse(data: bytes) -> dict[str, tuple[int, bytes]]:
    """Read the format back from its description: name -> (mode, contents)."""
    found: dict[str, tuple[int, bytes]] = {}
    at = 0
    while at < len(data):
        assert at % 4 == 0
        assert data[at : at + 6] == b"070701"
        numbers = [int(data[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        mode, size, name_size = numbers[1], numbers[6], numbers[11]
        name = data[at + 110 : at + 110 + name_size - 1].decode()
        start = at + -(-(110 + name_size) // 4) * 4
        found[name] = (mode, data[start : start + size])
        at = start + -(-size // 4) * 4
    return found


@given(st.dictionaries(_NAME, st.binary(max_size=50), max_size=5))
def test_every_file_is_read_back_and_has_its_folders(files: dict[str, bytes]) -> None:
    found = parse(archive(files))
    assert "TRAILER!!!" in found
    for name, data in files.items():
        assert found[name][1] == data
        for depth in range(1, name.count("/") + 1):
            assert "/".join(name.split("/")[:depth]) in found


def test_a_tree_keeps_links_and_modes_and_has_a_console(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/tool").write_bytes(b"x")
    (tmp_path / "bin/tool").chmod(0o755)
    (tmp_path / "bin/link").symlink_to("tool")
    found = parse(tree(tmp_path, {"init": b"#!/bin/sh\n"}))
    assert found["bin/tool"] == (0o100755, b"x")
    assert found["bin/link"] == (0o120777, b"tool")
    assert found["init"][1] == b"#!/bin/sh\n"
    assert found["dev/console"][0] & 0o170000 == 0o020000
