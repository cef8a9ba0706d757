/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gain REPORT LIBRARY ROUNDS COMMAND...: what does the library gain? Runs the command in
 * pairs, without and with LD_PRELOAD=LIBRARY, and prints the median ratio of the pairs.
 * Pairs, because whatever disturbs the machine then disturbs both runs.
 *
 * REPORT is /proc/sysenter. If its count shows that a run with the library made no fast
 * call, there is nothing to compare: it says so and exits with status 3.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <fcntl.h>
#include <sys/time.h>
#include <sys/wait.h>

#define NO_FAST_CALL 3

static char *preload;

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

/* The count of fast calls on all processors; -1 if it cannot be read. */
static double fast_calls(const char *report)
{
	FILE *file = fopen(report, "r");
	char line[256];
	unsigned long n;
	double calls = -1;

	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "calls cpu%*d %lu", &n) == 1)
			calls = (calls < 0 ? 0 : calls) + n;
	fclose(file);
	return calls;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
	double *ratio, without, with, before;
	int rounds, i;

	if (argc < 5) {
		fprintf(stderr, "usage: gain REPORT LIBRARY ROUNDS COMMAND...\n");
		return 2;
	}
	rounds = atoi(argv[3]);
	ratio = rounds < 1 ? NULL : malloc(rounds * sizeof(*ratio));
	preload = malloc(strlen(argv[2]) + sizeof("LD_PRELOAD="));
	if (!ratio || !preload) {
		fprintf(stderr, "gain: %s rounds: a number from 1 on\n", argv[3]);
		return 2;
	}
	sprintf(preload, "LD_PRELOAD=%s", argv[2]);
	for (i = 0; i < rounds; i++) {
		without = run(argv + 4, 0);
		before = fast_calls(argv[1]);
		with = run(argv + 4, 1);
		if (fast_calls(argv[1]) <= before) {
			printf("%s made no call by the fast entry: it is linked "
			       "statically, or has calls of its own\n", argv[4]);
			return NO_FAST_CALL;
		}
		ratio[i] = without / with;
		printf("int 0x80 %.3f s, with the library %.3f s, "
		       "%.2f times as fast\n", without, with, ratio[i]);
	}
	qsort(ratio, rounds, sizeof(*ratio), by_size);
	printf("median of %d pairs: %.2f times as fast\n", rounds,
	       ratio[rounds / 2]);
	return 0;
}
