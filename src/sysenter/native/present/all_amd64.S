/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * scope=all: the stand-in for do_syscall_64(). Included by entry_amd64.S.
 *
 * The module changes one CALL in the kernel's entry_SYSCALL_64 (scope_amd64.c). It calls
 * sysenter_all instead of do_syscall_64(), and sysenter_all returns as do_syscall_64()
 * does. So everything that the kernel does in assembly on entry and exit stays the
 * kernel's: page tables, IBRS, VERW, untrained returns, barriers, stack erasing, on
 * Intel's and on AMD's processors. Only the C code of do_syscall_64() is replaced, and
 * only for calls that nobody watches.
 *
 * On entry:
 *	rdi	struct pt_regs, complete, at the top of the task's stack
 *	rsi	system-call number, sign-extended from 32 bits
 *	rsp	pt_regs - 8: return address, in entry_SYSCALL_64
 *	others	as do_syscall_64() finds them: rax the caller's and all others zero,
 *		unless a mitigation of the kernel's entry has used them since
 *	IF	0; GS, CR3 and the other flags are the kernel's
 * On return:
 *	al	since 6.7: 1 if SYSRET may be used, 0 if IRET must be. Before 6.7 the
 *		kernel's exit decides that by itself, and al does not matter
 *	pt_regs->ax	the result
 *	rbx, rbp	not preserved: the kernel's exit loads all registers from pt_regs
 *	IF	0
 *
 * sysenter_all serves the plain calls of the fast table (calls.c). A plain call has no
 * syscall work: no ptrace, seccomp, audit, tracepoint or user dispatch. Since 6.7 its
 * address and flags must also be ones that SYSRET can restore. Any other call goes on to
 * do_syscall_64() by a JMP, and leaves nothing of ours on the stack.
 *
 * Only exit work can change pt_regs of a call that is served here, because the fast table
 * leaves out the calls whose body can do so: execve and rt_sigreturn, which replace the
 * caller's registers, fork and clone, inside which a tracer may stop the task, and calls
 * that end the task or change what watches it.
 *
 * HAZARD: the return predictor. If sysenter_all left by anything but a RET, the
 * processor's stack of return addresses would be one entry off, and each later return of
 * the caller would be mispredicted.
 *
 * HAZARD: unload. While a body runs, pt_regs->ss holds FRAME_SS, as in marked calls
 * (frame.h). The kernel's value is back before a signal frame, a tracer or a core dump
 * reads that field. During exit work a task may be stopped for years. Then exactly one
 * return address leads into this text: the word just below pt_regs, where
 * entry_SYSCALL_64's return address was. Unload replaces that word by the address of the
 * kernel's IRET path (scope_amd64.c).
 *
 * Stack traces: rbp = pt_regs while rsp is at its random offset. The word below pt_regs
 * is a return address into entry_SYSCALL_64, as it is under do_syscall_64().
 */

/* For the ORC unwinder: the caller's stack pointer is rbp. */
#define UNWIND_HINT_RBP	UNWIND_HINT sp_reg=ORC_REG_BP sp_offset=0 type=UNWIND_HINT_TYPE_CALL

	.balign	4096				/* not in the user's page table */
SYM_CODE_START(sysenter_all)
	UNWIND_HINT_FUNC
	ANNOTATE_NOENDBR			/* called directly */
	cmpq	$NR_SYSCALLS, %rsi
	jae	.Lall_stock
	movq	PERCPU_PATCHED, %rbx
	PATCH_BEFORE current_task
	andl	$(SYSENTER_NR - 1), %esi	/* no speculation beyond the table (CVE-2017-5753) */
	/*
	 * One test decides whether the call goes to do_syscall_64(). It finds a number
	 * outside the table, and syscall work. Since 6.7 it also finds flags that SYSRET
	 * cannot restore, and a return address that is not canonical (CVE-2012-0217).
	 */
#if SYSRET_VERDICT
	movl	PT_EFLAGS(%rdi), %ecx
	andl	$(X86_EFLAGS_TF | X86_EFLAGS_RF), %ecx
	orb	sysenter_all_slow(%rsi), %cl
	movq	PT_RIP(%rdi), %rdx
	shrq	$47, %rdx
	orq	%rdx, %rcx
#else
	movzbl	sysenter_all_slow(%rsi), %ecx
#endif
	orq	TASK_syscall_work(%rbx), %rcx
	jnz	.Lall_stock
	movq	$FRAME_SS, PT_SS(%rdi)		/* inside */
	incq	PER_CPU_VAR(sysenter_count_all)
	DRAW_STACK_OFFSET			/* r10; rdx */
	movq	%rdi, %rbp
	UNWIND_HINT_RBP
	leaq	-8 * 256(%rdi, %r10, 8), %rsp
	sti					/* effective after the call */
	KERNEL_CALL dispatch			/* runs the body */
	UNWIND_HINT_RBP
	cli
	movq	%rax, PT_RAX(%rbp)
	/* exit work: all that do_syscall_64() tests before it returns */
	movl	TASK_ti_flags(%rbx), %edi
	andl	$EXIT_WORK, %edi
	orq	TASK_syscall_work(%rbx), %rdi
