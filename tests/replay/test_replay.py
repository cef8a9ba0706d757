# SPDX-License-Identifier: GPL-2.0-or-later
"""A replay of real kernels: it executes what the guest executed, and says so if it does not. No times are asserted."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import schemas
from conftest import Keep, RunCli, one_line_error
from sysenter.errors import SysenterError
from sysenter.kernels.provide import provide
from sysenter.lab import guest_with_shell_for
from sysenter.replay.bundle import Bundle, read_bundle, write_bundle
from sysenter.replay.command import Request, bundle_of, export, replay
from sysenter.replay.operands import Decoder
from sysenter.replay.pieces import Walk, pieces_of
from sysenter.replay.rules import PROCESS_DS, verw_selector
from sysenter.replay.runner import Run, build_runner, run
from sysenter.replay.snapshot import CALLS
from sysenter.replay.trace import PAGE
from sysenter.steps import Steps

KERNELS = (
    "bookworm-amd64",
    "bookworm-686",
    pytest.param("bookworm-backports-amd64", marks=pytest.mark.long),
    pytest.param("trixie-backports-amd64", marks=pytest.mark.long),
    pytest.param("bookworm-686-pae", marks=pytest.mark.long),
)


BUNDLES: dict[tuple[str, ...], Bundle] = {}


def made(steps: Steps, kernel: str, *options: str) -> Bundle:
    """A kernel's bundle, with these options of the module's; its snapshot is in the cache after the first time."""
    if (kernel, *options) not in BUNDLES:
        target = provide(steps, kernel, offline=False)
        BUNDLES[kernel, *options] = bundle_of(steps, guest_with_shell_for(steps, target, "tcg"), options)
    return BUNDLES[kernel, *options]


@pytest.fixture
def bundle(request: pytest.FixtureRequest, steps: Steps) -> Bundle:
    """Of bookworm-amd64, or of the kernel that a test's indirect parameter names."""
    return made(steps, getattr(request, "param", "bookworm-amd64"))


@pytest.fixture
def verify(steps: Steps, tmp_path: Path) -> Callable[[Bundle], Run]:
    """Single-step a bundle's calls."""

    def verify(bundle: Bundle) -> Run:
        write_bundle(bundle, tmp_path)
        return run(steps, build_runner(steps, bundle.arch), tmp_path, ["-v"])

    return verify


@pytest.mark.parametrize("bundle", KERNELS, indirect=True)
def test_instructions_and_results_are_the_guests(bundle: Bundle, verify: Callable[[Bundle], Run]) -> None:
    verdicts = verify(bundle).verdicts
    assert [v for v in verdicts if not v.verified] == []
    assert {(v.call, v.path) for v in verdicts} == {(call, path) for call in CALLS for path in ("stock", "fast")}
    for v in verdicts:
        assert v.guest == v.replayed > 50
    count = {(v.call, v.path): v.guest for v in verdicts}
    assert all(count[call, "fast"] < count[call, "stock"] for call in CALLS)


@pytest.mark.parametrize("bundle", ["bookworm-amd64", "bookworm-686"], indirect=True)
def test_verw_asks_about_a_segment_that_the_process_may_write(bundle: Bundle) -> None:
    """With another selector it fails, and takes nearly three times as long (Zen 3)."""
    assert len(bundle.verws) == 2  # stock's and ours
    for at, length in bundle.verws:
        verw = Decoder(64 if bundle.arch == "amd64" else 32).decode(bundle.read(at, length), at)
        selector = verw_selector(verw)
        assert selector
        assert int.from_bytes(bundle.read(selector, 2), "little") == PROCESS_DS


def changed(bundle: Bundle, address: int, value: int) -> Bundle:
    """The bundle with one byte another, digests and all."""
    pages = bytearray(bundle.pages)
    pages[bundle.maps[address & -PAGE] * PAGE + address % PAGE] = value
    return replace(bundle, pages=bytes(pages))


