/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tasks behind the task gates for #DB, NMI and #MC while SYSCALL is on.
 * taskgate_i386.c says why they exist and what they do.
 *
 * On entry, by the processor's task switch: all registers come from the task's TSS.
 * eax = ebx = its struct sysenter_task, flat segments, fs = the kernel's per-CPU
 * segment, esp = the end of the task's own stack, init_mm's page tables, no LDT.
 * The registers of the interrupted task are in the TSS that the back link names.
 * NT = 1, CR0.TS = 1.
 * On exit: all registers as an interrupt gate would have left them.
 */
#include <linux/linkage.h>
#include <asm/asm.h>
#include <uapi/asm/processor-flags.h>
#include "offsets.h"

	.section .rodata
	.balign	4
	.globl	sysenter_task_handlers		/* addresses of the displacements to be written */
sysenter_task_handlers:

	.section .noinstr.text, "ax"

/* If the selector's descriptor no longer exists, load null instead, as the kernel's exit does. */
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
 * Leave the task. eax = struct sysenter_resume, on the stack of the code that is resumed.
 * The code leaves step by step and not by IRET: an IRET would unblock NMIs, and could
 * fault on the caller's segments in the middle of a task switch.
 *
 * HAZARD: an NMI or #MC in here, in the task for #DB, reloads TR with this task's
 * selector and so marks this task's descriptor busy. A busy descriptor makes the next
 * exception a #GP. So the busy bit is cleared after LTR.
 * HAZARD: a watchpoint in here would raise #DB while this task is busy. So DR7 is
 * restored after the busy bit.
 */
.macro TASK_RESUME
	movl	%eax, %esp
	pushl	$X86_EFLAGS_FIXED
	popfl					/* NT = 0: the next IRET is no task switch */
	popl	%eax
	andb	$~TSS_BUSY, (%eax)		/* LTR needs an available TSS */
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
 * Load gs with the LDT that its selector belongs to, then load the LDT that the resumed
 * code needs. Arguments: 4(%esp) the LDT for gs, 8(%esp) gs, 12(%esp) the final LDT.
 * HAZARD: an NMI or #MC in here returns with the final LDT loaded. So its task
 * resumes this function at the beginning (move_on(), taskgate_i386.c).
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

/* The last jump goes to the kernel's own handler: taskgate_i386.c writes its target. */
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
