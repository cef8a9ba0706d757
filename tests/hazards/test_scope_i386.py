# SPDX-License-Identifier: GPL-2.0-or-later
"""scope=all on i386: an unmodified program notices nothing but the time.

Its calls say with the module what they say without it: registers, all flags, signals, restarts,
ptrace, seccomp. That they are the module's at all is counted.
"""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from cases import assert_each_did_its_part
from guests import guest_for
from shell import LOAD, WAIT_FOR
from sysenter.build import build_module
from sysenter.build.module import Module
from sysenter.kernels.provide import provide
from sysenter.lab.guest import Guest
from sysenter.steps import Steps
from sysenter.target.target import Target

_MACHINES = [
    pytest.param("bookworm-686", 2, "preempt=full", "", id="686-2-preempt", marks=pytest.mark.long),
    pytest.param("bookworm-686", 4, "", "core2duo", id="686-4-lfence", marks=pytest.mark.long),
    # one: the kernel warns that these AMD processors are not suitable for SMP
    pytest.param("bookworm-686", 1, "", "athlon", id="686-1-amd", marks=pytest.mark.long),
    pytest.param("bookworm-686-pae", 2, "pti=on preempt=full", "", id="pae-2-pti-preempt"),
]


def _said(
    steps: Steps, kernel: str, cpus: int, append: str, cpu: str, programs: list[str], load: str
) -> tuple[dict[str, str], int]:
    """What each case says, and how many calls were the module's: after `load`, which may load it."""
    target = replace(provide(steps, kernel, offline=False), cpus=cpus)
    guest = guest_for(steps, target, "tcg")
    output = guest.run(
        steps,
        "\n".join(
            [
                "mount -t tracefs tracefs /sys/kernel/tracing",
                "echo 0 >/proc/sys/kernel/randomize_va_space",
                "export SYSENTER_PATH=stock",
                load,
                *(f"/lib/sysenter/{program}; /lib/sysenter/{program} -root" for program in programs),
                "echo calls $(cat /sys/module/sysenter/parameters/calls_all)",
                "rmmod sysenter",
                "echo went $?",
            ]
        ),
        {"sysenter.ko": build_module(steps, target).module.read_bytes()},
        what="unmodified programs",
        timeout=200,
        machine=guest.machine(append=append, cpu=cpu or target.cpu),
    )
    assert not output.bad_lines(), output.console
    calls = next(line for line in output.text if line.startswith("calls"))
    assert output.text[-1] == ("went 0" if load else "went 1"), output.text
    return {r["case"]: r["stock"] for r in output.records}, int(calls[5:] or 0)


@pytest.mark.parametrize(("kernel", "cpus", "append", "cpu"), _MACHINES)
def test_an_unmodified_program_sees_no_difference(steps: Steps, kernel: str, cpus: int, append: str, cpu: str) -> None:
    # the last turns auditing on, and from then on the kernel wants each call for itself
    programs = ["hazards_calls", "hazards_signals", "hazards_arch", "hazards_watch"]
    load = "insmod /sysenter.ko scope=all || exit 99; [ -e /dev/sysenter ] && exit 98"
    without, _ = _said(steps, kernel, cpus, append, cpu, programs, "")
    loaded, calls = _said(steps, kernel, cpus, append, cpu, programs, load)
    assert set(without) == set(loaded)
    # setsid() and getpgrp() are among all the numbers that are tried
    pid = re.compile(r"(?<![-\w])\d{2,5}\b")
    differ = [
        f"{case}:\n  without {was}\n  with    {loaded[case]}"
        for case, was in without.items()
        if was != loaded[case]
        and (case != "every_number_without_effect" or pid.sub("n", was) != pid.sub("n", loaded[case]))
    ]
    assert not differ, "\n".join(differ)
    assert_each_did_its_part(without, programs, "i386")
    assert calls > 1000


