// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Hostile callers that are one process each: numbers, registers, flags, segments, debug
 * registers, and the stub page itself. hazards_arch_*.c has those of one architecture only.
 */
#include "hazards_faults.h"
#include <sys/uio.h>

#define NO_SUCH_FD 999

static char stack[64];
static volatile int traps;

/* --- numbers -------------------------------------------------------------- */

static void numbers(void)
{
	static const long odd[] = { -1, -38, NO_SUCH_CALL, 512, 513, 1000, 0x7fffffff, 0x40000014, 0x3fffffff, 222, 223, 251 };

	for (unsigned int i = 0; i < sizeof(odd) / sizeof(*odd); i++) {
		/* unmarked, for both entries: with a mark, some of these would be other calls */
		struct call c = UNMARKED_CALL(odd[i], 1, 2, 3, 4, 5, 6);

		c.entry = mark ? stub_page + SYSENTER_STUB_CALL : STOCK_ENTRY;
		enter(&c);
		note("%lx: %ld ", odd[i], c.nr);
	}
}

static void every_number_without_effect(void)
{
	/* with arguments that no call can use; calls that would still act are left out */
	static const unsigned char acts[512] = {
#ifdef __i386__
		[SYS_sigreturn] = 1, [SYS_nice] = 1, [SYS_sigsuspend] = 1, [SYS_sigprocmask] = 1, [SYS_ssetmask] = 1,
		[SYS_sgetmask] = 1,
#endif
		[SYS_exit] = 1, [SYS_fork] = 1, [SYS_vfork] = 1, [SYS_pause] = 1, [SYS_exit_group] = 1, [SYS_sync] = 1,
		[SYS_rt_sigreturn] = 1, [SYS_setsid] = 1, [SYS_munlockall] = 1, [SYS_vhangup] = 1,
		[SYS_alarm] = 1, [SYS_brk] = 1, [SYS_umask] = 1, [SYS_personality] = 1, [SYS_close_range] = 1,
		[SYS_getpid] = 1, [SYS_gettid] = 1, [SYS_set_tid_address] = 1, [SYS_getpgrp] = 1, [SYS_times] = 1,
		[SYS_clone] = 1, [SYS_clone3] = 1, [SYS_restart_syscall] = 1, [SYS_setpgid] = 1,
		[SYS_getpgid] = 1, [SYS_getsid] = 1,
		[SYS_shmget] = 1, [SYS_msgget] = 1, [SYS_semget] = 1, [SYS_inotify_init] = 1, [SYS_prctl] = 1,
#ifdef __x86_64__
		/* uretprobe and uprobe: SIGILL for whoever is not in the kernel's own trampoline (6.11, 6.18) */
		[335] = 1, [336] = 1,
#endif
	};
	for (long nr = 0; nr < 512; nr++) {
		if (!acts[nr]) {
			long result = call(nr, -1, -1, -1, -1, -1, -1);

			note("%ld ", nr == SYS_getppid ? result == getppid() : result);
		}
	}
}

/* --- registers and flags ---------------------------------------------------- */

static void try_call(const char *what, long nr, long b, long c, long d, long s, long t, long p, unsigned long flags)
{
	struct call call = CALL(nr, b, c, d, s, t, p);

	call.flags |= flags;
	enter(&call);
	note_call(what, &call);
}

#define PATTERN 0x11223344, 0x55667788, 0x99aabbcc, 0xddeeff00, 0x12345678, 0x9abcdef0

