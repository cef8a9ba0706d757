/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SYSENTER_TASKGATE_H
#define SYSENTER_TASKGATE_H
/* What taskgate_i386.c and the assembly in tasks_i386.S have in common. */
#include <asm/desc.h>
#include <asm/processor.h>

/* One CPU's task behind one gate, at the start of its pages; its stack ends with them. */
struct sysenter_task {
	struct x86_hw_tss tss;		/* first, so that it crosses no page */
	struct x86_hw_tss start;	/* as it is to be on entry, but for the back link */
	struct desc_struct *gdt;	/* this CPU's */
	unsigned long entry_stack, *sp1;	/* its end; where the task's stack is told */
	unsigned int slot;		/* this TSS in the GDT */
	bool debug;			/* the one for #DB */
	bool swallow;		/* the kernel is not to hear of this one */
};

/* In the order in which TASK_RESUME takes it off the stack that goes on. */
struct sysenter_resume {
	u8 *old_type;
	u32 tr;
	u8 *own_type;
	u32 dr7, gs_ldt, gs, ldt, cr3;
	u32 di, si, bp, unused, bx, dx, cx, ax;
	u32 fs, es, ds;
	u32 sp, ss;			/* lss: the frame, below */
	u32 ip, cs, flags;
};

#endif
