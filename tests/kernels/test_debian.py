# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's packages on ordinary machines: where the mirror is found, and what of this machine's apt is not heard."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from sysenter.cache import digest, file_sha256, write_whole
from sysenter.errors import SysenterError
from sysenter.kernels import debian
from sysenter.kernels.debian import Apt
from sysenter.processes import environment
from sysenter.steps import Steps

# `apt-get update --print-uris` of apt 2.6.
_SAMPLE = """\
'{0}/dists/bookworm{1}/InRelease' mirror.example_debian_dists_bookworm_InRelease 0 
'{0}/dists/bookworm{1}/main/binary-amd64/Packages.xz' mirror.example_debian_dists_bookworm_main_binary-amd64_Packages 0 
"""  # noqa: W291
_SECURITY = _SAMPLE.format("http://mirror.example/debian-security", "-security")
_CLOUD = "mirror+file:/etc/apt/mirrors/debian.list"

_apt_is_here = pytest.mark.skipif(not shutil.which("apt-get"), reason="apt-get is not here")


@pytest.mark.parametrize(
    ("said", "mirror"),
    [
        (_SECURITY + _SAMPLE.format("http://mirror.example/debian", ""), "http://mirror.example/debian/"),
        (_SAMPLE.format("https://a:b@[::1]:80/pub/debian", ""), "https://a:b@[::1]:80/pub/debian/"),
        # Debian's images for clouds
        (_SAMPLE.format(_CLOUD.replace("debian.", "debian-security."), "") + _SAMPLE.format(_CLOUD, ""), f"{_CLOUD}/"),
        (
            "W: a warning\n" + _SAMPLE.format("http://mirror.example/debian", "-updates"),
            "http://mirror.example/debian/",
        ),
        (_SECURITY, None),
        (_SAMPLE.format("http://archive.ubuntu.com/ubuntu", ""), None),
        ("", None),
    ],
)
def test_the_mirror_is_the_one_of_this_machines_sources(
    steps: Steps, monkeypatch: pytest.MonkeyPatch, said: str, mirror: str | None
) -> None:
    monkeypatch.delenv("SYSENTER_DEBIAN_MIRROR", raising=False)
    monkeypatch.setattr(debian, "run_command", lambda *given, **more: said)
    if mirror:
        assert debian._mirror(steps) == mirror
    else:
        with pytest.raises(SysenterError, match="no Debian mirror in this machine's apt sources"):
            debian._mirror(steps)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose apt has a list of mirrors, no package lists, a suite that it prefers, and a pin."""
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources/debian.sources").write_text(
        "Types: deb\nURIs: mirror+file:///etc/apt/mirrors/debian.list\nSuites: bookworm bookworm-updates\n"
        "Components: main\n"
    )
    (tmp_path / "conf").write_text(
        f'Dir::Etc::SourceList "/dev/null"; Dir::Etc::SourceParts "{tmp_path}/sources";\n'
        f'Dir::State::Lists "{tmp_path}/lists"; APT::Default-Release "bookworm"; Dir::Etc::Preferences "/a/pin";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "conf"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("SYSENTER_DEBIAN_MIRROR", raising=False)


@_apt_is_here
@pytest.mark.usefixtures("machine")
def test_apt_itself_tells_its_mirror_without_its_lists(steps: Steps) -> None:
    assert debian._mirror(steps) == f"{_CLOUD}/"


@_apt_is_here
@pytest.mark.usefixtures("machine")
def test_what_this_machine_prefers_has_no_say_in_another_suite(steps: Steps) -> None:
    """apt refuses a preferred suite that its sources do not have, and installs nothing that is pinned away."""
    argv = Apt(steps, "trixie", "amd64", offline=True)._argv("apt-config", "dump")
    said = subprocess.check_output(argv, env=environment(network=True), text=True)
    for line in ('apt::default-release "";', 'dir::etc::preferences "/dev/null";'):
        assert line in said.lower().splitlines()  # apt keeps the case that it saw first


# `apt-get install --simulate`
_SIMULATED = """\
Inst gcc-12-base (12.2.0-14+deb12u1 Debian:12.12/oldstable [amd64])
Inst libc6 (2.36-9+deb12u13 Debian:12.12/oldstable [amd64]) []
Inst bsdutils (1:2.38.1-5+deb12u3 Debian:12.12/oldstable [amd64])
Conf libc6 (2.36-9+deb12u13 Debian:12.12/oldstable [amd64])
"""
_VERSIONS = {"bsdutils": "1:2.38.1-5+deb12u3", "gcc-12-base": "12.2.0-14+deb12u1", "libc6": "2.36-9+deb12u13"}


def test_after_a_point_release_what_a_system_is_made_of_is_of_one_day(
    steps: Steps, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """dpkg does not configure a new libc6-dev beside the libc6 of before."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(debian, "run_command", lambda *given, **more: _SIMULATED)
    monkeypatch.setattr(Apt, "update", lambda apt: None)
    apt = Apt(steps, "bookworm", "amd64", offline=False)

    def keep(name: str, version: str) -> None:
        write_whole(apt._packages / f"{name}.deb", version)
        record = {"file": f"{name}.deb", "version": version, "sha256": file_sha256(apt._packages / f"{name}.deb")}
        write_whole(apt._record(name), json.dumps(record))

    fetched: list[str] = []

    def download(apt: Apt, names: list[str]) -> None:
        fetched.extend(names)
        for name in names:
            keep(name, _VERSIONS[name])

    monkeypatch.setattr(Apt, "_download", download)
    for name in ("bsdutils", "libc6"):
        keep(name, _VERSIONS[name])
    keep("libc6", "2.36-9+deb12u1")
    assert apt.closure(["libc6"]) == _VERSIONS
    offline = Apt(steps, "bookworm", "amd64", offline=True)
    assert offline.closure(["libc6"]) == _VERSIONS
    assert [p.version for p in offline.fetch({"libc6": _VERSIONS["libc6"]})] == ["2.36-9+deb12u1"]
    assert {p.name: p.version for p in apt.fetch(apt.closure(["libc6"]))} == _VERSIONS
    assert fetched == ["gcc-12-base", "libc6"]
    assert apt.fetch(["libc6"])[0].version == _VERSIONS["libc6"]


def test_a_list_that_an_earlier_sysenter_kept_is_one_of_names(
    steps: Steps, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    apt = Apt(steps, "bookworm", "amd64", offline=True)
    write_whole(apt._folder / f"closure-{digest(['libc6'])}", "gcc-12-base libc6")
    assert apt.closure(["libc6"]) == {"gcc-12-base": "", "libc6": ""}
