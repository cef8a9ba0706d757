// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Times the verified calls. Batches of a call by its different paths come right after one
 * another, so that whatever slows the machine slows all of them. Differences are taken batch by
 * batch.
 *
 * There are three ways of calling. `overlap': a plain loop. `serial': LFENCE at both mode
 * switches, so that nothing of a call overlaps with the caller. `nested': at the bottom of DEPTH
 * functions, which shows a path that leaves the return predictor wrong.
 *
 * Lines of output, in cycles of the time-stamp counter, without the caller's own cycles:
 *	clock MHZ CORE STEP			MHZ: the counter's rate. CORE: cycles of the core for one of
 *						the counter. STEP: by how much it goes up at a time, divided
 *						by the calls of a batch
 *	cycles CALL PATH VERW WAY QUARTER LEAST MEDIAN
 *	difference CALL PATH VERW WAY Q1 MEDIAN Q3	the path minus stock
 *	twin CALL VERW WAY Q1 MEDIAN Q3		stock minus stock again: the noise
 *	mixture PATH ORDER KIB VERW WAY CYCLES	all calls in one order
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <x86intrin.h>
#include "replay.h"

#define DEPTH	24	/* together with the kernel's own calls as many as return predictors hold */
#define PATHS	48	/* at most, of one call; variants of a path count */
#define WARM	12	/* calls before a batch, to warm the path's state and the predictors */
#define LENGTH	2048	/* calls in a mixture */
#define KINDS	32

enum way { OVERLAP, SERIAL, NESTED, WAYS };
static const char *const way_names[WAYS] = { "overlap", "serial", "nested" };

static struct call empty = { .name = "empty", .path = "empty" };

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* Where the first `part' of `of' equal parts of n sorted values ends. */
static double part(const double *sorted, int n, int part_, int of)
{
	return sorted[(long)(n - 1) * part_ / of];
}

static inline uint64_t now(void)
{
	unsigned int cpu;
	uint64_t t = __rdtscp(&cpu);

	_mm_lfence();
	return t;
}

static __attribute__((noinline)) long nested(const struct call *call, int depth)
{
	long result = depth ? nested(call, depth - 1) : run_call(call, 1);

	asm volatile("" : "+r"(result));
	return result;
}

/* Cycles of one call, the mean of `size' calls in a row. */
static double batch(const struct call *call, enum way way, int size)
{
	uint64_t start;
	long result = 0;

	prepare(call);
	run_call(call, WARM);
	start = now();
	if (way == OVERLAP)
		result = run_call(call, size);
	else if (way == SERIAL)
		result = run_call_serial(call, size);
	else
		for (int i = 0; i < size; i++)
			result = nested(call, DEPTH);
	start = now() - start;
	if (call != &empty && result != call->expected) {
		fprintf(stderr, "replay: %s by %s gave %ld while it was timed, not %ld (a bug: report it)\n", call->name,
			call->path, result, call->expected);
		exit(2);
	}
	return (double)start / size;
}

