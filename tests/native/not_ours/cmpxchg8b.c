// SPDX-License-Identifier: GPL-2.0-or-later
/*
 *	cmpxchg8b NUMBER
 *
 * Adds NUMBER to another number, executes CMPXCHG8B, which changes ZF only (SDM 2A), and prints the
 * flags. The POPF begins a new translation block in QEMU.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	uint32_t number = argc > 1 ? strtoul(argv[1], NULL, 0) : 0;
	uint64_t word = 0x1111111122222222;
	uint32_t other = 0;
	unsigned long flags;

	asm volatile("pushf\n\tpopf\n\t"
		     "addl %[number], %%ebx\n\t"
		     "xorl %[other], %%ecx\n\t"
		     "movl $0x22222222, %%eax\n\tmovl $0x11111111, %%edx\n\t"
		     "cmpxchg8b %[word]\n\t"
		     "pushf\n\tpop %[flags]"
		     : [flags] "=r"(flags), [word] "+m"(word)
		     : [number] "r"(number), [other] "m"(other) : "eax", "ebx", "ecx", "edx", "cc");
	printf("{\"flags\": %lu}\n", flags);
	return 0;
}
