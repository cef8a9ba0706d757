// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Replays system-call paths of a kernel, the stock ones and the faster ones, with the calls'
 * real bodies, in an ordinary process on this processor.
 *
 *	replay [-b BATCHES] [-s SIZE] [-r ROUNDS] [-c CALL,...] [-m PLAN] [-v] FOLDER
 *
 * FOLDER has the part of a guest's memory that its calls use, at addresses that a process can
 * have (`./sysenter replay --export' writes it: plan, pages). First each call is single-stepped.
 * Only if it executes the guest's instructions, and gives the guest's result, is it timed. The
 * mode switch is left out: SYSENTER, SYSCALL, SYSEXIT, SYSRET, SWAPGS, CLI, STI and accesses to
 * CR3 are jumps or NOPs here. measure.c and step.c describe the lines of output.
 *
 *	-b, -s	batches, and calls in a batch
 *	-r	rounds of the mixture of calls; 0: none
 *	-c	only these calls
 *	-m	more calls, as variants of a path
 *	-v	verify only, no times
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "replay.h"

static void usage(void)
{
	die("usage: replay [-b BATCHES] [-s SIZE] [-r ROUNDS] [-c CALL,...] [-m PLAN] [-v] FOLDER (README has an example)");
}

static int number(const char *text, int most)
{
	int value = atoi(text);

	if (value < 0 || value > most)
		usage();
	return value;
}

/* Keep only the calls of a list. */
static void choose(const char *list)
{
	int kept = 0;

	for (int i = 0; i < replay.ncalls; i++) {
		size_t length = strlen(replay.calls[i].name);

		for (const char *at = list; (at = strstr(at, replay.calls[i].name)); at += length)
			if ((at == list || at[-1] == ',') && (!at[length] || at[length] == ',')) {
				replay.calls[kept++] = replay.calls[i];
				break;
			}
	}
	replay.ncalls = kept;
	if (!kept)
		die("none of these calls is in the bundle");
}

static void name_processor(void)
{
	char line[512];
	FILE *file = fopen("/proc/cpuinfo", "r");

	while (file && fgets(line, sizeof line, file))
		if (!strncmp(line, "model name", 10) && strchr(line, ':')) {
			printf("processor %s", strchr(line, ':') + 2);
			break;
		}
	if (file)
		fclose(file);
}

int main(int argc, char **argv)
{
	int batches = 200, size = 40, rounds = 20, only_verify = 0, option;
	const char *list = NULL, *more = NULL;
	cpu_set_t set;

	while ((option = getopt(argc, argv, "b:s:r:c:m:v")) != -1) {
		if (option == 'b')
			batches = number(optarg, 1000000);
		else if (option == 's')
			size = number(optarg, 1000000);
		else if (option == 'r')
			rounds = number(optarg, 256);
		else if (option == 'c')
			list = optarg;
		else if (option == 'm')
			more = optarg;
		else if (option == 'v')
			only_verify = 1;
		else
			usage();
	}
	if (optind + 1 != argc || batches < 4 || size < 1)
		usage();
	CPU_ZERO(&set);
	CPU_SET((unsigned int)sched_getcpu(), &set);
	sched_setaffinity(0, sizeof set, &set);
	read_bundle(argv[optind], more);
	if (list)
		choose(list);
	printf("kernel %s\n", replay.kernel);
	name_processor();
	verify_calls();
	if (only_verify)
		return 0;
	catch_faults();
	map_bundle();
	measure(batches, size, rounds);
	return 0;
}
