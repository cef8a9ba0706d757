# SPDX-License-Identifier: GPL-2.0-or-later
"""The preload library with other C libraries than today's glibc, under emulators, and before other preload libraries.

All of it from Debian's packages. "Runs with whatever C library the program has": each of these
programs dies, or gives another answer, where the library leans on what only a new glibc has.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from guests import SOURCES, guest_for
from sysenter.build.native import compile_programs
from sysenter.kernels.provide import provide
from sysenter.kernels.root import Root, debian_root
from sysenter.lab.guest import Guest, Output
from sysenter.lab.system import system_for
from sysenter.steps import Steps, run_command
from sysenter.target.arch import AMD64, ARCHITECTURES, Architecture

InSystem = Callable[..., Output]

# What a task says of a command: "NAME: STATUS, N fast" with the fast calls in hundreds, so that what
# the shell beside it makes is not seen.
_PROLOGUE = """insmod /sysenter.ko || exit 99
export LIBRARY=/lib/sysenter/libsysenter.so
calls=/sys/module/sysenter/parameters/calls
try() { # name command...
	name=$1; shift
	before=$(cat $calls)
	"$@" >/tmp/said 2>&1
	status=$?
	echo "$name: $status, $((($(cat $calls) - before) / 100 * 100)) fast"
	[ $status = 0 ] || cat /tmp/said
}
"""
_DD = "dd if=/dev/zero of=/dev/null bs=1 count=2000"
# For what depends on the program and its C library, which hardly differ between the architectures.
_ONE = pytest.mark.parametrize(
    "guest", [pytest.param("bookworm-686", marks=pytest.mark.long), "bookworm-amd64"], indirect=True, scope="module"
)
_PACKAGES = ("musl", "musl-dev", "valgrind", "libeatmydata1", "fakeroot", "qemu-user")


@pytest.mark.parametrize("arch", ARCHITECTURES.values(), ids=str)
def test_it_needs_nothing_of_a_c_library(steps: Steps, arch: Architecture) -> None:
    """Each name that it takes from elsewhere is weak, and no library is named: so no process can fail to load it."""
    with (compile_programs(steps, arch) / "libsysenter.so").open("rb") as file:
        elf = ELFFile(file)
        symbols = elf.get_section_by_name(".dynsym")
        assert isinstance(symbols, SymbolTableSection)
        taken = {
            s.name: s["st_info"]["bind"] for s in symbols.iter_symbols() if s.name and s["st_shndx"] == "SHN_UNDEF"
        }
        assert "dl_iterate_phdr" in taken, "the look at the symbols found none"
        assert set(taken.values()) == {"STB_WEAK"}, taken
        dynamic = elf.get_section_by_name(".dynamic")
        assert isinstance(dynamic, DynamicSection)
        assert not [tag for tag in dynamic.iter_tags() if tag.entry.d_tag == "DT_NEEDED"]


# Ends a program that opens a file, or maps one on i386, by another call than today's loaders do: then runs itself.
_FILTERED = """
#define _GNU_SOURCE
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#ifdef __x86_64__
#define SECOND SYS_open
#else
#define SECOND SYS_mmap
#endif
int main(int argc, char **argv)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_open, 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SECOND, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof filter / sizeof *filter, filter };
	if (argc == 1)
		return 7;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		return 3;
	setenv("LD_PRELOAD", argv[1], 1);
	return execl(argv[0], argv[0], (char *)NULL);
}
"""


@pytest.mark.parametrize("arch", ARCHITECTURES.values(), ids=str)
def test_a_filter_that_lets_the_loader_live_lets_it_live(steps: Steps, arch: Architecture, tmp_path: Path) -> None:
    """Up to its trial it makes no call that the loader has not made: a filter that comes by exec may end who does."""
    (tmp_path / "filtered.c").write_text(_FILTERED)
    program = tmp_path / "filtered"
    argv: list[str | Path] = ["gcc", arch.compiler_option, "-Wall", "-Werror", "-o", program, tmp_path / "filtered.c"]
    run_command(steps, argv, what="compile filtered.c", timeout=60)
    library = compile_programs(steps, arch) / "libsysenter.so"
    assert subprocess.run([program, library], timeout=20, check=False).returncode == 7


def test_by_int80_the_data_of_threads_and_of_handlers_stays_apart(steps: Steps, tmp_path: Path) -> None:
    """All of it had gone through one buffer: of two threads that read their files, one got the other's data now and
    then. A program with one thread makes its calls by int $0x80 as before."""
    program = tmp_path / "preloaded"
    _compiled(steps, AMD64, program, "-pthread")
    library = compile_programs(steps, AMD64) / "libsysenter.so"
    environment = {**os.environ, "LD_PRELOAD": str(library), "SYSENTER_PATH": "int80"}
    done = subprocess.run([program, "int80"], env=environment, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode == -signal.SIGSEGV:
        pytest.skip("the kernel here has no int $0x80 (IA32_EMULATION)")
    assert (done.returncode, done.stdout) == (0, "ok\n")


@pytest.fixture(scope="module", params=["bookworm-686", "bookworm-amd64"])
def guest(request: pytest.FixtureRequest, steps: Steps) -> Guest:
    return guest_for(steps, provide(steps, request.param, offline=False))


@pytest.fixture(scope="module")
def in_system(steps: Steps, guest: Guest) -> InSystem:
    def run(root: Root, task: str, files: dict[str, bytes] | None = None, *, append: str = "") -> Output:
        system = system_for(steps, guest, root, offline=False)
        output = system.run(
            steps, _PROLOGUE + task, files or {}, what="a test", timeout=400, machine=system.machine(append=append)
        )
        assert not output.bad_lines(), output.console
        return output

    return run


@pytest.fixture(scope="module")
def bookworm(steps: Steps, guest: Guest) -> Root:
    return debian_root(steps, "bookworm", guest.target.arch.name, _PACKAGES, offline=False)


def _compiled(steps: Steps, arch: Architecture, output: Path, *options: str | Path) -> bytes:
    argv = [
        "gcc",
        arch.compiler_option,
        "-O1",
        "-fno-stack-protector",
        "-U_FORTIFY_SOURCE",
        "-o",
        output,
        SOURCES / "preloaded.c",
        *options,
    ]
    run_command(steps, argv, what="compile preloaded.c", timeout=60)
    return output.read_bytes()


def _gcc_include(steps: Steps) -> str:
    return run_command(steps, ["gcc", "-print-file-name=include"], what="ask gcc for its headers", timeout=20).strip()


@_ONE
def test_a_glibc_older_than_2_34(steps: Steps, guest: Guest, in_system: InSystem, tmp_path: Path) -> None:
    """Its dlsym, pthread_create and pthread_cancel are in libraries of their own, which most programs do not load."""
    arch = guest.target.arch
    root = debian_root(steps, "bullseye", arch.name, ["libc6-dev"], offline=False)
    assert root.packages["libc6"].startswith("2.31-")
    libraries = root.folder / ("usr/lib/x86_64-linux-gnu" if arch.bits == 64 else "usr/lib/i386-linux-gnu")
    # By name: its libc.so names the loader by the way of a link that leads out of the root.
    program = _compiled(
        steps,
        arch,
        tmp_path / "preloaded",
        "-nostdinc",
        "-isystem",
        root.folder / "usr/include",
        "-isystem",
        root.folder / "usr/include" / libraries.name,
        "-isystem",
        _gcc_include(steps),
        "-nostdlib",
        "-no-pie",
        "-fno-pie",
        *(
            libraries / name
            for name in ("crt1.o", "crti.o", "libc.so.6", "libpthread.so.0", "libdl.so.2", "libc_nonshared.a", "crtn.o")
        ),
        "-lgcc",
        "-Wl,--allow-shlib-undefined",
    )
    task = f"""
