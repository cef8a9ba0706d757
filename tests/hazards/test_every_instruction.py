# SPDX-License-Identifier: GPL-2.0-or-later
"""An NMI and a machine check before the instructions of ours that calls execute, on real kernels.

The checker tries them in its model of the machine; here the handlers are the kernel's own.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from gdbstub import options as gdb_options
from gdbstub import steps_of_a_call, stop_at_each
from guests import guest_for
from monitor import Command, monitor
from shell import LOAD, load_module
from sysenter.build import build_module
from sysenter.kernels.provide import provide
from sysenter.lab.gdbstub import attached
from sysenter.steps import Steps

# Bank 1: valid, uncorrected, enabled, signalled, a memory scrubber's, which asks for nothing; in MCG_STATUS:
# the program can go on, a machine check in progress (SDM 3B, Machine-Check Architecture).
MACHINE_CHECK = "mce 0 1 0xb1000000000000c0 0x5 0 0"
# The kernels' own text, where nokaslr leaves it; what else is executed of a call is ours.
TEXT = {"i386": range(0xC1000000, 0xC2000000), "amd64": range(0xFFFFFFFF81000000, 0xFFFFFFFF84000000)}

# First come the NMIs, then the machine checks. Each second it says how many it had of both; when those have
# been heard, one more NMI says that it is over.
TASK = (
    LOAD
    + """
insmod /lib/sysenter/msr.ko
MODULE
odd_load() {
	while [ -e /tmp/go ]; do
		/lib/sysenter/hazards_calls flags numbers registers >/tmp/said.$1 || cat /tmp/said.$1
		# unmodified programs' words are held against what they said without the module
		[ ! -e /tmp/stock ] || cmp /tmp/stock /tmp/said.$1 || cat /tmp/said.$1
		/lib/sysenter/hazards_signals thousand_alarms >/tmp/said.$1 || cat /tmp/said.$1
		grep -q '"wrong 0 ' /tmp/said.$1 || cat /tmp/said.$1
	done
}
came() { awk -v what=$1: '$1 == what { print $2 }' /proc/interrupts; }
touch /tmp/go; load & odd_load 1 & odd_load 2 &
# ENTRY
before=0
for second in $(seq 180); do
	nmis=$(came NMI) mces=$(came MCE)
	echo "{\\"NMI\\": $nmis, \\"MCE\\": $mces}"
	[ $mces -gt 0 ] && [ $nmis -gt $before ] && break
	before=$nmis; sleep 1
