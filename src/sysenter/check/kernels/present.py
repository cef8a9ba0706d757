# SPDX-License-Identifier: GPL-2.0-or-later
"""What the present kernels have in common: tables, frame, unload, thread flags.

The parts that a processor's file adds are its layout, who is owed what at which
of the kernel's functions, and what an interrupt does to its stacks.
"""

from __future__ import annotations

import abc
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from sysenter.check.case import Call, Case, Event
from sysenter.check.code.instructions import EAX, ECX, EDX, ESP, Access, Instruction
from sysenter.check.cpu.processor import FIXED, IF, Cpu
from sysenter.check.kernels.base import Kernel, Task
from sysenter.check.properties import Broken

__all__ = [
    "ARITHMETIC",
    "DIVIDER",
    "NR",
    "VMSCAPE",
    "Present",
    "Slots",
    "again",
    "arity",
    "bits",
    "random_cases",
]

NR = 512  # native/present/abi.h, SYSENTER_NR
ARITHMETIC = 0x8D5  # CF, PF, AF, ZF, SF, OF
VMSCAPE, DIVIDER = 21 * 32 + 14, 23 * 32 + 1  # asm/cpufeatures.h: IBPB_EXIT_TO_USER, X86_BUG_DIV0

_Call = TypeVar("_Call", bound=Call)
Slots = dict[str, int | frozenset[int]]


def arity(number: int) -> int:
    """Registers that the modelled call takes; -1: outside the fast table."""
    return -1 if number % 8 == 7 else number % 8


def bits(mask: int) -> list[int]:
    """The single bits of `mask`."""
    return [1 << n for n in range(32) if mask >> n & 1]


def again(call: _Call, other: _Call) -> _Call:
    """The same call with the values of `other` wherever it has the usual ones: what the first has
    left in the frame is then wrong for the second."""
    usual = type(call)()
    names = ("registers", "stack", "rip", "kept")
    return replace(
        call, **{n: getattr(other, n) for n in names if hasattr(call, n) and getattr(call, n) == getattr(usual, n)}
    )


def random_cases(
    rng: random.Random,
    offsets: dict[str, int],
    count: int,
    random_call: Callable[[random.Random, dict[str, int]], Call],
    kinds: Sequence[str],
    variants: Sequence[str],
) -> Iterator[Case]:
    """Random callers, three calls each, with none to three events at random places.

    kinds: of events. variants: of the processor.
    """

    def random_event() -> Event:
        kind = rng.choice(kinds)
        value = 0
        if kind == "preempt":
            value = rng.randrange(2)
        elif kind == "work":
            value = rng.choice(bits(offsets["EXIT_WORK"]))
        elif kind == "trace":
            value = 1 << rng.randrange(7)
        return Event(rng.randrange(1, 75), kind, value, rng.randrange(3))

    for _ in range(count):
        calls = tuple(random_call(rng, offsets) for _ in range(3))
        happenings = tuple(random_event() for _ in range(rng.choice((0, 0, 1, 2, 3))))
        yield Case(calls, happenings, variant=rng.choice(variants))


