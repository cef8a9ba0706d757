// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Counts and times single system calls on each entry path.
 *
 *	calls		prints one JSON object a line: the call, the path, the minimum
 *			of many single calls between two readings of the time-stamp
 *			counter, minus what an empty pair of readings gives, and the
 *			nanoseconds of one call in a loop
 *
 * Under QEMU's -icount shift=0 the counter counts guest instructions, so `tsc` is exact.
 * Otherwise it counts cycles (KVM, hardware) or what the emulator takes for cycles. It is
 * the minimum of single calls, not their mean: Torvalds, linux-kernel, 2002-12.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "../user/paths.h"

#define ROUNDS	400
#define LOOP	2000

/*
 * Why there is a jump: within a run of instructions without a branch, Bochs does not advance the counter. Both
 * readings of a pair have the jump, so it cancels out.
 */
static inline uint64_t tsc(void)
{
	uint32_t low, high;

	asm volatile("jmp 1f\n1:\trdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
}

/* The call's number in the table of int $0x80. */
static inline __attribute__((always_inline)) long number32(long nr)
{
#ifdef __x86_64__
	return nr == SYS_getppid ? 64 : nr == SYS_read ? 3 : nr == SYS_write ? 4 : -1;
#else
	return nr;
#endif
}

#define number_for_int80(nr)	number32(nr)
#define number_for_stock(nr)	(nr)
#define number_for_fast(nr)	(nr)

static uint64_t empty_pair(void)
{
	uint64_t least = ~0ull;

	for (int i = 0; i < ROUNDS; i++) {
		uint64_t start = tsc(), taken = tsc() - start;

		if (taken < least)
			least = taken;
	}
	return least;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

#define MEASURE(name, path, nr, a, b, c, want) do {					\
	uint64_t least = ~0ull;								\
	double best = 1e18;								\
	long result = 0;								\
	for (int i = 0; i < ROUNDS; i++) {						\
		uint64_t start = tsc();							\
		result = by_##path(number_for_##path(nr), a, b, c);					\
		uint64_t taken = tsc() - start;						\
		if (taken < least)							\
			least = taken;							\
	}										\
	for (int i = 0; i < 5; i++) {							\
		double start = now();							\
		for (int j = 0; j < LOOP; j++)						\
			by_##path(number_for_##path(nr), a, b, c);						\
		double each = (now() - start) / LOOP;					\
		if (each < best)							\
			best = each;							\
	}										\
	printf("{\"call\": \"%s\", \"path\": \"%s\", \"tsc\": %llu, \"empty\": %llu, \"ns\": %.1f, \"right\": %s}\n", \
	       name, #path, (unsigned long long)least, (unsigned long long)empty, best,	\
	       result == (want) ? "true" : "false");					\
} while (0)

#define ALL(name, nr, a, b, c, want) do {			\
	MEASURE(name, int80, nr, a, b, c, want);		\
	if (stock_path)						\
		MEASURE(name, stock, nr, a, b, c, want);	\
	if (fast_path)						\
		MEASURE(name, fast, nr, a, b, c, want);		\
} while (0)

int main(void)
{
	uint64_t empty = empty_pair();
	int zero = open("/dev/zero", O_RDONLY), null = open("/dev/null", O_WRONLY);
	static char buffer[16];	/* not on the stack: int $0x80 takes 32 bits of its address */

	find_paths();
	setvbuf(stdout, NULL, _IOLBF, 0);
	ALL("getppid", SYS_getppid, 0, 0, 0, getppid());
	ALL("read", SYS_read, zero, (long)buffer, 1, 1);
	ALL("write", SYS_write, null, (long)buffer, 1, 1);
	return 0;
}
