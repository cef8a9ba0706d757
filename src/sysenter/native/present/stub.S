/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The contents of the page behind /dev/sysenter: native/user/stub_*.S, as data. */
	.section .rodata
	.globl sysenter_stub, sysenter_stub_end
	.balign 64			/* the alignment inside the stubs counts from here */
sysenter_stub:
#ifdef CONFIG_X86_64
#include "stub_amd64.S"
#else
#include "stub_i386.S"
#endif
sysenter_stub_end:
#ifdef CONFIG_X86_32
	.globl sysenter_stub_syscall, sysenter_stub_syscall_end
	.balign 64			/* the alignment inside the stubs counts from here */
sysenter_stub_syscall:
#include "stub_syscall_i386.S"
sysenter_stub_syscall_end:
#endif