@pytest.mark.parametrize("bundle", ["bookworm-amd64", "bookworm-686"], indirect=True)
def test_a_changed_byte_of_code_is_found(bundle: Bundle, verify: Callable[[Bundle], Run]) -> None:
    """Also where the path would go on as before, and give the same result."""
    choose = random.Random(1)
    for call in (c for c in bundle.calls if c.name == "getppid"):
        assert call.trace
        for step in choose.sample(sorted(set(call.trace)), 12):
            value = bundle.read(step, 1)[0] ^ 1 << choose.randrange(8)
            only = replace(changed(bundle, step, value), calls=(call,))
            (verdict,) = verify(only).verdicts
            assert not verdict.verified, f"{step:#x} became {value:#x}"
            assert verdict.why


@pytest.mark.parametrize("bundle", ["bookworm-amd64", "bookworm-686"], indirect=True)
def test_another_result_is_found(bundle: Bundle, verify: Callable[[Bundle], Run]) -> None:
    calls = tuple(replace(call, result=call.result + 1) for call in bundle.calls if call.name == "getppid")
    verdicts = verify(replace(bundle, calls=calls)).verdicts
    assert len(verdicts) == len(calls) >= 2
    for verdict in verdicts:
        assert not verdict.verified
        assert "result" in verdict.why


def test_pieces_of_what_is_not_the_guests_call_are_one_line(steps: Steps, bundle: Bundle, tmp_path: Path) -> None:
    calls = tuple(replace(call, result=call.result + 1) for call in bundle.calls)
    write_bundle(replace(bundle, calls=calls), tmp_path)
    with pytest.raises(SysenterError, match=r"getppid by stock is not verified, so not timed: .*result"):
        replay(steps, Request(pieces=True, processes=1), source=tmp_path)
    # of one path alone: its pieces had been said to give another result each, and the status was 0
    calls = tuple(replace(call, result=call.result + (call.path == "fast")) for call in bundle.calls)
    write_bundle(replace(bundle, calls=calls), tmp_path)
    outcome = replay(steps, Request(pieces=True, processes=1), source=tmp_path)
    assert {cost.path for cost in outcome.costs or ()} == {call.path for call in bundle.calls} - {"fast"}
    assert not outcome.ok


def test_an_unmarked_call_has_a_path_of_its_own(steps: Steps, verify: Callable[[Bundle], Run]) -> None:
    """With scope=both: what the module changed in the kernel's entry is put back for stock's replay."""
    bundle = made(steps, "bookworm-amd64", "scope=both")
    run = verify(bundle)
    assert [v for v in run.verdicts if not v.verified] == []
    count = {(v.call, v.path): v.replayed for v in run.verdicts}
    for call in CALLS:
        assert count[call, "fast"] < count[call, "all"] < count[call, "stock"]
    plain = {(c.name, c.path): c.trace for c in made(steps, "bookworm-amd64").calls}
    stock = next(c for c in bundle.calls if (c.name, c.path) == ("getppid", "stock"))
    assert stock.patches
    assert stock.trace == plain["getppid", "stock"]


@pytest.mark.parametrize("bundle", KERNELS, indirect=True)
def test_each_path_dispatches_the_same_body(bundle: Bundle) -> None:
    """And not a retpoline somewhere in it: reading and writing go through a table of a file's functions."""
    for name in CALLS:
        bodies = set()
        for call in (c for c in bundle.calls if c.name == name):
            walk = Walk(bundle, call)
            dispatch = walk.dispatch()
            assert dispatch, (name, call.path)
            bodies.add(walk.steps[dispatch[1]].address)
        assert len(bodies) == 1, name


