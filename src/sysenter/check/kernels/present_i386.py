# SPDX-License-Identifier: GPL-2.0-or-later
"""Linux 6.x on i386, around native/present/entry_i386.S.

Layouts: arch/x86/include/asm/segment.h (GDT), cpu_entry_area.h, processor.h
(TSS, padding at the top of a stack for vm86). What an interrupt does to the
stacks: arch/x86/entry/entry_32.S, SWITCH_TO_KERNEL_STACK and asm_exc_nmi.
"""

from __future__ import annotations

import struct
from dataclasses import replace

from sysenter.check.case import Call, Case, Event
from sysenter.check.code.instructions import EAX, EBP, EBX, ECX, EDI, EDX, ESI, ESP, Access, Instruction
from sysenter.check.code.objectfile import EntryObject
from sysenter.check.code.program import Program, lay_out
from sysenter.check.cpu.memory import PAGE, Area, Memory
from sysenter.check.cpu.processor import FIXED, IF, Cpu, Processor
from sysenter.check.kernels.base import POISON, Task
from sysenter.check.kernels.present import ARITHMETIC, DIVIDER, NR, VMSCAPE, Present, Slots, arity
from sysenter.check.properties import Broken

__all__ = ["ENTRY_END", "KERNEL_CS", "KERNEL_DS", "MARK", "USER_CS", "USER_DS", "VARIANTS", "PresentI386"]

MARK = 0x80000000  # native/present/abi.h, SYSENTER_MARK_I386

KERNEL_CS, KERNEL_DS, USER_CS, USER_DS, PERCPU = 0x60, 0x68, 0x73, 0x7B, 0xD8
_TLS = (0x33, 0x3B, 0x43)
_LDT_ENTRIES = 16  # of the task's LDT, while it has one
TASK_SIZE = 0xC0000000
THREAD_SIZE, _PADDING = 8192, 16  # TOP_OF_KERNEL_STACK_PADDING with CONFIG_VM86
ENOSYS, EFAULT = -38 & 0xFFFFFFFF, -14 & 0xFFFFFFFF
CLEAR_CPU_BUF = {11 * 32 + 18, 3 * 32 + 18}  # its number in 6.1, and later (asm/cpufeatures.h)

_TEXT, _RODATA = 0xF8A01000, 0xF8A04000
_PERCPU_BASE = (0x2E400000, 0x2E480000)
_PERCPU_AT = {
    "current_task": 0xC1C00010,
    "sysenter_count": 0xC1C00080,
    "sysenter_count_all": 0xC1C00090,
    "sysenter_kstack_offset": 0xC1C000C4,
    "x86_ibpb_exit_to_user": 0xC1C000D0,
    "cpu_tss_rw": 0xC1C00200,
}
ENTRY_END = (0xFFC03000, 0xFFC43000)  # end of each CPU's entry stack
_TASKS = (0xC2000000, 0xC2001000, 0xC2002000)
_STACKS = (0xC3000000, 0xC3004000, 0xC3008000)
_MM = 0xC2100000
_KINDS, _BODIES, _LANDING = 0xF8A08000, 0xF8A09000, 0xF8A0A000
CALL_PLAIN, CALL_SIX, CALL_SLOW = 0, 1, 2  # native/present/frame.h
LANDING_PAD = 0x589
_FUNCTIONS = {
    "entry_SYSENTER_32": 0xC1001000,
    "do_SYSENTER_32": 0xC1002000,
    "syscall_exit_to_user_mode": 0xC1003000,
    "restore_all_switch_stack": 0xC1004000,
    "call_of_do_SYSENTER_32": 0xC1001080,
    "dispatch": 0xC1005000,
    "__x86_indirect_thunk_ecx": 0xC1006000,
}
_TABLE = "scope=all, no ia32_sys_call"  # older kernels: the entry's own dispatch
VARIANTS = ("", "smap", _TABLE)
# What arch_i386.c, write_scope() has for LOOK_AT_SCOPE in entry_i386.S: cmp eax and jae, test eax and jnz.
_SCOPES = {"all": (0x3D, NR, 0x83), "both": (0xA9, ~(MARK | NR - 1) & 0xFFFFFFFF, 0x85)}
_ANOTHER = 0x10000  # what a call that was not marked counts here
_FACTOR = 0x5851F42D  # entry_i386.S, sysenter_kstack_offset
_LFENCE = b"\x0f\xae\xe8"
_BODY_AT = 0xC1100000
# User memory: page 0 (vm.mmap_min_addr may be 0); two stack pages that are there, one that must be read in, one that
# another thread may unmap; and the last page below the kernel.
USER_STACK, USER_ABSENT, USER_FRAGILE, USER_TOP = 0xBF800000, 0xBF802000, 0xBF900000, 0xBFFFF000

PT = (
    "EBX",
    "ECX",
    "EDX",
    "ESI",
    "EDI",
    "EBP",
    "EAX",
    "DS",
    "ES",
    "FS",
    "GS",
    "ORIG_EAX",
    "EIP",
    "CS",
    "EFLAGS",
    "OLDESP",
    "OLDSS",
)

