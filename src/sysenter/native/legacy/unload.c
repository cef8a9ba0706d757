/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * May the module's code go away?
 */
#include <linux/config.h>
#include <linux/version.h>
#include <linux/sched.h>
#include <linux/smp.h>
#include "legacy.h"
#include "module.h"

/* Is any word between ESP and the end of this stack an address in [low, high)? */
int sysenter_stack_has(struct task_struct *task, unsigned long esp,
		       unsigned long low, unsigned long high)
{
	unsigned long *word = (unsigned long *)(esp & ~3UL);
	unsigned long *end = (unsigned long *)
		((unsigned long)task + SYSENTER_THREAD_SIZE);

	if (word < (unsigned long *)task || word > end)
		return 1;			/* a stack of an unknown kind: say yes */
	for (; word < end; word++)
		if (*word >= low && *word < high)
			return 1;
	return 0;
}

static int has_own_code(struct task_struct *task, unsigned long esp)
{
	return sysenter_way->code
		&& sysenter_stack_has(task, esp,
				      (unsigned long)sysenter_way->code,
				      (unsigned long)sysenter_way->code_end);
}

/*
 * Is a task between entry and exit? It may sleep in a call, or have been interrupted, or wait
 * for a page of the user's stack. All other processors are held, so every task's live stack
 * can be read. A task that has to come back through our text has an address in it on its
 * stack. And no task is on its way in, because that takes a processor, and all processors are
 * held outside of the entry.
 */
int sysenter_in_use(void)
{
	unsigned long copy = sysenter_entry_point & PAGE_MASK;
	struct task_struct *task;
	unsigned long esp;
	int cpu;

	for_each_task(task) {
#if LINUX_2_2
		esp = task->tss.esp;
#else
		esp = task->thread.esp;
#endif
		for (cpu = 0; cpu < NR_CPUS; cpu++)
			if (sysenter_held[cpu].task == task)
				esp = sysenter_held[cpu].esp;
		if (task->state == TASK_ZOMBIE)
			continue;
		/* Nothing returns to the first byte. A word with its address is a left-over:
		   a pointer to what had this page before. */
		if (sysenter_stack_has(task, esp, copy + 1, copy + PAGE_SIZE)
		    || has_own_code(task, esp))
			return 1;
	}
	/* The idle tasks of the other processors are in no list of tasks. */
	for (cpu = 0; cpu < NR_CPUS; cpu++)
		if (sysenter_held[cpu].task
		    && has_own_code(sysenter_held[cpu].task,
				    sysenter_held[cpu].esp))
			return 1;
	return 0;
}
