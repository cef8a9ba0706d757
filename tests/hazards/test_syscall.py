# SPDX-License-Identifier: GPL-2.0-or-later
"""Entry by AMD's SYSCALL, which begins and ends on the caller's stack pointer: nothing is
written there, whatever interrupts it, and the task gates that see to it lose nothing."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cases import assert_each_did_its_part
from gdbstub import options as gdb_options
from gdbstub import stop_at_each
from monitor import Command, again_and_again, monitor
from shell import FREE_MEMORY, LOAD
from sysenter.build.module import Module
from sysenter.build.present import build_present_module
from sysenter.lab.guest import Guest, Output
from sysenter.lab.qemu import GuestLost
from sysenter.steps import Steps
from sysenter.target.target import Target

pytestmark = pytest.mark.parametrize(
    "target",
    ["bookworm-686", pytest.param("bookworm-686-pae", marks=pytest.mark.long)],
    indirect=True,
    scope="session",
)

K6_STYLE = "athlon,-sep,+syscall"
BOTH = "athlon,+syscall"
# Linux warns of an Athlon on several processors by itself.
SMP = "Opteron_G1,-sep,+syscall"

# The address of a symbol of the module's, and where its exit by SYSRET begins and ends.
AT = """
at() { echo $((0x$(awk -v name=$1 '$3 == name { print $1 }' /proc/kallsyms))); }
places() {
	echo "{\\"stub\\": $(at sysenter_syscall_stubs), \\"leave\\":" \\
		"$(($(at sysenter_leaves) + $(at sysenter_leave_syscall_sysret) - $(at sysenter_leave_syscall)))}"
}
"""
Run = Callable[..., Output]


@pytest.fixture
def run(steps: Steps, guest: Guest, module: Module, tmp_path: Path) -> Run:
    """Run a task with the module loaded by entry=syscall; the kernel's log must stay clean.

    beside: given each record as it comes, and a function that commands QEMU's monitor.
    wake: seconds between attempts to wake the machine.
    """

    def run(
        task: str,
        *,
        cpu: str = K6_STYLE,
        cpus: int = 1,
        files: dict[str, bytes] | None = None,
        timeout: float = 120,
        extra: Sequence[str] = (),
        real_boot: bool = False,
        wake: float = 0,
        memory: int = 256,
        beside: Callable[[dict[str, Any], Command], None] = lambda record, send: None,
    ) -> Output:
        with monitor(tmp_path) as (options, send):
            smp = ("-smp", f"{cpus},sockets={cpus}")  # test_life.py says why
            machine = guest.machine(cpu=cpu, cpus=cpus, extra=(*smp, *options, *extra), memory=memory)
            if real_boot:
                machine = replace(machine, kernel=guest.target.image)
            with again_and_again(wake or 3600, lambda: send("system_wakeup")):
                output = guest.run(
                    steps,
                    AT + LOAD + "touch /tmp/go\n"
                    "[ -e /second ] && { sh /second || exit 0; }\ninsmod /lib/sysenter/msr.ko\n"
                    "insmod /sysenter.ko entry=syscall || exit 99\n" + task,
                    {"sysenter.ko": module.module.read_bytes(), **(files or {})},
                    what="SYSCALL",
                    timeout=timeout,
                    machine=machine,
                    on_record=lambda record: beside(record, send),
                )
        assert not output.bad_lines(), output.console[-4000:]
        assert output.status == 0, output.text
        assert not [line for line in output.text if line.startswith("callers:")], output.text
        return output

    return run


class Stops:
    """Stops the machine at each place of the window, once the guest has told where they are."""

    def __init__(self, folder: Path, command: str, places: int = 3) -> None:
        self._socket, self._command, self._places = folder / "gdb", command, places
        self.options = gdb_options(self._socket)
        self.stopped: list[int] = []
        self.wanted: list[int] = []
        self._thread = threading.Thread(target=lambda: None)

    def __call__(self, record: dict[str, Any], send: Command) -> None:
        if "stub" not in record:
            return
        # ESP is the caller's before the stub's two first instructions (2 bytes, the first) and before SYSRET
        self.wanted = [record["stub"], record["stub"] + 2, record["leave"]][: self._places]

        def stop() -> None:
            self.stopped = stop_at_each(self._socket, self.wanted, lambda: send(self._command), 30)

        self._thread = threading.Thread(target=stop)
        self._thread.start()

    def join(self) -> None:
        assert self.wanted, "the guest never said where the window is"
        self._thread.join()


def test_a_user_with_tf_writes_nowhere(run: Run) -> None:
    """#DB at the entry's first instruction, ESP anywhere: user memory, the kernel's, none."""
    output = run("/lib/sysenter/window step")
    assert [r["esp"] for r in output.records if "esp" in r] == ["user", "kernel", "unmapped", "zero", "last"]
    for record in output.records:
        assert record["changed"] == 0, record
        assert record["traps"] >= 1, record
        assert record["faults"] == (record["esp"] != "user"), record


