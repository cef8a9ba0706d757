// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Measures the cycles of single calls by each entry path that this machine has:
 *
 *	here ROUNDS SINGLE LOOP STOCK
 *
 * STOCK is the name of an unmodified program's path: `stock', or `all' if the module serves
 * every program's calls. The paths run right after one another, each round in another order.
 * Prints a JSON object a line for each round, call and path. `least': the minimum of SINGLE
 * calls, each between two readings of the time-stamp counter, minus what an empty pair of
 * readings gives. `each': the mean of LOOP calls in a row. `least' is a minimum and not a
 * mean: Torvalds, linux-kernel, 2002-12.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "paths.h"

#ifdef __x86_64__
#define NUMBERS(name, nr32)	SYS_##name, nr32
#else
#define NUMBERS(name, nr32)	nr32, nr32
#endif

struct call {
	const char *name;
	long nr, nr32, a, b, c, result;
};

/* No instruction is moved across the reading of the counter (Intel SDM Vol. 2, RDTSC). */
static inline __attribute__((always_inline)) uint64_t tsc(void)
{
	uint32_t low, high;

	asm volatile("lfence\n\trdtsc\n\tlfence" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
}

static void check(const struct call *call, const char *path, long result)
{
	if (result == call->result)
		return;
	fprintf(stderr, "here: %s by %s gave %ld, not %ld\n", call->name, path, result, call->result);
	exit(3);
}

static uint64_t empty_pair(long count)
{
	uint64_t least = ~0ull;

	while (count--) {
		uint64_t start = tsc(), taken = tsc() - start;

		if (taken < least)
			least = taken;
	}
	return least;
}

#define PATH(path, number)								\
static uint64_t least_##path(const struct call *call, long count)			\
{											\
	const long nr = call->number, a = call->a, b = call->b, c = call->c;		\
	uint64_t least = ~0ull;								\
	long result = 0;								\
											\
	while (count--) {								\
		uint64_t start = tsc();							\
		result = by_##path(nr, a, b, c);					\
		uint64_t taken = tsc() - start;						\
		if (taken < least)							\
			least = taken;							\
		check(call, #path, result);						\
	}										\
	return least;									\
}											\
											\
static double each_##path(const struct call *call, long count)				\
{											\
	const long nr = call->number, a = call->a, b = call->b, c = call->c;		\
	uint64_t start = tsc();								\
	long result = 0;								\
											\
	for (long i = 0; i < count; i++)						\
		result = by_##path(nr, a, b, c);					\
	start = tsc() - start;								\
	check(call, #path, result);							\
	return (double)start / (double)count;						\
}

PATH(int80, nr32)
PATH(stock, nr)
PATH(fast, nr)

/* A kernel without 32-bit programs (ia32_emulation=0) kills the process that tries. */
static int has_int80(void)
{
	int status = -1;
	pid_t child = fork();

	if (!child)
		_exit(by_int80(64, 0, 0, 0) != getppid());
	return child > 0 && waitpid(child, &status, 0) == child && !status;
}

int main(int argc, char **argv)
{
	static char buffer[sizeof(struct stat) + 64];	/* not on the stack: int $0x80 takes 32 bits of its address */
	const int zero = open("/dev/zero", O_RDONLY), null = open("/dev/null", O_WRONLY);
	const struct call calls[] = {
		{ "getppid", NUMBERS(getppid, 64), 0, 0, 0, getppid() },
		{ "getuid", NUMBERS(getuid, 199), 0, 0, 0, getuid() },
		{ "umask", NUMBERS(umask, 60), 022, 0, 0, 022 },
		{ "read", NUMBERS(read, 3), zero, (long)buffer, 1, 1 },
		{ "write", NUMBERS(write, 4), null, (long)buffer, 1, 1 },
		{ "fstat", NUMBERS(fstat, 197), zero, (long)buffer, 0, 0 },
	};
	struct {
		const char *name;
		uint64_t (*least)(const struct call *, long);
		double (*each)(const struct call *, long);
	} paths[3];
	long rounds, single, loop;
	int have = 0, processor = sched_getcpu();
	cpu_set_t one;

	if (argc != 5 || (rounds = atol(argv[1])) < 1 || (single = atol(argv[2])) < 1 || (loop = atol(argv[3])) < 1) {
		fprintf(stderr, "usage: here ROUNDS SINGLE LOOP STOCK\n");
		return 2;
	}
	/* stay on one processor: the counters of two need not agree */
	CPU_ZERO(&one);
	CPU_SET(processor < 0 ? 0 : processor, &one);
	if (sched_setaffinity(0, sizeof(one), &one) || zero < 0 || null < 0) {
		perror("here");
		return 1;
	}
	find_paths();
	umask(022);
	if (has_int80())
		paths[have++] = (typeof(*paths)){ "int80", least_int80, each_int80 };
	if (stock_path)
		paths[have++] = (typeof(*paths)){ argv[4], least_stock, each_stock };
	if (fast_path)
		paths[have++] = (typeof(*paths)){ "fast", least_fast, each_fast };
	setvbuf(stdout, NULL, _IOLBF, 0);
	/* round -1 warms caches and predictors */
	for (long round = -1; round < rounds; round++)
		for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++)
			for (int n = 0; n < have; n++) {
				int path = (int)((round + 1 + n) % have);
				uint64_t empty = empty_pair(single);
				uint64_t least = paths[path].least(&calls[i], single);
				double each = paths[path].each(&calls[i], loop);

				printf("{\"call\": \"%s\", \"path\": \"%s\", \"round\": %ld, \"least\": %lld, \"each\": %.1f}\n",
				       calls[i].name, paths[path].name, round, (long long)(least - empty), each);
			}
	return 0;
}
