/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * long run_call(const struct call *call, long times)
 *
 * call (replay.h): offsets entry 0, stack 4, registers 8 (eax, ebx, ecx, edx, esi, edi, ebp).
 * Does what the vDSO's __kernel_vsyscall does, on a stack below the kernel's addresses. A jump
 * replaces SYSENTER. SYSEXIT has become a jump to edx, the vDSO's landing pad; run_landing is a
 * copy of that, at the same address (see bundle.c). A path preserves esi and edi.
 */
	.text
.macro RUN name:req fence=nop
	.globl	\name
	.type	\name, @function
	.balign	64
\name:
	pushl	%ebp
	pushl	%ebx
	pushl	%esi
	pushl	%edi
	movl	20(%esp), %eax
	movl	%eax, run_which
	movl	24(%esp), %eax
	movl	%eax, run_times
	movl	%esp, run_esp
	movl	run_stack, %esp
	movl	$2f, run_back
	.balign	64
1:	movl	run_which, %ebp
	movl	8(%ebp), %eax
	movl	12(%ebp), %ebx
	movl	16(%ebp), %ecx
	movl	20(%ebp), %edx
	movl	24(%ebp), %esi
	movl	28(%ebp), %edi
	pushl	(%ebp)			/* the entry, for the jump */
	pushl	%ecx			/* as the vDSO does */
	pushl	%edx
	pushl	4(%ebp)
	popl	run_sysenter_esp
	pushl	%ebp
	movl	%esp, %ebp
	movl	run_sysenter_esp, %esp
	\fence
	jmp	*12(%ebp)
2:	\fence
	popl	%ebp
	popl	%edx
	popl	%ecx
	leal	4(%esp), %esp
	decl	run_times
	jnz	1b
	movl	run_esp, %esp
	popl	%edi
	popl	%esi
	popl	%ebx
	popl	%ebp
	ret
	.size	\name, . - \name
.endm

	RUN	run_call
	RUN	run_call_serial fence=lfence

	.globl	run_landing, run_landing_end
run_landing:
	movl	%ecx, %esp		/* the rest of SYSEXIT */
	jmp	*run_back
run_landing_end:

	.globl	run_empty
	.balign	64
run_empty:
	movl	%ebp, %ecx
	movl	run_landing_at, %edx
	jmp	*%edx
	int3

	.data
	.balign	4
run_which:	.long 0
run_times:	.long 0
run_esp:	.long 0
run_back:	.long 0
run_sysenter_esp: .long 0
	.globl	run_stack, run_landing_at
run_stack:	.long 0
run_landing_at:	.long 0

	.section .note.GNU-stack, "", @progbits
