// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Holds gs from the LDT and a 16-bit stack for N seconds: during calls, switches of tasks, and
 * whatever interrupts them. The entry of the LDT differs from process to process, so that another
 * process's LDT is noticed.
 *
 * Prints a JSON object: rounds; wrong: how often gs or the stack was not as before.
 */
#define _GNU_SOURCE
#include <asm/ldt.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define STACK_ENTRY	8
#define STACK_POINTER	0x1238000	/* a 16-bit stack does not use the upper half, but it must be kept */

static uint32_t cell;
static char stack[65536] __attribute__((aligned(4096)));

/* In memory, for the assembly below: the selectors to load, and what it finds afterwards. */
uint32_t gs_selector, ss_selector, found_cell, found_gs, found_esp;
void try_gs(void), try_ss(void);
asm("try_gs:\n"
    "	pushl	%gs\n"
    "	movl	gs_selector, %eax\n"
    "	movl	%eax, %gs\n"
    "	movl	$158, %eax\n"			/* SYS_sched_yield */
    "	int	$0x80\n"
    "	movl	%gs:0, %eax\n"
    "	movl	%eax, found_cell\n"
    "	xorl	%eax, %eax\n"
    "	movw	%gs, %ax\n"
    "	movl	%eax, found_gs\n"
    "	popl	%gs\n"
    "	ret\n"
    "try_ss:\n"
    "	pushl	%esi\n"
    "	pushl	%edi\n"
    "	movl	%ss, %edi\n"
    "	movl	%esp, %esi\n"
    "	movl	ss_selector, %eax\n"
    "	movl	%eax, %ss\n"
    "	movl	$0x1238000, %esp\n"		/* STACK_POINTER */
    "	movl	$20, %eax\n"			/* SYS_getpid */
    "	int	$0x80\n"
    "	movl	$300, %ecx\n"
    "1:	loop	1b\n"
    "	movl	%esp, %eax\n"
    "	movl	%edi, %ss\n"
    "	movl	%esi, %esp\n"
    "	movl	%eax, found_esp\n"
    "	popl	%edi\n"
    "	popl	%esi\n"
    "	ret\n");

static int set_ldt(unsigned int entry, void *base, int bits_32)
{
	struct user_desc d = { .entry_number = entry, .base_addr = (uintptr_t)base, .limit = 0xfffff,
			       .seg_32bit = bits_32, .limit_in_pages = 1, .useable = 1 };

	return syscall(SYS_modify_ldt, 1, &d, sizeof(d));
}

int main(int argc, char **argv)
{
	time_t end = time(NULL) + (argc > 1 ? atoi(argv[1]) : 1);
	unsigned int entry = getpid() % STACK_ENTRY;
	unsigned long rounds = 0, wrong = 0;

	cell = 0x5a000000 + getpid();
	if (set_ldt(entry, &cell, 1) || set_ldt(STACK_ENTRY, stack, 0))
		return 2;
	gs_selector = entry * 8 | 7;
	ss_selector = STACK_ENTRY * 8 | 7;
	for (; time(NULL) < end; rounds++) {
		try_gs();
		try_ss();
		wrong += found_cell != cell || found_gs != gs_selector || found_esp != STACK_POINTER;
	}
	printf("{\"rounds\": %lu, \"wrong\": %lu}\n", rounds, wrong);
	return 0;
}
