/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What taskgate.c, syscall.S and offsets.c have in common. */
#ifndef SYSENTER_LEGACY_TASKGATE_H
#define SYSENTER_LEGACY_TASKGATE_H

/* What the processor's task switch saves and loads (SDM vol. 3, "Task
   Management"); the kernel's struct tss_struct begins with the same. */
struct hw_tss {
	unsigned long back_link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip,
		eflags, eax, ecx, edx, ebx, esp, ebp, esi, edi, es, cs, ss, ds,
		fs, gs, ldt, io_bitmap;
};

#define GATE_TASK_BYTES	4096	/* each at a multiple of it; its stack ends it */
#define GATE_TASKS	3

struct cpu_gates;

/* One processor's task behind one gate. */
struct gate_task {
	struct hw_tss tss;		/* first, so that it crosses no page */
	struct cpu_gates *cpu;
	unsigned long handler;		/* the kernel's own */
	unsigned char *type;		/* of its descriptor */
	int debug, trap_gate;
};

/* One processor's all. */
struct cpu_gates {
	unsigned long idt[2 * 256];
	struct gate_task *tasks[GATE_TASKS];
	struct hw_tss *tss;		/* the kernel's, and its descriptor */
	unsigned char *tss_type;
	unsigned long tr, ldt;		/* selectors that never change */
	unsigned long pending;		/* handler of what came in a task */
	unsigned long *spare;		/* a descriptor of the GDT, its selector */
	unsigned long spare_selector;
	unsigned long stub;		/* where SYSCALL enters */
	int number, stepping;
	unsigned long steps;		/* single ones, since the load */
};

/* In the order in which sysenter_gate takes it off the stack that goes on; the
   interrupted eip, cs and eflags follow. */
struct gate_resume {
	unsigned char *tss_type;
	unsigned long tr;
	unsigned char *own_type;
	unsigned long cr3, clear_ts, dr7;
	unsigned long gs, fs, es, ds;	/* under the first of these */
	unsigned long segments_ldt, ldt, eflags;
	unsigned long edi, esi, ebp, unused, ebx, edx, ecx, eax;
	unsigned long pending;		/* 0, or jumped to; the next three are then its frame */
	unsigned long handler, kernel_cs, kernel_eflags;
};

#endif
