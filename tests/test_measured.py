# SPDX-License-Identifier: GPL-2.0-or-later
"""The figures in the documents are those that a command wrote."""

from __future__ import annotations

import re

import pytest

import measured
from conftest import ROOT


def test_the_page_is_what_the_files_say() -> None:
    assert measured.PAGE.read_text() == measured.page(), "run: python tests/measured.py"


@pytest.mark.parametrize("which", measured.KERNELS)
def test_no_path_is_above_stock_in_any_mixture(which: str) -> None:
    """What the documents say of every mixture, held against the files."""
    rows: dict[tuple[str, int, bool], dict[str, dict[str, float]]] = {}
    for one in measured.load(which)["mixture"]:
        rows.setdefault((one["order"], one["between_kib"], one["verw"]), {})[one["path"]] = one["cycles"]
    assert len(rows) == 6  # both orders, and one with other code between, each with VERW and without
    for paths in rows.values():
        assert "serial" in paths["stock"]
        for path in ("all", "fast"):
            assert paths[path].keys() == paths["stock"].keys()
            for way, cycles in paths[path].items():
                assert cycles < paths["stock"][way], (which, paths)


@pytest.mark.parametrize("which", measured.KERNELS)
def test_no_path_is_above_stock_at_the_bottom_of_nested_functions(which: str) -> None:
    """Where a path that unbalances the return predictor would be. The page names the single calls that are."""
    data = measured.load(which)
    stock = measured.nested_mean(data, "stock")
    assert measured.nested_mean(data, "all") < stock
    assert measured.nested_mean(data, "fast") < stock


def test_the_readme_quotes_the_page() -> None:
    """Its table of cycles has rows of the page's means, and its sentence has a row of the page."""
    readme = (ROOT / "README.md").read_text()
    rows = re.findall(r"^\| (\S+) \(.*\) \| (.*) \|$", readme, re.M)
    quoted = {release: cells for release, cells in rows if re.match(r"\d+\.\d", release)}
    assert quoted
    for kernel in measured.KERNELS:
        data = measured.load(kernel)
        release = data["kernel"].split(" ", 1)[0]
        mean = measured.call_table(data).splitlines()[-1].removeprefix("| mean | | ").removesuffix(" |")
        assert quoted[release] == mean, release
    said = re.search(r"`getppid`\s+takes (\d+) to (\d+) cycles instead of (\d+) to (\d+)", readme)
    assert said
    page = measured.call_table(measured.load("bookworm-amd64"))
    (row,) = [line for line in page.splitlines() if line.startswith("| getppid ")]
    assert row.endswith(f"| {said[1]} / {said[2]} |")
    assert f"| {said[3]} / {said[4]} |" in row
