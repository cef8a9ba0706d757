# SPDX-License-Identifier: GPL-2.0-or-later
"""Does one job, in a process of its own: reads it from standard input, writes what came of it to standard output.

    python3 -m sysenter.matrix.perform <JOB >OUTCOME

Both are JSON. So a job that dies takes nobody with it, and what it starts ends with it.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from textwrap import shorten
from typing import Any

from sysenter.defaults import COUNT, MATRIX_BENCH_ROUNDS, MATRIX_LOADS, MATRIX_STORM_MINUTES, ROUNDS
from sysenter.ending import ready_streams, told
from sysenter.errors import Refused, SysenterError
from sysenter.lab import choose_present, guest_for, guest_with_shell_for
from sysenter.lab.qemu import patience
from sysenter.matrix.plan import KINDS, TESTS, Job
from sysenter.processes import Interrupted, catch_signals, environment
from sysenter.scratch import scratch_folder
from sysenter.steps import Steps, run_command
from sysenter.target.arch import I386
from sysenter.target.target import Target

__all__ = ["DIFFERS", "FAILED", "KEPT", "PASSED", "Done", "Work", "main", "perform"]

PASSED, REFUSED, DIFFERS, FAILED = "passed", "refused", "differs", "failed"
KEPT = (PASSED, REFUSED)  # not done again; a difference may be the busy host's: a soft lockup for instance
_CLONE = Path(__file__).resolve().parents[3]
_BENCH = "calls/null,calls/read,calls/write,dd/bs=1"
_MUTANTS = 200


@dataclass(frozen=True)
class Work:
    """What a job takes to be done."""

    job: Job
    identity: str
    """The kernel that it is about, as identity_of() says it; "" if nobody knows it yet."""
    accelerator: str
    offline: bool
    processes: int = 1
    """How many it may have at once, of those that compute."""

    def to_json(self) -> dict[str, Any]:
        """What a worker is given."""
        return {**{name: getattr(self, name) for name in self.__dataclass_fields__}, "job": self.job.to_json()}

    @classmethod
    def of_json(cls, data: Mapping[str, Any]) -> Work:
        """The inverse."""
        return cls(**{**data, "job": Job.of_json(data["job"])})


@dataclass(frozen=True)
class Done:
    """What came of a job."""

    outcome: str
    """passed, refused (by name: why tells), differs (from the stock kernel, or from what should be) or failed."""
    why: str = ""
    differs: tuple[str, ...] = ()
    """What did."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    release: str = ""
    """`uname -r`."""
    arch: str = ""
    cpu: str = ""
    """QEMU's processor model, as it was."""
    unable: str = ""
    """Why this machine cannot do the job at all; another one may."""
    detail: str = ""
    """More lines."""


def identity_of(target: Target) -> str:
    """What tells a kernel from any other."""
    guard = target.guard
    return f"{guard.release} {guard.version} {guard.build_id}"


def _scope(job: Job) -> list[str]:
    return [f"scope={job.scope}"] if job.scope not in ("", "marked") else []


def _run(steps: Steps, target: Target, work: Work) -> Done:
    from sysenter.measure import measure

    job = work.job
    m = measure(
        steps,
        guest_for(steps, target, work.accelerator),
        rounds=job.rounds or ROUNDS,
        count=job.count or COUNT,
        options=job.module_options,
        offline=work.offline,
        scope=job.scope,
    )
    instructions: dict[str, dict[str, int | None]] = {}
    for cost in m.calls:
        instructions.setdefault(cost.call, {})[cost.path] = cost.instructions
    ratios = {"fast": m.fast_over_stock, "all": m.all_over_stock}
    figures = {
        "scope": m.scope,
        "way": m.way,
        "accelerator": m.accelerator,
        "fast_table": m.fast_table,
        "instructions": instructions,
        "dd_times_stock": {path: round(ratio, 3) for path, ratio in ratios.items() if ratio is not None},
        "dd_fast_over_int80": None if m.fast_over_int80 is None else round(m.fast_over_int80, 3),
    }
    found = (
        *(["the SYSENTER registers are not restored"] if m.registers_restored is False else []),
        *(["stock calls do not work after the unload"] if not m.stock_after_unload else []),
        *m.log,
    )
    return Done(DIFFERS if found else PASSED, differs=found, figures=figures)


