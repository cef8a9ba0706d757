# SPDX-License-Identifier: GPL-2.0-or-later
"""What `mitigations` reads off executed instructions, and that the fast entry has what the kernel's has."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import schemas
from conftest import Keep
from guests import guest_for
from sysenter.build import build_module
from sysenter.cli import _mitigations
from sysenter.errors import SysenterError
from sysenter.kernels.provide import provide
from sysenter.lab.guest import Guest, Output
from sysenter.lab.present_guest import PresentGuest
from sysenter.lab.qemu import Machine
from sysenter.options import read_options
from sysenter.report.mitigations import to_json
from sysenter.steps import Steps
from sysenter.target.arch import AMD64
from sysenter.verify.mitigations import Applied, Instruction, mitigations, read_trace, seen

LOG = """----------------
IN: entry_SYSCALL_64
0xffffffff81c00000:  0f 01 f8                 swapgs
0xffffffff81c0000c:  0f 22 dc                 movq     %rsp, %cr3
0xffffffff81c00010:  0f 30                    wrmsr
0xffffffff81c00012:  e8 09 1f 00 00           callq    0xffffffff81c01f20
0xffffffff81c00017:  0f 00 2d 02 00 00 00     verw     2(%rip)
"""


def test_the_trace_is_read_as_qemu_writes_it() -> None:
    trace = read_trace(LOG)
    assert trace[1] == Instruction(0xFFFFFFFF81C0000C, "movq     %rsp, %cr3")
    assert seen(trace, 0xFFFFFFFF81C01F20) == {"PTI", "IBRS", "BHB clearing", "VERW"}
    assert seen(trace[:1], 0xFFFFFFFF81C01F20) == frozenset()
    assert "BHB clearing" not in seen(trace, 0)
    assert seen(read_trace("0xc0001000:  ff e1                    jmpl     *%ecx\n"), 0) == {"indirect branches"}


def _boots(monkeypatch: pytest.MonkeyPatch, logs: list[str]) -> None:
    """Each boot of a guest leaves the next of these logs. The kernel's entry is at c0001000, its C code behind it."""

    def run(self: Guest, *given: object, machine: Machine, **more: object) -> Output:
        Path(machine.extra[machine.extra.index("-D") + 1]).write_text(logs.pop(0))
        at = {"__entry_text_start": "c0001000", "__entry_text_end": "c0002000", "section": "0xf8000000"}
        at |= {"__noinstr_text_start": "c0003000", "__noinstr_text_end": "c0004000"}
        return Output(tuple({name: address} for name, address in at.items()), (), "", 0, 1.0)

    monkeypatch.setattr(PresentGuest, "run", run)


def test_an_entry_of_which_nothing_was_seen_is_no_result(
    monkeypatch: pytest.MonkeyPatch, steps: Steps, guest: PresentGuest
) -> None:
    """Nothing could be missing in it: a QEMU that writes its log in another way would pass."""
    logs = ["IN: another form", "0xc0001000:  0f 30     wrmsr"]
    logs.append(logs[1] + "\n0xf8000000:  0f 30     wrmsr\n")
    _boots(monkeypatch, logs)
    for entry in ("kernel's", "fast"):
        with pytest.raises(SysenterError, match=f"no instruction of the {entry} entry was seen"):
            mitigations(steps, guest, "pentium3", "")
    assert mitigations(steps, guest, "pentium3", "").fast == {"IBRS"}
    of_64_bits = replace(guest, target=replace(guest.target, arch=AMD64))
    _boots(monkeypatch, ["0xc0001000:  0f 30     wrmsr"])
    with pytest.raises(SysenterError, match="no instruction of the stand-in was seen"):
        mitigations(steps, of_64_bits, "EPYC", "", scope="all")


