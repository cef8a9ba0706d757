// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Runs a command and prints what it took, as a JSON object on a line:
 *
 *	timed SUITE NAME PATH ROUND -- COMMAND...
 *
 * seconds: of the monotonic clock.
 * tsc: of the time-stamp counter. Under QEMU's -icount shift=0 it counts guest instructions, of
 *	all processes.
 * calls: how many the module counted in this time.
 * user, kernel: time of the processors in either mode, in hundredths of a second, from
 *	/proc/stat. It is that of all processes, so that a server's part is in it.
 *
 * What the command prints is discarded, except for its error messages.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static uint64_t tsc(void)
{
	uint32_t low, high;

	asm volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

static long long calls(void)
{
	char text[32] = "";
	int file = open("/sys/module/sysenter/parameters/calls", O_RDONLY);

	if (file < 0)
		return 0;
	if (read(file, text, sizeof(text) - 1) < 0)
		text[0] = 0;
	close(file);
	return atoll(text);
}

/* The first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq (proc(5)). */
static void spent(long long *user, long long *kernel)
{
	long long t[7] = { 0 };
	FILE *file = fopen("/proc/stat", "r");

	if (file) {
		if (fscanf(file, "cpu %lld %lld %lld %lld %lld %lld %lld", t, t + 1, t + 2, t + 3, t + 4, t + 5, t + 6) != 7)
			memset(t, 0, sizeof(t));
		fclose(file);
	}
	*user = t[0] + t[1];
	*kernel = t[2] + t[5] + t[6];
}

int main(int argc, char **argv)
{
	long long user, kernel, user_before, kernel_before;
	int status, out;
	pid_t child;

	if (argc < 7 || strcmp(argv[5], "--")) {
		fprintf(stderr, "usage: timed SUITE NAME PATH ROUND -- COMMAND...\n");
		return 2;
	}
	long long calls_before = calls();

	spent(&user_before, &kernel_before);
	double start = now();
	uint64_t first = tsc();

	child = fork();
	if (!child) {
		out = open("/dev/null", O_WRONLY);
		dup2(out, 1);
		execvp(argv[6], argv + 6);
		perror(argv[6]);
		_exit(127);
	}
	if (child < 0 || waitpid(child, &status, 0) != child) {
		perror("timed");
		return 1;
	}
	uint64_t last = tsc();
	double end = now();

	spent(&user, &kernel);
	printf("{\"bench\": {\"suite\": \"%s\", \"name\": \"%s\", \"path\": \"%s\", \"round\": %s, \"seconds\": %.6f, "
	       "\"tsc\": %llu, \"calls\": %lld, \"user\": %lld, \"kernel\": %lld, \"status\": %d}}\n",
	       argv[1], argv[2], argv[3], argv[4], end - start, (unsigned long long)(last - first),
	       calls() - calls_before, user - user_before, kernel - kernel_before,
	       WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	return 0;
}
