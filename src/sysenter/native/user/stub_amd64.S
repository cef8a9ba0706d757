/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The stub by which a program makes a fast call on amd64. It is called as a function, with
 * registers as for SYSCALL: number in rax, result in rax. rcx, rdx, rsi, rdi, r8 to r11 are
 * lost. The two bytes before the return address are a SYSCALL instruction: the kernel restarts
 * an interrupted call by going back two bytes, so its second run is a stock call.
 */
#include "abi.h"

	/* SYSENTER_STUB_CALL: any number */
	cmpq	$SYSENTER_NR, %rax
	jae	1f			/* no mark for a number that is out of range */
	subq	$SYSENTER_NR, %rax
	movq	%rsp, %r11
	leaq	2f(%rip), %rcx
	sysenter
1:	syscall
2:	ret

	.balign	SYSENTER_STUB_MARKED, 0xcc
	/* SYSENTER_STUB_MARKED: the number has the mark already */
	movq	%rsp, %r11
	leaq	3f(%rip), %rcx
	sysenter
	syscall
3:	ret