@pytest.mark.parametrize(
    ("its_own", "missing"), [("", {"divider cleared"}), ("0xf8000000:  f7 f1     divl     %ecx\n", set())]
)
def test_the_stand_in_must_do_what_the_c_code_did_in_its_place(
    monkeypatch: pytest.MonkeyPatch, steps: Steps, guest: PresentGuest, its_own: str, missing: set[str]
) -> None:
    """With scope=all nothing could be missing: all that the stock path does had been taken for the fast one's too."""
    log = "0xc0001000:  0f 30     wrmsr\n0xc0003000:  f7 f1     divl     %ecx\n0xf8000004:  c3     retq\n" + its_own
    of_64_bits = replace(guest, target=replace(guest.target, arch=AMD64))
    _boots(monkeypatch, [log])
    applied = mitigations(steps, of_64_bits, "EPYC", "", scope="all")
    assert applied.stock == {"IBRS", "divider cleared"}
    assert applied.fast == applied.stock - missing
    assert applied.missing == missing


def test_scope_all_on_i386_has_an_entry_of_its_own(
    monkeypatch: pytest.MonkeyPatch, steps: Steps, guest: PresentGuest
) -> None:
    """There it is the same entry that marked calls take, and the kernel's does nothing for it."""
    _boots(monkeypatch, ["0xc0001000:  0f 30     wrmsr\n0xf8000004:  c3     retl\n"])
    assert mitigations(steps, guest, "pentium3", "", scope="all").missing == {"IBRS"}


def test_a_module_that_does_not_load_and_says_nothing_is_no_refusal(
    monkeypatch: pytest.MonkeyPatch, steps: Steps, guest: PresentGuest
) -> None:
    """An oops that ends insmod had been a refusal, and refusals are no failure."""
    output = Output((), ("Killed",), "BUG: unable to handle page fault", 0, 1.0)

    def run(self: Guest, *given: object, machine: Machine, **more: object) -> Output:
        Path(machine.extra[machine.extra.index("-D") + 1]).write_text("")
        return output

    monkeypatch.setattr(PresentGuest, "run", run)
    with pytest.raises(SysenterError, match="did not load, and did not say why") as raised:
        mitigations(steps, guest, "pentium3", "")
    assert "Killed" in raised.value.detail
    assert "BUG: unable" in raised.value.detail
    output = replace(output, text=("sysenter: refused: because of a test",))
    assert mitigations(steps, guest, "pentium3", "").refused == "because of a test"


def test_refusals_alone_are_no_result(
    monkeypatch: pytest.MonkeyPatch, steps: Steps, guest: PresentGuest, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = Applied("EPYC", "", refused="only Intel's have SYSENTER")
    monkeypatch.setattr("sysenter.cli._guest_with_shell", lambda *given: guest)
    monkeypatch.setattr("sysenter.verify.mitigations.mitigations", lambda *given, **more: refused)
    with pytest.raises(SysenterError, match="loaded the module on none of these processors"):
        _mitigations(read_options(["mitigations"]), steps)
    assert "only Intel's have SYSENTER" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("kernel", "cpu", "append", "expected"),
    [
        pytest.param("bookworm-686", "pentium3", "", {"VERW"}, marks=pytest.mark.long),
        pytest.param("bookworm-686", "EPYC", "", {"divider cleared"}, marks=pytest.mark.long),
        ("bookworm-686-pae", "core2duo", "", {"PTI", "VERW"}),
        pytest.param("bookworm-amd64", "Haswell", "", {"PTI", "VERW"}, marks=pytest.mark.long),
        pytest.param(
            "trixie-backports-amd64",
            "Skylake-Client",
            "setcpuid=240,249 spectre_v2=ibrs",
            {"IBRS", "PTI", "VERW"},
            marks=pytest.mark.long,
        ),
        pytest.param("trixie-backports-amd64", "Icelake-Server", "mitigations=off", set(), marks=pytest.mark.long),
    ],
)
def test_both_entries_execute_what_the_kernel_applies(
    steps: Steps, on_sample_page: Keep, tmp_path: Path, kernel: str, cpu: str, append: str, expected: set[str]
) -> None:
    guest = guest_for(steps, provide(steps, kernel, offline=False), "tcg")
    applied = mitigations(steps, guest, cpu, append)
    (tmp_path / "found.json").write_text(json.dumps(to_json(guest, "marked", [applied])))
    on_sample_page(tmp_path / "found.json", f"mitigations-{kernel}-{cpu}")
    assert not applied.lost, applied.lost
    assert not applied.refused
    assert expected <= applied.stock
    assert applied.stock <= applied.fast, applied
    assert "indirect branches" not in applied.fast
    if not expected:
        assert not applied.fast


