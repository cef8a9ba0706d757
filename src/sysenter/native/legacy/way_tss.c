/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Linux 2.4. SYSENTER_ESP points into this CPU's TSS, and its esp0 is always the current
 * task's (legacy.h, TSS_ENTRY).
 */
#include <linux/config.h>
#include <linux/version.h>
#include "legacy.h"

#if !LINUX_2_2

#include "module.h"

extern char sysenter_entry_tss[], sysenter_trapped_tss[];
extern unsigned long sysenter_entry_stack_low, sysenter_entry_stack_high;

int sysenter_tss_check(void)
{
	if (sysenter_cpus[THIS_CPU].tss_esp0
	    != (unsigned long)current + SYSENTER_THREAD_SIZE)
		REFUSE("TR's TSS does not follow the task's stack\n");
	/* Other headers may have task_struct otherwise, and on UP the compiler too (gcc 2.95
	   gives a spinlock four bytes, later ones none). Unloading looks for stacks in it. */
	if (current->thread.esp0 != (unsigned long)current + SYSENTER_THREAD_SIZE)
		REFUSE("task_struct is not as built for: build with the headers "
		       "and the compiler of this kernel (/proc/version)\n");
	return 0;
}

int sysenter_tss_prepare(void)
{
	unsigned long low = ~0UL, high = 0;
	int cpu;

	for (cpu = 0; cpu < CPUS; cpu++) {
		unsigned long tss = sysenter_cpus[cpu].tss;

		*(unsigned long *)(tss + TSS_COUNT) = 0;
		if (tss < low)
			low = tss;
		if (tss + TSS_ENTRY > high)
			high = tss + TSS_ENTRY;
	}
	COPY_OF(sysenter_entry_stack_low) = low;
	COPY_OF(sysenter_entry_stack_high) = high + 1;
	return 0;
}

unsigned long sysenter_tss_calls(int cpu)
{
	return *(unsigned long *)(sysenter_cpus[cpu].tss + TSS_COUNT);
}

static void turn_on(void)
{
	sysenter_write_msrs(sysenter_this_tss() + TSS_ENTRY);
}

const struct way sysenter_way_tss = {
	name: "tss",
	entry: sysenter_entry_tss,
	trapped: sysenter_trapped_tss,
	takes_debug: 1,
	takes_nmi: 1,
	check: sysenter_tss_check,
	prepare: sysenter_tss_prepare,
	turn_on: turn_on,
	turn_off: sysenter_clear_msrs,
	calls: sysenter_tss_calls,
};

#endif
