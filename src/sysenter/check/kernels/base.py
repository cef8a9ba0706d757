# SPDX-License-Identifier: GPL-2.0-or-later
"""CPUs, tasks and time: what every modelled kernel has.

A kernel's own file adds its memory, its functions and its expectations. Time
goes in steps: one instruction of the handler, or one whole kernel function.
Between any two steps anything may happen that the processor allows.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass, field

from sysenter.check.case import Call, Case, Event
from sysenter.check.code.instructions import ESP, Access, Instruction
from sysenter.check.code.program import Program
from sysenter.check.cpu.memory import Area, Memory
from sysenter.check.cpu.processor import AC, DF, IF, Cpu, Fault, Processor
from sysenter.check.properties import Broken

__all__ = ["STEP_LIMIT", "Kernel", "Saved", "Task", "Tick"]

STEP_LIMIT = 260  # steps of one call; the longest honest one takes about 110
ROOM = 512  # bytes an NMI's frame and first C frames take on a task's stack
POISON = 0xC0DE0000  # kernel data looks like this


@dataclass(frozen=True, slots=True)
class Tick:
    """One step of a story: who, where, and what in words if it was no instruction."""

    task: int
    cpu: int
    eip: int
    words: str = ""


@dataclass  # no slots: copied by its __dict__, which costs a tenth of replace()
class Task:
    """A task, and what it must get back. `seen`: every value that its user code ever knew."""

    number: int
    calls: tuple[Call, ...]
    cpu: int
    index: int = 0
    steps: int = 0
    active: bool = False  # between SYSENTER and the return to user mode
    seen: frozenset[int] = frozenset()
    path: str = ""  # what the specification says of this call
    slow_allowed: bool = False
    exit_required: bool = False
    work_seen: bool = False
    bodies: int = 0
    result: int = 0
    sixths: frozenset[int | None] = frozenset()  # values the fetch may give, None for a fault
    count: int = 0  # of fast calls on all CPUs at SYSENTER
    ldt: bool = True
    mapped: bool = True  # the stack page that may vanish
    resident: bool = False  # the page that has to be read in first
    offset: int = -1  # stack offset drawn for this call
    traced: bool = False  # the sys_exit tracepoint has been told
    ipi: bool = False  # an interrupt waits for IF
    fast_calls: int = 0  # finished ones
    filled: bool = False  # its cell, by a call before (2.2, gentle)
    stood: bool = False  # the frame of the call before stood at SYSENTER
    built: bool = False  # and was written again
    counts: tuple[int, ...] = ()  # of slow ways, at SYSENTER
    trap: str = ""  # who must still be told of a #DB
    nmis: int = 0  # on the entry stack in this call
    nmi_blocked: bool = False  # until the IRET of its handler
    struck: bool = False  # an NMI came at the end of the stack of a vm86 task
    moved: bool = False  # has been on another CPU in this call
    cleared: bool = False  # branch history
    reloaded: bool = False  # its data segments were loaded at the exit
    flush_due: bool = False  # of the user's PCID
    divided: bool = False  # by the handler
    exited: bool = False  # the kernel has done the exit work
    changed: tuple[tuple[str, int], ...] = ()  # pt_regs, in that

    @property
    def call(self) -> Call:
        return self.calls[self.index]

    def over(self) -> None:
        """The call has ended: forget all that belonged to it."""
        fresh = Task(
            self.number,
            self.calls,
            self.cpu,
            self.index + 1,
            seen=self.seen,
            fast_calls=self.fast_calls,
            filled=self.filled,
        )
        self.__dict__.update(fresh.__dict__)

    def copy(self) -> Task:
        other = Task.__new__(Task)
        other.__dict__.update(self.__dict__)
        return other

    def same(self, other: Task) -> bool:
        """Equal in all but the number of steps that it took."""
        return {**self.__dict__, "steps": 0} == {**other.__dict__, "steps": 0}


@dataclass(slots=True)
class Saved:
    cpus: list[Cpu]
    tasks: list[Task]
    memory: bytes
    poison: int
    clock: int
    extra: int = field(default=0)


class Kernel(abc.ABC):
    """One kernel with one handler in it; run one Case after another on it.

    Subclasses fill memory, program, processor and cpus in __init__.
    """

    memory: Memory
    program: Program
    processor: Processor
    cpus: list[Cpu]
    tasks: list[Task]
    task_size: int
    pt_size: int
    name: str

    def __init__(self) -> None:
        self.tasks = []
        self.poison = POISON
        self.clock = 0
        self.looked = False  # the last instruction looked at the task or at user memory
        self.trace: list[Tick] | None = None
        self.covered: set[int] | None = None  # addresses that have been executed, if anybody wants to know

    # -- for a subclass to say -----------------------------------------------------

    @abc.abstractmethod
    def begin(self, case: Case) -> None:
        """Bring everything to its first state, both CPUs in user mode."""

    @abc.abstractmethod
    def enter(self, task: Task) -> None:
        """The caller executes SYSENTER."""

    @abc.abstractmethod
    def arrive(self, task: Task, cpu: Cpu) -> str:
        """EIP is at one of the kernel's own functions: run its model, and return what it did, in words."""

    @abc.abstractmethod
    def returned(self, task: Task, cpu: Cpu) -> None:
        """SYSEXIT or IRET has returned to user mode: compare the state with what the caller must get back."""

    def end(self) -> None:  # noqa: B027
        """All calls are over: check what can be checked only now."""

    @abc.abstractmethod
    def allowed(self, task: Task, cpu: Cpu, event: Event) -> bool:
        """Can `event` happen here?"""

    @abc.abstractmethod
    def happen(self, task: Task, cpu: Cpu, event: Event) -> None:
        """Make `event` happen."""

    @abc.abstractmethod
    def stack_bounds(self, task: Task, cpu: Cpu) -> tuple[int, int]:
        """Lowest and highest esp of the task's stack."""

    @abc.abstractmethod
    def entry_bounds(self, cpu: Cpu) -> tuple[int, int]:
        """Lowest and highest esp of this CPU's entry stack."""

    @abc.abstractmethod
    def user_page(self, task: Task, cpu: Cpu, linear: int) -> str:
        """ "", or why an access to this user address faults: "absent", "invalid"."""

    @abc.abstractmethod
    def segment_usable(self, cpu: Cpu, name: str) -> bool:
        """Does the segment register hold what kernel code may use?"""

    @abc.abstractmethod
    def wait_for_page(self, task: Task, cpu: Cpu) -> None:
        """Sleep until the page is there."""

    plain = Call()  # a caller with nothing special about it
    enters, leaves = "SYSENTER", "SYSEXIT"  # the instructions, for the story
    poison_base = POISON
    speculates = 30  # instructions of a mispredicted path
    wraps = False  # a user access may wrap below address 0
    # Events that change only what the kernel keeps of the task: they commute with
    # every instruction that looks at neither that, nor user memory, nor IF.
    remote: frozenset[str] = frozenset({"work", "trace", "ldt", "unmap"})
    writable: frozenset[Area] = frozenset({Area.CPU, Area.ENTRY_STACK, Area.TASK_STACK})

    # -- saving --------------------------------------------------------------------

    def save(self) -> Saved:
        return Saved(
            [c.copy() for c in self.cpus], [t.copy() for t in self.tasks], self.memory.save(), self.poison, self.clock
        )

    def restore(self, saved: Saved) -> None:
        self.cpus = [c.copy() for c in saved.cpus]
        self.tasks = [t.copy() for t in saved.tasks]
        self.memory.restore(saved.memory)
        self.poison, self.clock = saved.poison, saved.clock

    def same(self, saved: Saved) -> bool:
        """Will the rest go as from `saved`? Memory below a stack pointer does not count:
        nothing may read it (the property "stack top")."""
        if self.clock != saved.clock or self.cpus != saved.cpus or not self.memory.same(saved.memory):
            return False
        for task, then in zip(self.tasks, saved.tasks, strict=True):
            if not task.same(then):
                return False
            if task.calls:
                cpu = self.cpus[task.cpu]
                low, high = self.stack_bounds(task, cpu)
                esp = cpu.registers[ESP]
                frame = high - self.pt_size  # read back by the next call
                live = min(esp, frame) if low <= esp <= high else frame
                if not self.memory.same_between(saved.memory, live, high):
                    return False
                low, high = self.entry_bounds(cpu)
                if high and not self.memory.same_between(saved.memory, esp if low <= esp < high else high - 4, high):
                    return False
        return True

    # -- running -------------------------------------------------------------------

    def say(self, task: Task, cpu: Cpu, words: str = "") -> None:
        if self.trace is not None:
            self.trace.append(Tick(task.number, cpu.number, cpu.eip, words))

    def tick(self, task: Task) -> bool:
        """One step of `task`. False when its call is over."""
        cpu = self.cpus[task.cpu]
        if not task.active:
            self.enter(task)
            task.active = True
            return True
        if task.ipi and cpu.flags & IF and not cpu.shadow:
            task.ipi = False
            self.say(task, cpu, "the interrupt that waited comes")
            self.interrupt(task, cpu)
        task.steps += 1
        if task.steps > STEP_LIMIT:
            raise Broken("end", f"{STEP_LIMIT} steps and still at {self.program.near(cpu.eip)}")
        if self.covered is not None:
            self.covered.add(cpu.eip)
        ins = self.program.instruction(cpu.eip)
        if ins is None:
            if self.program.start <= cpu.eip < self.program.end:
                raise Broken("fault", f"no instruction at {self.program.near(cpu.eip)}")
            at = cpu.eip
            try:
                words = self.arrive(task, cpu)
            except Fault as fault:
                raise Broken("fault", f"the kernel's own code at {at:#x} faults (vector {fault.vector})") from fault
            self.say(task, cpu, words)
            cpu = self.cpus[task.cpu]
        else:
            if self.trace is not None:
                self.trace.append(Tick(task.number, cpu.number, cpu.eip))
            try:
                self.processor.step(cpu, ins)
            except Fault as fault:
                self.fault(task, cpu, ins, fault)
                cpu = self.cpus[task.cpu]
        if cpu.cpl == 3:
            self.returned(task, cpu)
            task.active = False
        if not task.active:  # or the kernel's own exit has been modelled as one step
            task.over()
            cpu.leave()
            return False
        self.check_stack(task, cpu)
        return True

    def check_stack(self, task: Task, cpu: Cpu) -> None:
        esp = cpu.registers[ESP]
        odd = esp % self.memory.width
        low, high = self.stack_bounds(task, cpu)
        if low + ROOM <= esp <= high and not odd:
            return
        low, high = self.entry_bounds(cpu)
        if low <= esp <= high and not odd:
            return
        raise Broken("stack", f"esp = {esp:#x} is neither in the task's stack nor in the entry stack")

    # -- memory --------------------------------------------------------------------

    def access(self, cpu: Cpu, ins: Instruction, access: Access, linear: int) -> None:
        """The Watch that the processor asks before each memory operand."""
        task = self.tasks[cpu.task]
        name = access.segment
        if name != "ss" and name != "cs" and not self.segment_usable(cpu, name):
            raise Broken("segments", f"{ins.text!r} uses {name} = {cpu.segments[name]:#x}")
        if linear < self.task_size:
            self._user_access(task, cpu, ins, access, linear)
            return
        region = self.memory.pages.get(linear >> 12)
        if ins.address in self.program.exceptions and not ins.segment and not access.implicit:
            if self.wraps and linear >= 0xFFFFFFFC:  # below 0, where no kernel of this kind maps anything
                raise Fault(14, linear)
            if region is None or region.area not in (Area.TASK_STACK, Area.CONSTANT):
                raise Broken("user memory", f"{ins.text!r} reads {linear:#x}, which is the kernel's")
        if region is None or not region.start <= linear or linear + access.size > region.end:
            raise Broken("ownership", f"{ins.text!r} touches {linear:#x}, where nothing of its own is")
        area = region.area
        if area is Area.TASK_STACK:
            cpu.verw = False
            if region.task != cpu.task:
                raise Broken("ownership", f"{ins.text!r} touches {region.name}, the stack of another task")
            if not access.implicit and linear < cpu.registers[ESP] and self.overwritten_below(cpu):
                raise Broken("stack top", f"{ins.text!r} touches {linear:#x}, below esp = {cpu.registers[ESP]:#x}")
        elif area is Area.CPU or area is Area.ENTRY_STACK:
            cpu.verw = False
            if region.cpu != cpu.number:
                raise Broken("ownership", f"{ins.text!r} on CPU {cpu.number} touches {region.name}")
        elif area is Area.TASK:
            self.looked = True
            if region.task not in (-1, cpu.task):
                raise Broken("ownership", f"{ins.text!r} touches {region.name}")
        elif area is Area.TEXT and access.implicit:
            raise Broken("stack", f"{ins.text!r} uses the text as a stack")
        if access.write and area not in self.writable:
            raise Broken("sharing", f"{ins.text!r} writes {region.name}, {area.value}")

    def load_cr3(self, cpu: Cpu, value: int) -> None:
        raise Broken("page table", f"CR3 = {value:#x}, and this entry has no use for it")

    def overwritten_below(self, cpu: Cpu) -> bool:
        """Can something come here that uses the stack below esp?"""
        return True

    def strays(self, cpu: Cpu, access: Access, linear: int) -> bool:
        """On a mispredicted path: is this an address that only the caller could have chosen?"""
        return linear >= self.task_size and self.memory.at(linear) is None

    def runs_astray(self, cpu: Cpu) -> str:
        """A mispredicted path has left the handler for the kernel's code. Why that must not run so, or ""."""
        return ""

    def _user_access(self, task: Task, cpu: Cpu, ins: Instruction, access: Access, linear: int) -> None:
        self.looked = True
        if ins.address not in self.program.exceptions:
            raise Broken("fix-up", f"{ins.text!r} touches user memory at {linear:#x} and has none")
        if access.write:
            raise Broken("user memory", f"{ins.text!r} writes to {linear:#x}")
        if self.processor.smap and not cpu.flags & AC:
            raise Broken("user memory", f"{ins.text!r} reads {linear:#x} with SMAP closed")
        if linear + access.size > self.task_size:
            raise Broken("user memory", f"{ins.text!r} at {linear:#x} reaches over TASK_SIZE")
        for byte in (linear, linear + access.size - 1):
            if self.user_page(task, cpu, byte):
                raise Fault(14, byte)

    def fault(self, task: Task, cpu: Cpu, ins: Instruction, fault: Fault) -> None:
        """The kernel's exception handler: wait for the page, or take the fix-up."""
        if ins.address not in self.program.exceptions or fault.vector not in (13, 14):
            raise Broken("fault", f"{ins.text!r} at {self.program.where(ins.address)} faults (vector {fault.vector})")
        why = self.user_page(task, cpu, fault.address) if fault.vector == 14 else "no such segment"
        self.say(task, cpu, f"it faults: {why}")
        if fault.vector == 14 and not cpu.flags & IF:
            raise Broken("sleep", f"{ins.text!r} reads user memory with interrupts off")
        self.clobber_below(cpu, task, words=4)
        if why == "absent":
            self.wait_for_page(task, cpu)
        else:
            cpu.eip = self.program.exceptions[ins.address]

    # -- interrupts ----------------------------------------------------------------

    def next_poison(self) -> int:
        self.poison = self.poison_base + (self.poison + 0x11) % 0x10000
        return self.poison

    def clobber(self, start: int, end: int) -> None:
        self.memory.fill(start, end, self.next_poison().to_bytes(self.memory.width, "little"))

    def clobber_below(self, cpu: Cpu, task: Task, words: int = 3) -> None:
        """An interrupt without a change of stack: everything below esp goes."""
        esp = cpu.registers[ESP]
        region = self.memory.pages.get((esp - 1) >> 12)
        if region is None:
            raise Broken("stack", f"an interrupt at esp = {esp:#x} has nowhere to push")
        low = max(region.start, esp - 0x400)
        self.clobber(low, esp)
        # EFLAGS, CS, EIP as the processor pushes them
        for depth, value in ((4, cpu.flags), (8, cpu.segments["cs"]), (12, cpu.eip))[:words]:
            if esp - depth >= low:
                self.memory.write(esp - depth, value)

    def kernel_takes_over(self, task: Task, cpu: Cpu) -> None:
        """The kernel does the rest of the call and goes back to user mode: one step here."""
        self.poison = self.poison_base  # whatever came before, the same is left behind
        low, high = self.stack_bounds(task, cpu)
        self.clobber(low, high)
        task.active = False

    def interrupt(self, task: Task, cpu: Cpu) -> None:
        """A maskable interrupt that goes back to where it came."""
        self.clobber_below(cpu, task)

    def c_ready(self, task: Task, cpu: Cpu, what: str) -> None:
        """Kernel C is entered: what every function relies on."""
        if cpu.flags & DF:
            raise Broken("direction", f"DF is set at {what}")
        if cpu.flags & (0x100 | 0x3000 | 0x4000 | AC):
            raise Broken("flags", f"EFLAGS = {cpu.flags:#x} at {what}")
        for name in ("ds", "es", "fs"):
            if not self.segment_usable(cpu, name):
                raise Broken("segments", f"{name} = {cpu.segments[name]:#x} at {what}")
        low, high = self.stack_bounds(task, cpu)
        if not low + ROOM <= cpu.registers[ESP] <= high:
            raise Broken("stack", f"esp = {cpu.registers[ESP]:#x} at {what}, not the task's stack")
