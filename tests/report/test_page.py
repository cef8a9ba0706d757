# SPDX-License-Identifier: GPL-2.0-or-later
"""`report`: what the page says is what the files say; it needs nothing from elsewhere; bad files are one line.

The files in results/ were written by real commands on bookworm-amd64 (check, mitigations, selftests: bookworm-686); of
the benchmark four workloads are left, of the checker's stories one.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import sample
import schemas
from conftest import ASCII, ROOT, RunCli, one_line_error
from sysenter.check.command import MutantReport, Report
from sysenter.check.command import to_json as check_to_json
from sysenter.errors import SysenterError
from sysenter.lab.guest import Guest
from sysenter.report import mitigations, selftests
from sysenter.report.page.page import page as page_of
from sysenter.verify.mitigations import Applied
from sysenter.verify.selftests import SelftestResult

RESULTS = Path(__file__).parent / "results"
MEASURED = ROOT / "docs/measured/bookworm-amd64.json"
_VOID = {"meta", "link", "br"}


class Page(HTMLParser):
    """Its elements, and its text without the style sheet."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.said: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> where {self.open[-3:]} is open"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.said.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.said).split())


@pytest.mark.parametrize(("accelerator", "says"), [("bochs", "emulated"), ("kvm", "KVM, on this processor")])
def test_times_are_called_what_they_are(tmp_path: Path, accelerator: str, says: str) -> None:
    data = json.loads((RESULTS / "run.json").read_text())
    data["target"]["accelerator"] = accelerator
    data["replay"] = {"calls": [], "why_not": "a replay is taken of a guest in QEMU"}
    schemas.hold("run", data)
    (tmp_path / "run.json").write_text(json.dumps(data))
    text = Page(page_of([tmp_path / "run.json"])).text
    assert says in text
    assert ("KVM" in text) is (accelerator == "kvm")


@pytest.fixture
def verdicts(tmp_path: Path, guest: Guest) -> list[Path]:
    """What mitigations, check and selftests write, of values made here."""
    both = frozenset({"PTI", "VERW"})
    faults = {"meltdown": "Mitigation: PTI", "mds": "Mitigation: Clear CPU buffers; SMT disabled"}
    applied = [
        Applied("Haswell", "", faults, both, both),
        Applied("Icelake-Server", "nopti", faults, both, frozenset({"VERW"})),
        Applied("EPYC", "", refused="no SYSENTER in long mode"),
        Applied("486", "", lost="it stands still"),
    ]
    sound, broken = Report("present-amd64", 12), Report("legacy-global", 3)
    sound.tally.cases = 12345
    mutants = MutantReport("present-amd64", 40, [], {"a": "harmless", "b": ""}, 50)
    results = [
        SelftestResult("alike", {"before": "0 3/0", "loaded": "0 3/0", "after": "0 3/0"}),
        SelftestResult("other", {"before": "0 3/0", "loaded": "1 2/1", "after": "0 3/0"}),
    ]
    written: dict[str, Any] = {
        "mitigations": mitigations.to_json(guest, "marked", applied),
        "check": check_to_json([sound, broken], [mutants], 1),
        "selftests": selftests.to_json(guest, "x86", "marked", results, []),
    }
    for name, value in written.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    return [tmp_path / f"{name}.json" for name in written]


def saved(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text())


def test_the_page_is_whole_and_fetches_nothing(verdicts: list[Path]) -> None:
    text = page_of([MEASURED, *sorted(RESULTS.glob("*.json")), *verdicts])
    page = Page(text)
    named = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(named) == len(set(named)), "an id is there twice"
    for tag, attributes in page.elements:
        assert tag not in ("script", "img", "iframe", "object")
        for name, value in attributes.items():
            assert value is not None
            for inside in re.findall(r"^#([\w-]+)$|url\(#([\w-]+)\)", value):
                assert "".join(inside) in named, f"{tag} {name}={value}"
            if name == "aria-labelledby":
                assert value in named
            if name in ("src", "href", "xlink:href"):
                assert value.startswith(("#", "data:")), value
    assert not re.search(r"@import|url\((?!#)", text)
    charts = [attributes for tag, attributes in page.elements if (tag, attributes.get("role")) == ("svg", "img")]
    assert len(charts) == 8  # cycles of two files, bench, dd, four paths
    assert "var(--" in text
    assert not re.search(r"#0a5e[0-9a-f]{2}", text), "a colour stands for a variable"