try dash debian env LD_PRELOAD=$LIBRARY dash -c 'for n in 1 2 3; do echo $n; done; kill -0 $$'
try dd debian env LD_PRELOAD=$LIBRARY {_DD}
try calls debian env LD_PRELOAD=$LIBRARY /lab/preloaded calls
try cancel debian env LD_PRELOAD=$LIBRARY /lab/preloaded cancel
try namespace debian env LD_PRELOAD=$LIBRARY /lab/preloaded namespace $LIBRARY
try all debian env SYSENTER_CALLS=all LD_PRELOAD=$LIBRARY /lab/preloaded cancel
try int80 debian env SYSENTER_PATH=int80 LD_PRELOAD=$LIBRARY /lab/preloaded int80
"""
    output = in_system(root, task, {"lab/preloaded": program})
    said = dict(line.split(": ", 1) for line in output.text)
    assert {name: line.split(",")[0] for name, line in said.items()} == dict.fromkeys(
        ("dash", "dd", "calls", "cancel", "namespace", "all", "int80"), "0"
    ), output.text
    fast = {name: int(line.split()[1]) for name, line in said.items()}
    assert fast["dd"] >= 4000, output.text
    assert fast["calls"] >= 6000, output.text
    assert fast["cancel"] >= 6000, "before there was another thread"


@_ONE
def test_programs_for_musl(steps: Steps, in_system: InSystem, guest: Guest, bookworm: Root, tmp_path: Path) -> None:
    arch = guest.target.arch
    machine = "x86_64" if arch.bits == 64 else "i386"
    musl = bookworm.folder / f"usr/lib/{machine}-linux-musl"
    include = bookworm.folder / f"usr/include/{machine}-linux-musl"
    # On the host the headers' and libc's names are those of the root; in it libc.so is the loader.
    program = _compiled(
        steps,
        arch,
        tmp_path / "preloaded",
        "-nostdinc",
        "-isystem",
        include,
        "-nostdlib",
        "-no-pie",
        "-fno-pie",
        f"-Wl,--dynamic-linker=/lib/ld-musl-{machine}.so.1",
        musl / "crt1.o",
        musl / "crti.o",
        f"-L{musl}",
        "-lc",
        musl / "crtn.o",
        "-lgcc",
    )
    task = """
