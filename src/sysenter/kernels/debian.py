# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian packages of any suite and architecture, beside the system's own apt.

apt is run with lists, cache and state of its own, so it fetches and checks
(signatures, hashes) without touching what is installed here.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tarfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from sysenter.cache import UNREADABLE, cache_folder, digest, file_sha256, lock, write_whole
from sysenter.errors import SysenterError
from sysenter.processes import running
from sysenter.steps import Steps, run_command

__all__ = ["KEYRING", "Apt", "Package", "unpack", "words_of"]

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_URI = re.compile(r"'(?P<uri>[^']+)' (?P<file>\S+) (?P<size>\d+) (?:SHA256|SHA512):(?P<hash>[0-9a-f]+)")
# A file of a suite: "mirror+file:/etc/apt/mirrors/debian.list" is a list of mirrors, as Debian's cloud images have.
_SOURCE = re.compile(r"^'(?P<mirror>\S+/debian(?:\.list)?)/+dists/(?P<suite>[^/']+)/", re.M)
_SUITE = re.compile(r"^(stable|testing|sid|unstable|bookworm|trixie|forky|duke|[a-z]+)(-updates|-backports)?$")


@dataclass(frozen=True)
class Package:
    """A package file in the cache, checked against the archive's signed lists."""

    name: str
    version: str
    path: Path


def _mirror(steps: Steps) -> str:
    """The Debian mirror that this machine's own apt uses."""
    configured = os.environ.get("SYSENTER_DEBIAN_MIRROR")
    if configured:
        return configured
    hint = "set SYSENTER_DEBIAN_MIRROR to the address of a Debian mirror, ending in /debian/"
    # By its sources alone: its lists may be gone, as in an image that was made small.
    argv = ["apt-get", "update", "--print-uris"]
    said = run_command(steps, argv, what="ask apt for its mirror", timeout=30, network=True, hint=hint)
    for found in _SOURCE.finditer(said):
        if _SUITE.match(found["suite"]):
            return f"{found['mirror']}/"
    raise SysenterError("no Debian mirror in this machine's apt sources", hint=hint)


