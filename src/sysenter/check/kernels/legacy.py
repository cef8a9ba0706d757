# SPDX-License-Identifier: GPL-2.0-or-later
"""Linux 2.2 and 2.4 around native/legacy/entry.S, in its four ways to the stack.

Layouts: include/asm-i386/segment.h, processor.h and include/linux/sched.h of
those kernels; docs/entries.md has the figures. Both kernels run interrupts and
NMIs on the stack in use, never switch tasks from an interrupt in the kernel,
and find `current` as esp & -8192.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from sysenter.check.case import Call, CallLegacy, Case, Event
from sysenter.check.code.instructions import EAX, EBP, EBX, ECX, EDI, EDX, ESI, ESP, Access, Instruction
from sysenter.check.code.objectfile import EntryObject
from sysenter.check.code.program import lay_out
from sysenter.check.cpu.memory import PAGE, Area, Memory
from sysenter.check.cpu.processor import CF, FIXED, IF, NT, TF, VM, ZF, Cpu, Fault, Processor
from sysenter.check.kernels.base import POISON, ROOM, Kernel, Task
from sysenter.check.properties import Broken

__all__ = ["ABSENT", "STACK", "Legacy", "events", "interrupted", "lone_calls", "paired", "scattered"]

KERNEL_CS, KERNEL_DS, USER_CS, USER_DS = 0x10, 0x18, 0x23, 0x2B
TASK_SIZE, THREAD_SIZE = 0xC0000000, 8192
EFAULT = -14 & 0xFFFFFFFF

_TEXT = 0xC4000000  # a copy in the direct mapping
# variant -> tasks above, or below, the entry stacks. On 2.2 each task's TSS is in it, on 2.4 there is one for
# each CPU (256 bytes apart in truth; apart here, to tell them apart): bits 24 to 29 of their addresses are both.
_TASKS_AT = {"": (0xFF000000, 0xFF004000, 0xFF008000), "low": (0xC0800000, 0xC0804000, 0xC0808000)}
_TSS_AT = {"": (0xC0910000, 0xC0932000), "low": (0xFF310000, 0xFF332000)}
_BUSY_TSS = 0x8B  # access byte (SDM Vol. 3A, TSS Descriptor)
_BLOCK = 0xC2510000  # 2.2, gentle: cells, then a slot for each CPU
_SLOTS = (_BLOCK + 0xE000, _BLOCK + 0xF000)
# 2.2: TSS selector of task 0, and how much further that of the next one is: the first ones and the last ones for
# which there are cells
_SELECTORS = {"": (0x60, 16), "low": (0xDFF0, -16)}
_AVL_BYTE, _AVL = 6, 0x10  # of a TSS's descriptor: the task's cell is right
_CRUEL_ROOM = 1024
_VM86_BYTES = 0x60  # what the kernel keeps above esp0 while a task is in vm86 mode
_TASK_ARRAY, _TABLE, _SLOW_CALL, _COUNTS, _BH = 0xC0320000, 0xC0330000, 0xC0340000, 0xC0350000, 0xC0360000
_GDT = 0xC0370000
_FUNCTIONS = {
    "kernel_system_call": 0xC0101000,
    "kernel_ret_from_sys_call": 0xC0102000,
    "sysenter_segv": 0xC0103000,
    "kernel_nmi": 0xC0104000,
    "kernel_debug": 0xC0105000,
    "sysenter_gate_body": 0xC0106000,
}
_BODY_AT = 0xC0110000
STACK, ABSENT, _TOP = 0xBF800000, 0xBF802000, 0xBFFFF000
_MASKED = 0x20  # a bottom half that is switched off (bh_mask)
_SLOWNESS = 7  # number % 8 for calls that take pt_regs
_PT = {
    "EBX": 0,
    "ECX": 4,
    "EDX": 8,
    "ESI": 12,
    "EDI": 16,
    "EBP": 20,
    "EAX": 24,
    "DS": 28,
    "ES": 32,
    "ORIG_EAX": 36,
    "EIP": 40,
    "CS": 44,
    "EFLAGS": 48,
    "OLDESP": 52,
    "OLDSS": 56,
}


class Legacy(Kernel):
    """One of the two kernels. way: tss (2.4), cruel, gentle or global (2.2)."""

    task_size = TASK_SIZE
    pt_size = 60
    wraps = True
    plain = CallLegacy(number=3, stack=STACK + 0x100, segments=(USER_DS, USER_DS, 0, 0))

    def __init__(self, entry: EntryObject, offsets: dict[str, int], way: str, variant: str = "") -> None:
        super().__init__()
        self.way, self.offsets, self.name = way, offsets, f"legacy-{way}"
        self.tasks_at, self.tss = _TASKS_AT[variant], _TSS_AT[variant]
        self.selectors = (0x60, 0x20) if way == "tss" else _SELECTORS[variant]
        self.described = self.selectors[0] & -PAGE  # in the GDT, the page in use
        self.numbers = offsets["NR_CALLS"]
        self.memory = memory = Memory(64 * PAGE)
        code = entry.sections[".text"].data
        for start in (STACK, STACK + PAGE, ABSENT, _TOP):
            memory.add(f"user page {start:#x}", Area.USER, start, PAGE)
            for at in range(start, start + PAGE, 4):
                memory.write(at, (at ^ 0x12000000) & 0x3FFFFFFF)
        memory.add("sys_call_table", Area.CONSTANT, _TABLE, 4 * self.numbers)
        memory.add("sysenter_slow_call", Area.CONSTANT, _SLOW_CALL, 4 * self.numbers)
        memory.add("task[]", Area.CONSTANT, self.in_task_array(0) & -PAGE, PAGE)
        memory.seal()
        memory.add("the text", Area.TEXT, _TEXT, len(code))
        memory.add("the GDT", Area.GLOBAL, _GDT + self.described, PAGE)
        memory.add("cells", Area.GLOBAL, _BLOCK + self.described, PAGE)
        memory.add("bottom-half words", Area.GLOBAL, _BH, 8)
        memory.add("counts", Area.GLOBAL, _COUNTS, 64)
        for number, start in enumerate(self.tasks_at):
            memory.add(f"task {number}", Area.TASK, start, PAGE, task=number)
        memory.stacks_follow()
        for number, start in enumerate(self.tasks_at):
            memory.add(f"task {number}'s stack", Area.TASK_STACK, start + PAGE, PAGE, task=number)
        for cpu in range(2):
            memory.add(f"CPU {cpu}'s TSS", Area.ENTRY_STACK, self.tss[cpu], 256, cpu=cpu)
            memory.add(f"CPU {cpu}'s slot", Area.ENTRY_STACK, _SLOTS[cpu], 128, cpu=cpu)
        self.program = lay_out(
            entry,
            ".text",
            memory,
            {".text": _TEXT},
            {
                **_FUNCTIONS,
                "kernel_sys_call_table": _TABLE,
                "sysenter_slow_call": _SLOW_CALL,
                "kernel_task": _TASK_ARRAY,
                "sysenter_counts": _COUNTS,
                "kernel_bh_mask": _BH,
                "kernel_bh_active": _BH + 4,
            },
            frozenset(),
            {},
        )
        self.processor = Processor(memory, self)
        symbols = self.program.symbols
        self.entry = symbols[f"sysenter_entry_{way}"]
        self.fill = symbols["sysenter_fill"] if way == "gentle" else 0
        # what the module's C writes when the way is chosen
        fill_in = self.program.fill_in
        fill_in(symbols["sysenter_debug_entry"] - 4, self.entry)
        fill_in(symbols["sysenter_debug_distance"] - 4, symbols[f"sysenter_trapped_{way}"] - self.entry)
        memory.write(symbols["sysenter_kernel_debug"], _FUNCTIONS["kernel_debug"])
        memory.write(symbols["sysenter_kernel_nmi"], _FUNCTIONS["kernel_nmi"])
        memory.write(symbols["sysenter_gdt"], _GDT)
        low, high = (self.tss[0], self.tss[1] + 89) if way == "tss" else (_BLOCK, _BLOCK + 0x10000)
        if way != "tss":
            for label in ("sysenter_gdt_test", "sysenter_gdt_mark"):
                fill_in(symbols[label] - 5, _GDT + _AVL_BYTE - _BLOCK)
        memory.write(symbols["sysenter_entry_stack_low"], low)
        memory.write(symbols["sysenter_entry_stack_high"], 0 if way == "cruel" else high)
        self.text = bytes(memory.bytes[memory.regions["the text"].offset :][: len(code)])
        for number in range(self.numbers):
            memory.write(_TABLE + 4 * number, _BODY_AT + 16 * number)
            memory.write(_SLOW_CALL + 4 * number, self.slow(number))
        for number, start in enumerate(self.tasks_at):
            memory.write(self.in_task_array(number), start)
        self.functions = {address: name for name, address in _FUNCTIONS.items()}

    # -- the first state -------------------------------------------------------------

    def begin(self, case: Case) -> None:
        memory = self.memory
        self.poison, self.clock = POISON, 0
        for region in memory.regions.values():
            if region.area not in (Area.TEXT, Area.CONSTANT, Area.USER):
                self.clobber(region.start, region.end)
        at = memory.regions["the text"].offset
        memory.bytes[at : at + len(self.text)] = self.text
        memory.fill(_GDT + self.described, _GDT + self.described + PAGE, bytes(4))
        for number in range(2 if self.way == "tss" else 3):
            self.describe(number)
        memory.write(_BH, ~_MASKED)
        memory.write(_BH + 4, 0)
        self.cpus = [Cpu(number) for number in range(2)]
        self.tasks = [Task(0, case.calls, 0), Task(1, case.others, 1), Task(2, (), -1)]
        for number in range(3):
            self.set_field(number, "TASK_NEED_RESCHED", 0)
            self.set_field(number, "TASK_SIGPENDING", 0)
            # task_struct.flags, before it: 0 of an ordinary task
            self.memory.write(self.tasks_at[number] + self.offsets["TASK_SIGPENDING"] - 4, 0)
            self.set_field(number, "TASK_TRACE", 0)
        for cpu in self.cpus:
            self.run_on(self.tasks[cpu.number], cpu)

    def set_field(self, task: int, field: str, value: int) -> None:
        if field in self.offsets:
            self.memory.write(self.tasks_at[task] + self.offsets[field], value)

    def field(self, task: int, field: str) -> int:
        return self.memory.word(self.tasks_at[task] + self.offsets[field])

    def top(self, task: int) -> int:
        return self.tasks_at[task] + THREAD_SIZE

    def run_on(self, task: Task, cpu: Cpu) -> None:
        task.cpu, cpu.task = cpu.number, task.number
        vm86 = bool(task.calls and task.index < len(task.calls) and task.call.vm86)
        esp0 = self.top(task.number) - _VM86_BYTES * vm86
        self.set_field(task.number, "TASK_CPU", cpu.number)
        stack = _SLOTS[cpu.number] + 128
        if self.way == "tss":
            self.memory.write(self.tss[cpu.number] + 4, esp0)
            stack = self.tss[cpu.number] + 88
        else:
            self.memory.write(self.tasks_at[task.number] + self.offsets["TASK_TSS_ESP0"], esp0)
            if self.way == "cruel":
                stack = self.top(task.number) - _CRUEL_ROOM
        cpu.tr = self.selector(cpu.number if self.way == "tss" else task.number)
        cpu.msr = (KERNEL_CS, stack, self.entry)

    def selector(self, number: int) -> int:
        """2.4: a TSS for each CPU; 2.2: each task's own, inside its task_struct."""
        first, step = self.selectors
        return first + step * number

    def in_task_array(self, number: int) -> int:
        return _TASK_ARRAY + (self.selector(number) - 0x60) // 4

    def describe(self, number: int) -> None:
        """A TSS's descriptor, as the kernel writes it once."""
        at = _GDT + self.selector(number)
        base = self.tss[number] if self.way == "tss" else self.tasks_at[number] + self.offsets["TASK_TSS_ESP0"] - 4
        self.memory.write(at, base << 16 | 0xEB)
        self.memory.write(at + 4, base & 0xFF000000 | _BUSY_TSS << 8 | base >> 16 & 0xFF)

    # -- where things are --------------------------------------------------------------

    def stack_bounds(self, task: Task, cpu: Cpu) -> tuple[int, int]:
        return self.tasks_at[task.number] + PAGE, self.top(task.number)

    def entry_bounds(self, cpu: Cpu) -> tuple[int, int]:
        if self.way == "tss":
            return self.tss[cpu.number] + 44, self.tss[cpu.number] + 88
        return _SLOTS[cpu.number] + 40, _SLOTS[cpu.number] + 128

    def on_cell(self, cpu: Cpu) -> bool:
        """Is the stack pointer in the current task's cell, with room for no more than one frame?"""
        return self.way == "gentle" and 0 <= _BLOCK + cpu.tr - cpu.registers[ESP] <= 12

    def check_stack(self, task: Task, cpu: Cpu) -> None:
        if not self.on_cell(cpu) or cpu.registers[ESP] % 4:
            super().check_stack(task, cpu)

    def descriptor(self, cpu: Cpu, selector: int) -> int | None:
        if selector & 4:
            return 0x10000000 if self.tasks[cpu.task].ldt and selector >> 3 < 4 else None
        return 0 if selector in (USER_DS, USER_DS & ~3, USER_CS, KERNEL_DS, KERNEL_CS) else None

    def segment_usable(self, cpu: Cpu, name: str) -> bool:
        # set_fs() is no segment on these kernels, and both are flat and writable
        return name in ("fs", "gs") or cpu.segments[name] in (KERNEL_DS, USER_DS)

    def user_page(self, task: Task, cpu: Cpu, linear: int) -> str:
        page = linear & -PAGE
        if page in (STACK, STACK + PAGE, _TOP):
            return ""
        if page == ABSENT:
            return "" if task.resident else "absent"
        return "invalid"

    def timestamp(self, cpu: Cpu) -> int:
        return 0

    def access(self, cpu: Cpu, ins: Instruction, access: Access, linear: int) -> None:
        region = self.memory.at(linear)
        self.tasks[cpu.task].reloaded |= linear == self.program.symbols["sysenter_user_ds"]
        if access.write and region is not None and linear >= TASK_SIZE:
            symbols = self.program.symbols
            if region.area is Area.TEXT:
                if symbols["sysenter_slow"] <= linear < symbols["sysenter_slow"] + 24 and ins.raw[0] == 0xF0:
                    return
                if self.way == "global" and symbols["sysenter_global_eax"] <= linear < self.program.end:
                    return
            if self.way == "gentle" and 4 <= _BLOCK + cpu.tr - linear <= 16:
                return
            if self.way == "gentle" and (linear, access.size) == (_GDT + cpu.tr + _AVL_BYTE, 1):
                return
            if region.name == "counts" and (linear - _COUNTS) >> 5 == cpu.number:
                return
        super().access(cpu, ins, access, linear)

    # -- a caller comes ------------------------------------------------------------------

    def tick(self, task: Task) -> bool:
        cpu = self.cpus[task.cpu]
        ours = self.program.start <= cpu.eip < self.program.end
        if task.active and ours and cpu.flags & TF:
            raise Broken("trap", f"TF is set at {self.program.near(cpu.eip)}: a #DB follows that nobody takes out")
        if task.active and not ours and task.trap and self.functions.get(cpu.eip) != "kernel_debug":
            raise Broken("trap", "the kernel's handler was not told of a #DB")
        if task.active and task.filled and cpu.eip == self.fill:
            raise Broken("fast", "the task's cell has been filled by a call before, and is filled again")
        fills = task.index < len(task.calls) and not task.call.flags & TF
        if super().tick(task):
            return True
        task.filled |= fills
        return False

    def fetched(self, task: Task, address: int) -> int | None:
        """A word that the caller could read itself, or None."""
        address &= 0xFFFFFFFF
        if address > TASK_SIZE - 4:
            return None
        if any("invalid" in self.user_page(task, self.cpus[task.cpu], address + i) for i in (0, 3)):
            return None
        return self.memory.read(address, 4)

    def enter(self, task: Task) -> None:
        call, cpu = task.call, self.cpus[task.cpu]
        self.run_on(task, cpu)
        top = self.top(task.number)
        if call.before:
            self.clobber(top - 0x800, top)
        if "debug" in call.before:
            self._trapped_in_user_mode(task, cpu)
        if "new" in call.before and self.way == "gentle":  # the slot was another's, who made calls too
            self.describe(task.number)
            self.memory.write(_BLOCK + cpu.tr - 16, self.top(task.number - 1))
            task.filled = False
        if call.vm86:
            for at in range(top - _VM86_BYTES, top, 4):
                self.memory.write(at, self.kept(at))
        self.set_field(task.number, "TASK_TRACE", 2 if call.work else 0)
        self.set_field(task.number, "TASK_NEED_RESCHED", 0)
        self.set_field(task.number, "TASK_SIGPENDING", 0)
        self.memory.write(_BH + 4, 0)
        ebx, ecx, edx, esi, edi = call.registers
        cpu.registers = [call.number, ecx, edx, ebx, call.stack, call.stack, esi, edi]
        cpu.flags = call.flags | FIXED | IF | (VM if call.vm86 else 0)
        for name, selector in zip(("ds", "es", "fs", "gs"), call.segments, strict=True):
            cpu.segments[name], cpu.bases[name] = selector, self.descriptor(cpu, selector) or 0
        task.ldt, task.resident, task.bodies = True, False, 0
        task.counts, task.count = self.slow_counts(), self.entries()
        task.trap = ""
        task.nmis = 0
        task.exit_required = task.work_seen = task.ipi = False
        task.result = call.result
        task.seen = frozenset({self.fetched(task, call.stack) or 0, call.result, *call.registers, call.stack})
        task.path = self.specified(task, call)
        self.processor.sysenter(cpu)
        self.say(task, cpu, self.enters)
        if cpu.flags & TF:
            self.say(task, cpu, "#DB before the first instruction: the caller's TF")
            self.vector(cpu, "sysenter_debug")

    def kept(self, at: int) -> int:
        """A word of what the kernel keeps of a vm86 task's 32-bit side."""
        return at ^ 0x5A5A0000

    def _trapped_in_user_mode(self, task: Task, cpu: Cpu) -> None:
        """TF in a code segment of the LDT, whose EIP happens to be the entry's: a debugger's affair."""
        self.say(task, cpu, "in user mode: #DB in an LDT segment, at the entry's EIP")
        cpu.registers = [0, 0, 0, 0, self.top(task.number), 0, 0, 0]
        cpu.segments["cs"], cpu.segments["ss"], cpu.cpl = KERNEL_CS, KERNEL_DS, 0
        pushed = (self.entry, 0x0F, TF | IF | FIXED, 0xBF800000, USER_DS)
        for value in reversed(pushed):
            self.processor.push(cpu, value)
        cpu.flags, cpu.eip = FIXED | IF, self.program.symbols["sysenter_debug"]
        for _ in range(20):
            if self.covered is not None:
                self.covered.add(cpu.eip)
            ins = self.program.instruction(cpu.eip)
            if ins is None:
                break
            self.processor.step(cpu, ins)
        frame = tuple(self.memory.word(self.top(task.number) - 20 + 4 * n) for n in range(5))
        if self.functions.get(cpu.eip) != "kernel_debug" or frame != pushed:
            raise Broken("trap", f"a #DB of user mode ends at {cpu.eip:#x} with {[hex(word) for word in frame]}")

    def entries(self) -> int:
        """Calls that came in, as the module's C adds them up for its report (SLOT_COUNT, TSS_COUNT)."""
        if self.way == "global":
            return self.memory.word(self.program.symbols["sysenter_global_count"])
        at = {"tss": [tss + 12 for tss in self.tss], "cruel": [_COUNTS, _COUNTS + 32], "gentle": list(_SLOTS)}[self.way]
        return sum(self.memory.word(a) for a in at) & 0xFFFFFFFF

    def slow_counts(self) -> tuple[int, ...]:
        """declined, exit, fault, vm86, trapped, NMI (native/legacy/legacy.h, SLOW_*)."""
        at = self.program.symbols["sysenter_slow"]
        return tuple(self.memory.word(at + 4 * n) for n in range(6))

    def counted(self, task: Task, *slow: int) -> None:
        """Just these slow ways have been counted in this call (one CPU at work only)."""
        if self.tasks[1].calls:
            return
        # cruel counts at the frame, where those that go the short ways never come
        come = int(self.way != "cruel" or (task.path in ("fast", "declined") and not task.call.flags & TF))
        if self.entries() - task.count & 0xFFFFFFFF != come:
            raise Broken("count", f"one call counts {self.entries() - task.count}, should be {come}")
        made = tuple(now - then for now, then in zip(self.slow_counts(), task.counts, strict=True))
        wanted = tuple(int(n in slow) for n in range(5))
        if made[:5] != wanted or made[5] != task.nmis:
            raise Broken("count", f"slow ways are counted {made}, should be {(*wanted, task.nmis)}")

    def push_frame(self, cpu: Cpu) -> None:
        """What an interrupt gate does at CPL 0."""
        try:
            for value in (cpu.flags, cpu.segments["cs"], cpu.eip):
                self.processor.push(cpu, value)
        except Fault as fault:
            raise Broken("stack", f"the processor cannot push at {fault.address:#x}") from fault
        cpu.flags &= ~(TF | NT | IF)

    def vector(self, cpu: Cpu, handler: str) -> None:
        self.push_frame(cpu)
        cpu.eip = self.program.symbols[handler]

    def slow(self, number: int) -> bool:
        """Does the call take pt_regs? The last one does not: it marks the table's end."""
        return number % 8 == _SLOWNESS and number != self.numbers - 1

    def specified(self, task: Task, call: Call) -> str:
        if call.vm86:
            return "vm86"
        if self.fetched(task, call.stack - 4) is None or call.stack > TASK_SIZE - 4:
            return "segv"
        if self.fetched(task, call.stack) is None:
            return "efault"
        slow = call.number >= self.numbers or self.slow(call.number) or call.segments[:2] != (USER_DS, USER_DS)
        return "declined" if call.flags & TF or slow or call.work else "fast"

    # -- the kernel's functions ------------------------------------------------------------

    def arrive(self, task: Task, cpu: Cpu) -> str:
        name = self.functions.get(cpu.eip)
        if name == "kernel_system_call":
            return self._declined(task, cpu)
        if name == "kernel_ret_from_sys_call":
            return self._left(task, cpu)
        if name == "sysenter_segv":
            self.c_ready(task, cpu, name)
            self._interrupts_on(cpu, name)
            if task.path == "vm86" and (cpu.segments["fs"] or cpu.segments["gs"]):
                raise Broken("segments", f"fs, gs = {cpu.segments['fs']:#x}, {cpu.segments['gs']:#x} of vm86 mode")
            task.bodies += 100
            self.clobber_below(cpu, task, words=0)
            cpu.eip = self.processor.pop(cpu)
            return "sysenter_segv sends the signal"
        if name in ("kernel_nmi", "kernel_debug"):
            return self._trap(task, cpu, name)
        if name is None and _BODY_AT <= cpu.eip < _BODY_AT + 16 * self.numbers and cpu.eip % 16 == 0:
            return self._body(task, cpu, (cpu.eip - _BODY_AT) // 16)
        raise Broken("fault", f"execution goes to {cpu.eip:#x}, where nothing is that it may call")

    def _trap(self, task: Task, cpu: Cpu, name: str) -> str:
        low, high = self.stack_bounds(task, cpu)
        if not low + ROOM <= cpu.registers[ESP] <= high:
            raise Broken("stack", f"{name} would take esp & -8192 = {cpu.registers[ESP] & -8192:#x} for current")
        if name == "kernel_debug":
            if task.trap != "kernel":
                raise Broken("trap", "the kernel's handler is told of a #DB that is the entry's own")
            task.trap = ""
        self.clobber_below(cpu, task, words=0)
        task.nmi_blocked &= name != "kernel_nmi"
        self.processor._iret(cpu, Instruction(cpu.eip, 0, "iret", "iretd", "iretd", ()))
        return f"{name} comes and goes"

    def _interrupts_on(self, cpu: Cpu, where: str) -> None:
        """int 0x80 is a trap gate: the kernel's own entry, exit and signals have them on."""
        if not cpu.flags & IF:
            raise Broken("interrupts", f"interrupts are off at {where}")

    def _slots(self, task: Task, at: int, wanted: dict[str, int], where: str, key: str = "pt_regs") -> None:
        for name, value in wanted.items():
            found = self.memory.word(at + _PT[name])
            if name in ("DS", "ES", "CS", "OLDSS"):
                found &= 0xFFFF  # PUSH of a segment register may write 16 bits
            if found != value:
                raise Broken(key, f"{name} in pt_regs = {found:#x} at {where}, should be {value:#x}")

    def _user_half(self, task: Task) -> dict[str, int]:
        call = task.call
        return {"EIP": self.back_to(task), "CS": USER_CS, "OLDESP": call.stack, "OLDSS": USER_DS}

    # -- what is otherwise by SYSCALL (legacy_syscall.py) ----------------------------------

    def entry_of(self, cpu: Cpu) -> int:
        return self.entry

    def back_to(self, task: Task) -> int:
        """The caller's return address."""
        return self.fetched(task, task.call.stack - 4) or 0

    def arguments(self, task: Task) -> dict[str, int]:
        """The six, by the registers that int 0x80 has them in."""
        ebx, ecx, edx, esi, edi = task.call.registers
        return {
            "EBX": ebx,
            "ECX": ecx,
            "EDX": edx,
            "ESI": esi,
            "EDI": edi,
            "EBP": self.fetched(task, task.call.stack) or 0,
        }

    def ecx_left(self, task: Task) -> int:
        """ECX in pt_regs of a call that is not made."""
        return task.call.registers[1]

    def left_behind(self, task: Task) -> dict[int, int]:
        """ECX and EDX after a fast return."""
        return {ECX: task.call.stack, EDX: self.back_to(task)}

    def _body(self, task: Task, cpu: Cpu, number: int) -> str:
        call, where = task.call, f"body {number}"
        if task.path != "fast" or number != call.number or task.bodies:
            raise Broken("number", f"eax = {call.number:#x} ({task.path}) runs {where}")
        self.c_ready(task, cpu, where)
        if not cpu.flags & IF:
            raise Broken("interrupts", f"{where} runs with interrupts off")
        frame = self.top(task.number) - self.pt_size
        if cpu.registers[ESP] != frame - 4:
            raise Broken("hand-over", f"esp = {cpu.registers[ESP]:#x} at {where}, should be {frame - 4:#x}")
        self._slots(task, frame, self.arguments(task), where, "arguments")
        self._slots(task, frame, {"ORIG_EAX": call.number, **self._user_half(task)}, where)
        task.bodies += 1
        words = f"{where} runs"
        if call.sleeps:
            words += f", sleeps and wakes on {'another' if call.sleeps == 'other' else 'the same'} CPU"
            self.switch(task, cpu, call.sleeps == "other")
            cpu = self.cpus[task.cpu]
            cpu.segments["ds"] = cpu.segments["es"] = KERNEL_DS  # switch_to() keeps those of whoever ran last
        if call.pending:
            self.set_field(task.number, "TASK_NEED_RESCHED" if call.pending & 1 else "TASK_SIGPENDING", 1)
            task.exit_required = True
        if call.tracing and self.way != "tss":  # a bottom half that was held back
            self.memory.write(_BH + 4, call.tracing)
            task.exit_required |= bool(call.tracing & ~_MASKED)
        self.clobber(max(self.stack_bounds(task, cpu)[0], cpu.registers[ESP] - 0x300), cpu.registers[ESP])
        self.clobber(frame, frame + 24)  # C owns its arguments
        cpu.eip = self.processor.pop(cpu)
        # C leaves anything: with work to be found, what would hide it
        left = (0, 0) if call.pending or call.tracing else (self.next_poison(), self.next_poison())
        cpu.registers[EAX], cpu.registers[ECX], cpu.registers[EDX] = call.result, *left
        cpu.flags ^= CF | ZF
        return words

    def _declined(self, task: Task, cpu: Cpu) -> str:
        call, where = task.call, "system_call"
        if task.path != "declined":
            raise Broken("fast", f"eax = {call.number:#x} ({task.path}) went to {where}")
        top = self.top(task.number)
        wanted = {"EAX": call.number, "ESP": top - 20, **self.arguments(task)}
        for number, name in enumerate(("EAX", "ECX", "EDX", "EBX", "ESP", "EBP", "ESI", "EDI")):
            if cpu.registers[number] != wanted[name]:
                raise Broken("back", f"{name} = {cpu.registers[number]:#x} at {where}, should be {wanted[name]:#x}")
        for name, selector in zip(("ds", "es"), call.segments, strict=False):
            if cpu.segments[name] != selector:
                raise Broken("back", f"{name} = {cpu.segments[name]:#x} at {where}, was {selector:#x}")
        if cpu.flags & (TF | 0x3000 | NT | 0x40000 | 0x400):
            raise Broken("flags", f"EFLAGS = {cpu.flags:#x} at {where}")
        self._interrupts_on(cpu, where)
        self._slots(task, top - self.pt_size, self._user_half(task), where)
        self._flags(task, self.memory.word(top - 12), where)
        self.counted(task, 4 if call.flags & TF else 0)
        self.kernel_takes_over(task, cpu)
        return "system_call: the kernel's int 0x80 entry takes it from here"

    def _flags(self, task: Task, found: int, where: str) -> None:
        mask = ~0x8D5
        if found & mask != (task.call.flags | FIXED | IF) & mask:
            raise Broken("pt_regs", f"EFLAGS in pt_regs = {found:#x} at {where}, the caller had {task.call.flags:#x}")

    def _left(self, task: Task, cpu: Cpu) -> str:
        call, where = task.call, "ret_from_sys_call"
        self.c_ready(task, cpu, where)
        self._interrupts_on(cpu, where)
        if cpu.registers[EBX] != self.tasks_at[task.number]:
            raise Broken(
                "hand-over", f"ebx = {cpu.registers[EBX]:#x} at {where}, current is {self.tasks_at[task.number]:#x}"
            )
        frame = self.top(task.number) - self.pt_size
        if task.path == "vm86":
            frame -= 0x60 + 16
        if cpu.registers[ESP] != frame:
            raise Broken("hand-over", f"esp = {cpu.registers[ESP]:#x} at {where}, should be {frame:#x}")
        ebx, _, _, esi, edi = call.registers
        if task.path in ("vm86", "segv"):
            if task.bodies != 100:
                raise Broken("back", f"{where} without SIGSEGV for a caller that cannot go on")
            self._no_way_on(task, frame, where)
        else:
            if task.path == "fast" and (task.bodies != 1 or (not task.exit_required and not task.work_seen)):
                raise Broken("fast", f"nothing is pending and the call leaves by {where}")
            if task.path == "declined":
                raise Broken("number", f"{where} without the call having been made")
            result = EFAULT if task.path == "efault" else task.result
            ds, es = call.segments[:2]
            self._slots(
                task,
                frame,
                {"EBX": ebx, "ESI": esi, "EDI": edi, "EAX": result, "DS": ds, "ES": es, **self._user_half(task)},
                where,
            )
            self._flags(task, self.memory.word(frame + 48), where)
            self._slots(task, frame, {"ORIG_EAX": 0xFFFFFFFF if task.path == "efault" else call.number}, where)
            if task.path == "efault":
                left = {"ECX": self.ecx_left(task), "EDX": call.registers[2], "EBP": call.stack}
                self._slots(task, frame, left, where)
            trapped = (4,) if call.flags & TF else ()
            self.counted(task, *trapped, 2 if task.path == "efault" else 1)
        self.kernel_takes_over(task, cpu)
        return "ret_from_sys_call: the kernel's exit takes it from here"

    def _no_way_on(self, task: Task, frame: int, where: str) -> None:
        """pt_regs of a caller that gets SIGSEGV: what a signal frame and a core dump show."""
        call = task.call
        ebx, _, edx, esi, edi = call.registers
        ds, es, fs, gs = call.segments
        wanted = {
            "EBX": ebx,
            "ECX": self.ecx_left(task),
            "EDX": edx,
            "ESI": esi,
            "EDI": edi,
            "EBP": call.stack,
            "EAX": call.number,
            "ORIG_EAX": 0xFFFFFFFF,
            "EIP": 0,
        }
        if task.path == "vm86":
            wanted |= {"DS": 0, "ES": 0, "CS": 0, "OLDESP": 0, "OLDSS": 0, "EFLAGS": VM | IF | FIXED}
            behind = [self.memory.word(frame + self.pt_size + 4 * n) & 0xFFFF for n in range(4)]
            if behind != [es, ds, fs, gs]:
                raise Broken("pt_regs", f"es, ds, fs, gs of a vm86 caller are {behind} at {where}")
            top = self.top(task.number)
            kept = {at: self.kept(at) for at in range(top - _VM86_BYTES, top, 4)}
            if task.struck:
                kept |= {top - 12: IF | FIXED, top - 8: 0, top - 4: USER_DS}
            for at, word in kept.items():
                if self.memory.word(at) != word:
                    raise Broken("pt_regs", f"{at:#x}, kept for the vm86 task's return, is overwritten at {where}")
            self.counted(task, 3)
        else:
            wanted |= {"DS": ds, "ES": es, "CS": USER_CS, "OLDESP": call.stack, "OLDSS": USER_DS}
            self._flags(task, self.memory.word(frame + 48), where)
            self.counted(task, 2, *((4,) if call.flags & TF else ()))
        self._slots(task, frame, wanted, where)

    def returned(self, task: Task, cpu: Cpu) -> None:
        call = task.call
        if task.trap:
            raise Broken("trap", "the kernel's handler was not told of a #DB")
        if task.path != "fast" or task.bodies != 1:
            raise Broken("number", f"SYSEXIT of a call that is {task.path}, {task.bodies} bodies have run")
        ebx, _, _, esi, edi = call.registers
        wanted = {
            EAX: task.result,
            EBX: ebx,
            ESP: call.stack,
            EBP: call.stack,
            ESI: esi,
            EDI: edi,
            **self.left_behind(task),
        }
        for number, value in wanted.items():
            if cpu.registers[number] != value:
                key = "leak" if cpu.registers[number] & 0xFFFF0000 == POISON else "back"
                raise Broken(key, f"register {number} = {cpu.registers[number]:#x} after SYSEXIT, should be {value:#x}")
        if not cpu.shielded or not cpu.flags & IF:
            raise Broken("interrupts", "interrupts are not switched on by the very STI before SYSEXIT")
        mask = ~(0x8D5 | IF)
        if cpu.flags & mask != (call.flags | FIXED) & mask:
            raise Broken("back", f"EFLAGS = {cpu.flags:#x} after SYSEXIT, was {call.flags:#x}")
        for name, selector in zip(("ds", "es", "fs", "gs"), call.segments, strict=True):
            if cpu.segments[name] != selector:
                raise Broken("back", f"{name} = {cpu.segments[name]:#x} after SYSEXIT, was {selector:#x}")
        if task.reloaded and not (call.sleeps or call.tracing or task.work_seen):
            raise Broken("fast", "the exit loads segments that are there")
        self.counted(task)
        if task.exit_required:
            raise Broken("work", "a signal, reschedule or bottom half waits, and the call returns by SYSEXIT")
        pending = self.field(task.number, "TASK_NEED_RESCHED") | self.field(task.number, "TASK_SIGPENDING")
        if self.way == "tss" and pending and not task.ipi:
            raise Broken("work", "need_resched or sigpending is set, SYSEXIT, and no interrupt is on its way")

    # -- what may happen -------------------------------------------------------------------

    def allowed(self, task: Task, cpu: Cpu, event: Event) -> bool:
        if event.kind == "irq":
            return bool(cpu.flags & IF) and not cpu.shadow
        if event.kind == "nmi":
            return not cpu.shadow and not task.nmi_blocked
        if event.kind == "debug":
            # Watchpoints lie below TASK_SIZE, and nothing there is touched before a frame is pushed.
            on_task = self.stack_bounds(task, cpu)[0] < cpu.registers[ESP] < self.top(task.number)
            return (cpu.eip == self.entry_of(cpu) and task.steps == 0) or (on_task and not cpu.shadow)
        if event.kind == "softirq":
            return self.way != "tss"  # 2.4 wakes ksoftirqd for it
        if event.kind == "ldt":
            return task.ldt and bool((call := task.call).segments[0] & 4 or call.segments[1] & 4)
        return True

    def happen(self, task: Task, cpu: Cpu, event: Event) -> None:
        if event.kind in ("nmi", "irq"):
            self.say(task, cpu, "NMI" if event.kind == "nmi" else "an interrupt")
            if event.kind == "irq":
                self.clobber_below(cpu, task)
                return
            low, high = self.entry_bounds(cpu)
            esp, top = cpu.registers[ESP], self.top(task.number)
            if self.way != "tss" and task.call.vm86 and esp == top:
                task.struck = True
            task.nmis += self.way != "cruel" and (
                low <= esp <= high or self.on_cell(cpu) or (task.struck and esp == top)
            )
            task.nmi_blocked = True
            task.filled &= not self.on_cell(cpu)
            self.vector(cpu, "sysenter_nmi")
        elif event.kind == "debug":
            self.say(task, cpu, "#DB: a watchpoint")
            task.trap = "" if cpu.eip == self.entry_of(cpu) else "kernel"
            self.vector(cpu, "sysenter_debug")
        elif event.kind == "work":
            what, field = (
                ("sets need_resched", "TASK_NEED_RESCHED") if event.value & 1 else ("sends a signal", "TASK_SIGPENDING")
            )
            self.say(task, cpu, f"another CPU {what} and interrupts this one")
            self.set_field(task.number, field, 1)
            task.ipi = task.work_seen = True
            if not task.bodies and task.path == "fast":
                task.exit_required = True
        elif event.kind == "softirq":
            self.say(task, cpu, "a bottom half is marked, and nobody runs it now")
            self.memory.write(_BH + 4, 0x10)
            task.work_seen = True
            if not task.bodies and task.path == "fast":
                task.exit_required = True
        elif event.kind == "ldt":
            self.say(task, cpu, "another thread takes the LDT entries away")
            task.ldt = False
        else:
            raise ValueError(f"{event.kind}: no such event")

    def switch(self, task: Task, cpu: Cpu, elsewhere: bool) -> None:
        self.clobber(_SLOTS[cpu.number] + 4, _SLOTS[cpu.number] + 128)  # all but its count
        if self.tasks[1].calls or not elsewhere:
            return
        other = self.cpus[1 - cpu.number]
        other.registers, other.eip, other.flags = cpu.registers[:], cpu.eip, cpu.flags
        other.segments, other.bases = cpu.segments.copy(), cpu.bases.copy()
        other.cpl, other.shadow = cpu.cpl, cpu.shadow
        self.run_on(self.tasks[2], cpu)
        self.run_on(task, other)

    def wait_for_page(self, task: Task, cpu: Cpu) -> None:
        task.resident = True
        self.switch(task, cpu, True)


_PLAIN = Legacy.plain
_FLAGS = (1, 4, 0x10, 0x40, 0x80, TF, 0x400, 0x800, 0x1000, 0x2000, 0x3000, 0x4000, 0x40000, 0x200000)
_STACKS = (
    STACK + 0x100,
    STACK + 4,
    STACK,
    STACK + 0xFFE,
    ABSENT + 0x40,
    ABSENT,
    ABSENT + 2,
    ABSENT + 0x1000,
    _TOP + 0xFFC,
    _TOP + 0xFFD,
    _TOP + 0x1000,
    0xFF001F00,
    0xC0801F00,
    0,
    1,
    3,
    4,
    0xFFFFFFFF,
    0xFFFFFFFC,
)
_SEGMENTS = (0, 0x23, USER_DS, USER_DS & ~3, 0x07, 0x0F, 0x17, 0x1F)
_DATA = (*_SEGMENTS, *(USER_DS,) * 20)


def lone_calls(offsets: dict[str, int]) -> Iterator[Case]:
    """Numbers, stacks, flags alone and in pairs, segments, kinds of work, vm86."""

    def twice(call: Call) -> Case:
        return Case((call, call, replace(_PLAIN, number=4)))

    for number in (*range(9), offsets["NR_CALLS"] - 1, offsets["NR_CALLS"], 0x7FFFFFFF, 0x80000003, 0xFFFFFFFF):
        yield twice(replace(_PLAIN, number=number))
    for stack in _STACKS:
        for number in (3, 7):
            yield twice(replace(_PLAIN, stack=stack, number=number))
            yield twice(replace(_PLAIN, stack=stack, number=number, flags=0x302))
    for one in _FLAGS:
        for other in _FLAGS:
            for number in (3, 7):
                yield Case((replace(_PLAIN, number=number, flags=0x202 | one | other), _PLAIN))
    for ds in _SEGMENTS:
        for es in _SEGMENTS:
            yield twice(replace(_PLAIN, segments=(ds, es, 0x0F, 0)))
            yield twice(replace(_PLAIN, number=7, segments=(ds, es, 0, 0x0F)))
    for stack in (STACK, ABSENT + 0x1000, 0, 0xFFFFFFFF):  # no argument, no return address
        yield twice(replace(_PLAIN, stack=stack, segments=(0x07, 0x0F, 0x17, 0)))
    for pending in (1, 2):
        yield twice(replace(_PLAIN, pending=pending))
    yield twice(replace(_PLAIN, tracing=0x10))
    yield twice(replace(_PLAIN, tracing=_MASKED))
    yield twice(replace(_PLAIN, work=1))
    for flags in (0x202, 0x202 | TF):
        yield twice(replace(_PLAIN, vm86=True, flags=flags, segments=(0x1111, 0x2222, 0x3333, 0x4444)))
    yield twice(replace(_PLAIN, before=("debug",)))
    yield twice(replace(_PLAIN, before=("new",)))
    for sleeps in ("same", "other"):
        yield twice(replace(_PLAIN, sleeps=sleeps))
        yield twice(replace(_PLAIN, sleeps=sleeps, pending=1))


def scattered(rng: random.Random, offsets: dict[str, int], count: int) -> Iterator[Case]:
    """Random callers, with none to two events at random places."""
    for _ in range(count):
        calls = []
        for _ in range(2):
            flags = 0x202 | rng.getrandbits(12) & 0x8D5
            if rng.random() < 0.3:
                flags |= rng.choice(_FLAGS) | rng.choice(_FLAGS)
            r = [rng.getrandbits(32) for _ in range(6)]
            calls.append(
                CallLegacy(
                    number=rng.randrange(offsets["NR_CALLS"] + 8),
                    registers=(r[0], r[1], r[2], r[3], r[4]),
                    result=r[5],
                    stack=rng.choice(_STACKS) if rng.random() < 0.4 else STACK + 4 + rng.randrange(0x1FF0),
                    flags=flags,
                    segments=(rng.choice(_DATA), rng.choice(_DATA), rng.choice(_SEGMENTS), rng.choice(_SEGMENTS)),
                    work=int(rng.random() < 0.1),
                    pending=rng.choice((0, 0, 0, 1, 2)),
                    tracing=rng.choice((0, 0, 0, 0x10)),
                    sleeps=rng.choice(("", "", "same", "other")),
                    vm86=rng.random() < 0.04,
                )
            )
        happenings = tuple(
            Event(
                rng.randrange(1, 60),
                rng.choice(("nmi", "irq", "work", "softirq", "ldt")),
                rng.randrange(2),
                rng.randrange(2),
            )
            for _ in range(rng.randrange(3))
        )
        yield Case(tuple(calls), happenings, variant=rng.choice(tuple(_TASKS_AT)))


def events(offsets: dict[str, int]) -> tuple[Event, ...]:
    return (
        Event(0, "nmi"),
        Event(0, "debug"),
        Event(0, "irq"),
        Event(0, "work", 1),
        Event(0, "work", 2),
        Event(0, "softirq"),
        Event(0, "ldt"),
    )


def interrupted() -> Iterator[Case]:
    """Calls that between them run every path; each gets every event everywhere."""
    for call in (
        _PLAIN,
        replace(_PLAIN, segments=(0x07, 0x0F, 0, 0)),
        replace(_PLAIN, pending=1),
        replace(_PLAIN, number=7),
        replace(_PLAIN, number=7, segments=(0x07, 0x0F, 0, 0)),
        replace(_PLAIN, flags=0x302),
        replace(_PLAIN, stack=ABSENT + 0x40),
        replace(_PLAIN, stack=0),
        replace(_PLAIN, stack=STACK),
        replace(_PLAIN, stack=ABSENT + 0x1000),
        replace(_PLAIN, vm86=True, segments=(1, 2, 3, 4)),
        replace(_PLAIN, sleeps="other"),
        replace(_PLAIN, flags=0x7E02),
        replace(_PLAIN, flags=0xAD7),
    ):
        yield Case((call, replace(_PLAIN, number=5)))


def paired() -> Iterator[Case]:
    """Two CPUs, a task on each, at the same time."""
    other = replace(_PLAIN, number=5, registers=(0xB1, 0xB2, 0xB3, 0xB4, 0xB5), stack=STACK + 0x900, result=0xBB)
    yield Case((_PLAIN,), others=(other,))
    yield Case((replace(_PLAIN, number=7),), others=(replace(other, pending=1),))