@pytest.mark.parametrize("target", ["trixie-backports-amd64"], indirect=True, scope="session")
def test_the_barrier_behind_a_guest_of_kvms_is_issued(
    in_guest: Callable[..., Output], module_of: Callable[[str], bytes]
) -> None:
    """VMSCAPE: before the program goes on, however its call came. TCG has no IBPB, but lets the MSR be written."""
    said = "/sys/devices/system/cpu/vulnerabilities/vmscape"
    output = in_guest(
        f"""
insmod /rival.ko; file=/sys/module/rival/parameters/guest_ran
grep -o 'Mitigation: IBPB before exit to userspace' {said}
SYSENTER_PATH=stock /lib/sysenter/guest_ran $file
for scope in marked all; do
	insmod /sysenter.ko scope=$scope || exit 98
	[ $scope = all ] && export SYSENTER_PATH=stock
	before=$(cat /sys/module/sysenter/parameters/calls)
	/lib/sysenter/guest_ran $file
	[ $(($(cat /sys/module/sysenter/parameters/calls) - before)) -ge 400 ] && echo "$scope served"
	rmmod sysenter && echo went
done
""",
        files={"rival.ko": module_of("rival")},
        load=False,
        append="vmscape=force setcpuid=250",
    )
    assert output.text[0].startswith("Mitigation: IBPB before exit"), "not the machine that was meant"
    assert list(output.text[1:]) == ["marked served", "went", "all served", "went"], output.text
    assert output.of("wrong") == [0, 0, 0], output.records
    assert output.of("held") == [0, 0, 0], "a program went on without the barrier"


def test_json_has_what_the_table_has(guest: Guest) -> None:
    seen_there = frozenset({"PTI", "VERW"})
    faults = {"meltdown": "Mitigation: PTI", "mds": "Vulnerable: Clear CPU buffers attempted, no microcode", "tsa": "-"}
    said = to_json(guest, "marked", [Applied("Haswell", "nosmt", faults, seen_there, frozenset({"VERW"}), "copy")])
    schemas.hold("mitigations", said)
    (machine,) = said["machines"]
    assert (said["kind"], said["kernel"], said["scope"]) == ("mitigations", guest.target.release, "marked")
    assert machine["mitigated"] == {"meltdown": "PTI", "mds": "Clear CPU buffers attempted"}
    assert (machine["stock"], machine["fast"], machine["missing"]) == (["PTI", "VERW"], ["VERW"], ["PTI"])
    assert machine["refused"] == machine["lost"] == ""


@pytest.mark.parametrize(
    ("kernel", "cpu", "expected"),
    [
        pytest.param("bookworm-amd64", "EPYC-Milan", {"VERW", "untrained returns"}, marks=pytest.mark.long),
        # Zen 1's divider, which the kernel's C code clears and the stand-in must clear itself
        pytest.param("bookworm-amd64", "EPYC", {"divider cleared", "untrained returns"}, marks=pytest.mark.long),
        pytest.param(
            "trixie-backports-amd64", "EPYC", {"divider cleared", "untrained returns"}, marks=pytest.mark.long
        ),
        pytest.param("trixie-backports-amd64", "EPYC-Milan", {"untrained returns"}, marks=pytest.mark.long),
    ],
)
def test_with_scope_all_amds_processors_are_served(steps: Steps, kernel: str, cpu: str, expected: set[str]) -> None:
    """The kernel's entry with the stand-in in it: what it does against retbleed, SRSO and TSA is executed, and what the
    C code does whose place the stand-in takes."""
    guest = guest_for(steps, provide(steps, kernel, offline=False), "tcg")
    applied = mitigations(steps, guest, cpu, "", scope="all")
    assert not applied.refused
    assert expected <= applied.stock <= applied.fast, applied
    assert "indirect branches" not in applied.fast


