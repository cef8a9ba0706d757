# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands of options.py: each is a few lines that call one room, and report/ for what is shown."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

from sysenter import __version__
from sysenter.defaults import ROUNDS, ROUNDS_IN_BOCHS
from sysenter.ending import conclude, ready_streams
from sysenter.errors import SysenterError
from sysenter.kernels.catalogue import DEFAULT
from sysenter.options import parser, read_options
from sysenter.report.output import check_writable, tables, write_json, write_text
from sysenter.steps import Steps

if TYPE_CHECKING:
    from sysenter.lab.guest import Guest
    from sysenter.lab.present_guest import PresentGuest
    from sysenter.replay.result import Result
    from sysenter.target.target import Target

# What makes the jobs of a matrix, if no file does.
_PRODUCT = ("--kernel", "--cpu", "--scope", "--job", "--append", "--module-option", "--rounds", "--count")

# Rooms are imported by the commands that call them: --help, kernels, export and doctor run
# without a Python package, and Unicorn and capstone load for what needs them.

__all__ = ["main"]


def _choose_qemu(options: argparse.Namespace, steps: Steps) -> None:
    """From now on start every machine by the QEMU that the user named."""
    if options.qemu:
        from sysenter.kernels.emulators import qemu_folder
        from sysenter.lab.qemu import use_qemu

        use_qemu(qemu_folder(steps, options.qemu, offline=options.offline))


def _on_machine(target: Target, options: argparse.Namespace) -> Target:
    """The target on the processor and with the command line that the user asked for."""
    append = " ".join(filter(None, (target.append, options.append)))
    return replace(target, cpu=options.cpu or target.cpu, append=append)


def _target(options: argparse.Namespace, steps: Steps) -> Target:
    from sysenter.kernels.provide import provide

    return _on_machine(provide(steps, options.kernel, offline=options.offline), options)


def _in_bochs(options: argparse.Namespace, steps: Steps) -> PresentGuest | None:
    """The guest in Bochs, if the user has chosen Bochs; else None."""
    if getattr(options, "emulator", "qemu") != "bochs":
        return None
    from sysenter.kernels.provide import provide
    from sysenter.lab.bochs_guest import bochs_guest_for

    if options.qemu or options.accelerator != "auto":
        given = "--qemu" if options.qemu else f"--accelerator {options.accelerator}"
        raise SysenterError(f"{given} is not for Bochs", hint="leave one of the two out")
    target = provide(steps, options.kernel, offline=options.offline)
    target = replace(target, append=" ".join(filter(None, (target.append, options.append))))
    return bochs_guest_for(steps, target, cpu=options.cpu or "", offline=options.offline)


def _guest_with_shell(options: argparse.Namespace, steps: Steps) -> PresentGuest:
    from sysenter.lab import guest_with_shell_for

    if guest := _in_bochs(options, steps):
        return guest
    _choose_qemu(options, steps)
    return guest_with_shell_for(steps, _target(options, steps), options.accelerator)


def _scope(scope: str) -> list[str]:
    """The module's options that set a scope; none for its default scope."""
    return [f"scope={scope}"] if scope not in ("", "marked") else []


def _replayed(steps: Steps, guest: Guest, options: Sequence[str]) -> Result | str:
    """The calls' cycles on this processor, or why there are none: with Debian's package Capstone 5 may be missing."""
    try:
        from sysenter.replay.command import replayed_calls
    except ImportError as error:
        return f"a replay needs Capstone 5 for Python ({error})"
    return replayed_calls(steps, guest, options)


def _run(options: argparse.Namespace, steps: Steps) -> int:
    from sysenter.lab import guest_for
    from sysenter.measure import measure
    from sysenter.report.json import to_json
    from sysenter.report.run import print_measurement

    if options.json and options.dry_run:
        raise SysenterError("run --dry-run takes no --json", hint="there are no figures: leave one of the two out")
    if options.json:
        check_writable(options.json)
    guest: Guest | None = _in_bochs(options, steps)
    if guest is None:
        _choose_qemu(options, steps)
        guest = guest_for(steps, _target(options, steps), options.accelerator)
    if options.dry_run:
        print("\n".join(guest.command_lines()))
        return 0
    measurement = measure(
        steps,
        guest,
        rounds=options.rounds or (ROUNDS_IN_BOCHS if options.emulator == "bochs" else ROUNDS),
        count=options.count,
        options=options.module_option,
        offline=options.offline,
        scope=options.scope,
    )
    replay = _replayed(steps, guest, [*options.module_option, *_scope(measurement.scope)])
    try:
        if options.json:
            write_json(options.json, to_json(measurement, replay))
    finally:  # what was measured is shown in any case
        print_measurement(measurement, tables(options.json), replay)
    if not measurement.left_as_found:
        raise SysenterError(
            "the kernel was not left as it was",
            hint="the table and its last line say how",
            detail="\n".join(measurement.log),
        )
    return 0


