# SPDX-License-Identifier: GPL-2.0-or-later
"""What a lost guest's console is taken for, and what QEMU is asked before a machine starts."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from sysenter import lab
from sysenter.errors import SysenterError
from sysenter.kernels.emulators import qemu_folder
from sysenter.kernels.provide import provide
from sysenter.lab.gdbstub import attached, gdb_options, short_name
from sysenter.lab.qemu import (
    GuestLost,
    Machine,
    based_segment,
    check_processor,
    emulators_fault,
    impossible_flags,
    kvm_stopped,
    qemu_program,
    qemu_version,
    run_machine,
    stale_breakpoint,
    vendor,
)
from sysenter.lab.reading import read_lines
from sysenter.processes import running
from sysenter.steps import Steps

# Two lines of a real oops (7.3.4 amd64, QEMU 7.2 with two CPUs, no module in), and what makes it another one.
_STALE = """\
[    4.080501] Oops: int3: 0000 [#1] SMP NOPTI
[    4.099518] RIP: 0010:sched_clock_cpu+0x9/0x1f0
[    4.115765] Code: 90 90 f3 0f 1e fa 41 54 55 53 66 <90> e8 f1 2e ed ff 48 03 05 9a 26 13 02 48
"""


@pytest.mark.parametrize(
    ("console", "stale"),
    [
        (_STALE, True),
        (_STALE.replace("66 <90>", "cc <90>"), False),  # a breakpoint that is there: somebody's
        (_STALE.replace("int3:", "general protection fault:"), False),
        ("", False),
    ],
    ids=["not in memory", "in memory", "another oops", "silent"],
)
def test_only_a_breakpoint_that_is_not_in_memory_is_the_emulators_fault(console: str, stale: bool) -> None:
    assert stale_breakpoint(console) is stale


# A real oops (7.3.4 amd64, QEMU 7.2): the kernel's ldt_gdt, which loads segments with a base, and a timer's interrupt.
_BASED = """\
[  104.155519] BUG: unable to handle page fault for address: ffff88805dac88c4
[  104.155867] #PF: supervisor write access in kernel mode
[  104.161101] RIP: 0010:_raw_spin_unlock_irqrestore+0x9/0x40
[  104.161602] Code: 90 90 f3 0f 1e fa 0f 1f 44 00 00 <3e> 3e c6 07 00 f7 c6 00 02 00 00
[  104.162347] RDX: ffff88801d821ef8 RSI: 0000000000000006 RDI: ffff88801d8218c0
[  104.163190] CS:  0010 DS: 0063 ES: 0000 CR0: 0000000080050033
"""


@pytest.mark.parametrize(
    ("console", "based"),
    [
        (_BASED, True),
        ("".join(line for line in _BASED.splitlines(True) if "Code" not in line), False),
        (_BASED.replace("<3e> 3e", "<90> 90"), False),
        (_BASED.replace("DS: 0063", "DS: 0000"), False),
        (_BASED.replace("address: ffff88805dac88c4", "address: ffff88801d8218c0"), False),  # what the program asked for
        (_BASED.replace("address: ffff88805dac88c4", "address: ffff888000000000"), False),
        ("", False),
    ],
    ids=["added", "no code", "no prefix", "null", "no base", "below", "silent"],
)
def test_only_a_base_where_there_is_none_is_the_emulators_fault(console: str, based: bool) -> None:
    assert based_segment(console) is based


def test_a_guest_that_such_a_fault_has_stopped_is_not_waited_for(tmp_path: Path) -> None:
    """The kernel waits for a lock that nobody holds, and says nothing more."""
    (tmp_path / "console").write_text(_BASED)
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as stream, open(writing, "wb"):
        start = time.monotonic()
        lines, why = read_lines(stream, os.getpid(), start, 60, tmp_path / "console", None, None, fault=emulators_fault)
    assert (lines, why) == ([], "the emulator added DS's base to an address in 64-bit mode")
    assert time.monotonic() - start < 30


# QEMU 7.2's, of a guest in which SYSENTER in 64-bit mode was to be emulated
_KVM_STOPS = """\
qemu-system-x86_64: warning: TCG doesn't support requested feature: CPUID.07H:EBX.rdseed [bit 18]
KVM internal error. Suberror: 1
emulation failure
RAX=0000000000000000 RBX=ffffc900004abd58 RCX=0000000000000000 RDX=0000000000000000
"""


def test_a_guest_that_kvm_has_stopped_is_told() -> None:
    """QEMU itself goes on, so nothing else tells."""
    assert kvm_stopped(_KVM_STOPS) == "stopped it (KVM internal error. Suberror: 1)"
    assert kvm_stopped(_KVM_STOPS.splitlines()[0]) == ""


# A stock 6.1 kernel's registers, two probes around a CMPXCHG8B; the second case below is of a storm of NMIs.
_VM86 = """\
[    2.045222] EIP: 0xd00f
[    2.045372] EAX: c3dbea80 EBX: c3dbed00 ECX: 00058860 EDX: 00058840
[    2.045530] ESI: c1e6a6f0 EDI: c34fd820 EBP: c28a1b4c ESP: ff403fe8
[    2.045676] DS: 0000 ES: 0000 FS: 0000 GS: 0000 SS: 0068 EFLAGS: 001a68c2
"""


@pytest.mark.parametrize(
    ("console", "impossible"),
    [
        (_VM86, True),
        ("EAX: c3db3200 EBX: c3db3900\n... EFLAGS: 001a3242", True),
        (_VM86.replace("001a68c2", "000068c2"), False),
        (_VM86.replace("001a68c2", "001a60c2"), False),  # flags that are not of EAX
        (_VM86.replace("EAX: c3dbea80", "EAX: c3dbca80"), False),
        ("EAX: c3db3200\n... EFLAGS: 00000246\nEAX: 00000001\n... EFLAGS: 001a3242", False),
        ("", False),
    ],
    ids=["a real one", "by an NMI", "no vm86", "other flags", "another register", "another oops", "silent"],
)
def test_only_vm86_by_the_allocators_operand_is_the_emulators_fault(console: str, impossible: bool) -> None:
    assert impossible_flags(console) is impossible


def test_a_kernel_that_says_nothing_is_not_said_to_have_said_something(steps: Steps, tmp_path: Path) -> None:
    """An image that QEMU starts and that is none: what follows the header halts."""
    image = bytearray(4096)
    image[0x1F1], image[0x1FE:0x200] = 1, b"\x55\xaa"
    image[0x200:0x208] = b"\xeb\x2eHdrS\x02\x02"
    image[0x230:0x232] = b"\xfa\xf4"  # cli, hlt
    (tmp_path / "bzImage").write_bytes(image)
    machine = Machine(
        qemu="qemu-system-i386", cpu="pentium3", kernel=tmp_path / "bzImage", append="", accelerator="tcg"
    )
    with pytest.raises(GuestLost, match=r"said nothing at all"):
        run_machine(steps, machine, b"", what="nothing", timeout=2)


def test_a_processor_that_qemu_lacks_is_named_with_what_is_near() -> None:
    for model in ("pentium3", "athlon,+syscall", "max", "qemu32,-sep"):
        check_processor("qemu-system-i386", model)
    with pytest.raises(SysenterError, match=r"knows no processor 'pentium33' \(near it: pentium3"):
        check_processor("qemu-system-i386", "pentium33,+sep")


def test_another_qemu_is_what_says_that_it_is_one(
    steps: Steps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder with QEMU for 64 bits alone, as one builds it, does for 32 bits too."""
    monkeypatch.delenv("SYSENTER_QEMU", raising=False)
    folder = tmp_path / "a folder"
    folder.mkdir()
    for wrong in ("/bin/true", str(folder), str(folder / "none")):
        with pytest.raises(SysenterError, match="is no QEMU"):
            qemu_folder(steps, wrong, offline=True)
    program = folder / "qemu-system-x86_64"
    program.symlink_to(str(shutil.which(program.name)))
    assert qemu_folder(steps, str(program), offline=True) == program
    monkeypatch.setenv("SYSENTER_QEMU", str(qemu_folder(steps, str(folder), offline=True)))
    for name in ("qemu-system-i386", "qemu-system-x86_64"):
        assert qemu_program(name) == str(program)
    assert "version" in qemu_version()
    program.unlink()
    with pytest.raises(SysenterError, match=r"there is no program .*qemu-system-x86_64"):
        run_machine(steps, Machine("qemu-system-x86_64", "max", tmp_path, ""), b"", what="nothing", timeout=20)


def test_a_comma_in_the_temporary_folder_is_not_an_option_of_qemus() -> None:
    assert gdb_options(Path("/a,b/gdb")) == ("-gdb", "unix:/a,,b/gdb,server=on,wait=off")


def test_a_temporary_folder_may_be_longer_than_a_sockets_name(tmp_path: Path) -> None:
    """The debugger's socket is in it; its own name is too long for QEMU and for us."""
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    with short_name(folder) as short:
        argv = ["qemu-system-i386", "-nodefaults", "-display", "none", "-S", *gdb_options(short / "gdb")]
        with running(argv, what="start QEMU") as process:
            while not (folder / "gdb").exists() and process.poll() is None:
                time.sleep(0.05)
            with attached(short / "gdb") as stub:
                assert stub.read(0xFFFFFFF0, 1) == b"\xea"  # the BIOS begins with a far jump


def test_a_guests_disk_grows_where_the_user_wants_temporary_files(
    steps: Steps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """QEMU has a file of its own there for what a guest writes to its disk."""
    (tmp_path / "qemu").write_text("#!/bin/sh\necho at=$TMPDIR\necho '{\"exit\": 0}'\n")
    (tmp_path / "qemu").chmod(0o755)
    machine = Machine(qemu=str(tmp_path / "qemu"), cpu="max", kernel=tmp_path / "none", append="")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    place = run_machine(steps, machine, b"", what="nothing", timeout=20).lines[0]
    assert Path(place.removeprefix("at=")).parent == tmp_path
    monkeypatch.delenv("TMPDIR")
    assert run_machine(steps, machine, b"", what="nothing", timeout=20).lines[0] == "at="


@pytest.mark.parametrize(
    ("model", "is_of"),
    [
        ("Icelake-Server", "GenuineIntel"),
        ("pentium3", "GenuineIntel"),
        ("EPYC-Milan,-avx", "AuthenticAMD"),
        ("athlon,-sep,+syscall", "AuthenticAMD"),
        ("Dhyana", "HygonGenuine"),
        ("EPYC,vendor=GenuineIntel", "GenuineIntel"),
    ],
)
def test_a_models_vendor(model: str, is_of: str) -> None:
    assert vendor(model) == is_of


@pytest.mark.parametrize(
    ("host", "accelerator", "gets"),
    [
        ("AuthenticAMD", "kvm", "EPYC"),
        ("AuthenticAMD", "tcg", ""),
        ("GenuineIntel", "kvm", ""),
    ],
)
def test_by_kvm_on_amds_processor_a_guest_has_one_of_amds(
    steps: Steps, monkeypatch: pytest.MonkeyPatch, host: str, accelerator: str, gets: str
) -> None:
    """In 64-bit mode such a host has no SYSENTER, and the module would be refused. What a user names stays."""
    monkeypatch.setattr(lab, "vendor", lambda model: host if model == "host" else vendor(model))
    target = provide(steps, "trixie-backports-amd64", offline=False)
    assert lab.choose_present(steps, target, accelerator)[0].cpu == (gets or target.cpu)
    named = replace(target, cpu="Skylake-Server")
    assert lab.choose_present(steps, named, accelerator)[0].cpu == "Skylake-Server"
