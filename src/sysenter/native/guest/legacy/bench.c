/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What does a call cost? Measured in two ways. Under QEMU's -icount shift=0 the time-stamp
 * counter counts guest instructions, so the difference of two readings is the number of
 * instructions between them.
 */
#include "sys.h"

#define ROUNDS 400

typedef long (*call_t)(long n, long a, long b, long c);

/* Inline in each loop, because a call through a pointer would cost instructions of its own. */
#define MINIMUM(best, sum, expression) do {				\
	int i_;								\
	best = ~0ull;							\
	sum = 0;							\
	for (i_ = 0; i_ < ROUNDS; i_++) {				\
		u64 start_ = tsc(), used_;				\
		expression;						\
		used_ = tsc() - start_;					\
		sum += used_;						\
		if (used_ < best)					\
			best = used_;					\
	}								\
} while (0)

static void report(const char *call, const char *path, u64 best, u64 clock,
		   u64 ns, long result)
{
	say("{\"event\": \"call\", \"call\": \"%s\", \"path\": \"%s\", "
	    "\"ticks\": %u, \"clock\": %u, \"ps\": %u, \"result\": %d}", call,
	    path, best, clock, ns, result);
}

#define TIMED 20000
/* Measure again if the clock went back, as these kernels' clock may do on a busy host. */
#define TIME(t, expression) do {					\
	int j_, tries_ = 5;						\
	do {								\
		t = microseconds();					\
		for (j_ = 0; j_ < TIMED; j_++)				\
			expression;					\
		t = microseconds() - t;					\
	} while ((long long)t < 0 && --tries_);				\
} while (0)

#define BOTH(name, n, a, b, c) do {					\
	u64 best, sum, t;						\
	long r = 0;							\
	MINIMUM(best, sum, r = int80(n, a, b, c));			\
	TIME(t, int80(n, a, b, c));					\
	report(name, "int80", best, clock, t * (1000000 / TIMED), r);	\
	if (with_fast) {						\
		MINIMUM(best, sum, r = fast(n, a, b, c));		\
		TIME(t, fast(n, a, b, c));				\
		report(name, "fast", best, clock, t * (1000000 / TIMED), r); \
	}								\
} while (0)

/* count int80|both */
int count(int argc, char **argv)
{
	int with_fast = argc > 1 && streq(argv[1], "both");
	static char byte[4];
	static long now[2];
	u64 clock, ignored;
	long zero = int80(NR_open, (long)"/dev/zero", 0, 0);
	long null = int80(NR_open, (long)"/dev/null", 1, 0);

	MINIMUM(clock, ignored, );
	BOTH("getppid", NR_getppid, 0, 0, 0);
	BOTH("read", NR_read, zero, (long)byte, 1);
	BOTH("write", NR_write, null, (long)byte, 1);
	BOTH("gettimeofday", NR_gettimeofday, (long)now, 0, 0);
	BOTH("bad", 0x3fff, 0, 0, 0);
	int80(NR_close, zero, 0, 0);
	int80(NR_close, null, 0, 0);
	return 0;
}

/* dd int80|fast BLOCK COUNT: dd if=/dev/zero of=/dev/null bs=BLOCK count=COUNT */
int dd(int argc, char **argv)
{
	static char block[65536];
	long size, n, i, zero, null;
	int is_fast;
	u64 t;

	if (argc != 4)
		return -EINVAL;
	is_fast = streq(argv[1], "fast");
	size = number(argv[2]);
	n = number(argv[3]);
	if (size < 1 || size > (long)sizeof(block))
		return -EINVAL;
	zero = int80(NR_open, (long)"/dev/zero", 0, 0);
	null = int80(NR_open, (long)"/dev/null", 1, 0);
	t = microseconds();
	if (is_fast) {
		for (i = 0; i < n; i++)
			if (fast(NR_read, zero, (long)block, size) != size
			    || fast(NR_write, null, (long)block, size) != size)
				return -EFAULT;
	} else {
		for (i = 0; i < n; i++)
			if (int80(NR_read, zero, (long)block, size) != size
			    || int80(NR_write, null, (long)block, size) != size)
				return -EFAULT;
	}
	t = microseconds() - t;
	int80(NR_close, zero, 0, 0);
	int80(NR_close, null, 0, 0);
	say("{\"event\": \"dd\", \"path\": \"%s\", \"block\": %d, \"count\": %d, "
	    "\"microseconds\": %u}", argv[1], size, n, t);
	return 0;
}

/* pingpong int80|fast COUNT: sends a byte to another process and back, so that each round
   has two context switches */
int pingpong(int argc, char **argv)
{
	int to[2], fro[2], pid, is_fast;
	long i, n;
	char byte = 0;
	u64 t, ticks;

	if (argc != 3)
		return -EINVAL;
	is_fast = streq(argv[1], "fast");
	n = number(argv[2]);
	int80(NR_pipe, (long)to, 0, 0);
	int80(NR_pipe, (long)fro, 0, 0);
	pid = forked();
	if (pid == 0) {
		for (i = 0; i < n; i++)
			if (is_fast) {
				fast(NR_read, to[0], (long)&byte, 1);
				fast(NR_write, fro[1], (long)&byte, 1);
			} else {
				int80(NR_read, to[0], (long)&byte, 1);
				int80(NR_write, fro[1], (long)&byte, 1);
			}
		int80(NR_exit, 0, 0, 0);
	}
	t = microseconds();
	ticks = tsc();
	for (i = 0; i < n; i++)
		if (is_fast) {
			fast(NR_write, to[1], (long)&byte, 1);
			fast(NR_read, fro[0], (long)&byte, 1);
		} else {
			int80(NR_write, to[1], (long)&byte, 1);
			int80(NR_read, fro[0], (long)&byte, 1);
		}
	ticks = tsc() - ticks;
	t = microseconds() - t;
	wait_for(pid);
	for (i = 0; i < 2; i++) {
		int80(NR_close, to[i], 0, 0);
		int80(NR_close, fro[i], 0, 0);
	}
	say("{\"event\": \"pingpong\", \"path\": \"%s\", \"rounds\": %d, "
	    "\"microseconds\": %u, \"ticks\": %u}", argv[1], n, t, ticks);
	return 0;
}
