/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Definitions that taskgate.c, syscall.S and offsets.c share. */
#ifndef SYSENTER_LEGACY_TASKGATE_H
#define SYSENTER_LEGACY_TASKGATE_H

/* What the processor's task switch saves and loads (SDM vol. 3, "Task Management"). The
   kernel's struct tss_struct begins with the same fields. */
struct hw_tss {
	unsigned long back_link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip,
		eflags, eax, ecx, edx, ebx, esp, ebp, esi, edi, es, cs, ss, ds,
		fs, gs, ldt, io_bitmap;
};

#define GATE_TASK_BYTES	4096	/* size and alignment of a task; its stack is at the end */
#define GATE_TASKS	3

struct cpu_gates;

/* One processor's task for one gate. */
struct gate_task {
	struct hw_tss tss;		/* first, so that it crosses no page boundary */
	struct cpu_gates *cpu;
	unsigned long handler;		/* the kernel's own */
	unsigned char *type;		/* the type byte of its descriptor */
	int debug, trap_gate;
};

/* All that one processor has. */
struct cpu_gates {
	unsigned long idt[2 * 256];
	struct gate_task *tasks[GATE_TASKS];
	struct hw_tss *tss;		/* the kernel's TSS, and its descriptor */
	unsigned char *tss_type;
	unsigned long tr, ldt;		/* selectors that never change */
	unsigned long pending;		/* handler of an exception that came in a task, or 0 */
	unsigned long *spare;		/* a free descriptor of the GDT, and its selector */
	unsigned long spare_selector;
	unsigned long stub;		/* the address at which SYSCALL enters */
	int number, stepping;
	unsigned long steps;		/* single steps made since the load */
};

/* What sysenter_gate pops, in this order, from the stack that is resumed. The interrupted
   eip, cs and eflags follow. */
struct gate_resume {
	unsigned char *tss_type;
	unsigned long tr;
	unsigned char *own_type;
	unsigned long cr3, clear_ts, dr7;
	unsigned long gs, fs, es, ds;	/* loaded with the LDT segments_ldt */
	unsigned long segments_ldt, ldt, eflags;
	unsigned long edi, esi, ebp, unused, ebx, edx, ecx, eax;
	unsigned long pending;		/* 0 or a handler; then the next three are its frame */
	unsigned long handler, kernel_cs, kernel_eflags;
};

#endif
