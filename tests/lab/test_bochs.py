# SPDX-License-Identifier: GPL-2.0-or-later
"""A second opinion: Bochs, which shares no code with QEMU, finds what QEMU finds, and what QEMU cannot.

Bochs has PCID, CET with IBT, and holds #DB back after MOV SS. Only the guest of bookworm-686 is quick.
"""

from __future__ import annotations

import contextlib
import fnmatch
import io
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from cases import assert_each_did_its_part, cases_in
from conftest import ROOT, RunCli, one_line_error
from guests import PROGRAMS
from sysenter.build.disk import SMALLEST_MEMORY, disk_image, disk_kernel
from sysenter.build.native import compiler
from sysenter.errors import SysenterError
from sysenter.kernels.provide import provide
from sysenter.lab.bochs_guest import bochs_guest_for
from sysenter.lab.guest import Output
from sysenter.lab.present_guest import TROUBLE, present_guest_for
from sysenter.lab.qemu import GuestLost
from sysenter.replay.snapshot import take
from sysenter.steps import Steps, run_command
from sysenter.target.arch import ARCHITECTURES
from sysenter.verify.selftests import selftests
from sysenter.verify.suites import SUITES

_ENDBR64, _NOP4 = b"\xf3\x0f\x1e\xfa", b"\x0f\x1f\x40\x00"
_SECONDS = 100  # of QEMU's; Bochs has SLOWNESS_OF_BOCHS times as many
# hazards_watch last: it turns auditing on, and from then on the kernel wants each call for itself
_CALLERS = ("hazards_calls", "hazards_signals", "hazards_system", "hazards_arch", "hazards_watch")
_PATCHED = ("hazards_patched",)


@dataclass(frozen=True)
class _Machine:
    """Where the hostile callers run."""

    kernel: str
    cpu: str
    append: str
    shows: tuple[str, ...] = ()
    """What the kernel's log and the processor's flags must have, or the machine is not the one that was meant."""


_PTI = "page tables isolation: enabled"
_PCID = " pcid "  # the kernel uses it where it isolates page tables
_IBT = "Indirect Branch Tracking enabled"
_MACHINES = {
    "686": _Machine("bookworm-686", "p3_katmai", ""),
    "686-pae-pti": _Machine("bookworm-686-pae", "p3_katmai", "pti=on", (_PTI,)),
    "6.1-pti-pcid": _Machine("bookworm-amd64", "corei7_haswell_4770", "pti=on", (_PTI, _PCID)),
    "6.12-ibt": _Machine("trixie-amd64", "tigerlake", "", (_IBT,)),
    "6.12-ibt-pti-pcid": _Machine("trixie-amd64", "tigerlake", "pti=on", (_PTI, _PCID, _IBT)),
    "7.3-ibt": _Machine("trixie-backports-amd64", "tigerlake", "", (_IBT,)),
}


@dataclass(frozen=True)
class _Fault:
    """A fault of Bochs's that is known: one warning, the first in its case."""

    case: str
    warns: str
    """Who warns, at the end of the warning's line."""
    at: str
    """What was interrupted: a line of the warning's trace."""


# SYSCALL with TF traps at the first instruction behind it, though FMASK has cleared TF (SDM Vol. 2B, SYSCALL). It is
# the kernel's own entry; the handler has another name in each version.
_KERNEL_ENTRY = "RIP: 0010:entry_SYSCALL_64+0x0/"
_FAULTS = (
    _Fault("single_step", " exc_debug+0x", _KERNEL_ENTRY),  # 6.1
    _Fault("single_step", " exc_debug_kernel+0x", _KERNEL_ENTRY),  # 6.12
    _Fault("uprobe_on_entering", " exc_debug_kernel+0x", _KERNEL_ENTRY),  # the probe steps through the instruction
)

# Each case's beginning is marked in the kernel's log, so that what stands behind it there is known to be its own.
_BEGINS = "sysenter: the case is "


def _by_case(console: str) -> dict[str, list[str]]:
    """Case -> the lines that the kernel's log has of it; "": those before the first."""
    found: dict[str, list[str]] = {"": []}
    case = ""
    for line in console.splitlines():
        if _BEGINS in line:
            case = line.split(_BEGINS)[1].strip()
        found.setdefault(case, []).append(line)
    return found


