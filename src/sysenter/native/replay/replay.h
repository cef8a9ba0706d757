/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Replays a kernel's system-call paths in a process; see replay.c. */
#ifndef REPLAY_H
#define REPLAY_H
#include <stddef.h>
#include <stdint.h>

#define PAGE		4096ul
#define CALLS		256	/* at most, in a plan */
#define PATCHES		16	/* at most, for a call */
#define STEPS		20000	/* at most, of a call */
#define PATCH_BYTES	64

/* Bytes of the kernel's code that are different for one call. */
struct patch {
	unsigned long at;
	int length;
	uint8_t bytes[PATCH_BYTES];
};

struct call {
	/*
	 * call_*.S knows these offsets. entry: the path's first instruction. stack: the stack
	 * that SYSENTER sets; 0 for SYSCALL, which keeps the caller's.
	 */
	unsigned long entry, stack, registers[7];
	long expected;			/* the result in the guest */
	char name[32], path[32];
	struct patch patches[PATCHES];
	int npatches;
	unsigned long *trace;		/* the instructions that the guest executed; NULL if not known */
	int traced;
	char code[65], *lengths;	/* SHA-256 of their bytes, and a hex digit for the length of each */
	int verified;
};

struct verw {
	unsigned long at;
	int length;
	uint8_t bytes[16];
};

/* A loaded bundle. */
struct replay {
	char kernel[128], processor[128];	/* of the guest */
	struct call calls[CALLS];
	int ncalls;
	unsigned long per_cpu, landing;
	struct verw verws[32];
	int nverws;
};

extern struct replay replay;

/* bundle.c: reads FOLDER/plan and FOLDER/pages; if `more' is not NULL, more calls from that plan. */
void read_bundle(const char *folder, const char *more);
/* Map the kernel's memory as it was at the snapshot. Once in a process. */
void map_bundle(void);
/* Patch the kernel's code for this call. */
void prepare(const struct call *call);
/* Put VERW into the paths as it was, or NOPs in its place. */
void set_verw(int on);
void die(const char *what) __attribute__((noreturn));

/* sha256.c */
void sha256_hex(const uint8_t *data, size_t length, char hex[65]);

/* step.c: single-steps each call in a process of its own, and compares it with the guest's trace and result. */
void verify_calls(void);
void catch_faults(void);

/* measure.c */
void measure(int batches, int size, int rounds);

/*
 * call_*.S: make a call `times' times. They do to the registers what SYSCALL and SYSENTER do,
 * and jump to the path. The second has an LFENCE before the entry and after the return, so that
 * a call overlaps with nothing before or after it.
 */
long run_call(const struct call *call, long times);
long run_call_serial(const struct call *call, long times);
extern const char run_empty[];	/* a path that returns at once */
#ifndef __x86_64__
extern const char run_landing[], run_landing_end[];
extern unsigned long run_stack, run_landing_at;
#endif

#endif
