# SPDX-License-Identifier: GPL-2.0-or-later
"""The command on a cluster here: two real jobs, and what becomes of jobs that come to no good end."""

from __future__ import annotations

import json
import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from distributed import get_worker

import schemas
from conftest import RunCli, one_line_error
from sysenter.cli import main as cli_main
from sysenter.errors import SysenterError
from sysenter.matrix import run
from sysenter.matrix.perform import Work
from sysenter.matrix.plan import Job
from sysenter.matrix.worker import LACKS, LOST, UNABLE
from sysenter.steps import Steps

# What stands in for a worker's do() finds here what it is to do: it runs in this process.
_SCRIPT: dict[str, list[dict[str, Any]]] = {}
_DONE: list[str] = []
_PROCESSES: list[int] = []


def _as_told(work: dict[str, Any], artefact: str) -> dict[str, Any]:
    cpu = work["job"]["cpu"]
    _DONE.append(cpu)
    _PROCESSES.append(work["processes"])
    told = _SCRIPT[cpu]
    return {"address": get_worker().address, "worker": "w"} | (told.pop(0) if len(told) > 1 else told[0])


def _outcome(name: str, why: str = "") -> dict[str, Any]:
    return {
        **{"outcome": name, "why": why, "differs": [], "figures": {}, "release": "6.1", "arch": "i386", "cpu": ""},
        **{"seconds": 0.1, "cpu_seconds": 0.1, "detail": ""},
    }


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, steps: Steps) -> Any:
    """Carries out a matrix of jobs, told apart by their processor, of which each does what is said."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(run, "do_there", _as_told)
    monkeypatch.setattr(run, "_work", lambda steps, jobs, *more: [Work(job, "6.1", "tcg", True) for job in jobs])
    _DONE.clear()
    _PROCESSES.clear()

    def carry_out(script: dict[str, list[dict[str, Any]]], **options: Any) -> run.Matrix:
        _SCRIPT.update(script)
        jobs = [Job("run", "", "bookworm-686", cpu, "") for cpu in script]
        return run.matrix(steps, jobs, **{"cores": 2, **options})

    return carry_out


def test_a_job_whose_process_was_lost_is_done_again_and_given_up_after_three(told: Any) -> None:
    found = told(
        {
            "lost once": [{LOST: "it was killed"}, _outcome("passed")],
            "lost always": [{LOST: "it was killed", "detail": "its last words"}],
            "fine": [_outcome("passed")],
        }
    )
    assert [cell.outcome["outcome"] for cell in found.cells] == ["passed", "failed", "passed"]
    assert "it was killed, 3 times" in found.cells[1].outcome["why"]
    assert found.cells[1].to_json()["detail"] == "its last words"
    assert sorted(_DONE) == ["fine"] + ["lost always"] * 3 + ["lost once"] * 2
    assert not found.ok


@pytest.mark.timeout(60)
def test_a_kernel_that_a_worker_loses_is_sent_again_and_the_job_is_given_up(
    told: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its cache was emptied. The job had gone to and fro for ever."""
    sent: list[str] = []

    def send(self: run._Run, address: str, artefact: str, kernel: str) -> None:
        if (address, artefact) not in self._sent:
            sent.append(artefact)
            self._sent.add((address, artefact))

    monkeypatch.setattr(run._Run, "_send", send)
    script = {"lost once": [{LACKS: "a"}, {LACKS: "a"}, _outcome("passed")], "lost always": [{LACKS: "b"}]}
    found = told(script, cores=1)
    assert [cell.outcome["outcome"] for cell in found.cells] == ["passed", "failed"]
    assert "is not there, 3 times" in found.cells[1].outcome["why"]
    assert (sent.count("a"), sent.count("b")) == (2, 4)


def test_what_is_done_is_not_done_again_but_what_failed_is(told: Any) -> None:
    script = {"good": [_outcome("passed")], "no": [_outcome("refused", "no SEP")], "bad": [_outcome("failed", "x")]}
    assert not told(script).ok
    _DONE.clear()
    again = told({**script, "bad": [_outcome("passed")]})
    assert _DONE == ["bad"]
    assert again.ok
    assert [cell.kept for cell in again.cells] == [True, True, False]
    told(script | {"new": [_outcome("passed")]}, only_done=True)
    assert _DONE == ["bad"]
    told(script, again=True)
    assert len(_DONE) == 1 + 3


