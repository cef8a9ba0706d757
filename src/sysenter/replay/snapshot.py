# SPDX-License-Identifier: GPL-2.0-or-later
"""What a replay is made of: traces of a guest's system calls, and the memory that they use.

The guest runs native/replay/sites.c. A debugger stops it before each call and steps through
it, first on the kernel as it is, then with the module loaded: `stock` is a call without the
module, `fast` a marked one with it, and `all` an unmarked one that the module makes
shorter, where it does. At the end, before a call, every page that was used is saved at
one moment. Some calls are stepped through by `int80` as well, for people to read: a
process cannot replay those.
"""

from __future__ import annotations

import json
import shlex
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from sysenter.build.native import NATIVE, compiler, compiler_version, sources_digest
from sysenter.cache import UNREADABLE, cache_folder, digest, file_sha256, fill, lock
from sysenter.errors import SysenterError
from sysenter.lab.gdbstub import Stub, gdb_options, short_name
from sysenter.lab.loading import LOAD
from sysenter.lab.present_guest import PresentGuest
from sysenter.lab.qemu import GuestLost
from sysenter.replay.trace import PAGE, Trace, Tracer
from sysenter.scratch import scratch_folder
from sysenter.steps import Steps, run_command
from sysenter.target.arch import ARCHITECTURES, Architecture

__all__ = ["CALLS", "Snapshot", "take"]

# The calls of native/replay/sites.c.
INT80 = ("getppid", "read", "write")
CALLS = ("getppid", "read", "write", "lseek", "getuid", "fcntl", "umask", "writev", "fstat", "getpgid", "pread")
PROGRAM_AT = 0x20000000  # where the guest's program is: nothing else of a replay is there
# -O1 -fomit-frame-pointer: each site once, and a register more on i386.
_OPTIONS = (
    "-O1",
    "-fomit-frame-pointer",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-static",
    "-no-pie",
    f"-Wl,-Ttext-segment={PROGRAM_AT:#x}",
)
_PROGRAM = range(PROGRAM_AT, PROGRAM_AT + 0x10000000)
_SYMBOLS = (
    "_stext",
    "_etext",
    "_end",
    "__per_cpu_start",
    "__per_cpu_end",
    "entry_SYSCALL_64",
    "entry_SYSENTER_32",
    "do_syscall_64",
    "x64_sys_call",
    "ia32_sys_call",
    "sysenter_entry",
    "syscall_enter_from_user_mode",
    "syscall_exit_to_user_mode",
    "exit_to_user_mode_prepare",
    "fpregs_assert_state_consistent",
    "prandom_u32_state",
)
# Behind load_module: where the kernel has these symbols, a record each.
_TELL = """
grep -E ' ({symbols})([[:space:]]|$)' /proc/kallsyms | sed 's/^\\([0-9a-f]*\\) . \\([^[:space:]]*\\).*/{{"symbol": "\\2", "at": "\\1"}}/'
"""  # noqa: E501
_SECONDS = 180  # for the guest's whole life, times patience()
_VERSION = "4"  # of what a snapshot holds; part of its name in the cache


@dataclass(frozen=True)
class Snapshot:
    """A guest at one moment, and its calls."""

    release: str
    """The kernel's, as `uname -r`."""
    version: str
    """The kernel's, as `uname -v`."""
    arch: str
    cpu: str
    """QEMU's processor model."""
    options: str
    """The module's parameters."""
    symbols: Mapping[str, int]
    """The kernel's: name -> address."""
    per_cpu: int
    """Base of the kernel's per-CPU segment."""
    traces: Mapping[tuple[str, str], Trace]
    """(call, path) -> its trace."""
    int80: Mapping[str, Trace]
    """Call -> its trace by int $0x80, of which neither the pages nor the instructions are below."""
    executed: frozenset[int]
    """Every instruction that was seen."""
    pages: Mapping[int, tuple[int, bytes]]
    """Virtual -> (physical, contents), of PAGE bytes; two may be one physical page."""

    @property
    def bits(self) -> int:
        """32 or 64."""
        return ARCHITECTURES[self.arch].bits

    def read(self, address: int, length: int) -> bytes:
        """Memory at a virtual address. Raises KeyError if it was not saved."""
        data = b""
        while len(data) < length:
            at = address + len(data)
            data += self.pages[at & -PAGE][1][at % PAGE :][: length - len(data)]
        return data


