# SPDX-License-Identifier: GPL-2.0-or-later
"""An NMI and a machine check before each instruction that a fast call executes of ours, on real kernels.

The checker tries them in its model of the machine; here the handlers are the kernel's own.
"""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gdbstub import options as gdb_options
from gdbstub import steps_of_a_call, stop_at_each
from monitor import Command, monitor
from sysenter.build.module import build_module
from sysenter.kernels.provide import provide
from sysenter.lab.guest import guest_for, is_clean
from sysenter.steps import Steps

# Bank 1: valid, uncorrected, enabled, signalled, a memory scrubber's, which asks for nothing (SDM 3B 16.6, 16.9.3);
# in MCG_STATUS: the program can go on, a machine check in progress.
MACHINE_CHECK = "mce 0 1 0xb1000000000000c0 0x5 0 0"
# The kernels' own text, where nokaslr leaves it; what else is executed of a call is ours.
TEXT = {"i386": range(0xC1000000, 0xC2000000), "amd64": range(0xFFFFFFFF81000000, 0xFFFFFFFF84000000)}

# The load ends when nothing has come for two seconds of the guest's, whose clock stands while it is stopped.
TASK = """
insmod /lib/sysenter/msr.ko; insmod /sysenter.ko || exit 99
load() {
	while [ -e /tmp/go ]; do
		SYSENTER_CALLS=all LD_PRELOAD=/lib/sysenter/libsysenter.so /lib/sysenter/callers || echo "callers: $?"
	done
}
came() { awk '/^ *(NMI|MCE):/ { printf "%s %d ", $1, $2 }' /proc/interrupts; }
touch /tmp/go; load &
none=$(came); before=; now=$none
/lib/sysenter/msr
for second in $(seq 60); do
	before=$now; sleep 2; now=$(came)
	[ "$now" != "$none" ] && [ "$now" = "$before" ] && break
done
rm /tmp/go; wait
echo "$now"
rmmod sysenter && echo went
"""


class Beside:
    """Finds the instructions once the guest has told where the entry is, then stops at each, twice."""

    def __init__(self, socket: Path, send: Command, bits: int, text: range) -> None:
        self._socket, self._send, self._bits, self._text = socket, send, bits, text
        self.ours: list[int] = []
        self.stopped: list[int] = []
        self._thread: threading.Thread | None = None

    def __call__(self, record: dict[str, Any]) -> None:
        if "eip" in record and not self._thread:
            self._thread = threading.Thread(target=self._run, args=(int(record["eip"], 16),))
            self._thread.start()

    def _run(self, entry: int) -> None:
        # On i386 other calls come here too, and go to the kernel's entry soon. Of the fast ones
        # one may find work to do at its end: what most of them execute.
        paths: Counter[tuple[int, ...]] = Counter()
        for _ in range(100):
            steps = steps_of_a_call(self._socket, entry, self._bits, 30)
            ours = tuple(a for a in steps if a not in self._text)
            if len(ours) > 20:
                paths[ours] += 1
            if paths.total() == 5:
                break
        self.ours = list(dict.fromkeys(paths.most_common(1)[0][0]))
        for command in ("nmi", MACHINE_CHECK):
            self.stopped += stop_at_each(self._socket, self.ours, lambda c=command: self._send(c), 30)  # type: ignore[misc]

    def join(self) -> None:
        assert self._thread, "the guest never said where the entry is"
        self._thread.join()


@pytest.mark.parametrize(
    ("kernel", "append"),
    [
        ("bookworm-686", ""),
        ("bookworm-686-pae", "pti=on"),
        pytest.param("bookworm-amd64", "pti=on", marks=pytest.mark.long),
        ("trixie-backports-amd64", "pti=on"),
        pytest.param("trixie-backports-amd64", "nopti", marks=pytest.mark.long),
    ],
)
def test_nmi_and_machine_check_at_every_instruction(steps: Steps, kernel: str, append: str, tmp_path: Path) -> None:
    target = provide(steps, kernel, offline=False)
    guest, module = guest_for(steps, target, "tcg"), build_module(steps, target)
    with monitor(tmp_path) as (options, send):
        beside = Beside(tmp_path / "gdb", send, target.bits, TEXT[target.arch])
        output = guest.run(
            steps, TASK, {"sysenter.ko": module.module.read_bytes()}, what="every instruction", timeout=200,
            machine=guest.machine(append=append, extra=(*options, *gdb_options(tmp_path / "gdb"))), on_record=beside,
        )  # fmt: skip
        beside.join()
    assert not is_clean(output.console), output.console[-4000:]
    assert len(beside.ours) >= 30, beside.ours
    assert beside.stopped == 2 * beside.ours
    assert output.text == (f"NMI: {len(beside.ours)} MCE: {len(beside.ours)} ", "went"), output.text