def _trouble(output: Output) -> dict[str, list[str]]:
    """What of the log is no fault of Bochs's that is known, by the case that it came in."""
    bad = output.bad_lines()
    found = {}
    for case, lines in _by_case(output.console).items():
        trouble = [line for line in lines if line in bad]
        if trouble and not (len(trouble) == 2 and any(_is(fault, case, trouble[0], lines) for fault in _FAULTS)):
            found[case] = trouble
    return found


def _is(fault: _Fault, case: str, warning: str, lines: list[str]) -> bool:
    return case == fault.case and fault.warns in warning and any(fault.at in line for line in lines)


def _lines(programs: Sequence[str], arch: str) -> list[str]:
    """Each case of these programs, alone."""
    return [
        f"echo '<4>{_BEGINS}{case}' >/dev/kmsg; /lib/sysenter/{program} {'-root ' * root}{case}"
        for program in programs
        for case, root in cases_in(program, arch)
    ]


_GO = ("rmmod sysenter && echo went", "insmod /sysenter.ko && rmmod sysenter && echo again")


def _run(steps: Steps, name: str, load: str, programs: Sequence[str], go: Sequence[str] = _GO) -> Output:
    """Run the cases on one machine, which must be what was meant, and its log clean. go: how the module goes."""
    machine = _MACHINES[name]
    guest = bochs_guest_for(steps, provide(steps, machine.kernel, offline=False), cpu=machine.cpu, programs=PROGRAMS)
    lines = [
        "mount -t tracefs tracefs /sys/kernel/tracing",
        load,
        *_lines(programs, guest.target.arch.name),
        *go,
        "dmesg; grep -m 1 ^flags /proc/cpuinfo",
    ]
    output = guest.run(
        steps, "\n".join(lines), what="hostile callers", timeout=_SECONDS, machine=guest.machine(append=machine.append)
    )
    assert not _trouble(output), _trouble(output)
    assert all(words in "\n".join(output.text) for words in machine.shows), "not the machine that was meant"
    assert not go or {"went", "again"} <= set(output.text), output.text
    return output


def _hostile_callers(steps: Steps, name: str, programs: Sequence[str] = _CALLERS) -> dict[str, str]:
    """Case -> what both entries said, on one machine."""
    output = _run(steps, name, "insmod /sysenter.ko || exit 99", programs)
    differ = [r for r in output.records if not r["same"]]
    assert not differ, "\n".join(f"{r['case']}:\n  fast  {r['fast']}\n  stock {r['stock']}" for r in differ)
    said = {r["case"]: r["stock"] for r in output.records}
    assert_each_did_its_part(said, programs, provide(steps, _MACHINES[name].kernel, offline=False).arch.name)
    return said


def test_a_fault_is_allowed_in_its_own_case_alone() -> None:
    fault = _FAULTS[0]
    warning = (
        f"[ 1.0] WARNING: CPU: 0 at arch/x86/kernel/traps.c:1120{fault.warns}ca/0x160\n"
        f"[ 1.0] Call Trace:\n[ 1.0] {fault.at}0x20\n"
    )

    def trouble(console: str) -> dict[str, list[str]]:
        return _trouble(Output((), (), console, 0, 1.0, TROUBLE))

    begins = f"[ 1.0] {_BEGINS}{fault.case}\n"
    assert not trouble(begins + warning)
    assert trouble(warning + begins)
    assert trouble(f"{begins}[ 1.0] {_BEGINS}another\n{warning}")
    assert trouble(begins + warning + warning)
    assert trouble(begins + warning.replace(fault.warns, " exc_page_fault+0x"))
    assert trouble(begins + warning.replace(fault.at, "RIP: 0010:sysenter_entry+0x0/"))


# A boot sector without an interrupt table: xor ax, ax; mov ds, ax; lidt [0x7c0a]; int3; 0, 0, 0
_ENDS = bytes.fromhex("31c0 8ed8 0f011e0a7c cc") + bytes(6)


def test_a_folder_with_a_long_name_is_no_matter(steps: Steps, tmp_path: Path) -> None:
    """Bochs has a buffer for the names of its files, and ended in silence. From 64 characters on many a name did that;
    of longer ones not all."""
    guest = bochs_guest_for(steps, provide(steps, "bookworm-686", offline=False))
    (tmp_path / "memory").write_bytes((guest.kernel / "memory").read_bytes())
    (tmp_path / "sector").write_bytes(_ENDS)
    with tempfile.TemporaryDirectory(prefix="x" * 50, dir="/tmp") as name:
        root = Path(name) / "root"
        root.symlink_to(guest.bochs.root)
        assert len(str(root)) == 68
        guest = replace(guest, bochs=replace(guest.bochs, root=root), kernel=tmp_path)
        # it came to its boot sector, and ended there
        with pytest.raises(GuestLost, match=r"3rd \(13\) exception with no resolution"):
            guest.run(steps, "", what="a boot sector", timeout=20)


