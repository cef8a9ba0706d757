// SPDX-License-Identifier: GPL-2.0-or-later
/* Reads a bundle (its format: sysenter/replay/bundle.py) and maps the kernel's memory. */
#define _GNU_SOURCE
#ifdef __x86_64__
#include <asm/prctl.h>
#else
#include <asm/ldt.h>
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <x86intrin.h>
#include "replay.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000	/* Linux 4.17; before it, a hint */
#endif
#define MAPS		4096
#define LINE		(1 << 20)	/* the longest line is a trace */
#define STACK_AT	0x30000000ul	/* i386: the caller's stack, below the kernel's addresses */

struct replay replay;
static struct map { unsigned long at, page; } maps[MAPS];
static int nmaps;
static uint8_t *pages;
static size_t pages_size;
/* Each place that is patched for some call, and its bytes before the first patch. */
static struct patch places[128];
static int nplaces;

void die(const char *what)
{
	fprintf(stderr, "replay: %s\n", what);
	exit(1);
}

static void damaged(const char *what)
{
	char text[200];

	snprintf(text, sizeof text, "the bundle is damaged: %s (export it anew)", what);
	die(text);
}

static uint8_t *read_file(const char *folder, const char *name, size_t *size)
{
	char path[4200];
	struct stat st;
	uint8_t *data;
	size_t done = 0;
	int file;

	snprintf(path, sizeof path, "%s%s%s", folder, *name ? "/" : "", name);
	file = open(path, O_RDONLY | O_CLOEXEC);
	if (file < 0 || fstat(file, &st)) {
		fprintf(stderr, "replay: %s: %s (give the folder of a bundle)\n", path, strerror(errno));
		exit(1);
	}
	*size = (size_t)st.st_size;
	data = malloc(*size + 1);
	while (data && done < *size) {
		ssize_t n = read(file, data + done, *size - done);

		if (n <= 0)
			damaged("it cannot be read to its end");
		done += (size_t)n;
	}
	if (!data)
		die("no memory");
	data[*size] = 0;
	close(file);
	return data;
}

static int hex_bytes(const char *text, uint8_t *to, int most)
{
	int n = 0;
	unsigned int byte;

	for (; n < most && sscanf(text, "%2x", &byte) == 1; text += 2)
		to[n++] = (uint8_t)byte;
	return n;
}

static void read_trace(struct call *call, char *at)
{
	char *end;

	call->trace = malloc(STEPS * sizeof *call->trace);
	for (; call->trace && call->traced < STEPS; at = end) {
		unsigned long step = strtoul(at, &end, 16);

		if (end == at)
			return;
		call->trace[call->traced++] = step;
	}
	damaged("a trace is too long");
}