#ifdef TASK_unwind_mask
	orq	TASK_unwind_mask(%rbx), %rdi	/* 7.x: a deferred stack trace */
#endif
	jnz	.Lall_exit_work
	ALTERNATIVE_2 "", "jmp .Lall_rare", FEATURE_IBPB_EXIT_TO_USER, "jmp .Lall_rare", X86_BUG_DIV0
.Lall_rare_done:
	movq	$__USER_DS, PT_SS(%rbp)		/* no longer inside */
	leaq	-8(%rbp), %rsp
	UNWIND_HINT_FUNC
#if SYSRET_VERDICT
	movl	$1, %eax			/* SYSRET may be used */
#endif
	RET

.Lall_stock:
	UNWIND_HINT_FUNC
	KERNEL_JMP do_syscall_64

/* Exit mitigations that few processors need. */
.Lall_rare:
	UNWIND_HINT_RBP
	/* VMSCAPE: if a guest has run on this CPU, the kernel's exit issues a barrier */
	ALTERNATIVE "jmp .Lall_no_guest", "", FEATURE_IBPB_EXIT_TO_USER
	movzbl	PERCPU_PATCHED, %ecx
	PATCH_BEFORE x86_ibpb_exit_to_user
	testl	%ecx, %ecx
	jnz	.Lall_exit_work
.Lall_no_guest:
	/* Zen 1's divider keeps its last quotient: clear it as amd_clear_divider() does */
	ALTERNATIVE "jmp .Lall_rare_done", "", X86_BUG_DIV0
	xorl	%eax, %eax
	xorl	%edx, %edx
	movl	$1, %ecx
	divl	%ecx
	jmp	.Lall_rare_done

/*
 * Exit work is pending: a signal, a reschedule, or a tracepoint that was enabled during
 * the body. rbp = pt_regs, rbx = current, IRQs off. The CALLs here overwrite the return
 * address below pt_regs. The end of this path pushes it again.
 */
.Lall_exit_work:
	UNWIND_HINT_RBP
	movq	%rbp, %rsp
	UNWIND_HINT_REGS
#ifdef HAVE_TRACE_SYSCALL_EXIT
	/* as at .Lexit_work: this still counts as the body, so FRAME_SS stays in place */
	testb	$SYSCALL_TRACEPOINT, TASK_syscall_work(%rbx)
	jz	.Lall_no_sys_exit
	movq	%rsp, %rdi			/* regs */
	movq	PT_RAX(%rsp), %rsi		/* result */
	sti
	KERNEL_CALL trace_syscall_exit
	UNWIND_HINT_REGS
	cli
.Lall_no_sys_exit:
	movq	$__USER_DS, PT_SS(%rsp)		/* no longer inside */
	movq	%rsp, %rdi			/* regs */
	xorl	%esi, %esi			/* irqentry_state_t, unused from user mode */
	KERNEL_CALL irqentry_exit
#else
	movq	$__USER_DS, PT_SS(%rsp)		/* no longer inside */
	movq	%rsp, %rdi			/* regs */
	sti					/* effective after the call */
	KERNEL_CALL syscall_exit_to_user_mode
#endif
SYM_INNER_LABEL(sysenter_all_exit_done, SYM_L_GLOBAL)
	UNWIND_HINT_REGS
	ANNOTATE_NOENDBR
	/* IRQs are off from here to the kernel's exit, so unload finds no task here. */
#if SYSRET_VERDICT
	/*
	 * May SYSRET be used? A signal handler, a tracer or a restart may have changed the
	 * registers. do_syscall_64() makes the same tests, with TASK_SIZE_MAX for 2^47.
	 */
	xorl	%eax, %eax
	movq	PT_RCX(%rsp), %rcx		/* SYSRET: RIP = rcx */
	cmpq	%rcx, PT_RIP(%rsp)
	jne	.Lall_verdict
	shrq	$47, %rcx			/* CVE-2012-0217 */
	jnz	.Lall_verdict
	movq	PT_R11(%rsp), %rcx		/* flags = r11 */
	cmpq	%rcx, PT_EFLAGS(%rsp)
	jne	.Lall_verdict
	testl	$(X86_EFLAGS_TF | X86_EFLAGS_RF), %ecx
	jnz	.Lall_verdict
	cmpw	$__USER_CS, PT_CS(%rsp)
	jne	.Lall_verdict
	cmpw	$__USER_DS, PT_SS(%rsp)
	jne	.Lall_verdict
	incl	%eax
.Lall_verdict:
	UNWIND_HINT_REGS
#endif
	KERNEL_PUSH after_do_syscall_64		/* return address, as the CALL had pushed it */
	UNWIND_HINT_FUNC
	RET
SYM_CODE_END(sysenter_all)
