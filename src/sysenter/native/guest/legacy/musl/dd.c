/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * dd [if=FILE] [of=FILE] [bs=N] [count=N]: the benchmark of 2001 as an ordinary program. Its
 * read and write are the C library's, so a library in LD_PRELOAD can replace them. Prints how
 * long it took as one JSON object.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

static char block[65536];

/* The rest of the argument that begins with KEY. */
static const char *operand(char **argv, const char *key, const char *otherwise)
{
	size_t n = strlen(key);

	while (*++argv)
		if (strncmp(*argv, key, n) == 0)
			return *argv + n;
	return otherwise;
}

int main(int argc, char **argv)
{
	int in = open(operand(argv, "if=", "/dev/zero"), O_RDONLY);
	int out = open(operand(argv, "of=", "/dev/null"), O_WRONLY);
	long size = atol(operand(argv, "bs=", "512"));
	long count = atol(operand(argv, "count=", "1")), i;
	struct timeval start, end;

	(void)argc;
	if (in < 0 || out < 0 || size < 1 || size > (long)sizeof(block)) {
		fprintf(stderr, "dd: what to read, write or how much?\n");
		return 2;
	}
	gettimeofday(&start, NULL);
	for (i = 0; i < count; i++)
		if (read(in, block, size) != size
		    || write(out, block, size) != size) {
			perror("dd");
			return 1;
		}
	gettimeofday(&end, NULL);
	printf("\n{\"event\": \"program\", \"name\": \"dd\", \"block\": %ld, "
	       "\"count\": %ld, \"preload\": %d, \"microseconds\": %ld}\n",
	       size, count, getenv("LD_PRELOAD") != NULL,
	       (end.tv_sec - start.tv_sec) * 1000000L
	       + end.tv_usec - start.tv_usec);
	return 0;
}