@pytest.mark.parametrize("target", ["bookworm-686"], indirect=True, scope="session")
def test_scope_decides_whose_calls_are_taken_and_says_so(steps: Steps, guest: Guest, module: Module) -> None:
    """Both kinds are counted, each by itself; a number that is nobody's is answered as ever."""
    counts = "cat /sys/module/sysenter/parameters/calls /sys/module/sysenter/parameters/calls_all"
    output = guest.run(
        steps,
        "\n".join(
            f"insmod /sysenter.ko scope={scope} && echo {scope} $(ls /dev | grep -c sysenter) "
            f"&& /lib/sysenter/calls >/dev/null; echo $({counts}); rmmod sysenter"
            for scope in ("marked", "all", "both")
        )
        + "\ninsmod /sysenter.ko scope=some; dmesg | grep 'refused: scope=some' | tail -1"
        "\ninsmod /sysenter.ko scope=all entry=syscall; dmesg | tail -1"
        "\nfor only_read in calls calls_all fast_table; do insmod /sysenter.ko $only_read=5; done"
        "\ndmesg | grep -o 'parameter .* can only be read' | sort -u | grep -c .",
        {"sysenter.ko": module.module.read_bytes()},
        what="scopes",
        timeout=120,
        machine=guest.machine(cpu="athlon,+syscall"),
    )
    assert not output.bad_lines(), output.console
    marked, marked_count, every, every_count, both, both_count, *refused = output.text
    assert (marked, every, both) == ("marked 1", "all 0", "both 1")
    total, unmarked = map(int, marked_count.split())
    assert total > 1000
    assert unmarked == 0
    total, unmarked = map(int, every_count.split())
    assert unmarked >= total > 1000  # read one after the other, by calls that count
    total, unmarked = map(int, both_count.split())
    assert total - unmarked > 1000
    assert unmarked > 1000
    assert any("scope=some is none of marked, all, both" in line for line in refused), refused
    assert any("no program of a 32-bit kernel calls by that" in line for line in refused), refused
    assert refused[-1] == "3", refused


@pytest.mark.parametrize("target", ["bookworm-686"], indirect=True, scope="session")
def test_who_is_not_served_pays_little(steps: Steps, guest: Guest, module: Module) -> None:
    """Guest instructions of calls that the entry sends on to the kernel's, without the module and with it. Of a watched
    task's frame only what the kernel's entry wants is built anew for each call."""
    output = guest.run(
        steps,
        "/lib/sysenter/watched; insmod /sysenter.ko scope=all || exit 99\n/lib/sysenter/watched",
        {"sysenter.ko": module.module.read_bytes()},
        what="counting",
        timeout=120,
        machine=guest.machine(icount=True),
    )
    assert not output.bad_lines(), output.console
    watched = [r for r in output.records if "watched" in r]
    before, after = watched[: len(watched) // 2], watched[len(watched) // 2 :]
    more = {a["watched"]: a["tsc"] - b["tsc"] for b, a in zip(before, after, strict=True)}
    assert more.keys() == {"number outside", "outside the table", "seccomp"}
    assert more["number outside"] <= 5, more
    assert more["outside the table"] <= 15, more
    assert more["seccomp"] <= 15, more


@pytest.mark.parametrize("target", ["bookworm-686"], indirect=True, scope="session")
def test_loads_and_unloads_while_every_program_is_in_calls(steps: Steps, target: Target, guest: Guest) -> None:
    """Sleepers and workers, none of which knows of the module, outlive it each time."""
    output = guest.run(
        steps,
        LOAD
        + WAIT_FOR
        + """touch /tmp/go
for one in 1 2 3 4 5 6 7 8; do sleep 1000 & done
cat /dev/zero | cat >/dev/null &
load & load &
for turn in 1 2 3 4 5 6 7 8 9 10 11 12; do
	insmod /sysenter.ko scope=all || exit 99
	sleep 0.2
	wait_for '[ $(cat /sys/module/sysenter/parameters/calls_all) -gt 100 ]' || echo "not used"
	rmmod sysenter || exit 98
done
rm /tmp/go
echo sleepers $(ps | grep -c '[s]leep 1000')
""",
        {"sysenter.ko": build_module(steps, target).module.read_bytes()},
        what="unmodified sleepers",
        timeout=200,
        machine=guest.machine(append="preempt=full", cpus=2),
    )
    assert not output.bad_lines(), output.console
    assert output.status == 0, output.text
    assert "not used" not in output.text
    assert "sleepers 8" in output.text, output.text
