# SPDX-License-Identifier: GPL-2.0-or-later
"""The page of `report` in a real browser: it renders, light and dark, wide and narrow; axe-core finds nothing.

The README's picture is drawn here too, of one of the files in results/. To have it drawn anew:

    ./sysenter test tests/report/test_browser.py -k picture --long --renew
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from sysenter.report.page.page import page

RESULTS = Path(__file__).parent / "results"
PICTURE = ROOT / "docs/path.png"
_PATHS = ("int80", "stock", "fast")  # of the picture
_WIDTH = 1080  # pixels, of the picture
_RENEW = "./sysenter test tests/report/test_browser.py -k picture --long --renew"
_AXE = "axe-core@4.14.1"
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--virtual-time-budget=60000",
)
# What is looked at, in the page itself. Everything is opened first.
_LOOK = """
for (const each of document.querySelectorAll("details")) each.open = true;
const found = {wide: [], empty: [], unreached: [], missing: []};
if (document.documentElement.scrollWidth > innerWidth) found.wide.push(document.documentElement.scrollWidth);
for (const svg of document.querySelectorAll("svg[role=img]")) {
	const box = svg.getBoundingClientRect();
	if (box.width < 200 || box.height < 50 || !svg.querySelector("title").textContent)
		found.empty.push(svg.outerHTML.slice(0, 200));
	for (const part of svg.querySelectorAll("text"))
		if (!part.getBBox().width) found.empty.push(part.textContent);
	for (const part of svg.querySelectorAll("path, text")) {
		const style = getComputedStyle(part);
		if (/var\\(|url\\(.*about:/.test(style.fill + style.stroke)) found.missing.push(style.fill);
	}
}
for (const each of document.querySelectorAll("a, summary, .scroll, .listing, .wide")) {
	each.focus();
	if (document.activeElement !== each) found.unreached.push(each.outerHTML.slice(0, 100));
}
const told = node => node.html.slice(0, 120) + " (" + node.failureSummary.slice(0, 200) + ")";
const rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"];
axe.run(document, {resultTypes: ["violations"], runOnly: rules}).then(
	result => {
		found.axe = result.violations.map(v => v.id + ": " + v.nodes.slice(0, 3).map(told).join("; "));
		found.passes = result.passes.length;
	},
	error => { found.axe = ["" + error]; }
).then(() => {
	found.ground = getComputedStyle(document.body).backgroundColor;
	const out = document.createElement("pre");
	out.id = "found";
	out.textContent = JSON.stringify(found);
	document.body.append(out);
});
"""


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe-core."""
    if not shutil.which("npm"):
        pytest.skip("npm is not here: it fetches axe-core")
    folder = tmp_path_factory.mktemp("axe")
    argv = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(folder), _AXE]
    subprocess.run(argv, check=True, capture_output=True, timeout=300)
    return (folder / "node_modules/axe-core/axe.min.js").read_text()


def _browse(file: Path, profile: Path, *options: str) -> tuple[str, list[str]]:
    """(the page as it then is, what its console says)."""
    browser = shutil.which("chromium")
    if not browser:
        pytest.skip("chromium is not here")
    argv = [browser, *_FLAGS, f"--user-data-dir={profile}", *options, "--dump-dom", file.as_uri()]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=240)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.long
@pytest.mark.parametrize(
    ("width", "options"),
    [(1280, ()), (1280, ("--blink-settings=preferredColorScheme=0",)), (500, ())],
    ids=["light", "dark", "narrow"],
)
def test_nothing_is_missing_and_everything_can_be_read(
    tmp_path: Path, axe: str, width: int, options: tuple[str, ...]
) -> None:
    measured = sorted((ROOT / "docs/measured").glob("bookworm-*.json"))
    text = page([*measured, *sorted(RESULTS.glob("*.json"))])
    (tmp_path / "page.html").write_text(text)
    _, console = _browse(tmp_path / "page.html", tmp_path / "profile", f"--window-size={width},900", *options)
    assert not console
    # the page allows no script: the copy that is looked at does
    script = axe.replace("</script", "<\\/script")
    looked_at = re.sub(r"<meta http-equiv[^>]*>", "", text)
    looked_at = looked_at.replace("</body>", f"<script>{script}</script><script>{_LOOK}</script></body>")
    (tmp_path / "looked-at.html").write_text(looked_at)
    dom, console = _browse(tmp_path / "looked-at.html", tmp_path / "again", f"--window-size={width},900", *options)
    assert not console
    match = re.search(r'<pre id="found">(.*?)</pre>', dom, re.S)
    assert match, "axe did not come to an end"
    found: dict[str, Any] = json.loads(unescape(match[1]))
    assert found["ground"] == ("rgb(21, 24, 29)" if options else "rgb(252, 251, 248)")
    assert found["passes"] > 15
    wrong = {what: cases for what, cases in found.items() if isinstance(cases, list) and cases}
    assert not wrong


