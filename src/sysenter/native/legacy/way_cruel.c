/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Linux 2.2, the cruel way. A __switch_to of ours writes SYSENTER_ESP at each switch of
 * tasks. The first bytes of the kernel's __switch_to are replaced by a jump to it.
 */
#include <linux/config.h>
#include <linux/version.h>
#include <linux/sched.h>
#include <linux/smp.h>
#include <linux/string.h>
#include <asm/system.h>
#include <asm/processor.h>
#include <asm/desc.h>
#include "legacy.h"
#include "module.h"
#include "addresses.h"

#if LINUX_2_2

#define TSS_BUSY 0x200		/* in the descriptor's second word */

#define LOAD_DEBUG_REGISTER(task, n) \
	__asm__ __volatile__("movl %0,%%db" #n : : "r" ((task)->tss.debugreg[n]))

/*
 * Does all that the kernel's __switch_to does, and writes SYSENTER_ESP for the next task. The
 * jump in the kernel's __switch_to leads here, so the arguments are in eax and edx, and the
 * stack is the next task's already.
 */
void FASTCALL(sysenter_switch_to(struct task_struct *prev,
				 struct task_struct *next));

void sysenter_switch_to(struct task_struct *prev, struct task_struct *next)
{
	unlazy_fpu(prev);

	/* LTR faults on a TSS that is marked busy, and this one was when its task left. */
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

	/* Not tss.esp0, which is elsewhere while the task is in vm86 mode. The entry
	   compares the two. */
	sysenter_write_msr(MSR_SYSENTER_ESP, (unsigned long)next
			   + SYSENTER_THREAD_SIZE - CRUEL_ROOM);
}

/* The end of it. A task that was interrupted between the two labels is still in it. */
void sysenter_switch_to_end(void)
{
}

/* ---- the patch -------------------------------------------------------------- */

#define JMP_REL32 0xe9
#define JMP_SIZE 5

extern char sysenter_entry_cruel[], sysenter_trapped_cruel[];

/* entry.S counts each CPU's calls here. */
unsigned long sysenter_counts[NR_CPUS << (COUNT_SHIFT - 2)];

static unsigned char kernel_switch_bytes[JMP_SIZE];
static const unsigned long switch_to_address = ADDRESS___switch_to;

static void write_switch_to(const unsigned char *bytes)
{
	memcpy((void *)switch_to_address, bytes, JMP_SIZE);
	__asm__ __volatile__("jmp 1f\n1:" : : : "memory");
}

static void patch(void)
{
	unsigned char jump[JMP_SIZE];

	memcpy(kernel_switch_bytes, (void *)switch_to_address, JMP_SIZE);
	jump[0] = JMP_REL32;
	*(long *)(jump + 1) = (unsigned long)sysenter_switch_to
		- (switch_to_address + JMP_SIZE);
	write_switch_to(jump);
}

static void unpatch(void)
{
	write_switch_to(kernel_switch_bytes);
}

/* Was a held processor interrupted within the bytes to be written? */
static int busy(void)
{
	int cpu;

	for (cpu = 0; cpu < NR_CPUS; cpu++)
		if (sysenter_held[cpu].task && cpu != THIS_CPU
		    && sysenter_stack_has(sysenter_held[cpu].task,
					  sysenter_held[cpu].esp,
					  switch_to_address + 1,
					  switch_to_address + JMP_SIZE))
			return 1;
	return 0;
}

/* The exported schedule() jumps to __switch_to. So the address from System.map can be
   compared with the code that runs. */
static int check(void)
{
	const unsigned char *p = (const unsigned char *)schedule;
	int i;

	if (sysenter_this_tss() != (unsigned long)&current->tss)
		REFUSE("task_struct is not as built for: build with the headers "
		       "of this kernel\n");
	for (i = 0; i < 8192; i++)
		if (p[i] == JMP_REL32 && (unsigned long)(p + i + JMP_SIZE)
		    + *(const long *)(p + i + 1) == switch_to_address)
			return 0;
	REFUSE("schedule() does not jump to System.map's __switch_to: "
	       "way=gentle needs no patch\n");
}

static void turn_on(void)
{
	sysenter_write_msrs((unsigned long)current + SYSENTER_THREAD_SIZE
			    - CRUEL_ROOM);
}

static unsigned long calls(int cpu)
{
	return sysenter_counts[cpu << (COUNT_SHIFT - 2)];
}

static int report(char *page)
{
	int len = sprintf(page, "switch_to"), i;

	for (i = 0; i < JMP_SIZE; i++)
		len += sprintf(page + len, " %02x", kernel_switch_bytes[i]);
	len += sprintf(page + len, " ->");
	for (i = 0; i < JMP_SIZE; i++)
		len += sprintf(page + len, " %02x",
			       ((unsigned char *)switch_to_address)[i]);
	return len + sprintf(page + len, "\n");
}

const struct way sysenter_way_cruel = {
	name: "cruel",
	entry: sysenter_entry_cruel,
	trapped: sysenter_trapped_cruel,
	takes_debug: 1,
	check: check,
	turn_on: turn_on,
	turn_off: sysenter_clear_msrs,
	busy: busy,
	patch: patch,
	unpatch: unpatch,
	code: (char *)sysenter_switch_to,
	code_end: (char *)sysenter_switch_to_end,
	calls: calls,
	report: report,
};

#endif
