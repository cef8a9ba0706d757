# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line: each command is a few lines that call one room."""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sysenter.build import build_module
from sysenter.build.export import single_file
from sysenter.doctor import examine
from sysenter.errors import SysenterError
from sysenter.kernels.catalogue import CATALOGUE, DEFAULT
from sysenter.kernels.provide import cached_release, provide
from sysenter.lab import guest_for, guest_with_shell_for
from sysenter.lab.present_guest import PresentGuest
from sysenter.lab.qemu import GuestLost
from sysenter.measure import measure
from sysenter.replay import NO_LEGACY
from sysenter.report.json import to_json
from sysenter.report.table import print_table
from sysenter.steps import Steps
from sysenter.target.target import Target
from sysenter.verify.mitigations import MACHINES, mitigations
from sysenter.verify.selftests import PHASES, selftests

__all__ = ["main"]


def _on_machine(target: Target, options: argparse.Namespace) -> Target:
    """The target on the processor and with the command line that the user asked for."""
    append = " ".join(filter(None, (target.append, options.append)))
    return replace(target, cpu=options.cpu or target.cpu, append=append)


def _target(options: argparse.Namespace, steps: Steps) -> Target:
    return _on_machine(provide(steps, options.kernel, offline=options.offline), options)


def _guest_with_shell(options: argparse.Namespace, steps: Steps) -> PresentGuest:
    return guest_with_shell_for(steps, _target(options, steps), options.accelerator)


def _run(options: argparse.Namespace, steps: Steps) -> int:
    target = _target(options, steps)
    if options.json:
        _check_writable(options.json)
    guest = guest_for(steps, target, options.accelerator)
    if options.dry_run:
        print("\n".join(guest.command_lines()))
        return 0
    measurement = measure(
        steps, guest, rounds=options.rounds, count=options.count, options=options.module_option,
        offline=options.offline,
    )  # fmt: skip
    print_table(measurement, _stdout())
    if options.json:
        options.json.write_text(json.dumps(to_json(measurement), indent=1) + "\n")
    if not measurement.left_as_found:
        raise SysenterError("the kernel was not left as it was", hint="the table and its last line say how",
                            detail="\n".join(measurement.log))  # fmt: skip
    return 0


