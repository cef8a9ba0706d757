# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel and the fast entry do against the processor's faults, from what was executed.

A guest is booted on a processor model with the kernel's own choice of mitigations;
the module is loaded and calls are made on both paths. QEMU writes down each block of
the two entries that it ran (-d in_asm), as it stood in memory, so after the kernel's
and our own patching. From those instructions, not from anybody's word, it is read
which mitigations each entry has.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile

from sysenter.errors import SysenterError
from sysenter.lab.present_guest import PresentGuest
from sysenter.lab.qemu import GuestLost
from sysenter.scratch import scratch_folder
from sysenter.steps import Steps
from sysenter.target.arch import AMD64, I386, Architecture

__all__ = ["MACHINES", "Applied", "Instruction", "mitigations", "read_trace", "seen"]

# Processor models of QEMU's, from before the first of these faults was known to the
# newest that TCG runs, each with more of the kernel's command line: "" is the kernel's
# own choice. setcpuid: MSR_SPEC_CTRL and IBRS, which TCG does not have, but lets be written.
MACHINES: Mapping[Architecture, tuple[tuple[str, str], ...]] = {
    I386: (
        ("pentium3", ""),
        ("core2duo", ""),
        ("Skylake-Client", ""),
        ("EPYC", ""),
        ("core2duo", "nopti"),
        ("core2duo", "mitigations=off"),
    ),
    AMD64: (
        ("Nehalem", ""),
        ("Haswell", ""),
        ("Skylake-Client", ""),
        ("Cascadelake-Server", ""),
        ("Icelake-Server", ""),
        ("Snowridge", ""),
        ("EPYC", ""),
        ("Icelake-Server", "nopti"),
        ("Icelake-Server", "mitigations=off"),
        ("Icelake-Server", "nopti spectre_v2=retpoline,lfence"),
        ("Skylake-Client", "setcpuid=240,249 spectre_v2=ibrs"),
        ("Skylake-Client", "retbleed=stuff spectre_v2=retpoline"),
    ),
}
# Faults that no entry has to do with: spec_store_bypass, l1tf, itlb_multihit and others
# are mitigated elsewhere.
_AT_THE_ENTRY = (
    "meltdown",
    "mds",
    "tsx_async_abort",
    "mmio_stale_data",
    "reg_file_data_sampling",
    "spectre_v2",
    "retbleed",
    "spec_rstack_overflow",
    "indirect_target_selection",
    "vmscape",
    "tsa",
)
_LINE = re.compile(r"^0x([0-9a-f]+):\s+(?:[0-9a-f]{2} )+\s*(\S.*)$")
_TASK = """
cd /sys/devices/system/cpu/vulnerabilities
for file in *; do echo "{\\"fault\\": \\"$file\\", \\"kernel\\": \\"$(sed 's/"//g' $file)\\"}"; done
symbol() { echo "{\\"$1\\": \\"$(grep -m 1 " $1\\$" /proc/kallsyms | cut -d' ' -f1)\\"}"; }
insmod /sysenter.ko $options || { dmesg | grep -m 1 'sysenter: refused'; exit 0; }
for name in __entry_text_start __entry_text_end __noinstr_text_start __noinstr_text_end clear_bhb_loop; do
	symbol $name
done
for name in entry_untrain_ret zen_untrain_ret retbleed_untrain_ret srso_untrain_ret srso_alias_untrain_ret; do
	grep -q " $name\\$" /proc/kallsyms &&
		echo "{\\"untrain\\": \\"$(grep -m 1 " $name\\$" /proc/kallsyms | cut -d' ' -f1)\\"}"
done
cd /sys/module/sysenter/sections
for name in .text.sysenter .kprobes.text; do [ -e $name ] && echo "{\\"section\\": \\"$(cat $name)\\"}"; done
[ -e /lib/sysenter/msr.ko ] && insmod /lib/sysenter/msr.ko && /lib/sysenter/msr
grep 'sysenter_entry[a-z_]*[[:space:]]*.sysenter.' /proc/kallsyms |
	sed 's/\\([0-9a-f]*\\) . \\([a-z_]*\\).*/{"copy": "\\2", "at": "\\1"}/'
/lib/sysenter/calls >/dev/null
rmmod sysenter
"""


