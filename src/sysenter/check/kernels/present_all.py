# SPDX-License-Identifier: GPL-2.0-or-later
"""The same kernel around native/present/all_amd64.S, the stand-in for do_syscall_64().

It gets what entry_SYSCALL_64 gives to do_syscall_64(). It must give back to the kernel's exit
what do_syscall_64() gives back: pt_regs, the stack pointer, interrupts off, and whether SYSRET
may be used (arch/x86/entry/entry_64.S, arch/x86/entry/common.c).
"""

from __future__ import annotations

from collections.abc import Mapping

from sysenter.check.case import CallAll, Event
from sysenter.check.code.instructions import EAX, EBP, EBX, EDI, ESI, ESP, NAMES
from sysenter.check.cpu.processor import CF, FIXED, IF, ZF, Cpu
from sysenter.check.cpu.processor64 import R11
from sysenter.check.kernels.base import Task
from sysenter.check.kernels.present import DIVIDER, NR, VMSCAPE, Slots, arity
from sysenter.check.kernels.present_amd64 import (
    ARGUMENTS,
    ENOSYS,
    FUNCTIONS,
    KEPT,
    PERCPU_BASE,
    TASKS,
    USER_CS,
    USER_DS,
    PresentAmd64,
)
from sysenter.check.properties import Broken

__all__ = ["WAYS", "PresentAll"]

_LAST = (1 << 64) - 1
_TF, _RF = 0x100, 0x10000
_ENTRY = "sysenter_all"
WAYS: Mapping[str, tuple[str, frozenset[int]]] = {
    "": (_ENTRY, frozenset()),
    "vmscape": (_ENTRY, frozenset({VMSCAPE})),
    "divider": (_ENTRY, frozenset({DIVIDER})),
    "divider, vmscape": (_ENTRY, frozenset({DIVIDER, VMSCAPE})),
}
_CLEARED = (8, 9, 12, 13, 14, 15)  # and R11: PUSH_AND_CLEAR_REGS