def test_hostile_callers_find_no_difference(steps: Steps) -> None:
    said = _hostile_callers(steps, "686")
    # The first stop is of the write to what is watched. The #DB of MOV SS is held over SYSENTER and comes in the
    # kernel, which drops it; QEMU, which does not hold it, stops a second time, in user mode.
    assert said["watch_mov_ss"].count("stop 5") == 1


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in _MACHINES if name != "686"])
def test_hostile_callers_find_no_difference_on(steps: Steps, name: str) -> None:
    said = _hostile_callers(steps, name)
    # amd64 has no such case
    assert said.get("watch_mov_ss", "stop 5").count("stop 5") == 1


@pytest.mark.long
@pytest.mark.parametrize("name", ["686", "6.12-ibt"])
def test_where_the_kernel_patches_its_text(steps: Steps, name: str) -> None:
    """Probes, tracers, tracepoints: Bochs runs no instruction that is no longer in memory."""
    _hostile_callers(steps, name, _PATCHED)


@pytest.mark.long
def test_unmodified_programs_get_what_stock_gives(steps: Steps) -> None:
    """With scope=all, where branches are tracked: each case once without the module, once with it."""
    programs = ("hazards_calls", "hazards_signals", "hazards_arch", "hazards_watch")  # in this order: see _CALLERS
    path = "export SYSENTER_PATH=stock"
    nothing = "/bin/busybox true"  # a process in insmod's place: a case may tell process IDs
    count = "echo served $(cat /sys/module/sysenter/parameters/calls_all)"
    without = _run(steps, "6.12-ibt", f"{path}; {nothing}", programs, ())
    loaded = _run(steps, "6.12-ibt", f"{path}; insmod /sysenter.ko scope=all || exit 99", programs, (count, *_GO))
    stock, every = ({r["case"]: r["stock"] for r in output.records} for output in (without, loaded))
    differ = [case for case in stock if stock[case] != every.get(case)]
    assert not differ, "\n".join(f"{case}:\n  stock {stock[case]}\n  all   {every.get(case)}" for case in differ)
    assert_each_did_its_part(stock, programs, "amd64")
    assert int(next(line.split()[1] for line in loaded.text if line.startswith("served "))) > 1000


def _without_endbr(module: bytes) -> bytes:
    """The module with a no-operation for each ENDBR64 of its entries."""
    elf = ELFFile(io.BytesIO(module))
    symbols = elf.get_section_by_name(".symtab")
    assert isinstance(symbols, SymbolTableSection)
    changed = bytearray(module)
    names = ("sysenter_entry", "sysenter_entry_mitigated", "sysenter_entry_pti")
    entries = [symbol for symbol in symbols.iter_symbols() if symbol.name in names]
    assert len(entries) == len(names)
    for symbol in entries:
        at = elf.get_section(symbol["st_shndx"])["sh_offset"] + symbol["st_value"]
        assert changed[at : at + 4] == _ENDBR64, symbol.name
        changed[at : at + 4] = _NOP4
    return bytes(changed)


@pytest.mark.long
@pytest.mark.parametrize("append", ["", "pti=on"], ids=["", "pti"])
def test_a_module_without_its_endbrs_dies_where_branches_are_tracked(steps: Steps, append: str) -> None:
    """SYSENTER begins at an ENDBR where the kernel has IBT (SDM Vol. 1, 17.3.2): QEMU does not know."""
    guest = bochs_guest_for(steps, provide(steps, "trixie-amd64", offline=False), cpu="tigerlake")
    machine = guest.machine(append=append)
    task = "insmod /sysenter.ko || exit 99\n/lib/sysenter/calls; rmmod sysenter && echo went"
    module = guest.module.module.read_bytes()
    assert "went" in guest.run(steps, task, what="with ENDBR", timeout=_SECONDS, machine=machine).text
    files = {"sysenter.ko": _without_endbr(module)}
    with pytest.raises(GuestLost) as lost:
        guest.run(steps, task, files, what="without ENDBR", timeout=_SECONDS, machine=machine)
    # The #CP comes on the stack of SYSENTER with the program's GS base, for which the kernel has no handler.
    assert "<ENTRY_TRAMPOLINE>" in lost.value.detail, lost.value.detail
    # and it is the tracking that ends it
    machine = guest.machine(append=f"{append} ibt=off")
    assert "went" in guest.run(steps, task, files, what="untracked", timeout=_SECONDS, machine=machine).text