try calls debian env LD_PRELOAD=$LIBRARY /lab/preloaded calls
try cancel debian env LD_PRELOAD=$LIBRARY /lab/preloaded cancel
try all debian env SYSENTER_CALLS=all LD_PRELOAD=$LIBRARY /lab/preloaded cancel
try int80 debian env SYSENTER_PATH=int80 LD_PRELOAD=$LIBRARY /lab/preloaded int80
"""
    output = in_system(bookworm, task, {"lab/preloaded": program})
    said = dict(line.split(": ", 1) for line in output.text)
    assert [line.split(",")[0] for line in said.values()] == ["0", "0", "0", "0"], output.text
    assert int(said["calls"].split()[1]) >= 6000, output.text
    assert int(said["cancel"].split()[1]) >= 6000, output.text


@_ONE
def test_a_namespace_of_its_own(
    steps: Steps, in_system: InSystem, guest: Guest, bookworm: Root, tmp_path: Path
) -> None:
    """dlmopen(): alone it has no C library at all there, and must load."""
    program = _compiled(steps, guest.target.arch, tmp_path / "preloaded", "-pthread")
    task = """
try namespace debian /lab/preloaded namespace $LIBRARY
try preloaded debian env LD_PRELOAD=$LIBRARY /lab/preloaded namespace $LIBRARY
try cancel debian env LD_PRELOAD=$LIBRARY /lab/preloaded cancel
"""
    output = in_system(bookworm, task, {"lab/preloaded": program})
    assert [line.split(",")[0] for line in output.text] == ["namespace: 0", "preloaded: 0", "cancel: 0"], output.text


@_ONE
def test_emulators_of_user_mode_go_the_stock_way(in_system: InSystem, guest: Guest, bookworm: Root) -> None:
    """They let /dev/sysenter through and know no SYSENTER, or end at one."""
    emulator = "qemu-x86_64" if guest.target.arch.bits == 64 else "qemu-i386"
    task = f"""
try native debian env LD_PRELOAD=$LIBRARY {_DD}
try valgrind debian env LD_PRELOAD=$LIBRARY valgrind -q {_DD}
grep -v 'records\\|copied\\|bytes' /tmp/said
try emulator debian {emulator} -E LD_PRELOAD=$LIBRARY -E SYSENTER_CALLS=all /bin/{_DD}
try stock debian env SYSENTER_PATH=stock LD_PRELOAD=$LIBRARY {_DD}
"""
    output = in_system(bookworm, task)
    assert output.text == ("native: 0, 4000 fast", "valgrind: 0, 0 fast", "emulator: 0, 0 fast", "stock: 0, 0 fast"), (
        output.text
    )


@_ONE
def test_a_preload_library_behind_it_keeps_its_functions(in_system: InSystem, guest: Guest, bookworm: Root) -> None:
    """libeatmydata makes fsync() succeed where the kernel would refuse it; fakeroot's getuid() says 0."""
    task = f"""
try refused debian env LD_PRELOAD=$LIBRARY dd if=/dev/zero of=/dev/null count=1 conv=fsync status=none
try eaten debian env LD_PRELOAD="$LIBRARY libeatmydata.so" dd if=/dev/zero of=/dev/null count=1 conv=fsync status=none
try others debian env LD_PRELOAD="$LIBRARY libeatmydata.so" {_DD}
user='debian setpriv --reuid 1000 --regid 1000 --clear-groups'
$user env LD_PRELOAD=$LIBRARY id -u
$user fakeroot-sysv env sh -c 'LD_PRELOAD="/lib/sysenter/libsysenter.so $LD_PRELOAD" id -u'
"""
    output = in_system(bookworm, task)
    assert "fsync failed" in "\n".join(output.text), output.text
    assert [line for line in output.text if "fsync" not in line] == [
        "refused: 1, 0 fast",
        "eaten: 0, 0 fast",
        "others: 0, 4000 fast",
        "1000",
        "0",
    ], output.text


def test_a_processor_whose_sysenter_traps_leaves_the_program_alive(
    in_system: InSystem, guest: Guest, bookworm: Root
) -> None:
    """As where a virtual processor says it is Intel's on a host by AMD: here its MSR is taken away from below."""
    if guest.target.arch.bits == 32:
        pytest.skip("i386's C library calls by SYSENTER itself: without it no program lives there")
    task = f"""
insmod /lib/sysenter/msr.ko
try before debian env LD_PRELOAD=$LIBRARY {_DD}
head -c 8 /dev/zero | dd of=/dev/cpu/0/msr bs=8 seek=372 oflag=seek_bytes 2>/dev/null || echo "no MSR"
try without debian env LD_PRELOAD=$LIBRARY {_DD}
"""
    output = in_system(bookworm, task, append="msr.allow_writes=on")
    assert output.text == ("before: 0, 4000 fast", "without: 0, 0 fast"), output.text