class Present(Kernel):
    """tasks_at, stacks_at: of each task; tops_at: where its stack ends. body_at: of call 0,
    16 bytes each. mark: what a fast call's number has added. ss: pt_regs' last field."""

    tasks_at: tuple[int, ...]
    stacks_at: tuple[int, ...]
    tops_at: tuple[int, ...]
    body_at: int
    percpu_at: Mapping[str, int]
    percpu_base: tuple[int, ...]
    offsets: dict[str, int]
    pt: dict[str, int]
    functions: dict[int, str]
    counted_before = 0
    ss: str

    def percpu(self, cpu: int, symbol: str) -> int:
        return (self.percpu_base[cpu] + self.percpu_at[symbol]) & self.processor.mask

    def top(self, task: int) -> int:
        """The end of the task's pt_regs."""
        return self.tops_at[task]

    def frame(self, task: int) -> int:
        return self.tops_at[task] - self.pt_size

    def stack_bounds(self, task: Task, cpu: Cpu) -> tuple[int, int]:
        return self.stacks_at[task.number], self.tops_at[task.number]

    def harmless_flags(self) -> int:
        """Thread flags that are no work: all that the kernel's exit ignores."""
        return ~self.offsets["EXIT_WORK"] & 0xFFFFFFFF

    # -- pt_regs -----------------------------------------------------------------------

    def slot(self, task: Task, name: str) -> int:
        return self.memory.word(self.frame(task.number) + self.pt[name])

    def expect(self, key: str, task: Task, slots: Slots, where: str) -> None:
        for name, wanted in slots.items():
            found = self.slot(task, name)
            if found != wanted and not (isinstance(wanted, frozenset) and found in wanted):
                text = f"{wanted:#x}" if isinstance(wanted, int) else " or ".join(f"{w:#x}" for w in sorted(wanted))
                raise Broken(key, f"PT_{name} = {found:#x} at {where}, should be {text}")

    def frame_stands(self, task: Task, where: str) -> None:
        """FRAME_SS is there, and every other slot holds what its register has held in user mode."""
        if self.slot(task, self.ss) != self.offsets["FRAME_SS"]:
            raise Broken("inside", f"PT_{self.ss} = {self.slot(task, self.ss):#x} at {where}: unload cannot see it")
        for name in self.pt:
            known = self.held(task, name)
            if name not in (self.ss, "EFLAGS") and self.slot(task, name) not in known:
                raise Broken("leak", f"PT_{name} = {self.slot(task, name):#x} at {where} was never the caller's")

    @abc.abstractmethod
    def held(self, task: Task, name: str) -> frozenset[int]:
        """What the caller has had in this register until now; for other slots, anywhere."""

    def flags_slot(self, task: Task, where: str, may_have_if: bool) -> None:
        """System flags in the frame are the caller's; the arithmetic ones do not matter."""
        found = self.slot(task, "EFLAGS")
        mask = ~(ARITHMETIC | (IF if may_have_if else 0))
        if found & mask != (task.call.flags | FIXED | IF) & mask:
            raise Broken("pt_regs", f"PT_EFLAGS = {found:#x} at {where}, the caller had {task.call.flags:#x}")

    # -- unload ------------------------------------------------------------------------

    def _ours(self, task: Task, cpu: Cpu) -> int:
        """An address of the module on the task's stack, 0 if there is none."""
        for at in range(cpu.registers[ESP], self.frame(task.number), self.memory.width):
            if self.program.start <= self.memory.word(at) < self.program.end:
                return self.memory.word(at)
        return 0

    def no_way_back(self, task: Task, cpu: Cpu, where: str) -> None:
        """`where` may sleep without FRAME_SS, so no address of the module may be below the frame."""
        if self._ours(task, cpu):
            raise Broken("inside", f"{self._ours(task, cpu):#x}, an address of the module, is on the stack at {where}")

    def seen_by_unload(self, task: Task, cpu: Cpu) -> None:
        """The task goes off the CPU."""
        if cpu.cpl == 3:
            return
        inside = self.program.start <= cpu.eip < self.program.end or self._ours(task, cpu)
        if inside and self.slot(task, self.ss) != self.offsets["FRAME_SS"]:
            where = self.program.near(cpu.eip)
            raise Broken("inside", f"a task off the CPU at {where}, PT_{self.ss} = {self.slot(task, self.ss):#x}")

    # -- counts and work ---------------------------------------------------------------

    def counted(self) -> int:
        """Fast calls on all CPUs."""
        return sum(self.memory.word(self.percpu(cpu, "sysenter_count")) for cpu in (0, 1)) & self.processor.mask

    def end(self) -> None:
        made = sum(task.fast_calls for task in self.tasks)
        if self.counted() != self.counted_before + made:
            raise Broken("count", f"{made} fast calls on two CPUs count {self.counted() - self.counted_before}")

    def task_field(self, task: Task, field: str) -> int:
        return self.memory.read(self.tasks_at[task.number] + self.offsets[field], 4)

    def set_task_field(self, task: Task, field: str, value: int) -> None:
        self.memory.write(self.tasks_at[task.number] + self.offsets[field], value, 4)

    def raise_work(self, task: Task, pending: int, tracing: int) -> None:
        """Thread flags and syscall work are set, by whomever."""
        self.set_task_field(task, "TASK_ti_flags", self.task_field(task, "TASK_ti_flags") | pending)
        self.set_task_field(task, "TASK_syscall_work", self.task_field(task, "TASK_syscall_work") | tracing)
        self.note_work(task)

    @abc.abstractmethod
    def note_work(self, task: Task) -> None:
        """What has been raised until now: must, or may, the call leave by the slow exit?"""

    def note_division(self, task: Task) -> None:
        """Is the next instruction 0 by 1, as amd_clear_divider() has it?"""
        cpu = self.cpus[task.cpu]
        ins = self.program.instruction(cpu.eip) if task.active else None
        if ins is not None and ins.mnemonic == "div":
            task.divided = ins.register == ECX and [cpu.registers[n] for n in (EAX, EDX, ECX)] == [0, 0, 1]

    def no_flags_left(self, task: Task) -> None:
        flags = self.task_field(task, "TASK_ti_flags") & self.offsets["EXIT_WORK"]
        if flags and not task.ipi:
            raise Broken("work", f"thread flags {flags:#x} are set, the call returns, and no interrupt is on its way")

    def access(self, cpu: Cpu, ins: Instruction, access: Access, linear: int) -> None:
        super().access(cpu, ins, access, linear)
        if access.write and linear == self.top(cpu.task) - self.memory.width and not access.implicit:
            self.tasks[cpu.task].built = True

    # -- what may happen ---------------------------------------------------------------

    def happen(self, task: Task, cpu: Cpu, event: Event) -> None:
        kind = event.kind
        if kind == "nmi":
            self.say(task, cpu, "NMI")
            self.nmi(task, cpu)
        elif kind == "debug":
            self.say(task, cpu, "#DB")
            self.debug(task, cpu)
        elif kind == "irq":
            self.say(task, cpu, "an interrupt")
            self.interrupt(task, cpu)
        elif kind == "preempt":
            back = "another" if event.value else "the same"
            self.say(task, cpu, f"an interrupt, and another task runs; back on {back} CPU")
            self.interrupt(task, cpu)
            self.switch(task, cpu, bool(event.value))
        elif kind == "work":
            self.say(task, cpu, f"another CPU raises thread flags {event.value:#x} and interrupts this one")
            self.raise_work(task, event.value, 0)
            task.ipi = True
        elif kind == "trace":
            self.say(task, cpu, f"another CPU raises syscall work {event.value:#x}")
            if not task.bodies:
                task.slow_allowed = True
            self.raise_work(task, 0, event.value)
        else:
            raise ValueError(f"{kind}: no such event")

    @abc.abstractmethod
    def nmi(self, task: Task, cpu: Cpu) -> None:
        """An NMI: change all that it may change."""

    @abc.abstractmethod
    def debug(self, task: Task, cpu: Cpu) -> None:
        """The same for #DB."""

    @abc.abstractmethod
    def switch(self, task: Task, cpu: Cpu, elsewhere: bool) -> None:
        """schedule(): other tasks run here; the task comes back, perhaps elsewhere."""
