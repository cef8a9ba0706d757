# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest with a kernel of today: an initramfs with Debian's programs and a shell script for a task."""

from __future__ import annotations

import base64
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from sysenter.build.boot import boot_image
from sysenter.build.cpio import archive, tree
from sysenter.build.native import NATIVE, PROGRAMS, Program, compile_programs, sources_digest
from sysenter.build.present import build_present_module
from sysenter.cache import cache_folder, digest, fill, lock
from sysenter.errors import SysenterError
from sysenter.kernels.drivers import linked
from sysenter.lab.guest import Guest, Output, record_of
from sysenter.lab.loading import check_loaded
from sysenter.lab.prompt import EXEC_TASK, SHELL_TASK, command_line
from sysenter.lab.qemu import (
    GuestLost,
    Machine,
    Result,
    check_processor,
    kernel_command_line,
    run_interactive,
    run_machine,
)
from sysenter.steps import Steps
from sysenter.target.target import Target

__all__ = ["TROUBLE", "PresentGuest", "base_image", "present_guest_for"]

# What makes a boot fast and its log readable. `acpi=off` would break poweroff. loglevel=5
# after `quiet`: a WARN() and its trace are of level 4, which `quiet` alone keeps off the console.
_APPEND = (
    "console=ttyS0 quiet loglevel=5 panic=-1 rdinit=/init nokaslr "
    "cryptomgr.notests noisapnp tsc=reliable no_timer_check edd=off "
    "initcall_blacklist=load_system_certificate_list"
)
_COMMAND_LINE_SIZE = 2048  # arch/x86/include/asm/setup.h
# Lines in a kernel log that no load, run or unload of ours may cause.
TROUBLE = (
    "BUG:",
    "WARNING:",
    "Oops",
    "general protection",
    "Call Trace",
    "unable to handle",
    "INFO: rcu",
    "soft lockup",
)


@dataclass(frozen=True)
class PresentGuest(Guest):
    """A kernel of today: its task is a script of busybox's shell, /sysenter.ko is at hand."""

    base: Path
    """The initramfs without a task."""
    kernel: Path
    """The kernel in the form that QEMU starts fastest."""

    def machine(
        self,
        *,
        icount: bool = False,
        cpus: int | None = None,
        cpu: str | None = None,
        append: str = "",
        extra: Sequence[str] = (),
        memory: int | None = None,
    ) -> Machine:
        target = self.target
        model = cpu or target.cpu
        return Machine(
            qemu=target.arch.qemu_for(model),
            cpu=model,
            kernel=self.kernel,
            append=self.command_line(append),
            accelerator="tcg" if icount else self.accelerator,
            icount=icount,
            memory=memory or 256,
            cpus=cpus or target.cpus,
            extra=(*target.qemu_args, *extra),
        )

    def command_line(self, append: str = "") -> str:
        """The kernel's, with more behind it."""
        return kernel_command_line(_APPEND, self.target.append, append, limit=_COMMAND_LINE_SIZE)

    def run(
        self,
        steps: Steps,
        task: str,
        files: Mapping[str, bytes] | None = None,
        *,
        what: str,
        timeout: float,
        machine: Machine | None = None,
        on_record: Callable[[dict[str, Any]], bool | None] | None = None,
        stop: threading.Event | None = None,
    ) -> Output:
        def on_line(line: str) -> bool:
            record = record_of(line)
            return bool(record is not None and on_record and on_record(record))

        initrd = self._initrd({"task": task.encode(), **(files or {})})
        result = self._start(steps, machine or self.machine(), initrd, what, timeout, on_line, stop)
        return Output.of_result(result, TROUBLE)

    def _start(
        self,
        steps: Steps,
        machine: Machine,
        initrd: bytes,
        what: str,
        timeout: float,
        on_line: Callable[[str], bool | None],
        stop: threading.Event | None,
    ) -> Result:
        """As run_machine."""
        return run_machine(steps, machine, initrd, what=what, timeout=timeout, on_line=on_line, stop=stop)

    def execute(
        self,
        steps: Steps,
        command: Sequence[str],
        out: BinaryIO,
        err: BinaryIO,
        *,
        timeout: float,
        options: Sequence[str] = (),
    ) -> int:
        """Load the module with its options and run a command; returns its status.

        out, err: what it writes goes there byte by byte, as it comes. Raises SysenterError if the module
        is refused, GuestLost as run() does, and also if QEMU's own fault ends the guest once something came:
        it would come twice.
        """
        streams = {"out": out, "err": err}
        written = False

        def on_record(record: dict[str, Any]) -> bool:
            nonlocal written
            if "loaded" in record and written:
                raise GuestLost("exec: the guest was lost in the midst of the command's output", hint="run it again")
            for key in streams.keys() & record.keys():
                written = True
                streams[key].write(base64.b64decode(record[key]))
                streams[key].flush()
                return True
            return False

        task = {"command": command_line(command).encode(errors="surrogateescape")}
        set_options = f"options='{' '.join(options)}'\n"
        output = self.run(steps, set_options + EXEC_TASK, task, what="exec", timeout=timeout, on_record=on_record)
        check_loaded(output)
        status: list[int] = output.of("status")
        if not status:
            raise GuestLost(
                f"exec: the command's status is lost (the guest's task ended with {output.status})",
                hint="has the guest room for another program? --append changes nothing of that",
                detail="\n".join(output.text[-3:]),
            )
        return status[0]

    def shell(self, steps: Steps, options: Sequence[str] = ()) -> int:
        """Boot it with its console on this terminal; returns QEMU's status. options: the module's, for its greeting."""
        task = f"options='{' '.join(options)}'\n{SHELL_TASK}"
        return run_interactive(steps, self.machine(), self._initrd({"task": task.encode(), "interactive": b""}))

    def _initrd(self, files: Mapping[str, bytes]) -> bytes:
        """The image with the module and more files added."""
        return self.base.read_bytes() + archive({"sysenter.ko": self.module.module.read_bytes(), **files})


def base_image(steps: Steps, target: Target, more: Sequence[Program]) -> Path:
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


def present_guest_for(steps: Steps, target: Target, accelerator: str, programs: Sequence[Program] = ()) -> PresentGuest:
    """Make everything that booting `target` takes, its module among it.

    accelerator: "tcg" or "kvm". programs: beside the product's own. Raises SysenterError if QEMU
    lacks its processor's model.
    """
    check_processor(target.arch.qemu_for(target.cpu), target.cpu)
    return PresentGuest(
        target,
        build_present_module(steps, target),
        accelerator,
        base_image(steps, target, programs),
        boot_image(steps, target),
    )
