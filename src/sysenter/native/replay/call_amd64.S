/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * long run_call(const struct call *call, long times)
 *
 * rdi = call (replay.h): offsets entry 0, stack 8, registers 16 (rax, rdi, rsi, rdx, r10, r8,
 * r9). A path preserves rbx, rbp, r12 to r15. SYSCALL puts the return address into rcx and the
 * flags into r11, so this does the same. A fast call's stub sets rcx itself, and r11 is its
 * stack pointer.
 */
	.text
.macro RUN name:req fence=nop
	.globl	\name
	.type	\name, @function
	.balign	64
\name:
	pushq	%rbx
	pushq	%rbp
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	movq	%rdi, %rbp
	movq	%rsi, %rbx
	.balign	64
1:	movq	16(%rbp), %rax
	movq	24(%rbp), %rdi
	movq	32(%rbp), %rsi
	movq	40(%rbp), %rdx
	movq	48(%rbp), %r10
	movq	56(%rbp), %r8
	movq	64(%rbp), %r9
	leaq	3f(%rip), %rcx
	cmpq	$0, 8(%rbp)
	jne	2f
	movl	$0x246, %r11d		/* IF, ZF, PF: the flags of a call in a loop */
	\fence
	jmp	*(%rbp)
2:	movq	%rsp, %r11
	movq	8(%rbp), %rsp
	\fence
	jmp	*(%rbp)
3:	\fence
	decq	%rbx
	jnz	1b
	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%rbp
	popq	%rbx
	ret
	.size	\name, . - \name
.endm

	RUN	run_call
	RUN	run_call_serial fence=lfence

	.globl	run_empty
	.balign	64
run_empty:
	jmp	*%rcx
	int3

	.section .note.GNU-stack, "", @progbits
