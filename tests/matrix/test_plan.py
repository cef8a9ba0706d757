# SPDX-License-Identifier: GPL-2.0-or-later
"""What a matrix consists of, and what is done again."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from conftest import ROOT, RunCli, one_line_error
from sysenter.errors import SysenterError
from sysenter.kernels.catalogue import CATALOGUE
from sysenter.matrix import artefact, kept
from sysenter.matrix.perform import Work
from sysenter.matrix.plan import Job, Product, expand, read_products

JOB = Job("run", "", "bookworm-686", "pentium3", "")


def test_jobs_are_every_combination_once_and_neighbours_are_of_different_kernels(tmp_path: Path) -> None:
    jobs = expand(
        [
            Product(("bookworm-686", "bookworm-amd64"), ("pentium3", "Icelake-Server"), ("marked", "all"), ("run",)),
            Product(("bookworm-686",), ("pentium3",), ("all",), ("run",)),  # once more
        ],
        tmp_path,
    )
    assert len(jobs) == len(set(jobs)) == 8
    assert all(a.kernel != b.kernel for a, b in pairwise(jobs))


def test_what_makes_no_difference_to_a_job_makes_no_second_one(tmp_path: Path) -> None:
    jobs = expand(
        [Product(("bookworm-686",), ("pentium3", "athlon"), ("marked", "all"), ("check", "hazards"))], tmp_path
    )
    assert [job.kind for job in jobs] == ["check", "hazards"]
    assert all(not job.cpu and not job.scope for job in jobs)


def test_the_page_of_what_is_supported_asks_about_every_kernel() -> None:
    file = ROOT / "docs/support.toml"
    jobs = expand(read_products(file), file.parent)
    assert {job.kernel for job in jobs} == {entry.name for entry in CATALOGUE}
    assert {job.kind for job in jobs} == {"run"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x", "not TOML"),
        ("x = " + "[" * 3000, "not TOML"),
        ("", "a file of \\[\\[product\\]\\] tables"),
        ("[[product]]\ncpus = ['athlon']", "key 'kernels' is missing"),
        ("[[product]]\nkernels = 'bookworm-686'", "must be a list of strings"),
        ("[[product]]\nkernels = ['bookworm-686']\ncpu = 'x'", "unknown key 'cpu'; known are kernels"),
        ("[[product]]\nkernels = ['bookworm-686']\nrounds = 0", "must be a whole number from 1"),
    ],
)
def test_a_bad_file_is_named(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text(text)
    with pytest.raises(SysenterError, match=f"m.toml: .*{words}"):
        read_products(tmp_path / "m.toml")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--kernel", "nowhere"), "unknown kernel 'nowhere'"),
        (("--job", "dance"), "no job 'dance'"),
        (("--job", "run:x"), "run takes nothing behind a colon"),
        (("--job", "selftests:x"), "no suite 'x'"),
        (("--job", "bench:calls/x"), "no workload 'calls/x'"),
        (("--job", "check:x"), "x"),
        (("--job", "storm:long"), "storm:long: behind the colon is minutes of each way, a whole number"),
        (("--job", "loads:0"), "loads:0: behind the colon is how many, a whole number"),
        (("--scope", "some"), "no scope 'some'"),
        (("nowhere.toml",), "cannot be read"),
        (("--kernel", "bookworm-686", "--json", "/nowhere/file"), "there is no folder /nowhere"),
        (("--kernel", "nowhere.toml"), "nowhere.toml: cannot be read"),
        # what would be passed over
        (("m.toml", "--job", "selftests"), "--job is not for m.toml, which says all of its jobs"),
        (("m.toml", "--rounds", "3"), "--rounds is not for m.toml"),
        (("--job", "storm", "--job", "hazards", "--append", "pti=on"), "none of these jobs takes --append"),
        (("--job", "selftests", "--module-option", "entry=syscall"), "none of these jobs takes --module-option"),
        (("--job", "bench", "--count", "5"), "none of these jobs takes --count"),
        (("--worker", "tcp://127.0.0.1:1"), "matrix --worker takes no --offline"),
        (("--scheduler", "tcp://127.0.0.1:1", "--cores", "2"), "matrix --scheduler takes no --cores"),
    ],
)
def test_bad_words_are_one_line(cli: RunCli, arguments: tuple[str, ...], words: str) -> None:
    assert words in one_line_error(cli("matrix", "--offline", *arguments))


def test_a_job_is_known_by_all_that_it_depends_on() -> None:
    work = Work(JOB, "6.1", "tcg", False)
    others = [
        replace(work, identity="6.2"),
        replace(work, accelerator="kvm"),
        *(
            replace(work, job=replace(JOB, **change))
            for change in (
                {"cpu": ""},
                {"scope": "all"},
                {"append": "pti=on"},
                {"rounds": 1},
                {"module_options": ("x",)},
            )
        ),
    ]
    keys = [kept.key_of(one) for one in (work, *others)]
    assert len(set(keys)) == len(keys)
    assert kept.key_of(replace(work, offline=True)) == keys[0]


@pytest.mark.parametrize(
    ("name", "has_say"),
    [
        ("native/present/entry_i386.S", True),
        ("defaults.py", True),
        ("matrix/perform.py", True),
        ("check/x.py", False),  # the checker has none in a run
        ("matrix/run.py", False),
        ("report/matrix.py", False),
    ],
)
def test_a_job_is_done_again_when_a_source_that_has_a_say_in_it_changes(
    monkeypatch: pytest.MonkeyPatch, name: str, has_say: bool
) -> None:
    work, keys = Work(JOB, "6.1", "tcg", False), set()
    try:
        for content in ("one", "another"):
            monkeypatch.setattr(kept, "_files", lambda content=content: ((name, content),))
            kept.sources.cache_clear()
            keys.add(kept.key_of(work))
    finally:
        kept.sources.cache_clear()
    assert len(keys) == 1 + has_say


def test_only_answers_are_kept_and_what_is_damaged_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kept.keep("a", {"outcome": "failed"})
    assert kept.kept("a") is None
    kept.keep("a", {"outcome": "refused", "why": "no SEP"})
    assert kept.kept("a") == {"outcome": "refused", "why": "no SEP"}
    for damaged in ("{", "[]", "{}", "null"):
        (tmp_path / "sysenter/matrix/a.json").write_text(damaged)
        assert kept.kept("a") is None


def test_a_kernel_of_the_users_own_arrives_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "mine"
    (folder / "tree/include").mkdir(parents=True)
    (folder / "tree/include/x.h").write_text("1")
    (folder / "tree/asm").symlink_to("include")
    for name in ("image", "map"):
        (folder / name).write_text(name)
        (folder / f"{name}-link").symlink_to(folder / name)
    (folder / "tree-link").symlink_to(folder / "tree")
    file = folder / "kernel.toml"
    file.write_text(
        'release = "2.4.1"\narch = "i386"\nimage = "image-link"\nsystem-map = "map-link"\nheaders = "tree-link"\n'
        'smp = true\nappend = "\U0001f427 caf\u00e9"\n',
        encoding="utf-8",
    )
    name = artefact.artefact_of(str(file))
    assert not artefact.place_of(name, str(file)).exists()
    artefact.unpack(name, str(file), artefact.pack(str(file)))
    there = artefact.place_of(name, str(file))
    assert (there.parent / "headers/asm/x.h").read_text() == "1"
    assert not any((there.parent / part).is_symlink() for part in ("headers", "bzImage", "System.map"))
    assert artefact.artefact_of(str(there)) == name  # the same kernel
