# SPDX-License-Identifier: GPL-2.0-or-later
"""The documentation site: it builds without a warning, has every page, and fetches nothing from elsewhere."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    argv = [str(ROOT / "sysenter"), "docs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_is_there(site: Path) -> None:
    for page in (ROOT / "docs").glob("**/*.md"):
        assert (site / page.relative_to(ROOT / "docs").with_suffix(".html")).exists(), page


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    """What a browser loads by itself; a link that a reader follows may lead anywhere."""
    loads = re.compile(r"<(?:script|img|iframe|link)\b[^>]*?(?:src|href)=\"?(https?:[^\" >]*)|@import[^;]*https?:")
    for path in [*site.glob("**/*.html"), *site.glob("**/*.css")]:
        assert not loads.findall(path.read_text()), path


@pytest.mark.long
def test_its_search_works_when_it_is_read_from_the_disk(site: Path, tmp_path: Path) -> None:
    """A browser starts no Worker for a file; docs/iframe-worker.js stands in for it."""
    browser = shutil.which("chromium")
    if not browser:
        pytest.skip("chromium is not here")
    argv = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
    page = (site / "guides/install.html").as_uri() + "?q=fuse"
    argv += ["--virtual-time-budget=20000", "--dump-dom", page]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    found = re.search(r"(\d+) matching documents", done.stdout)
    assert found
    assert int(found[1]) > 1
