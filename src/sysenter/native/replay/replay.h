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

/* Other bytes in the kernel's code, for one call. */
struct patch {
	unsigned long at;
	int length;
	uint8_t bytes[PATCH_BYTES];
};

struct call {
	/*
	 * Offsets known to call_*.S. entry: the path's first instruction; stack: where
	 * SYSENTER finds its stack, 0 for SYSCALL, which leaves the caller's.
	 */
	unsigned long entry, stack, registers[7];
	long expected;			/* what the guest's call gave */
	char name[32], path[32];
	struct patch patches[PATCHES];
	int npatches;
	unsigned long *trace;		/* what the guest executed; NULL if not known */
	int traced;
	char code[65], *lengths;	/* of those instructions' bytes: SHA-256, and a hex digit for each one's length */
	int verified;
};

struct verw {
	unsigned long at;
	int length;
	uint8_t bytes[16];
};

/* A loaded bundle. */
struct replay {
	char kernel[128], processor[128];	/* what was replayed, and the guest's model */
	struct call calls[CALLS];
	int ncalls;
	unsigned long per_cpu, landing;
	struct verw verws[32];
	int nverws;
};

extern struct replay replay;

/* bundle.c: reads FOLDER/plan and FOLDER/pages, and `more` calls from a second plan if not NULL. */
void read_bundle(const char *folder, const char *more);
/* Maps the kernel's memory as it was at the snapshot. Once in a process. */
void map_bundle(void);
/* Puts the kernel's code into the state that this call is for. */
void prepare(const struct call *call);
/* VERW in the paths: as it was, or NOPs. */
void set_verw(int on);
void die(const char *what) __attribute__((noreturn));

/* sha256.c */
void sha256_hex(const uint8_t *data, size_t length, char hex[65]);

/* step.c: single-steps each call in a process of its own, holds it against the guest's trace and result. */
void verify_calls(void);
void catch_faults(void);

/* measure.c */
void measure(int batches, int size, int rounds);

/*
 * call_*.S: make a call `times` times; what SYSCALL and SYSENTER do to registers, then a
 * jump. The second: LFENCE before the entry and after the return, so that
 * nothing of a call overlaps with what is before or after it.
 */
long run_call(const struct call *call, long times);
long run_call_serial(const struct call *call, long times);
extern const char run_empty[];	/* an entry path that returns at once */
#ifndef __x86_64__
extern const char run_landing[], run_landing_end[];
extern unsigned long run_stack, run_landing_at;
#endif

#endif