def test_an_nmi_at_each_place_of_the_window_writes_nowhere(run: Run, tmp_path: Path) -> None:
    stops = Stops(tmp_path, "nmi")
    task = "places; /lib/sysenter/window calls 400000; awk '/NMI:/ { print \"nmis\", $2 }' /proc/interrupts"
    output = run(task, extra=stops.options, beside=stops)
    stops.join()
    assert stops.stopped == stops.wanted
    assert "nmis 3" in output.text, output.text
    record = next(r for r in output.records if "calls" in r)
    assert record["changed"] == 0, "an NMI wrote below the caller's ESP"
    assert record["right"] == record["calls"]


def test_a_machine_check_in_the_window_reaches_the_kernel(run: Run, tmp_path: Path) -> None:
    """An uncorrected error is the machine's end, told as such; bank 1: VAL, UC; RIPV, MCIP."""
    stops = Stops(tmp_path, "mce 0 1 0xa000000000000000 0x5 0 0", places=1)
    with pytest.raises(GuestLost, match="the kernel panicked") as lost:
        run("places; /lib/sysenter/window calls 400000; echo survived", extra=stops.options, beside=stops)
    stops.join()
    assert "{sysenter_syscall_odd_flags" in lost.value.detail
    assert "Fatal local machine check" in lost.value.detail


@pytest.fixture(scope="session")
def nmis(module_of: Callable[[str], bytes]) -> bytes:
    """A module that sends NMIs to CPU 0, as fast as that takes them (tests/native/nmis)."""
    return module_of("nmis")


def test_nmis_everywhere_lose_no_page_tables_and_no_segments(run: Run, nmis: bytes) -> None:
    """A task switch saves neither CR3 nor LDTR: also where the kernel is just changing them."""
    output = run(
        """
flip() { while [ -e /tmp/go ]; do taskset 1 sh -c 'echo x | cat >/dev/null'; done; }
load "taskset 1" & flip &
for one in 1 2 3; do taskset 1 /lib/sysenter/ldt 15 & done
insmod /nmis.ko stub=$(at sysenter_syscall_odd_flags) leave=$(at sysenter_leaves) || exit 98
sleep 15
# on a busy host few NMIs come in 15 seconds
for second in $(seq 60); do [ $(cat /sys/module/nmis/parameters/stepped) -gt 0 ] && break; sleep 1; done
rm /tmp/go; wait
for name in taken in_stub stepped wrong_tables; do
	echo "{\\"$name\\": $(cat /sys/module/nmis/parameters/$name)}"
done
rmmod nmis && rmmod sysenter && echo went
""",
        cpu=SMP,
        cpus=2,
        files={"nmis.ko": nmis},
        timeout=180,
    )
    counts = {key: value for record in output.records for key, value in record.items()}
    assert counts["taken"] > 300, counts
    assert counts["stepped"] > 0, f"no NMI came while page tables were changed: {counts}"
    assert counts["wrong_tables"] == 0, counts
    assert output.of("wrong") == [0, 0, 0], output.records
    assert min(output.of("rounds")) > 1000, output.records
    assert "went" in output.text


@pytest.mark.parametrize("cpu", [BOTH])
def test_hostile_callers_by_syscall_and_by_the_kernels_entry_give_the_same(run: Run, cpu: str) -> None:
    programs = [f"hazards_{name}" for name in ("calls", "signals", "arch", "watch")]
    lines = [f"/lib/sysenter/{program}; /lib/sysenter/{program} -root" for program in programs]
    output = run(
        "\n".join(
            [
                "mount -t tracefs tracefs /sys/kernel/tracing",
                *lines,
                "echo calls $(cat /sys/module/sysenter/parameters/calls)",
                "rmmod sysenter && echo went",
            ]
        ),
        cpu=cpu,
        timeout=250,
    )
    differ = [r for r in output.records if not r["same"]]
    assert not differ, "\n".join(f"{r['case']}:\n  fast  {r['fast']}\n  stock {r['stock']}" for r in differ)
    assert_each_did_its_part({r["case"]: r["stock"] for r in output.records}, programs, "i386")
    assert "went" in output.text
    assert next(int(line.split()[1]) for line in output.text if line.startswith("calls")) > 1000


def test_processors_go_off_and_on_line(run: Run) -> None:
    output = run(
        """
load & load & load & load &
for turn in 1 2 3 4 5; do
	for cpu in 1 2 3; do echo 0 >/sys/devices/system/cpu/cpu$cpu/online; sleep 0.1; done
	for cpu in 3 1 2; do echo 1 >/sys/devices/system/cpu/cpu$cpu/online; done
done
rm /tmp/go; wait
for mask in 1 2 4 8; do taskset $mask /lib/sysenter/window step; done
/lib/sysenter/msr
rmmod sysenter && echo went
/lib/sysenter/msr
""",
        cpu=SMP,
        cpus=4,
        timeout=180,
    )
    assert output.of("changed") == [0] * 20
    stars, efers = output.of("star"), [int(efer, 16) & 1 for efer in output.of("efer")]
    assert len(set(stars[:4])) == 4, "each processor has a stub of its own"
    assert efers == [1, 1, 1, 1, 0, 0, 0, 0]
    assert "went" in output.text


