# SPDX-License-Identifier: GPL-2.0-or-later
"""What tests share: real targets, fetched, built and booted once a session."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import sample
from guests import guest_for
from sysenter.build import build_module
from sysenter.build.module import Module
from sysenter.build.present import kbuild
from sysenter.kernels.catalogue import CATALOGUE
from sysenter.kernels.description import read_description
from sysenter.kernels.emulators import qemu_folder
from sysenter.kernels.provide import provide
from sysenter.lab.guest import Guest, Output
from sysenter.lab.qemu import patience, use_qemu
from sysenter.steps import Steps
from sysenter.target.target import Target

ROOT = Path(__file__).resolve().parent.parent

# nohup ignores SIGHUP, and every program that a test starts would inherit that.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Where a test's `target` or `kernel` is each amd64 kernel of Debian's own.
AMD64 = (
    pytest.param("bookworm-amd64", marks=pytest.mark.long),
    "bookworm-backports-amd64",
    "trixie-amd64",
    "trixie-backports-amd64",
)

# The environment of a locale whose character set is ASCII, as one of another country's is neither UTF-8.
ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}

RunCli = Callable[..., subprocess.CompletedProcess[str]]
Keep = Callable[[Path, str], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also the same hazards on further machines")
    parser.addoption("--minutes", default="0.4", metavar="N", help="how long the storm blows on each kernel (0.4)")
    parser.addoption("--kernel", metavar="NAME|FILE", help="only tests of kernels of its architecture, on this one")
    parser.addoption("--renew", action="store_true", help="write docs/path.png anew")
    parser.addoption("--sample", type=Path, metavar="FOLDER", help="also put the sample of report's page there")
    parser.addoption("--every-kernel", action="store_true", help="also the tests of 6.12, rt and cloud kernels, amd64")


def pytest_configure() -> None:
    """Both are inherited by the workers and by the commands that tests start.

    Without huge pages (prctl PR_SET_THP_DISABLE) the host clears less memory for a guest that lives for seconds.
    SYSENTER_QEMU=trixie: as --qemu has it.
    """
    ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)
    if os.environ.get("SYSENTER_QEMU") == "trixie":
        use_qemu(qemu_folder(Steps(), "trixie", offline=False))


# The oldest and the newest amd64 kernel get every test that names them. A 6.12 between them gets two (_EVERYWHERE).
# The other 6.12, and the flavours, get none. With --every-kernel all get all.
_BETWEEN = ("bookworm-backports-amd64",)
_OTHERS = ("trixie-amd64", *(e.name for e in CATALOGUE if e.flavour.startswith(("rt-", "cloud-"))))
_EVERYWHERE = ("test_it_builds_without_a_warning", "test_getppid_takes_no_more_instructions_than_promised")


def _move_to_kernel(items: list[pytest.Item], kernel: str) -> list[pytest.Item]:
    """The tests whose `target` or `kernel` is of this kernel's architecture, once each, with it instead."""
    name, amd64 = kernel, kernel.endswith("-amd64")
    if kernel.endswith(".toml"):
        kernel = str(Path(kernel).resolve())
        name, amd64 = Path(kernel).parent.name, read_description(Path(kernel)).arch.name == "amd64"
    moved: dict[tuple[object, ...], pytest.Item] = {}
    for item in items:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        for key in parameters.keys() & {"kernel", "target"}:
            if str(parameters[key]).endswith("-amd64") == amd64:
                shown = item.nodeid.replace(parameters[key], name)
                item._nodeid = shown  # type: ignore[attr-defined]
                parameters[key] = kernel
                moved.setdefault((item.location[0], getattr(item, "originalname", ""), *parameters.values()), item)
    return list(moved.values())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # what is asked for on top: an hour of storm, 1,000 loads
    asked = 60 * float(config.getoption("--minutes")) + int(os.environ.get("SYSENTER_LOADS", "0"))
    for item in items:
        if not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout((float(config.getini("timeout")) + asked) * patience()))
    if config.getoption("--kernel"):
        items[:] = _move_to_kernel(items, config.getoption("--kernel"))
        return
    for item in items:
        if item.get_closest_marker("long") and not config.getoption("--long"):
            item.add_marker(pytest.mark.skip(reason="one more machine for the same: runs with --long"))
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        name = next((parameters[key] for key in ("lab", "kernel", "target") if key in parameters), None)
        if name not in _BETWEEN + _OTHERS or config.getoption("--every-kernel"):
            continue
        if name in _OTHERS or getattr(item, "originalname", "") not in _EVERYWHERE:
            item.add_marker(pytest.mark.skip(reason=f"{name}: runs with --every-kernel"))


