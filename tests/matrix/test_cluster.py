# SPDX-License-Identifier: GPL-2.0-or-later
"""A cluster of machines: a scheduler and two workers in network namespaces of their own, one killed at its work."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import ROOT, one_line_error
from legacy_kernels import KERNELS

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("ip"), reason="namespaces take root, and iproute2"),
]
_KERNELS = ("bookworm-686", "bookworm-686-pae")
_CPUS = ("pentium3", "core2duo", "athlon")
_BRIDGE = "sysenter-test"
_PORT = 18786


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=20)


class Cluster:
    """Machines on a bridge. Ours is 10.213.7.1; the scheduler runs there."""

    address = f"tcp://10.213.7.1:{_PORT}"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.workers: list[subprocess.Popen[bytes]] = []

    def add_machine(self, *, path: str = "", cache: str = "") -> subprocess.Popen[bytes]:
        """A namespace with a worker in it, one job at once. path: its PATH; cache: its cache folder."""
        number = len(self.workers) + 2
        name = f"sysenter-test-{number}"
        _ip("netns", "add", name)
        _ip("link", "add", f"sysent{number}", "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("link", "set", f"sysent{number}", "master", _BRIDGE, "up")
        _ip("-n", name, "addr", "add", f"10.213.7.{number}/24", "dev", "eth0")
        _ip("-n", name, "link", "set", "eth0", "up")
        _ip("-n", name, "link", "set", "lo", "up")
        env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        env |= {"PATH": path} if path else {}
        env |= {"XDG_CACHE_HOME": cache} if cache else {}
        log = (self.folder / f"worker-{number}").open("wb")
        argv = [shutil.which("ip") or "ip", "netns", "exec", name, sys.executable, "-m", "sysenter", "matrix"]
        argv += ["--cores", "1", "--worker", self.address]
        worker = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()
        self.workers.append(worker)
        return worker

    def said_by(self, number: int) -> str:
        """What the worker with this number, from 2, has said."""
        return (self.folder / f"worker-{number}").read_text()

    def wait_for_workers(self) -> None:
        for number in range(2, len(self.workers) + 2):
            end = time.monotonic() + 60
            while "works for" not in self.said_by(number):
                assert time.monotonic() < end, self.said_by(number)
                time.sleep(0.2)

    def matrix(self, *arguments: str) -> subprocess.Popen[str]:
        """The command, begun."""
        return subprocess.Popen(
            [sys.executable, "-m", "sysenter", "matrix", "--scheduler", self.address, *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    _ip("link", "add", _BRIDGE, "type", "bridge")
    scheduler = None
    try:
        _ip("addr", "add", "10.213.7.1/24", "dev", _BRIDGE)
        _ip("link", "set", _BRIDGE, "up")
        argv = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "10.213.7.1", "--port", str(_PORT)]
        with (tmp_path / "scheduler").open("wb") as log:
            scheduler = subprocess.Popen([*argv, "--no-dashboard"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        yield made
    finally:
        for process in filter(None, (*made.workers, scheduler)):
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()
            process.wait(10)
        for number in range(2, len(made.workers) + 2):
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip("netns", "del", f"sysenter-test-{number}")
        _ip("link", "del", _BRIDGE)


def _lines_of_jobs(told: str) -> list[str]:
    """The words of each job that is over, as often as it was told."""
    return [match[1] for match in re.finditer(r"^ *[\d.]+ s  (run \S+ \S+): ", told, re.M)]


def test_a_worker_that_is_killed_loses_nothing_and_nothing_is_done_twice(cluster: Cluster, tmp_path: Path) -> None:
    cluster.add_machine()
    second = cluster.add_machine()
    cluster.wait_for_workers()
    kernels = [word for kernel in _KERNELS for word in ("--kernel", kernel)]
    cpus = [word for cpu in _CPUS for word in ("--cpu", cpu)]
    file = tmp_path / "m.json"
    running = cluster.matrix(*kernels, *cpus, "--rounds", "1", "--count", "500", "--again", "--json", str(file))
    assert running.stderr is not None
    told = ""
    while not _lines_of_jobs(told):  # both are at work once one job is over
        line = running.stderr.readline()
        assert line, told
        told += line
    time.sleep(1)
    second.send_signal(signal.SIGKILL)
    shown, rest = running.communicate(timeout=1000)
    told += rest
    assert running.returncode == 0, shown + told
    said = json.loads(file.read_text())
    assert said["complete"]
    cells = [(job["kernel"], job["cpu"]) for job in said["jobs"]]
    assert sorted(cells) == sorted((kernel, cpu) for kernel in _KERNELS for cpu in _CPUS)
    assert {job["outcome"] for job in said["jobs"]} == {"passed"}
    over = _lines_of_jobs(told)
    assert len(over) == len(set(over)) == len(cells), told
    # nothing of the dead worker's is left running
    argv = ["ip", "netns", "pids", "sysenter-test-3"]
    left = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=True)
    assert not left.stdout.split()


def test_a_worker_without_qemu_is_named_once_and_the_other_does_its_jobs(cluster: Cluster, tmp_path: Path) -> None:
    """It says so itself when it is started without; one that loses QEMU later gets no more jobs."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for folder in ("/usr/sbin", "/usr/bin", "/sbin", "/bin"):
        for program in Path(folder).iterdir():
            with contextlib.suppress(FileExistsError):
                (tools / program.name).symlink_to(program)
    cluster.add_machine(path=str(tools))
    cluster.wait_for_workers()
    for name in ("qemu-system-i386", "qemu-system-x86_64"):
        (tools / name).unlink()
    running = cluster.matrix("--kernel", "bookworm-686", "--rounds", "1", "--count", "500", "--again")
    assert running.stderr is not None
    told = ""
    while "no more jobs for the worker tcp://10.213.7.2" not in told:
        line = running.stderr.readline()
        assert line, told
        told += line
    assert "qemu-system-i386 is not installed" in told
    cluster.add_machine()
    shown, rest = running.communicate(timeout=600)
    assert running.returncode == 0, shown + told + rest
    assert "passed" in shown
    assert (told + rest).count("no more jobs for") == 1
    without = cluster.add_machine(path=str(tools))
    assert without.wait(60) == 1
    assert "this machine cannot be a worker: no qemu-system-i386" in cluster.said_by(4)


