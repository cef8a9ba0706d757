/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Linux 2.2, the gentle ways. SYSENTER_ESP points to this CPU's slot in a block of ours, and
 * TR leads from there to the task's cell (legacy.h, BLOCK_BYTES). Nothing of the kernel's is
 * patched. gentle-global is the way of 2001, by task[] and one global variable.
 */
#include <linux/config.h>
#include <linux/version.h>
#include <linux/sched.h>
#include <linux/smp.h>
#include <linux/mm.h>
#include <linux/string.h>
#include <asm/processor.h>
#include <asm/desc.h>
#include "legacy.h"
#include "module.h"
#include "addresses.h"

#if LINUX_2_2

#define BLOCK_ORDER 4			/* BLOCK_BYTES; so it is aligned to its size */
#define SLOT(cpu) (block + SLOTS_AT + (cpu) * SLOT_SIZE)

extern char sysenter_entry_gentle[], sysenter_trapped_gentle[];
extern char sysenter_entry_global[], sysenter_trapped_global[];
extern char sysenter_gdt_test[], sysenter_gdt_mark[];
extern unsigned long sysenter_entry_stack_low, sysenter_entry_stack_high;
extern unsigned long sysenter_global_count;

static unsigned long block;		/* cells and slots */

static int check_tasks(void)
{
	struct task_struct **task = (struct task_struct **)ADDRESS_task;

	if (task[0] != &init_task
	    || task[(current->tss.tr - TSS0_SELECTOR) >> 4] != current)
		REFUSE("System.map's task[] is not indexed by TR\n");
	if (_TSS(NR_TASKS) > SLOTS_AT
	    || NR_CPUS * SLOT_SIZE > BLOCK_BYTES - SLOTS_AT - SLOT_SIZE)
		REFUSE("%d tasks, %d processors are too many for a "
		       "gentle way: take cruel\n", NR_TASKS, NR_CPUS);
	return 0;
}

/* The kernel must clear our mark when it makes a new task, so it must write the whole byte of
   the descriptor. Look for movb $0,6(reg). */
static int kernel_clears_marks(void)
{
#ifdef ADDRESS_set_tss_desc
	const unsigned char *p = (const unsigned char *)ADDRESS_set_tss_desc;
	int i;

	for (i = 0; i < 64; i++)
		if (p[i] == 0xc6 && (p[i + 1] & 0xf8) == 0x40
		    && p[i + 2] == DESCRIPTOR_AVL_BYTE && p[i + 3] == 0)
			return 1;
#endif
	return 0;
}

static int check(void)
{
	if (check_tasks())
		return -EINVAL;
	if (!kernel_clears_marks())
		REFUSE("set_tss_desc() does not clear the mark of way=gentle: "
		       "take cruel\n");
	return 0;
}

static int check_global(void)
{
	if (CPUS > 1)
		REFUSE("way=gentle-global uses one variable for all %d "
		       "processors: take gentle\n", CPUS);
	return check_tasks();
}

static int prepare(void)
{
	block = __get_free_pages(GFP_KERNEL, BLOCK_ORDER);
	if (!block)
		REFUSE("no memory for 64 KB in one piece\n");
	memset((void *)block, 0, BLOCK_BYTES);
	COPY_OF(sysenter_entry_stack_low) = block;
	COPY_OF(sysenter_entry_stack_high) = block + BLOCK_BYTES;
	/* In both instructions: the four bytes before the mask, which is the last byte. */
	*(unsigned long *)(sysenter_in_copy(sysenter_gdt_test) - 5) =
	*(unsigned long *)(sysenter_in_copy(sysenter_gdt_mark) - 5) =
		(unsigned long)sysenter_gdt_table + DESCRIPTOR_AVL_BYTE - block;
	return 0;
}

static void free_block(void)
{
	if (block)
		free_pages(block, BLOCK_ORDER);
	block = 0;
}

static void turn_on(void)
{
	sysenter_write_msrs(SLOT(THIS_CPU + 1));
}

/* The next load has another block, whose cells are empty. */
static void clear_marks(void)
{
	int i;

	for (i = 0; i < NR_TASKS; i++)
		((unsigned char *)&sysenter_gdt_table[_TSS(i) >> 3])
			[DESCRIPTOR_AVL_BYTE] &= ~DESCRIPTOR_AVL;
}

static unsigned long calls(int cpu)
{
	return *(unsigned long *)(SLOT(cpu) + SLOT_COUNT);
}

static unsigned long calls_global(int cpu)
{
	return COPY_OF(sysenter_global_count);
}

const struct way sysenter_way_gentle = {
	name: "gentle",
	entry: sysenter_entry_gentle,
	trapped: sysenter_trapped_gentle,
	takes_debug: 1,
	takes_nmi: 1,
	check: check,
	prepare: prepare,
	free: free_block,
	turn_on: turn_on,
	turn_off: sysenter_clear_msrs,
	unpatch: clear_marks,
	calls: calls,
};

const struct way sysenter_way_gentle_global = {
	name: "gentle-global",
	entry: sysenter_entry_global,
	trapped: sysenter_trapped_global,
	takes_debug: 1,
	takes_nmi: 1,
	check: check_global,
	prepare: prepare,
	free: free_block,
	turn_on: turn_on,
	turn_off: sysenter_clear_msrs,
	calls: calls_global,
};

#endif
