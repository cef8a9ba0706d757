# SPDX-License-Identifier: GPL-2.0-or-later
"""A sample of `report`'s page, of what the commands wrote in this run of the tests.

A test that has a command write results calls keep(); when all tests are done the page is made of what
there is. Both are in pytest's temporary folder, and copied to the one that --sample names.
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


def make(folder: Path, also_in: Path | None = None) -> Path | None:
    """Make the page; None if no test has kept anything. Raises SysenterError for results that cannot be shown.

    also_in: a folder to copy it to, with its results. What is there already does not get on the page.
    """
    files = sorted(folder.glob("*.json"))
    if not files:
        return None
    # here: it loads a library for pictures, which most runs of the tests do without
    from sysenter.report.page.page import page

    made = folder / NAME
    made.write_text(page(files))
    if also_in is None:
        return made
    also_in.mkdir(parents=True, exist_ok=True)
    for file in (*files, made):
        shutil.copyfile(file, also_in / file.name)
    return also_in.resolve() / NAME
