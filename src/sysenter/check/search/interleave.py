# SPDX-License-Identifier: GPL-2.0-or-later
"""Two CPUs in the same code: all orders of what they do to the words that they share.

Steps of two CPUs that use no common word, or only read it, commute (Mazurkiewicz
traces): orders that differ in nothing but these come to the same. So it is enough
to let each CPU run until it has used a shared word, and to try who goes next.
"""

from __future__ import annotations

from dataclasses import replace

from sysenter.check.case import Case
from sysenter.check.code.instructions import Access, Instruction
from sysenter.check.cpu.processor import Cpu, Watch
from sysenter.check.kernels.base import STEP_LIMIT, Kernel, Saved
from sysenter.check.properties import Broken
from sysenter.check.search.explore import Failure, Tally, run

__all__ = ["in_all_orders", "interleave"]

_STRIDE = 40  # of the orders that should come to the same, one in so many is tried

_Order = tuple[tuple[int, int], ...]  # (who, how many steps), one after the other


class _Witness:
    """A Watch that passes everything on to the kernel's, and notes which words each CPU uses."""

    def __init__(self, kernel: Watch) -> None:
        self.kernel = kernel
        self.used: tuple[set[int], set[int]] = (set(), set())
        self.written: set[int] = set()
        self.last: set[int] = set()  # by the step at hand

    def access(self, cpu: Cpu, ins: Instruction, access: Access, linear: int) -> None:
        self.kernel.access(cpu, ins, access, linear)
        words = {linear >> 2, linear + access.size - 1 >> 2}
        self.used[cpu.number].update(words)
        self.last |= words
        if access.write:
            self.written |= words

    def descriptor(self, cpu: Cpu, selector: int) -> int | None:
        return self.kernel.descriptor(cpu, selector)

    def timestamp(self, cpu: Cpu) -> int:
        return self.kernel.timestamp(cpu)

    def load_cr3(self, cpu: Cpu, value: int) -> None:
        self.kernel.load_cr3(cpu, value)

    @property
    def shared(self) -> set[int]:
        return self.used[0] & self.used[1] & self.written


def interleave(kernel: Kernel, case: Case, stop: bool) -> Tally:
    """All orders of `case`, and a few of those that should come to the same. stop: at the
    first failure."""
    tally = in_all_orders(kernel, case, stop)
    if not tally.failures:
        tally.add(_in_other_orders(kernel, case, stop))
    return tally


def in_all_orders(kernel: Kernel, case: Case, stop: bool) -> Tally:
    """One run for each order in which the CPUs can come to what they share."""
    usual = kernel.processor.watch
    kernel.processor.watch = witness = _Witness(usual)
    try:
        alone = run(kernel, case)
        if alone is not None:
            return Tally(1, 0, [alone])
        while True:
            known = len(witness.shared)
            tally = _explore(kernel, case, witness, stop)
            if tally.failures or known == len(witness.shared):  # in another order they may share more
                return tally
    finally:
        kernel.processor.watch = usual


def _going(kernel: Kernel) -> list[int]:
    return [n for n in (0, 1) if kernel.tasks[n].index < len(kernel.tasks[n].calls)]


def _explore(kernel: Kernel, case: Case, witness: _Witness, stop: bool) -> Tally:
    tally = Tally()
    kernel.begin(case)
    todo: list[tuple[_Order, Saved]] = [((), kernel.save())]
    while todo and not (stop and tally.failures):
        order, state = todo.pop()
        kernel.restore(state)
        going = _going(kernel)
        if not going:
            tally.cases += 1
            _conclude(kernel, case, order, tally)
        for who in going:
            kernel.restore(state)
            try:
                steps = _to_shared(kernel, who, witness)
            except Broken as broken:
                _note(kernel, case, (*order, (who, STEP_LIMIT)), broken, tally)
            else:
                todo.append(((*order, (who, steps)), kernel.save()))
    return tally


def _to_shared(kernel: Kernel, who: int, witness: _Witness) -> int:
    """Run task `who` until it has used a shared word, or to its end; the steps that took."""
    task, steps = kernel.tasks[who], 0
    while task.index < len(task.calls):
        witness.last.clear()
        kernel.tick(task)
        steps += 1
        if not witness.last.isdisjoint(witness.shared):
            break
    return steps


def _in_other_orders(kernel: Kernel, case: Case, stop: bool) -> Tally:
    """CPU 0 stops after each number of steps of its first call, CPU 1 makes some, both go on."""
    tally = Tally()
    kernel.begin(case)
    first = second = 0
    try:
        while kernel.tick(kernel.tasks[0]):
            first, second = first + 1, 0
            before = kernel.save()
            while kernel.tick(kernel.tasks[1]):
                second += 1
                if (second + first) % _STRIDE:
                    continue
                tally.cases += 1
                middle = kernel.save()
                _conclude(kernel, case, ((0, first), (1, second)), tally)
                if stop and tally.failures:
                    return tally
                kernel.restore(middle)
            kernel.restore(before)
    except Broken as broken:
        _note(kernel, case, ((0, first), (1, STEP_LIMIT)), broken, tally)
    return tally


def _conclude(kernel: Kernel, case: Case, order: _Order, tally: Tally) -> None:
    """CPU 0 to its end, then CPU 1."""
    try:
        for who in _going(kernel):
            while kernel.tasks[who].index < len(kernel.tasks[who].calls):
                kernel.tick(kernel.tasks[who])
        kernel.end()
    except Broken as broken:
        _note(kernel, case, order, broken, tally)


def _note(kernel: Kernel, case: Case, order: _Order, broken: Broken, tally: Tally) -> None:
    failed = replace(case, turns=_turns(order))
    tally.failures.append(Failure(kernel.name, failed, broken.property.key, broken.state))


def _turns(order: _Order) -> tuple[int, ...]:
    """As Case has them: CPU 0's and CPU 1's by turns."""
    turns = [0]
    for who, steps in order:
        if len(turns) % 2 == who:
            turns.append(0)
        turns[-1] += steps
    return tuple(turns)