@pytest.mark.parametrize("bundle", KERNELS, indirect=True)
def test_without_a_piece_a_call_still_gives_its_result(
    steps: Steps, bundle: Bundle, verify: Callable[[Bundle], Run]
) -> None:
    pieces = pieces_of(bundle, "getppid")
    without = replace(bundle, calls=tuple(piece.call for piece in pieces))
    verdicts = verify(without).verdicts
    assert {v.path for v in verdicts} == {piece.call.path for piece in pieces}
    wrong = {v.path: v.why for v in verdicts if not v.verified}
    assert [(p.path, p.what, wrong[p.call.path]) for p in pieces if p.call.path in wrong] == []
    found = {(p.path, p.what) for p in pieces}
    assert len(found) == len(pieces) > 3
    if bundle.arch == "amd64":
        common = "registers cleared at the entry", "dispatch: a direct call of the body instead"
        stock = *common, "exit work", "may SYSRET be used?", "second stack at the exit", "stack offset taken off"
        fast = (
            *common,
            "the one comparison (work, frame, address, number)",
            "stack offset drawn",
            "exit work looked for",
        )
        assert found >= {("stock", what) for what in stock} | {("fast", what) for what in fast}


def test_a_snapshot_is_taken_once(steps: Steps, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(BUNDLES, ("bookworm-amd64",))
    monkeypatch.setattr("sysenter.replay.snapshot._take", None)  # no guest is booted
    assert made(steps, "bookworm-amd64") == bundle


def test_what_is_written_is_read(bundle: Bundle, tmp_path: Path) -> None:
    write_bundle(bundle, tmp_path)
    assert read_bundle(tmp_path) == bundle


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a byte of its pages": lambda folder: flip(folder / "pages", 5000),
    "a byte of its plan": lambda folder: flip(folder / "plan", 5000),
    "pages cut": lambda folder: (folder / "pages").write_bytes((folder / "pages").read_bytes()[:-PAGE]),
    "a plan cut": lambda folder: (folder / "plan").write_text((folder / "plan").read_text()[:9000]),
    "an empty plan": lambda folder: (folder / "plan").write_text(""),
    "no plan": lambda folder: (folder / "plan").unlink(),
    "no pages": lambda folder: (folder / "pages").unlink(),
    "something else": lambda folder: (folder / "plan").write_bytes(bytes(range(256)) * 40),
}


def test_a_damaged_packed_bundle_gives_one_line(bundle: Bundle, steps: Steps, tmp_path: Path, cli: RunCli) -> None:
    export(steps, bundle, tmp_path)
    for name in ("plan.gz", "pages.gz"):
        whole = (tmp_path / name).read_bytes()
        for damaged in (whole[:-2000], b"", whole[:1000] + bytes(64) + whole[1064:]):
            (tmp_path / name).write_bytes(damaged)
            assert "bundle" in one_line_error(cli("replay", "--from", str(tmp_path)))
            done = subprocess.run([tmp_path / "replay", tmp_path], capture_output=True, text=True)
            assert done.returncode == 1
            assert len(done.stderr.splitlines()) == 1, done.stderr
            assert "verified" not in done.stdout
        (tmp_path / name).write_bytes(whole)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_bundle_gives_one_line(
    steps: Steps, bundle: Bundle, tmp_path: Path, cli: RunCli, damage: str
) -> None:
    write_bundle(bundle, tmp_path)
    DAMAGES[damage](tmp_path)
    assert "bundle" in one_line_error(cli("replay", "--from", str(tmp_path)))
    done = subprocess.run([build_runner(steps, bundle.arch), tmp_path], capture_output=True, text=True)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "verified" not in done.stdout


def test_a_plan_with_a_page_that_its_bundle_has_not_is_refused(tmp_path: Path) -> None:
    """Reading memory there would go on for ever."""
    write_bundle(Bundle("6.1 #1", "amd64", "x", 0, 0, {PAGE: 0, 2 * PAGE: 1}, bytes(PAGE), (), ()), tmp_path)
    with pytest.raises(SysenterError, match="a page that it has not"):
        read_bundle(tmp_path)


def test_another_kernels_plan_is_refused(steps: Steps, bundle: Bundle, tmp_path: Path) -> None:
    other = made(steps, "bookworm-686")
    for name, one in (("own", bundle), ("other", other)):
        (tmp_path / name).mkdir()
        write_bundle(one, tmp_path / name)
    shutil.copy(tmp_path / "other/plan", tmp_path / "own/plan")
    with pytest.raises(SysenterError, match=f"its pages are not those of its plan.*{other.kernel.split()[0]}"):
        read_bundle(tmp_path / "own")