static void registers(void)
{
	struct timespec brief = { 0, 1000000 };
	uid_t ids[3];

	try_call("getuid", SYS_getuid32, PATTERN, 0);
	try_call("uname fails", SYS_uname, PATTERN, 0);
	try_call("sigaltstack fails", SYS_sigaltstack, PATTERN, 0);
	try_call("getresuid", SYS_getresuid32, (long)&ids[0], (long)&ids[1], (long)&ids[2], 0x12345678, 0x9abcdef0, 0x11223344, 0);
	try_call("nanosleep", SYS_nanosleep, (long)&brief, 0, 3, 4, 5, 6, 0);
	try_call("pread64", SYS_pread64, NO_SUCH_FD, 2, 3, 4, 5, 6, 0);
	try_call("pselect6", SYS_pselect6, 0, 0, 0, 0, (long)&brief, 0, 0);
	try_call("no such", NO_SUCH_CALL, PATTERN, 0);
	try_call("yield", SYS_sched_yield, PATTERN, 0);
}

static void flags(void)
{
	static const unsigned long odd[] = { FLAG_DF, FLAG_NT, FLAG_AC, FLAG_ID, 0x8d5 };
	static char text[24];

	for (unsigned int i = 0; i < 5; i++)
		for (unsigned int j = i; j < 5; j++) {
			snprintf(text, sizeof(text), "%lx", odd[i] | odd[j]);
			try_call(text, SYS_getuid32, PATTERN, odd[i] | odd[j]);
			try_call("slow", SYS_sigaltstack, PATTERN, odd[i] | odd[j]);
		}
	/* the kernel must copy with DF set, and fetch with AC set */
	char name[400] = "";
	try_call("uname", SYS_uname, (long)name, 0, 0, 0, 0, 0, FLAG_DF);
	note("%.5s ", name);
	try_call("6 arguments", SYS_mmap2, 0, 0, 0, 0, 0, 0, FLAG_AC | FLAG_NT);
}

static void on_trap(int signal, siginfo_t *info, void *context)
{
	greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;

	(void)signal;
	traps++;
	if (traps < 40)
		note("%s/%d%s ", place(g[CONTEXT_IP]), info->si_code, g[CONTEXT_FLAGS] & FLAG_TF ? "T" : "");
}

static void single_step(void)
{
	handle(SIGTRAP, on_trap, 0);
	try_call("getuid", SYS_getuid32, PATTERN, FLAG_TF);
	try_call("slow", SYS_sigaltstack, PATTERN, FLAG_TF);
	try_call("mmap2", SYS_mmap2, 0, 0, 0, 0, 0, 0, FLAG_TF);
	try_call("odd", SYS_getuid32, PATTERN, FLAG_TF | FLAG_NT | FLAG_AC | FLAG_DF | FLAG_ID);
	try_call("none", NO_SUCH_CALL, PATTERN, FLAG_TF);
	note("traps %d ", traps);
}

static void many_single_steps(void)
{
	struct call c = CALL(SYS_getuid32, 0, 0, 0, 0, 0, 0);

	handle(SIGTRAP, on_trap, 0);
	traps = 100;
	for (int i = 0; i < 300; i++) {
		c = (struct call)CALL(SYS_getuid32, 0, 0, 0, 0, 0, 0);
		c.flags |= FLAG_TF;
		enter(&c);
	}
	note("traps %d ", traps - 100);
}

/* The flag ID stays the caller's over calls that sleep, while another task has it clear. */
static void flags_across_sleep(void)
{
	struct timespec brief = { 0, 2000000 };
	pid_t child;

	share_one_cpu();
	without_rseq();
	child = fork();
	if (!child)
		for (;;)
			call(SYS_sched_yield);
	for (int i = 0; i < 5; i++)
		try_call("sleep", SYS_nanosleep, (long)&brief, 0, 0, 0, 0, 0, i & 1 ? FLAG_ID : 0);
	kill(child, SIGKILL);
}

static void fpu_across_sleep(void)
{
	struct timespec brief = { 0, 2000000 };
	pid_t child;
	double x = 0;

	share_one_cpu();	/* on two the other task would have registers of its own */
	without_rseq();
	child = fork();
	if (!child)
		for (;;) {
			asm volatile("fldz; fstpt (%0)" : : "r"(stack) : "memory");
			call(SYS_sched_yield);
		}
	for (int i = 0; i < 20; i++) {
		asm volatile("fldpi");
		call(i & 1 ? SYS_nanosleep : SYS_sched_yield, &brief, 0);
		asm volatile("fstpl %0" : "=m"(x));
		note("%.6f ", x);
	}
	kill(child, SIGKILL);
}