_COUNT = "insmod /sysenter.ko || exit 99\n/lib/sysenter/calls; rmmod sysenter"
_CALLS = ("getppid", "read", "write")
# How many string instructions of each call are repeated once or more. On i386 a byte of /dev/zero is written by them.
_MORE = {
    "bookworm-686": {"getppid": 0, "read": 1, "write": 0},
    "bookworm-amd64": {"getppid": 0, "read": 0, "write": 0},
}
_REPEATED = re.compile(rb"[\xf2\xf3]\x48?[\xa4-\xa7\xaa-\xaf]")


@pytest.mark.long
@pytest.mark.parametrize(
    ("kernel", "qemu", "bochs"),
    [("bookworm-686", "pentium3", "p3_katmai"), ("bookworm-amd64", "Haswell", "corei7_haswell_4770")],
)
def test_counts_agree_to_the_instruction(steps: Steps, kernel: str, qemu: str, bochs: str) -> None:
    """QEMU counts n + 1 for a string instruction that is repeated n times, Bochs n; nothing else differs."""
    target = replace(provide(steps, kernel, offline=False), cpu=qemu, append="mitigations=off")
    guest = present_guest_for(steps, target, "tcg")
    outputs = (
        guest.run(steps, _COUNT, what="QEMU counts", timeout=_SECONDS, machine=guest.machine(icount=True)),
        bochs_guest_for(steps, target, cpu=bochs).run(steps, _COUNT, what="Bochs counts", timeout=_SECONDS),
    )
    by_qemu, by_bochs = ({(r["call"], r["path"]): r["tsc"] - r["empty"] for r in o.records} for o in outputs)
    traces = take(steps, guest, calls=_CALLS).traces
    for call in _CALLS:
        for path in ("stock", "fast"):
            trace = traces[call, path]
            repeated = sum(_REPEATED.match(trace.code[step]) is not None for step in trace.steps)
            more = by_qemu[call, path] - by_bochs[call, path]
            assert more == _MORE[kernel][call], (call, path, by_qemu, by_bochs)
            assert more <= repeated, (call, path, repeated)  # one that is repeated 0 times counts 1 in both
    # the program's own 32-bit entry copies pt_regs to the task's stack and back (entry_32.S)
    if kernel == "bookworm-686":
        assert by_qemu["getppid", "int80"] - by_bochs["getppid", "int80"] == 2
    assert by_qemu["getppid", "stock"] > 300


@pytest.mark.long
def test_what_qemu_does_wrong_is_right(steps: Steps, tmp_path: Path) -> None:
    """The column of Bochs in the table of QEMU's faults (docs/evidence.md, tests/hazards/test_not_ours.py)."""
    target = provide(steps, "bookworm-amd64", offline=False)
    files = {}
    for name in ("cmpxchg8b", "segment_base"):
        source = ROOT / f"tests/native/not_ours/{name}.c"
        argv: list[str | Path] = [compiler(), "-m64", "-O1", "-static", "-o", tmp_path / name, source]
        run_command(steps, argv, what=f"compile {name}", timeout=60)
        files[name] = (tmp_path / name).read_bytes()
    task = "/cmpxchg8b 0xc3db3200; /segment_base 0x1000; grep -m 1 ^flags /proc/cpuinfo"
    output = bochs_guest_for(steps, target, cpu="tigerlake").run(
        steps, task, files, what="QEMU's faults", timeout=_SECONDS
    )
    (flags,) = output.of("flags")
    assert not flags >> 22, hex(flags)  # SDM Vol. 1, 3.4.3
    assert output.text[:2] == ("loaded", "ended")
    assert {"pcid", "ibt", "arch_capabilities"} <= set(output.text[2].split())
    assert not output.bad_lines()


