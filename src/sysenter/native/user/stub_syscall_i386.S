/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * stub_i386.S for AMD's SYSCALL, which destroys ecx and leaves esp alone: the
 * 2nd argument goes in ebp, and esp tells where the stack is. The stack's
 * layout is the same, and so is the return, through the vDSO's landing pad.
 */
#include "abi.h"

	/* SYSENTER_STUB_CALL: any number */
	cmpl	$(SYSENTER_NR - 1), %eax
	ja	1f
	pushl	%ecx
	pushl	%edx
	pushl	%ebp
	movl	%ecx, %ebp
	syscall
	ud2
1:	int	$0x80				/* the kernel is to say so */
	ret

	.balign	SYSENTER_STUB_MARKED, 0xcc
	/* SYSENTER_STUB_MARKED: the entry leaves out the mark */
	pushl	%ecx
	pushl	%edx
	pushl	%ebp
	movl	%ecx, %ebp
	syscall
	ud2
