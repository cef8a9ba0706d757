/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * As stub_i386.S, for AMD's SYSCALL, which destroys ecx and leaves esp alone. So the 2nd
 * argument goes in ebp, and the module finds the stack by esp. The stack's layout is the same,
 * and so is the return, through the vDSO's landing pad.
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
1:	int	$0x80				/* out of range: the kernel answers */
	ret

	.balign	SYSENTER_STUB_MARKED, 0xcc
	/* SYSENTER_STUB_MARKED: the entry ignores the mark */
	pushl	%ecx
	pushl	%edx
	pushl	%ebp
	movl	%ecx, %ebp
	syscall
	ud2