@pytest.fixture(scope="session")
def on_sample_page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Keep:
    """Have what a command wrote (file, name) on the sample of `report`'s page, which is made when all is done."""
    base = tmp_path_factory.getbasetemp()
    folder = base.parent if hasattr(request.config, "workerinput") else base
    return lambda file, name: sample.keep(folder / "sample", file, name)


_sample_said = pytest.StashKey[str]()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Make the sample page, once: the process that has workers, or is alone, does. If that fails, so do the tests."""
    config = session.config
    if hasattr(config, "workerinput") or config.option.collectonly:
        return
    try:
        base: Path = config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
        made = sample.make(base / "sample", config.getoption("--sample"))
    except Exception as error:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        config.stash[_sample_said] = f"there is no sample of the report's page: {type(error).__name__}: {error}"
        return
    if made:
        config.stash[_sample_said] = f"a sample of the report's page, of what these tests measured: {made}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if said := config.stash.get(_sample_said, ""):
        terminalreporter.write_line(said)


@pytest.fixture(scope="session")
def steps() -> Steps:
    return Steps()


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest, steps: Steps) -> Target:
    """bookworm-686, or the one that a test's indirect parameter names; guest and module follow."""
    return provide(steps, getattr(request, "param", "bookworm-686"), offline=False)


@pytest.fixture(scope="session")
def pae_target(steps: Steps) -> Target:
    return provide(steps, "bookworm-686-pae", offline=False)


@pytest.fixture(scope="session")
def module(steps: Steps, target: Target) -> Module:
    return build_module(steps, target)


@pytest.fixture(scope="session")
def guest(steps: Steps, target: Target) -> Guest:
    return guest_for(steps, target, "tcg")


@pytest.fixture
def in_guest(steps: Steps, guest: Guest, module: Module) -> Callable[..., Output]:
    """Run a task in the default guest, the module at /sysenter.ko; its log must stay clean."""

    def run(
        task: str,
        *,
        files: dict[str, bytes] | None = None,
        cpus: int = 1,
        timeout: float = 120,
        load: bool = True,
        append: str = "",
        memory: int = 256,
        cpu: str | None = None,
    ) -> Output:
        prologue = "insmod /sysenter.ko || exit 99\n" if load else ""
        everything = {"sysenter.ko": module.module.read_bytes(), **(files or {})}
        machine = guest.machine(cpu=cpu, cpus=cpus, append=append, memory=memory)
        output = guest.run(steps, prologue + task, everything, what="a test", timeout=timeout, machine=machine)
        assert not output.bad_lines(), output.console
        return output

    return run


@pytest.fixture
def cli() -> RunCli:
    """Run `python -m sysenter` as the launcher does."""

    def run(
        *arguments: str, timeout: float = 120, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "sysenter", *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src"), **(env or {})},
            stdin=subprocess.DEVNULL,
        )

    return run


@pytest.fixture(scope="session")
def module_of(steps: Steps, target: Target, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    """Build the test module of a folder of tests/native for the session's target."""

    def build(name: str) -> bytes:
        folder = tmp_path_factory.mktemp(name) / name
        shutil.copytree(ROOT / "tests/native" / name, folder)
        kbuild(steps, target, folder)
        (built,) = folder.glob("*.ko")
        return built.read_bytes()

    return build


def interruptible() -> None:
    """For preexec_fn: a shell starts what runs in the background with SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def one_line_error(done: subprocess.CompletedProcess[str]) -> str:
    """The message of a failed command, which must be its last line and no traceback."""
    assert done.returncode not in (0, None), done
    assert "Traceback" not in done.stderr, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("sysenter: "), done.stderr
    assert last.endswith(")"), f"no hint in: {last}"
    return last