@pytest.mark.long
@pytest.mark.parametrize("cpus", [1, 4])
def test_suspend_to_memory(run: Run, cpus: int) -> None:
    output = run(
        """
load & load &
for time in 1 2 3; do
	sleep 1
	echo mem >/sys/power/state && echo "slept $time"
	/lib/sysenter/window step
	/lib/sysenter/msr
done
rm /tmp/go; wait
rmmod sysenter && echo went
""",
        cpu=SMP,
        cpus=cpus,
        wake=1,
        real_boot=True,
        timeout=180,
    )
    assert list(output.text) == ["slept 1", "slept 2", "slept 3", "went"]
    assert output.of("changed") == [0] * 15
    assert len({r["star"] for r in output.records if "star" in r}) == cpus
    efers = output.of("efer")
    assert len(efers) == 3 * cpus, efers
    assert all(int(efer, 16) & 1 for efer in efers)


# In the second kernel: the registers are shown, and nothing is loaded.
SECOND = b"""
grep -q second /proc/cmdline || exit 0
insmod /lib/sysenter/msr.ko
/lib/sysenter/msr
exit 1
"""


@pytest.mark.long
def test_the_next_kernel_by_kexec_has_it_off(run: Run, target: Target) -> None:
    """It does not know of EFER.SCE: a call would enter at an address of the kernel that has gone."""
    output = run(
        """
cd / && find . -xdev ! -path ./image | cpio -o -H newc >/tmp/initrd 2>/dev/null
/lib/sysenter/msr
/lib/sysenter/kexec /image /tmp/initrd "$(cat /proc/cmdline) second"
""",
        files={"image": target.image.read_bytes(), "second": SECOND},
        memory=512,
    )
    assert [int(efer, 16) & 1 for efer in output.of("efer")] == [1, 0]


@pytest.mark.long
def test_loads_and_leaves_again_and_again(run: Run) -> None:
    """The gates come and go under calls with TF and under interrupts; nothing of memory stays."""
    loads = int(os.environ.get("SYSENTER_LOADS", "40"))
    output = run(
        FREE_MEMORY
        + f"""
many() {{
	n=0
	while [ $n -lt $1 ]; do
		insmod /sysenter.ko entry=syscall || echo "failed at $n"
		/lib/sysenter/window step >/tmp/said
		rmmod sysenter || echo "failed at $n"
		grep -v '"changed": 0' /tmp/said
		n=$((n + 1))
	done
}}
/lib/sysenter/msr >/tmp/loaded
rmmod sysenter
many 20
before=$(free_memory)
many {loads}
echo "lost $((before - $(free_memory)))"
/lib/sysenter/msr >/tmp/after
cmp -s /tmp/loaded /tmp/after || echo changed
""",
        cpu=SMP,
        cpus=2,
        timeout=100 + loads,
    )
    lost = next(int(line.split()[1]) for line in output.text if line.startswith("lost"))
    assert [line for line in output.text if not line.startswith("lost")] == ["changed"], output.text
    # a load that left a stack of 8 KiB behind each time would be twice that
    assert lost < 4 * max(loads, 40), f"{lost} KiB"


def test_a_load_that_fails_at_any_step_leaves_nothing_behind(run: Run, steps: Steps, target: Target) -> None:
    faulty = build_present_module(steps, target, what=" (with faults)", options="-DSYSENTER_FAULT_INJECTION")
    output = run(
        """
rmmod sysenter
/lib/sysenter/msr >/tmp/before
[ -s /tmp/before ] || echo "no registers"
step=1
while [ $step -lt 150 ]; do
	if insmod /faulty.ko fail_at=$step entry=syscall 2>/dev/null; then
		# twice in a row: the end, not a fault that did not matter
		[ "$last" = $((step - 1)) ] && break
		last=$step
		rmmod sysenter
	fi
	/lib/sysenter/msr | cmp - /tmp/before || echo "registers differ after $step"
	ls -d /dev/sysenter /sys/module/sysenter 2>/dev/null
	step=$((step + 1))
done
/lib/sysenter/window step
rmmod sysenter && echo "loaded at $step"
""",
        files={"faulty.ko": faulty.module.read_bytes()},
        timeout=180,
    )
    assert len(output.text) == 1, output.text
    assert 20 < int(output.text[0].split()[2]) < 150, output.text
    assert output.of("changed") == [0] * 5
