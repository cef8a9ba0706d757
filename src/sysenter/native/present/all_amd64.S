/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * scope=all: the stand-in for do_syscall_64(). Included by entry_amd64.S.
 *
 * The kernel's entry_SYSCALL_64 calls it where it would call do_syscall_64()
 * (scope_amd64.c), and it returns as that does: all that the kernel's entry and exit do
 * in assembly stays theirs, page tables, IBRS, VERW, untrained returns, barriers, stack
 * erasing, on Intel's and AMD's processors alike. What is left out is what
 * do_syscall_64() does in C for a call that nobody watches.
 *
 * On entry:
 *	rdi	struct pt_regs, complete, at the top of the task's stack
 *	rsi	system-call number, extended from 32 bits with its sign
 *	rsp	pt_regs - 8: return address, in entry_SYSCALL_64
 *	rax	the caller's, as do_syscall_64() finds it; all other registers zero
 *	IF	0; GS, CR3, flags the kernel's
 * On return: al = 1 if SYSRET may be used, 0 if it has to be IRET (since 6.7; until then
 * the kernel's exit looks by itself); pt_regs->ax the result; IF 0.
 *
 * It takes the plain calls of the fast table (calls.c): no syscall work (ptrace,
 * seccomp, audit, tracepoints, user dispatch), and, where the kernel's exit does not look
 * by itself, an address and flags that SYSRET can restore. Nothing changes pt_regs of
 * such a call but its exit work: what replaces the caller's registers (execve,
 * rt_sigreturn), what a tracer may stop inside the body (fork, clone), what ends or
 * decides about the task is not in the table. All others go on to do_syscall_64() by a
 * JMP, with nothing of ours on the stack.
 *
 * HAZARD: a CALL of this that did not return by RET would leave the processor's return
 * predictor one off, and each later return of the caller's mispredicted.
 *
 * HAZARD: unload. While a body runs, FRAME_SS stands in pt_regs->ss, as in marked calls
 * (frame.h); the word is the kernel's again before anything looks at it. During exit
 * work, where a task may be stopped for years, the return address into this text is in
 * the word just below pt_regs, in place of entry_SYSCALL_64's, and nowhere else: there
 * unload exchanges it for the kernel's IRET path (scope_amd64.c).
 *
 * Stack traces: rbp = pt_regs while rsp is at its random place, and the words below
 * pt_regs are a return address into entry_SYSCALL_64, as from do_syscall_64().
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
	 * One test for all that makes a call go to do_syscall_64(): a number outside the
	 * table, syscall work; flags that SYSRET cannot restore and an address that is not
	 * canonical (CVE-2012-0217), unless the kernel's exit looks for those.
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
	/* whatever do_syscall_64() looks at before it returns */
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

/* What few processors need. */
.Lall_rare:
	UNWIND_HINT_RBP
	/* VMSCAPE: a guest has run on this CPU, and the kernel's exit has a barrier */
	ALTERNATIVE "jmp .Lall_no_guest", "", FEATURE_IBPB_EXIT_TO_USER
	movzbl	PERCPU_PATCHED, %ecx
	PATCH_BEFORE x86_ibpb_exit_to_user
	testl	%ecx, %ecx
	jnz	.Lall_exit_work
.Lall_no_guest:
	/* Zen 1's divider keeps its last quotient: as amd_clear_divider() */
	ALTERNATIVE "jmp .Lall_rare_done", "", X86_BUG_DIV0
	xorl	%eax, %eax
	xorl	%edx, %edx
	movl	$1, %ecx
	divl	%ecx
	jmp	.Lall_rare_done

/*
 * Work is pending: signals, a reschedule, a tracepoint that was switched on
 * meanwhile. rbp = pt_regs, rbx = current, IRQs off. The CALLs write over the return
 * address below pt_regs, which is known.
 */
.Lall_exit_work:
	UNWIND_HINT_RBP
	movq	%rbp, %rsp
	UNWIND_HINT_REGS
#ifdef HAVE_TRACE_SYSCALL_EXIT
	/* as in .Lexit_work; made as a part of the body, with FRAME_SS in place */
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
	/*
	 * From here to the kernel's exit IRQs are off, so that unload sees no task here.
	 */
#if SYSRET_VERDICT
	/*
	 * A signal's handler, a tracer or a restart may have changed the registers: may
	 * SYSRET be used? do_syscall_64() asks the same.
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
	KERNEL_PUSH after_do_syscall_64
	UNWIND_HINT_FUNC
	RET
SYM_CODE_END(sysenter_all)
