// SPDX-License-Identifier: GPL-2.0-or-later
/*
 *	many_sleepers THREADS LOADS MODULE OPTIONS
 *
 * Loads and unloads the module LOADS times while THREADS threads sleep in calls: half of them in a
 * futex, half in a read of a pipe. After each load all threads are woken, so that they go to sleep
 * again by the module's path. An unload has to get them out, and no call may end because of it.
 * Prints one JSON object.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int beat, over, pipe_ends[2];
static long asleep, wrong;

static long add(long *to, long amount)
{
	return __atomic_add_fetch(to, amount, __ATOMIC_SEQ_CST);
}

static void *sleeper(void *number)
{
	int known = 0;
	char byte;

	for (;;) {
		if ((long)number % 2) {
			add(&asleep, 1);
			if (read(pipe_ends[0], &byte, 1) != 1 || byte != 'x')
				add(&wrong, 1);
		} else {
			/* the beat comes after all sleep, or before this one does: then EAGAIN */
			add(&asleep, 1);
			if (syscall(SYS_futex, &beat, FUTEX_WAIT_PRIVATE, known, NULL, NULL, 0) && errno != EAGAIN)
				add(&wrong, 1);
			if (__atomic_load_n(&beat, __ATOMIC_SEQ_CST) != known + 1)
				add(&wrong, 1);		/* woken without a reason */
			known++;
		}
		if (__atomic_load_n(&over, __ATOMIC_SEQ_CST))
			return NULL;
	}
}

static void wake_all(int threads)
{
	char bytes[4096];

	memset(bytes, 'x', sizeof(bytes));
	__atomic_add_fetch(&beat, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &beat, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
	for (int left = threads / 2; left > 0;) {
		int some = left < (int)sizeof(bytes) ? left : (int)sizeof(bytes);

		if (write(pipe_ends[1], bytes, some) != some)
			add(&wrong, 1);
		left -= some;
	}
}

/* Wait until all have said that they are going to sleep again, and a little longer, until they do. */
static void wait_until(long count)
{
	struct timespec a_little = { 0, 5000000 };

	while (add(&asleep, 0) < count)
		nanosleep(&a_little, NULL);
	nanosleep(&a_little, NULL);
}

static long served(void)
{
	char text[32] = "";
	int fd = open("/sys/module/sysenter/parameters/calls_all", O_RDONLY);

	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
		return -1;
	close(fd);
	return atol(text);
}

static long milliseconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int main(int argc, char **argv)
{
	int threads = argc > 4 ? atoi(argv[1]) : 0, loads = argc > 4 ? atoi(argv[2]) : 0, done = 0;
	long least = LONG_MAX, longest = 0, started = milliseconds_now();
	pthread_t *all = calloc(threads, sizeof(*all));
	pthread_attr_t small;
	int module;

	if (!threads || !all || pipe(pipe_ends))
		return 2;
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, PTHREAD_STACK_MIN + 8192);
	for (long i = 0; i < threads; i++)
		if (pthread_create(&all[i], &small, sleeper, (void *)i))
			return 3;
	wait_until(threads);
	for (; done < loads; done++) {
		long before;

		module = open(argv[3], O_RDONLY | O_CLOEXEC);
		if (syscall(SYS_finit_module, module, argv[4], 0)) {
			printf("load %d: %s\n", done, strerror(errno));
			break;
		}
		close(module);
		wake_all(threads);
		wait_until((long)threads * (done + 2));
		if (served() < least)
			least = served();
		before = milliseconds_now();
		if (syscall(SYS_delete_module, "sysenter", O_NONBLOCK)) {
			printf("unload %d: %s\n", done, strerror(errno));
			break;
		}
		if (milliseconds_now() - before > longest)
			longest = milliseconds_now() - before;
	}
	over = 1;
	wake_all(threads);
	for (int i = 0; i < threads; i++)
		pthread_join(all[i], NULL);
	printf("{\"sleepers\": {\"loads\": %d, \"least_served\": %ld, \"longest_ms\": %ld, \"woken\": %ld, \"wrong\": %ld, "
	       "\"seconds\": %ld}}\n", done, least, longest, asleep, wrong, (milliseconds_now() - started) / 1000);
	return 0;
}