def _stdout(width: int = 120) -> Console:
    """Where results go; into a file or a pipe they are not squeezed to 80 columns."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else width)


def _check_writable(path: Path) -> None:
    if not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise SysenterError(f"cannot write {path}", hint="give --json a file in a folder that you can write to")


def _kernels(options: argparse.Namespace, steps: Steps) -> int:
    table = Table("name", "Debian", "package", "processor", "in the cache")
    for entry in CATALOGUE:
        table.add_row(
            entry.name + (" (default)" if entry.name == DEFAULT else ""), f"{entry.suite} {entry.arch}",
            f"linux-image-{entry.flavour}", entry.cpu, cached_release(entry) or "-",
        )  # fmt: skip
    _stdout().print(table)
    return 0


def _build(options: argparse.Namespace, steps: Steps) -> int:
    print(build_module(steps, provide(steps, options.kernel, offline=options.offline)).module)
    return 0


def _export(options: argparse.Namespace, steps: Steps) -> int:
    if options.output is None:
        sys.stdout.write(single_file())
    else:
        _check_writable(options.output)
        options.output.write_text(single_file())
    return 0


def _shell(options: argparse.Namespace, steps: Steps) -> int:
    if not sys.stdin.isatty():
        raise SysenterError("shell needs a terminal", hint="`./sysenter exec -- COMMAND` runs one command without")
    return _guest_with_shell(options, steps).shell(steps)


def _exec(options: argparse.Namespace, steps: Steps) -> int:
    output = _guest_with_shell(options, steps).execute(steps, options.command, timeout=options.timeout)
    for line in output.text:
        print(line)
    return output.status


def _selftests(options: argparse.Namespace, steps: Steps) -> int:
    results, log = selftests(steps, _guest_with_shell(options, steps), offline=options.offline)
    table = Table("program", *PHASES, "as stock")
    for result in results:
        cells = [result.outcomes.get(phase, "-") for phase in PHASES]
        table.add_row(result.name, *cells, "no" if result.differs else "yes")
    _stdout().print(table)
    differ = [result.name for result in results if result.differs]
    if differ or log:
        raise SysenterError(
            f"other than on the stock kernel: {', '.join(differ) or 'the kernel log'}", hint="this is a bug: report it",
            detail="\n".join(log),
        )  # fmt: skip
    return 0


def _mitigations(options: argparse.Namespace, steps: Steps) -> int:
    guest = _guest_with_shell(options, steps)
    chosen = options.cpu or options.append
    machines = [(guest.target.cpu, options.append)] if chosen else MACHINES[guest.target.arch]
    table = Table(
        "processor", "command line", "the kernel mitigates", "its entry", "the fast entry", "which, or why refused"
    )
    differ = []
    for cpu, append in machines:
        with steps.step(f"{guest.target.release} on {cpu} {append}"):
            try:
                applied = mitigations(steps, guest, cpu, append)
            except GuestLost as error:
                table.add_row(cpu, append, "-", "-", "-", f"does not boot: {error.message}")
                continue
        stock, fast = (", ".join(sorted(which)) or "none" for which in (applied.stock, applied.fast))
        table.add_row(
            cpu, append, ", ".join(f"{fault} ({how})" for fault, how in applied.mitigated.items()) or "none",
            *(("-", "-") if applied.refused else (stock, fast)), applied.refused or applied.copy,
        )  # fmt: skip
        if not applied.refused and applied.stock - applied.fast:
            differ.append(f"{cpu} {append}".strip())
    _stdout(220).print(table)
    if differ:
        raise SysenterError(f"the kernel's entry has a mitigation that the fast one has not, on {', '.join(differ)}",
                            hint="this is a bug: report it")  # fmt: skip
    return 0


def _doctor(options: argparse.Namespace, steps: Steps) -> int:
    findings = examine()
    for finding in findings:
        print(f"{'ok  ' if finding.ok else 'MISS'}  {finding.what}: {finding.found}")
        if not finding.ok:
            print(f"      {finding.hint}")
    return 0 if all(finding.ok for finding in findings) else 1


def _check(options: argparse.Namespace, steps: Steps) -> int:
    from sysenter.check.command import check, check_mutants, write_json  # Unicorn loads for this command only
    from sysenter.check.handlers import HANDLERS, Subject, handler_named
    from sysenter.check.subjects import subject

    names = [handler_named(name).name for name in options.handlers or HANDLERS]
    if bool(options.object) != bool(options.offsets) or (options.object and len(names) != 1):
        raise SysenterError("--object and --offsets go together, with one handler", hint="name the handler first")
    if options.json:
        _check_writable(options.json)
    subjects = [
        Subject(name, options.object, options.offsets) if options.object
        else subject(steps, name, options.kernel, options.offline)
        for name in names
    ]  # fmt: skip
    reports = check(_stdout(), subjects, options.seed)
    count = None if options.mutants == 0 else options.mutants
    sound = [s for s in subjects if not HANDLERS[s.handler].must_fail]
    mutated = [check_mutants(_stdout(), s, count, options.seed) for s in sound] if options.mutants is not None else []
    if options.json:
        write_json(options.json, reports, mutated, options.seed)
    return 0 if all(r.ok for r in reports) and all(m.ok for m in mutated) else 1


def _replay(options: argparse.Namespace, steps: Steps) -> int:
    from sysenter.replay.command import Request, replay  # capstone loads for this command only

    for path in filter(None, (options.json,)):
        _check_writable(path)
    request = Request(
        calls=tuple(options.calls.split(",")) if options.calls else (), json=options.json, against=options.against,
        export=options.export, processes=options.processes,
    )  # fmt: skip
    if options.source:
        return replay(steps, _stdout(), request, source=options.source)
    guest = guest_with_shell_for(steps, _target(options, steps), "tcg", refusal=f"has no replay: {NO_LEGACY}")
    return replay(steps, _stdout(160), request, kernel=(guest, options.module_option))


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the commands run, and a traceback on an error")
    common.add_argument("--no-install", action="store_true", help="install nothing: list what is missing and stop")
    kernel = argparse.ArgumentParser(add_help=False)
    kernel.add_argument("--kernel", default=DEFAULT, metavar="NAME|FILE",
                        help="a name that `kernels` lists, or a kernel.toml (default: %(default)s)")  # fmt: skip
    kernel.add_argument("--offline", action="store_true", help="use what is in the cache, never the network")
    lab = argparse.ArgumentParser(add_help=False)
    lab.add_argument("--accelerator", choices=("auto", "kvm", "tcg"), default="auto",
                     help="auto takes KVM if a probe shows that it boots a guest")  # fmt: skip
    lab.add_argument("--cpu", metavar="MODEL", help="QEMU's processor model, as athlon,-sep,+syscall")
    lab.add_argument("--append", default="", metavar="WORDS", help="more of the kernel's command line, as pti=on")

    parser = argparse.ArgumentParser(prog="sysenter", description="A faster way into the Linux kernel.")
    commands = parser.add_subparsers(dest="name", required=True, metavar="COMMAND")

    def command(
        name: str,
        function: Callable[[argparse.Namespace, Steps], int],
        parents: list[argparse.ArgumentParser],
        help: str,
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, parents=[common, *parents], help=help, description=help)
        sub.set_defaults(function=function)
        return sub

    run = command("run", _run, [kernel, lab], "boot a real kernel, load the module, run dd over each entry path")
    run.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    run.add_argument(
        "--rounds", type=_positive, default=15, help="times that each path's dd runs (default: %(default)s)"
    )
    run.add_argument("--count", type=_positive, default=40_000,
                     help="one-byte reads and writes in each dd (default: %(default)s)")  # fmt: skip
    run.add_argument("--module-option", action="append", default=[], metavar="OPTION",
                     help="for the module, as entry=syscall; 2.2: cruel, gentle or gentle-global")  # fmt: skip
    run.add_argument("--dry-run", action="store_true", help="prepare everything and print the QEMU command lines")
    replay = command("replay", _replay, [kernel], "a kernel's call paths on this machine's processor, in real cycles")
    replay.add_argument("--cpu", metavar="MODEL", help="the guest's processor model, which decides the kernel's paths")
    replay.add_argument("--append", default="", metavar="WORDS", help="more of the kernel's command line")
    replay.add_argument("--module-option", action="append", default=[], metavar="OPTION", help="for the module")
    replay.add_argument("--calls", metavar="LIST", help="only these, as getppid,read")
    replay.add_argument("--processes", type=_positive, default=9, help="how many measure (default: %(default)s)")
    replay.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    replay.add_argument("--against", type=Path, metavar="FILE|DIR",
                        help="what has become slower since --json wrote FILE, or than the bundle in DIR")  # fmt: skip
    replay.add_argument("--export", type=Path, metavar="DIR", help="write a bundle, for any x86-64 Linux, and stop")
    replay.add_argument("--from", type=Path, metavar="DIR", dest="source", help="replay a bundle, not --kernel")
    command("kernels", _kernels, [], "list the kernels that --kernel knows, and what is cached")
    command("doctor", _doctor, [], "look at what this machine has of what sysenter needs")
    command("build", _build, [kernel], "build the module for a kernel and print its path")
    export = command("export", _export, [], "write the single file for 2.2 and 2.4: C to a compiler, a script to sh")
    export.add_argument("-o", "--output", type=Path, metavar="FILE", help="write to FILE, not to standard output")
    check = command("check", _check, [kernel], "try every interruption of the entry code, in a model of the machine")
    check.add_argument("handlers", nargs="*", metavar="HANDLER", help="all, if none is named")
    check.add_argument("--mutants", nargs="?", type=_positive, const=0, metavar="N",
                       help="also see that wrong versions are caught: N of each handler's, or all")  # fmt: skip
    check.add_argument("--seed", type=int, default=1, help="of the random callers and of the choice of mutants")
    check.add_argument("--json", type=Path, metavar="FILE", help="also write what was found to FILE")
    check.add_argument("--object", type=Path, metavar="FILE", help="the handler's object, not the one of a build")
    check.add_argument("--offsets", type=Path, metavar="FILE", help="the offsets.h it was assembled with")
    command("shell", _shell, [kernel, lab], "a prompt in the guest, module and library at hand")
    command("selftests", _selftests, [kernel, lab], "run the kernel's own entry tests on every path")
    command("mitigations", _mitigations, [kernel, lab],
            "what the kernel's entry and ours do against the processor's faults, as executed")  # fmt: skip
    execute = command("exec", _exec, [kernel, lab], "run one command in the guest, the module loaded")
    execute.add_argument("--timeout", type=_positive, default=120, help="seconds it may take (default: %(default)s)")
    execute.add_argument("command", nargs="+", help="the command, after --")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit status. Errors are one line and a hint."""
    options = _parser().parse_args(arguments)
    steps = Steps(debug=options.debug)
    try:
        return int(options.function(options, steps))
    except SysenterError as error:
        if options.debug:
            steps.console.print_exception()
        if error.detail:
            steps.say(error.detail)
        steps.say(f"sysenter: {error}")
        return 1
    except KeyboardInterrupt:
        steps.say("sysenter: interrupted; nothing is left running and the cache is usable")
        return 130
    except OSError as error:
        if options.debug:
            steps.console.print_exception()
        hint = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "--debug shows where"
        steps.say(f"sysenter: {error} ({hint})")
        return 1
