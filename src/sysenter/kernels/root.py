# SPDX-License-Identifier: GPL-2.0-or-later
"""A Debian system made of packages, for a guest: a folder, and a disk image of it.

Its packages are all essential ones, those asked for, and what they depend on.
Unpacked is enough for most programs, and anybody may do it. A configured system is
one whose packages dpkg has installed, with their scripts, natively in a chroot; that
takes root. Either is made once and kept in the cache; nothing is installed here.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sysenter.cache import cache_folder, digest, fill, lock, write_whole
from sysenter.errors import SysenterError
from sysenter.kernels.debian import Apt, Package, unpack
from sysenter.steps import Steps, run_command
from sysenter.target.arch import ARCHITECTURES

__all__ = ["Root", "debian_root", "disk_image", "mke2fs", "run_in_root"]

# Raise when what is made of the same packages changes.
_LAYOUT = "1"
_FREE = 256  # MiB
# usr-is-merged (since bookworm): else apt takes usrmerge, and with it all of perl.
_ALWAYS = ("?essential", "?exact-name(usr-is-merged)")


@dataclass(frozen=True)
class Root:
    """A Debian system in the cache."""

    folder: Path
    """Its files, which nobody may change (copy it: `cp -a`)."""
    suite: str
    architecture: str
    packages: Mapping[str, str]
    """Name -> version."""
    configured: bool
    """Whether dpkg has installed them; else they are only unpacked."""

    def image(self, steps: Steps) -> Path:
        """An ext4 image of it with some room, made once."""
        path = self.folder.with_name(f"{self.folder.name}-{_FREE}.ext4")
        with lock("roots"):
            if not path.exists():
                for leftover in path.parent.glob(f".{path.name}.*"):  # of a run that was killed
                    leftover.unlink()
                disk_image(steps, self.folder, path, free=_FREE)
        return path


def mke2fs() -> str:
    """The program's path; a user's PATH may lack its folder. Raises SysenterError if it is not there."""
    found = shutil.which("mke2fs", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if not found:
        raise SysenterError("mke2fs is not installed", hint="install Debian's e2fsprogs")
    return found


def disk_image(steps: Steps, folder: Path, image: Path, *, free: int) -> None:
    """Make an ext4 image of a folder, `free` MiB larger than what is in it. A sparse file."""
    files = [path.lstat() for path in folder.rglob("*")]
    mib = sum((info.st_size + 4095) // 4096 + 1 for info in files) // 256 + len(files) // 4096
    new = image.with_name(f".{image.name}.{os.getpid()}")
    # Files that a user unpacked are the user's; in a namespace of his own they are root's.
    as_root = [] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--"]
    argv: list[str | Path] = [
        *as_root,
        mke2fs(),
        "-q",
        "-F",
        "-t",
        "ext4",
        "-N",
        str(len(files) + 65536),
        "-d",
        folder,
        new,
        f"{mib * 11 // 10 + free}M",
    ]
    try:
        with steps.step(f"make a disk image of {folder.name} ({mib} MiB)"):
            run_command(steps, argv, what="make a disk image", timeout=600, hint="is the disk full?")
        new.rename(image)
    finally:
        new.unlink(missing_ok=True)


def debian_root(
    steps: Steps, suite: str, architecture: str, packages: Sequence[str], *, offline: bool, configured: bool = False
) -> Root:
    """The system with these packages. suite, architecture: Debian's words, as bookworm and i386.

    Raises SysenterError if a package is not there, or if dpkg cannot configure one.
    """
    if configured and os.geteuid() != 0:
        raise SysenterError("a Debian system is configured in a chroot, which takes root", hint="run this as root")
    how = "configured" if configured else "unpacked"
    parts = [_LAYOUT, suite, architecture, how, *sorted(packages)]
    folder = cache_folder() / "roots" / f"{suite}-{architecture}-{how}-{digest(parts)}"
    record = folder.with_name(f"{folder.name}.json")
    versions = _recorded(record, folder)
    if versions is None:
        # Before the lock: another run would not wait as long as a slow download and what comes behind it may take.
        apt = Apt(steps, suite, architecture, offline=offline)
        fetched = apt.fetch(apt.closure([*_ALWAYS, *packages]))
        with lock("roots"):
            versions = _recorded(record, folder)  # another run may have made it meanwhile
            if versions is None:
                for stale in folder.parent.glob(f"{folder.name}-*.ext4"):
                    stale.unlink()
                made = "install" if configured else "unpack"
                what = f"{made} {len(fetched)} packages of Debian {suite} {architecture}"
                with steps.step(what), fill(folder) as new:
                    new.chmod(0o755)
                    _unpack(steps, fetched, architecture, new)
                    if configured:
                        _configure(steps, fetched, new)
                    else:
                        _settle(new)
                versions = {p.name: p.version for p in fetched}
                write_whole(record, json.dumps(versions))
    return Root(folder, suite, architecture, versions, configured)


def _recorded(record: Path, folder: Path) -> dict[str, str] | None:
    """Package -> version, of a system's record; None if it or the system is absent, or the record damaged."""
    if not folder.exists():
        return None
    try:
        versions = json.loads(record.read_text())
    except (OSError, ValueError):
        return None
    return versions if isinstance(versions, dict) else None