def test_a_refusal_names_the_mitigation_and_what_would_allow_loading(steps: Steps) -> None:
    target = provide(steps, "bookworm-686-pae", offline=False)
    applied = mitigations(steps, guest_for(steps, target, "tcg"), "athlon,-sep,+syscall", "pti=on")
    assert "PTI" in applied.refused
    assert "boot with nopti" in applied.refused


_TAINT = "$(($(cat /proc/sys/kernel/tainted) >> 6 & 1))"
_UNSAFE = f"""
insmod /sysenter.ko 2>/dev/null && echo "loaded without asking"
dmesg | grep 'sysenter: refused: '
echo "taint before: {_TAINT}"
insmod /sysenter.ko unsafe=1 && echo "loaded"
dmesg | grep 'sysenter: unsafe=1: '
echo "taint after: {_TAINT}"
LD_PRELOAD=/lib/sysenter/libsysenter.so /lib/sysenter/callers; echo "callers $?"
[ "$(cat /sys/module/sysenter/parameters/calls)" -gt 40000 ] && echo "fast"
rmmod sysenter && echo "went"
"""


@pytest.mark.parametrize(
    ("kernel", "cpu", "append", "words"),
    [
        ("bookworm-amd64", "Skylake-Client", "retbleed=unret", ["untrains returns on each entry"]),
        (
            # 362: ENTRY_IBPB, which TCG's processors do not let the kernel choose
            "trixie-backports-amd64",
            "Skylake-Client",
            "setcpuid=362 retbleed=stuff spectre_v2=retpoline",
            ["has a branch predictor barrier on each entry", "tracks the depth of calls"],
        ),
    ],
)
def test_unsafe_loads_without_a_mitigation_and_says_so(
    steps: Steps, kernel: str, cpu: str, append: str, words: list[str]
) -> None:
    """Refused by default; unsafe=1 loads it, with a line in the log for each and a taint."""
    target = provide(steps, kernel, offline=False)
    guest, module = guest_for(steps, target, "tcg"), build_module(steps, target)
    output = guest.run(
        steps,
        _UNSAFE,
        {"sysenter.ko": module.module.read_bytes()},
        what="unsafe=1",
        timeout=120,
        machine=guest.machine(cpu=cpu, append=append),
    )
    text = output.text
    # once each: busybox's insmod tries a refused module a second time
    said = list(dict.fromkeys(line.split("] ")[1] for line in text if "sysenter: " in line))
    assert len(said) == 2 * len(words), "\n".join(text)
    for line, word in zip(said, [*words, *words], strict=True):
        assert word in line, text
    assert "loaded without asking" not in text
    assert [line for line in text if ": " not in line] == ["loaded", "callers 0", "fast", "went"]
    assert [line for line in text if line.startswith("taint")] == ["taint before: 0", "taint after: 1"], text


@pytest.mark.parametrize(
    ("kernel", "cpu", "append", "word"),
    [
        ("bookworm-686-pae", "athlon,-sep,+syscall", "pti=on", "(PTI)"),
        ("bookworm-amd64", "Icelake-Server", "nohz_full=1", "nohz_full"),
        pytest.param("trixie-backports-amd64", "Icelake-Server", "rseq_debug=1", "rseq_debug", marks=pytest.mark.long),
        ("bookworm-amd64", "EPYC", "", "vendor"),
    ],
)
def test_unsafe_does_not_load_what_cannot_work(steps: Steps, kernel: str, cpu: str, append: str, word: str) -> None:
    target = replace(provide(steps, kernel, offline=False), append="")
    guest, module = guest_for(steps, target, "tcg"), build_module(steps, target)
    output = guest.run(
        steps,
        "insmod /sysenter.ko unsafe=1 && echo loaded; dmesg | grep 'sysenter: refused: '",
        {"sysenter.ko": module.module.read_bytes()},
        what="unsafe=1",
        timeout=120,
        machine=guest.machine(cpu=cpu, append=append, cpus=2),
    )
    assert "loaded" not in output.text
    assert word in "\n".join(output.text), output.text


def test_unsafe_alone_taints_nothing(in_guest: Callable[..., Output]) -> None:
    output = in_guest(f"insmod /sysenter.ko unsafe=1 && echo loaded; echo {_TAINT}", load=False)
    assert list(output.text) == ["loaded", "0"]