/* Parse one line of a plan. */
static void read_line(char *line, char digest[65])
{
	static struct call next;
	unsigned long a, b, r[7];
	char hex[2 * PATCH_BYTES + 1], name[32], path[32];

	if (sscanf(line, "kernel %127[^\n]", replay.kernel) == 1 || sscanf(line, "processor %127[^\n]", replay.processor) == 1 ||
	    sscanf(line, "pages %64s", digest) == 1 || sscanf(line, "landing %lx", &replay.landing) == 1 ||
	    sscanf(line, "per_cpu %lx", &replay.per_cpu) == 1)
		return;
	if (!strncmp(line, "symbol ", 7))
		return;
	if (!strncmp(line, "arch ", 5)) {
		if (strcmp(line + 5, sizeof(long) == 8 ? "amd64" : "i386"))
			die("the bundle is of another architecture than this runner (take the runner beside it)");
		return;
	}
	if (sscanf(line, "map %lx %lu", &a, &b) == 2) {
		if (nmaps == MAPS || a % PAGE || b * PAGE >= pages_size)
			damaged("a page is not there");
		maps[nmaps++] = (struct map){ a, b };
	} else if (sscanf(line, "verw %lx %lu", &a, &b) == 2) {
		if (replay.nverws == 32 || b > 9 || b < 3)
			damaged("verw");
		replay.verws[replay.nverws].at = a;
		replay.verws[replay.nverws++].length = (int)b;
	} else if (sscanf(line, "patch %lx %128s", &a, hex) == 2) {
		if (next.npatches == PATCHES)
			damaged("too many patches for a call");
		next.patches[next.npatches].at = a;
		next.patches[next.npatches].length = hex_bytes(hex, next.patches[next.npatches].bytes, PATCH_BYTES);
		next.npatches++;
	} else if (sscanf(line, "call %31s %31s %lx %lx %lx %lx %lx %lx %lx %lx %lx %lx", name, path, &a, &next.stack, &b,
			  &r[0], &r[1], &r[2], &r[3], &r[4], &r[5], &r[6]) == 12) {
		if (replay.ncalls == CALLS)
			damaged("too many calls");
		next.entry = a;
		next.expected = (long)b;
		memcpy(next.registers, r, sizeof r);
		strcpy(next.name, name);
		strcpy(next.path, path);
		replay.calls[replay.ncalls++] = next;
		memset(&next, 0, sizeof next);
	} else if (!strncmp(line, "trace ", 6) && replay.ncalls) {
		read_trace(&replay.calls[replay.ncalls - 1], line + 6);
	} else if (!strncmp(line, "code ", 5) && replay.ncalls && strlen(line) > 70) {
		struct call *call = &replay.calls[replay.ncalls - 1];

		memcpy(call->code, line + 5, 64);
		call->lengths = strdup(line + 70);
		if (!call->lengths || strlen(call->lengths) != (size_t)call->traced)
			damaged("a trace's code");
	} else {
		damaged("a line of its plan is not known here");
	}
}

static void read_plan(const char *folder, const char *name, char digest[65])
{
	size_t size;
	char *text = (char *)read_file(folder, name, &size), *end, *line, *next, hex[65];

	/* the last line is a digest of all lines before it */
	end = size > 70 ? strstr(text + size - 70, "end ") : NULL;
	if (!end || strncmp(text, "sysenter-replay 1\n", 18))
		damaged("its plan has not the form of this version");
	sha256_hex((uint8_t *)text, (size_t)(end - text), hex);
	if (strncmp(end + 4, hex, 64))
		damaged("its plan is not as it was written");
	*end = 0;
	for (line = text + 18; *line; line = next) {
		next = strchr(line, '\n');
		if (!next)
			damaged("its plan is cut");
		*next++ = 0;
		read_line(line, digest);
	}
	free(text);
}

void read_bundle(const char *folder, const char *more)
{
	char hex[65], digest[65] = "";

	pages = read_file(folder, "pages", &pages_size);
	read_plan(folder, "plan", digest);
	sha256_hex(pages, pages_size, hex);
	if (strcmp(hex, digest))
		damaged("its pages are not those of its plan");
	if (more)
		read_plan(more, "", digest);
}