class Apt:
    """apt for one suite and architecture, with private state in the cache.

    offline: use what is in the cache and never the network.
    """

    def __init__(self, steps: Steps, suite: str, architecture: str, *, offline: bool) -> None:
        self._steps, self._architecture = steps, architecture
        self.suite = suite
        self.offline = offline
        self._folder = cache_folder() / "apt" / f"{suite}-{architecture}"
        self._packages = cache_folder() / "packages" / f"{suite}-{architecture}"
        self._updated = False

    def _alone(self) -> AbstractContextManager[None]:
        """Two runs at once take turns at apt's state: it has locks of its own, and fails where they are held."""
        return lock(f"apt-{self.suite}-{self._architecture}")

    def _argv(self, tool: str, *arguments: str) -> list[str]:
        f = self._folder
        options = {
            "Dir::State::Lists": f / "lists",
            "Dir::State::status": f / "status",
            "Dir::Cache": f / "cache",
            "Dir::Etc::SourceList": f / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::Etc::Preferences": "/dev/null",
            "Dir::Etc::PreferencesParts": "/dev/null",
            "APT::Default-Release": "",  # this machine's is another suite
            "APT::Architecture": self._architecture,
            "APT::Architectures": self._architecture,
            "APT::Sandbox::User": "",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
        }
        return [tool, *(a for k, v in options.items() for a in ("-o", f"{k}={v}")), *arguments]

    def _need_network(self, what: str) -> None:
        if self.offline:
            raise SysenterError(
                f"{what} is not in the cache, and --offline forbids to fetch it",
                hint="run once without --offline, with a network",
            )

    def update(self) -> None:
        """Fetch the suite's package lists (once for this object)."""
        if self._updated:
            return
        self._need_network(f"Debian {self.suite}")
        if not KEYRING.exists():
            raise SysenterError(f"{KEYRING} is missing", hint="install the package debian-archive-keyring")
        for sub in ("lists/partial", "cache/archives/partial"):
            (self._folder / sub).mkdir(parents=True, exist_ok=True)
        (self._folder / "status").touch()
        source = f"deb [signed-by={KEYRING}] {_mirror(self._steps)} {self.suite} main\n"
        with self._alone(), self._steps.step(f"Debian {self.suite} {self._architecture}: package lists"):
            write_whole(self._folder / "sources.list", source)
            run_command(
                self._steps,
                self._argv("apt-get", "update", "--error-on=any"),
                what=f"fetch the package lists of Debian {self.suite}",
                timeout=300,
                network=True,
                hint="is there a network? With what is cached, --offline works",
            )
        self._updated = True

    def field(self, package: str, field: str) -> str:
        """A field of a package's record in the lists, "" if it has none."""
        self.update()
        argv = self._argv("apt-cache", "show", "--no-all-versions", package)
        with self._alone():
            text = run_command(
                self._steps,
                argv,
                what=f"look up {package} in Debian {self.suite}",
                timeout=60,
                network=True,
                hint="the archive no longer has it; a newer sysenter may know its new name",
            )
        match = re.search(rf"^{field}: (.*)$", text, re.M)
        return match[1] if match else ""

    def closure(self, names: Sequence[str]) -> dict[str, str]:
        """The packages with all that they depend on, as for a machine with none; name -> version ("": unknown)."""
        kept = self._folder / f"closure-{digest([*names])}"
        if self.offline and (known := words_of(kept)):
            return {name: version for name, _, version in (word.partition("=") for word in known)}
        self.update()
        argv = self._argv("apt-get", "install", "--simulate", "--no-install-recommends", *names)
        with self._alone():
            text = run_command(
                self._steps,
                argv,
                what=f"look up what {', '.join(names)} need",
                timeout=60,
                network=True,
                hint="the archive no longer has them; a newer sysenter may know their new names",
            )
        found = dict(sorted(re.findall(r"^Inst (\S+) \((\S+)", text, re.M)))
        if not found:  # with nothing in it a system would be made of it, and kept
            raise SysenterError(
                f"apt names no packages for {', '.join(names)} of Debian {self.suite}", hint="report it", detail=text
            )
        write_whole(kept, " ".join(f"{name}={version}" for name, version in found.items()))
        return found

    def fetch(self, names: Sequence[str] | Mapping[str, str]) -> tuple[Package, ...]:
        """Fetch packages into the cache; those there and whole are not fetched again.

        A mapping is closure()'s: those that are there in another version are fetched too, unless offline. Else a
        system would be made of packages of before and after a point release, which dpkg does not configure.
        """
        versions = names if isinstance(names, Mapping) and not self.offline else {}
        known = {name: self._cached(name, versions) for name in names}
        if missing := [name for name, package in known.items() if package is None]:
            self._need_network(", ".join(missing))
            self.update()
            with self._alone():
                self._download([name for name in missing if self._cached(name, versions) is None])
            known.update({name: self._cached(name, versions) for name in missing})
        found = tuple(p for p in known.values() if p is not None)
        if len(found) != len(names):
            lost = ", ".join(n for n, p in known.items() if p is None)
            raise SysenterError(f"{lost}: not in the cache after its download", hint="run the command again")
        return found

    def _record(self, name: str) -> Path:
        return self._packages / f"{name}.json"

    def _cached(self, name: str, versions: Mapping[str, str]) -> Package | None:
        """The package in the cache, or None if it is absent, damaged or of another version."""
        try:
            record = json.loads(self._record(name).read_text())
            if versions.get(name, "") not in ("", record["version"]):
                return None
            path = self._packages / record["file"]
            if file_sha256(path) == record["sha256"]:
                return Package(name, record["version"], path)
            self._steps.say(f"         {path.name} in the cache is damaged: it is not used")
        except UNREADABLE:
            pass
        return None

    def _download(self, names: Sequence[str]) -> None:
        if not names:  # another run has fetched them meanwhile
            return
        self._packages.mkdir(parents=True, exist_ok=True)
        argv = self._argv("apt-get", "download", "--print-uris", *names)
        uris = [
            _URI.search(line)
            for line in run_command(
                self._steps, argv, what=f"look up {', '.join(names)}", timeout=60, network=True
            ).splitlines()
        ]
        files = {m["file"]: m for m in uris if m}
        for file in files:  # apt resumes or trusts what it finds: begin anew
            (self._packages / file).unlink(missing_ok=True)
        total = sum(int(m["size"]) for m in files.values())
        what = f"fetch {len(files)} packages ({total / 1e6:.0f} MB)"
        with (
            self._steps.step(what),
            self._steps.progress("fetch", total) as show,
            _watching(lambda: show(self._done(list(files)))),
        ):
            run_command(
                self._steps,
                self._argv("apt-get", "download", *names),
                cwd=self._packages,
                what=what,
                timeout=1800,
                network=True,
                hint="is there a network, and room on the disk?",
            )
        for file, match in files.items():
            name, version = file.split("_")[0], unquote(file.split("_")[1])
            path = self._packages / file
            if not path.exists():
                raise SysenterError(f"{file} did not arrive", hint="run the command again")
            record = {"file": file, "version": version, "sha256": file_sha256(path)}
            if len(match["hash"]) == 64 and record["sha256"] != match["hash"]:
                raise SysenterError(f"{file} arrived damaged", hint="run the command again")
            write_whole(self._record(name), json.dumps(record))

    def _done(self, files: Sequence[str]) -> int:
        paths = [self._packages / f for f in files]
        paths += [self._folder / "cache/archives/partial" / f for f in files]
        return sum(map(_size, paths))


def words_of(path: Path) -> list[str]:
    """Of a small file of the cache; none if it is absent or damaged."""
    try:
        return path.read_text().split()
    except (OSError, UnicodeDecodeError):
        return []


def _size(path: Path) -> int:
    """Bytes; 0 if it is not there. apt moves a file away when it is whole, at any moment."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


class _watching:
    """Calls a function five times a second while the block runs."""

    def __init__(self, function: Callable[[], None]) -> None:
        self._function = function
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)

    def _loop(self) -> None:
        while not self._stop.wait(0.2):
            self._function()

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def unpack(steps: Steps, package: Package, folder: Path, wanted: Callable[[str], bool] = lambda _: True) -> None:
    """Unpack a package's files below `folder`, those whose path is `wanted`.

    Paths have no leading slash. Raises SysenterError if the package is damaged.
    """
    argv = ["dpkg-deb", "--fsys-tarfile", str(package.path)]
    steps.command(argv)
    with running(argv, what=f"unpack {package.path.name}", stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                # The package is checked and trusted; 3.11.2 (Debian 12) knows no filters yet.
                archive.extraction_filter = getattr(tarfile, "fully_trusted_filter", None)
                for member in archive:
                    name = member.name.removeprefix("./")
                    if name and wanted(name):
                        archive.extract(member, folder)
            process.stdout.read()
        except (tarfile.TarError, EOFError) as error:
            raise SysenterError(
                f"{package.path.name} is damaged: {error}", hint=f"remove {package.path} and run the command again"
            ) from error
        process.wait()
    if process.returncode:
        raise SysenterError(
            f"{package.path.name} is damaged: dpkg-deb failed with status {process.returncode}",
            hint=f"remove {package.path} and run the command again",
        )