# Of the page, what the picture shows: what an instruction is for, and the paths.
_CUT = """
.skip, header, footer, h2, h2 + p, details, main > section:not(:has(#path)) { display: none !important; }
main { padding: 0.25rem 1rem; max-width: none; }
h3 { margin-top: 0.8rem; }
"""
_HEIGHT = """
const out = document.createElement("pre");
out.id = "height";
out.hidden = true;
out.textContent = Math.ceil(document.querySelector("main").getBoundingClientRect().bottom);
document.body.append(out);
"""


def _picture(folder: Path) -> bytes:
    """A PNG of the paths of results/trace.json as the page has them; it says which file it is of."""
    image = pytest.importorskip("PIL.Image")
    info = pytest.importorskip("PIL.PngImagePlugin").PngInfo()
    trace = json.loads((RESULTS / "trace.json").read_text())
    trace["paths"] = [each for each in trace["paths"] if each["path"] in _PATHS]
    (folder / "trace.json").write_text(json.dumps(trace))
    text = page([folder / "trace.json"]).replace("</style>", f"{_CUT}</style>", 1)
    measured = re.sub(r"<meta http-equiv[^>]*>", "", text).replace("</body>", f"<script>{_HEIGHT}</script></body>")
    (folder / "measured.html").write_text(measured)
    dom, _ = _browse(folder / "measured.html", folder / "profile", f"--window-size={_WIDTH},900")
    match = re.search(r'<pre id="height" hidden="">(\d+)</pre>', dom)
    assert match, dom[-500:]
    height = int(match[1])
    (folder / "page.html").write_text(text)
    shot = folder / "shot.png"  # higher than it has to be: a browser keeps a part of its window
    options = (f"--window-size={_WIDTH},{height + 200}", f"--screenshot={shot}")
    _browse(folder / "page.html", folder / "profile", *options)
    info.add_text("Source", _source())
    with image.open(shot) as drawn:
        drawn.convert("RGB").crop((0, 0, _WIDTH, height)).quantize().save(shot, pnginfo=info, optimize=True)
    return shot.read_bytes()


def _source() -> str:
    return f"trace.json {hashlib.sha256((RESULTS / 'trace.json').read_bytes()).hexdigest()[:16]}"


@pytest.mark.long
def test_the_picture_is_what_the_page_shows(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """But for fonts, which are the machine's. With --renew it is written."""
    drawn = _picture(tmp_path)
    if request.config.getoption("--renew"):
        PICTURE.write_bytes(drawn)
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "drawn.png").write_bytes(drawn)
    small = []
    for file in (PICTURE, tmp_path / "drawn.png"):
        with image.open(file) as whole:
            assert whole.size[0] == _WIDTH
            small.append((whole.size[1], list(whole.convert("L").resize((54, 45)).tobytes())))
    (height, was), (other, now) = small
    assert abs(height - other) < 0.05 * height
    assert len(set(now)) > 20, "it is blank"
    apart = sum(abs(a - b) for a, b in zip(was, now, strict=True)) / len(was)
    assert apart < 6, f"{apart:.1f} of 255: draw it anew: {_RENEW}"


def test_the_picture_in_the_readme_is_of_the_results_that_are_here() -> None:
    assert b"Source\0" + _source().encode() in PICTURE.read_bytes(), f"draw it anew: {_RENEW}"