class PresentAll(PresentAmd64):
    """The call comes from entry_SYSCALL_64, and the return goes there."""

    plain = CallAll()
    name = "present-amd64-all"
    enters, leaves = "SYSCALL, and entry_SYSCALL_64 calls", "RET to entry_SYSCALL_64"
    ways = WAYS

    def call_of(self, task: Task) -> CallAll:
        call = task.call
        assert isinstance(call, CallAll)
        return call

    def counted(self) -> int:
        return sum(self.memory.word(self.percpu(cpu, "sysenter_count_all")) for cpu in (0, 1)) & _LAST

    @staticmethod
    def number_of(call: CallAll) -> int:
        """As `movslq %eax, %rsi` makes it."""
        low = call.number & 0xFFFFFFFF
        return low - (1 << 32) & _LAST if low >> 31 else low

    def specified(self, call: CallAll) -> str:  # type: ignore[override]
        number = self.number_of(call)
        plain = number < self.offsets["NR_SYSCALLS"] and arity(number) >= 0 and not call.work
        if self.verdict and (call.rip >> 47 or call.flags & (_TF | _RF)):
            plain = False
        return "fast" if plain else "slow"

    @property
    def verdict(self) -> bool:
        """Whether do_syscall_64() says if SYSRET may be used. Until 6.7 entry_SYSCALL_64 looks by itself."""
        return bool(self.offsets["SYSRET_VERDICT"])

    def owed_slots(self, task: Task) -> Slots:
        """pt_regs as entry_SYSCALL_64 has filled it."""
        call = self.call_of(task)
        flags = call.flags | FIXED | IF
        slots: Slots = dict(zip(ARGUMENTS, call.registers, strict=True))
        slots |= dict(zip(KEPT, call.kept, strict=True))
        slots |= {"RIP": call.rip, "RCX": call.rip, "EFLAGS": flags, "R11": flags, "RSP": call.stack, "SS": USER_DS}
        return slots | {"CS": USER_CS, "ORIG_RAX": call.number, "RAX": ENOSYS}

    def enter(self, task: Task) -> None:
        super().enter(task)
        call, cpu, frame = self.call_of(task), self.cpus[task.cpu], self.frame(task.number)
        self.clobber(self.stacks_at[task.number], frame)
        for name, value in self.owed_slots(task).items():
            assert isinstance(value, int)
            self.memory.write(frame + self.pt[name], value)
        self.memory.write(frame - 8, FUNCTIONS["after_do_syscall_64"])
        cpu.bases["gs"], cpu.kernel_gs = cpu.kernel_gs, cpu.bases["gs"]
        cpu.cr3 = self.kernel_cr3(task, cpu)
        cpu.registers = [0] * 16
        cpu.registers[EAX], cpu.registers[ESI], cpu.registers[EDI] = call.number, self.number_of(call), frame
        cpu.registers[ESP] = frame - 8
        cpu.flags, cpu.eip, cpu.cpl = FIXED, self.entry, 0

    def allowed(self, task: Task, cpu: Cpu, event: Event) -> bool:
        return event.kind != "debug" and super().allowed(task, cpu, event)

    def nmi(self, task: Task, cpu: Cpu) -> None:
        """On its own stack; it finds the kernel's GS, CR3 and stack here."""
        self.in_kernel(task, cpu, "an NMI")

    def check_stack(self, task: Task, cpu: Cpu) -> None:
        low, high = self.stack_bounds(task, cpu)
        if not low + 512 <= cpu.registers[ESP] <= high or cpu.registers[ESP] % 8:
            raise Broken("stack", f"rsp = {cpu.registers[ESP]:#x} is not in the task's stack")

    def tick(self, task: Task) -> bool:
        self.note_division(task)
        return super().tick(task)

    # -- the kernel's functions --------------------------------------------------------

    def arrive(self, task: Task, cpu: Cpu) -> str:
        name = self.functions.get(cpu.eip)
        if name == "__x86_return_thunk":
            cpu.eip = self.processor.pop(cpu)
            return name
        if name == "do_syscall_64":
            return self._stock_call(task, cpu)
        if name == "dispatch":
            return self._run(task, cpu)
        if name in ("irqentry_exit", "syscall_exit_to_user_mode"):
            return self._exit_work(task, cpu, name)
        if name == "trace_syscall_exit":
            return self._tell_tracepoint(task, cpu)
        if name == "after_do_syscall_64":
            return self._back(task, cpu)
        if name == "return_to_usermode":
            return self._by_iret(task, cpu)
        raise Broken("fault", f"execution goes to {cpu.eip:#x}, where nothing is that it may call")

    def _whole(self, task: Task, where: str, **other: int) -> None:
        """pt_regs is as it was, but for `other`."""
        self.expect("pt_regs", task, {**self.owed_slots(task), **other}, where)

    def _done(self, task: Task, cpu: Cpu) -> None:
        """The kernel does the rest."""
        self.kernel_takes_over(task, cpu)
        self.memory.write(self.top(task.number) - 8, USER_DS)

    def _stock_call(self, task: Task, cpu: Cpu) -> str:
        where, frame = "do_syscall_64", self.frame(task.number)
        if task.path == "fast" and not task.slow_allowed:
            raise Broken("fast", f"call {self.call_of(task).number:#x} went to {where}")
        if task.bodies:
            raise Broken("number", f"the body has run and {where} would run it again")
        if cpu.flags & IF:
            raise Broken("hand-over", f"interrupts are on at {where}")
        self.c_ready(task, cpu, where)
        found = cpu.registers[ESP], cpu.registers[EDI], cpu.registers[ESI]
        if found != (frame - 8, frame, self.number_of(self.call_of(task))):
            raise Broken("hand-over", "rsp, rdi, rsi = {:#x}, {:#x}, {:#x} at do_syscall_64".format(*found))
        self._returns_to_kernel(task, where)
        self._whole(task, where)
        if not self.tasks[1].calls and self.counted() != task.count:
            raise Broken("count", "a call that is not fast was counted as fast")
        self._done(task, cpu)
        return f"{where}: the kernel takes it from here"

    def _returns_to_kernel(self, task: Task, where: str) -> None:
        found = self.memory.word(self.frame(task.number) - 8)
        if found != FUNCTIONS["after_do_syscall_64"]:
            raise Broken("unwind", f"below pt_regs stands {found:#x} at {where}, no return to entry_SYSCALL_64")

    def _run(self, task: Task, cpu: Cpu) -> str:
        """x64_sys_call() and the body."""
        call = self.call_of(task)
        number = cpu.registers[ESI]
        where = f"body {number}"
        if task.path != "fast" or number != self.number_of(call) or task.bodies:
            raise Broken(
                "number", f"rax = {call.number:#x} ({task.path}) runs {where}, for the {task.bodies + 1}. time"
            )
        self.c_ready(task, cpu, where)
        if not cpu.flags & IF:
            raise Broken("interrupts", f"{where} runs with interrupts off")
        frame = self.frame(task.number)
        if cpu.registers[EDI] != frame:
            raise Broken("arguments", f"rdi = {cpu.registers[EDI]:#x} at {where}, pt_regs is at {frame:#x}")
        self._whole(task, where, SS=self.offsets["FRAME_SS"])
        if cpu.registers[EBP] != frame:
            raise Broken("unwind", f"rbp = {cpu.registers[EBP]:#x} at {where}: a stack trace needs pt_regs there")
        self._returns_to_kernel(task, where)
        self._offset(task, cpu, where)
        self._nothing_of_the_callers(task, cpu, where)
        task.bodies += 1
        words = f"{where} runs"
        self.clobber(max(self.stacks_at[task.number], cpu.registers[ESP] - 0x300), cpu.registers[ESP])
        if call.sleeps:
            words += f", sleeps and wakes on {'another' if call.sleeps == 'other' else 'the same'} CPU"
            self.switch(task, cpu, call.sleeps == "other")
            cpu = self.cpus[task.cpu]
        if call.unwound:
            self.set_task_field(task, "TASK_unwind_mask", 2)
        if call.guest:
            self.memory.write(self.percpu(cpu.number, "x86_ibpb_exit_to_user"), 1, 1)
        self.raise_work(task, call.pending, call.tracing)
        self._returns(cpu, call.result)
        cpu.flags ^= CF | ZF
        return words

    def _returns(self, cpu: Cpu, result: int) -> None:
        """The end of a C function: registers that it need not preserve get other values."""
        kept = {n: cpu.registers[n] for n in (EBX, EBP, 12, 13, 14, 15)}
        cpu.eip = self.processor.pop(cpu)
        rsp = cpu.registers[ESP]
        cpu.registers = [self.next_poison() for _ in range(16)]
        for number, value in kept.items():
            cpu.registers[number] = value
        cpu.registers[EAX], cpu.registers[ESP] = result, rsp

    def _offset(self, task: Task, cpu: Cpu, where: str) -> None:
        offset = self.frame(task.number) - 16 - cpu.registers[ESP]
        if offset not in range(0, 8 * 256, 8):
            raise Broken("offset", f"rsp = {cpu.registers[ESP]:#x} at {where}, {offset} below the return address")
        if not task.number and not task.moved:
            self.offset_drawn(task, cpu, offset, where)

    def _nothing_of_the_callers(self, task: Task, cpu: Cpu, where: str) -> None:
        call = self.call_of(task)
        ours = {0, self.frame(task.number), TASKS[task.number], self.number_of(call)}
        theirs = {*call.registers, *call.kept, call.stack, call.rip}
        for number, name in enumerate(NAMES[64]):
            value = cpu.registers[number]
            if number in (*_CLEARED, R11) and value:
                raise Broken("clear", f"{name} = {value:#x} at {where}, should be 0")
            # rax is the caller's in do_syscall_64() as well, and its first instruction here
            if number in (EAX, ESP) or value in ours:
                continue
            if value in theirs and not (number == 10 and value < 256):
                raise Broken("clear", f"{name} = {value:#x} at {where} is the caller's")

    def _tell_tracepoint(self, task: Task, cpu: Cpu) -> str:
        call, where, frame = self.call_of(task), "trace_syscall_exit", self.frame(task.number)
        if task.bodies != 1 or task.traced:
            raise Broken("number", f"{where} after {task.bodies} bodies{', again' * task.traced}")
        self.c_ready(task, cpu, where)
        if not cpu.flags & IF:
            raise Broken("interrupts", f"{where} runs with interrupts off")
        if (cpu.registers[EDI], cpu.registers[ESI]) != (frame, call.result):
            raise Broken("hand-over", f"rdi, rsi = {cpu.registers[EDI]:#x}, {cpu.registers[ESI]:#x} at {where}")
        self._whole(task, where, SS=self.offsets["FRAME_SS"], RAX=call.result)
        self.seen_by_unload(task, cpu)
        task.traced = True
        self._returns(cpu, self.next_poison())
        return where

    def _exit_work(self, task: Task, cpu: Cpu, where: str) -> str:
        """The kernel's exit: signals, a reschedule; a tracer or a handler may change the registers."""
        call, frame = self.call_of(task), self.frame(task.number)
        self._count_once(task, where)
        if not task.work_seen:
            raise Broken("fast", f"nothing is pending and the call leaves by {where}")
        self.c_ready(task, cpu, where)
        whole = where == "syscall_exit_to_user_mode"
        if bool(cpu.flags & IF) != whole:
            raise Broken("hand-over", f"interrupts are {'off' if whole else 'on'} at {where}")
        if not whole and task.exit_required and not task.traced and not self.vmscape:
            raise Broken("work", f"the tracer that came during the call is not told of its end before {where}")
        if cpu.registers[EDI] != frame or (cpu.registers[ESI] and not whole):
            raise Broken("hand-over", f"rdi, rsi = {cpu.registers[EDI]:#x}, {cpu.registers[ESI]:#x} at {where}")
        if cpu.registers[ESP] != frame - 8:
            raise Broken("hand-over", f"rsp = {cpu.registers[ESP]:#x} at {where}, pt_regs is at {frame:#x}")
        if self.memory.word(frame - 8) != self.program.symbols["sysenter_all_exit_done"]:
            raise Broken("inside", f"{self.memory.word(frame - 8):#x} below pt_regs at {where}: unload cannot find it")
        self._whole(task, where, RAX=call.result)
        self.clobber(max(self.stacks_at[task.number], frame - 0x400), frame - 8)
        if call.sleeps:
            self.switch(task, cpu, call.sleeps == "other")
            cpu = self.cpus[task.cpu]
        if call.unloads:
            self.memory.write(frame - 8, FUNCTIONS["return_to_usermode"])
        task.changed = call.changes
        for name, value in call.changes:
            self.memory.write(frame + self.pt[name], value)
        self.set_task_field(task, "TASK_ti_flags", self.harmless_flags())
        self.set_task_field(task, "TASK_syscall_work", 0)
        self.set_task_field(task, "TASK_unwind_mask", 0)
        self.memory.write(self.percpu(cpu.number, "x86_ibpb_exit_to_user"), 0, 1)
        task.exit_required, task.exited, task.ipi = False, True, False
        self._returns(cpu, self.next_poison())
        cpu.flags &= ~IF
        return where

    def seen_by_unload(self, task: Task, cpu: Cpu) -> None:
        """Either by FRAME_SS, or by the word below pt_regs, if that is all of ours that it has."""
        at = self.frame(task.number) - 8
        done = self.program.symbols["sysenter_all_exit_done"]
        if cpu.cpl == 3 or self.program.start <= cpu.eip < self.program.end or self.memory.word(at) != done:
            super().seen_by_unload(task, cpu)
            return
        self.memory.write(at, FUNCTIONS["return_to_usermode"])  # what unload makes of it
        super().seen_by_unload(task, cpu)
        self.memory.write(at, done)

    def _count_once(self, task: Task, where: str) -> None:
        if task.path != "fast" or task.bodies != 1:
            raise Broken("number", f"{where} is reached and {task.bodies} bodies have run ({task.path})")
        if not self.tasks[1].calls and self.counted() != (task.count + 1) & _LAST:
            raise Broken("count", f"one fast call counts {self.counted() - task.count}")

    def _by_iret(self, task: Task, cpu: Cpu) -> str:
        where = "the kernel's IRET"
        self._count_once(task, where)
        if not self.call_of(task).unloads:
            raise Broken("fast", f"the call goes to {where}")
        if cpu.registers[ESP] != self.frame(task.number) or cpu.flags & IF:
            raise Broken("hand-over", f"rsp = {cpu.registers[ESP]:#x}, RFLAGS = {cpu.flags:#x} at {where}")
        task.fast_calls += 1
        self._done(task, cpu)
        return where

    def _back(self, task: Task, cpu: Cpu) -> str:
        """In entry_SYSCALL_64 behind the call."""
        call, where, frame = self.call_of(task), "the return to entry_SYSCALL_64", self.frame(task.number)
        self._count_once(task, where)
        if cpu.registers[ESP] != frame:
            raise Broken("hand-over", f"rsp = {cpu.registers[ESP]:#x} at {where}, pt_regs is at {frame:#x}")
        if cpu.flags & IF:
            raise Broken("hand-over", f"interrupts are on at {where}")
        self.in_kernel(task, cpu, where)
        self._whole(task, where, **{"RAX": call.result, **dict(task.changed)})
        sysret = cpu.registers[EAX] & 0xFF
        if self.verdict and sysret > 1:
            raise Broken("hand-over", f"al = {sysret} at {where}, no C bool")
        if self.verdict and bool(sysret) != self._restorable(task):
            raise Broken(
                "canonical" if sysret else "fast", f"al = {sysret} at {where}, {'not ' * bool(sysret)}for SYSRET"
            )
        self.no_flags_left(task)
        if task.exit_required:
            raise Broken(
                "work", "a tracer, a stack trace or a barrier waits for the exit, and the call returns without"
            )
        if self.divider and not (task.divided or task.exited):
            raise Broken("divider", "the divider holds what the kernel has divided last")
        if task.divided and not self.divider:
            raise Broken("fast", "a division where the kernel makes none")
        task.fast_calls += 1
        self._done(task, cpu)
        return where

    def _restorable(self, task: Task) -> bool:
        """What SYSRET leaves as it is in pt_regs (common.c, do_syscall_64())."""
        ip, flags = self.slot(task, "RIP"), self.slot(task, "EFLAGS")
        same = self.slot(task, "RCX") == ip and self.slot(task, "R11") == flags
        segments = (self.slot(task, "CS"), self.slot(task, "SS")) == (USER_CS, USER_DS)
        return same and segments and not ip >> 47 and not flags & (_TF | _RF)

    def in_kernel(self, task: Task, cpu: Cpu, where: str) -> None:
        super().in_kernel(task, cpu, where)
        if cpu.bases["gs"] not in PERCPU_BASE:
            raise Broken("gs", f"gs has the base {cpu.bases['gs']:#x} at {where}")

    def held(self, task: Task, name: str) -> frozenset[int]:
        return task.seen | {self.call_of(task).number & (NR - 1)}
