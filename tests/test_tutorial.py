# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/tutorial.md, typed in as it stands: each block of commands, in order, in one folder."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from conftest import ROOT

# A block of indented lines; blank lines before it, so that no list is taken for one.
_BLOCK = re.compile(r"(?:^    .*\n)+", re.M)


def blocks() -> list[str]:
    """The commands, a block each, as a shell takes them."""
    text = (ROOT / "docs/tutorial.md").read_text()
    return [re.sub(r"^    ", "", block, flags=re.M) for block in _BLOCK.findall(text)]


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_each_command_works_in_order(tmp_path: Path) -> None:
    (tmp_path / "sysenter").symlink_to(ROOT / "sysenter")
    env = {**os.environ, "XDG_DATA_HOME": str(tmp_path / "data")}
    said = {}
    for block in blocks():
        done = subprocess.run(["sh", "-e", "-c", block], cwd=tmp_path, env=env, capture_output=True, text=True)
        slower = "--against" in block and done.returncode == 1  # times decide
        assert done.returncode == 0 or slower, f"{block}\n{done.stdout}{done.stderr}"
        said[block] = done.stdout
    assert len(said) >= 9
    assert (tmp_path / "mine.json").exists()
    assert (tmp_path / "path.json").exists()
    assert "getppid" in (tmp_path / "path.html").read_text()
    inside = [text for block, text in said.items() if " exec " in block]
    # what the page says of the counts
    assert inside[0].split() == ["0"]
    assert 2000 <= int(inside[1].split()[-1]) < 2200
    stock = re.search(r"getppid │ stock │ +(\d+) ", "".join(said.values()))
    assert stock
    assert 320 <= int(stock[1]) <= 340
