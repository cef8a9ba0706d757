# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands and their options; cli.py carries them out."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from sysenter import __version__
from sysenter.defaults import BENCH_ROUNDS, COUNT, ROUNDS, ROUNDS_IN_BOCHS, SLOWNESS_OF_BOCHS
from sysenter.kernels.catalogue import DEFAULT
from sysenter.verify.suites import SUITES

__all__ = ["parser", "read_options"]

_MOST = 1_000_000_000


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if not 1 <= value <= _MOST:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to {_MOST}")
    return value


def _any_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None


def _name(text: str) -> str:
    """A word that a script's variable stands for, which may be unset."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty, and names nothing")
    return text


def _percent(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 1000:  # a NaN is not
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to 1000")
    return value


def read_options(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line. Ends the program with a usage message if it is wrong."""
    # Options of every command have no default there, so that one before the command is not undone behind it.
    return parser().parse_args(arguments, argparse.Namespace(debug=False, no_install=False))


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; its `name` is the command's."""
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)  # before a command or after
    common.add_argument("--debug", action="store_true", help="show the commands run, and a traceback on an error")
    common.add_argument("--no-install", action="store_true", help="install nothing: list what is missing and stop")
    kernel = argparse.ArgumentParser(add_help=False)
    kernel.add_argument(
        "--kernel",
        default=DEFAULT,
        metavar="NAME|FILE",
        help="a name that `kernels` lists, or a kernel.toml (default: %(default)s)",
    )
    kernel.add_argument("--offline", action="store_true", help="use what is in the cache, never the network")
    lab = argparse.ArgumentParser(add_help=False)
    lab.add_argument(
        "--accelerator",
        choices=("auto", "kvm", "tcg"),
        default="auto",
        help="auto takes KVM if a probe shows that it boots a guest",
    )
    lab.add_argument(
        "--cpu", type=_name, metavar="MODEL", help="the emulator's processor model, for example athlon,-sep,+syscall"
    )
    lab.add_argument(
        "--append", default="", metavar="WORDS", help="more words for the kernel's command line, for example pti=on"
    )

    lab.add_argument(
        "--qemu",
        type=_name,
        metavar="PATH|trixie",
        help="another QEMU: a program, a folder of programs, or Debian 13's (trixie), run by its own loader",
    )
    emulator = argparse.ArgumentParser(add_help=False)
    emulator.add_argument(
        "--emulator",
        choices=("qemu", "bochs"),
        default="qemu",
        help="the emulator (default: %(default)s); Bochs is slower, and shares no code with QEMU",
    )

    scope = argparse.ArgumentParser(add_help=False)
    scope.add_argument(
        "--scope",
        choices=("marked", "all", "both"),
        default="",
        help="whose calls take the fast path: those of programs that ask for it (marked), every "
        "program's (all), both; default: for `run` each scope that can work, for other commands marked",
    )

    whole = argparse.ArgumentParser(
        prog="sysenter",
        description="A faster way into the Linux kernel.",
        allow_abbrev=False,  # the launcher knows --offline and --no-install in full only
        epilog="A clone has two more: `./sysenter test` runs the tests, `./sysenter docs` makes a site of the docs.",
        parents=[common],
    )
    whole.add_argument("--version", action="version", version=f"sysenter {__version__}")
    commands = whole.add_subparsers(dest="name", required=True, metavar="COMMAND")

    def command(name: str, parents: list[argparse.ArgumentParser], help: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, parents=[common, *parents], help=help, description=help, allow_abbrev=False)

    run = command(
        "run", [kernel, lab, emulator, scope], "boot a real kernel, load the module, run dd over each entry path"
    )
    run.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE (- is standard output)")
    run.add_argument(
        "--rounds",
        type=_positive,
        help=f"how often dd runs on each path (default: {ROUNDS}; in Bochs, where all are the same, {ROUNDS_IN_BOCHS})",
    )
    run.add_argument(
        "--count", type=_positive, default=COUNT, help="one-byte reads and writes in each dd (default: %(default)s)"
    )
    run.add_argument(
        "--module-option",
        action="append",
        default=[],
        metavar="OPTION",
        help="a parameter of the module, for example entry=syscall; on 2.2 cruel, gentle or gentle-global",
    )
    run.add_argument("--dry-run", action="store_true", help="prepare everything and print the QEMU command lines")
    replay = command("replay", [kernel, scope], "a kernel's call paths on this machine's processor, in real cycles")
    replay.add_argument(
        "--cpu", type=_name, metavar="MODEL", help="the guest's processor model, which decides the kernel's paths"
    )
    replay.add_argument("--append", default="", metavar="WORDS", help="more words for the kernel's command line")
    replay.add_argument(
        "--module-option", action="append", default=[], metavar="OPTION", help="a parameter of the module"
    )
    replay.add_argument("--calls", metavar="LIST", help="only these calls, for example getppid,read")
    replay.add_argument(
        "--processes", type=_positive, default=9, help="how many processes measure (default: %(default)s)"
    )
    replay.add_argument(
        "--json", type=Path, metavar="FILE", help="also write the figures to FILE (- is standard output)"
    )
    replay.add_argument(
        "--against",
        type=Path,
        metavar="FILE|DIR",
        help="show what is slower than in FILE (written by --json), or than the bundle in DIR",
    )
    replay.add_argument(
        "--export", type=Path, metavar="DIR", help="write a bundle, which measures on any x86-64 Linux, and stop"
    )
    replay.add_argument(
        "--from", type=Path, metavar="DIR", dest="source", help="replay the bundle in DIR, not --kernel"
    )
    replay.add_argument(
        "--pieces",
        action="store_true",
        help="measure what each piece of a call's paths costs: of getppid, or of the first of --calls",
    )
    replay.add_argument(
        "--trace",
        type=Path,
        metavar="FILE",
        help="write each instruction of the paths of getppid, or of --calls, to FILE, for `report`, and stop",
    )
    command("kernels", [], "list the kernels that --kernel knows, and what is cached")
    command("doctor", [], "look at what this machine has of what sysenter needs")
    command("build", [kernel], "build the module for a kernel and print its path")
    export = command("export", [], "write the single file for 2.2 and 2.4: C to a compiler, a script to sh")
    export.add_argument("-o", "--output", type=Path, metavar="FILE", help="write to FILE, not to standard output")
    check = command("check", [kernel], "try every interruption of the entry code, in a model of the machine")
    check.add_argument("handlers", nargs="*", metavar="HANDLER", help="which handlers to check (default: all)")
    check.add_argument(
        "--mutants",
        nargs="?",
        type=_positive,
        const=0,
        metavar="N",
        help="also check that wrong versions are caught: N of each handler, or all",
    )
    check.add_argument(
        "--seed", type=_any_number, default=1, help="a seed for the random callers and for the choice of mutants"
    )
    check.add_argument(
        "--json", type=Path, metavar="FILE", help="also write what was found to FILE (-: standard output)"
    )
    check.add_argument("--object", type=Path, metavar="FILE", help="check this object, not a newly built one")
    check.add_argument("--offsets", type=Path, metavar="FILE", help="the offsets.h with which --object was assembled")
    command("shell", [kernel, lab, emulator, scope], "a prompt in the guest, module and library at hand")
    tests = command(
        "selftests",
        [kernel, lab, emulator, scope],
        "run other people's tests on every path: the kernel's, CPython's, ...",
    )
    tests.add_argument(
        "--suite",
        choices=tuple(SUITES),
        default="x86",
        help="; ".join(f"{suite.name}: {suite.about}" for suite in SUITES.values()) + " (default: %(default)s)",
    )
    faults = command(
        "mitigations",
        [kernel, lab, scope],
        "what the kernel's entry and ours do against the processor's faults, as executed",
    )
    for each in (tests, faults):
        each.add_argument(
            "--json", type=Path, metavar="FILE", help="also write what was found to FILE (-: standard output)"
        )
    execute = command("exec", [kernel, lab, emulator, scope], "run one command in the guest, the module loaded")
    execute.add_argument(
        "--timeout",
        type=_positive,
        default=120,
        help=f"seconds it may take (default: %(default)s); in Bochs {SLOWNESS_OF_BOCHS} times as many",
    )
    execute.add_argument("command", nargs="+", help="the command, after --")
    report = command("report", [], "one page, for a browser, of what --json and --trace wrote")
    report.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE.json",
        help="files that run, bench, replay (--pieces, --trace), check, mitigations and selftests wrote",
    )
    report.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE.html", help="the page (-: standard output)"
    )
    completion = command("completion", [], "print the completion of this command line for a shell")
    completion.add_argument(
        "shell",
        choices=("bash", "zsh", "tcsh"),
        help="the shell; eval the output, or put it where the shell looks for completions",
    )
    manual = command("manual", [], "print the manual page: sysenter manual | man -l -")
    manual.add_argument("--markdown", action="store_true", help="print docs/reference/commands.md instead")
    install = command("install", [], "put the module on this machine, by DKMS; loads nothing by itself")
    install.add_argument("--offline", action="store_true", help="fetch nothing: name the packages that are missing")
    install.add_argument(
        "--all-kernels", action="store_true", help="for each installed kernel, not only for the running one"
    )
    install.add_argument(
        "--try", action="store_true", dest="try_now", help="load it now, and compare a few thousand calls with stock"
    )
    install.add_argument(
        "--at-boot",
        action="store_true",
        help="load it at each boot, with a fuse; the word sysenter.off on the command line keeps it out",
    )
    install.add_argument(
        "--scope",
        choices=("marked", "all", "both"),
        help="whose calls take the fast path (on 64-bit AMD processors only `all` works)",
    )
    install.add_argument("--dry-run", action="store_true", help="show every file and command, change nothing")
    status = command("status", [], "what is installed here, for which kernels, and what is loaded")
    status.add_argument(
        "--json", type=Path, metavar="FILE", help="write the state to FILE, for scripts (-: standard output)"
    )
    uninstall = command("uninstall", [], "take all of it away again")
    uninstall.add_argument(
        "--wait", type=_positive, default=0, metavar="SECONDS", help="wait so long for programs that use the module"
    )
    bench = command("bench", [kernel, lab], "time workloads by each entry path, with baselines")
    bench.add_argument(
        "workloads",
        nargs="*",
        metavar="WORKLOAD",
        help="suites (calls, dd, switch: the default; programs) or workloads, for example calls/read",
    )
    bench.add_argument(
        "--scope",
        choices=("marked", "all", "both"),
        default="",
        help="the fast paths: by the preload library (marked), of every program (all), both; default: what can work",
    )
    bench.add_argument(
        "--rounds", type=_positive, default=BENCH_ROUNDS, help="how often each path runs (default: %(default)s)"
    )
    bench.add_argument(
        "--module-option", action="append", default=[], metavar="OPTION", help="a parameter of the module"
    )
    bench.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    bench.add_argument("--save", type=_name, metavar="NAME", help="keep the result as a baseline")
    bench.add_argument(
        "--against", type=_name, metavar="NAME", help="compare with a baseline; status 1 if something is slower"
    )
    bench.add_argument(
        "--tolerance",
        type=_percent,
        default=2.0,
        metavar="PERCENT",
        help="how much slower still counts as the same (default: %(default)s)",
    )
    bench.add_argument(
        "--here",
        action="store_true",
        help="cycles of single calls on this machine; the module must be loaded, and you must be root",
    )
    bench.add_argument("--resume", action="store_true", help="go on with this benchmark, after it was interrupted")
    bench.add_argument("--anyway", action="store_true", help="compare with a baseline of another machine, too")
    _add_matrix(command("matrix", [], "many kernels, processors, scopes and jobs, here or on a Dask cluster"))
    return whole