#ifdef __x86_64__
static void set_segments(void)
{
	if (syscall(SYS_arch_prctl, ARCH_SET_GS, replay.per_cpu))
		die("GS base cannot be set");
}
#else
static void set_segments(void)
{
	struct user_desc percpu = {
		.entry_number = 13, .base_addr = replay.per_cpu, .limit = 0xfffff, .seg_32bit = 1, .limit_in_pages = 1,
		.useable = 1,
	};
	char *at = (char *)(replay.landing & -PAGE);

	if (syscall(SYS_set_thread_area, &percpu))
		die("a thread-local segment cannot be set");
	if (mmap(at, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != at)
		die("the landing pad's page is in use");
	memcpy((void *)replay.landing, run_landing, (size_t)(run_landing_end - run_landing));
	run_landing_at = replay.landing;
	at = (char *)STACK_AT;
	if (mmap(at, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != at)
		die("the stack's pages are in use");
	run_stack = STACK_AT + 8 * PAGE;
}
#endif

static int mapped(unsigned long at, int length)
{
	int found = 0;

	for (int i = 0; i < nmaps; i++)
		found |= (at >= maps[i].at && at < maps[i].at + PAGE) | (at + length - 1 >= maps[i].at && at + length - 1 < maps[i].at + PAGE) << 1;
	return found == 3;
}

void map_bundle(void)
{
	int memory = memfd_create("kernel", MFD_CLOEXEC);
	size_t done = 0;

	if (memory < 0)
		die("memfd_create() is missing: a kernel from 3.17 on is needed");
	while (done < pages_size) {
		ssize_t n = write(memory, pages + done, pages_size - done);

		if (n <= 0)
			die("no memory");
		done += (size_t)n;
	}
	for (int i = 0; i < nmaps; i++) {
		void *at = mmap((void *)maps[i].at, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED | MAP_FIXED_NOREPLACE,
				memory, (off_t)(maps[i].page * PAGE));

		if (at != (void *)maps[i].at) {
			fprintf(stderr, "replay: address %lx cannot be had: %s (try again: addresses are random)\n", maps[i].at,
				at == MAP_FAILED ? strerror(errno) : "in use");
			exit(1);
		}
	}
	close(memory);
	for (int i = 0; i < replay.nverws; i++) {
		if (!mapped(replay.verws[i].at, replay.verws[i].length))
			damaged("VERW is not in its pages");
		memcpy(replay.verws[i].bytes, (void *)replay.verws[i].at, (size_t)replay.verws[i].length);
	}
	for (int i = 0; i < replay.ncalls; i++)
		for (int j = 0; j < replay.calls[i].npatches; j++) {
			const struct patch *patch = &replay.calls[i].patches[j];
			int k = 0;

			if (!mapped(patch->at, patch->length))
				damaged("a patch is not in its pages");
			while (k < nplaces && places[k].at != patch->at)
				k++;
			if (k == 128)
				damaged("too many patches");
			if (k == nplaces)
				nplaces++;
			places[k].at = patch->at;
			if (patch->length > places[k].length) {
				places[k].length = patch->length;
				memcpy(places[k].bytes, (void *)patch->at, (size_t)patch->length);
			}
		}
	set_segments();
}

/* Intel SDM Vol. 3, 9.1.3: a serialising instruction between a change of code and its execution. */
static void code_has_changed(void)
{
	unsigned int a = 0, b, c = 0, d;

	_mm_mfence();
	asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d) : : "memory");
}

void prepare(const struct call *call)
{
	static const struct call *last;

#ifndef __x86_64__
	/* null, as in nearly all programs, because a variant of a path may have left another value */
	asm volatile("movl %0, %%fs" : : "r"(0));
#endif
	if (last == call || (!call->npatches && (!last || !last->npatches))) {
		last = call;
		return;
	}
	for (int i = 0; last && i < last->npatches; i++)
		for (int j = 0; j < nplaces; j++)
			if (places[j].at == last->patches[i].at)
				memcpy((void *)places[j].at, places[j].bytes, (size_t)places[j].length);
	for (int i = 0; i < call->npatches; i++)
		memcpy((void *)call->patches[i].at, call->patches[i].bytes, (size_t)call->patches[i].length);
	last = call;
	code_has_changed();
}

void set_verw(int on)
{
	static const char *const nops[10] = {
		[3] = "\x0f\x1f\x00", [4] = "\x0f\x1f\x40\x00", [5] = "\x0f\x1f\x44\x00\x00", [6] = "\x66\x0f\x1f\x44\x00\x00",
		[7] = "\x0f\x1f\x80\x00\x00\x00\x00", [8] = "\x0f\x1f\x84\x00\x00\x00\x00\x00",
		[9] = "\x66\x0f\x1f\x84\x00\x00\x00\x00\x00",
	};

	for (int i = 0; i < replay.nverws; i++) {
		struct verw *verw = &replay.verws[i];

		memcpy((void *)verw->at, on ? (const char *)verw->bytes : nops[verw->length], (size_t)verw->length);
	}
	code_has_changed();
}