def test_the_longest_begins_first_by_what_each_took_last(told: Any) -> None:
    """So that no long one is left at the end, while the other cores wait."""
    took = {"short": 1.0, "long": 9.0, "middle": 5.0}
    script = {cpu: [{**_outcome("passed"), "cpu_seconds": seconds}] for cpu, seconds in took.items()}
    told(script, cores=1)
    assert _DONE == ["short", "long", "middle"], "as asked, where nobody knows"
    _DONE.clear()
    found = told(script, cores=1, again=True)
    assert _DONE == ["long", "middle", "short"]
    assert [cell.job.cpu for cell in found.cells] == ["short", "long", "middle"]


def test_the_share_is_of_all_cores_that_were_given(told: Any) -> None:
    """A job that is alone has them all, and what it leaves idle is told."""
    found = told({"alone": [{**_outcome("passed"), "cpu_seconds": 0.0}]}, cores=4)
    assert (found.cores, found.core_share) == (4, 0.0)
    assert _PROCESSES == [4]
    told({"one": [_outcome("passed")], "two": [_outcome("passed")]}, cores=4)
    assert _PROCESSES == [4, 2, 2]


def test_a_machine_that_cannot_is_named_and_what_is_done_is_kept(told: Any) -> None:
    script = {"good": [_outcome("passed")], "no QEMU": [{UNABLE: "qemu-system-i386 is not installed"}]}
    told({"good": script["good"]})
    with pytest.raises(
        SysenterError, match=r"cannot do the jobs: qemu-system-i386 is not installed \(what is done is kept"
    ):
        told(script)
    assert _DONE.count("good") == 1


def test_a_scheduler_that_is_not_there_is_one_line(cli: RunCli) -> None:
    arguments = ("matrix", "--kernel", "bookworm-686", "--cpu", "486", "--scheduler", "tcp://127.0.0.1:1")
    assert "no Dask scheduler answers at tcp://127.0.0.1:1" in one_line_error(cli(*arguments, "--again"))


def test_an_address_that_is_none_is_one_line(cli: RunCli) -> None:
    for option, address in (("--scheduler", "host"), ("--worker", "tcp://host:port")):
        said = one_line_error(cli("matrix", option, address))
        assert f"'{address}' is no address of a Dask scheduler (give one, as tcp://host:8786)" in said