def test_it_says_what_the_files_say() -> None:
    text = page_of([MEASURED, *sorted(RESULTS.glob("*.json"))])
    page = Page(text)
    for call in json.loads(MEASURED.read_text())["calls"]:
        if not call["verw"]:
            row = rf"{call['call']} {call['path']} {call['instructions']} " + " ".join(
                f"{call['cycles'][way]:.0f}" for way in ("overlap", "serial", "nested")
            )
            assert row in page.text
    bench = saved("bench")
    for workload, paths in bench["workloads"].items():
        for path in ("all", "fast"):
            ratio = paths[path]["times_stock"]
            words = "no difference shown"
            if ratio["shown"]:
                words = f"{ratio['median']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f})"
            assert f"{workload} {path} {words}" in page.text
    shown = [p["times_stock"]["shown"] for w in bench["workloads"].values() for p in w.values() if "times_stock" in p]
    assert any(shown)
    assert not all(shown)  # both are tried
    for call in saved("run")["calls"]:
        assert re.search(rf"{call['call']} (\S+ )*{call['instructions']}\b", page.text)
    for each in ("times stock’s speed, emulated", "6.1.0-50-amd64 on Icelake-Server, emulated"):
        assert each in page.text
    trace = saved("trace")
    for path in trace["paths"]:
        assert f"{path['path']}: {len(path['steps'])} instructions" in page.text
    rows = [step for path in trace["paths"] for step in path["steps"]]
    assert text.count('<tr><td class="n">') == len(rows)
    assert "sysenter_entry [sysenter]" in page.text
    for piece in saved("pieces")["pieces"]:
        assert piece["piece"] in page.text
    stock = next(p for p in saved("pieces")["pieces"] if (p["path"], p["piece"]) == ("stock", "exit work"))
    assert f"exit work: {stock['costs']['overlap'][1]:+.0f} (" in page.text  # beside its function


def test_the_verdicts_are_those_of_the_files() -> None:
    said = Page(page_of([RESULTS / f"{name}.json" for name in ("check", "mitigations", "selftests")])).text
    for handler in saved("check")["handlers"]:
        verdict = f"fails as it must ({handler['must_fail']}: known bad)" if handler["must_fail"] else "holds"
        assert f"{handler['handler']} {verdict} {handler['callers']:,} {handler['cases']:,}" in said
    for machine in saved("mitigations")["machines"]:
        assert f"{', '.join(machine['stock'])} {', '.join(machine['fast'])} all of them" in said
    programs = saved("selftests")["programs"]
    assert (
        f"{len(programs)} programs, scope marked, held against what they say on the stock kernel: all the same" in said
    )
    for each in programs:
        assert f"{each['program']} {' '.join(each['outcomes'].values())} yes" in said


def test_verdicts_are_told_apart(verdicts: list[Path]) -> None:
    said = Page(page_of(verdicts)).text
    for words in (
        "meltdown (PTI), mds (Clear CPU buffers) PTI, VERW PTI, VERW all of them",
        "PTI, VERW VERW missing: PTI",
        "refused: no SYSENTER in long mode",
        "it stands still",
        "present-amd64 holds 12 12,345",
        "legacy-global failed",  # it must fail, and did not
        "0 of 40 caught, 1 not explained",
        "1 differ, 0 suspicious lines",
    ):
        assert words in said


def test_no_difference_is_said_as_such(tmp_path: Path) -> None:
    bench = saved("bench")
    for paths in bench["workloads"].values():
        for timed in paths.values():
            timed["seconds"] = [1.0, 1.1, 0.9, 1.05, 0.95]
    (tmp_path / "bench.json").write_text(json.dumps(bench))
    said = Page(page_of([tmp_path / "bench.json"])).text
    assert said.count("no difference shown") > 2 * len(bench["workloads"])
    assert "no difference shown in any of calls/null" in said


def test_the_headline_is_no_boast(tmp_path: Path) -> None:
    """What is slower had been "the most of 4", and int $0x80 the fastest of the module's paths."""
    bench, run = saved("bench"), saved("run")
    for key, paths in bench["workloads"].items():
        for path, timed in paths.items():
            timed["seconds"] = [1.1 if (key, path) == ("calls/read", "all") else 1.0] * 5
    (tmp_path / "bench.json").write_text(json.dumps(bench))
    headline = Page(page_of([tmp_path / "bench.json"])).text.partition("Workloads")[0]
    assert "0.91 × stock’s speed, emulated calls/read by path all is slower, and none of 4 is shown" in headline
    assert "the most of" not in headline
    run["target"]["accelerator"] = "kvm"
    for runs in run["dd"]:
        runs["seconds"] = [1.7 if runs["path"] == "int80" else 1.0] * 9
    (tmp_path / "run.json").write_text(json.dumps(run))
    headline = Page(page_of([tmp_path / "run.json"])).text.partition("What was measured")[0]
    assert "no difference shown in any of dd/bs=1" in headline
    assert "by path int80" not in headline


