/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The stub's instructions (stub_amd64.S), to be inlined as programs inline their SYSCALLs. */
#ifndef SYSENTER_FAST_CALL_AMD64_H
#define SYSENTER_FAST_CALL_AMD64_H
#include "abi.h"

/* rax: a marked number, then the result; rcx, rdx, rsi, rdi, r8 to r11 are lost. */
#define FAST_CALL_AMD64			\
	"movq %%rsp, %%r11\n\t"		\
	"leaq 1f(%%rip), %%rcx\n\t"	\
	"sysenter\n\t"			\
	"syscall\n"			\
	"1:"

/* A call with up to three arguments. r10, r8 and r9 keep whatever they hold. */
static inline __attribute__((always_inline)) long fast_call3(long nr, long a, long b, long c)
{
	long result;

	asm volatile(FAST_CALL_AMD64
		     : "=a"(result), "+D"(a), "+S"(b), "+d"(c)
		     : "0"(nr + SYSENTER_MARK_AMD64)
		     : "memory", "cc", "rcx", "r8", "r9", "r10", "r11");
	return result;
}

#endif