def _program(steps: Steps, arch: Architecture) -> Path:
    """The guest's program."""
    key = digest(
        [
            arch.name,
            compiler_version(compiler()),
            (NATIVE / "replay/sites.c").read_bytes(),
            sources_digest("user", "present"),
        ]
    )
    folder = cache_folder() / "programs" / f"sites-{arch.name}-{key}"
    with lock("programs"):
        if not folder.exists():
            with fill(folder) as new:
                run_command(
                    steps,
                    [
                        compiler(),
                        arch.compiler_option,
                        *_OPTIONS,
                        "-I",
                        NATIVE / "present",
                        "-o",
                        new / "sites",
                        NATIVE / "replay/sites.c",
                    ],
                    what="compile replay/sites.c",
                    timeout=120,
                    hint="is gcc with 32-bit support (gcc-multilib) installed? `./sysenter doctor` tells",
                )
    return folder / "sites"


def _addresses(program: Path) -> dict[str, int]:
    """The program's sites, and `go`."""
    with program.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection)
        return {s.name: s["st_value"] for s in table.iter_symbols() if s.name.startswith("site_") or s.name == "go"}


class _Booted:
    """A guest that runs in a thread; `said` grows as it speaks."""

    def __init__(self, steps: Steps, guest: PresentGuest, files: Mapping[str, bytes], task: str, machine: Any) -> None:
        self.said: list[dict[str, Any]] = []
        self._new = threading.Condition()
        self._stop = threading.Event()
        self._ended: BaseException | None = None
        self._over = False
        self._thread = threading.Thread(target=self._run, args=(steps, guest, files, task, machine))
        self._thread.start()

    def _run(self, steps: Steps, guest: PresentGuest, files: Mapping[str, bytes], task: str, machine: Any) -> None:
        try:
            output = guest.run(
                steps,
                task,
                files,
                what="the snapshot",
                timeout=_SECONDS,
                machine=machine,
                on_record=self._on_record,
                stop=self._stop,
            )
            refused = next((line.split("refused: ")[1] for line in output.text if "refused: " in line), "")
            self._ended = SysenterError(
                f"the module was not accepted: {refused}" if refused else "the guest's program ended too early",
                hint="`./sysenter shell` gives a prompt in this guest",
                detail="\n".join(output.text[-4:]),
            )
        except BaseException as error:  # Ctrl-C's and a full disk's too: wait() raises it in its own thread
            self._ended = error
        finally:
            with self._new:
                self._over = True
                self._new.notify_all()

    def _on_record(self, record: dict[str, Any]) -> None:
        with self._new:
            self.said.append(record)
            self._new.notify_all()

    def wait(self, ready: str) -> None:
        """Wait until it says that it is ready. Raises the error if it has ended."""
        with self._new:
            self._new.wait_for(lambda: self._over or {"ready": ready} in self.said)
        if {"ready": ready} not in self.said:
            raise self._ended or SysenterError("the guest ended too early", hint="try again")

    def end(self) -> None:
        """Switch it off."""
        self._stop.set()
        self._thread.join()