/* How many cycles of the core are one of the counter. In a chain of dependent additions each takes one cycle. */
static double core_cycles(void)
{
	double best = 1e9;

	for (int i = 0; i < 200; i++) {
		unsigned long x = 0;
		uint64_t start = now();
		double each;

		for (int j = 0; j < 1000; j++)
			asm volatile("add $1, %0; add $1, %0; add $1, %0; add $1, %0; add $1, %0; add $1, %0; add $1, %0;"
				     "add $1, %0; add $1, %0; add $1, %0; add $1, %0; add $1, %0; add $1, %0; add $1, %0;"
				     "add $1, %0; add $1, %0" : "+r"(x));
		each = (double)(now() - start) / 16000;
		if (each < best)
			best = each;
	}
	return 1 / best;
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double counter_mhz(void)
{
	double from = seconds(), passed;
	uint64_t start = now();

	do
		passed = seconds() - from;
	while (passed < 0.02);
	return (double)(now() - start) / passed / 1e6;
}

/* By how much the counter goes up at a time: it may be more than one. */
static double counter_step(void)
{
	uint64_t least = ~0ull;

	for (int i = 0; i < 2000; i++) {
		uint64_t start = __rdtsc(), end;

		while ((end = __rdtsc()) == start)
			;
		if (end - start < least)
			least = end - start;
	}
	return (double)least;
}

/* All paths of one call, stock first. */
static int paths_of(const char *name, struct call **paths)
{
	int n = 0;

	for (int i = 0; i < replay.ncalls; i++) {
		struct call *call = &replay.calls[i];

		if (!call->verified || strcmp(call->name, name))
			continue;
		if (n == PATHS)
			die("more variants of a call than this was made for (a bug: report it)");
		paths[n++] = call;
		if (!strcmp(call->path, "stock")) {
			paths[n - 1] = paths[0];
			paths[0] = call;
		}
	}
	return n;
}

static void time_call(const char *name, int verw, enum way way, int batches, int size)
{
	struct call *paths[PATHS];
	int n = paths_of(name, paths), stock = n && !strcmp(paths[0]->path, "stock");
	double *samples = malloc(sizeof *samples * (size_t)batches * (PATHS + 3)), *none, *twin, *less;

	if (!samples)
		die("no memory");
	none = samples + (long)PATHS * batches;
	twin = none + batches;
	less = twin + batches;
	for (int b = -2; b < batches; b++) {
		for (int i = 0; i < n; i++) {
			double each = batch(paths[i], way, size);

			if (b >= 0)
				samples[(long)i * batches + b] = each;
		}
		if (b >= 0) {
			twin[b] = n ? batch(paths[0], way, size) : 0;
			none[b] = batch(&empty, way, size);
		}
	}
	for (int i = 0; i < n; i++) {
		const double *own = samples + (long)i * batches;
		const char *what = i ? paths[i]->path : "twin";

		if (!stock)
			continue;
		for (int b = 0; b < batches; b++)
			less[b] = (i ? own[b] : twin[b]) - samples[b];
		qsort(less, (size_t)batches, sizeof *less, compare);
		printf("difference %s %s %d %s %.2f %.2f %.2f\n", name, what, verw, way_names[way], part(less, batches, 1, 4),
		       part(less, batches, 1, 2), part(less, batches, 3, 4));
	}
	qsort(none, (size_t)batches, sizeof *none, compare);
	for (int i = 0; i < n; i++) {
		double *own = samples + (long)i * batches, off = part(none, batches, 1, 4);

		qsort(own, (size_t)batches, sizeof *own, compare);
		printf("cycles %s %s %d %s %.2f %.2f %.2f\n", name, paths[i]->path, verw, way_names[way],
		       part(own, batches, 1, 4) - off, own[0] - off, part(own, batches, 1, 2) - off);
	}
	free(samples);
}

/* What a program does between its calls: it fills the nearest caches with other code and data. */
static uint8_t *other_code;
static volatile uint8_t *other_data;
static size_t other_size;

static void prepare_other(size_t size)
{
	other_code = mmap(NULL, size + PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	other_data = mmap(NULL, size + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (other_code == MAP_FAILED || other_data == MAP_FAILED)
		die("no memory");
	other_size = size;
	for (size_t i = 0; i < size; i += 64) {	/* jump to the next cache line */
		other_code[i] = 0xeb;
		other_code[i + 1] = 62;
	}
	other_code[size] = 0xc3;
	memset((void *)other_data, 1, size);
}

static void do_other(void)
{
	for (size_t i = 0; i < other_size; i += 64)
		(void)other_data[i];
	((void (*)(void))other_code)();
}

static double mixture_once(const struct call **set, const uint8_t *order, enum way way, int other)
{
	uint64_t start, taken = 0;
	int counted = 0;

	if (!other) {
		start = now();
		for (int i = 0; i < LENGTH; i++)
			if (way == SERIAL)
				run_call_serial(set[order[i]], 1);
			else
				run_call(set[order[i]], 1);
		return (double)(now() - start) / LENGTH;
	}
	for (int i = 0; i < LENGTH / 8; i++) {
		uint64_t each;

		do_other();
		start = now();
		run_call_serial(set[order[i]], 1);
		each = now() - start;
		if (each < 5000) {	/* else an interrupt came */
			taken += each;
			counted++;
		}
	}
	return counted ? (double)taken / counted : 0;
}

/* A mixture of all calls that are verified on every path, in one order, by each path in turn. */
static void mixture(int verw, enum way way, int period, int other, int rounds)
{
	static const char *names[PATHS];
	static const struct call *sets[PATHS + 1][KINDS];
	static uint8_t order[LENGTH];
	static double samples[PATHS + 1][256];
	int npaths = 0, kinds = 0;
	uint32_t x = 12345;

	for (int i = 0; i < replay.ncalls; i++) {
		int known = 0;

		for (int p = 0; p < npaths; p++)
			known |= !strcmp(names[p], replay.calls[i].path);
		if (!known && npaths < PATHS)
			names[npaths++] = replay.calls[i].path;
	}
	for (int i = 0; i < replay.ncalls && kinds < KINDS; i++) {
		struct call *paths[PATHS];

		if (strcmp(replay.calls[i].path, names[0]) || paths_of(replay.calls[i].name, paths) != npaths)
			continue;
		for (int p = 0; p < npaths; p++)
			for (int q = 0; q < npaths; q++)
				if (!strcmp(paths[q]->path, names[p]))
					sets[p][kinds] = paths[q];
		sets[npaths][kinds++] = &empty;
	}
	if (kinds < 2 || rounds > 256)
		return;
	for (int i = 0; i < LENGTH; i++) {
		x = x * 1664525 + 1013904223;
		order[i] = i < period ? (x >> 16) % (uint32_t)kinds : order[i - period];
	}
	for (int r = -1; r < rounds; r++)
		for (int p = 0; p <= npaths; p++) {
			double each;

			prepare(sets[p][0]);
			for (int k = 0; k < kinds; k++)
				run_call(sets[p][k], 4);
			each = mixture_once(sets[p], order, way, other);
			if (r >= 0)
				samples[p][r] = each;
		}
	for (int p = npaths; p >= 0; p--)
		qsort(samples[p], (size_t)rounds, sizeof(double), compare);
	for (int p = 0; p < npaths; p++)
		printf("mixture %s %s %d %d %s %.2f\n", names[p], period < LENGTH ? "repeats" : "random",
		       other ? (int)(other_size >> 10) : 0, verw, way_names[way],
		       part(samples[p], rounds, 1, 4) - part(samples[npaths], rounds, 1, 4));
}

void measure(int batches, int size, int rounds)
{
	double core = core_cycles();

	empty.entry = (unsigned long)run_empty;
#ifndef __x86_64__
	empty.stack = run_stack + 4 * PAGE;	/* not used: any address will do */
#endif
	prepare_other(32 << 10);
	for (int verw = 0; verw <= (replay.nverws > 0); verw++) {
		set_verw(verw);
		for (int i = 0; i < replay.ncalls; i++) {
			int first = 1;

			for (int j = 0; j < i; j++)
				first &= strcmp(replay.calls[j].name, replay.calls[i].name) != 0;
			for (int way = 0; first && way < WAYS; way++)
				time_call(replay.calls[i].name, verw, (enum way)way, batches, size);
		}
		if (!rounds)
			continue;
		for (int way = OVERLAP; way <= SERIAL; way++) {
			mixture(verw, (enum way)way, 16, 0, rounds);
			mixture(verw, (enum way)way, LENGTH, 0, rounds);
		}
		mixture(verw, SERIAL, LENGTH, 1, rounds);
	}
	printf("clock %.1f %.3f %.3f\n", counter_mhz(), (core + core_cycles()) / 2, counter_step() / size);
}
