# SPDX-License-Identifier: GPL-2.0-or-later
"""What must hold: each property with its reason and the source of that reason.

The checks are in the models (kernels/base.py, and the file of each kernel). They name a
property by its key here.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PROPERTIES", "Broken", "Property"]


@dataclass(frozen=True)
class Property:
    """What must hold of every entry."""

    key: str
    says: str
    """In a person's words."""
    reason: str
    """What breaks without it."""
    source: str
    """Where to read it."""


_ALL = (
    Property(
        "stack",
        "the stack in use is the current task's or this CPU's entry stack, with room for an NMI",
        "an NMI or #DB pushes wherever esp points: anywhere else it destroys what lies there",
        "SDM Vol. 3A, 6.12.1; arch/x86/entry/entry_32.S, asm_exc_nmi",
    ),
    Property(
        "stack top",
        "nothing is read back from below the stack pointer",
        "an interrupt overwrites everything below esp, and on i386 an NMI or #DB",
        "SDM Vol. 3A, 6.12.1; the kernel has no red zone",
    ),
    Property(
        "segments",
        "ds, es and fs are the kernel's, or as flat, before memory is touched through them",
        "the caller's may be null, or any base in its LDT",
        "SDM Vol. 2B, SYSENTER (DS, ES, FS, GS not loaded); CVE-2014-9090 for what LDT segments do",
    ),
    Property(
        "direction",
        "the direction flag is clear in kernel C",
        "C's string operations go up; SYSENTER leaves DF as the caller had it",
        "i386 psABI; SDM Vol. 2B, SYSENTER",
    ),
    Property(
        "flags",
        "TF, NT, AC and IOPL of the caller never reach kernel C",
        "NT makes IRET a task switch, AC opens SMAP, IOPL lets user mode switch interrupts off",
        "CVE-2013-1917; arch/x86/entry/entry_32.S, .Lsysenter_fix_flags",
    ),
    Property(
        "fix-up",
        "each access to user memory has its fix-up",
        "without one a bad pointer is a kernel oops",
        "Documentation/x86/exception-tables.rst",
    ),
    Property(
        "user memory",
        "user memory is only read, below TASK_SIZE, with SMAP opened for just that",
        "a caller could have kernel memory read for it, or the kernel would oops under SMAP",
        "arch/x86/include/asm/uaccess.h; arch/x86/include/asm/smap.h",
    ),
    Property(
        "ownership",
        "a CPU touches its own, its task's and constant memory, within the object's bounds",
        "another CPU or task uses the rest at the same moment",
        "Documentation/core-api/this_cpu_ops.rst",
    ),
    Property(
        "sharing",
        "two CPUs share nothing that either writes",
        "the `gentle' way of 2001 was not SMP-safe, because of one global variable",
        "Andy Polyakov, linux-kernel, 2001-05-04",
    ),
    Property(
        "speculation",
        "a mispredicted branch reads no address that the caller chose in the kernel",
        "Spectre variant 1",
        "CVE-2017-5753; Documentation/admin-guide/hw-vuln/spectre.rst",
    ),
    Property(
        "indirect",
        "no indirect branch but a retpoline, whose catch loop stands",
        "Spectre variant 2",
        "CVE-2017-5715; Intel, Deep Dive: Retpoline",
    ),
    Property(
        "buffers",
        "VERW, where the kernel wants it, comes after the last kernel data before user mode",
        "MDS: what is read after it can be sampled",
        "Documentation/x86/mds.rst",
    ),
    Property(
        "stock",
        "a caller without our marker reaches the stock entry bit for bit as SYSENTER left it",
        "everybody who uses the vDSO comes through here",
        "docs/entries.md, the fast entry beside the kernel's",
    ),
    Property(
        "odd flags",
        "a marked call with an odd flag is a stock call with the same number",
        "the stock entry knows what to do with TF, NT and AC",
        "arch/x86/entry/entry_32.S, entry_SYSENTER_32",
    ),
    Property(
        "number",
        "the body that runs is the one that the number names, once",
        "a wrong body is a wrong system call",
        "sysenter/build/calls.py",
    ),
    Property(
        "arguments",
        "the body finds its arguments in pt_regs",
        "SYSCALL_DEFINE takes them from there",
        "arch/x86/include/asm/syscall_wrapper.h, SC_IA32_REGS_TO_ARGS",
    ),
    Property(
        "pt_regs",
        "pt_regs is what the stock entry would have built",
        "the kernel's slow paths, signals, ptrace and core dumps read it",
        "arch/x86/entry/entry_32.S, entry_SYSENTER_32; CVE-2014-4699 for what a wrong one costs",
    ),
    Property(
        "frame",
        "while FRAME_SS stands, every slot that is not written again is right",
        "the next call relies on it",
        "native/present/frame.h",
    ),
    Property(
        "leak",
        "the frame and the registers hold nothing of the kernel's that user mode can see",
        "/proc/PID/syscall shows the one, SYSEXIT returns with the other",
        "native/present/entry_i386.S",
    ),
    Property(
        "back",
        "the caller gets its registers, stack, flags, segments and address back, and the result",
        "it is a system call",
        "native/user/stub_i386.S",
    ),
    Property(
        "work",
        "no return to user mode with work pending",
        "a signal, reschedule or tracer would wait until the next interrupt, or for ever",
        "kernel/entry/common.c, exit_to_user_mode_loop; Manfred Spraul, 3AF2F18D.15A52CD9@colorfullife.com",
    ),
    Property(
        "fast",
        "a fast call with nothing pending returns by SYSEXIT",
        "it would work, and be slower than what it replaces",
        "docs/entries.md",
    ),
    Property(
        "hand-over",
        "kernel code is entered as its caller there does: stack, argument, IF, return address",
        "do_SYSENTER_32 wants IF off, syscall_exit_to_user_mode on",
        "kernel/entry/common.c; arch/x86/entry/common.c",
    ),
    Property(
        "inside",
        "a task off the CPU with an address of this text on its stack shows FRAME_SS",
        "unload frees the text when no task shows it",
        "native/present/unload.c, frame.h",
    ),
    Property(
        "sleep",
        "what can sleep has interrupts on",
        "a page fault on user memory takes mmap_lock",
        "arch/x86/mm/fault.c, do_user_addr_fault",
    ),
    Property(
        "interrupts",
        "interrupts are on again when the caller goes on, and off across SYSEXIT",
        "an interrupt between STI and SYSEXIT would find the user's fs",
        "SDM Vol. 2B, STI",
    ),
    Property(
        "offset",
        "each call has its own stack offset, from what the caller cannot know",
        "a caller who knows the offset knows where return addresses are",
        "include/linux/randomize_kstack.h",
    ),
    Property(
        "clear",
        "no register but the number's holds a value of the caller's when the body begins",
        "a gadget in the body would be steered by it, speculatively",
        "CVE-2017-5753; arch/x86/entry/calling.h, PUSH_AND_CLEAR_REGS",
    ),
    Property(
        "unwind",
        "a stack trace from inside the body ends at the caller's registers",
        "live patching and perf rely on it",
        "arch/x86/kernel/unwind_frame.c, is_last_task_frame",
    ),
    Property(
        "count",
        "the count of fast calls counts each once and no other",
        "it is shown to the user as a fact",
        "native/present/main.c, calls_get",
    ),
    Property(
        "fault",
        "no instruction faults but one that has a fix-up",
        "a fault in entry code is an oops at best",
        "arch/x86/kernel/traps.c",
    ),
    Property(
        "trap",
        "the kernel's #DB handler hears of each trap but the one that SYSENTER with TF makes",
        "that one comes on the entry stack; any other belongs to a debugger",
        "SDM Vol. 3A, 6.12.1; native/legacy/entry.S, sysenter_debug",
    ),
    Property(
        "gs",
        "kernel memory is reached by %gs with the kernel's base, and user mode has its own again",
        "with the user's base an entry reads and writes what the user says",
        "SDM Vol. 2B, SWAPGS; CVE-2019-1125; Documentation/x86/entry_64.rst",
    ),
    Property(
        "page table",
        "with the user's page table only the entry page and the CPU entry area are touched, and "
        "user mode has its own again, flushed if it is due",
        "nothing else of the kernel is in it (PTI)",
        "CVE-2017-5754; Documentation/x86/pti.rst; arch/x86/entry/calling.h, SWITCH_TO_USER_CR3",
    ),
    Property(
        "stale",
        "user mode finds no translation in its TLB of what is no longer mapped",
        "with PCIDs a change of the address space leaves the user's to be flushed by whoever returns there: "
        "without, a page that has been given to somebody else stays readable",
        "SDM Vol. 3A, 4.10.4.1; arch/x86/mm/tlb.c, invalidate_user_asid",
    ),
    Property(
        "canonical",
        "SYSRET never sees a non-canonical address",
        "it faults in kernel mode, on the user's stack pointer",
        "CVE-2012-0217; SDM Vol. 2B, SYSRET",
    ),
    Property(
        "branches",
        "IBRS is on, and the branch history cleared, where the kernel's own entry does so",
        "what user code taught the branch predictor steers the kernel",
        "CVE-2022-29901; CVE-2022-0001; arch/x86/entry/calling.h, IBRS_ENTER; entry_64.S, clear_bhb_loop",
    ),
    Property(
        "divider",
        "the divider's last quotient is overwritten on the way out, where the kernel does so",
        "on Zen 1 a division by zero answers speculatively with what was divided before, by the kernel perhaps",
        "CVE-2023-20588; arch/x86/include/asm/processor.h, amd_clear_divider",
    ),
    Property(
        "end",
        "the handler comes to an end",
        "a loop with interrupts off is a dead CPU",
        "this checker's limit on steps",
    ),
)

PROPERTIES = {p.key: p for p in _ALL}


class Broken(Exception):
    """A property does not hold. state: the numbers, in one line."""

    def __init__(self, key: str, state: str) -> None:
        super().__init__(f"{key}: {state}")
        self.property = PROPERTIES[key]
        self.state = state
