# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's own strace and gdb, and ordinary programs and pipelines, with every call on the fast path."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from shell import WAIT_FOR
from sysenter.build.native import compiler
from sysenter.kernels.debian import Apt, unpack
from sysenter.lab.guest import Output
from sysenter.steps import Steps, run_command
from sysenter.target.target import Target

RunTask = Callable[..., Output]

_PACKAGES = (
    "strace",
    "libunwind8",
    "gdb-minimal",
    "libexpat1",
    "libgcc-s1",
    "libgmp10",
    "libipt2",
    "liblzma5",
    "libreadline8",
    "libstdc++6",
    "libtinfo6",
    "libxxhash0",
    "libzstd1",
    "zlib1g",
    "libselinux1",
    "libpcre2-8-0",
    "bash",
    "libacl1",
    "libattr1",
)
_TRACERS = (
    "linux-perf",
    "libbabeltrace1",
    "libcap2",
    "libcrypt1",
    "libdw1",
    "libelf1",
    "libglib2.0-0",
    "libnuma1",
    "libopencsd1",
    "libperl5.36",
    "libpython3.11",
    "libslang2",
    "libunwind8",
    "libuuid1",
    "libpcre2-8-0",
    "bpftrace",
    "libbpf1",
    "libbpfcc",
    "libclang-cpp14",
    "libclang1-14",
    "libllvm14",
    "libicu72",
    "libxml2",
    "libz3-4",
    "libedit2",
    "libbsd0",
    "libmd0",
    "libffi8",
    "libbz2-1.0",
    "libstdc++6",
    "libgcc-s1",
    "liblzma5",
    "libtinfo6",
    "libzstd1",
    "zlib1g",
    "libexpat1",
)
_DEBUGINFOD = (
    "begin",
    "end",
    "find_debuginfo",
    "find_source",
    "find_executable",
    "find_section",
    "set_progressfn",
    "set_user_data",
    "get_user_data",
    "get_url",
    "set_verbose_fd",
    "add_http_header",
)
# The kernels that a debugger and strace are run on; all with bookworm's packages.
_MACHINES = pytest.mark.parametrize(
    ("target", "cpu"),
    [
        ("bookworm-686", None),
        pytest.param("bookworm-686", "athlon,-sep,+syscall", marks=pytest.mark.long),  # entry by SYSCALL
        pytest.param("bookworm-amd64", None, marks=pytest.mark.long),
        ("trixie-backports-amd64", None),
    ],
    indirect=["target"],
    scope="session",
)
# Two calls that `callers` makes on the fast path: its first getppid, and one after its threads have ended.
_CAUGHT = {"i386": (64, 267), "amd64": (110, 8)}
_FAST = "SYSENTER_CALLS=all LD_PRELOAD=/lib/sysenter/libsysenter.so"


def _unpacked(steps: Steps, target: Target, packages: Sequence[str], root: Path) -> None:
    """Bookworm's packages without what is not run."""
    for package in Apt(steps, "bookworm", target.arch.name, offline=False).fetch(packages):
        unpack(steps, package, root, lambda name: name.split("/")[-1] != "" and "share" not in name.split("/"))


def _archive(target: Target, root: Path) -> dict[str, bytes]:
    """Programs and libraries below root, and those of the guest's userland, as one archive that a task unpacks."""
    assert target.userland is not None
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for folder in (root, target.userland):
            for path in sorted(folder.rglob("*")):
                name = str(path.relative_to(folder))
                wanted = (".so" in path.name and "gconv" not in name) or "bin" in name.split("/")
                if wanted and not path.is_dir() and path.name != "busybox":
                    archive.add(path, arcname=f"tools/{name}", recursive=False)
    return {"tools.tar.gz": gzip.compress(buffer.getvalue(), 1)}


