# SPDX-License-Identifier: GPL-2.0-or-later
"""Linux 6.x and 7.x on amd64, around native/present/entry_amd64.S.

Layouts: arch/x86/include/asm/segment.h, cpu_entry_area.h, processor.h. NMI, #DB
and #MC have stacks of their own and save GS and CR3 (arch/x86/entry/entry_64.S,
paranoid_entry): from kernel mode they leave nothing behind. Maskable interrupts
use the stack in use, from user mode the top of the task's.
"""

from __future__ import annotations

from collections.abc import Mapping

from sysenter.check.case import Call64, Case, Event
from sysenter.check.code.instructions import EAX, EBP, EBX, ECX, EDI, EDX, ESI, ESP, NAMES, Access, Instruction
from sysenter.check.code.objectfile import EntryObject
from sysenter.check.code.program import Program, lay_out
from sysenter.check.cpu.memory import PAGE, Area, Memory
from sysenter.check.cpu.processor import CF, DF, FIXED, IF, PCID, ZF, Cpu, Fault
from sysenter.check.cpu.processor64 import R11, Processor64, canonical
from sysenter.check.kernels.base import Task
from sysenter.check.kernels.present import ARITHMETIC, DIVIDER, NR, VMSCAPE, Present, Slots, arity
from sysenter.check.properties import Broken
from sysenter.errors import SysenterError

__all__ = [
    "ARGUMENTS",
    "ENOSYS",
    "FUNCTIONS",
    "KEPT",
    "MARK",
    "PERCPU_BASE",
    "TASKS",
    "USER_CS",
    "USER_DS",
    "VARIANTS",
    "PresentAmd64",
]

_LAST = (1 << 64) - 1
MARK = -NR & _LAST  # native/present/abi.h, SYSENTER_MARK_AMD64
R8, R9, R10, R12 = 8, 9, 10, 12
ENOSYS = -38 & _LAST
KERNEL_CS, KERNEL_DS, USER_CS, USER_DS = 0x10, 0x18, 0x33, 0x2B
TASK_SIZE = 1 << 47
POISON = 0xFFFF8880C0DE0000
_UNWIND_USED = 2  # linux/unwind_deferred.h

# asm/cpufeatures.h; CLEAR_CPU_BUF has moved
_PCID, _PTI, _IBRS, _BHB, _BUFFERS = 4 * 32 + 17, 7 * 32 + 11, 7 * 32 + 12, 21 * 32 + 1, 370
_ALIAS = {3 * 32 + 18: _BUFFERS}
_XENPV = 8 * 32 + 16  # entry_amd64.S has it for "this kernel has no such mitigation"
_TABLE = "no x64_sys_call"  # older kernels: the entry's own dispatch
# variant -> where it enters, features of the processor that the kernel applies
VARIANTS: dict[str, tuple[str, frozenset[int]]] = {
    "": ("sysenter_entry", frozenset()),
    "buffers": ("sysenter_entry", frozenset({_BUFFERS})),
    "mitigated": ("sysenter_entry_mitigated", frozenset({_IBRS, _BHB, VMSCAPE, _BUFFERS})),
    "history": ("sysenter_entry_mitigated_no_ibt", frozenset({_BHB})),
    "ibrs": ("sysenter_entry_mitigated_no_ibt", frozenset({_IBRS})),
    _TABLE: ("sysenter_entry_no_ibt", frozenset()),
    "pti": ("sysenter_entry_pti_no_ibt", frozenset({_PTI})),
    "pti, pcid, ibrs": ("sysenter_entry_pti", frozenset({_PTI, _PCID, _IBRS})),
    "pti, pcid, mitigated": ("sysenter_entry_pti", frozenset({_PTI, _PCID, _IBRS, _BHB, VMSCAPE, _BUFFERS})),
}

_TEXT = 0xFFFFFFFFC0A01000
_CALLS, _EXPECTED, _SLOW = 0xFFFFFFFFC0A08000, 0xFFFFFFFFC0A0A000, 0xFFFFFFFFC0A0C000
PERCPU_BASE = (0xFFFF888100000000, 0xFFFF888100100000)
_PERCPU_AT = {
    "current_task": 0x1010,
    "top_of_stack": 0x1018,
    "tss_sp0": 0x1204,
    "user_pcid_flush_mask": 0x1316,
    "x86_spec_ctrl_current": 0x1400,
    "x86_ibpb_exit_to_user": 0x1408,
    "sysenter_count": 0x1480,
    "sysenter_kstack_offset": 0x1490,
    "sysenter_count_all": 0x14A0,
}
_ENTRY_END = (0xFFFFFE0000003000, 0xFFFFFE000003E000)
TASKS = (0xFFFF888002000000, 0xFFFF888002010000, 0xFFFF888002020000)
_STACKS = (0xFFFFC90000103000, 0xFFFFC9000010B000, 0xFFFFC90000113000)  # the last page of each
_USER_GS = (0x7F0000001000, 0, 0x1000)
FUNCTIONS = {
    "entry_SYSENTER_compat": 0xFFFFFFFF81001000,
    "entry_SYSCALL_64_after_hwframe": 0xFFFFFFFF81002000,
    "irqentry_exit": 0xFFFFFFFF81003000,
    "return_to_usermode": 0xFFFFFFFF81004000,
    "clear_bhb_loop": 0xFFFFFFFF81005000,
    "syscall_exit_to_user_mode": 0xFFFFFFFF81006000,
    "trace_syscall_exit": 0xFFFFFFFF81007000,
    "dispatch": 0xFFFFFFFF81008000,
    "__x86_indirect_thunk_r11": 0xFFFFFFFF81009000,
    "__x86_return_thunk": 0xFFFFFFFF8100A000,
    "do_syscall_64": 0xFFFFFFFF8100B000,
    "after_do_syscall_64": 0xFFFFFFFF81002050,
}
_BODY_AT = 0xFFFFFFFF81100000
_SPEC_CTRL = (0x200000405, 0x401)  # IBRS and more, of each CPU
_SPEC_CTRL_USER = tuple(value & 0xFFFFFFFE for value in _SPEC_CTRL)  # the kernel's IBRS_EXIT drops the upper half too
ARGUMENTS = ("RDI", "RSI", "RDX", "R10", "R8", "R9")
KEPT = ("RBX", "RBP", "R12", "R13", "R14", "R15")
_PT = (
    *KEPT,
    "R11",
    "R10",
    "R9",
    "R8",
    "RAX",
    "RCX",
    "RDX",
    "RSI",
    "RDI",
    "ORIG_RAX",
    "RIP",
    "CS",
    "EFLAGS",
    "RSP",
    "SS",
)
_ZEROED = (R8, R9, R12, 13, 14, 15)  # neither ours nor clobbered on the way to a body
_FACTOR = 0x5851F42D  # entry_amd64.S, DRAW_STACK_OFFSET