/* --- segments ---------------------------------------------------------------- */

static void segments(void)
{
	note("ldt %d %d ", set_ldt(0, 0xff, 1), set_ldt(1, 0xfffff, 1));
	for (unsigned int i = 0; i < sizeof(selectors_tried) / sizeof(*selectors_tried); i++)
		for (int which = 0; which < SEGMENTS_TRIED; which++) {
			struct call c = CALL(SYS_getuid32, 0x11223344, 0x55667788, 3, 4, 5, 6);
			unsigned long *fields[] = { &c.ds, &c.es, &c.fs, &c.gs };

			*fields[which] = selectors_tried[i];
			enter(&c);
			note_call("getuid", &c);
		}
}

/* --- debug registers, by a tracer that is our parent ----------------------------- */

static uint32_t watched;

static void one_getuid(void)
{
	call(SYS_getuid32);
	call(SYS_uname, 0);
}

static void watch_sysenter(void)
{
	under_watch(one_getuid, entering_address(), 0);
}

/* The kernel's writes to what a tracer watches stop nobody: ptrace's breakpoints leave them out. Ours shows the watch. */
static void write_watched(void)
{
	call(SYS_getresuid32, &watched, &watched, &watched);
	note("wrote %u ", watched);
	*(volatile uint32_t *)&watched = 1;
	call(SYS_getuid32);
}

static void watch_return(void)
{
	under_watch(one_getuid, return_address(), 0);
}

static void watch_kernel_write(void)
{
	struct user_regs_struct r;
	pid_t child = traced(write_watched);
	int status, stops = 0;

	set_watch(child, (uintptr_t)&watched, 1);
	for (; stops < 20 && next_stop(child, PTRACE_CONT, &r, &status); stops++)
		note("stop %d dr6 %lx ", WSTOPSIG(status), ptrace(PTRACE_PEEKUSER, child, DEBUGREG(6), 0) & 0xf);
	note_status(status);
	kill(child, SIGKILL);
}

/* --- six arguments ---------------------------------------------------------------- */

static void sixth_argument_used(void)
{
	int file = open("/proc/self/exe", O_RDONLY);
	char head[4] = "";
	long page = call(SYS_mmap2, 0, 4096, PROT_READ, MAP_PRIVATE, file, MMAP_OFFSET(1));

	pread(file, head, 4, 4096);
	note("%s ", page > -4096 && page < 0 ? "failed" : memcmp((char *)page, head, 4) ? "wrong page" : "right page");
	note("%ld ", call(SYS_mmap2, 0, 4096, PROT_READ, MAP_PRIVATE, file, MMAP_OFFSET(0xfffff)) > -4096 ? 1L : 0L);
	note("%ld ", call(SYS_mmap2, 0, 0, PROT_READ, MAP_PRIVATE, file, 0));
}

/* --- the stub page ----------------------------------------------------------------- */

