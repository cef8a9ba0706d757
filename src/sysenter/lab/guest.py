# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest: a target's kernel with our userland, and a task to run in it."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sysenter.build.boot import boot_image
from sysenter.build.cpio import archive, tree
from sysenter.build.native import NATIVE, PROGRAMS, Program, compile_programs, sources_digest
from sysenter.cache import cache_folder, digest, fill, lock
from sysenter.errors import SysenterError
from sysenter.kernels.drivers import linked
from sysenter.lab.qemu import Machine, Result, binary_for, qemu_argv, run_interactive, run_machine
from sysenter.steps import Steps
from sysenter.target.target import Target

__all__ = ["Guest", "Output", "bad_lines", "guest_for"]

# What makes a boot fast and its log readable. `acpi=off` would break poweroff. loglevel=5
# after `quiet`: a WARN() and its trace are of level 4, which `quiet` alone keeps off the console.
_APPEND = (
    "console=ttyS0 quiet loglevel=5 panic=-1 rdinit=/init nokaslr "
    "cryptomgr.notests noisapnp tsc=reliable no_timer_check edd=off "
    "initcall_blacklist=load_system_certificate_list"
)
# Lines in a kernel log that no load, run or unload of ours may cause.
_BAD = ("BUG:", "WARNING:", "Oops", "general protection", "Call Trace", "unable to handle", "INFO: rcu", "soft lockup")


@dataclass(frozen=True)
class Output:
    """What a guest's task said: its lines that are JSON objects, the others, its log."""

    records: tuple[dict[str, Any], ...]
    text: tuple[str, ...]
    console: str
    status: int
    seconds: float

    def of(self, key: str) -> list[Any]:
        """The values of `key` in the records that have it, in order."""
        return [record[key] for record in self.records if key in record]


def bad_lines(console: str) -> list[str]:
    """The lines of a kernel log that say something went wrong in the kernel."""
    return [line for line in console.splitlines() if any(word in line for word in _BAD)]


@dataclass(frozen=True)
class Guest:
    """A target ready to boot.

    base: its image without a task. accelerator: "tcg" or "kvm".
    """

    target: Target
    base: Path
    accelerator: str
    kernel: Path

    def machine(
        self, *, icount: bool = False, cpus: int | None = None, cpu: str | None = None,
        append: str = "", extra: Sequence[str] = (), memory: int = 256,
    ) -> Machine:  # fmt: skip
        """The machine for it; keyword arguments change it from the target's own."""
        target = self.target
        model = cpu or target.cpu
        return Machine(
            arch=target.arch, cpu=model, kernel=self.kernel,
            append=" ".join(filter(None, (_APPEND, target.append, append))),
            accelerator="tcg" if icount else self.accelerator, icount=icount, memory=memory,
            cpus=cpus or target.cpus, extra=(*target.qemu_args, *extra),
            binary=binary_for(model),
        )  # fmt: skip

    def initrd(self, task: str, files: Mapping[str, bytes], *, interactive: bool = False) -> bytes:
        """The image with a task (a shell script) and files added."""
        more = {"task": task.encode(), **files}
        if interactive:
            more["interactive"] = b""
        return self.base.read_bytes() + archive(more)

    def run(
        self, steps: Steps, task: str, files: Mapping[str, bytes], *, what: str, timeout: float,
        machine: Machine | None = None, on_record: Callable[[dict[str, Any]], None] | None = None,
        stop: threading.Event | None = None,
    ) -> Output:  # fmt: skip
        """Boot it, run the task, and return what it said.

        timeout: seconds for boot and task together. on_record: called with each JSON
        object as it comes. stop: ends it early when set. Raises GuestLost as
        run_machine does.
        """

        def on_line(line: str) -> None:
            record = _record(line)
            if record is not None and on_record:
                on_record(record)

        result = run_machine(
            steps, machine or self.machine(), self.initrd(task, files), what=what, timeout=timeout, on_line=on_line,
            stop=stop,
        )  # fmt: skip
        return _output(result)

    def shell(self, steps: Steps, task: str, files: Mapping[str, bytes], machine: Machine | None = None) -> int:
        """Boot it with its console on this terminal; returns QEMU's status."""
        return run_interactive(steps, machine or self.machine(), self.initrd(task, files, interactive=True))

    def command_line(self, machine: Machine) -> list[str]:
        """QEMU's command line, for showing."""
        return qemu_argv(machine, Path("INITRD"), "file:CONSOLE", "stdio")


def _record(line: str) -> dict[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _output(result: Result) -> Output:
    records, text, status = [], [], 0
    for line in result.lines:
        record = _record(line)
        if record is None:
            text.append(line)
        elif "exit" in record:
            status = int(record["exit"])
        else:
            records.append(record)
    return Output(tuple(records), tuple(text), result.console, status, result.seconds)


def _base_image(steps: Steps, target: Target, more: Sequence[Program]) -> Path:
    """The initramfs without a task: userland, our programs, the kernel's msr driver."""
    if target.userland is None:
        raise SysenterError(f"{target.name}: no userland for a guest of this kernel")
    programs = compile_programs(steps, target.arch, (*PROGRAMS, *more))
    init = (NATIVE / "guest/init").read_bytes()
    key = digest([str(target.userland), str(programs), sources_digest("guest"), target.release, "4"])
    folder = cache_folder() / "guests" / f"{target.name}-{key}"
    with lock("guests"):
        if not (folder / "base.cpio").exists():
            with steps.step("make the guest's image"), fill(folder) as new:
                extra = {f"lib/sysenter/{p.name}": p.read_bytes() for p in sorted(programs.iterdir())}
                extra["init"] = init
                dd = next(p for p in (target.userland / "usr/bin/dd", target.userland / "bin/dd") if p.exists())
                extra["gnu/bin/dd"] = dd.read_bytes()
                if target.modules:
                    for driver in target.modules.rglob(f"lib/modules/{target.release}/kernel/arch/x86/kernel/msr.ko*"):
                        extra["lib/sysenter/msr.ko"] = linked(driver)
                (new / "base.cpio").write_bytes(tree(_slim(target.userland, new / "root"), extra))
    return folder / "base.cpio"


def _slim(userland: Path, root: Path) -> Path:
    """The part of the userland that a guest needs: the less, the faster it boots."""
    wanted = ("bin/busybox", "lib/ld-linux.so.2", "lib64/ld-linux-x86-64.so.2")
    libraries = ("libc.so.6", "ld-linux.so.2", "ld-linux-x86-64.so.2", "libm.so.6", "libgcc_s.so.1")
    for path in userland.rglob("*"):
        # merged /usr (since trixie): /bin, /lib and /lib64 are links to what is in it
        name = str(path.relative_to(userland)).removeprefix("usr/")
        if name in wanted or (path.name in libraries and not path.is_dir()):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, root / name, follow_symlinks=False)
    return root


def guest_for(steps: Steps, target: Target, accelerator: str, more: Sequence[Program] = ()) -> Guest:
    """Make everything that booting `target` takes.

    accelerator: "tcg" or "kvm". more: programs beside the product's own.
    """
    return Guest(target, _base_image(steps, target, more), accelerator, boot_image(steps, target))