done
rm /tmp/go; wait
rmmod sysenter && echo went
"""
)
# What unmodified programs say without the module; where the stand-in for do_syscall_64() is.
STOCK = "/lib/sysenter/hazards_calls flags numbers registers >/tmp/stock"
STAND_IN = """awk '$3 == "sysenter_all" { print "{\\"eip\\": \\"0x" $1 "\\"}" }' /proc/kallsyms"""


_FAST = 20  # instructions of ours: on i386 other calls come here too, and go to the kernel's entry soon
_ENOUGH = 10  # fast calls in a row that came to no new instruction


class Beside:
    """Finds the instructions once the guest has told where the entry is, then stops at each, twice.

    often: those that half of the fast calls executed. seen: all that were executed.
    """

    def __init__(self, socket: Path, send: Command, bits: int, text: range) -> None:
        self._socket, self._send, self._bits, self._text = socket, send, bits, text
        self.often: set[int] = set()
        self.seen: list[int] = []
        self.stopped: dict[str, list[int]] = {}
        self._heard = {"NMI": 0, "MCE": 0}
        self._thread: threading.Thread | None = None

    def __call__(self, record: dict[str, Any]) -> None:
        if "MCE" in record:
            self._heard = record
        elif "eip" in record and not self._thread:
            self._thread = threading.Thread(target=self._run, args=(int(record["eip"], 16),))
            self._thread.start()

    def _run(self, entry: int) -> None:
        ours: list[list[int]] = []
        known, nothing_new = set[int](), 0
        while len(ours) < 50 and nothing_new < _ENOUGH:
            whole = steps_of_a_call(self._socket, entry, self._bits, 30, over=self._text)
            steps = [a for a in whole if a not in self._text]
            if not known.issuperset(steps):
                nothing_new = 0
            elif len(steps) > _FAST:
                nothing_new += 1
            known.update(steps)
            ours.append(steps)
        fast = [steps for steps in ours if len(steps) > _FAST]
        counts = Counter(a for steps in fast for a in set(steps))
        self.often = {a for a, count in counts.items() if count > len(fast) / 2}
        self.seen = list(dict.fromkeys(a for steps in ours for a in steps))
        for what, command in (("NMI", "nmi"), ("MCE", MACHINE_CHECK)):
            self.stopped[what] = stop_at_each(self._socket, self.seen, partial(self._send, command), 3)
            limit = time.monotonic() + 30
            while self._heard[what] < len(self.stopped[what]) and time.monotonic() < limit:
                time.sleep(0.1)
        self._send("nmi")

    def join(self) -> None:
        assert self._thread, "the guest never said where the entry is"
        self._thread.join()


@pytest.mark.parametrize(
    ("kernel", "append", "scope"),
    [
        pytest.param("bookworm-686", "", "marked", marks=pytest.mark.long),
        pytest.param("bookworm-686-pae", "pti=on", "marked", marks=pytest.mark.long),
        pytest.param("bookworm-amd64", "pti=on", "marked", marks=pytest.mark.long),
        ("trixie-backports-amd64", "pti=on", "marked"),
        pytest.param("trixie-backports-amd64", "nopti", "marked", marks=pytest.mark.long),
        pytest.param("bookworm-686", "", "all", marks=pytest.mark.long),
        pytest.param("bookworm-amd64", "", "all", marks=pytest.mark.long),
        pytest.param("trixie-backports-amd64", "", "all", marks=pytest.mark.long),
    ],
)
def test_nmi_and_machine_check_at_every_instruction(
    steps: Steps, kernel: str, append: str, scope: str, tmp_path: Path
) -> None:
    target = provide(steps, kernel, offline=False)
    guest, module = guest_for(steps, target, "tcg"), build_module(steps, target)
    with monitor(tmp_path) as (options, send):
        beside = Beside(tmp_path / "gdb", send, target.arch.bits, TEXT[target.arch.name])
        task = TASK.replace("MODULE", load_module(scope, STOCK))
        task = task.replace("# ENTRY", STAND_IN if scope == "all" and target.arch.bits == 64 else "/lib/sysenter/msr")
        output = guest.run(
            steps,
            task,
            {"sysenter.ko": module.module.read_bytes()},
            what="every instruction",
            timeout=400,  # with scope=all, long calls are stepped through as well
            machine=guest.machine(append=append, extra=(*options, *gdb_options(tmp_path / "gdb"))),
            on_record=beside,
        )
        beside.join()
    assert not output.bad_lines(), output.console[-4000:]
    stopped = beside.stopped
    # the stand-in of scope=all has 27 on its way (docs/entries.md)
    assert len(beside.often) >= (25 if scope == "all" and target.arch.bits == 64 else 30), beside.often
    for what, places in stopped.items():  # a rare way may not have been gone again
        assert beside.often <= set(places), what
        assert len(places) > 0.7 * len(beside.seen), what
    assert output.of("NMI")[-1] == len(stopped["NMI"]) + 1, output.records[-3:]
    assert output.of("MCE")[-1] == len(stopped["MCE"]), output.records[-3:]
    assert output.text == ("went",), output.text
    # what a load says in JSON it shows only where something was wrong
    assert not output.of("case"), [record for record in output.records if "case" in record]


# Loads, until an NMI has come: the host has to be attached first.
LOADS = """
echo "{\\"initcall\\": $((0x$(awk '$3 == "do_one_initcall" { print $1 }' /proc/kallsyms)))}"
for n in $(seq 100); do
	insmod /sysenter.ko || echo "not loaded"
	[ $(awk '$1 == "NMI:" { print $2 }' /proc/interrupts) -gt 0 ] && break
	rmmod sysenter; sleep 0.2
done
awk '$1 == "NMI:" { print "NMIs", $2 }' /proc/interrupts
LD_PRELOAD=/lib/sysenter/libsysenter.so /lib/sysenter/callers; echo "callers $?"
rmmod sysenter && echo went
"""


@pytest.mark.parametrize("kernel", ["bookworm-686", pytest.param("bookworm-amd64", marks=pytest.mark.long)])
def test_an_nmi_behind_the_sysenter_that_is_tried_at_load(steps: Steps, kernel: str, tmp_path: Path) -> None:
    """On i386 its handler takes the entry stack for the sign of a task from user mode, and runs at the top of
    the task's stack: over the frames of the load that is going on."""
    target = provide(steps, kernel, offline=False)
    guest, module = guest_for(steps, target, "tcg"), build_module(steps, target)
    with module.module.open("rb") as file:
        symbols = ELFFile(file).get_section_by_name(".symtab")
        assert isinstance(symbols, SymbolTableSection)
        begin, landing = (
            next(iter(symbols.get_symbol_by_name(name) or [])) for name in ("init_module", "sysenter_trial_landing")
        )
    assert begin["st_shndx"] == landing["st_shndx"]
    stops: list[threading.Thread] = []

    def stop(initcall: int) -> None:
        # its argument, the module's init function: eax (regparm), or rdi, the sixth in the `g` packet
        at, size = (0, 4) if target.arch.bits == 32 else (5 * 8, 8)
        with attached(tmp_path / "gdb") as stub:
            stub.run_to(initcall, 60)
            init = int.from_bytes(stub.registers()[at : at + size], "little")
            stub.run_to(init - begin["st_value"] + landing["st_value"], 60)
            send("nmi")

    def beside(record: dict[str, Any]) -> None:
        if "initcall" in record:
            stops.append(threading.Thread(target=stop, args=(record["initcall"] & 2**target.arch.bits - 1,)))
            stops[0].start()

    with monitor(tmp_path) as (options, send):
        output = guest.run(
            steps,
            LOADS,
            {"sysenter.ko": module.module.read_bytes()},
            what="an NMI in the trial",
            timeout=120,
            machine=guest.machine(extra=(*options, *gdb_options(tmp_path / "gdb"))),
            on_record=beside,
        )
        stops[0].join()
    assert not output.bad_lines(), output.console[-4000:]
    assert output.text == ("NMIs 1", "callers 0", "went"), output.text
