/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SYSENTER_FRAME_H
#define SYSENTER_FRAME_H
/*
 * FRAME_MAGIC stands in bits 16 to 31 of pt_regs->ss, which are otherwise unused. It says
 * that the frame at the top of a task's stack is the one that the last fast call left.
 *
 * pt_regs->ss is the topmost word of the stack, and every other user of the stack begins
 * by writing that word: an interrupt or exception from user mode copies ss there, an NMI
 * pushes a return address, the kernel's own entry pushes __USER_DS. So the magic proves
 * two things:
 *  - Only fast calls have used this stack since the magic was written. So the fields
 *    that are the same in each call need not be written again.
 *  - A task with the magic that is not running sleeps inside a fast call. So the
 *    module must not be unloaded.
 */
#define FRAME_MAGIC	0x5359

/*
 * amd64: values of sysenter_expected[] for numbers that need more than the fast path.
 * No address and no selector has bit 62 set and bit 63 clear.
 */
#define NUMBER_SLOW	(1 << 30)	/* upper half: bit 62 of the entry */
#define NUMBER_WIDE	1		/* lower half: the call has more than three arguments */

/* i386: values of sysenter_kinds[], one for each number. */
#define CALL_PLAIN	0
#define CALL_SIX	1	/* six arguments: the last is on the caller's stack */
#define CALL_SLOW	2	/* goes to the kernel's own entry */

/* i386: the kernel can isolate its page tables (pti_i386.S) */
#if defined(CONFIG_X86_32) && \
	(defined(CONFIG_PAGE_TABLE_ISOLATION) || defined(CONFIG_MITIGATION_PAGE_TABLE_ISOLATION))
#define SYSENTER_TRAMPOLINE
#endif

/* AMD's SYSCALL: the layout of one per-CPU stub, see syscall_i386.S */
#define SYSENTER_STUB_SIZE	64
#define SYSENTER_STUB_STACK	9	/* from this offset on, ESP is not the caller's any more */
#endif
