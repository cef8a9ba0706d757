# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest with a real Debian system on a disk.

The guest boots its own small userland first. That loads the disk's drivers, mounts the image
on /debian and runs the task. The task calls `debian COMMAND...` to run a command in the
Debian system. Two folders of the guest are at the same place in that system: /lib/sysenter
(our programs, the preload library) and /lab (a test's files).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sysenter.errors import SysenterError
from sysenter.kernels.drivers import DISK, drivers
from sysenter.kernels.root import Root
from sysenter.lab.guest import Guest, Output
from sysenter.lab.qemu import Machine
from sysenter.steps import Steps

__all__ = ["System", "system_for"]

# Loads the disk's drivers and mounts it.
_NO_DISK = "sysenter: no disk"
_MOUNT = f"""
no_disk() {{ echo "{_NO_DISK}: $1" >/dev/ttyS1; exit 91; }}
for driver in /drivers/*.ko; do insmod $driver || no_disk "insmod $driver"; done
for n in 1 2 3 4 5 6 7 8 9 10; do [ -b /dev/vda ] || sleep 0.1; done
mkdir -p /debian /lab
mount -t ext4 -o noatime /dev/vda /debian || no_disk "mount"
"""

# HOME and PATH are the system's own in there, the task's other variables are passed on.
# HAZARD: busybox's chroot takes a name without a slash for one of its own programs: env looks it up.
_PROLOGUE = f"""{_MOUNT}
for folder in dev proc sys; do mount --bind /$folder /debian/$folder; done
mount -t devpts devpts /debian/dev/pts
mkdir -p /dev/shm
for folder in tmp run dev/shm; do mount -t tmpfs -o mode=1777 tmpfs /debian/$folder; done
ln -sf /proc/self/fd /dev/fd; ln -sf fd/0 /dev/stdin; ln -sf fd/1 /dev/stdout; ln -sf fd/2 /dev/stderr
for folder in lib/sysenter lab; do mkdir -p /debian/$folder; mount --bind /$folder /debian/$folder; done
debian() {{
	HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin chroot /debian /usr/bin/env "$@"
}}
"""

# Runs in the first process of the guest (native/guest/init) and gives its place to the system's own.
# What would only take time is masked: consoles that nobody reads, timers.
_FIRST = f"""{_MOUNT}
stty -F /dev/ttyS1 raw -echo 2>/dev/null
cp -r /lab /debian/; mkdir -p /debian/lib/sysenter; cp /lib/sysenter/* /debian/lib/sysenter/
[ ! -e /sysenter.ko ] || cp /sysenter.ko /debian/
cp /task /debian/lab-task
cd /debian/etc/systemd/system || no_disk "no systemd on it"
for unit in getty@tty1.service serial-getty@ttyS0.service apt-daily.timer apt-daily-upgrade.timer \\
	e2scrub_all.timer fstrim.timer dpkg-db-backup.timer systemd-timesyncd.service; do ln -sf /dev/null $unit; done
cat >lab-task.service <<'END'
[Unit]
Description=The task that this guest is for
After=multi-user.target
[Service]
Type=oneshot
Environment=HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ExecStart=/bin/sh /lab-run
END
cat >/debian/lab-run <<'END'
sh /lab-task </dev/null >/dev/ttyS1 2>&1
printf '\\n{{"exit": %d}}\\n' $? >/dev/ttyS1
sync; sleep 0.2
poweroff -f
END
mkdir -p default.target.wants
ln -sf ../lab-task.service default.target.wants/
cd /
for folder in dev proc sys; do mount --move /$folder /debian/$folder; done
exec switch_root /debian /sbin/init
"""


@dataclass(frozen=True)
class System:
    """A guest and the image of the system that is its disk; a run changes neither."""

    guest: Guest
    image: Path
    drivers: Mapping[str, bytes]
    """Name -> the kernel's drivers for the disk, in order."""

    def machine(self, *, memory: int = 1024, extra: Sequence[str] = (), **changes: Any) -> Machine:
        """The guest's machine with the disk; keyword arguments as Guest.machine takes them."""
        disk = ("-drive", f"file={str(self.image).replace(',', ',,')},if=virtio,format=raw,cache=unsafe,snapshot=on")
        return self.guest.machine(memory=memory, extra=(*disk, *extra), **changes)

    def run(
        self,
        steps: Steps,
        task: str,
        files: Mapping[str, bytes],
        *,
        what: str,
        timeout: float,
        machine: Machine | None = None,
        on_record: Callable[[dict[str, Any]], bool | None] | None = None,
        stop: threading.Event | None = None,
    ) -> Output:
        """As Guest.run; the task has `debian`, a shell function that runs a command in the system.

        Files are the guest's; those named lab/... are /lab/... in the system as well.
        """
        output = self.guest.run(
            steps,
            _PROLOGUE + task,
            {**self._driver_files(), **files},
            what=what,
            timeout=timeout,
            machine=machine or self.machine(),
            on_record=on_record,
            stop=stop,
        )
        return _with_disk(output)

    def boot(
        self,
        steps: Steps,
        task: str,
        files: Mapping[str, bytes],
        *,
        what: str,
        timeout: float,
        machine: Machine | None = None,
    ) -> Output:
        """As run, but the system itself boots (its systemd; the root must be configured) and then runs
        the task.

        Files: sysenter.ko is /sysenter.ko in the system, those named lab/... are in its /lab.
        """
        output = self.guest.run(
            steps,
            task,
            {**self._driver_files(), "first": _FIRST.encode(), **files},
            what=what,
            timeout=timeout,
            machine=machine or self.machine(),
        )
        return _with_disk(output)

    def _driver_files(self) -> dict[str, bytes]:
        return {f"drivers/{n:02}-{name}.ko": data for n, (name, data) in enumerate(self.drivers.items())}


def _with_disk(output: Output) -> Output:
    why = next((line for line in output.text if line.startswith(_NO_DISK)), "")
    if why:
        raise SysenterError(
            f"the guest cannot use its disk: {why.removeprefix(_NO_DISK + ': ')}",
            hint="give another kernel",
            detail="\n".join(output.console.splitlines()[-8:]),
        )
    return output


def system_for(steps: Steps, guest: Guest, root: Root, *, offline: bool) -> System:
    """The guest with this Debian system."""
    return System(guest, root.image(steps), drivers(steps, guest.target, DISK, offline=offline))
