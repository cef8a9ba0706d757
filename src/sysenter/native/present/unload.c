// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Unload. When this runs, no CPU enters the module any more. But tasks may still sleep in a
 * fast call, for a second or for a year, with a return address into this module on their
 * stacks. FRAME_SS at the top of a task's stack marks such a task (frame.h), so the fast path
 * needs no counter.
 */
#include "sysenter.h"
#include <linux/delay.h>
#include <linux/rcupdate.h>
#include <linux/sched/signal.h>
#include <linux/sched/task_stack.h>
#include <linux/smp.h>
#include "offsets.h"

#define WAKE_AFTER	5	/* in rounds of 20 ms */
#define SIGNAL_AFTER	25

/*
 * Worker threads (io_uring, vhost) inherit a copy of their creator's frame. If the creator
 * was inside a fast call, the copy has FRAME_SS, but the worker has never been in user mode.
 * HAZARD: nothing in the frame tells a worker from a caller, because a caller can put any
 * value there, even an ip of 0. So test the task's flags.
 */
#ifndef PF_USER_WORKER	/* until 6.4 only io_uring had such a flag */
#define PF_USER_WORKER	PF_IO_WORKER
#endif
#define NEVER_IN_USER_MODE	(PF_KTHREAD | PF_IO_WORKER | PF_USER_WORKER)

static bool is_inside(struct task_struct *task)
{
	struct pt_regs *regs = task_pt_regs(task);
	bool inside;

	if (READ_ONCE(task->flags) & NEVER_IN_USER_MODE || !try_get_task_stack(task))
		return false;
	/* compare the whole word: the kernel declares only 16 bits of it */
	inside = READ_ONCE(*(u32 *)&regs->ss) == FRAME_SS;
	kernel_call(kernel_put_task_stack, (unsigned long)task, 0, 0);
	return inside;
}

/*
 * Make a sleeper return early, so that its call restarts by the kernel's own entry. Live
 * patching gets tasks out of old code in the same way (kernel/livepatch/transition.c): a
 * wake-up like a signal's, without a signal. There are two kinds. TIF_NOTIFY_SIGNAL comes
 * first, but io_uring_enter() uses it for its own task work and sleeps on. TIF_SIGPENDING is
 * what a signal sets; the kernel clears it when it finds no signal. A call that ends with
 * -EINTR on a signal without a handler (signal(7), as after SIGCONT) ends with it here too.
 */
static void wake(struct task_struct *task, bool like_a_signal)
{
	if (!test_and_set_tsk_thread_flag(task, like_a_signal ? TIF_SIGPENDING : TIF_NOTIFY_SIGNAL))
		kernel_call(kernel_wake_up_state, (unsigned long)task, TASK_INTERRUPTIBLE, 0);
}

/*
 * A task in user mode may still have the frame of its last fast call on its stack. An
 * interrupt from user mode overwrites that frame.
 */
static void interrupted(void *unused)
{
}

static unsigned int tasks_inside(unsigned int round)
{
	struct task_struct *process, *task;
	unsigned int inside = 0;

	on_each_cpu(interrupted, NULL, 1);
	rcu_read_lock();
	for_each_process_thread(process, task) {
		if (!is_inside(task))
			continue;
		inside++;
		if (round % 500 == 499)
			pr_notice("unload waits: %s[%d] is still inside a call\n", task->comm, task->pid);
		if (round >= WAKE_AFTER)
			wake(task, round >= SIGNAL_AFTER);
	}
	rcu_read_unlock();
	return inside;
}

void sysenter_wait_until_left(void)
{
	unsigned int round;

	for (round = 0; tasks_inside(round); round++)
		msleep(20);
	/*
	 * HAZARD: an NMI ends the interrupt shadow of the `sti` before the jump to the
	 * kernel's exit. Then an interrupt may come between the two and, with preempt=full,
	 * preempt a task whose FRAME_SS is gone already. synchronize_rcu_tasks() waits until
	 * each preempted task has run on.
	 */
	synchronize_rcu_tasks();
	sysenter_all_leave_exit_work();
	/* past FRAME_SS a CPU has interrupts off: it takes this IPI when it has left the module */
	on_each_cpu(interrupted, NULL, 1);
}
