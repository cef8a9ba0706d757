/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The page behind /dev/sysenter: native/user/stub_*.S as data. */
	.section .rodata
	.globl sysenter_stub, sysenter_stub_end
	.balign 16
sysenter_stub:
#ifdef CONFIG_X86_64
#include "stub_amd64.S"
#else
#include "stub_i386.S"
#endif
sysenter_stub_end:
