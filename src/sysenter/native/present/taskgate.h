/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SYSENTER_TASKGATE_H
#define SYSENTER_TASKGATE_H
/* Definitions that taskgate_i386.c and tasks_i386.S share. */
#include <asm/desc.h>
#include <asm/processor.h>

/* One CPU's task for one gate. It is at the start of its pages; its stack ends where they end. */
struct sysenter_task {
	struct x86_hw_tss tss;		/* first, so that it crosses no page boundary */
	struct x86_hw_tss start;	/* the state on entry, all but the back link */
	struct desc_struct *gdt;	/* this CPU's GDT */
	unsigned long entry_stack, *sp1;	/* its end; where sp1 is */
	unsigned int slot;		/* index of this TSS in the GDT */
	bool debug;			/* the task for #DB */
	bool swallow;		/* this exception is ours: do not pass it to the kernel */
};

/* What TASK_RESUME pops, in this order, from the stack of the code that is resumed. */
struct sysenter_resume {
	u8 *old_type;
	u32 tr;
	u8 *own_type;
	u32 dr7, gs_ldt, gs, ldt, cr3;
	u32 di, si, bp, unused, bx, dx, cx, ax;
	u32 fs, es, ds;
	u32 sp, ss;			/* for LSS: points to the frame below */
	u32 ip, cs, flags;
};

struct sysenter_resume *sysenter_task_body(struct sysenter_task *task);	/* called in tasks_i386.S */

#endif
