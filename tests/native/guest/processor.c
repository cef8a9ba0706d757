// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * processor: does the machine behave like the checker's model?
 *
 * The model (sysenter/check/cpu/processor.py) was written from the manual. If it and a machine
 * disagree on flags, segment loads, IRET or a privilege, the checker's verdict holds for a
 * processor that does not exist. Runs each line of processor_cases.h, and prints [OK] or [FAIL].
 * Exit status 1 if any failed.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <ucontext.h>

struct values {
	uint32_t eax, ecx, edx, eflags;
};

static const struct processor_case {
	const char *name, *code;
	struct values before;
	int vector;
	struct { uint32_t eax, ecx, edx, mask, eflags; } after;
} cases[] = {
#define CASE(name, code, eax, ecx, edx, eflags, vector, eax2, ecx2, edx2, mask, eflags2) \
	{ name, code, { eax, ecx, edx, eflags }, vector, { eax2, ecx2, edx2, mask, eflags2 } },
#include "processor_cases.h"
};

static sigjmp_buf out;
static volatile int vector;
static int long_mode;

static void caught(int signal, siginfo_t *info, void *context)
{
	(void)signal;
	(void)info;
	vector = ((ucontext_t *)context)->uc_mcontext.gregs[REG_TRAPNO];
	siglongjmp(out, 1);
}

/* The code's bytes, then a return to the C code that called run(). */
static void assemble(unsigned char *page, const char *hex)
{
	unsigned int byte;

	while (*hex) {
		if (*hex == ' ') {
			hex++;
			continue;
		}
		sscanf(hex, "%2x", &byte);
		*page++ = byte;
		hex += 2;
	}
	memset(page, 0x90, 5);	/* two cases jump over a mov of five bytes */
	page[5] = 0xc3;
}

/*
 * esp and es are kept in memory, so they are restored whatever the code did. The flags get a
 * harmless state before C runs again.
 */
struct values after;			/* the assembly below names them */
uint32_t kept_esp, kept_es;

static void run(void *code, const struct values *v)
{
	after = *v;
	asm volatile(
		"pusha\n\t"
		"movl	%%es, %%eax\n\t"
		"movl	%%eax, kept_es\n\t"
		"movl	%%esp, kept_esp\n\t"
		"pushl	after+12\n\t"
		"movl	after, %%eax\n\t"
		"movl	after+4, %%ecx\n\t"
		"movl	after+8, %%edx\n\t"
		"popfl\n\t"
		"call	*%%esi\n\t"
		"pushfl\n\t"
		"popl	after+12\n\t"
		"movl	%%eax, after\n\t"
		"movl	%%ecx, after+4\n\t"
		"movl	%%edx, after+8\n\t"
		"movl	kept_esp, %%esp\n\t"
		"movl	kept_es, %%eax\n\t"
		"movl	%%eax, %%es\n\t"
		"pushl	$0x202\n\t"
		"popfl\n\t"
		"popa\n\t"
		: : "S"(code) : "memory", "cc");
}

static int try(unsigned char *page, const struct processor_case *c)
{
	assemble(page, c->code);
	vector = -1;
	if (!sigsetjmp(out, 1))
		run(page, &c->before);
	else
		asm volatile("movl kept_es, %%eax; movl %%eax, %%es" : : : "eax", "memory");
	if (vector == 13 && c->vector == 10 && long_mode)
		vector = 10;	/* no task switches there: #GP for #TS */
	if (vector != c->vector) {
		printf("[FAIL]\t%s: exception %d, expected %d\n", c->name, vector, c->vector);
		return 1;
	}
	if (vector >= 0)
		goto ok;
	if (after.eax != c->after.eax || after.ecx != c->after.ecx || after.edx != c->after.edx ||
	    (after.eflags & c->after.mask) != c->after.eflags) {
		printf("[FAIL]\t%s: eax %#x ecx %#x edx %#x eflags %#x, expected %#x %#x %#x and %#x of %#x\n",
		       c->name, after.eax, after.ecx, after.edx, after.eflags, c->after.eax, c->after.ecx,
		       c->after.edx, c->after.eflags, c->after.mask);
		return 1;
	}
ok:
	printf("[OK]\t%s\n", c->name);
	return 0;
}

int main(void)
{
	static unsigned char stack[16384];
	stack_t other = { .ss_sp = stack, .ss_size = sizeof(stack) };
	struct sigaction action = { .sa_sigaction = caught, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER };
	unsigned char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct utsname kernel;
	unsigned int i, failed = 0;

	uname(&kernel);
	long_mode = !strcmp(kernel.machine, "x86_64");
	if (page == MAP_FAILED || sigaltstack(&other, NULL)) {
		perror("processor");
		return 2;
	}
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGILL, &action, NULL);
	sigaction(SIGTRAP, &action, NULL);
	for (i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		failed += try(page, &cases[i]);
	printf("%u cases, %u failed\n", i, failed);
	return failed ? 1 : 0;
}
