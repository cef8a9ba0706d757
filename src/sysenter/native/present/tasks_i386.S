/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tasks behind the task gates for #DB, NMI and #MC while SYSCALL is on:
 * taskgate_i386.c says why and what they do.
 *
 * On entry, by the processor's task switch: all registers from the task's TSS
 * (eax = ebx = its struct sysenter_task, flat segments, fs = the kernel's
 * per-CPU one, the end of its own stack, init_mm's page tables, no LDT), those
 * of the interrupted task in the TSS that the back link tells; NT = 1, CR0.TS = 1.
 * On exit: all registers as an interrupt gate would have left them.
 */
#include <linux/linkage.h>
#include <asm/asm.h>
#include <uapi/asm/processor-flags.h>
#include "offsets.h"

	.section .rodata
	.balign	4
	.globl	sysenter_task_handlers		/* where the jumps' targets go */
sysenter_task_handlers:

	.section .noinstr.text, "ax"

/* A selector whose descriptor has gone becomes null, as on the kernel's exit. */
.macro POP_SEGMENT segment:req
.Lpop_\@:
	popl	%\segment
	.subsection 1
.Lgone_\@:
	movl	$0, (%esp)
	jmp	.Lpop_\@
	.previous
	_ASM_EXTABLE(.Lpop_\@, .Lgone_\@)
.endm

/*
 * eax = struct sysenter_resume on the stack that goes on. The task is left by
 * hand and not by IRET: an IRET would let NMIs in, and could fault on the
 * caller's segments in the middle of a task switch.
 *
 * HAZARD: an NMI or #MC in here, from the task for #DB, loads this task's TR
 * again and so makes its descriptor busy: our own is cleared after LTR. A busy
 * one is #GP at the next exception. HAZARD: a watchpoint in here would be a #DB
 * while this task is busy, so DR7 comes after that.
 */
.macro TASK_RESUME
	movl	%eax, %esp
	pushl	$X86_EFLAGS_FIXED
	popfl					/* NT: the next IRET is a plain one */
	popl	%eax
	andb	$~TSS_BUSY, (%eax)		/* LTR wants it available */
	popl	%eax
	ltr	%ax
	popl	%eax
	andb	$~TSS_BUSY, (%eax)
	popl	%eax
	movl	%eax, %db7
	call	sysenter_load_gs
	addl	$12, %esp
	popl	%eax
	movl	%eax, %cr3
	popal
	POP_SEGMENT fs
	POP_SEGMENT es
	POP_SEGMENT ds
	lss	%ss:(%esp), %esp
.endm

	.globl	sysenter_tasks
sysenter_tasks:

/*
 * gs, under the LDT that it is from, and then the one that is to be: at 4(%esp),
 * 8(%esp), 12(%esp). HAZARD: an NMI or #MC in here leaves the latter behind, so its
 * task goes on at the beginning.
 */
SYM_CODE_START(sysenter_load_gs)
	lldt	4(%esp)
.Lload_gs:
	mov	8(%esp), %gs
	lldt	12(%esp)
	ret
	.globl	sysenter_load_gs_end
sysenter_load_gs_end:
.Lgs_gone:
	movl	$0, 8(%esp)
	jmp	sysenter_load_gs
	_ASM_EXTABLE(.Lload_gs, .Lgs_gone)
SYM_CODE_END(sysenter_load_gs)

/* The jump goes to the kernel's own handler: taskgate_i386.c writes it. */
.macro TASK name:req
SYM_CODE_START(sysenter_task_\name)
	clts					/* the kernel never leaves it set */
	call	sysenter_task_body
	cmpb	$0, GATE_swallow(%ebx)
	jne	.Lswallow_\name
	TASK_RESUME
	.byte	0xe9
.Lhandler_\name:
	.long	0
	.pushsection .rodata
	.long	.Lhandler_\name
	.popsection
.Lswallow_\name:
	TASK_RESUME
	iret
SYM_CODE_END(sysenter_task_\name)
.endm

TASK debug
TASK nmi
#ifdef CONFIG_X86_MCE
TASK machine_check
#endif
	.subsection 1
	.globl	sysenter_tasks_end
sysenter_tasks_end:
