/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Execute one SYSENTER, or one SYSCALL, at CPL 0. Before the call, trial.c points the
 * processor's entry registers to sysenter_trial_landing and switches interrupts off.
 *
 * C: bool sysenter_trial(void); on i386 also bool sysenter_trial_syscall(void)
 *
 * HAZARD: SYSENTER loads ESP with the end of the entry stack. An NMI or #MC before the
 * landing has restored the stack pointer finds that stack. On amd64 their handlers have
 * stacks of their own. On i386 they take the entry stack for a sign that the task has just
 * left user mode, and run at the top of the task's stack (SWITCH_TO_KERNEL_STACK,
 * asm_exc_nmi): over the frames of the load that is going on. So on i386 SYSENTER_ESP is
 * the present stack pointer while SYSENTER is tried.
 */
#include <linux/linkage.h>
#include <asm/asm.h>
#include <asm/msr-index.h>

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
	pushl	%esi
	movl	$MSR_IA32_SYSENTER_ESP, %ecx
	rdmsr					/* edx:eax */
	movl	%eax, %esi
	xorl	%edx, %edx
	movl	%esp, %eax
	wrmsr
	movl	%esp, %ebx
	xorl	%eax, %eax
.Ltry:
	sysenter
SYM_INNER_LABEL(sysenter_trial_landing, SYM_L_GLOBAL)
	incl	%eax
.Lback:
	movl	%ebx, %esp
	movl	%eax, %ebx
	movl	%esi, %eax
	xorl	%edx, %edx
	movl	$MSR_IA32_SYSENTER_ESP, %ecx
	wrmsr
	movl	%ebx, %eax
	popl	%esi
	popl	%ebx
	RET
	_ASM_EXTABLE(.Ltry, .Lback)		/* #UD, #GP */
SYM_CODE_END(sysenter_trial)

SYM_CODE_START(sysenter_trial_syscall)
	xorl	%eax, %eax
.Ltry_syscall:
	syscall					/* ecx is lost, the stack is not */
	int3
SYM_INNER_LABEL(sysenter_trial_syscall_landing, SYM_L_GLOBAL)
	incl	%eax
.Lback_syscall:
	RET
	_ASM_EXTABLE(.Ltry_syscall, .Lback_syscall)
SYM_CODE_END(sysenter_trial_syscall)

#endif