def test_a_scheduler_that_goes_away_is_one_line(cluster: Cluster) -> None:
    running = cluster.matrix("--kernel", "bookworm-686", "--rounds", "1", "--count", "500", "--again")
    assert running.stderr is not None
    while "waiting for a worker" not in (line := running.stderr.readline()):
        assert line
    subprocess.run(["ip", "link", "set", _BRIDGE, "down"], check=True, timeout=20)
    pid = subprocess.run(
        ["pgrep", "-f", f"dask_scheduler --host 10.213.7.1 --port {_PORT}"], capture_output=True, text=True
    )
    for number in pid.stdout.split():
        os.kill(int(number), signal.SIGKILL)
    out, err = running.communicate(timeout=120)
    done = subprocess.CompletedProcess([], running.returncode, out, err)
    assert "is gone" in one_line_error(done)
    assert "what is done is kept" in err


@pytest.mark.skipif(not KERNELS, reason="SYSENTER_LEGACY_KERNELS names no folder with */kernel.toml")
def test_a_kernel_of_the_users_own_is_sent_once(cluster: Cluster, tmp_path: Path) -> None:
    """To a worker with an empty cache; two jobs."""
    cluster.add_machine(cache=str(tmp_path / "cache"))
    cluster.wait_for_workers()
    kernel = str(KERNELS[0])
    running = cluster.matrix("--kernel", kernel, "--cpu", "pentium3", "--cpu", "core2duo", "--rounds", "1", "--again")
    shown, told = running.communicate(timeout=900)
    assert running.returncode == 0, shown + told
    assert told.count(f"send {KERNELS[0].parent.name} to tcp://10.213.7.2") == 1
    assert shown.count("passed") == 2
    assert len(list((tmp_path / "cache/sysenter/matrix-kernels").glob("[0-9a-f]*"))) == 1
