# SPDX-License-Identifier: GPL-2.0-or-later
"""A sample of `report`'s page, of what the commands wrote in this run of the tests.

A test that has a command write results calls keep(); when all tests are done the page is made of what
there is. It is in pytest's temporary folder, or where --sample says.
"""

from __future__ import annotations

import shutil
from pathlib import Path

NAME = "report.html"


def keep(folder: Path, file: Path, name: str) -> None:
    """Have the results in `file`, under the name NAME.json, on the page. folder: the sample's."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{name}.part"
    shutil.copyfile(file, part)
    part.rename(folder / f"{name}.json")


def make(folder: Path) -> Path | None:
    """Make the page; None if no test has kept anything. Raises SysenterError for results that cannot be shown."""
    files = sorted(folder.glob("*.json"))
    if not files:
        return None
    # here: it loads a library for pictures, which most runs of the tests do without
    from sysenter.report.page.page import page

    made = folder / NAME
    made.write_text(page(files))
    return made