def _kernels(options: argparse.Namespace, steps: Steps) -> int:
    from sysenter.report.kernels import print_kernels

    print_kernels(sys.stdout)
    return 0


def _build(options: argparse.Namespace, steps: Steps) -> int:
    from sysenter.build import build_module
    from sysenter.kernels.provide import provide

    print(build_module(steps, provide(steps, options.kernel, offline=options.offline)).module)
    return 0


def _export(options: argparse.Namespace, steps: Steps) -> int:
    from sysenter.build.export import single_file

    output = options.output or Path("-")
    check_writable(output)
    write_text(output, single_file())
    if output != Path("-") and output.is_file():  # not /dev/null, whose mode is everybody's
        output.chmod(0o755)  # a shell runs it
    return 0


def _shell(options: argparse.Namespace, steps: Steps) -> int:
    if not sys.stdin.isatty():
        raise SysenterError("shell needs a terminal", hint="`./sysenter exec -- COMMAND` runs one command without")
    return _guest_with_shell(options, steps).shell(steps, _scope(options.scope))


def _exec(options: argparse.Namespace, steps: Steps) -> int:
    out, err = sys.stdout.buffer, sys.stderr.buffer
    return _guest_with_shell(options, steps).execute(
        steps, options.command, out, err, timeout=options.timeout, options=_scope(options.scope)
    )


def _selftests(options: argparse.Namespace, steps: Steps) -> int:
    from sysenter.report.selftests import print_selftests, to_json
    from sysenter.verify.selftests import selftests
    from sysenter.verify.suites import SUITES

    if options.json:
        check_writable(options.json)
    suite, scope = SUITES[options.suite], options.scope or "marked"
    guest = _guest_with_shell(options, steps)
    results, log = selftests(steps, guest, suite, offline=options.offline, scope=scope)
    print_selftests(results, tables(options.json))
    if options.json:
        write_json(options.json, to_json(guest, suite.name, scope, results, log))
    differ = [result.name for result in results if result.differs]
    if differ or log:
        raise SysenterError(
            f"other than on the stock kernel: {', '.join(differ) or 'the kernel log'}",
            hint="this is a bug: report it",
            detail="\n".join(log + [f"{r.name}, {line}" for r in results if r.differs for line in r.said]),
        )
    return 0


def _mitigations(options: argparse.Namespace, steps: Steps) -> int:
    from sysenter.report.mitigations import print_mitigations, to_json
    from sysenter.verify.mitigations import MACHINES, mitigations

    if options.json:
        check_writable(options.json)
    guest = _guest_with_shell(options, steps)
    chosen = options.cpu or options.append
    machines = [(guest.target.cpu, options.append)] if chosen else MACHINES[guest.target.arch]
    found = [mitigations(steps, guest, cpu, append, scope=options.scope or "marked") for cpu, append in machines]
    print_mitigations(found, tables(options.json, width=220))
    if options.json:
        write_json(options.json, to_json(guest, options.scope or "marked", found))
    if differ := [f"{applied.cpu} {applied.append}".strip() for applied in found if applied.missing]:
        raise SysenterError(
            f"the kernel's entry has a mitigation that the fast one has not, on {', '.join(differ)}",
            hint="this is a bug: report it",
        )
    if all(applied.lost or applied.refused for applied in found):
        what = "was booted" if all(applied.lost for applied in found) else "loaded the module"
        raise SysenterError(f"{guest.target.release} {what} on none of these processors", hint="the table says why")
    return 0


def _doctor(options: argparse.Namespace, steps: Steps) -> int:
    from sysenter.doctor import examine
    from sysenter.report.doctor import print_findings

    findings = examine()
    print_findings(findings, sys.stdout)
    return 0 if all(finding.ok for finding in findings) else 1