def _traces(
    tracer: Tracer, stub: Stub, sites: Mapping[str, int], booted: _Booted, calls: tuple[str, ...]
) -> dict[tuple[str, str], Trace]:
    traces: dict[tuple[str, str], Trace] = {}

    def undisturbed(site: str) -> Trace:
        """Trace the second of two calls in a row. Both are single-stepped, so that no interrupt comes between them."""
        for _ in range(20):
            stub.run_to(sites[site], 30)
            tracer.call()
            if tracer.step_to(sites[site]):
                return tracer.call()
        raise SysenterError(f"{site} is not called twice in a row", hint="this is a bug: report it")

    for call in calls:
        stub.run_to(sites[f"site_before_{call}"], 30)
        traces[call, "stock"] = tracer.call()
    stub.write(sites["go"], b"\1")
    stub.send("c")
    booted.wait("loaded")
    stub.interrupt()
    tracer.forget_code()
    marked = {"marked": True} in booted.said
    unmarked = "site_stock_" if marked else "site_before_"
    if _shortened(undisturbed(unmarked + calls[0]), traces[calls[0], "stock"]):
        for call in calls:
            traces[call, "all"] = undisturbed(unmarked + call)
    for call in calls if marked else ():
        traces[call, "fast"] = undisturbed(f"site_fast_{call}")
        if traces[call, "fast"].result != traces[call, "stock"].result:
            raise SysenterError(
                f"{call} on the fast path gave {traces[call, 'fast'].result:#x}, not {traces[call, 'stock'].result:#x}",
                hint="only the SYSENTER entry can be replayed: without entry=syscall",
            )
    return traces


def _shortened(loaded: Trace, stock: Trace) -> bool:
    """Whether an unmarked call with the module loaded leaves out some of the kernel's own path.

    It may be longer at its beginning: on i386 the module looks at every call.
    """
    return not set(stock.steps) <= set(loaded.steps)


def _take(steps: Steps, guest: PresentGuest, options: str, calls: tuple[str, ...]) -> Snapshot:
    program = _program(steps, guest.target.arch)
    sites = _addresses(program)
    tell = _TELL.format(symbols="|".join(_SYMBOLS))
    files = {
        "sites": program.read_bytes(),
        "load": f"{LOAD}\noptions={shlex.quote(options)}\nload_module\n{tell}".encode(),
    }
    with scratch_folder() as folder, short_name(folder) as short:
        socket = short / "gdb"
        machine = guest.machine(cpus=1, extra=gdb_options(socket))
        booted = _Booted(steps, guest, files, "exec /sites 'sh /load'\n", machine)
        try:
            booted.wait("before")
            stub = Stub(socket)
            try:
                aside = Tracer(stub, guest.target.arch.bits, _PROGRAM)
                int80 = {}
                for call in set(INT80).intersection(calls):
                    stub.run_to(sites[f"site_int80_{call}"], 30)
                    int80[call] = aside.call()
                tracer = Tracer(stub, guest.target.arch.bits, _PROGRAM)
                traces = _traces(tracer, stub, sites, booted, calls)
                last = "stock" if {"marked": True} in booted.said else "before"
                stub.run_to(sites[f"site_{last}_{calls[0]}"], 30)
                with stub.physical_memory():
                    physical = {p: stub.read(p, PAGE) for p in sorted(set(tracer.pages.values()))}
            finally:
                stub.close()
        except (TimeoutError, OSError) as error:
            raise GuestLost(f"the snapshot: {error}", hint="try again; with --debug more is shown") from error
        finally:
            booted.end()
    return Snapshot(
        release=guest.target.release,
        version=guest.target.guard.version,
        arch=guest.target.arch.name,
        cpu=machine.cpu,
        options=options,
        symbols={r["symbol"]: int(r["at"], 16) for r in booted.said if "symbol" in r},
        per_cpu=tracer.per_cpu,
        traces=traces,
        int80=int80,
        executed=frozenset(tracer.executed),
        pages={v: (p, physical[p]) for v, p in tracer.pages.items() if _wanted(v, guest.target.arch.bits)},
    )


def _wanted(page: int, bits: int) -> bool:
    """Whether a page is the kernel's or the guest program's; its stack is the runner's own in a replay."""
    return page >> (bits - 1) == 1 or page in _PROGRAM