@dataclass(frozen=True)
class Instruction:
    """An executed instruction: its address and its text."""

    address: int
    text: str


@dataclass(frozen=True)
class Applied:
    """What was seen of a kernel on a processor model."""

    cpu: str
    """QEMU's model."""
    append: str
    """More of the kernel's command line."""
    kernel: Mapping[str, str] = field(default_factory=dict)
    """Fault -> what the kernel says of it, of those that an entry has to do with."""
    stock: frozenset[str] = frozenset()
    """The mitigations that the kernel's entry executed."""
    fast: frozenset[str] = frozenset()
    """Those that the fast entry executed."""
    copy: str = ""
    """Which form of the fast entry was chosen."""
    refused: str = ""
    """Why the module was not loaded; "" if it was."""
    lost: str = ""
    """Why this kernel did not boot on this model; "" if it did."""

    @property
    def missing(self) -> frozenset[str]:
        """Mitigations of the kernel's entry that the fast entry does not have, although the module was loaded."""
        return frozenset() if self.refused or self.lost else self.stock - self.fast

    @property
    def mitigated(self) -> dict[str, str]:
        """Fault -> how, of those that the kernel says it does something about."""
        words = {fault: text.removeprefix("Vulnerable: ") for fault, text in self.kernel.items()}
        tried = ("Mitigation: ", "Clear CPU buffers")
        return {
            fault: re.split("[;,]", text.removeprefix("Mitigation: "))[0]
            for fault, text in words.items()
            if text.startswith(tried)
        }


def read_trace(log: str) -> list[Instruction]:
    """The instructions in a log of QEMU's -d in_asm."""
    found = (_LINE.match(line) for line in log.splitlines())
    return [Instruction(int(match[1], 16), match[2].strip()) for match in found if match]


def seen(
    instructions: Iterable[Instruction], clear_bhb_loop: int, untrain: frozenset[int] = frozenset()
) -> frozenset[str]:
    """The mitigations among executed instructions.

    A write to CR3 is page-table isolation, and a write to an MSR at an entry is IBRS. VERW
    clears the buffers (MDS and similar), a call of clear_bhb_loop clears the branch history, a call
    of an `untrain` function clears trained returns (retbleed, SRSO), a division clears the divider.
    "indirect branches" is not a mitigation: it says that there were some besides returns.
    """
    marks = set()
    for instruction in instructions:
        operation, _, operands = instruction.text.partition(" ")
        if operation.startswith("mov") and operands.strip().endswith("%cr3"):
            marks.add("PTI")
        elif operation == "wrmsr":
            marks.add("IBRS")
        elif operation.startswith("verw"):
            marks.add("VERW")
        elif operation.startswith("call") and clear_bhb_loop and operands.strip() == hex(clear_bhb_loop):
            marks.add("BHB clearing")
        elif operation.startswith("call") and operands.strip() in {hex(at) for at in untrain}:
            marks.add("untrained returns")
        elif operation.startswith("div"):
            marks.add("divider cleared")
        if operation.startswith(("call", "jmp")) and "*" in operands:
            marks.add("indirect branches")
    return frozenset(marks)


def _text_size(entry: Path) -> int:
    """Bytes of code in the entry's object."""
    with entry.open("rb") as file:
        sections = ELFFile(file).iter_sections()
        return max(s.data_size for s in sections if s["sh_flags"] & SH_FLAGS.SHF_EXECINSTR)


