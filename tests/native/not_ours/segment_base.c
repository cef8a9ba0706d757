// SPDX-License-Identifier: GPL-2.0-or-later
/*
 *	segment_base BASE
 *
 * Loads a data segment with that base into %ds and counts for seconds, so that timer
 * interrupts find it there. In 64-bit mode the base has no effect (SDM 1, 3.4.2.1).
 */
#include <asm/ldt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct user_desc segment = { .base_addr = argc > 1 ? strtoul(argv[1], NULL, 0) : 0, .limit = 0xff,
				     .seg_32bit = 1, .useable = 1 };

	if (syscall(SYS_modify_ldt, 1, &segment, sizeof(segment)))
		return 1;
	puts("loaded");
	fflush(stdout);
	asm volatile("movl %0, %%ds" : : "r"(7));	/* the LDT's first, RPL 3 */
	for (volatile long i = 0; i < 400000000; i++)
		;
	asm volatile("movl %0, %%ds" : : "r"(0));
	puts("ended");
	return 0;
}
