/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The cruel way's context switch for Linux 2.2: all that __switch_to has to do
 * there, and SYSENTER_ESP for the task that comes. Entered by a jump from the
 * first bytes of __switch_to, with its arguments in eax and edx and the stack
 * already the next task's.
 */
#include <linux/config.h>
#include <linux/version.h>
#include <linux/sched.h>
#include <asm/system.h>
#include <asm/processor.h>
#include <asm/desc.h>
#include "legacy.h"
#include "module.h"

#if LINUX_2_2

#define TSS_BUSY 0x200		/* in the descriptor's second word */

#define LOAD_DEBUG_REGISTER(task, n) \
	__asm__ __volatile__("movl %0,%%db" #n : : "r" ((task)->tss.debugreg[n]))

void FASTCALL(sysenter_switch_to(struct task_struct *prev,
				 struct task_struct *next));

void sysenter_switch_to(struct task_struct *prev, struct task_struct *next)
{
	unlazy_fpu(prev);

	/* LTR faults on a TSS that is marked busy, and it was when we left. */
	sysenter_gdt_table[next->tss.tr >> 3].b &= ~TSS_BUSY;
	__asm__ __volatile__("ltr %%ax" : : "a" (next->tss.tr));

	__asm__ __volatile__("movl %%fs,%0" : "=r" (*(int *)&prev->tss.fs));
	__asm__ __volatile__("movl %%gs,%0" : "=r" (*(int *)&prev->tss.gs));

	if (next->mm->segments != prev->mm->segments)
		__asm__ __volatile__("lldt %%ax" : : "a" (next->tss.ldt));
	if (next->tss.cr3 != prev->tss.cr3)
		__asm__ __volatile__("movl %0,%%cr3" : : "r" (next->tss.cr3));

	loadsegment(fs, next->tss.fs);
	loadsegment(gs, next->tss.gs);

	if (next->tss.debugreg[7]) {
		LOAD_DEBUG_REGISTER(next, 0);
		LOAD_DEBUG_REGISTER(next, 1);
		LOAD_DEBUG_REGISTER(next, 2);
		LOAD_DEBUG_REGISTER(next, 3);
		LOAD_DEBUG_REGISTER(next, 6);
		LOAD_DEBUG_REGISTER(next, 7);
	}

	/* Not tss.esp0: that is elsewhere while the task is in vm86 mode, and
	   the entry compares. */
	sysenter_write_msr(MSR_SYSENTER_ESP, (unsigned long)next
			   + SYSENTER_THREAD_SIZE - CRUEL_ROOM);
}

/* Stays behind it: whoever is interrupted between the two is still in it. */
void sysenter_switch_to_end(void)
{
}

#endif