static void stub_is_read_only(void)
{
	int device = open("/dev/sysenter", O_RDONLY), memory, status;
	char before[64], byte = 0x90;
	struct iovec from = { &byte, 1 }, to = { stub_page, 1 };
	pid_t child;
	long off;

	if (!mark)
		goto same;	/* stock has no such page, so say here what the page must do */
	memcpy(before, stub_page, sizeof(before));
	note("%s ", mprotect(stub_page, 4096, PROT_READ | PROT_WRITE) ? "refused" : "writable");
	note("%s ", open("/dev/sysenter", O_RDWR) < 0 ? "refused" : "opened for writing");
	note("%s ", mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, device, 0) == MAP_FAILED ? "refused" : "shared writable");
	note("%s ", mmap(NULL, 4096, PROT_WRITE | PROT_READ, MAP_PRIVATE, device, 0) == MAP_FAILED ? "refused" : "private writable");
	note("%s ", mmap(NULL, 8192, PROT_READ, MAP_SHARED, device, 0) == MAP_FAILED ? "refused" : "two pages");
	note("%s ", mmap(NULL, 4096, PROT_READ, MAP_SHARED, device, 4096) == MAP_FAILED ? "refused" : "second page");
	memory = open("/proc/self/mem", O_RDWR);
	off = (long)stub_page;
	note("%s ", pwrite(memory, &byte, 1, off) == 1 ? "written by /proc" : "refused");
	note("%s ", mremap(stub_page, 4096, 8192, MREMAP_MAYMOVE) == MAP_FAILED ? "refused" : "grown");
	child = fork();
	if (!child) {
		ptrace(PTRACE_TRACEME);
		raise(SIGSTOP);
		_exit(0);
	}
	waitpid(child, &status, 0);
	note("%s ", ptrace(PTRACE_POKETEXT, child, stub_page, 0x90) ? "refused" : "written by a tracer");
	note("%s ", process_vm_writev(child, &from, 1, &to, 1, 0) == 1 ? "written by another" : "refused");
	kill(child, SIGKILL);
	if (memcmp(before, stub_page, sizeof(before)))
		note("changed ");
	return;
same:
	for (int i = 0; i < 10; i++)
		note("refused ");
}

/* A page that a pipe holds outlives its mapping. A page that was dropped faults with SIGBUS. */
static void stub_is_pinned_and_dropped(void)
{
	struct iovec one;
	int pipe_ends[2];
	char copy[64], before[64];

	if (!mark) {
		note("64 same signal 7 ");
		return;
	}
	memcpy(before, stub_page, 64);
	one = (struct iovec){ stub_page, 64 };
	if (pipe(pipe_ends))
		return;
	vmsplice(pipe_ends[1], &one, 1, SPLICE_F_GIFT);
	madvise(stub_page, 4096, MADV_DONTNEED);
	note("%zd ", read(pipe_ends[0], copy, 64));
	note("%s ", memcmp(copy, before, 64) ? "changed" : "same");
	catch_faults();
	pid_t child = fork();

	if (!child) {
		struct sigaction plain = { .sa_handler = SIG_DFL };

		sigaction(SIGBUS, &plain, NULL);
		note("%s", *(volatile char *)stub_page ? "" : "zero ");
		_exit(0);
	}
	note_child(child);
}

HAZARDS(
	{ "number out of range", "numbers", numbers, 0 },
	{ "every number", "every_number_without_effect", every_number_without_effect, 0 },
	{ "kernel values left in registers", "registers", registers, 0 },
	{ "NT AC DF ID, singly and in pairs", "flags", flags, 0 },
	{ "TF at SYSENTER", "single_step", single_step, 0 },
	{ "TF at SYSENTER", "many_single_steps", many_single_steps, 0 },
	{ "flags of another task", "flags_across_sleep", flags_across_sleep, 0 },
	{ "FPU state of another task", "fpu_across_sleep", fpu_across_sleep, 0 },
	{ "null and LDT selectors", "segments", segments, 0 },
	{ "sixth argument", "sixth_argument_used", sixth_argument_used, 0 },
	{ "breakpoint where a call returns", "watch_return", watch_return, 0 },
	{ "breakpoint at SYSENTER", "watch_sysenter", watch_sysenter, 0 },
	{ "watchpoint that the kernel hits", "watch_kernel_write", watch_kernel_write, 0 },
	{ "writing to the stub", "stub_is_read_only", stub_is_read_only, 0 },
	{ "stub page pinned, dropped", "stub_is_pinned_and_dropped", stub_is_pinned_and_dropped, 0 }
)