def _check(options: argparse.Namespace, steps: Steps) -> int:
    from sysenter.check.command import check, check_mutants, to_json
    from sysenter.check.handlers import HANDLERS, Subject, handler_named
    from sysenter.check.subjects import subject, takes
    from sysenter.report.check import print_check, print_mutants

    names = [handler_named(name).name for name in options.handlers or HANDLERS]
    if bool(options.object) != bool(options.offsets) or (options.object and len(names) != 1):
        raise SysenterError("--object and --offsets go together, with one handler", hint="name the handler first")
    if options.kernel != DEFAULT and (options.object or not any(takes(name, options.kernel) for name in names)):
        what = "--object" if options.object else ", ".join(names)
        raise SysenterError(f"--kernel {options.kernel} is not for {what}", hint="leave one of the two out")
    if options.json:
        check_writable(options.json)
    subjects = [
        Subject(name, options.object, options.offsets)
        if options.object
        else subject(steps, name, options.kernel, options.offline)
        for name in names
    ]
    started = time.monotonic()
    shown = tables(options.json)
    reports = check(shown, subjects, options.seed)
    print_check(reports, shown, seconds=time.monotonic() - started, seed=options.seed)
    mutated = []
    for sound in (s for s in subjects if options.mutants is not None and not HANDLERS[s.handler].must_fail):
        mutated.append(check_mutants(shown, sound, options.mutants or None, options.seed))
        print_mutants(mutated[-1], shown, seed=options.seed)
    if options.json:
        write_json(options.json, to_json(reports, mutated, options.seed))
    return 0 if all(r.ok for r in reports) and all(m.ok for m in mutated) else 1


def _attribute(option: str) -> str:
    """The name that argparse gives to an option."""
    return option.strip("-").replace("-", "_")


def _given(options: argparse.Namespace, *names: str) -> list[str]:
    """Those of these options that are not as they are where nobody gives them."""
    defaults = read_options([options.name])
    return [n for n in names if getattr(options, _attribute(n)) != getattr(defaults, _attribute(n))]


def _check_replay(options: argparse.Namespace) -> None:
    """Refuse what would be passed over: a comparison that is not made, a file not written, a choice not heard."""
    bundles_own = {
        "--kernel": options.kernel != DEFAULT,
        "--cpu": options.cpu,
        "--append": options.append,
        "--module-option": options.module_option,
        "--scope": options.scope,
    }
    for word, given in bundles_own.items():
        if given and options.source:
            hint = "leave one of the two out"
            raise SysenterError(f"{word} is not for --from: a bundle has all of that in it", hint=hint)
    if options.calls == "":  # as of a variable that is not set: it had been all calls
        raise SysenterError("--calls needs a list", hint="for example getppid,read; without --calls it is all")
    kinds = [word for word in ("--export", "--trace", "--pieces") if getattr(options, word.strip("-"))]
    others = kinds[1:]
    others += ["--against"] if options.against else []
    others += ["--json"] if options.json and not options.pieces else []
    others += ["--calls"] if options.calls and options.export else []
    if kinds and others:
        raise SysenterError(f"{kinds[0]} takes no {others[0]}", hint="type two commands: the snapshot is kept")


def _replay(options: argparse.Namespace, steps: Steps) -> int:
    from sysenter.lab import guest_with_shell_for
    from sysenter.replay import NO_LEGACY
    from sysenter.replay.command import Request, replay
    from sysenter.report.replay import pieces_to_json, print_replay, to_json

    _check_replay(options)
    for file in filter(None, (options.json, options.trace)):
        check_writable(file)
    request = Request(
        calls=tuple(options.calls.split(",")) if options.calls else (),
        against=options.against,
        export=options.export,
        processes=options.processes,
        pieces=options.pieces,
        trace=options.trace is not None,
    )
    if options.source:
        outcome = replay(steps, request, source=options.source)
    else:
        guest = guest_with_shell_for(steps, _target(options, steps), "tcg", refusal=f"has no replay: {NO_LEGACY}")
        outcome = replay(steps, request, kernel=(guest, [*options.module_option, *_scope(options.scope)]))
    try:
        if outcome.paths:
            write_json(options.trace, outcome.paths.to_json())
        if options.json and outcome.result and outcome.costs is not None:
            write_json(options.json, pieces_to_json(outcome.costs, outcome.result, outcome.call))
        elif options.json and outcome.result:
            write_json(options.json, to_json(outcome.result))
    finally:  # what was measured is shown in any case
        print_replay(outcome, tables(options.json or options.trace, 160))
    return 0 if outcome.ok else 1


def _report(options: argparse.Namespace, steps: Steps) -> int:
    check_writable(options.output)
    from sysenter.report.page.page import page

    write_text(options.output, page(options.files))
    if options.output != Path("-"):
        steps.say(f"{options.output}: open it in a browser")
    return 0


