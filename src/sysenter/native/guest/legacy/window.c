/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Is anything written to the address in ESP while a call enters and leaves? Nothing must be.
 * With AMD's SYSCALL, ESP is the caller's until the entry has changed it, and again before it
 * returns. ESP points into one page, whose every word is known.
 *
 *	window step	calls with TF set, so that a #DB comes before the entry's first
 *			instruction. ESP is in that page, in the kernel's mapping of it, in
 *			no page, 0, -1
 *	window calls N	N calls with ESP there, while a test sends NMIs
 */
#include "sys.h"

#define WORDS 1024
#define KERNEL 0xc0000000		/* where the kernel maps low memory */

static u32 page[WORDS] __attribute__((aligned(4096)));
static int traps;

static void on_trap(int sig)
{
	traps++;
}

static void fill(void)
{
	u32 i;

	for (i = 0; i < WORDS; i++)
		page[i] = 0x5a000000 + i;
}

static u32 changed(void)
{
	u32 i, n = 0;

	for (i = 0; i < WORDS; i++)
		n += page[i] != 0x5a000000 + i;
	return n;
}

/* getppid with this ESP and these flags. ebp has the stack to use after it. */
static long enter(u32 esp, u32 flags)
{
	long r;

	__asm__ volatile("pushl %%ebp\n\t" ENTER_WITH(
			 "pushl %3\n\tpopfl\n\tmovl %2,%%esp\n\t")
			 "popl %%ebp\n\tpushl $0x202\n\tpopfl"
			 : "=a" (r) : "0" (NR_getppid), "D" (esp), "S" (flags),
			 "b" (0) : "ecx", "edx", "memory", "cc");
	return r;
}

/* The address of our page in the kernel's mapping, found by its contents; 0 if not found. */
static u32 kernel_address(void)
{
	static u32 other[WORDS];
	u32 at, i;
	long fd = int80(NR_open, (long)"/dev/kmem", 0, 0);

	int80(NR_lseek, fd, (long)KERNEL, 0);
	for (at = KERNEL; int80(NR_read, fd, (long)other, 4096) == 4096;
	     at += 4096) {
		for (i = 0; i < WORDS && other[i] == page[i]; i++)
			;
		if (i == WORDS) {
			int80(NR_close, fd, 0, 0);
			return at;
		}
	}
	int80(NR_close, fd, 0, 0);
	return 0;
}

static int step(void)
{
	static char area[8192];
	static const char *const names[] = { "user", "kernel", "none", "0", "-1" };
	u32 stack[3] = { (u32)area, 0, sizeof(area) };
	u32 esps[5] = { (u32)(page + WORDS / 2), 0, 0x1000, 0, 0xffffffff }, i;
	long parent = int80(NR_getppid, 0, 0, 0);
	int wrong = 0;

	int80(NR_sigaltstack, (long)stack, 0, 0);
	on_signal(SIGTRAP, on_trap, SA_ONSTACK);
	fill();
	esps[1] = kernel_address();
	if (!esps[1])
		return -ENOENT;
	esps[1] += 4 * WORDS / 2;
	for (i = 0; i < 5; i++) {
		long r;

		traps = 0;
		r = enter(esps[i], 0x302);
		wrong += r != parent || changed() || !traps;
		say("{\"event\": \"window\", \"esp\": \"%s\", \"changed\": %d, "
		    "\"traps\": %d, \"right\": %d}", names[i], (long)changed(),
		    (long)traps, (long)(r == parent));
	}
	return -wrong;
}

static int calls(u32 n)
{
	long parent = int80(NR_getppid, 0, 0, 0);
	u32 i, wrong = 0;
	long r;

	fill();
	for (i = 0; i < n; i++) {
		/* The stack with which the call returns is in the page as well. */
		__asm__ volatile("movl %%esp,%%esi\n\tmovl %2,%%esp\n\t"
				 "pushl %%ebp\n\t" ENTER_WITH("") "popl %%ebp\n\t"
				 "movl %%esi,%%esp"
				 : "=a" (r) : "0" (NR_getppid),
				 "D" (page + WORDS / 2), "b" (0)
				 : "esi", "ecx", "edx", "memory", "cc");
		wrong += r != parent;
		page[WORDS / 2 - 1] = 0x5a000000 + WORDS / 2 - 1;
		page[WORDS / 2 - 2] = 0x5a000000 + WORDS / 2 - 2;
#ifndef BY_SYSCALL
		page[WORDS / 2 - 3] = 0x5a000000 + WORDS / 2 - 3;
#endif
		if (changed())
			break;
	}
	say("{\"event\": \"window\", \"calls\": %d, \"changed\": %d, "
	    "\"wrong\": %d}", (long)i, (long)changed(), (long)wrong);
	return i == n && !wrong ? 0 : -EINVAL;
}

int window(int argc, char **argv)
{
	if (argc == 2 && streq(argv[1], "step"))
		return step();
	if (argc == 3 && streq(argv[1], "calls"))
		return calls(number(argv[2]));
	return -EINVAL;
}