def take(
    steps: Steps,
    guest: PresentGuest,
    *,
    options: str = "",
    calls: tuple[str, ...] = CALLS,
    accept: Callable[[Snapshot], bool] = lambda _: True,
) -> Snapshot:
    """A snapshot of the guest, or the one taken before of the same kernel, module, processor model and options.

    calls: at least these. accept: whether it is worth keeping. Raises SysenterError if the module is refused.
    """
    machine = guest.machine(cpus=1)
    program = _program(steps, guest.target.arch)
    inputs = [
        _VERSION,
        file_sha256(guest.kernel),
        file_sha256(guest.base),
        file_sha256(guest.module.module),
        file_sha256(program),
        machine.cpu,
        machine.append,
        options,
    ]

    def folder_of(calls: tuple[str, ...]) -> Path:
        return cache_folder() / "replay" / f"{guest.target.release}-{digest([*inputs, *calls])}"

    for kept in (folder_of(CALLS), folder_of(calls)):
        if (found := _kept(kept)) is not None:
            return found
    folder = folder_of(calls)
    with steps.step(f"boot {guest.target.release}, step through {len(calls)} calls on each path"):
        snapshot = _take(steps, guest, options, calls)
    if accept(snapshot):
        with lock("replay"):
            if _kept(folder) is None:  # else fill() would take away what another run reads
                with fill(folder) as new:
                    save(snapshot, new)
    return snapshot


def _saved(trace: Trace) -> dict[str, Any]:
    return {
        "steps": trace.steps,
        "code": [[a, c.hex()] for a, c in trace.code.items()],
        "arguments": trace.arguments,
        "stack": trace.stack,
        "result": trace.result,
        "back": trace.back,
        "before": [[a, c.hex()] for a, c in trace.before],
        "behind": [[a, c.hex()] for a, c in trace.behind],
    }


def _loaded(saved: Mapping[str, Any]) -> Trace:
    return Trace(
        tuple(saved["steps"]),
        {a: bytes.fromhex(c) for a, c in saved["code"]},
        tuple(saved["arguments"]),
        saved["stack"],
        saved["result"],
        saved["back"],
        tuple((a, bytes.fromhex(c)) for a, c in saved["before"]),
        tuple((a, bytes.fromhex(c)) for a, c in saved["behind"]),
    )


def save(snapshot: Snapshot, folder: Path) -> None:
    """Write a snapshot into an empty folder."""
    physical = sorted({p for p, _ in snapshot.pages.values()})
    contents = dict(snapshot.pages.values())
    (folder / "pages").write_bytes(b"".join(contents[p] for p in physical))
    about = {
        "release": snapshot.release,
        "version": snapshot.version,
        "arch": snapshot.arch,
        "cpu": snapshot.cpu,
        "options": snapshot.options,
        "symbols": dict(snapshot.symbols),
        "per_cpu": snapshot.per_cpu,
        "traces": [{"call": call, "path": path, **_saved(t)} for (call, path), t in snapshot.traces.items()],
        "int80": {call: _saved(t) for call, t in snapshot.int80.items()},
        "executed": sorted(snapshot.executed),
        "physical": physical,
        "pages": [[v, p] for v, (p, _) in snapshot.pages.items()],
    }
    (folder / "snapshot.json").write_text(json.dumps(about))


def _kept(folder: Path) -> Snapshot | None:
    """A snapshot of the cache; None if it is absent or damaged."""
    try:
        return load(folder)
    except UNREADABLE:
        return None


def load(folder: Path) -> Snapshot:
    """Read a snapshot that save() wrote. If it is damaged, raises what _kept() knows of."""
    about = json.loads((folder / "snapshot.json").read_text())
    data = (folder / "pages").read_bytes()
    if len(data) != PAGE * len(about["physical"]):
        raise ValueError("its pages are not all there")
    contents = {p: data[n * PAGE : (n + 1) * PAGE] for n, p in enumerate(about["physical"])}
    return Snapshot(
        release=about["release"],
        version=about["version"],
        arch=about["arch"],
        cpu=about["cpu"],
        options=about["options"],
        symbols=about["symbols"],
        per_cpu=about["per_cpu"],
        traces={(t["call"], t["path"]): _loaded(t) for t in about["traces"]},
        int80={call: _loaded(t) for call, t in about["int80"].items()},
        executed=frozenset(about["executed"]),
        pages={v: (p, contents[p]) for v, p in about["pages"]},
    )