def _unpack(steps: Steps, packages: Sequence[Package], architecture: str, root: Path) -> None:
    for name in ARCHITECTURES[architecture].merged:
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(f"usr/{name}")
    for package in packages:
        unpack(steps, package, root)
    for name in ("dev", "proc", "sys", "tmp", "run", "root", "etc"):
        (root / name).mkdir(exist_ok=True)
    (root / "tmp").chmod(0o1777)
    (root / "etc/hostname").write_text("guest\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost guest\n::1 localhost ip6-localhost\n")


def _settle(root: Path) -> None:
    """Files that a package's script would make in a configured system, if programs need them."""
    for name, source in (
        ("passwd", "base-passwd/passwd.master"),
        ("group", "base-passwd/group.master"),
        ("nsswitch.conf", "libc-bin/nsswitch.conf"),
    ):
        if not (root / "etc" / name).exists() and (root / "usr/share" / source).exists():
            shutil.copy(root / "usr/share" / source, root / "etc" / name)


# In the chroot. base-passwd first: other packages' files have owners by name.
# policy-rc.d: no service is to start. The packages are unpacked once more, by dpkg, so that it knows them.
_INSTALL = """
set -e
printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
mkdir -p /var/lib/dpkg/info /var/lib/dpkg/updates
touch /var/lib/dpkg/status /var/lib/dpkg/available
for first in base-passwd base-files dpkg libc6 perl-base; do
	dpkg --force-depends --force-confold --install /packages/${first}_*.deb
done
dpkg --force-depends --force-confold --unpack /packages/*.deb
dpkg --force-confold --configure --pending
rm -f /usr/sbin/policy-rc.d
[ -z "$(dpkg --audit)" ]
"""


def _configure(steps: Steps, packages: Sequence[Package], root: Path) -> None:
    (root / "packages").mkdir()
    for package in packages:
        shutil.copy(package.path, root / "packages" / package.path.name)
    run_in_root(steps, root, _INSTALL, what="install packages in a chroot", timeout=1200)
    shutil.rmtree(root / "packages")


def run_in_root(
    steps: Steps, root: Path, script: str, *, what: str, timeout: float, changes: Path | None = None
) -> str:
    """Run a shell script natively in a chroot, with /dev, /proc and /sys; returns what it printed.

    As root only. In namespaces of its own: what it mounts and starts ends with it. changes: a folder
    to which all that the script writes goes, and in which the next one finds it; `root` stays as it
    is (overlayfs).
    """
    over = ""
    if changes:
        over = (
            'mkdir -p "$3/files" "$3/work" "$3/root" && '
            'mount -t overlay -o "lowerdir=$1,upperdir=$3/files,workdir=$3/work" root "$3/root" && '
            'set -- "$3/root" "$2" && '
        )
    inside = (
        f'{over}mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" && mount --rbind /sys "$1/sys" && '
        'exec chroot "$1" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 '
        'DEBIAN_FRONTEND=noninteractive INITRD=No /bin/sh -c "$2"'
    )
    argv = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "--pid",
        "--kill-child",
        "--fork",
        "--ipc",
        "--uts",
        "sh",
        "-c",
        inside,
        "sh",
        str(root),
        script,
        str(changes or ""),
    ]
    return run_command(steps, argv, what=what, timeout=timeout)
