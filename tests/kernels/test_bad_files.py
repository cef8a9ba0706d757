# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels, headers and options that are not what they should be: one line each, before anything is booted."""

from __future__ import annotations

import fcntl
import json
import os
import random
from dataclasses import replace
from pathlib import Path

import pytest

from sysenter.build.present import build_present_module
from sysenter.cache import cache_folder, digest, write_whole
from sysenter.errors import SysenterError
from sysenter.kernels import provide as providing
from sysenter.kernels.debian import Apt, Package
from sysenter.kernels.provide import provide, unpacked_kernel
from sysenter.kernels.root import _recorded, debian_root
from sysenter.lab import accelerator
from sysenter.lab.accelerator import choose_accelerator
from sysenter.lab.guest import Guest, Output, all_said, record_of
from sysenter.lab.qemu import GuestLost
from sysenter.measure.present import check_dd
from sysenter.replay.command import _saved
from sysenter.report.page import saved
from sysenter.steps import Steps
from sysenter.target.target import Target, guard_of


@pytest.mark.parametrize("how", ["nothing", "noise", "its beginning", "cut short", "a program", "bits turned"])
def test_an_image_that_is_none(target: Target, tmp_path: Path, how: str) -> None:
    image, noise = target.image.read_bytes(), random.Random(1)
    turned = bytearray(image)
    for _ in range(50):
        turned[noise.randrange(len(turned))] ^= 1 << noise.randrange(8)
    path = tmp_path / "image"
    path.write_bytes(
        {
            "nothing": b"",
            "noise": noise.randbytes(100_000),
            "its beginning": image[:600],
            "bits turned": bytes(turned),
            "cut short": image[: len(image) // 2],
            "a program": Path("/bin/true").read_bytes(),
        }[how]
    )
    with pytest.raises(SysenterError, match=str(path)):
        guard_of(path, None)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", '"x"'])
def test_a_record_of_the_cache_that_is_none_is_as_if_it_were_not_there(
    steps: Steps, target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    apt = Apt(steps, "bookworm", "i386", offline=True)
    apt._packages.mkdir(parents=True)
    apt._record("musl").write_text(text)
    with pytest.raises(SysenterError, match="musl is not in the cache"):
        apt.fetch(["musl"])
    (tmp_path / "kernel.json").write_text(text)
    assert unpacked_kernel(tmp_path) is None
    if not text:
        write_whole(apt._folder / f"closure-{digest(['musl'])}", text)
        with pytest.raises(SysenterError, match="--offline forbids"):
            apt.closure(["musl"])
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) == "/dev/kvm" or os.path.exists(path))
    monkeypatch.setattr(accelerator, "present_guest_for", lambda *given: _NoGuest())
    assert choose_accelerator(steps, target, "auto") == "tcg"
    (kept,) = (tmp_path / "sysenter/accelerator").iterdir()
    kept.write_text(text)
    assert choose_accelerator(steps, target, "auto") == "tcg"
    assert json.loads(kept.read_text()) == {"accelerator": "tcg"}
    if text != "{}":
        assert _recorded(tmp_path / "kernel.json", tmp_path) is None


class _NoGuest:
    def run(self, *given: object, **more: object) -> Output:
        raise GuestLost("it does not boot")


def test_a_guest_that_the_users_own_words_stop_is_no_answer_about_kvm_without_them(
    steps: Steps, target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As --append mem=4M. It was kept as one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) == "/dev/kvm" or os.path.exists(path))
    monkeypatch.setattr(accelerator, "present_guest_for", lambda *given: _NoGuest())
    others = [replace(target, append="mem=4M"), replace(target, qemu_args=("-m", "4"))]
    assert [choose_accelerator(steps, one, "auto") for one in others] == ["tcg", "tcg"]
    monkeypatch.setenv("SYSENTER_QEMU", "/another/qemu")
    assert choose_accelerator(steps, target, "auto") == "tcg"
    monkeypatch.delenv("SYSENTER_QEMU")
    monkeypatch.setattr(accelerator, "present_guest_for", lambda *given: _Guest())
    assert choose_accelerator(steps, target, "auto") == "kvm"
    assert choose_accelerator(steps, others[0], "auto") == "tcg"


class _Guest:
    def run(self, *given: object, **more: object) -> None:
        pass