def test_what_a_benchmark_says_has_failed_is_said(tmp_path: Path) -> None:
    """Its times had been drawn as those of the path that no call had taken."""
    bench = saved("bench")
    bench["failed"] = ["path fast: the module counted no call", "dd/bs=64 on all ended with status 1"]
    for paths in bench["workloads"].values():
        paths["fast"]["calls"] = [0] * len(paths["fast"]["calls"])
    schemas.hold("bench", bench)
    (tmp_path / "bench.json").write_text(json.dumps(bench))
    said = Page(page_of([tmp_path / "bench.json"])).text
    for words in bench["failed"]:
        assert f"Failed: {words} (6.1.0-50-amd64 on Icelake-Server, emulated)" in said
    assert "calls/null all " in said
    assert "calls/null fast" not in said
    for paths in bench["workloads"].values():
        paths.pop("all")
    (tmp_path / "bench.json").write_text(json.dumps(bench))
    assert "Failed: path fast" in Page(page_of([tmp_path / "bench.json"])).text, "it is said if nothing is left, too"


@pytest.mark.parametrize("other", [{"cpu": "Nehalem"}, {"kernel": "6.1.0-50-amd64 #2 SMP another build"}])
def test_cycles_of_other_instructions_are_not_a_paths(tmp_path: Path, other: dict[str, str]) -> None:
    """Of the same release: it is the processor that chooses the paths, and a build that has them."""
    for name in ("trace", "pieces"):
        (tmp_path / f"{name}.json").write_text(json.dumps(saved(name)))
    files = [MEASURED, tmp_path / "trace.json", tmp_path / "pieces.json"]
    text = page_of(files)
    assert "cycles in a loop, " in text
    assert "pieces, cycles in a loop" in text
    files[1].write_text(json.dumps(saved("trace") | other))
    text = page_of(files)
    assert "cycles in a loop, " not in text
    assert "pieces, cycles in a loop" not in text


def test_a_kernels_release_is_whole_in_charts(tmp_path: Path) -> None:
    """Its third number had been cut to two digits, as a coordinate."""
    releases = [f"6.12.{n}+deb13-amd64" for n in range(100, 104)]
    for release in releases:
        data = json.loads(MEASURED.read_text()) | {"kernel": f"{release} #1 SMP"}
        (tmp_path / f"{release}.json").write_text(json.dumps(data))
    text = page_of(tmp_path / f"{release}.json" for release in releases)
    charts = "".join(re.findall(r"<svg.*?</svg>", text, re.S))
    for release in releases:
        assert f"{release} on" in charts
    assert not re.search(r'="[^"]*\.\d{3}', charts), "a coordinate is longer than it need be"


def test_a_replay_of_which_nothing_is_verified_is_not_damaged(tmp_path: Path) -> None:
    data = json.loads(MEASURED.read_text())
    for call in data["calls"]:
        call.update(verified=False, why="another result", cycles={}, samples={})
        call.pop("saves", None)
    (tmp_path / "none.json").write_text(json.dumps(data))
    said = Page(page_of([tmp_path / "none.json"])).text
    unverified = {(call["call"], call["path"]) for call in data["calls"]}
    assert len(unverified) < len(data["calls"]), "the file has no VERW"
    assert said.count("Not verified, so not timed:") == len(unverified)


def test_names_from_files_are_text(tmp_path: Path) -> None:
    """A saved file may come from anywhere."""
    bench = saved("bench")
    bench["workloads"]["<script>alert(1)</script>"] = bench["workloads"].pop("calls/null")
    bench["cpu"] = '"><script>x</script>$\\frac$'
    (tmp_path / "bench.json").write_text(json.dumps(bench))
    page = Page(page_of([tmp_path / "bench.json"]))
    assert "script" not in {tag for tag, _ in page.elements}
    assert "<script>alert(1)</script>" in page.text


def _damaged(name: str, **changes: Any) -> str:
    data = saved(name)
    for key, value in changes.items():
        if value is None:
            del data[key]
        else:
            data[key] = value
    return json.dumps(data)