def _add_matrix(matrix: argparse.ArgumentParser) -> None:
    matrix.add_argument("files", nargs="*", type=Path, metavar="FILE.toml", help="files with [[product]] tables")

    def many(name: str, metavar: str, help: str, type: Callable[[str], str] = _name) -> None:
        matrix.add_argument(
            name, type=type, action="append", default=[], metavar=metavar, help=f"{help}; may be given more than once"
        )

    many("--kernel", "NAME|FILE", "as for `run`, or `all` for the whole catalogue (the default)")
    many("--cpu", "MODEL", "QEMU's processor model (default: each kernel's own)")
    many(
        "--scope",
        "SCOPE",
        "marked, all or both (default: for `run` each scope that can work, for `bench` both, for other jobs marked)",
    )
    many(
        "--job",
        "JOB",
        "run (the default), selftests, hazards, storm, loads, check, mutants, mitigations, bench; "
        "selftests:python, check:present-i386 or bench:calls/null is a part of one, storm:60 is an hour of the storm",
    )
    matrix.add_argument("--append", default="", metavar="WORDS", help="more words for the kernels' command line")
    many("--module-option", "OPTION", "for the module, in run and bench", str)
    matrix.add_argument("--rounds", type=_positive, default=0, help="rounds of run and bench (default: their own)")
    matrix.add_argument("--count", type=_positive, default=0, help="reads and writes of run's dd (default: its own)")
    matrix.add_argument(
        "--accelerator",
        choices=("auto", "kvm", "tcg"),
        default="auto",
        help="auto takes KVM if a probe shows that it boots a guest",
    )
    matrix.add_argument("--offline", action="store_true", help="use what is in the cache, never the network")
    matrix.add_argument("--json", type=Path, metavar="FILE", help="also write all of it to FILE (-: standard output)")
    matrix.add_argument("--support", type=Path, metavar="FILE", help="also write a page that shows what works")
    matrix.add_argument("--done", action="store_true", help="start nothing: show what is done already")
    matrix.add_argument("--again", action="store_true", help="do everything again, also what is done already")
    matrix.add_argument(
        "--cores", type=_positive, default=0, help="how many jobs at once on this machine (default: one for each core)"
    )
    where = matrix.add_mutually_exclusive_group()
    where.add_argument(
        "--scheduler",
        type=_name,
        metavar="ADDRESS",
        help="the scheduler of a Dask cluster, for example tcp://host:8786",
    )
    where.add_argument(
        "--worker",
        type=_name,
        metavar="ADDRESS",
        help="work for the scheduler at ADDRESS until it ends, and do nothing else",
    )
