/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Execute one SYSENTER, or one SYSCALL, at CPL 0. Before the call, trial.c points the
 * processor's entry registers to sysenter_trial_landing and switches interrupts off.
 *
 * C: bool sysenter_trial(void); on i386 also bool sysenter_trial_syscall(void)
 *
 * HAZARD: SYSENTER loads ESP with the end of the entry stack. An NMI or #MC before the
 * landing has restored the stack pointer runs on that stack, at CPL 0. The kernel's
 * handlers expect that: its own entry begins in the same state.
 */
#include <linux/linkage.h>
#include <asm/asm.h>

	.section .init.text, "ax"

#ifdef CONFIG_X86_64

#include <asm/ibt.h>
#include <asm/nospec-branch.h>
#include <asm/unwind_hints.h>

/* as in entry_amd64.S */
#ifdef HAVE_END_OF_STACK
#define UNWIND_HINT_UNKNOWN_CALLER	UNWIND_HINT_END_OF_STACK
#else
#define UNWIND_HINT_UNKNOWN_CALLER	UNWIND_HINT_EMPTY
#endif

SYM_CODE_START(sysenter_trial)
	UNWIND_HINT_FUNC
	ANNOTATE_NOENDBR			/* called directly */
	pushq	%rbx
	movq	%rsp, %rbx
	xorl	%eax, %eax
.Ltry:
	sysenter
SYM_INNER_LABEL(sysenter_trial_landing, SYM_L_GLOBAL)
	UNWIND_HINT_UNKNOWN_CALLER
	ENDBR
	incl	%eax
.Lback:
	UNWIND_HINT_UNKNOWN_CALLER
	movq	%rbx, %rsp
	popq	%rbx
	UNWIND_HINT_FUNC
	RET
	_ASM_EXTABLE(.Ltry, .Lback)		/* #UD, #GP */
SYM_CODE_END(sysenter_trial)

#else

SYM_CODE_START(sysenter_trial)
	pushl	%ebx
	movl	%esp, %ebx
	xorl	%eax, %eax
.Ltry:
	sysenter
SYM_INNER_LABEL(sysenter_trial_landing, SYM_L_GLOBAL)
	incl	%eax
.Lback:
	movl	%ebx, %esp
	popl	%ebx
	RET
	_ASM_EXTABLE(.Ltry, .Lback)		/* #UD, #GP */
SYM_CODE_END(sysenter_trial)

SYM_CODE_START(sysenter_trial_syscall)
	pushl	%ebx
	movl	%esp, %ebx
	xorl	%eax, %eax
.Ltry_syscall:
	syscall					/* ecx is lost, the stack is not */
	int3
	_ASM_EXTABLE(.Ltry_syscall, .Lback)
SYM_CODE_END(sysenter_trial_syscall)

#endif