_STEP = {"lane": "entry", "instruction": "nop", "for": "nop"}
_PATH = {"call": "getppid", "path": "stock"}
_MACHINE = dict.fromkeys(("cpu", "append", "refused", "lost"), "") | dict.fromkeys(("stock", "fast", "missing"), ())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"schema": 1, "kind"', "is no JSON, or damaged (line 1"),
        ("", "is no JSON, or damaged"),
        ("[1, 2]", "nothing that is known here"),
        ('{"schema": 1, "kind": "something"}', "nothing that is known here"),
        (_damaged("bench", kind="else"), "nothing that is known here"),
        (_damaged("bench", schema=7), "has schema 7"),
        (_damaged("bench", complete=None), "complete"),
        (_damaged("bench", workloads={"calls/null": {"stock": {}}}), "no result of a benchmark"),
        (_damaged("run", calls=[{"call": "getppid"}]), "is damaged"),
        (_damaged("run", target={}), "no 'release'"),
        (_damaged("trace", paths=[{"call": "a", "path": "stock", "steps": []}]), "a path without steps"),
        (_damaged("trace", paths=[{"call": "a", "path": "by foot", "steps": [{"lane": "x"}]}]), "is damaged"),
        (_damaged("pieces", pieces=[{"call": "a"}]), "no 'path'"),
        # what only drawing and laying out find
        (_damaged("trace", paths=[_PATH | {"steps": [_STEP | {"for": None}]}]), "is damaged"),
        (_damaged("trace", paths=[_PATH | {"steps": [_STEP | {"lane": ""}]}]), "is damaged"),
        (_damaged("check", mutants=-1), "is damaged"),
        (_damaged("mitigations", machines=[_MACHINE | {"mitigated": 0}]), "is damaged"),
    ],
)
def test_a_bad_file_is_told_by_its_name(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(SysenterError, match=re.escape(words)) as raised:
        page_of([MEASURED, tmp_path / "bad.json"])
    assert "bad.json" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert raised.value.hint


def test_what_is_not_there_is_one_line(cli: RunCli, tmp_path: Path) -> None:
    page = str(tmp_path / "page.html")
    (tmp_path / "bad.json").write_text('{"schema": 1,')
    assert "bad.json is no JSON, or damaged (line 1" in one_line_error(
        cli("report", str(MEASURED), str(tmp_path / "bad.json"), "-o", page)
    )
    assert not Path(page).exists()
    assert "cannot read" in one_line_error(cli("report", str(tmp_path / "none.json"), "-o", page))
    nowhere = str(tmp_path / "nowhere/page.html")
    assert "there is no folder" in one_line_error(cli("report", str(MEASURED), "-o", nowhere))
    assert "it is a folder" in one_line_error(cli("report", str(MEASURED), "-o", str(tmp_path)))
    (tmp_path / "matplotlib").mkdir()
    (tmp_path / "matplotlib/__init__.py").write_text("raise ModuleNotFoundError('no', name='matplotlib')")
    without = cli("report", str(MEASURED), "-o", page, env={"PYTHONPATH": f"{tmp_path}:{ROOT / 'src'}"})
    assert "this needs the Python package matplotlib" in one_line_error(without)


def test_the_sample_is_of_what_tests_have_kept(tmp_path: Path) -> None:
    """And of nothing else: without results there is no page; with damaged ones that is told."""
    folder = tmp_path / "sample"
    assert sample.make(folder) is None
    sample.keep(folder, RESULTS / "run.json", "mine")
    made = sample.make(folder)
    assert made is not None
    said = Page(made.read_text()).text
    assert "mine.json" in said
    assert saved("run")["target"]["release"] in said
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/other.json").write_text("not of this run")
    assert sample.make(folder, tmp_path / "mine") == tmp_path / "mine/report.html"
    assert (tmp_path / "mine/mine.json").read_text() == (RESULTS / "run.json").read_text()
    (tmp_path / "bad.json").write_text("{")
    sample.keep(folder, tmp_path / "bad.json", "bad")
    with pytest.raises(SysenterError, match=r"bad\.json is no JSON"):
        sample.make(folder)


def test_it_goes_to_standard_output(cli: RunCli) -> None:
    done = cli("report", str(RESULTS / "run.json"), "-o", "-")
    assert done.stdout.startswith("<!DOCTYPE html>")
    assert Page(done.stdout).elements


def test_a_page_is_utf_8_whatever_the_locale_is(cli: RunCli, tmp_path: Path) -> None:
    done = cli("report", str(MEASURED), "-o", str(tmp_path / "page.html"), env=ASCII)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert '<meta charset="utf-8">' in page
    assert not page.isascii()


def test_twenty_runs_are_quick_and_small(cli: RunCli, tmp_path: Path) -> None:
    """5 s of processor time: what else the machine does is not the page's."""
    run, files = saved("run"), []
    for n in range(20):
        run["target"]["release"] = run["replay"]["kernel"] = f"6.{n}.0-amd64"
        files.append(tmp_path / f"{n}.json")
        files[-1].write_text(json.dumps(run))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = cli("report", *map(str, files), "-o", str(tmp_path / "page.html"))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    taken = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    assert taken < 5, f"{taken:.1f} s"
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "page.html").read_text()
    assert len(text.encode()) < 2e6
    said = Page(text).text
    assert all(f"6.{n}.0-amd64 on Icelake-Server, emulated" in said for n in range(20))


def test_no_other_command_loads_it(tmp_path: Path) -> None:
    argv = [sys.executable, "-X", "importtime", "-m", "sysenter", "--help"]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60)
    assert "report" in done.stdout
    assert not re.search(r"\b(matplotlib|numpy|jinja2)\b", done.stderr)