_ARGUMENTS = ("EBX", "ECX", "EDX", "ESI", "EDI")


def _of_the_trampoline(entry: EntryObject) -> dict[str, int]:
    """What pti_i386.c finds for the patch sites of pti_i386.S; the trampoline runs where it was laid out."""
    names = ("past_trampoline", "trampoline_exit", "trampoline_selector")
    return {n: _TEXT + entry.symbols[f"sysenter_{n}"][1] for n in names if f"sysenter_{n}" in entry.symbols}


class PresentI386(Present):
    """The kernel of one Debian i386 release, with two CPUs and three tasks.

    variant: "" for a processor with nothing to patch in, "smap" for one with SMAP, LFENCE, and a need
    to clear buffers and to keep guests' branches out of their hypervisor (VMSCAPE); or one with LFENCE
    and Zen 1's divider, and a kernel with no ia32_sys_call(). Each has another of the module's scopes.
    With scope=all the callers come without the mark where they have it, and with it where they have it
    not.
    """

    task_size = TASK_SIZE
    speculates = 80  # as far as the body
    zen = _TABLE  # the variant with Zen 1's divider
    name = "present-i386"
    tasks_at, stacks_at = _TASKS, _STACKS
    tops_at = tuple(start + THREAD_SIZE - _PADDING for start in _STACKS)
    body_at = _BODY_AT
    percpu_at, percpu_base = _PERCPU_AT, _PERCPU_BASE
    ss = "OLDSS"

    def __init__(self, entry: EntryObject, offsets: dict[str, int], variant: str = "") -> None:
        super().__init__()
        self.offsets = offsets
        self.pt = {name: offsets["PT_" + name] for name in PT}
        self.pt_size = offsets["PT_SIZE"]
        self.memory = memory = Memory(64 * PAGE)
        text = entry.sections[".text.sysenter"]
        memory.add("the text", Area.TEXT, _TEXT, max(len(text.data), 1))
        rodata = entry.sections.get(".rodata")
        if rodata is not None and rodata.data:
            memory.add("read-only data", Area.CONSTANT, _RODATA, len(rodata.data))
        for name, at, size in (
            ("sysenter_kinds", _KINDS, NR),
            ("sysenter_bodies", _BODIES, 4 * NR),
            ("sysenter_landing_pad", _LANDING, 4),
        ):
            memory.add(name, Area.CONSTANT, at, size)
        for start in (0, USER_STACK, USER_STACK + PAGE, USER_ABSENT, USER_FRAGILE, USER_TOP):
            memory.add(f"user page {start:#x}", Area.USER, start, PAGE)
            for at in range(start, start + PAGE, 4):
                memory.write(at, at ^ 0x5A000000)
        memory.seal()
        self._kernel_memory()
        patched = {a.feature for a in entry.alternatives()}
        smap = variant == "smap"
        self.scope = "both" if smap else "all" if variant == _TABLE else "marked"
        replacements = entry.sections[".altinstr_replacement"].data if patched else b""
        fences = {
            a.feature
            for a in entry.alternatives()
            if replacements[a.replacement : a.replacement + a.replacement_length] == _LFENCE
        }
        self.vmscape, self.divider = smap and VMSCAPE in patched, variant == self.zen and DIVIDER in patched
        chosen = patched - {DIVIDER} if smap else fences if variant == _TABLE else set()
        chosen |= {DIVIDER} if self.divider else set()
        functions = {**_FUNCTIONS, **_of_the_trampoline(entry)}
        if not smap:
            functions["dispatch"] = _TEXT + entry.symbols["sysenter_dispatch"][1]
        places = {".text.sysenter": _TEXT}
        if "read-only data" in memory.regions:
            places[".rodata"] = _RODATA
        self.program: Program = lay_out(
            entry,
            ".text.sysenter",
            memory,
            places,
            {
                **_FUNCTIONS,
                **_PERCPU_AT,
                "sysenter_kinds": _KINDS,
                "sysenter_bodies": _BODIES,
                "sysenter_landing_pad": _LANDING,
            },
            frozenset(chosen),
            functions,
        )
        self.processor = Processor(memory, self)
        self.processor.smap = smap
        self.verw = smap and bool((patched - fences) & CLEAR_CPU_BUF)
        self.entry = self.program.symbols["sysenter_entry"]
        self.has_offset = any(
            r.symbol == "sysenter_kstack_offset" for r in text.relocations
        )  # CONFIG_RANDOMIZE_KSTACK_OFFSET
        self.functions = {address: name for name, address in _FUNCTIONS.items()}
        self._write_tables()
        self._write_scope(entry)
        self.memory.write(_LANDING, LANDING_PAD)

    def _kernel_memory(self) -> None:
        memory = self.memory
        for number, start in enumerate(_TASKS):
            memory.add(f"task {number}", Area.TASK, start, PAGE, task=number)
        memory.add("mm", Area.TASK, _MM, PAGE)
        for cpu, end in enumerate(ENTRY_END):
            sp1 = end + self.offsets["ENTRY_STACK_TO_SP1"]
            memory.add(f"CPU {cpu}'s TSS", Area.CPU, sp1 & -PAGE, 104, cpu=cpu)
            linear = (_PERCPU_BASE[cpu] + min(_PERCPU_AT.values())) & -PAGE & 0xFFFFFFFF
            memory.add(f"CPU {cpu}'s per-CPU data", Area.CPU, linear, PAGE, cpu=cpu)
        memory.stacks_follow()
        for number, start in enumerate(_STACKS):
            memory.add(f"task {number}'s stack", Area.TASK_STACK, start, THREAD_SIZE - _PADDING, task=number)
        for cpu, end in enumerate(ENTRY_END):
            memory.add(f"CPU {cpu}'s entry stack", Area.ENTRY_STACK, end - PAGE, PAGE, cpu=cpu)

    def _write_scope(self, entry: EntryObject) -> None:
        sites = entry.sections[".rodata.sysenter_scope_sites"].data
        for (offset,) in struct.iter_unpack("<I", sites):
            at = _TEXT + offset
            if self.scope == "marked" or self.memory.read(at, 1) == 0x90:  # a mutant has none there
                continue
            opcode, constant, jump = _SCOPES[self.scope]
            for place, byte in enumerate(struct.pack("<BI", opcode, constant) + bytes((0x0F, jump))):
                self.memory.write(at + place, byte, 1)

    def _write_tables(self) -> None:
        """As native/present/arch_i386.c fills them."""
        for number in range(NR):
            takes, body = arity(number), _BODY_AT + 16 * number
            kind = CALL_SLOW if takes < 0 else CALL_SIX if takes == 6 else CALL_PLAIN
            self.memory.write(_KINDS + number, kind, 1)
            self.memory.write(_BODIES + 4 * number, 0 if takes < 0 else body)

    # -- the first state -------------------------------------------------------------

    def begin(self, case: Case) -> None:
        memory = self.memory
        self.poison, self.clock = POISON, 0x1234567
        for region in memory.regions.values():
            if region.area not in (Area.TEXT, Area.CONSTANT, Area.USER):
                self.clobber(region.start, region.end)
        self.cpus = [Cpu(number) for number in range(2)]
        calls, others = (tuple(map(self._comes, calls)) for calls in (case.calls, case.others))
        self.tasks = [Task(0, calls, 0), Task(1, others, 1), Task(2, (), -1)]
        for cpu in self.cpus:
            memory.write(self.percpu(cpu.number, "sysenter_count"), 100 * cpu.number)
            memory.write(self.percpu(cpu.number, "sysenter_count_all"), 10 * cpu.number)
            memory.write(self.percpu(cpu.number, "sysenter_kstack_offset"), 0xDEADBEEF * (cpu.number + 1))
            memory.write(self.percpu(cpu.number, "cpu_tss_rw") + self.offsets["TSS_SP0"], ENTRY_END[cpu.number])
            memory.write(self.percpu(cpu.number, "x86_ibpb_exit_to_user"), 0)
            cpu.msr = (KERNEL_CS, ENTRY_END[cpu.number], self.entry)
            self.run_on(self.tasks[cpu.number], cpu)
        for number in range(3):
            for field, value in (("TASK_ti_flags", self.harmless_flags()), ("TASK_syscall_work", 0), ("TASK_mm", _MM)):
                memory.write(_TASKS[number] + self.offsets[field], value)
        memory.write(_MM + self.offsets["MM_vdso"], 0)
        self.counted_before = self.counted()

    def run_on(self, task: Task, cpu: Cpu) -> None:
        """Write what __switch_to() writes for the next task."""
        task.cpu = cpu.number
        cpu.task = task.number
        self.memory.write(ENTRY_END[cpu.number] + self.offsets["ENTRY_STACK_TO_SP1"], self.top(task.number))
        self.memory.write(self.percpu(cpu.number, "current_task"), _TASKS[task.number])

    # -- where things are --------------------------------------------------------------

    def entry_bounds(self, cpu: Cpu) -> tuple[int, int]:
        end = ENTRY_END[cpu.number]
        return end - PAGE + 0x200, end

    def on_entry_stack(self, cpu: Cpu) -> bool:
        end = ENTRY_END[cpu.number]
        return end - PAGE < cpu.registers[ESP] <= end

    def descriptor(self, cpu: Cpu, selector: int) -> int | None:
        if selector & 4:
            task = self.tasks[cpu.task]
            return 0x10000000 if task.ldt and selector >> 3 < _LDT_ENTRIES else None
        if selector | 3 in _TLS:
            return 0xB7E00000
        if selector == PERCPU:
            return _PERCPU_BASE[cpu.number]
        if selector | 3 == USER_DS or selector in (USER_CS, KERNEL_DS, KERNEL_CS):
            return 0
        return None

    def segment_usable(self, cpu: Cpu, name: str) -> bool:
        if name == "fs":
            return cpu.segments["fs"] == PERCPU and cpu.bases["fs"] == _PERCPU_BASE[cpu.number]
        return name in ("ds", "es") and cpu.segments[name] == USER_DS

    def strays(self, cpu: Cpu, access: Access, linear: int) -> bool:
        """Also through a segment of the caller's, whose base may be anything (modify_ldt())."""
        theirs = access.segment in ("ds", "es", "fs", "gs") and not self.segment_usable(cpu, access.segment)
        return (theirs and bool(cpu.bases[access.segment])) or super().strays(cpu, access, linear)

    def runs_astray(self, cpu: Cpu) -> str:
        """C code reads through them: a base of the caller's choice would be all it needs."""
        if cpu.eip == _FUNCTIONS["entry_SYSENTER_32"]:
            return ""
        odd = next((n for n in ("ds", "es", "fs") if not self.segment_usable(cpu, n)), "")
        return odd and f"the kernel's code runs with {odd} = {cpu.segments[odd]:#x}"

    def user_page(self, task: Task, cpu: Cpu, linear: int) -> str:
        page = linear & -PAGE
        if page in (0, USER_STACK, USER_STACK + PAGE, USER_TOP):
            return ""
        if page == USER_ABSENT:
            return "" if task.resident else "absent"
        if page == USER_FRAGILE:
            return "" if task.mapped else "invalid"
        return "invalid"

    def timestamp(self, cpu: Cpu) -> int:
        self.clock = (self.clock * 6364136223846793005 + 1442695040888963407) & 0xFFFFFFFFFFFFFFFF
        return self.clock

    def access(self, cpu: Cpu, ins: Instruction, access: Access, linear: int) -> None:
        super().access(cpu, ins, access, linear)
        if access.write and linear == self.percpu(cpu.number, "sysenter_kstack_offset"):
            self.tasks[cpu.task].offset = self.memory.word(linear)  # what was drawn by the call before

    # -- a caller comes ------------------------------------------------------------------

    def sixth(self, task: Task, call: Call) -> int | None:
        """The word at (%ebp), or None if user mode could not read it either."""
        if call.stack > TASK_SIZE - 4:
            return None
        if any("invalid" in self.user_page(task, self.cpus[task.cpu], call.stack + i) for i in (0, 3)):
            return None
        return self.memory.read(call.stack, 4)

    def enter(self, task: Task) -> None:
        call = task.call
        cpu = self.cpus[task.cpu]
        for what in call.before:
            self.in_user_mode(task, what)
            cpu = self.cpus[task.cpu]
        self.memory.write(self.percpu(cpu.number, "x86_ibpb_exit_to_user"), 0)
        self.memory.write(_MM + self.offsets["MM_vdso"], call.vdso)
        self.memory.write(_TASKS[task.number] + self.offsets["TASK_ti_flags"], self.harmless_flags())
        self.memory.write(_TASKS[task.number] + self.offsets["TASK_syscall_work"], call.work)
        ebx, ecx, edx, esi, edi = call.registers
        cpu.registers = [call.number, ecx, edx, ebx, call.stack, call.stack, esi, edi]
        cpu.flags = call.flags | FIXED | IF
        for name, selector in zip(("ds", "es", "fs", "gs"), call.segments, strict=True):
            cpu.segments[name], cpu.bases[name] = selector, self.descriptor(cpu, selector) or 0
        cpu.segments["cs"], cpu.segments["ss"] = USER_CS, USER_DS
        cpu.cpl = 3
        task.ldt = task.mapped = True
        task.resident = False
        task.bodies, task.offset, task.moved = 0, -1, False
        task.built, task.stood = False, self.slot(task, "OLDSS") == self.offsets["FRAME_SS"]
        task.ipi = task.slow_allowed = task.exit_required = task.work_seen = False
        task.sixths = frozenset({self.sixth(task, call)})
        task.seen = task.seen | {
            *call.registers,
            call.stack,
            *call.segments,
            call.result,
            call.flags,
            0,
            ENOSYS,
            EFAULT,
            USER_CS,
            USER_DS,
            IF | FIXED,
            call.vdso + LANDING_PAD & 0xFFFFFFFF,
            call.number & (NR - 1),
        }
        if None not in task.sixths:
            task.seen |= {s for s in task.sixths if s is not None}
        task.count = self.counted()
        task.result = call.result
        task.path = self.specified(call)
        self.processor.sysenter(cpu)
        self.say(task, cpu, self.enters)

    def _comes(self, call: Call) -> Call:
        if self.scope != "all" or call.number & ~(MARK | NR - 1):
            return call
        return replace(call, number=call.number ^ MARK)

    def is_taken(self, call: Call) -> bool:
        """Is the call in the module's scope, with a number that may be fast?"""
        if self.scope == "both":
            return not call.number & ~(MARK | NR - 1)
        return MARK * (self.scope == "marked") <= call.number < MARK * (self.scope == "marked") + NR

    def is_marked(self, call: Call) -> bool:
        return bool(call.number & MARK)

    def counted(self) -> int:
        others = sum(self.memory.word(self.percpu(cpu, "sysenter_count_all")) for cpu in (0, 1))
        return super().counted() + _ANOTHER * others & 0xFFFFFFFF

    def specified(self, call: Call) -> str:
        """Which way a call must go (native/present/entry_i386.S, native/present/abi.h)."""
        if not self.is_taken(call):
            return "stock"
        if call.flags & self.offsets["ODD_FLAGS"] or call.segments[0] != USER_DS or call.segments[1] != USER_DS:
            return "odd"
        if call.work or not call.vdso or arity(call.number & (NR - 1)) < 0:
            return "slow"
        return "fast"

    # -- the kernel's functions ------------------------------------------------------------

    def arrive(self, task: Task, cpu: Cpu) -> str:
        name = self.functions.get(cpu.eip)
        if name == "entry_SYSENTER_32":
            return self._stock(task, cpu)
        if name == "call_of_do_SYSENTER_32":
            return self._slow(task, cpu)
        if name == "dispatch":  # ia32_sys_call(): a call for each number
            return self._body(task, cpu, cpu.registers[EDX])
        if name == "__x86_indirect_thunk_ecx":
            cpu.eip = cpu.registers[ECX]
            return "to the body"
        if name == "syscall_exit_to_user_mode":
            return self._exit(task, cpu)
        if name is None and _BODY_AT <= cpu.eip < _BODY_AT + 16 * NR and cpu.eip % 16 == 0:
            return self._body(task, cpu, (cpu.eip - _BODY_AT) // 16)
        raise Broken("fault", f"execution goes to {cpu.eip:#x}, where nothing is that it may call")

    def _constant_slots(self, task: Task) -> Slots:
        call = task.call
        return {
            "DS": USER_DS,
            "ES": USER_DS,
            "FS": call.segments[2],
            "GS": 0,
            "ORIG_EAX": call.number & (NR - 1),
            "EIP": call.vdso + LANDING_PAD & 0xFFFFFFFF,
            "CS": USER_CS,
            "OLDESP": call.stack,
            "EBP": call.stack,
            "EAX": ENOSYS,
            "EFLAGS": call.flags | FIXED | IF,
            **dict(zip(_ARGUMENTS, call.registers, strict=True)),
        }

    def held(self, task: Task, name: str) -> frozenset[int]:
        made = task.calls[: task.index + 1]
        if name in _ARGUMENTS:
            return frozenset(c.registers[_ARGUMENTS.index(name)] for c in made)
        return task.seen

    def _stock(self, task: Task, cpu: Cpu) -> str:
        call = task.call
        if task.path not in ("stock", "odd"):
            raise Broken("fast", f"eax = {call.number:#x} went to entry_SYSENTER_32")
        key = "stock" if task.path == "stock" else "odd flags"
        eax = call.number if task.path == "stock" else call.number & (NR - 1)
        ebx, ecx, edx, esi, edi = call.registers
        wanted = [eax, ecx, edx, ebx, ENTRY_END[cpu.number], call.stack, esi, edi]
        for number, name in enumerate(("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")):
            if cpu.registers[number] != wanted[number]:
                raise Broken(key, f"{name} = {cpu.registers[number]:#x}, was {wanted[number]:#x}")
        if cpu.flags != (call.flags | FIXED) & ~IF:
            raise Broken(key, f"EFLAGS = {cpu.flags:#x}, was {(call.flags | FIXED) & ~IF:#x}")
        for name, selector in zip(("ds", "es", "fs", "gs"), call.segments, strict=True):
            if cpu.segments[name] != selector:
                raise Broken(key, f"{name} = {cpu.segments[name]:#x}, was {selector:#x}")
        if not self.tasks[1].calls and self.counted() != task.count:
            raise Broken("count", "a stock call was counted as fast")
        self._kernel_call(task, cpu, {"ORIG_EAX": eax, "FS": call.segments[2], "EFLAGS": call.flags | IF})
        return "entry_SYSENTER_32: the kernel takes it from here"

    def _kernel_call(self, task: Task, cpu: Cpu, slots: dict[str, int]) -> None:
        """The kernel does the whole call its own way and goes back to user mode."""
        self.kernel_takes_over(task, cpu)
        self.clobber(ENTRY_END[cpu.number] - 0x100, ENTRY_END[cpu.number])
        call = task.call
        values = {
            "OLDSS": USER_DS,
            "OLDESP": call.stack,
            "CS": USER_CS,
            "DS": USER_DS,
            "ES": USER_DS,
            "GS": 0,
            "EIP": 0xB7F00000 + LANDING_PAD,
            **slots,
        }
        for name, value in values.items():
            self.memory.write(self.frame(task.number) + self.pt[name], value)

    def _handed_over(self, task: Task, cpu: Cpu, where: str, esp: int) -> None:
        self.c_ready(task, cpu, where)
        frame = self.frame(task.number)
        if cpu.registers[EAX] != frame:
            raise Broken("hand-over", f"eax = {cpu.registers[EAX]:#x} at {where}, pt_regs is at {frame:#x}")
        if cpu.registers[ESP] != esp:
            raise Broken("hand-over", f"esp = {cpu.registers[ESP]:#x} at {where}, should be {esp:#x}")
        if cpu.segments["gs"] != task.call.segments[3]:
            raise Broken("back", f"gs = {cpu.segments['gs']:#x}, was {task.call.segments[3]:#x}")
        self.no_way_back(task, cpu, where)

    def _slow(self, task: Task, cpu: Cpu) -> str:
        """In entry_SYSENTER_32, before its call of do_SYSENTER_32."""
        where = "do_SYSENTER_32"
        call = task.call
        unreadable = arity(call.number & (NR - 1)) == 6 and None in task.sixths
        if task.path != "slow" and not task.slow_allowed and not unreadable:
            raise Broken("fast", f"call {call.number & (NR - 1)} went to {where}")
        if task.bodies:
            raise Broken("number", f"the body has run and {where} would run it again")
        self._handed_over(task, cpu, where, self.frame(task.number))
        if cpu.flags & IF:
            raise Broken("hand-over", f"interrupts are on at {where}")
        slots = self._constant_slots(task)
        del slots["EIP"]  # it writes that itself, and sp from bp
        del slots["OLDESP"]
        self.expect("pt_regs", task, slots | {"OLDSS": USER_DS}, where)
        if not self.tasks[1].calls and self.counted() != task.count:
            raise Broken("count", "a call by the slow path was counted as fast")
        self._kernel_call(task, cpu, {"ORIG_EAX": call.number & (NR - 1)})
        return f"{where}: the kernel takes it from here"

    def _body(self, task: Task, cpu: Cpu, number: int) -> str:
        call = task.call
        where = f"body {number}"
        if task.path != "fast" or number != call.number & (NR - 1) or task.bodies:
            raise Broken(
                "number", f"eax = {call.number:#x} ({task.path}) runs {where}, for the {task.bodies + 1}. time"
            )
        self.c_ready(task, cpu, where)
        if not cpu.flags & IF:
            raise Broken("interrupts", f"{where} runs with interrupts off")
        frame = self.frame(task.number)
        if cpu.registers[EAX] != frame:
            raise Broken("arguments", f"eax = {cpu.registers[EAX]:#x} at {where}, pt_regs is at {frame:#x}")
        self._arguments(task, number)
        slots = self._constant_slots(task)
        if arity(number) == 6:
            del slots["EBP"]
        self.expect("pt_regs", task, slots, where)
        self.frame_stands(task, where)
        if cpu.registers[EBP] != frame - self.offsets["LAST_FRAME"]:
            raise Broken("unwind", f"ebp = {cpu.registers[EBP]:#x} at {where}, the last frame is at {frame - 8:#x}")
        for register, index in ((EBX, 0), (ESI, 3), (EDI, 4)):
            if cpu.registers[register] != call.registers[index]:
                raise Broken(
                    "back", f"the body keeps {cpu.registers[register]:#x}, the caller had {call.registers[index]:#x}"
                )
        self._offset_drawn(task, cpu, where)
        task.bodies += 1
        words = f"{where} runs"
        self.clobber(max(_STACKS[task.number], cpu.registers[ESP] - 0x300), cpu.registers[ESP])
        if call.sleeps:
            words += f", sleeps and wakes on {'another' if call.sleeps == 'other' else 'the same'} CPU"
            self.switch(task, cpu, call.sleeps == "other")
            cpu = self.cpus[task.cpu]
        if call.guest and self.vmscape:  # KVM sets it for such a processor only
            self.memory.write(self.percpu(cpu.number, "x86_ibpb_exit_to_user"), 1, 1)
            task.work_seen = True
        self.raise_work(task, call.pending, call.tracing)
        self.processor.pop(cpu)
        cpu.eip = self.memory.word(cpu.registers[ESP] - 4)
        cpu.registers[EAX], cpu.registers[ECX], cpu.registers[EDX] = call.result, self.next_poison(), self.next_poison()
        cpu.flags ^= ARITHMETIC
        return words

    def _arguments(self, task: Task, number: int) -> None:
        self.expect("arguments", task, dict(zip(_ARGUMENTS, task.call.registers, strict=True)), f"body {number}")
        if arity(number) == 6 and self.slot(task, "EBP") not in task.sixths:
            raise Broken("arguments", f"the 6th is {self.slot(task, 'EBP'):#x}, the caller's was {task.sixths}")

    def _offset_drawn(self, task: Task, cpu: Cpu, where: str) -> None:
        if not self.has_offset or task.number != 0:
            return
        drawn = task.offset
        esp = self.frame(task.number) - 4 * (255 - (drawn >> 24)) - 4  # and the return address
        number = task.call.number & (NR - 1)
        if drawn < 0 or cpu.registers[ESP] != esp:
            raise Broken("offset", f"esp = {cpu.registers[ESP]:#x} at {where} ({number}), drawn was {drawn:#x}")
        stored = self.memory.word(self.percpu(cpu.number, "sysenter_kstack_offset"))
        if not task.moved and stored != drawn * _FACTOR & 0xFFFFFFFF:
            raise Broken("offset", f"{stored:#x} is kept for the next call, drawn was {drawn:#x}")

    def barrier_due(self, cpu: Cpu) -> bool:
        """Has a guest run on this CPU since its last exit to user mode?"""
        return self.vmscape and bool(self.memory.read(self.percpu(cpu.number, "x86_ibpb_exit_to_user"), 1))

    def tick(self, task: Task) -> bool:
        self.note_division(task)
        return super().tick(task)

    def note_work(self, task: Task) -> None:
        if self.task_field(task, "TASK_syscall_work") & self.offsets["EXIT_SYSCALL_WORK"]:
            task.work_seen = True
            cpu = self.cpus[task.cpu]
            if not task.bodies or (cpu.flags & IF and not cpu.shadow):
                task.exit_required = True
        if self.task_field(task, "TASK_ti_flags") & self.offsets["EXIT_WORK"]:
            task.work_seen = True

    def _exit(self, task: Task, cpu: Cpu) -> str:
        where = "syscall_exit_to_user_mode"
        call = task.call
        self._done_once(task, where)
        if not task.work_seen:
            raise Broken("fast", f"nothing is pending and the call leaves by {where}")
        frame = self.frame(task.number)
        self._handed_over(task, cpu, where, frame - 4)
        if self.memory.word(frame - 4) != _FUNCTIONS["restore_all_switch_stack"]:
            raise Broken("hand-over", f"{where} would return to {self.memory.word(frame - 4):#x}")
        if not cpu.flags & IF:
            raise Broken("hand-over", f"interrupts are off at {where}")
        fetched = frozenset(call.stack if s is None else s for s in task.sixths)
        slots = self._constant_slots(task) | {"EAX": task.result, "EBP": fetched, "OLDSS": USER_DS}
        self.expect("pt_regs", task, slots, where)
        self._kernel_call(task, cpu, {})
        return f"{where}: the kernel takes it from here"

    def _done_once(self, task: Task, where: str) -> None:
        if task.path != "fast" or task.bodies != 1:
            raise Broken("number", f"{where} is reached and {task.bodies} bodies have run ({task.path})")
        counts = 1 if self.is_marked(task.call) else _ANOTHER
        task.fast_calls += counts
        if not self.tasks[1].calls and self.counted() != (task.count + counts) & 0xFFFFFFFF:
            raise Broken("count", f"one fast call counts {self.counted() - task.count}")

    def returned(self, task: Task, cpu: Cpu) -> None:
        call = task.call
        self._done_once(task, self.leaves)
        ebx, _, _, esi, edi = call.registers
        landing = call.vdso + LANDING_PAD & 0xFFFFFFFF
        ecx, edx = self.left_behind(call, landing)
        wanted = [task.result, ecx, edx, ebx, call.stack, call.stack, esi, edi]
        for number, name in enumerate(("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")):
            if cpu.registers[number] != wanted[number]:
                key = "leak" if cpu.registers[number] not in task.seen else "back"
                raise Broken(
                    key, f"{name} = {cpu.registers[number]:#x} after {self.leaves}, should be {wanted[number]:#x}"
                )
        if cpu.eip != landing:
            raise Broken("back", f"eip = {cpu.eip:#x} after {self.leaves}, should be {landing:#x}")
        if not cpu.flags & IF:
            raise Broken("interrupts", "interrupts are off in user mode")
        if not cpu.shielded:
            raise Broken("interrupts", f"an interrupt could come between STI and {self.leaves}")
        if cpu.flags & ~IF != (call.flags | FIXED) & ~IF:
            raise Broken("back", f"EFLAGS = {cpu.flags:#x} after {self.leaves}, was {call.flags:#x}")
        gone = not task.ldt and cpu.segments["fs"] == 0
        fs = 0 if gone else call.segments[2]
        for name, selector in (("ds", USER_DS), ("es", USER_DS), ("fs", fs), ("gs", call.segments[3])):
            if cpu.segments[name] != selector:
                raise Broken("back", f"{name} = {cpu.segments[name]:#x} after {self.leaves}, should be {selector:#x}")
        self.no_flags_left(task)
        if task.exit_required:
            raise Broken("work", "the tracer that came during the call is not told of its end")
        if self.barrier_due(cpu):
            raise Broken("work", "a guest has run here, and the call returns without the kernel's barrier")
        if task.divided != self.divider:
            raise Broken("divider", f"{'a' if task.divided else 'no'} division on the way out")
        if self.verw and not cpu.verw:
            raise Broken("buffers", "no VERW after the last access to kernel data")
        if cpu.verw and not self.verw:
            raise Broken("fast", "VERW where the kernel has none")
        if task.stood and task.built:
            raise Broken("fast", "the frame of the call before stood, and was built again")
        self._frame_for_next(task)

    def left_behind(self, call: Call, landing: int) -> tuple[int, int]:
        """ecx and edx after the return: SYSEXIT takes ESP and EIP from them."""
        return call.stack, landing

    def _frame_for_next(self, task: Task) -> None:
        """FRAME_SS stays: everything the next call takes for granted must be so."""
        if self.slot(task, "OLDSS") == self.offsets["FRAME_SS"]:
            slots = self._constant_slots(task)
            if not task.ldt:
                slots["FS"] = frozenset({0, task.call.segments[2]})
            if arity(task.call.number & (NR - 1)) == 6:
                del slots["EBP"]
            self.expect("frame", task, slots, "the return")

    # -- what may happen -------------------------------------------------------------------

    def allowed(self, task: Task, cpu: Cpu, event: Event) -> bool:
        if event.kind in ("irq", "preempt"):
            return bool(cpu.flags & IF) and not cpu.shadow
        if event.kind == "ldt":
            return task.ldt and bool(task.call.segments[2] & 4)
        if event.kind == "unmap":
            return task.mapped and USER_FRAGILE - 4 < task.call.stack < USER_FRAGILE + PAGE
        return True

    def happen(self, task: Task, cpu: Cpu, event: Event) -> None:
        if event.kind == "unmap":
            self.say(task, cpu, "another thread unmaps the stack page")
            task.mapped = False
            task.sixths = task.sixths | {None}
        elif event.kind == "ldt":
            self.say(task, cpu, "another thread takes the LDT entry of fs away")
            task.ldt = False
        else:
            super().happen(task, cpu, event)

    def nmi(self, task: Task, cpu: Cpu) -> None:
        """asm_exc_nmi: pushes at esp; from the entry stack it goes on at the task stack's top."""
        self.clobber_below(cpu, task)
        task.stood = False
        if self.on_entry_stack(cpu):
            top = self.top(task.number)
            self.clobber(top - 0x800, top)
            self.memory.write(top - 4, 0xC1005E77)  # where `call exc_nmi` returns to

    def debug(self, task: Task, cpu: Cpu) -> None:
        """An exception: from the entry stack, its part of that stack is copied to the task's top."""
        self.clobber_below(cpu, task)
        task.stood = False
        if self.on_entry_stack(cpu):
            top = self.top(task.number)
            self.clobber(top - 0x800, top)
            self.memory.write(top - 4, self.memory.word(ENTRY_END[cpu.number] - 4))

    def switch(self, task: Task, cpu: Cpu, elsewhere: bool) -> None:
        """schedule(): other tasks run here; the task comes back, perhaps elsewhere."""
        self.seen_by_unload(task, cpu)
        number = cpu.number
        self.clobber(ENTRY_END[number] - 0x100, ENTRY_END[number])
        at = self.percpu(number, "sysenter_kstack_offset")
        self.memory.write(at, self.memory.word(at) ^ 0x5A5A5A5A)
        task.moved = True
        if not elsewhere or self.tasks[1].calls:
            return
        other = self.cpus[1 - number]
        other.registers, other.eip, other.flags = cpu.registers[:], cpu.eip, cpu.flags
        other.segments, other.cpl, other.shadow = cpu.segments.copy(), cpu.cpl, cpu.shadow
        other.bases = cpu.bases.copy()
        if other.segments["fs"] == PERCPU:
            other.bases["fs"] = _PERCPU_BASE[other.number]
        self.run_on(self.tasks[2], cpu)
        self.run_on(task, other)

    def wait_for_page(self, task: Task, cpu: Cpu) -> None:
        task.resident = True
        self.switch(task, cpu, True)

    def in_user_mode(self, task: Task, what: str) -> None:
        """Something happens between two calls, in user mode."""
        cpu = self.cpus[task.cpu]
        end, top = ENTRY_END[cpu.number], self.top(task.number)
        self.say(task, cpu, f"in user mode: {what}")
        if what == "nmi":
            self.clobber(end - 0x100, end)
            self.clobber(top - 0x800, top)
            self.memory.write(top - 4, 0xC1005E77)
            return
        # the processor pushes ss; newer ones write its 16 bits only
        old = self.memory.word(end - 4) if what == "irq16" else 0
        self.clobber(end - 0x100, end)
        self.memory.write(end - 4, old & 0xFFFF0000 | USER_DS)
        self.clobber(top - 0x800, top)
        self.memory.write(top - 4, self.memory.word(end - 4))
        for slot in PT[:-1]:  # pt_regs of the interrupt: the caller's own
            self.memory.write(self.frame(task.number) + self.pt[slot], 0xBEEF0000 + len(slot))
        if what == "switch":
            self.switch(task, cpu, True)