def _selftests(steps: Steps, target: Target, work: Work) -> Done:
    from sysenter.verify.selftests import selftests
    from sysenter.verify.suites import SUITES

    results, log = selftests(
        steps,
        guest_with_shell_for(steps, target, work.accelerator),
        SUITES[work.job.argument or "x86"],
        offline=work.offline,
        scope=work.job.scope or "marked",
    )
    found = (*(f"{r.name}: {', '.join(r.differs)}" for r in results if r.differs), *log)
    figures = {"programs": len(results), "same": sum(not r.differs for r in results)}
    detail = "\n".join(f"{r.name}, {line}" for r in results if r.differs for line in r.said)
    return Done(DIFFERS if found else PASSED, differs=found, figures=figures, detail=detail)


def _mitigations(steps: Steps, target: Target, work: Work) -> Done:
    from sysenter.verify.mitigations import mitigations

    guest = guest_with_shell_for(steps, target, work.accelerator)
    # the kernel's own choice: what the catalogue has on the command line is left out there
    seen = mitigations(steps, guest, target.cpu, work.job.append, scope=work.job.scope or "marked")
    figures = {
        "kernel_says": seen.mitigated,
        "stock": sorted(seen.stock),
        "fast": sorted(seen.fast),
        "entry": seen.copy,
    }
    if seen.refused:
        return Done(REFUSED, seen.refused, figures=figures)
    if seen.lost:
        return Done(FAILED, seen.lost, figures=figures)
    missing = tuple(sorted(seen.missing))
    return Done(DIFFERS if missing else PASSED, differs=missing, figures=figures)


def _bench(steps: Steps, target: Target, work: Work) -> Done:
    from sysenter.bench.run import bench, paths_for
    from sysenter.bench.workloads import chosen

    job = work.job
    target, accelerator = choose_present(steps, target, work.accelerator)
    result = bench(
        steps,
        target,
        accelerator,
        chosen((job.argument or _BENCH).split(",")),
        paths=paths_for(target, job.scope),
        rounds=job.rounds or MATRIX_BENCH_ROUNDS,
        options=job.module_options,
        offline=work.offline,
    )
    if not result.complete:  # a signal; what there is is no benchmark
        raise Interrupted(signal.SIGTERM)
    return Done(DIFFERS if result.failed else PASSED, differs=tuple(result.failed), figures=result.to_json())


def _handlers(target: Target, job: Job) -> list[str]:
    """The handlers that are checked for a kernel: those of its architecture and kind."""
    from sysenter.check.handlers import HANDLERS
    from sysenter.kernels.catalogue import CATALOGUE

    if job.argument:
        return [job.argument]
    arches = {entry.name: entry.arch for entry in CATALOGUE}
    if not target.generation.runs_debian:
        return [name for name, handler in HANDLERS.items() if handler.headers == f"linux-{target.release}"]
    return [
        name
        for name, handler in HANDLERS.items()
        if arches.get(handler.default_kernel) is target.arch
        and (not handler.no_other_kernel or handler.default_kernel == target.name)
    ]


def _check(steps: Steps, target: Target, work: Work) -> Done:
    from rich.console import Console

    from sysenter.check import pool
    from sysenter.check.command import check, check_mutants
    from sysenter.check.handlers import HANDLERS
    from sysenter.check.subjects import subject

    names = _handlers(target, work.job)
    if not names:
        raise Refused(f"no handler is checked for {target.release}", hint="`./sysenter check` names them all")
    if work.job.kind == "mutants":
        sound = [name for name in names if not HANDLERS[name].must_fail]
        if not sound:
            raise Refused(f"{', '.join(names)} is known bad", hint="mutants are made of handlers that are right")
        names = sound
    pool.use_processes(work.processes)
    subjects = [subject(steps, name, work.job.kernel, work.offline) for name in names]
    with open(os.devnull, "w") as nowhere:
        console = Console(file=nowhere)
        if work.job.kind == "check":
            reports = check(console, subjects, seed=1)
            found = tuple(f"{r.handler}: {r.as_json()['broken'] or 'not broken'}" for r in reports if not r.ok)
            figures = {r.handler: {k: r.as_json()[k] for k in ("cases", "events", "failures")} for r in reports}
            detail = "\n".join(story for r in reports if not r.ok for story in r.stories[:1])
        else:
            mutated = [check_mutants(console, s, _MUTANTS, seed=1) for s in subjects]
            found = tuple(f"{m.handler}: {', '.join(m.unexplained) or 'too few caught'}" for m in mutated if not m.ok)
            figures = {m.handler: {k: m.as_json()[k] for k in ("tried", "of", "caught")} for m in mutated}
            detail = ""
    return Done(DIFFERS if found else PASSED, differs=found, figures=figures, detail=detail)