def _completion(options: argparse.Namespace, steps: Steps) -> int:
    from sysenter.manual import completion

    print(completion(parser(), options.shell))
    return 0


def _manual(options: argparse.Namespace, steps: Steps) -> int:
    from sysenter.manual import manual_page, reference_page

    print(reference_page(parser()) if options.markdown else manual_page(parser()))
    return 0


def _install(options: argparse.Namespace, steps: Steps) -> int:
    from sysenter.install.install import install, plan_for
    from sysenter.install.trial import try_now
    from sysenter.report.installed import print_built, print_plan

    wishes = {"all_kernels": options.all_kernels, "at_boot": options.at_boot, "scope": options.scope}
    if options.dry_run:
        print_plan(plan_for(__version__, **wishes), tables(None))
        return 0
    fetch = not (getattr(options, "no_install", False) or options.offline)
    print_built(install(steps, __version__, **wishes, fetch=fetch), tables(None))
    if options.try_now:
        try_now(steps)
    return 0


def _status(options: argparse.Namespace, steps: Steps) -> int:
    from sysenter.install.status import status
    from sysenter.report.installed import print_status

    if options.json:
        check_writable(options.json)
    found = status()
    print_status(found, tables(options.json))
    if options.json:
        write_json(options.json, found.to_json())
    return 0 if found.ok else 1


def _uninstall(options: argparse.Namespace, steps: Steps) -> int:
    from sysenter.install.uninstall import uninstall

    if not uninstall(steps, wait=options.wait):
        steps.say("nothing was installed")
    return 0


def _bench_here(options: argparse.Namespace, steps: Steps) -> int:
    from sysenter.bench.here import measure_here
    from sysenter.report.here import print_here

    # not --offline: nothing is fetched
    others = ["--kernel", "--accelerator", "--cpu", "--append", "--qemu", "--scope", "--module-option"]
    others += ["--save", "--against", "--tolerance", "--resume", "--anyway"]
    if given := ["workload"] * bool(options.workloads) + _given(options, *others):
        hint = "it measures its own six calls, of the kernel and module that run here; --json keeps them"
        raise SysenterError(f"bench --here takes no {given[0]}", hint=hint)
    if options.json:
        check_writable(options.json)
    here = measure_here(steps, rounds=options.rounds)
    print_here(here, tables(options.json))
    if options.json:
        write_json(options.json, here.to_json())
    return 0


def _bench(options: argparse.Namespace, steps: Steps) -> int:
    if options.here:
        return _bench_here(options, steps)
    from sysenter.bench import baseline
    from sysenter.bench.run import bench, empty_result, paths_for
    from sysenter.bench.workloads import chosen
    from sysenter.lab import choose_present
    from sysenter.report.bench import print_bench, print_changes

    workloads = chosen(options.workloads)
    before = baseline.load(options.against) if options.against else None
    if options.save:  # a wrong name is said before the work
        baseline.place_of(options.save)
    if options.json:
        check_writable(options.json)
    _choose_qemu(options, steps)
    target, accelerator = choose_present(steps, _target(options, steps), options.accelerator)
    paths = paths_for(target, options.scope)
    if before:  # said before the work, not after it
        baseline.check_machine(before, empty_result(target, accelerator), anyway=options.anyway)
        baseline.check_common(before, options.against, {w.key: w.command for w in workloads}, paths)
    result = bench(
        steps,
        target,
        accelerator,
        workloads,
        paths=paths,
        rounds=options.rounds,
        options=options.module_option,
        offline=options.offline,
        resume=options.resume,
    )
    print_bench(result, tables(options.json, 150))
    if options.json:
        write_json(options.json, result.to_json())
    if result.failed:
        raise SysenterError(
            "; ".join(result.failed), hint="the others are above; --resume tries these again, --rounds 1 is quicker"
        )
    if not result.complete:
        return 130
    if options.save:
        steps.say(f"kept as {baseline.save(result, options.save)}")
    if before is None:
        return 0
    found = baseline.changes(before, result, anyway=options.anyway)
    print_changes(found, options.tolerance, tables(options.json), baseline.other_commands(before, result.commands))
    return 1 if any(change.percent > options.tolerance for change in found) else 0


