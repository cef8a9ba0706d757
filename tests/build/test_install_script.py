# SPDX-License-Identifier: GPL-2.0-or-later
"""`sh sysenter.c` on an old machine that lacks something: one line says what, nothing stays.

The machine is made up: uname, id, insmod, rmmod and the compiler are stubs that are
found first, /proc is a folder. What they build and load is tested in tests/lab.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sysenter.build.export import single_file

_RELEASE = "2.4.22"
_MAP = {
    "system_call": "c0107000",
    "ret_from_sys_call": "c0107038",
    "sys_call_table": "c0300000",
    "sock_register": "c0200000",
    "printk": "c0110000",
    "schedule": "c0111000",
}
_STUBS = {
    "uname": f"echo {_RELEASE}",
    "id": 'echo "${WHO:-0}"',
    # the last word of -o is made, and can be run: gain is one of them
    "cc": 'case "$*" in *"${FAILS:-nothing}"*) exit 1 ;; *-E*) cat "$HEADERS/answer"; exit ;; esac\n'
    'while [ $# -gt 0 ]; do [ "$1" = -o ] && { printf "#!/bin/sh\\nexit ${GAIN:-0}\\n" >"$2"; chmod +x "$2"; }; '
    "shift; done",
    "ld": 'while [ $# -gt 0 ]; do [ "$1" = -o ] && : >"$2"; shift; done',
    "dmesg": 'cat "$PROC/log"',
    # fails with a line in the kernel's log, or with none ("silently")
    "insmod": 'case $INSMOD_FAILS in "") ;; silently) exit 1 ;; *) echo "<3>sysenter: $INSMOD_FAILS" >>"$PROC/log"; '
    'exit 1 ;; esac\necho "sysenter 4096 0" >>"$PROC/modules"\n'
    'echo "way tss" >"$PROC/sysenter"',
    "rmmod": '[ "$RMMOD_FAILS" ] && exit 1\n: >"$PROC/modules"',
}


@dataclass
class Machine:
    """A folder that stands for an old machine."""

    root: Path
    shell: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    """The script's."""

    def run(self, *arguments: str, umask: int = 0o022, **changes: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.shell, self.root / "sysenter.c", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            env=self.environment | changes,
            umask=umask,
        )

    def run_from_standard_input(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.shell,
            input=(self.root / "sysenter.c").read_text(),
            capture_output=True,
            text=True,
            timeout=60,
            env=self.environment,
            cwd=self.root,
        )

    def installed(self) -> set[str]:
        """Files of ours, those in the folder for temporary ones too."""
        return {p.name for name in ("modules", "local", "tmp") for p in (self.root / name).rglob("*") if p.is_file()}

    def folders(self) -> set[Path]:
        """What stands where it installs, empty or not."""
        return {p for name in ("modules", "local", "tmp") for p in (self.root / name).rglob("*")}

    def loaded(self) -> bool:
        return "sysenter" in (self.root / "proc/modules").read_text()

    def ksyms(self, name: Callable[[str], str] = str) -> None:
        exported = ("sock_register", "printk", "schedule")
        (self.root / "proc/ksyms").write_text("".join(f"{_MAP[n]} {name(n)}\n" for n in exported))