def test_what_fails_before_a_guest_boots_is_no_answer_about_kvm(
    steps: Steps, target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was kept as one, and every run was emulated until the host booted anew."""

    def full(*given: object) -> Guest:
        raise SysenterError("build the module: the disk is full")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) == "/dev/kvm" or os.path.exists(path))
    monkeypatch.setattr(accelerator, "present_guest_for", full)
    with pytest.raises(SysenterError, match="the disk is full"):
        choose_accelerator(steps, target, "auto")
    assert not (tmp_path / "sysenter/accelerator").exists()


def test_the_lock_of_debian_systems_is_not_held_while_packages_are_fetched(
    steps: Steps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow download takes as long as another run waits for the lock."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def fetch(apt: Apt, names: object) -> tuple[Package, ...]:
        with (cache_folder() / "roots.lock").open("a") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return ()

    monkeypatch.setattr(Apt, "closure", lambda apt, names: {})
    monkeypatch.setattr(Apt, "fetch", fetch)
    root = debian_root(steps, "bookworm", "i386", ["hello"], offline=True)
    monkeypatch.delattr(Apt, "fetch")
    assert debian_root(steps, "bookworm", "i386", ["hello"], offline=True) == root


def test_a_map_that_is_none(target: Target, tmp_path: Path) -> None:
    for content in (b"", random.Random(1).randbytes(5000), target.image.read_bytes()[:100_000]):
        (tmp_path / "map").write_bytes(content)
        with pytest.raises(SysenterError, match=str(tmp_path / "map")):
            guard_of(target.image, tmp_path / "map")


def _kernel_toml(folder: Path, target: Target, **other: object) -> str:
    keys = {"release": target.release, "arch": target.arch, "image": target.image, "headers": target.headers, **other}
    (folder / "System.map").touch()
    file = folder / "kernel.toml"
    file.write_text("".join(f'{key} = "{value}"\n' for key, value in {**keys, "system-map": "System.map"}.items()))
    return str(file)


def test_an_image_of_another_architecture_is_told_before_anything_is_built(
    steps: Steps, target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(SysenterError, match=f"key 'arch' is 'amd64', but {target.image} is a kernel of 32 bits"):
        provide(steps, _kernel_toml(tmp_path, target, arch="amd64"), offline=True)


def test_headers_of_another_release_are_told_before_anything_is_built(
    steps: Steps, target: Target, pae_target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(providing, "_guard", lambda *_: target.guard)
    right = provide(steps, _kernel_toml(tmp_path, target), offline=True)
    assert (right.release, right.headers) == (target.release, target.headers)
    with pytest.raises(SysenterError, match=f"is of {pae_target.release}, the kernel is {target.release}"):
        provide(steps, _kernel_toml(tmp_path, target, headers=pae_target.headers), offline=True)


def test_headers_that_are_none(steps: Steps, target: Target, tmp_path: Path) -> None:
    noise = random.Random(1)
    with pytest.raises(SysenterError, match="is missing"):
        build_present_module(steps, replace(target, headers=tmp_path))
    for name in ("Makefile", ".config", "include/linux/syscalls.h", "arch/x86/include/generated/asm/syscalls_32.h"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(noise.randbytes(300))
    with pytest.raises(SysenterError):
        build_present_module(steps, replace(target, headers=tmp_path))


def test_a_compiler_that_is_not_here_is_not_replaced_by_another(steps: Steps, target: Target) -> None:
    with pytest.raises(SysenterError, match="no compiler no-such-gcc"):
        build_present_module(steps, replace(target, cc="no-such-gcc"))


def test_a_command_line_that_the_kernel_would_cut_is_refused(guest: Guest) -> None:
    with pytest.raises(SysenterError, match="of which this kernel reads 2047"):
        guest.machine(append="x" * 2000)
    with pytest.raises(SysenterError, match="control character"):
        guest.machine(append="a\0b")
    assert guest.machine(append="x" * 1000).append.endswith("x" * 1000)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ({"status": 132, "seconds": None}, r"dd on path fast ended with status 132 \(SIGILL\)"),
        ({"status": 1, "seconds": None}, r"dd on path fast ended with status 1 in the guest"),
        ({"status": 0, "seconds": None}, "did not say how long it took"),
    ],
)
def test_a_dd_that_died_is_told(run: dict[str, object], message: str) -> None:
    with pytest.raises(SysenterError, match=message):
        check_dd([{"path": "fast", "round": 0, "fast_calls": 0, **run}])


def test_a_guest_that_says_half_of_it_is_told() -> None:
    output = Output(({"calls": None},), ("its last word",), "the log's end", 0, 1.0)
    for read in (
        lambda: float(output.of("calls")[0]),
        lambda: output.of("absent")[0],
        lambda: max([]),
        lambda: next(iter(())),
        lambda: output.records[0]["absent"],
    ):
        with (
            pytest.raises(SysenterError, match="measuring: the guest did not say all") as caught,
            all_said("measuring", output),
        ):
            read()
        assert "its last word" in caught.value.detail
        assert "\n" not in str(caught.value)


def test_a_file_that_apt_moves_while_its_size_is_read(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar of a download reads it in a thread, whose exception is a traceback on the user's terminal."""
    apt = Apt(steps, "bookworm", "i386", offline=True)
    monkeypatch.setattr(Path, "exists", lambda path: True)  # it was, a moment ago
    assert apt._done(["gone.deb"]) == 0


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "1" * 100_000, "\udcff"], ids=["cut", "deep", "long", "no text"])
def test_what_is_no_json_is_one_line_everywhere(tmp_path: Path, text: str) -> None:
    """A file that the user names, and a line that a guest says."""
    (tmp_path / "x.json").write_text(text, errors="surrogateescape")
    with pytest.raises(SysenterError, match="cannot be read"):
        _saved(tmp_path / "x.json")
    with pytest.raises(SysenterError, match="is no JSON, or damaged"):
        saved.read(tmp_path / "x.json")
    assert record_of('{"x": ' + text) is None