class PresentAmd64(Present):
    """The kernel of one amd64 release, with two CPUs and three tasks."""

    task_size = TASK_SIZE
    plain = Call64()
    name = "present-amd64"
    tasks_at, stacks_at = TASKS, _STACKS
    tops_at = tuple(start + PAGE for start in _STACKS)
    body_at = _BODY_AT
    percpu_at, percpu_base = _PERCPU_AT, PERCPU_BASE
    ss = "SS"
    poison_base = POISON
    processor: Processor64
    ways: Mapping[str, tuple[str, frozenset[int]]] = VARIANTS

    def __init__(self, entry: EntryObject, offsets: dict[str, int], variant: str = "") -> None:
        super().__init__()
        self.offsets = offsets
        self.pt = {name: offsets["PT_" + name] for name in _PT}
        self.pt_size = offsets["PT_SIZE"]
        where, features = self.ways[variant]
        patched = {a.feature for a in entry.alternatives()} - {_XENPV}
        strange = {_ALIAS.get(p, p) for p in patched} - {_PCID, _PTI, _IBRS, _BHB, VMSCAPE, _BUFFERS, DIVIDER}
        if strange:
            raise SysenterError(
                f"alternatives on features {sorted(strange)}: the checker knows none of them",
                hint="add them to VARIANTS in sysenter/check/kernels/present_amd64.py",
            )
        chosen = frozenset(p for p in patched if _ALIAS.get(p, p) in features)
        here = {_ALIAS.get(p, p) for p in chosen}
        self.pti, self.verw = _PTI in here, _BUFFERS in here
        self.ibrs, self.bhb, self.vmscape = _IBRS in here, _BHB in here, VMSCAPE in here
        self.divider = DIVIDER in here
        self.memory = memory = Memory(48 * PAGE, 8)
        section = ".kprobes.text"
        text = entry.sections[section]
        memory.add("the text", Area.TEXT, _TEXT, len(text.data))
        memory.add("sysenter_calls", Area.CONSTANT, _CALLS, 8 * NR)
        memory.add("sysenter_expected", Area.CONSTANT, _EXPECTED, 8 * NR)
        memory.add("sysenter_all_slow", Area.CONSTANT, _SLOW, NR)
        memory.seal()
        for number, start in enumerate(TASKS):
            memory.add(f"task {number}", Area.TASK, start, 2 * PAGE, task=number)
        for cpu, base in enumerate(PERCPU_BASE):
            memory.add(f"CPU {cpu}'s per-CPU data", Area.CPU, base + PAGE, PAGE, cpu=cpu)
        memory.stacks_follow()
        for number, start in enumerate(_STACKS):
            memory.add(f"task {number}'s stack", Area.TASK_STACK, start, PAGE, task=number)
        for cpu, end in enumerate(_ENTRY_END):
            memory.add(f"CPU {cpu}'s entry stack", Area.ENTRY_STACK, end - PAGE, PAGE, cpu=cpu)
        places = {section: _TEXT}
        functions = dict(FUNCTIONS)
        if variant == _TABLE:
            functions["dispatch"] = _TEXT + entry.symbols["sysenter_dispatch"][1]
        self.program: Program = lay_out(
            entry,
            section,
            memory,
            places,
            {
                **FUNCTIONS,
                **_PERCPU_AT,
                "sysenter_calls": _CALLS,
                "sysenter_expected": _EXPECTED,
                "sysenter_all_slow": _SLOW,
            },
            chosen,
            {**functions, **_PERCPU_AT},
        )
        self.processor = Processor64(memory, self)
        self.processor.pcid, self.processor.ibrs = _PCID in here, self.ibrs
        self.entry = self.program.symbols[where]
        # where the kernel has no function for the whole exit: the others cannot come (entry_amd64.S)
        whole = "syscall_exit_to_user_mode" in {site.symbol for site in entry.patch_sites()}
        self.owed = offsets["EXIT_SYSCALL_WORK" if whole else "SYSCALL_TRACEPOINT"]
        self.functions = {address: name for name, address in FUNCTIONS.items()}
        self._write_tables()

    def _write_tables(self) -> None:
        """As native/present/arch_amd64.c fills them."""
        for number in range(NR):
            takes = arity(number)
            expected = self.offsets["FRAME_SS"] if 0 <= takes <= 3 else 1 << 62 | (takes > 3)
            self.memory.write(_CALLS + 8 * number, 0 if takes < 0 else _BODY_AT + 16 * number)
            self.memory.write(_EXPECTED + 8 * number, expected)
            self.memory.write(_SLOW + number, int(takes < 0), 1)

    # -- the first state -------------------------------------------------------------

    def begin(self, case: Case) -> None:
        memory = self.memory
        self.poison = POISON
        for region in memory.regions.values():
            if region.area not in (Area.TEXT, Area.CONSTANT):
                self.clobber(region.start, region.end)
        self.cpus = [Cpu(number, registers=[0] * 16) for number in range(2)]
        self.tasks = [Task(0, case.calls, 0), Task(1, case.others, 1), Task(2, (), -1)]
        for task in self.tasks:
            self.set_task_field(task, "TASK_ti_flags", self.harmless_flags())
            self.set_task_field(task, "TASK_syscall_work", 0)
            self.set_task_field(task, "TASK_syscall_work_high", 0)
            self.set_task_field(task, "TASK_unwind_mask", 0)
        for cpu in self.cpus:
            number = cpu.number
            for symbol, value in (
                ("tss_sp0", _ENTRY_END[number]),
                ("user_pcid_flush_mask", 0),
                ("sysenter_count", 0xFFFFFFFF - number),
                ("sysenter_count_all", 0xFFFFFFFF - number),
                ("x86_spec_ctrl_current", _SPEC_CTRL[number]),
                ("x86_ibpb_exit_to_user", 0),
                ("sysenter_kstack_offset", 0xDEADBEEF * (number + 1)),
            ):
                memory.write(self.percpu(number, symbol), value)
            cpu.msr = (KERNEL_CS, _ENTRY_END[number], self.entry)
            cpu.spec_ctrl = _SPEC_CTRL_USER[number]
            cpu.bases["gs"], cpu.kernel_gs = 0, PERCPU_BASE[number]
            self.run_on(self.tasks[number], cpu)
            cpu.cr3 = self.user_cr3(self.tasks[number], cpu)
        self.counted_before = self.counted()

    def set_task_field(self, task: Task, field: str, value: int) -> None:
        if field == "TASK_syscall_work_high":  # an unsigned long, of which the kernel uses the lower half
            self.memory.write(TASKS[task.number] + self.offsets["TASK_syscall_work"] + 4, value, 4)
        elif field == "TASK_unwind_mask":  # since 6.17
            if field in self.offsets:
                self.memory.write(TASKS[task.number] + self.offsets[field], value)
        else:
            super().set_task_field(task, field, value)

    def run_on(self, task: Task, cpu: Cpu) -> None:
        """Set what __switch_to() and switch_mm() set for the next task."""
        task.cpu, cpu.task = cpu.number, task.number
        self.memory.write(self.percpu(cpu.number, "top_of_stack"), self.top(task.number))
        self.memory.write(self.percpu(cpu.number, "current_task"), TASKS[task.number])

    def kernel_cr3(self, task: Task, cpu: Cpu) -> int:
        pcid = 3 + 3 * cpu.number - task.number if self.processor.pcid else 0  # 1 to 6, as the kernel's
        return 0x390000000 + 0x100000 * task.number | pcid

    def user_cr3(self, task: Task, cpu: Cpu) -> int:
        if not self.pti:
            return self.kernel_cr3(task, cpu)
        return self.kernel_cr3(task, cpu) | 0x1000 | (0x800 if self.processor.pcid else 0)

    # -- where things are --------------------------------------------------------------

    def entry_bounds(self, cpu: Cpu) -> tuple[int, int]:
        return _ENTRY_END[cpu.number] - 64, _ENTRY_END[cpu.number]

    def segment_usable(self, cpu: Cpu, name: str) -> bool:
        return True  # flat

    def user_page(self, task: Task, cpu: Cpu, linear: int) -> str:
        return "invalid"

    def wait_for_page(self, task: Task, cpu: Cpu) -> None:
        raise Broken("user memory", "this entry has no use for user memory")

    def descriptor(self, cpu: Cpu, selector: int) -> int | None:
        return 0 if selector == KERNEL_DS else None  # VERW asks; nothing here loads a segment

    def timestamp(self, cpu: Cpu) -> int:
        raise Broken("offset", "this entry has no use for the time")

    def kernel_base(self, cpu: Cpu) -> bool:
        return cpu.bases["gs"] == PERCPU_BASE[cpu.number]

    def load_cr3(self, cpu: Cpu, value: int) -> None:
        task = self.tasks[cpu.task]
        if not self.pti or value not in (self.kernel_cr3(task, cpu), self.user_cr3(task, cpu)):
            raise Broken("page table", f"CR3 = {value:#x} is neither this task's nor the kernel's with it")

    def in_kernel(self, task: Task, cpu: Cpu, where: str) -> None:
        """GS and CR3 are the kernel's."""
        if not self.kernel_base(cpu) or cpu.kernel_gs != _USER_GS[task.number]:
            raise Broken("gs", f"at {where} gs has the base {cpu.bases['gs']:#x}, and {cpu.kernel_gs:#x} waits")
        if cpu.cr3 != self.kernel_cr3(task, cpu):
            raise Broken("page table", f"CR3 = {cpu.cr3:#x} at {where}")
        if self.processor.pcid and cpu.flushed:
            raise Broken("fast", "the kernel's own PCID has been flushed on the way in")

    def as_in_user_mode(self, task: Task, cpu: Cpu, where: str) -> None:
        """GS and CR3 are the user's."""
        if cpu.bases["gs"] != _USER_GS[task.number] or cpu.kernel_gs != PERCPU_BASE[cpu.number]:
            raise Broken("gs", f"at {where} gs has the base {cpu.bases['gs']:#x}, and {cpu.kernel_gs:#x} waits")
        if cpu.cr3 != self.user_cr3(task, cpu):
            raise Broken("page table", f"CR3 = {cpu.cr3:#x} at {where}")

    def access(self, cpu: Cpu, ins: Instruction, access: Access, linear: int) -> None:
        if access.segment == "gs" and not self.kernel_base(cpu):
            raise Broken("gs", f"{ins.text!r} with the base {cpu.bases['gs']:#x}")
        region = self.memory.pages.get(linear >> 12)
        hidden = region is None or region.area not in (Area.TEXT, Area.ENTRY_STACK)
        if self.pti and cpu.cr3 & 0x1000 and hidden:
            raise Broken("page table", f"{ins.text!r} touches {linear:#x} with CR3 = {cpu.cr3:#x}")
        super().access(cpu, ins, access, linear)

    def overwritten_below(self, cpu: Cpu) -> bool:
        return bool(cpu.flags & IF)

    def strays(self, cpu: Cpu, access: Access, linear: int) -> bool:
        wrong_base = access.segment == "gs" and not self.kernel_base(cpu)  # CVE-2019-1125
        return wrong_base or super().strays(cpu, access, linear)

    def check_stack(self, task: Task, cpu: Cpu) -> None:
        """rsp may hold anything while interrupts are off: whatever else comes has its own stack."""
        if cpu.flags & IF:
            super().check_stack(task, cpu)

    def fault(self, task: Task, cpu: Cpu, ins: Instruction, fault: Fault) -> None:
        if ins.kind == "sysretq":
            raise Broken("canonical", f"SYSRET to {fault.address:#x}")
        super().fault(task, cpu, ins, fault)

    # -- a caller comes ------------------------------------------------------------------

    def call_of(self, task: Task) -> Call64:
        call = task.call
        assert isinstance(call, Call64)
        return call

    def registers_of(self, call: Call64) -> list[int]:
        rdi, rsi, rdx, r10, r8, r9 = call.registers
        rbx, rbp, *rest = call.kept
        return [call.number, call.rip, rdx, rbx, 0, rbp, rsi, rdi, r8, r9, r10, call.stack, *rest]

    def enter(self, task: Task) -> None:
        call, cpu = self.call_of(task), self.cpus[task.cpu]
        for what in call.before:
            self.in_user_mode(task, what)
            cpu = self.cpus[task.cpu]
        self.set_task_field(task, "TASK_ti_flags", self.harmless_flags())
        self.set_task_field(task, "TASK_syscall_work", call.work)
        self.memory.write(self.percpu(cpu.number, "x86_ibpb_exit_to_user"), 0)
        due = 1 << (cpu.cr3 & 0x7FF) if call.flush and self.processor.pcid else 0
        self.memory.write(self.percpu(cpu.number, "user_pcid_flush_mask"), due)
        task.flush_due = bool(due)
        cpu.stale = frozenset({self.user_cr3(task, cpu) & PCID} if due else ())
        cpu.registers = self.registers_of(call)
        cpu.flags = call.flags | FIXED | IF
        for name, selector in zip(("ds", "es", "fs", "gs"), call.segments, strict=True):
            cpu.segments[name] = selector
        cpu.bases["gs"], cpu.kernel_gs = _USER_GS[task.number], PERCPU_BASE[cpu.number]
        cpu.segments["cs"], cpu.segments["ss"] = USER_CS, USER_DS
        cpu.cpl, cpu.spec_ctrl, cpu.flushed = 3, _SPEC_CTRL_USER[cpu.number], False
        cpu.cr3 = self.user_cr3(task, cpu)
        task.bodies, task.moved = 0, False
        task.offset = self.memory.word(self.percpu(cpu.number, "sysenter_kstack_offset"))
        task.built, task.stood = False, self.slot(task, "SS") == self.offsets["FRAME_SS"]
        task.ipi = task.slow_allowed = task.exit_required = task.work_seen = task.cleared = False
        task.seen = task.seen | {
            *call.registers,
            *call.kept,
            call.stack,
            call.rip,
            call.result,
            call.flags,
            0,
            ENOSYS,
            USER_CS,
            USER_DS,
            IF | FIXED,
            call.number & (NR - 1),
        }
        task.count, task.result = self.counted(), call.result
        task.path = self.specified(call)
        self.processor.sysenter(cpu)
        self.say(task, cpu, self.enters)

    def specified(self, call: Call64) -> str:
        """Which way a call must go (native/present/entry_amd64.S, native/present/abi.h)."""
        if call.number < MARK:
            return "stock"
        if call.flags & ~(ARITHMETIC | FIXED | IF):
            return "odd"
        if call.work or call.rip >> 47 or arity(call.number & (NR - 1)) < 0:
            return "slow"
        return "fast"

    # -- the kernel's functions ------------------------------------------------------------

    def arrive(self, task: Task, cpu: Cpu) -> str:
        name = self.functions.get(cpu.eip)
        if name == "entry_SYSENTER_compat":
            return self._stock(task, cpu)
        if name == "entry_SYSCALL_64_after_hwframe":
            return self._slow(task, cpu)
        if name in ("irqentry_exit", "syscall_exit_to_user_mode"):
            return self._exit(task, cpu, name)
        if name == "trace_syscall_exit":
            return self._sys_exit(task, cpu)
        if name == "clear_bhb_loop":
            return self._clear_history(task, cpu)
        if name == "dispatch":  # x64_sys_call: a call for each number, and another one's for those past the last
            return self._body(task, cpu, cpu.registers[ESI] & 0xFFFFFFFF)
        if name == "__x86_indirect_thunk_r11":
            cpu.eip = cpu.registers[R11]
            return name
        if name is None and _BODY_AT <= cpu.eip < _BODY_AT + 16 * NR and cpu.eip % 16 == 0:
            return self._body(task, cpu, (cpu.eip - _BODY_AT) // 16)
        raise Broken("fault", f"execution goes to {cpu.eip:#x}, where nothing is that it may call")

    def _registers(self, key: str, cpu: Cpu, wanted: list[int], where: str, but: tuple[int, ...] = ()) -> None:
        for number, name in enumerate(NAMES[64]):
            if number not in but and cpu.registers[number] != wanted[number]:
                raise Broken(key, f"{name} = {cpu.registers[number]:#x} at {where}, should be {wanted[number]:#x}")

    def held(self, task: Task, name: str) -> frozenset[int]:
        made = [call for call in task.calls[: task.index + 1] if isinstance(call, Call64)]
        if name in ARGUMENTS:
            return frozenset(call.registers[ARGUMENTS.index(name)] for call in made)
        if name in KEPT:
            return frozenset(call.kept[KEPT.index(name)] for call in made)
        if name == "RCX":
            return frozenset(call.rip for call in made)
        return task.seen

    def _stock(self, task: Task, cpu: Cpu) -> str:
        call, where = self.call_of(task), "entry_SYSENTER_compat"
        if task.path != "stock":
            raise Broken("fast", f"rax = {call.number:#x} went to {where}")
        wanted = self.registers_of(call)
        wanted[ESP] = _ENTRY_END[cpu.number]
        self._registers("stock", cpu, wanted, where)
        if cpu.flags != (call.flags | FIXED) & ~IF:
            raise Broken("stock", f"RFLAGS = {cpu.flags:#x}, was {(call.flags | FIXED) & ~IF:#x}")
        self.as_in_user_mode(task, cpu, where)
        self._not_counted(task)
        self._kernel_call(task, cpu)
        return f"{where}: the kernel takes it from here"

    def _not_counted(self, task: Task) -> None:
        if not self.tasks[1].calls and self.counted() != task.count:
            raise Broken("count", "a call that is not fast was counted as fast")

    def _kernel_call(self, task: Task, cpu: Cpu) -> None:
        """The kernel does the whole call its own way and goes back to user mode."""
        call = self.call_of(task)
        self.kernel_takes_over(task, cpu)
        self.clobber(_ENTRY_END[cpu.number] - 0x100, _ENTRY_END[cpu.number])
        for name in self.pt:
            self.memory.write(self.frame(task.number) + self.pt[name], 0xBEEF0000 + len(name))
        self.memory.write(self.top(task.number) - 8, USER_DS)
        self.memory.write(self.frame(task.number) + self.pt["RSP"], call.stack)

    def _slow(self, task: Task, cpu: Cpu) -> str:
        """As from entry_SYSCALL_64: five words on the stack, all else in registers."""
        call, where = self.call_of(task), "entry_SYSCALL_64_after_hwframe"
        if task.path not in ("slow", "odd") and not task.slow_allowed:
            raise Broken("fast", f"call {call.number & (NR - 1)} went to {where}")
        if task.bodies:
            raise Broken("number", f"the body has run and {where} would run it again")
        self.in_kernel(task, cpu, where)
        if cpu.flags & ~ARITHMETIC != FIXED:
            raise Broken("flags", f"RFLAGS = {cpu.flags:#x} at {where}")
        if cpu.registers[ESP] != self.top(task.number) - 40:
            raise Broken(
                "hand-over", f"rsp = {cpu.registers[ESP]:#x} at {where}, the stack's top is {self.top(task.number):#x}"
            )
        self.expect("pt_regs", task, {"SS": USER_DS, "RSP": call.stack, "CS": USER_CS, "RIP": call.rip}, where)
        self.flags_slot(task, where, may_have_if=False)
        wanted = self.registers_of(call)
        wanted[EAX], wanted[R11] = call.number & (NR - 1), self.slot(task, "EFLAGS")
        self._registers("hand-over", cpu, wanted, where, but=(ESP,))
        self._not_counted(task)
        self._kernel_call(task, cpu)
        return f"{where}: the kernel takes it from here"

    def _clear_history(self, task: Task, cpu: Cpu) -> str:
        self.c_ready(task, cpu, "clear_bhb_loop")
        if not self.bhb:
            raise Broken("fast", "clear_bhb_loop runs where the kernel does not call it")
        task.cleared = True
        cpu.eip = self.processor.pop(cpu)
        cpu.registers[EAX], cpu.registers[ECX] = self.next_poison(), self.next_poison()
        self.clobber(max(_STACKS[task.number], cpu.registers[ESP] - 0x40), cpu.registers[ESP])
        return "clear_bhb_loop"

    def _constant_slots(self, task: Task) -> Slots:
        call = self.call_of(task)
        return {
            "ORIG_RAX": call.number & (NR - 1),
            "RIP": call.rip,
            "RSP": call.stack,
            "CS": USER_CS,
            "EFLAGS": IF | FIXED,
        }

    def _argument_slots(self, task: Task, at_least: int) -> Slots:
        """The arguments that the call takes. Slots of others may hold those of an older call."""
        call = self.call_of(task)
        takes = arity(call.number & (NR - 1))
        wanted = 6 if takes > 3 else max(takes, at_least)
        return dict(list(zip(ARGUMENTS, call.registers, strict=True))[:wanted])

    def _body(self, task: Task, cpu: Cpu, number: int) -> str:
        """The call's body; the kernel's own dispatch and it are one step."""
        call, where = self.call_of(task), f"body {number}"
        if task.path != "fast" or number != call.number & (NR - 1) or task.bodies:
            raise Broken(
                "number", f"rax = {call.number:#x} ({task.path}) runs {where}, for the {task.bodies + 1}. time"
            )
        self.c_ready(task, cpu, where)
        self.in_kernel(task, cpu, where)
        if not cpu.flags & IF:
            raise Broken("interrupts", f"{where} runs with interrupts off")
        if self.ibrs and cpu.spec_ctrl != _SPEC_CTRL[cpu.number]:
            raise Broken("branches", f"SPEC_CTRL = {cpu.spec_ctrl:#x} at {where}")
        if self.bhb and not task.cleared:
            raise Broken("branches", f"clear_bhb_loop has not run before {where}")
        frame = self.frame(task.number)
        if cpu.registers[EDI] != frame:
            raise Broken("arguments", f"rdi = {cpu.registers[EDI]:#x} at {where}, pt_regs is at {frame:#x}")
        self.expect("arguments", task, self._argument_slots(task, 0), where)
        self.expect("pt_regs", task, self._constant_slots(task), where)
        self.frame_stands(task, where)
        self._offset_drawn(task, cpu, where)
        self._cleared(task, cpu, where)
        task.bodies += 1
        words = f"{where} runs"
        self.clobber(max(_STACKS[task.number], cpu.registers[ESP] - 0x300), cpu.registers[ESP])
        if call.sleeps:
            words += f", sleeps and wakes on {'another' if call.sleeps == 'other' else 'the same'} CPU"
            self.switch(task, cpu, call.sleeps == "other")
            cpu = self.cpus[task.cpu]
        if call.unwound:
            self.set_task_field(task, "TASK_unwind_mask", _UNWIND_USED)
        if call.guest:
            self.memory.write(self.percpu(cpu.number, "x86_ibpb_exit_to_user"), 1, 1)
        if call.unmaps:
            self.unmap(task, cpu)
        self.raise_work(task, call.pending, call.tracing)
        kept = [cpu.registers[n] for n in (EBX, EBP, 12, 13, 14, 15)]
        cpu.eip = self.processor.pop(cpu)
        rsp = cpu.registers[ESP]
        cpu.registers = [self.next_poison() for _ in range(16)]
        cpu.registers[EAX], cpu.registers[ESP], cpu.registers[EBX], cpu.registers[EBP] = call.result, rsp, *kept[:2]
        cpu.registers[R12:] = kept[2:]
        cpu.flags ^= CF | ZF
        return words

    def _offset_drawn(self, task: Task, cpu: Cpu, where: str) -> None:
        offset = self.frame(task.number) - 8 - cpu.registers[ESP]
        if offset not in range(0, 8 * 256, 8):
            raise Broken("offset", f"rsp = {cpu.registers[ESP]:#x} at {where}, {offset} below the frame")
        if not task.number and not task.moved:
            self.offset_drawn(task, cpu, offset, where)

    def offset_drawn(self, task: Task, cpu: Cpu, offset: int, where: str) -> None:
        """The stack offset is the one that the previous call drew, and the next call's is drawn."""
        stored = self.memory.word(self.percpu(cpu.number, "sysenter_kstack_offset"))
        drawn, following = task.offset, task.offset * _FACTOR & _LAST
        if offset != 8 * (255 - (drawn >> 56)):
            raise Broken("offset", f"the stack's offset is {offset} at {where}, drawn was {drawn:#x}")
        if stored != following:
            raise Broken("offset", f"{stored:#x} is kept for the next call, should be {following:#x}")

    def _cleared(self, task: Task, cpu: Cpu, where: str) -> None:
        call = self.call_of(task)
        theirs = {*call.registers, *call.kept, call.stack, call.rip}
        body = self.memory.word(_CALLS + 8 * (call.number & (NR - 1)))
        ours = {0, self.top(task.number), TASKS[task.number], body, self.offsets["FRAME_SS"]}
        for number, name in enumerate(NAMES[64]):
            value = cpu.registers[number]
            if number in _ZEROED and value:
                raise Broken("clear", f"{name} = {value:#x} at {where}, should be 0")
            if number in (ESP, EDI) or value in ours or (number in (EAX, ESI) and value == call.number & (NR - 1)):
                continue
            if value in theirs and not (number == R10 and value < 256):  # the offset drawn
                raise Broken("clear", f"{name} = {value:#x} at {where} is the caller's")

    def note_work(self, task: Task) -> None:
        if self.task_field(task, "TASK_ti_flags") & self.offsets["EXIT_WORK"]:
            task.work_seen = True
        if self.vmscape and self.memory.read(self.percpu(task.cpu, "x86_ibpb_exit_to_user"), 1):
            task.work_seen = task.exit_required = True
        at = self.offsets.get("TASK_unwind_mask", -1)
        if at >= 0 and self.memory.word(TASKS[task.number] + at):
            task.work_seen = task.exit_required = True
        work = self.memory.word(TASKS[task.number] + self.offsets["TASK_syscall_work"])
        if work:
            task.work_seen = True
            cpu = self.cpus[task.cpu]
            if work & self.owed and (not task.bodies or (cpu.flags & IF and not cpu.shadow)):
                task.exit_required = True

    def _sys_exit(self, task: Task, cpu: Cpu) -> str:
        """trace_syscall_exit(), which is called as a part of the body: it may be preempted."""
        call, where = self.call_of(task), "trace_syscall_exit"
        if task.bodies != 1 or task.traced:
            raise Broken("number", f"{where} after {task.bodies} bodies{', again' * task.traced}")
        self.c_ready(task, cpu, where)
        self.in_kernel(task, cpu, where)
        if not cpu.flags & IF:
            raise Broken("interrupts", f"{where} runs with interrupts off")
        if (cpu.registers[EDI], cpu.registers[ESI]) != (self.frame(task.number), call.result):
            raise Broken("hand-over", f"rdi, rsi = {cpu.registers[EDI]:#x}, {cpu.registers[ESI]:#x} at {where}")
        self._whole_frame(task, where, self.offsets["FRAME_SS"])
        self.seen_by_unload(task, cpu)
        task.traced = True
        kept = [cpu.registers[n] for n in (EBX, EBP, 12, 13, 14, 15)]
        cpu.eip = self.processor.pop(cpu)
        rsp = cpu.registers[ESP]
        self.clobber(max(_STACKS[task.number], rsp - 0x300), rsp - 8)
        cpu.registers = [self.next_poison() for _ in range(16)]
        cpu.registers[ESP], cpu.registers[EBX], cpu.registers[EBP] = rsp, *kept[:2]
        cpu.registers[R12:] = kept[2:]
        return where

    def _whole_frame(self, task: Task, where: str, ss: int) -> None:
        call = self.call_of(task)
        slots = self._constant_slots(task) | self._argument_slots(task, 3)
        slots |= dict(zip(KEPT, call.kept, strict=True))
        slots |= {"RAX": call.result, "RCX": call.rip, "R11": IF | FIXED, "SS": ss}
        self.expect("pt_regs", task, slots, where)
        for name in ("R8", "R9", "R10"):
            if self.slot(task, name) not in task.seen:
                raise Broken("leak", f"PT_{name} = {self.slot(task, name):#x} at {where} was never the caller's")

    def _exit(self, task: Task, cpu: Cpu, where: str) -> str:
        self._done_once(task, where)
        if not task.work_seen:
            raise Broken("fast", f"nothing is pending and the call leaves by {where}")
        self.c_ready(task, cpu, where)
        self.in_kernel(task, cpu, where)
        whole = where == "syscall_exit_to_user_mode"
        if bool(cpu.flags & IF) != whole:
            raise Broken("hand-over", f"interrupts are {'off' if whole else 'on'} at {where}")
        if not whole and task.exit_required and not task.traced and not self.vmscape:
            raise Broken("work", f"the tracer that came during the call is not told of its end before {where}")
        if self.ibrs and not cpu.spec_ctrl & 1:
            raise Broken("branches", f"SPEC_CTRL = {cpu.spec_ctrl:#x} at {where}")
        frame, rsp = self.frame(task.number), cpu.registers[ESP]
        if cpu.registers[EDI] != frame or (cpu.registers[ESI] and not whole):
            raise Broken("hand-over", f"rdi, rsi = {cpu.registers[EDI]:#x}, {cpu.registers[ESI]:#x} at {where}")
        if rsp != frame - 8 or self.memory.word(rsp) != FUNCTIONS["return_to_usermode"]:
            raise Broken("hand-over", f"{where} would return to {self.memory.word(rsp):#x}, rsp = {rsp:#x}")
        self.no_way_back(task, cpu, where)
        self._whole_frame(task, where, USER_DS)
        self._kernel_call(task, cpu)
        return f"{where}: the kernel takes it from here"

    def _done_once(self, task: Task, where: str) -> None:
        if task.path != "fast" or task.bodies != 1:
            raise Broken("number", f"{where} is reached and {task.bodies} bodies have run ({task.path})")
        task.fast_calls += 1
        if not self.tasks[1].calls and self.counted() != (task.count + 1) & _LAST:
            raise Broken("count", f"one fast call counts {self.counted() - task.count}")

    def returned(self, task: Task, cpu: Cpu) -> None:
        call, where = self.call_of(task), "SYSRET"
        self._done_once(task, where)
        if not canonical(cpu.eip) or cpu.eip != call.rip:
            raise Broken("back", f"rip = {cpu.eip:#x} after SYSRET, should be {call.rip:#x}")
        wanted = self.registers_of(call)
        wanted[EAX], wanted[ESP], wanted[R11] = call.result, call.stack, IF | FIXED
        for number, value in enumerate(cpu.registers):
            if value not in task.seen:
                raise Broken("leak", f"{NAMES[64][number]} = {value:#x} after SYSRET was never the caller's")
        # lost by the stub's convention (native/user/stub_amd64.S)
        self._registers("back", cpu, wanted, where, but=(EDX, ESI, EDI, R8, R9, R10))
        if cpu.flags & ~ARITHMETIC != IF | FIXED:
            raise Broken("back", f"RFLAGS = {cpu.flags:#x} after SYSRET")
        for name, selector in zip(("ds", "es", "fs", "gs"), call.segments, strict=True):
            if cpu.segments[name] != selector:
                raise Broken("back", f"{name} = {cpu.segments[name]:#x} after SYSRET, was {selector:#x}")
        self.as_in_user_mode(task, cpu, where)
        if self.ibrs and cpu.spec_ctrl != _SPEC_CTRL_USER[cpu.number]:
            raise Broken("branches", f"SPEC_CTRL = {cpu.spec_ctrl:#x} in user mode")
        self._flushed_if_due(task, cpu)
        self.no_flags_left(task)
        if task.exit_required:
            raise Broken("work", "a tracer or a branch barrier waits for the exit, and the call returns by SYSRET")
        if self.verw and not cpu.verw:
            raise Broken("buffers", "no VERW after the last access to kernel data")
        if cpu.verw and not self.verw:
            raise Broken("fast", "VERW where the kernel has none")
        if task.stood and task.built:
            raise Broken("fast", "the frame of the call before stood, and was built again")
        if self.slot(task, "SS") == self.offsets["FRAME_SS"]:
            self.expect("frame", task, {"CS": USER_CS, "EFLAGS": IF | FIXED}, "the return")

    def _flushed_if_due(self, task: Task, cpu: Cpu) -> None:
        if not self.processor.pcid:
            return
        if cpu.cr3 & PCID in cpu.stale:
            raise Broken("stale", f"PCID {cpu.cr3 & PCID:#x} still has what was unmapped when user mode goes on")
        bit = 1 << (self.kernel_cr3(task, cpu) & 0x7FF)
        was, left = task.flush_due, self.memory.word(self.percpu(cpu.number, "user_pcid_flush_mask"))
        if was != cpu.flushed:
            raise Broken(
                "page table",
                f"the user's PCID is {'' if cpu.flushed else 'not '}flushed, and was {'' if was else 'not '}to be",
            )
        if left & bit:
            raise Broken("page table", "the flush is done and still asked for")

    # -- what may happen -------------------------------------------------------------------

    def allowed(self, task: Task, cpu: Cpu, event: Event) -> bool:
        if event.kind == "shootdown" and not self.processor.pcid:
            return False  # nothing is left for later then
        if event.kind in ("irq", "preempt", "shootdown"):
            return bool(cpu.flags & IF) and not cpu.shadow
        return True

    def happen(self, task: Task, cpu: Cpu, event: Event) -> None:
        if event.kind != "shootdown":
            return super().happen(task, cpu, event)
        self.say(task, cpu, "another thread unmaps a page, and has this CPU's TLB flushed of it")
        self.interrupt(task, cpu)
        self.unmap(task, cpu)
        return None

    def unmap(self, task: Task, cpu: Cpu) -> None:
        """flush_tlb_one_user(), flush_tlb_func(): under the kernel's PCID at once, under the user's by a bit for
        whoever returns there. Until then the TLB may have what the user's page table had."""
        if not self.processor.pcid:
            return
        at = self.percpu(cpu.number, "user_pcid_flush_mask")
        self.memory.write(at, self.memory.word(at) | 1 << (self.kernel_cr3(task, cpu) & 0x7FF))
        cpu.stale |= {self.user_cr3(task, cpu) & PCID}
        task.flush_due = True

    def nmi(self, task: Task, cpu: Cpu) -> None:
        """On its own stack. HAZARD: asm_exc_nmi takes rsp on that stack for an NMI within an NMI,
        unless DF is clear: with the user's rsp it has to be (arch/x86/entry/entry_64.S, first_nmi)."""
        low, high = self.stack_bounds(task, cpu)
        rsp = cpu.registers[ESP]
        if rsp == self.call_of(task).stack and not low <= rsp <= high and cpu.flags & DF:
            raise Broken("stack", "an NMI finds the user's stack pointer and DF set")

    def debug(self, task: Task, cpu: Cpu) -> None:
        pass  # on its own stack, as NMI and #MC

    def clobber_below(self, cpu: Cpu, task: Task, words: int = 5) -> None:
        """SDM Vol. 3A, 6.14.2: rsp is aligned to 16, then SS, RSP, RFLAGS, CS and RIP go below it."""
        rsp = cpu.registers[ESP]
        low = max(self.stack_bounds(task, cpu)[0], rsp - 0x400)
        self.clobber(low, rsp)
        at = rsp & -16
        for value in (cpu.segments["ss"], rsp, cpu.flags, cpu.segments["cs"], cpu.eip):
            at -= 8
            self.memory.write(at, value)

    def c_ready(self, task: Task, cpu: Cpu, what: str) -> None:
        super().c_ready(task, cpu, what)
        self.in_kernel(task, cpu, what)

    def switch(self, task: Task, cpu: Cpu, elsewhere: bool) -> None:
        self.seen_by_unload(task, cpu)
        number = cpu.number
        self.clobber(_ENTRY_END[number] - 0x100, _ENTRY_END[number])
        at = self.percpu(number, "sysenter_kstack_offset")
        self.memory.write(at, self.memory.read(at, 4) ^ 0x5A5A5A5A, 4)
        task.moved = True
        if not elsewhere or self.tasks[1].calls:
            return
        other = self.cpus[1 - number]
        other.registers, other.eip, other.flags = cpu.registers[:], cpu.eip, cpu.flags
        other.segments, other.bases = cpu.segments.copy(), cpu.bases.copy()
        other.cpl, other.shadow, other.flushed = cpu.cpl, cpu.shadow, cpu.flushed
        other.spec_ctrl = (_SPEC_CTRL_USER if cpu.cpl else _SPEC_CTRL)[other.number]
        self.run_on(self.tasks[2], cpu)
        self.run_on(task, other)
        if cpu.cpl == 3:
            other.kernel_gs, other.cr3 = PERCPU_BASE[other.number], self.user_cr3(task, other)
        else:
            other.bases["gs"], other.kernel_gs = PERCPU_BASE[other.number], cpu.kernel_gs
            other.cr3 = self.kernel_cr3(task, other)
        bit = 1 << (other.cr3 & 0x7FF)
        task.flush_due = bool(self.memory.word(self.percpu(other.number, "user_pcid_flush_mask")) & bit)
        task.exit_required = False  # a guest on the other CPU is the other's affair
        self.note_work(task)

    def in_user_mode(self, task: Task, what: str) -> None:
        """Something happens between two calls, in user mode: a whole pt_regs at the stack's top."""
        cpu = self.cpus[task.cpu]
        self.say(task, cpu, f"in user mode: {what}")
        self.clobber(_ENTRY_END[cpu.number] - 0x100, _ENTRY_END[cpu.number])
        self.clobber(_STACKS[task.number], self.top(task.number))
        for slot in self.pt:
            self.memory.write(self.frame(task.number) + self.pt[slot], 0xBEEF0000 + len(slot))
        self.memory.write(self.top(task.number) - 8, USER_DS)
        if what == "switch":
            self.switch(task, cpu, True)