@pytest.fixture(scope="session")
def tools(steps: Steps, target: Target, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """strace, gdb, bash and coreutils with their libraries."""
    root = tmp_path_factory.mktemp("tools")
    _unpacked(steps, target, _PACKAGES, root)
    # gdb wants this one for fetching debugging data, and it wants half a network stack.
    source = root / "debuginfod.c"
    source.write_text("".join(f"void *debuginfod_{name}(void) {{ return 0; }}\n" for name in _DEBUGINFOD))
    argv = [compiler(), f"-m{target.arch.bits}", "-shared", "-fPIC", "-Wl,-soname,libdebuginfod.so.1", "-o"]
    run_command(steps, [*argv, root / "lib/libdebuginfod.so.1", source], what="build a stand-in", timeout=60)
    return _archive(target, root)


@pytest.fixture(scope="session")
def tracers(steps: Steps, target: Target, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """perf and bpftrace, with their libraries: 100 MB of LLVM."""
    root = tmp_path_factory.mktemp("tracers")
    _unpacked(steps, target, _TRACERS, root)
    return _archive(target, root)


_UNPACK = f"""{WAIT_FOR}
cd / && tar -xzf /tools.tar.gz && rm /tools.tar.gz
export LD_LIBRARY_PATH=$(find /tools -name 'lib*.so*' | sed 's,/[^/]*$,,' | sort -u | tr '\\n' ':')
export PATH=/tools/usr/bin:/tools/bin:$PATH LC_ALL=C
"""


@_MACHINES
def test_strace_sees_every_call(in_guest: RunTask, tools: dict[str, bytes], cpu: str | None) -> None:
    """The same list of calls from a program on the fast path, traced from the start or attached to."""
    output = in_guest(
        _UNPACK
        + f"""
cat >/tmp/names.sh <<'END'
sed -n 's/^\\([a-z0-9_]*\\)(.*= \\(-*[0-9]*\\).*/\\1 \\2/p' $1 | grep -E '^(read|write|close|dup2|exit_group|fsync) '
END
strace -o /tmp/stock /gnu/bin/dd if=/dev/zero of=/dev/null bs=1 count=50 2>/dev/null
strace -E SYSENTER_CALLS=all -E LD_PRELOAD=/lib/sysenter/libsysenter.so -o /tmp/fast \\
	/gnu/bin/dd if=/dev/zero of=/dev/null bs=1 count=50 2>/dev/null
for path in stock fast; do echo "$path $(sh /tmp/names.sh /tmp/$path | grep -c -E '^(read|write) 1$')"; done
echo "library $(grep -c '/dev/sysenter' /tmp/fast)"
before=$(cat /sys/module/sysenter/parameters/calls)
# for some seconds longer than strace takes to begin
{_FAST} /gnu/bin/dd if=/dev/zero of=/dev/null bs=1 count=1000000 2>/dev/null & pid=$!
wait_for '[ $(cat /sys/module/sysenter/parameters/calls) -gt $((before + 100)) ]' && echo "fast before it"
strace -o /tmp/attached -p $pid 2>/dev/null & strace=$!
wait_for '[ $(grep -c "^read(0, " /tmp/attached) -gt 200 ]'
kill -INT $strace; wait $strace
wait $pid; echo "dd $?"
echo "attached $(grep -c '^read(0, "\\\\0", 1) *= 1$' /tmp/attached)"
strace -f -c -o /tmp/summary env {_FAST} /tools/bin/bash -c '(echo a; echo b) | {{ read x; read y; echo "$x$y"; }}'
grep -c -E ' (read|write|pipe|pipe2|clone|wait4|waitpid)$' /tmp/summary | sed 's/^/kinds /'
# A call that a tracer answers: -1 is nobody's parent. The other threads end within their calls, and then strace 6.1
# may say "Failed to tamper": it takes another thread's last stop for theirs, on the kernel's own entry too.
strace -f -o /tmp/injected -e inject=getppid:error=ENOENT:when=2+ env {_FAST} /lib/sysenter/callers \\
	2>/dev/null | head -n 1
""",
        files=tools,
        timeout=150,
        cpu=cpu,
    )
    text = output.text
    assert "stock 101" in text or "stock 100" in text, "\n".join(text)
    assert (
        next(line for line in text if line.startswith("stock")).split()[1:]
        == next(line for line in text if line.startswith("fast")).split()[1:]
    ), text
    assert "library 1" in text, text
    assert "dd 0" in text, text
    assert "fast before it" in text, text
    assert int(next(line for line in text if line.startswith("attached")).split()[1]) > 100, text
    assert "ab" in text, text
    assert int(next(line for line in text if line.startswith("kinds")).split()[1]) >= 4, text
    assert "getppid() == parent" in text[-1], text


@pytest.mark.long
@pytest.mark.parametrize(
    ("target", "cpu"),
    [
        ("bookworm-686", None),
        ("bookworm-686", "athlon,-sep,+syscall"),
        ("bookworm-amd64", None),
        ("trixie-backports-amd64", None),
    ],
    indirect=["target"],
    scope="session",
)
def test_gdb_debugs_a_fast_program(in_guest: RunTask, tools: dict[str, bytes], target: Target, cpu: str | None) -> None:
    """Breakpoints, catchpoints, a backtrace out of a sleeping call, stepping over a call."""
    first, second = _CAUGHT[target.arch.name]
    output = in_guest(
        _UNPACK
        + f"""
cat >/tmp/commands <<'END'
set pagination off
set confirm off
set startup-with-shell off
set environment SYSENTER_CALLS all
set environment LD_PRELOAD /lib/sysenter/libsysenter.so
catch syscall {first}
run
echo caught\\n
bt 3
delete
catch syscall {second}
continue
x/i $pc
stepi
stepi
stepi
print $pc
delete
continue
END
gdb -q -batch -x /tmp/commands /lib/sysenter/callers 2>&1
# attached to while asleep in a fast call, which loses nothing
mkfifo /tmp/fifo; sleep 100 >/tmp/fifo & held=$!
{_FAST} $(which cat) /tmp/fifo >/tmp/copy & pid=$!
wait_for 'grep -q pipe_read /proc/$pid/wchan'
gdb -q -batch -p $pid -ex 'bt' -ex 'print $eax' -ex 'detach' 2>&1 | grep -E '^#|^.1'
echo passed >/tmp/fifo; kill $held; wait $pid; echo "cat $? $(cat /tmp/copy)"
""",
        files=tools,
        timeout=150,
        cpu=cpu,
    )
    text = "\n".join(output.text)
    assert "caught" in text, text
    assert f"call to syscall {first}" in text, text
    assert f"call to syscall {second}" in text, text
    assert "exited normally" in text, text
    assert " read ()" in "\n".join(output.text[-8:]) or " in read (" in text, text
    assert output.text[-1] == "cat 0 passed", text


@pytest.mark.parametrize("cpus", [4, pytest.param(1, marks=pytest.mark.long)])
def test_ordinary_programs(in_guest: RunTask, tools: dict[str, bytes], cpus: int) -> None:
    """coreutils, a shell with pipelines, jobs and here-documents: the same output on both paths."""
    output = in_guest(
        _UNPACK
        + f"""
cat >/tmp/work.sh <<'END'
cd /tmp && rm -rf w && mkdir w && cd w
seq 1 20000 | sort -rn | head -n 5 | tac | paste -sd,
for i in 1 2 3 4 5 6 7 8; do (seq $i 9 5000 | sha256sum) & done | sort; wait
cp -r /tools/etc . 2>/dev/null; ls -lR /tools/bin | awk '{{ print $1, $5, $9 }}' | md5sum
dd if=/dev/zero bs=64k count=64 2>/dev/null | tee >(wc -c >count) | cat | md5sum
for tenth in $(seq 300); do [ -s count ] && break; sleep 0.1; done; cat count
ln -s a b; readlink b; touch a; stat -c %s a; mv a c; ls; find . -type f | wc -l
mkfifo f; (sleep 0.1; echo through the fifo >f) & cat f; wait
timeout 0.2 sleep 5; echo "timeout $?"
trap 'echo got USR1' USR1; kill -USR1 $$; nice -n 5 true; nohup true 2>/dev/null; env -i true
cat <<HERE | rev
here document
HERE
(exit 7); echo $?; chroot / /tools/bin/true 2>/dev/null; echo $((1 + 1)); stdbuf -o0 true; sync . ; df . >/dev/null
END
bash /tmp/work.sh >/tmp/stock 2>&1
before=$(cat /sys/module/sysenter/parameters/calls)
{_FAST} bash /tmp/work.sh >/tmp/fast 2>&1
echo "calls $(($(cat /sys/module/sysenter/parameters/calls) - before)) lines $(wc -l </tmp/fast)"
diff /tmp/stock /tmp/fast && echo same
""",
        files=tools,
        timeout=120,
        cpus=cpus,
    )
    assert "same" in output.text, output.text
    numbers = next(line for line in output.text if line.startswith("calls")).split()
    assert int(numbers[1]) > 3000, output.text
    assert int(numbers[3]) > 20, output.text


_TRACING = """
mount -t tracefs tracefs /sys/kernel/tracing
mount -t debugfs debugfs /sys/kernel/debug
DD="/gnu/bin/dd if=/dev/zero of=/dev/null bs=1 status=none"
calls() { cat /sys/module/sysenter/parameters/calls; }
both="-e raw_syscalls:sys_enter -e raw_syscalls:sys_exit"
mkfifo /tmp/fifo
for path in stock fast; do
	on="/bin/env SYSENTER_PATH=$path LD_PRELOAD=/lib/sysenter/libsysenter.so"
	perf trace -s -o /tmp/summary $on $DD count=300 2>/dev/null
	echo "$path trace $(awk '$1 == "read" || $1 == "write" { print $1, $2 }' /tmp/summary | sort | tr '\\n' ' ')"
	bpftrace -e '
		tracepoint:raw_syscalls:sys_enter /comm == "dd" && args->id < 2/ { @enter[args->id] = count(); }
		tracepoint:raw_syscalls:sys_exit /comm == "dd" && args->id < 2/ { @exit[args->id, args->ret] = count(); }
		kfunc:__x64_sys_write /comm == "dd"/ { @fentry = count(); }
		kretfunc:__x64_sys_write /comm == "dd" && retval == 1/ { @fexit = count(); }
		' -c "$on $DD count=300" 2>/dev/null | grep '^@' | sort | tr '\n' ' ' | sed "s/^/$path bpftrace /"; echo
	# on while it sleeps in a read, whose end is seen
	sleep 100 >/tmp/fifo & held=$!
	$on $(which cat) /tmp/fifo >/tmp/copy & pid=$!
	wait_for 'grep -q pipe_read /proc/$pid/wchan'
	perf stat -x, $both -o /tmp/stat -p $pid & stat=$!
	wait_for '[ $(ls -l /proc/$stat/fd | grep -c perf_event) -ge 2 ] && asleep $stat'
	echo x >/tmp/fifo; kill $held; wait $pid $stat
	echo "$path asleep $(awk -F, '/raw_sys/ { printf "%s %s ", $1, $3 }' /tmp/stat) $(cat /tmp/copy)"
done
# while it runs: on, and off again
$on ${DD% status=none} count=2000000 2>/tmp/said & pid=$!
before=$(calls); wait_for '[ $(calls) -gt $((before + 100)) ]'
perf trace -o /tmp/attached -p $pid 2>/dev/null & trace=$!
wait_for '[ $(grep -c " read(" /tmp/attached) -gt 200 ]'
kill -INT $trace; wait $trace
before=$(calls); wait_for '[ $(calls) -gt $((before + 100)) ]' && echo "fast after it"
wait $pid; echo "dd $?"; grep out /tmp/said
echo "attached $(grep -c ' read(.* = 1$' /tmp/attached)"
"""


@pytest.mark.long
@pytest.mark.parametrize("target", ["bookworm-amd64", "trixie-backports-amd64"], indirect=True, scope="session")
def test_perf_and_bpftrace_see_every_call(in_guest: RunTask, tracers: dict[str, bytes]) -> None:
    """The same counts on both paths: on from the start, on while asleep inside, on and off while running."""
    output = in_guest(_UNPACK + _TRACING, files=tracers, timeout=400, memory=1500)
    text = "\n".join(output.text)
    said = {line.split()[1]: line.split(" ", 2)[2] for line in output.text if line.startswith("stock ")}
    assert set(said) == {"trace", "bpftrace", "asleep"}, text
    for what, counts in said.items():
        assert f"fast {what} {counts}" in output.text, text
    assert "@enter[0]: 30" in said["bpftrace"], text
    assert "@exit[1, 1]: 300" in said["bpftrace"], text
    assert "@fexit: 300" in said["bpftrace"], text
    assert "read 30" in said["trace"], text
    assert said["asleep"].endswith(" x"), text
    assert "fast after it" in output.text, text
    assert "dd 0" in output.text, text
    assert "2000000+0 records out" in output.text, text
    assert int(next(line for line in output.text if line.startswith("attached")).split()[1]) > 100, text