@pytest.fixture(params=["dash", "bash", "busybox ash"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    shell = str(request.param).split()
    if not shutil.which(shell[0]):  # the guests' own will not do: it takes its applets before the commands in PATH
        pytest.skip(f"{shell[0]} is not installed")
    (tmp_path / "sysenter.c").write_text(single_file())
    for name in ("bin", "proc", "tmp", "headers/include/linux", "headers/include/asm"):
        (tmp_path / name).mkdir(parents=True)
    for name, text in _STUBS.items():
        path = tmp_path / "bin" / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    (tmp_path / "proc/cpuinfo").write_text("flags\t\t: fpu tsc msr sep cmov\n")
    (tmp_path / "proc/modules").write_text("")
    (tmp_path / "headers/answer").write_text("")
    (tmp_path / "headers/include/linux/version.h").write_text(f'#define UTS_RELEASE "{_RELEASE}"\n')
    (tmp_path / "headers/include/linux/autoconf.h").write_text("")
    (tmp_path / "headers/include/asm/unistd.h").write_text("")
    (tmp_path / "System.map").write_text("".join(f"{address} T {name}\n" for name, address in _MAP.items()))
    made = Machine(
        tmp_path,
        shell,
        {
            "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
            "PROC": f"{tmp_path}/proc",
            "TMPDIR": f"{tmp_path}/tmp",
            "HEADERS": f"{tmp_path}/headers",
            "SYSTEM_MAP": f"{tmp_path}/System.map",
            "PREFIX": f"{tmp_path}/local",
            "MODULES": f"{tmp_path}/modules",
            "CC": f"{tmp_path}/bin/cc",
            "LD": f"{tmp_path}/bin/ld",
        },
    )
    made.ksyms()
    return made


def _refused(machine: Machine, done: subprocess.CompletedProcess[str], why: str) -> None:
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("sysenter: ")]
    assert why in line
    assert machine.installed() == set()
    assert machine.folders() == set()
    assert not machine.loaded()


def test_it_installs_and_remove_undoes_it(machine: Machine) -> None:
    done = machine.run()
    assert done.returncode == 0, done.stderr
    assert machine.installed() == {"sysenter.o", "libsysenter.so"}
    assert machine.loaded()
    assert machine.run().returncode == 0  # over an older one
    assert machine.run("remove").returncode == 0
    assert machine.installed() == set()
    assert not machine.loaded()


def test_everybody_can_preload_what_a_careful_root_installs(machine: Machine) -> None:
    assert machine.run(umask=0o077).returncode == 0
    library = machine.root / "local/lib/libsysenter.so"
    assert library.stat().st_mode & 0o004
    assert library.parent.stat().st_mode & 0o001


def test_it_needs_its_own_text(machine: Machine) -> None:
    _refused(machine, machine.run_from_standard_input(), "sh sysenter.c")


def test_what_is_missing_is_named(machine: Machine) -> None:
    _refused(machine, machine.run(WHO="500"), "takes root")
    _refused(machine, machine.run(HEADERS="/nonexistent"), "no configured headers of 2.4.22 in /nonexistent")
    _refused(machine, machine.run(SYSTEM_MAP="/nonexistent"), "set SYSTEM_MAP")
    _refused(machine, machine.run(CC="/nonexistent/gcc"), "/nonexistent/gcc does not run")
    _refused(machine, machine.run(LD="/nonexistent/ld"), "/nonexistent/ld does not run")
    _refused(machine, machine.run(TMPDIR="/nonexistent"), "set TMPDIR")
    spaced = f"{machine.root}/two words"
    for done in (
        machine.run(HEADERS=spaced),
        machine.run(SYSTEM_MAP=spaced),
        machine.run(TMPDIR=spaced),
        machine.run(PREFIX=spaced),
    ):
        _refused(machine, done, "a folder with a space in its name")
    _refused(machine, machine.run(PREFIX=f"{machine.root}/a:b"), "has a colon")
    (machine.root / "proc/cpuinfo").write_text("flags\t\t: fpu tsc msr cmov\n")
    _refused(machine, machine.run(), "no SYSENTER")
    (machine.root / "proc/cpuinfo").unlink()
    done = machine.run()
    _refused(machine, done, "cpuinfo is not there: is /proc mounted?")
    assert "grep" not in done.stderr
    (machine.root / "proc/ksyms").unlink()
    _refused(machine, machine.run(), "ksyms is not there")


def test_help_tells_what_it_is(machine: Machine) -> None:
    for word in ("help", "-h", "--help"):
        done = machine.run(word)
        assert done.returncode == 0
        lines = done.stdout.splitlines()
        assert lines[0].startswith("sysenter.c: a faster way into the kernel for Linux 2.2 and 2.4")
        for part in ("What it is.", "Requirements.", "SMP.", "Limits.", "Warranty.", "Q.", "A.", "The idea"):
            assert any(line.startswith(part) for line in lines), part
        assert "The script half" not in done.stdout


def test_remove_without_proc_does_not_take_the_module_for_unloaded(machine: Machine) -> None:
    assert machine.run().returncode == 0
    (machine.root / "proc/modules").rename(machine.root / "proc/elsewhere")
    done = machine.run("remove")
    assert done.returncode != 0
    assert "is /proc mounted?" in done.stderr
    assert machine.installed() == {"sysenter.o", "libsysenter.so"}


def test_remove_leaves_another_kernels_module_alone(machine: Machine) -> None:
    assert machine.run().returncode == 0
    (machine.root / "bin/uname").write_text("#!/bin/sh\necho 6.1.0-50-686\n")
    done = machine.run("remove")
    assert done.returncode != 0
    assert "this is Linux 6.1.0-50-686: the file is for 2.2 and 2.4" in done.stderr
    assert machine.installed() == {"sysenter.o", "libsysenter.so"}
    assert machine.loaded()


def test_a_dd_that_makes_no_fast_call_is_told_and_is_no_failure(machine: Machine) -> None:
    done = machine.run(GAIN="3")
    assert done.returncode == 0
    assert "this dd does not use it" in done.stderr
    assert machine.loaded()


def test_a_map_of_another_kernel_is_refused(machine: Machine) -> None:
    path = machine.root / "System.map"
    path.write_text(path.read_text().replace("c0110000", "c0110010"))
    _refused(machine, machine.run(), "set SYSTEM_MAP")


def test_a_map_is_held_against_versioned_names_too(machine: Machine) -> None:
    for suffix in ("_R1b7d4074", "_Rsmp_1b7d4074", "_R2gig_1b7d4074"):
        machine.ksyms(lambda name, suffix=suffix: name + suffix)  # type: ignore[misc]
        assert machine.run().returncode == 0
        assert machine.run("remove").returncode == 0
    for name in ("modules", "local"):
        shutil.rmtree(machine.root / name)  # remove takes no folders away
    path = machine.root / "System.map"
    path.write_text(path.read_text().replace("c0110000", "c0110010"))
    _refused(machine, machine.run(), "set SYSTEM_MAP")
    machine.ksyms(lambda name: "another_" + name)
    _refused(machine, machine.run(), "set SYSTEM_MAP")


def test_what_fails_on_the_way_leaves_nothing(machine: Machine) -> None:
    _refused(machine, machine.run(FAILS="offsets.c"), "offsets.c does not compile")
    _refused(machine, machine.run(FAILS="gain.c"), "gain.c does not compile")
    _refused(machine, machine.run(FAILS="entry.S"), "the module does not compile")
    _refused(machine, machine.run(GAIN="1"), "dd did not run over it")
    _refused(machine, machine.run(GAIN="126"), "set TMPDIR")  # a folder mounted noexec
    _refused(machine, machine.run(INSMOD_FAILS="silently"), "its log (dmesg) says why")
    (machine.root / "file").write_text("")
    _refused(machine, machine.run(PREFIX=str(machine.root / "file")), "cannot make")


def test_without_room_for_the_new_the_old_one_stays_whole(machine: Machine) -> None:
    assert machine.run().returncode == 0
    (machine.root / "file").write_text("")
    assert machine.run(PREFIX=str(machine.root / "file")).returncode != 0
    assert machine.installed() == {"sysenter.o", "libsysenter.so"}
    assert machine.loaded()


def test_the_modules_own_reason_is_in_the_line(machine: Machine) -> None:
    for _ in range(2):  # the same again is in the log twice
        done = machine.run(INSMOD_FAILS="way=cruel: 2.4 has one, tss")
        _refused(machine, done, "did not take the module: way=cruel: 2.4 has one, tss")
    # an older reason is not this one's
    _refused(machine, machine.run(INSMOD_FAILS="silently"), "its log (dmesg) says why")


def test_a_module_in_use_stays_whole(machine: Machine) -> None:
    assert machine.run().returncode == 0
    for arguments in ((), ("remove",)):
        done = machine.run(*arguments, RMMOD_FAILS="1")
        assert done.returncode != 0
        assert "in use" in done.stderr
        assert machine.installed() == {"sysenter.o", "libsysenter.so"}


def test_headers_of_a_tree_that_was_never_configured_are_named(machine: Machine) -> None:
    (machine.root / "headers/include/asm/unistd.h").unlink()
    _refused(machine, machine.run(), "asm/unistd.h is missing")


def test_a_compiler_that_always_fails_answers_no_question(machine: Machine) -> None:
    # else it would say that the kernel is configured without SMP
    path = machine.root / "System.map"
    path.write_text(path.read_text() + "c0400000 D smp_num_cpus\n")
    _refused(machine, machine.run(FAILS="try.c"), "does not even compile <linux/config.h>")


def test_a_vendors_configuration_is_asked_of_the_preprocessor(machine: Machine) -> None:
    # autoconf.h has no CONFIG_SMP of its own; the stub's answer is what the preprocessor makes of it
    (machine.root / "headers/answer").write_text("sysenter is_configured\n")
    _refused(machine, machine.run(), "is configured for SMP")