def _matrix_words(options: argparse.Namespace) -> list[str]:
    """The files of a matrix, and each option that has a say in what comes of it, as a shell reads them."""
    words = [shlex.join(map(str, options.files))]
    for option in (*_given(options, *_PRODUCT, "--accelerator"), "--support"):
        value = getattr(options, _attribute(option))
        for one in value if isinstance(value, list) else [value]:
            # where the user's own kernels are is nobody's business
            own = option == "--kernel" and one.endswith(".toml")
            said = f".../{Path(one).parent.name}/{Path(one).name}" if own else str(one)
            words.append(f"{option} {shlex.quote(said)}")
    return words


def _check_matrix(options: argparse.Namespace) -> None:
    """Refuse what would be passed over."""
    others = (*_PRODUCT, "--accelerator", "--offline", "--json", "--support", "--done", "--again")
    if options.worker and (given := ["FILE"] * bool(options.files) + _given(options, *others)):
        raise SysenterError(f"matrix --worker takes no {given[0]}", hint="the command with --scheduler takes it")
    if options.scheduler and options.cores:
        raise SysenterError("matrix --scheduler takes no --cores", hint="each --worker has its own")
    if options.files and not options.kernel and (given := _given(options, *_PRODUCT)):
        raise SysenterError(
            f"{given[0]} is not for {options.files[0]}, which says all of its jobs",
            hint="write it there, or name by --kernel what it is for",
        )


def _matrix(options: argparse.Namespace, steps: Steps) -> int:
    from sysenter.kernels.catalogue import CATALOGUE
    from sysenter.lab.qemu import qemu_version
    from sysenter.matrix.plan import Product, expand, read_products
    from sysenter.matrix.run import matrix
    from sysenter.matrix.worker import work_for
    from sysenter.report.matrix import print_matrix, support_page

    _check_matrix(options)
    if options.worker:
        return work_for(steps, options.worker, options.cores or len(os.sched_getaffinity(0)))
    jobs = [job for file in options.files for job in expand(read_products(file), file.resolve().parent)]
    if options.kernel or not options.files:
        every = tuple(entry.name for entry in CATALOGUE)
        kernels = [name for kernel in options.kernel or ["all"] for name in (every if kernel == "all" else (kernel,))]
        product = Product(
            kernels=tuple(kernels),
            cpus=tuple(options.cpu) or ("",),
            scopes=tuple(options.scope) or ("",),
            jobs=tuple(options.job) or ("run",),
            append=options.append,
            module_options=tuple(options.module_option),
            rounds=options.rounds,
            count=options.count,
        )
        own = expand([product], Path.cwd())
        for option, name in (
            ("--append", "append"),
            ("--module-option", "module_options"),
            ("--rounds", "rounds"),
            ("--count", "count"),
        ):
            if getattr(product, name) and not any(getattr(job, name) for job in own):
                raise SysenterError(f"none of these jobs takes {option}", hint="leave it out, or add --job run")
        jobs += own
    for path in filter(None, (options.json, options.support)):
        check_writable(path)
    found = matrix(
        steps,
        list(dict.fromkeys(jobs)),
        scheduler=options.scheduler or "",
        cores=options.cores,
        accelerator=options.accelerator,
        offline=options.offline,
        again=options.again,
        only_done=options.done,
    )
    print_matrix(found, tables(options.json, 180))
    if options.json:
        write_json(options.json, found.to_json())
    if not found.complete and not options.done:
        return 130
    if options.support:
        write_text(options.support, support_page(found, _matrix_words(options), __version__, qemu_version()))
    if not found.ok:
        bad = found.bad
        why = bad[0].outcome["why"] or "; ".join(bad[0].outcome["differs"])
        raise SysenterError(
            f"{len(bad)} of {len(found.cells)} jobs failed or differ; {bad[0].job.words}: {shorten(why, 200)}",
            hint="the table tells of each; the same command does these again",
            detail=str(bad[0].outcome["detail"]),
        )
    return 0


_COMMANDS: Mapping[str, Callable[[argparse.Namespace, Steps], int]] = {
    "run": _run,
    "kernels": _kernels,
    "build": _build,
    "export": _export,
    "shell": _shell,
    "exec": _exec,
    "selftests": _selftests,
    "mitigations": _mitigations,
    "doctor": _doctor,
    "check": _check,
    "replay": _replay,
    "report": _report,
    "completion": _completion,
    "manual": _manual,
    "install": _install,
    "status": _status,
    "uninstall": _uninstall,
    "bench": _bench,
    "matrix": _matrix,
}


def main(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit status. Errors are one line and a hint."""
    ready_streams()
    steps = Steps()

    def command() -> int:
        options = read_options(arguments)
        steps.debug = options.debug
        return _COMMANDS[options.name](options, steps)

    return conclude(steps, command)
