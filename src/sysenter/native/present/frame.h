/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SYSENTER_FRAME_H
#define SYSENTER_FRAME_H
/*
 * Stands in the unused upper half of pt_regs->ss while the frame at the top of
 * a task's stack is the one that the fast path left there.
 *
 * It is the topmost word of that stack, and whatever else uses the stack begins
 * there: an interrupt or exception from user mode with the copied ss, an NMI
 * with a return address, the kernel's own entry with __USER_DS. So the magic
 * proves two things: nothing but fast calls has used the stack since (then the
 * fields that never change need no writing again), and a task that is off the
 * CPU with it is inside a fast call (then the module must not go).
 */
#define FRAME_MAGIC	0x5359

/*
 * amd64: what sysenter_expected[] holds for numbers that the fast path does not take
 * as they are. Bit 62 without bit 63 is in no address and no selector.
 */
#define NUMBER_SLOW	(1 << 30)	/* in the upper half */
#define NUMBER_WIDE	1		/* and in the lower: more than three arguments */

/* i386: what sysenter_kinds[] holds of a number. */
#define CALL_PLAIN	0
#define CALL_SIX	1	/* arguments: the last is on the caller's stack */
#define CALL_SLOW	2	/* the kernel's own way */

/* i386: kernels that can isolate their page tables, pti_i386.S */
#if defined(CONFIG_X86_32) && \
	(defined(CONFIG_PAGE_TABLE_ISOLATION) || defined(CONFIG_MITIGATION_PAGE_TABLE_ISOLATION))
#define SYSENTER_TRAMPOLINE
#endif

/* AMD's SYSCALL: one per-CPU stub and the two patch sites in it, syscall_i386.S */
#define SYSENTER_STUB_SIZE	64
#define SYSENTER_STUB_STACK	9	/* offset in it at which ESP is no longer the caller's */
#endif