def _failure_of(case: ElementTree.Element) -> str:
    """The name of a test that failed, and the first of what it says; "" for one that did not."""
    for found in (case.find("failure"), case.find("error")):
        if found is not None:
            return f"{case.get('name', '')}: {shorten(found.get('message', ''), 150)}"
    return ""


def _check_clone() -> None:
    if not (_CLONE / "tests/hazards").is_dir() or not (_CLONE / "sysenter").exists():
        raise Refused("the hostile callers are in a clone's tests, not in an installed package", hint="use a clone")


def _hazards(steps: Steps, target: Target, work: Work) -> Done:
    what = work.job.argument
    if not target.generation.runs_debian:
        raise Refused(
            f"{target.release} has no hostile callers in tests/hazards", hint="tests/lab has them for 2.2, 2.4"
        )
    place = f"tests/hazards/{what}.py" if (_CLONE / f"tests/hazards/{what}.py").exists() else "tests/hazards"
    only = ["-k", what] if what and place == "tests/hazards" else []
    return _tests(steps, work, [place, *only, "--kernel", work.job.kernel])


def _storm(steps: Steps, target: Target, work: Work) -> Done:
    """On every processor that the tests have it on at once: 8 on amd64, 4 on i386."""
    job, seconds = work.job, 60 * int(work.job.argument or MATRIX_STORM_MINUTES)
    if job.scope == "both":
        raise Refused("the storm is of one scope", hint="--scope marked --scope all")
    if target.generation.runs_debian:
        cpus = 4 if target.arch is I386 else 8
        words = ["tests/hazards/test_life.py", "-k", f"test_storm and {cpus}-{job.scope or 'marked'}"]
        words += ["--minutes", str(seconds // 60), "--kernel", job.kernel]
        return _tests(steps, work, words, seconds=seconds)
    if job.scope not in ("", "marked"):
        raise Refused(f"{target.release} has no scope {job.scope}", hint="--scope marked")
    with scratch_folder() as folder:  # of kernels, with this one alone
        (folder / "kernel").symlink_to(Path(job.kernel).parent, target_is_directory=True)
        env = {"SYSENTER_LEGACY_KERNELS": str(folder), "SYSENTER_LEGACY_STORM": str(seconds)}
        words = ["tests/lab/test_legacy.py", "-k", "busy_processes"]
        return _tests(steps, work, words, env, seconds=2 * seconds)  # it has two ways


def _loads(steps: Steps, target: Target, work: Work) -> Done:
    """In the scope, and on i386 by AMD's SYSCALL too."""
    if not target.generation.runs_debian:
        raise Refused(f"{target.release} has no such test", hint="tests/lab has what there is for 2.2, 2.4")
    job, loads = work.job, int(work.job.argument or MATRIX_LOADS)
    scope = job.scope or "marked"
    names = f"many_loads and {scope}" + (" or again_and_again" if scope == "marked" else "")
    words = ["tests/hazards/test_unload.py", "tests/hazards/test_syscall.py", "-k", names, "--kernel", job.kernel]
    return _tests(steps, work, words, {"SYSENTER_LOADS": str(loads)}, seconds=2 * loads)


def _tests(
    steps: Steps, work: Work, words: Sequence[str], env: Mapping[str, str] | None = None, *, seconds: float = 0
) -> Done:
    """Carry out tests of the clone. seconds: what they were asked to take on top."""
    with scratch_folder() as folder:
        report = folder / "report.xml"
        failure: SysenterError | None = None
        try:
            run_command(
                steps,
                [_CLONE / "sysenter", "--no-install", "test", *words, "-n", "1", "-q", f"--junitxml={report}"],
                what=f"the tests of {work.job.name}",
                timeout=(10_800 + 6 * seconds) * patience(),
                env={**environment(ours=True), **(env or {})},
                network=not work.offline,
            )
        except SysenterError as error:
            failure = error
        if not report.exists():
            raise failure or SysenterError("the tests said nothing", hint="--debug shows their command")
        cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    return _of_cases(cases, failure)


def _of_cases(cases: Sequence[ElementTree.Element], failure: SysenterError | None) -> Done:
    """What came of tests. failure: how pytest ended, if not well.

    Raises it, or SysenterError, where that is no answer: no test passed or failed.
    """
    failures = list(filter(None, map(_failure_of, cases)))
    skipped = [found for c in cases if (found := c.find("skipped")) is not None]
    passed = len(cases) - len(skipped) - len(failures)
    bad = tuple(dict.fromkeys(failures))
    if failure and not bad:
        raise failure
    if not passed and not bad:
        why = shorten(skipped[0].get("message", ""), 150) if skipped else "none has this name"
        raise SysenterError(f"no test was carried out: {why}", hint="name another, as hazards:test_life")
    figures = {"passed": passed, "skipped": len(skipped), "failed": len(failures)}
    return Done(DIFFERS if bad else PASSED, differs=bad, figures=figures, detail=failure.detail if failure else "")


_DO: Mapping[str, Callable[[Steps, Target, Work], Done]] = {
    "run": _run,
    "selftests": _selftests,
    "mitigations": _mitigations,
    "bench": _bench,
    "check": _check,
    "mutants": _check,
    "hazards": _hazards,
    "storm": _storm,
    "loads": _loads,
}


def perform(steps: Steps, work: Work) -> Done:
    """Do a job and return its outcome. Only a signal ends it without one."""
    from sysenter.kernels.provide import provide

    job, known = work.job, Done(FAILED)
    try:
        target = provide(steps, job.kernel, offline=work.offline)
        known = replace(known, release=target.release, arch=target.arch.name, cpu=job.cpu or target.cpu)
        if work.identity and identity_of(target) != work.identity:
            other = f"its {target.name} is {target.release}, not the one that is asked about"
            return replace(known, unable=f"{other} (a day apart, Debian may have another)")
        qemu = target.arch.qemu_for(known.cpu)
        if job.kind not in ("check", "mutants") and not shutil.which(qemu):
            return replace(known, unable=f"{qemu} is not installed")
        append = " ".join(filter(None, (target.append, job.append if job.kind != "mitigations" else "")))
        if job.kind in TESTS:
            _check_clone()
        target = replace(target, cpu=known.cpu, append=append)
        if "cpu" in KINDS[job.kind].axes and target.generation.runs_debian:
            # KVM may take another model: by it the job is done, and told
            target, accelerator = choose_present(steps, target, work.accelerator)
            known, work = replace(known, cpu=target.cpu), replace(work, accelerator=accelerator)
        done = _DO[job.kind](steps, target, work)
        return replace(done, release=known.release, arch=known.arch, cpu=known.cpu)
    except Refused as error:
        return replace(known, outcome=REFUSED, why=error.message)
    except SysenterError as error:
        return replace(known, why=error.message, detail=error.detail)


def main() -> int:
    """As the module's docstring says."""
    ready_streams()
    catch_signals()
    work = Work.of_json(json.load(sys.stdin))
    start = time.monotonic()
    try:
        done = perform(Steps(), work)
    except Interrupted as error:
        return 128 + error.number
    except Exception as error:
        detail, line = told(error)
        done = Done(FAILED, line, detail=detail)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    said = {
        **{name: getattr(done, name) for name in Done.__dataclass_fields__},
        "seconds": round(time.monotonic() - start, 1),
        "cpu_seconds": round(sum(u.ru_utime + u.ru_stime for u in used), 1),
    }
    json.dump(said, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