def test_a_bundle_is_carried_measured_and_compared(
    steps: Steps, bundle: Bundle, tmp_path: Path, cli: RunCli, on_sample_page: Keep
) -> None:
    """--export, the runner alone, --from with --json, --against a file and a folder."""
    write_bundle(bundle, tmp_path)
    folder = tmp_path / "carried"
    assert cli("replay", "--kernel", "bookworm-amd64", "--export", str(folder)).returncode == 0
    assert sum(path.stat().st_size for path in folder.iterdir()) < 0.6e6
    assert (
        "verified getppid fast 1"
        in subprocess.run([folder / "replay", "-v", folder], capture_output=True, text=True).stdout
    )
    saved = tmp_path / "saved.json"
    few = ("--from", str(folder), "--processes", "3", "--calls", "getppid,read")
    done = cli("replay", *few, "--json", str(saved))
    assert done.returncode == 0, done.stderr
    assert "left out: the mode switch" in done.stdout
    on_sample_page(saved, "replay-bookworm-amd64")
    figures = json.loads(saved.read_text())
    schemas.hold("replay", figures)
    assert figures["kernel"] == bundle.kernel
    assert {(c["call"], c["path"], c["verw"]) for c in figures["calls"]} == {
        (call, path, verw) for call in ("getppid", "read") for path in ("stock", "fast") for verw in (False, True)
    }
    for call in figures["calls"]:
        assert call["verified"] is True
        assert set(call["cycles"]) == {"overlap", "serial", "nested"}
        assert call["instructions"] > 50
    assert {m["order"] for m in figures["mixture"]} == {"repeats", "random"}
    done = cli("replay", *few, "--pieces", "--json", str(tmp_path / "pieces.json"))
    assert done.returncode == 0, done.stderr
    on_sample_page(tmp_path / "pieces.json", "pieces-bookworm-amd64")
    written = json.loads((tmp_path / "pieces.json").read_text())
    schemas.hold("pieces", written)
    pieces = written["pieces"]
    assert {("stock", "VERW"), ("fast", "VERW"), ("stock", "exit work")} <= {(p["path"], p["piece"]) for p in pieces}
    assert all(set(p["costs"]) == {"overlap", "serial", "nested"} for p in pieces)
    for against in (saved, folder):
        done = cli("replay", *few, "--against", str(against))
        assert done.returncode in (0, 1), done.stderr  # times decide
        assert "fast, overlap: " in done.stdout
    # nothing was found slower, and that was taken for a pass
    other = cli("replay", "--from", str(folder), "--calls", "write", "--against", str(saved))
    assert f"nothing to compare: {saved} has none of write" in one_line_error(other)


def test_what_cannot_be_replayed_is_said_in_one_line(cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "it is no folder" in one_line_error(cli("replay", "--from", "/nowhere", "--export", str(tmp_path / "file")))
    assert "nonsense" in one_line_error(cli("replay", "--kernel", "bookworm-amd64", "--calls", "getppid,nonsense"))
    assert "cannot be read" in one_line_error(
        cli("replay", "--from", str(tmp_path), "--against", str(tmp_path / "none"))
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--pieces --against x", "--pieces takes no --against"),
        ("--trace y --against x", "--trace takes no --against"),
        ("--export y --json x", "--export takes no --json"),
        ("--export y --pieces", "--export takes no --pieces"),
        ("--export y --calls getppid", "--export takes no --calls"),
        ("--calls=", "--calls needs a list"),
        ("--from y --scope all", "--scope is not for --from"),
        ("--from y --kernel bookworm-amd64", "--kernel is not for --from"),
    ],
)
def test_what_would_be_passed_over_is_refused(cli: RunCli, tmp_path: Path, words: str, said: str) -> None:
    """A comparison that is not made is not passed, and a file that is not written is not missed an hour later."""
    given = [str(tmp_path / word) if word in ("x", "y") else word for word in words.split()]
    assert said in one_line_error(cli("replay", *given))
    assert not list(tmp_path.iterdir())