def mitigations(steps: Steps, guest: PresentGuest, cpu: str, append: str, scope: str = "marked") -> Applied:
    """Boot the guest on a processor model and see.

    append: more of the kernel's command line, "" for its own choice. scope: the module's; with all, amd64's fast entry
    is the kernel's own with the stand-in for do_syscall_64() in it. Raises SysenterError if an entry was not seen at
    all, and if the module neither loaded nor said why.
    """
    with steps.step(f"{guest.target.release} on {cpu} {append}"):
        try:
            return _seen_in(steps, guest, cpu, append, scope)
        except GuestLost as error:
            return Applied(cpu, append, lost=error.message)


def _unseen(cpu: str, what: str) -> SysenterError:
    return SysenterError(
        f"mitigations on {cpu}: no instruction of {what} was seen",
        hint="this QEMU's log (-d in_asm) may have another form, or this kernel no such symbols: report it",
    )


def _seen_in(steps: Steps, guest: PresentGuest, cpu: str, append: str, scope: str) -> Applied:
    target = replace(guest.target, append="")  # nothing but the kernel's own choice
    guest = replace(guest, target=target)
    with scratch_folder() as folder:
        log = folder / "trace"
        ranges = ",".join(f"{a:#x}..{b:#x}" for a, b in (target.arch.module_text, target.arch.kernel_text))
        extra = ("-d", "in_asm", "-dfilter", ranges, "-D", str(log))
        output = guest.run(
            steps,
            f"options=scope={scope}\n{_TASK}",
            what=f"mitigations on {cpu}",
            timeout=120,
            machine=guest.machine(cpu=cpu, append=append, extra=extra),
        )
        trace = read_trace(log.read_text(errors="replace"))
    kernel = {
        record["fault"]: record["kernel"]
        for record in output.records
        if record.get("fault") in _AT_THE_ENTRY and record["kernel"] != "Not affected"
    }
    if refused := output.refusal():
        return Applied(cpu, append, kernel, refused=refused)
    if not output.of("section"):  # an oops, insmod killed: no choice of the module's
        raise SysenterError(
            f"mitigations on {cpu}: the module did not load, and did not say why",
            hint="the lines above are the guest's: report it",
            detail="\n".join((*output.text[-5:], *output.console.splitlines()[-15:])),
        )

    def address(name: str) -> int:
        return int(next(iter(output.of(name)), "") or "0", 16)

    def between(start: int, end: int) -> list[Instruction]:
        return [instruction for instruction in trace if start <= instruction.address < end]

    ours, bhb = address("section"), address("clear_bhb_loop")
    chosen = next((int(eip, 16) for eip in output.of("eip")), 0)
    inside = ours <= chosen < ours + _text_size(guest.module.entry)
    gate = chosen & -4096  # with page-table isolation on i386 a page somewhere else
    copy = next((r["copy"] for r in output.records if "copy" in r and int(r["at"], 16) == chosen), "")
    if not copy and not inside:
        copy = "sysenter_gate"
    untrain = frozenset(int(at, 16) for at in output.of("untrain"))
    own_entry = between(address("__entry_text_start"), address("__entry_text_end"))
    text = between(ours, ours + _text_size(guest.module.entry))
    if not own_entry:  # of it nothing could be missing
        raise _unseen(cpu, "the kernel's entry")
    # the C code that the entry calls clears the divider (arch_exit_to_user_mode())
    own_c_code = between(address("__noinstr_text_start"), address("__noinstr_text_end"))
    assembly = seen(own_entry, bhb, untrain)
    stock = assembly | seen(own_c_code, 0) & {"divider cleared"}
    if scope == "all" and target.arch is AMD64:
        if not text:
            raise _unseen(cpu, "the stand-in")
        # what the C code does, the stand-in must do itself: it takes that code's place
        fast = assembly | seen(text, bhb, untrain)
        return Applied(cpu, append, kernel, stock, fast, "sysenter_all in the kernel's entry")
    path = text if inside else [*text, *between(gate, gate + 4096)]
    if not path:
        raise _unseen(cpu, "the fast entry")
    return Applied(cpu, append, kernel, stock, seen(path, bhb, untrain), copy)