@pytest.mark.long
@pytest.mark.parametrize("scope", ["marked", "all"])
def test_shadow_stacks_are_kept(steps: Steps, scope: str) -> None:
    """The kernel's own test of them, which QEMU's processors have not, with others of its entry code."""
    programs = ("test_shadow_stack", "sysret_rip", "syscall_nt", "fsgsbase")
    guest = bochs_guest_for(steps, provide(steps, "trixie-amd64", offline=False), cpu="tigerlake")
    results, log = selftests(steps, guest, replace(SUITES["x86"], programs=programs), offline=False, scope=scope)
    outcomes = {result.name: result.outcomes for result in results}
    assert set(outcomes) == set(programs)
    # HAZARD: Bochs' XSAVES takes a program's CET state for unused while it is in use (docs/evidence.md). Whoever was
    # switched away from has no shadow stack any more: behind its fork, this program's WRSS is no instruction. The
    # three tests before the fork went well.
    assert outcomes["test_shadow_stack"]["before"] == f"{128 + signal.SIGILL} 3/0", outcomes
    for name in programs[1:]:
        assert outcomes[name]["before"].startswith("0 "), outcomes
    assert not [(result.name, result.outcomes) for result in results if result.differs]
    assert not log


def test_the_table_of_hazards_says_what_runs_here() -> None:
    """The last column of docs/hazards.md: "yes" where all cases of a row are run in Bochs, else a dash."""
    run = {case for program in _CALLERS + _PATCHED for arch in ARCHITECTURES for case, _ in cases_in(program, arch)}
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (ROOT / "docs/hazards.md").read_text().splitlines()
        if line.startswith("|")
    ]
    said = {row[-3]: row[-1] for row in rows if row[-1] in ("yes", "—")}
    assert len(said) > 80
    for names, word in said.items():
        cases = re.findall(r"`([^`]+)`", names.split("selftest")[0])
        runs = [bool(fnmatch.filter(run, name)) for name in cases]
        assert word == ("yes" if runs and all(runs) else "—"), names


def test_what_bochs_cannot_is_refused_by_name(cli: RunCli, steps: Steps) -> None:
    said = one_line_error(cli("exec", "--emulator", "bochs", "--cpu", "haswell", "true"))
    assert "Bochs knows no processor 'haswell'" in said
    assert "corei7_haswell_4770" in said
    for words, given in (
        (("exec", "--emulator", "bochs", "--accelerator", "kvm", "true"), "--accelerator kvm"),
        (("exec", "--emulator", "bochs", "--accelerator", "tcg", "true"), "--accelerator tcg"),
        (("exec", "--emulator", "bochs", "--qemu", "/usr/bin", "true"), "--qemu"),
        (("run", "--emulator", "bochs", "--dry-run"), "command line"),
    ):
        assert given in one_line_error(cli(*words))
    target = provide(steps, "bookworm-686", offline=False)
    with pytest.raises(SysenterError, match="runs in QEMU only"):
        bochs_guest_for(steps, replace(target, guard=replace(target.guard, release="2.4.22")))
    guest = bochs_guest_for(steps, target)
    with pytest.raises(SysenterError, match="no shell in Bochs"):
        guest.shell(steps)
    with pytest.raises(SysenterError, match="no options of QEMU's"):
        guest.machine(extra=("-smp", "2"))
    with pytest.raises(SysenterError, match="one processor, not 2"):
        guest.machine(cpus=2)


def test_a_disk_has_room_for_what_is_on_it(steps: Steps) -> None:
    folder = disk_kernel(steps, provide(steps, "bookworm-686", offline=False))
    disk = disk_image(folder, "quiet", b"initrd" * 1000, SMALLEST_MEMORY)
    assert disk[510:512] == b"\x55\xaa"
    assert len(disk) % 512 == 0
    with pytest.raises(SysenterError, match="no room in 192 MiB"):
        disk_image(folder, "quiet", bytes(64 << 20), SMALLEST_MEMORY)


def test_bochs_ends_with_its_parent() -> None:
    """Whatever ends us: nobody could find it again."""
    argv = [sys.executable, "-m", "sysenter", "exec", "--emulator", "bochs", "--", "sleep 600"]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    bochs: list[int] = []
    with subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as ours:
        deadline = time.monotonic() + 60
        while not bochs and ours.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
            bochs = _children_named(ours.pid, b"bochs-bin")
        ours.kill()
    assert bochs, "it was not started"
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in bochs):
        assert time.monotonic() < deadline, "Bochs lives"
        time.sleep(0.1)


def _children_named(parent: int, name: bytes) -> list[int]:
    """The processes below another one with a word that ends so on their command line."""
    children = Path(f"/proc/{parent}/task/{parent}/children")
    found = []
    for pid in children.read_text().split() if children.exists() else ():
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            found += [int(pid)] if any(word.endswith(name) for word in words) else []
    return found
