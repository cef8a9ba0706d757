# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's packages on ordinary machines: where the mirror is found, and what of this machine's apt is not heard."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from sysenter.errors import SysenterError
from sysenter.kernels import debian
from sysenter.kernels.debian import Apt
from sysenter.processes import environment
from sysenter.steps import Steps

# `apt-get update --print-uris` of apt 2.6.
_SAMPLE = """\
'{0}/dists/bookworm{1}/InRelease' deb.debian.org_debian_dists_bookworm_InRelease 0 
'{0}/dists/bookworm{1}/main/binary-amd64/Packages.xz' deb.debian.org_debian_dists_bookworm_main_binary-amd64_Packages 0 
"""  # noqa: W291
_SECURITY = _SAMPLE.format("http://deb.debian.org/debian-security", "-security")
_CLOUD = "mirror+file:/etc/apt/mirrors/debian.list"

_apt_is_here = pytest.mark.skipif(not shutil.which("apt-get"), reason="apt-get is not here")


@pytest.mark.parametrize(
    ("said", "mirror"),
    [
        (_SECURITY + _SAMPLE.format("http://deb.debian.org/debian", ""), "http://deb.debian.org/debian/"),
        (_SAMPLE.format("https://a:b@[::1]:80/pub/debian", ""), "https://a:b@[::1]:80/pub/debian/"),
        # Debian's images for clouds
        (_SAMPLE.format(_CLOUD.replace("debian.", "debian-security."), "") + _SAMPLE.format(_CLOUD, ""), f"{_CLOUD}/"),
        (
            "W: a warning\n" + _SAMPLE.format("http://deb.debian.org/debian", "-updates"),
            "http://deb.debian.org/debian/",
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
