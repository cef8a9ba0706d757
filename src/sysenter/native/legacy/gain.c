/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gain LIBRARY ROUNDS COMMAND...: runs a command by turns without and with
 * LD_PRELOAD=LIBRARY and prints what the library gains, the median of the
 * pairs: what disturbs the machine disturbs both of a pair.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <fcntl.h>
#include <sys/time.h>
#include <sys/wait.h>

#define ROUNDS_MAX 99

static char preload[4096];

static double run(char **command, int with)
{
	struct timeval start, end;
	int status, null;
	pid_t pid;

	gettimeofday(&start, NULL);
	pid = fork();
	if (pid == 0) {
		null = open("/dev/null", O_WRONLY);
		dup2(null, 2);
		if (with)
			putenv(preload);
		execvp(command[0], command);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0) {
		fprintf(stderr, "gain: %s failed (status 0x%x)%s\n",
			command[0], status, with ? " with the library" : "");
		exit(1);
	}
	gettimeofday(&end, NULL);
	return end.tv_sec - start.tv_sec + (end.tv_usec - start.tv_usec) / 1e6;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
	double ratio[ROUNDS_MAX], without, with;
	int rounds, i;

	if (argc < 4 || (rounds = atoi(argv[2])) < 1 || rounds > ROUNDS_MAX) {
		fprintf(stderr, "usage: gain LIBRARY ROUNDS COMMAND...\n");
		return 2;
	}
	sprintf(preload, "LD_PRELOAD=%.4000s", argv[1]);
	for (i = 0; i < rounds; i++) {
		without = run(argv + 3, 0);
		with = run(argv + 3, 1);
		ratio[i] = without / with;
		printf("int 0x80 %.3f s, sysenter %.3f s, %.2f times as fast\n",
		       without, with, ratio[i]);
	}
	qsort(ratio, rounds, sizeof(*ratio), by_size);
	printf("median of %d pairs: %.2f times as fast\n", rounds,
	       ratio[rounds / 2]);
	return 0;
}
