// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Unload. When this runs, no CPU enters the module any more. But tasks may still
 * be inside a fast call, asleep for a second or for a year, with a return address
 * into this module on their stacks. FRAME_SS at the top of a task's stack tells that
 * (frame.h), so the fast path needs no counter.
 */
#include "sysenter.h"
#include <linux/delay.h>
#include <linux/rcupdate.h>
#include <linux/sched/signal.h>
#include <linux/sched/task_stack.h>
#include <linux/smp.h>
#include "offsets.h"

#define WAKE_AFTER	5	/* rounds of 20 ms */
#define SIGNAL_AFTER	25

/*
 * Worker threads (io_uring, vhost) inherit a copy of their creator's frame. If that
 * was inside a fast call, the copy has FRAME_SS, but the worker never was in user
 * mode. HAZARD: nothing in the frame tells the two apart: a caller may have put any
 * value there, an ip of 0 too. So the task's flags are asked.
 */
#ifndef PF_USER_WORKER	/* until 6.4 there was one for io_uring alone */
#define PF_USER_WORKER	PF_IO_WORKER
#endif
#define NEVER_IN_USER_MODE	(PF_KTHREAD | PF_IO_WORKER | PF_USER_WORKER)

static bool is_inside(struct task_struct *task)
{
	struct pt_regs *regs = task_pt_regs(task);
	bool inside;

	if (READ_ONCE(task->flags) & NEVER_IN_USER_MODE || !try_get_task_stack(task))
		return false;
	/* the word, not the 16 bits that the kernel declares */
	inside = READ_ONCE(*(u32 *)&regs->ss) == FRAME_SS;
	kernel_call(kernel_put_task_stack, (unsigned long)task, 0, 0);
	return inside;
}

/*
 * Make a sleeper return early and restart its call by the kernel's own entry,
 * as live patching does to get tasks out of old code (kernel/livepatch/
 * transition.c): a signal-like wake-up without a signal. io_uring_enter() takes
 * the first kind for its own task work and sleeps on; the second is what a
 * signal sets, and the kernel clears it when it finds none. Calls that a signal
 * without a handler ends with -EINTR (signal(7), as after SIGCONT) do so here.
 */
static void wake(struct task_struct *task, bool like_a_signal)
{
	if (!test_and_set_tsk_thread_flag(task, like_a_signal ? TIF_SIGPENDING : TIF_NOTIFY_SIGNAL))
		kernel_call(kernel_wake_up_state, (unsigned long)task, TASK_INTERRUPTIBLE, 0);
}

/*
 * A task in user mode may have the frame of its last call on its stack. Any
 * interrupt from user mode writes over it.
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
	 * HAZARD: an NMI ends the shadow of the `sti` before the jump to the
	 * kernel's exit. An interrupt may then come between the two and, with
	 * preempt=full, take the CPU from a task whose FRAME_SS is gone. Such a
	 * task was preempted, so RCU tasks waits until it has run on.
	 */
	synchronize_rcu_tasks();
	sysenter_all_leave_exit_work();
	/* a CPU in the tail, behind FRAME_SS and with interrupts off, has left once it takes this IPI */
	on_each_cpu(interrupted, NULL, 1);
}
