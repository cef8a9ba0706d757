# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kernel.toml of 2.2 or 2.4 may say wrongly is one line, before anything is built or booted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sysenter.build import legacy as build
from sysenter.build.boot import entered_behind_header
from sysenter.build.legacy import build_legacy_module, legacy_image
from sysenter.errors import SysenterError
from sysenter.kernels import provide as providing
from sysenter.kernels.provide import provide
from sysenter.lab.legacy_guest import LegacyOutput, legacy_guest_for
from sysenter.lab.present_guest import present_guest_for
from sysenter.lab.qemu import GuestLost
from sysenter.steps import Steps
from sysenter.target.arch import I386
from sysenter.target.target import Guard, Target

_GUARD = Guard(release="2.4.22", version="#1", sock_register=0xC0200000, stext=0xC0100000, build_id="")


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Target:
    """A kernel whose headers are configured and its own; nothing may be compiled for it."""
    (tmp_path / "headers/include/linux").mkdir(parents=True)
    (tmp_path / "headers/include/linux/version.h").write_text('#define UTS_RELEASE "2.4.22"\n')
    (tmp_path / "headers/include/linux/autoconf.h").write_text("")
    (tmp_path / "System.map").write_text("c0200000 T sock_register\n")
    (tmp_path / "bzImage").touch()

    def nothing(*_: object, **__: object) -> str:
        raise AssertionError("something was built")

    monkeypatch.setattr(build, "run_command", nothing)
    return Target(
        name="old",
        arch=I386,
        image=tmp_path / "bzImage",
        headers=tmp_path / "headers",
        cc=None,
        cpu="pentium3",
        cpus=1,
        qemu_args=(),
        append="",
        guard=_GUARD,
        userland=None,
        modules=None,
        system_map=tmp_path / "System.map",
    )


def test_headers_of_another_release_are_told(target: Target, steps: Steps) -> None:
    (target.headers / "include/linux/version.h").write_text('#define UTS_RELEASE "2.4.20"\n')
    with pytest.raises(SysenterError, match=r"headers is of 2\.4\.20, the kernel is 2\.4\.22"):
        build_legacy_module(steps, target)


@pytest.mark.parametrize("name", ["autoconf.h", "version.h"])
def test_headers_that_are_not_configured_are_told(target: Target, steps: Steps, name: str) -> None:
    (target.headers / "include/linux" / name).unlink()
    with pytest.raises(SysenterError, match=rf"no configured tree: it has no include/linux/{name}"):
        build_legacy_module(steps, target)


@pytest.mark.parametrize("cc", ["/bin/true", "/bin/false", "/nonexistent/gcc", "/etc/passwd"])
def test_what_is_no_compiler_is_told(target: Target, steps: Steps, cc: str) -> None:
    with pytest.raises(SysenterError, match=f"{cc} is no C compiler"):
        build_legacy_module(steps, replace(target, cc=cc))


def test_an_unknown_processor_is_told(target: Target, steps: Steps) -> None:
    for make in (lambda other: legacy_guest_for(steps, other), lambda other: present_guest_for(steps, other, "tcg")):
        with pytest.raises(SysenterError, match=r"knows no processor 'pentuim3' \(near it: pentium3"):
            make(replace(target, cpu="pentuim3"))


def test_an_old_kernel_of_another_architecture_is_told(
    target: Target, steps: Steps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(providing, "_guard", lambda *_: _GUARD)
    description = tmp_path / "kernel.toml"
    description.write_text(
        'release = "2.4.22"\narch = "amd64"\nimage = "bzImage"\nsystem-map = "System.map"\nheaders = "headers"\n'
    )
    with pytest.raises(SysenterError, match=r"key 'arch' is 'amd64', and 2\.4\.22 is taken for i386 only"):
        provide(steps, str(description), offline=True)


def test_files_that_no_ramdisk_holds_are_told(steps: Steps, tmp_path: Path) -> None:
    with pytest.raises(SysenterError, match="fewer --rounds"):
        legacy_image(steps, {"init": b"", "plan": bytes(3 << 20)}, tmp_path)


def old_image(entry: int = 0x22C, version: int = 0x202) -> bytes:
    """A bzImage of four sectors of setup that is entered at `entry`."""
    image = bytearray(b"\x90" * 512 * 5 + b"the kernel")
    image[0x1F1], image[0x200], image[0x201] = 4, 0xEB, entry - 0x202
    image[0x202:0x208] = b"HdrS" + version.to_bytes(2, "little")
    image[0x22C:0x230] = b"\xb8\x00\x15\xb2"
    return bytes(image)


def test_an_entry_that_qemu_writes_over_is_put_back_before_it_is_used() -> None:
    """Followed by hand: the jump at 0x200, the one it leads to, the bytes put back, the jump to them."""
    image = entered_behind_header(old_image())
    assert image[0x1F1] == 5
    assert image[512 * 6 :] == b"the kernel"
    assert image[0x200:0x202] == b"\xeb\x1e"
    assert image[0x220] == 0xE9
    at = 0x223 + int.from_bytes(image[0x221:0x223], "little")
    assert at == 512 * 5
    # movl $imm32,%cs:0x2c in 16-bit code, then jmp rel16
    assert image[at : at + 10] == b"\x2e\x66\xc7\x06\x2c\x00" + b"\xb8\x00\x15\xb2"
    assert image[at + 10] == 0xE9
    back = int.from_bytes(image[at + 11 : at + 13], "little", signed=True)
    assert at + 13 + back == 0x22C
    unchanged = (0x1F1, 0x201, *range(0x220, 0x223))
    assert all(image[i] == old_image()[i] for i in range(512 * 5) if i not in unchanged)


@pytest.mark.parametrize("image", [old_image(entry=0x230), old_image(version=0x203)])
def test_other_setups_stay_as_they_are(image: bytes) -> None:
    assert entered_behind_header(image) == image


def output(*records: dict[str, Any], console: str = "") -> LegacyOutput:
    return LegacyOutput(records, (), console, 0, 1.0)


def test_a_step_that_the_guest_never_came_to_is_told() -> None:
    start = {"event": "start", "step": 1, "command": "dd"}
    done = {"event": "done", "step": 1, "command": "dd", "result": 0}
    error = {"event": "plan", "error": "it does not fit"}
    assert output(start, done).result(1) == 0
    with pytest.raises(GuestLost, match=r"never did step 2 of its plan \(its kernel said nothing at all\)"):
        output(start, done).result(2)
    with pytest.raises(GuestLost, match=r"did not end step 1 of its plan, dd \(its kernel's last lines are above\)"):
        output(start, console="Linux version 2.4.22\n").result(1)
    with pytest.raises(GuestLost, match="never did step 1 of its plan: it does not fit"):
        output(error).result(1)
