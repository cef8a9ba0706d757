/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How a program makes a fast call on i386. Registers as for int $0x80; the
 * stack is the vDSO's exactly (ecx, edx, ebp from the top down, ebp = esp), so
 * the kernel can finish a call that the module hands on, restart it (the vDSO
 * has an int $0x80 before its landing pad) and unwind through it. The call
 * returns through that landing pad to our caller.
 */
#include "abi.h"

	/* SYSENTER_STUB_CALL: any number */
	cmpl	$(SYSENTER_NR - 1), %eax
	ja	1f
	orl	$SYSENTER_MARK_I386, %eax
	pushl	%ecx
	pushl	%edx
	pushl	%ebp
	movl	%esp, %ebp
	sysenter
	ud2
	/*
	 * Out of range: the kernel is to say so, and to a tracer as it is. By
	 * SYSENTER a number that looks like a marked one would be taken for it.
	 */
1:	int	$0x80
	ret

	.balign	SYSENTER_STUB_MARKED, 0xcc
	/* SYSENTER_STUB_MARKED: the number has the mark already */
	pushl	%ecx
	pushl	%edx
	pushl	%ebp
	movl	%esp, %ebp
	sysenter
	ud2
