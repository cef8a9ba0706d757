/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The stub by which a program makes a fast call on i386. Registers as for int $0x80. The stack
 * is exactly the vDSO's (from the top down ecx, edx, ebp; ebp = esp). So the kernel can finish
 * a call that the module passes on, can restart it (the vDSO has an int $0x80 before its
 * landing pad), and can unwind through it. The call returns to our caller through that landing
 * pad.
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
	 * Out of range: int $0x80, so that the kernel and a tracer see the number as it is.
	 * By SYSENTER, such a number could look like a marked one.
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