@pytest.mark.parametrize("greeting", [b"", b"SSH-2.0-x\r\n", None], ids=["closes", "speaks otherwise", "is silent"])
def test_what_listens_and_is_no_scheduler_is_one_line(monkeypatch: pytest.MonkeyPatch, greeting: bytes | None) -> None:
    """As when the port is another program's. Dask's client waits for its answer for ever."""
    monkeypatch.setattr(run, "_SILENCE", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as other:

        def answer() -> None:
            with other.accept()[0] as connection:
                if greeting is None:
                    connection.recv(1)  # until the other side gives up
                else:
                    connection.sendall(greeting)

        thread = threading.Thread(target=answer)
        thread.start()
        address = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(SysenterError, match=f"no Dask scheduler answers at {address}"), run._cluster(address, 1):
            pass
        thread.join(10)


def test_a_worker_without_qemu_is_one_line(cli: RunCli, tmp_path: Path) -> None:
    for tool in ("python3", "gcc"):
        (tmp_path / tool).symlink_to(f"/usr/bin/{tool}")
    done = cli("matrix", "--worker", "tcp://127.0.0.1:1", env={"PATH": str(tmp_path)})
    assert "this machine cannot be a worker: no qemu-system-i386" in one_line_error(done)


def test_what_is_done_is_shown_without_a_network(cli: RunCli, tmp_path: Path) -> None:
    env = {"XDG_CACHE_HOME": str(tmp_path), "SYSENTER_DEBIAN_MIRROR": "http://127.0.0.1:1/debian/"}
    done = cli("matrix", "--kernel", "bookworm-686", "--done", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert "0 of 1 jobs are done" in done.stdout


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> run.Matrix:
    """What the command is told that came of its jobs."""
    figures = {"scope": "all", "accelerator": "kvm", "instructions": {}}
    cell = run.Cell(
        Job("run", "", "bookworm-amd64", "", ""), {**_outcome("passed"), "figures": figures, "worker": ""}, False
    )
    found = run.Matrix([cell], asked=1)
    monkeypatch.setattr("sysenter.ending.catch_signals", lambda: None)
    monkeypatch.setattr(run, "matrix", lambda *given, **more: found)
    return found


def test_the_page_has_the_command_that_made_it_and_says_what_ran_it(made: run.Matrix, tmp_path: Path) -> None:
    page = tmp_path / "support.md"
    words = ["--kernel", "bookworm-amd64", "--kernel", "/home/me/mine/kernel.toml", "--cpu", "EPYC"]
    words += ["--append", "pti=on x --y", "--rounds", "3", "--json", "/dev/null", "--support", str(page)]
    (tmp_path / "m.toml").write_text("[[product]]\nkernels = ['bookworm-686']\n")
    assert cli_main(["matrix", str(tmp_path / "m.toml"), *words]) == 0
    said = page.read_text()
    command = said.split("made by\n\n")[1].split("\n\n")[0].split(" \\\n")
    assert [line.strip() for line in command] == [
        f"./sysenter matrix {tmp_path}/m.toml",
        "--kernel bookworm-amd64",
        "--kernel .../mine/kernel.toml",
        "--cpu EPYC",
        "--append 'pti=on x --y'",
        "--rounds 3",
        f"--support {page}",
    ]
    assert "KVM ran it: it shows what works" in said
    made.cells[0].outcome["figures"]["accelerator"] = "tcg"
    assert cli_main(["matrix", "--support", str(page)]) == 0
    assert "It is emulation (TCG): it shows" in page.read_text()


def test_of_what_failed_its_own_lines_are_shown(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    failed = {**_outcome("failed", "gcc failed with status 1"), "detail": "hazards.h:320: error"}
    cell = run.Cell(Job("hazards", "", "bookworm-686", "", ""), failed, False)
    monkeypatch.setattr("sysenter.ending.catch_signals", lambda: None)
    monkeypatch.setattr(run, "matrix", lambda *given, **more: run.Matrix([cell], asked=1))
    assert cli_main(["matrix", "--kernel", "bookworm-686", "--job", "hazards"]) == 1
    said = capsys.readouterr()
    assert "FAILED [1]" in said.out
    assert "hazards.h:320: error\nsysenter: 1 of 1 jobs failed or differ; hazards bookworm-686: gcc" in said.err


def test_two_jobs_on_a_real_kernel(cli: RunCli, tmp_path: Path) -> None:
    """Both scopes, at once; then they are done, and the table is there without a boot."""
    file = tmp_path / "m.json"
    arguments = ["matrix", "--kernel", "bookworm-686", "--scope", "marked", "--scope", "all", "--rounds", "1"]
    arguments += ["--count", "500", "--json", str(file)]
    first = cli(*arguments, "--again", timeout=500)
    assert first.returncode == 0, first.stderr
    said = json.loads(file.read_text())
    schemas.hold("matrix", said)
    assert said["complete"]
    marked, every = said["jobs"]
    assert [job["outcome"] for job in said["jobs"]] == ["passed", "passed"]
    for job, path in ((marked, "fast"), (every, "all")):
        calls = job["figures"]["instructions"]["getppid"]
        assert calls[path] < calls["stock"] - 50, job
    page = tmp_path / "support.md"
    again = cli(*arguments, "--support", str(page), env={"PATH": os.environ["PATH"]}, timeout=60)
    assert again.returncode == 0, again.stderr
    assert "2 of 2 jobs are done already" in again.stderr
    assert all(job["kept"] for job in json.loads(file.read_text())["jobs"])
    assert f"{calls['stock']} / " in page.read_text()


@pytest.mark.long
@pytest.mark.parametrize("kernel", ["bookworm-686", "bookworm-amd64"])
def test_every_other_job_on_a_real_kernel(cli: RunCli, kernel: str, tmp_path: Path) -> None:
    """A small part of each; `run` is above. What each found is in JSON, and none is failed."""
    file = tmp_path / "m.json"
    jobs = {"selftests:clone3", "mitigations", "bench:calls/null", "hazards:test_where_the_kernel_patches_its_text"}
    if kernel == "bookworm-686":  # an own handler of no other kernel's
        jobs |= {"check:legacy-cruel", "mutants:legacy-cruel"}
    words = [word for job in sorted(jobs) for word in ("--job", job)]
    done = cli("matrix", "--kernel", kernel, *words, "--again", "--json", str(file), timeout=1400)
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(file.read_text())
    schemas.hold("matrix", said)
    assert {job["job"]: job["outcome"] for job in said["jobs"]} == dict.fromkeys(jobs, "passed"), done.stdout
    figures = {job["job"].partition(":")[0]: job["figures"] for job in said["jobs"]}
    assert figures["selftests"]["same"] == figures["selftests"]["programs"] > 2
    assert figures["mitigations"]["stock"]
    assert figures["bench"]["workloads"]["calls/null"]["fast"]["instructions"] > 1e6
    assert figures["hazards"]["passed"] >= 1
