// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Hostile callers, one process alone: numbers, registers, flags, segments, the
 * stack that %ebp names, debug registers, and the stub page itself.
 */
#include "hazards.h"
#include <asm/ldt.h>
#include <setjmp.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>

#define NO_SUCH_FD 999

static char stack[65536];
static sigjmp_buf back;
static volatile int traps;

/* Where a fault or trap was, by a name that does not depend on layout. */
static const char *place(uintptr_t address)
{
	uintptr_t vdso = getauxval(AT_SYSINFO_EHDR);
	static char name[32];

	if (address >= vdso && address < vdso + 8192)
		snprintf(name, sizeof(name), "vdso+%lx", (unsigned long)(address - vdso));
	else if (address == (uintptr_t)raw_stub_sysenter)
		return "sysenter";
	else
		return address < 0xc0000000 ? "user" : "kernel";
	return name;
}

static void on_fault(int signal, siginfo_t *info, void *context)
{
	greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;

	/*
	 * Without eax and ebp: a fast call of up to five arguments does not fetch
	 * the sixth, so it is made where stock answers -EFAULT, to the same landing
	 * pad, which faults on the same address.
	 */
	note("signal %d code %d addr %lx at %s esp %x trap %d err %x ", signal, info->si_code,
	     signal == SIGSEGV ? (unsigned long)info->si_addr : 0, place(g[REG_EIP]), g[REG_ESP], g[REG_TRAPNO],
	     g[REG_ERR]);
	siglongjmp(back, 1);
}

static void catch_faults(void)
{
	stack_t alternate = { .ss_sp = stack, .ss_size = sizeof(stack) };

	sigaltstack(&alternate, NULL);
	handle(SIGSEGV, on_fault, SA_ONSTACK | SA_NODEFER);
	handle(SIGBUS, on_fault, SA_ONSTACK | SA_NODEFER);
	handle(SIGILL, on_fault, SA_ONSTACK | SA_NODEFER);
	handle(SIGTRAP, on_fault, SA_ONSTACK | SA_NODEFER);
}

static void note_call(const char *what, struct call *c)
{
	note("%s: eax %x ebx %x ecx %x edx %x esi %x edi %x ebp %x flags %x ds %x es %x fs %x gs %x ss %x; ", what,
	     c->eax, c->ebx, c->ecx, c->edx, c->esi, c->edi, c->ebp, c->flags & FLAGS_KEPT, c->ds, c->es, c->fs, c->gs,
	     c->ss);
}

/* --- numbers -------------------------------------------------------------- */

static void numbers(void)
{
	static const long odd[] = { -1, -38, 470, 511, 512, 513, 1000, 0x7fffffff, 0x40000014, 0x3fffffff, 222, 223, 251 };

	for (unsigned int i = 0; i < sizeof(odd) / sizeof(*odd); i++) {
		/* by the mapped page and by the vDSO: a marked number is another's here */
		struct call c = CALL(odd[i], 1, 2, 3, 4, 5, 6);

		c.entry = mark ? stub_page + SYSENTER_STUB_CALL : (void *)getauxval(AT_SYSINFO);
		enter(&c);
		note("%lx: %ld ", odd[i], RESULT(c));
	}
}

static void every_number_without_effect(void)
{
	/* with arguments that no call can use; those that would still act are left out */
	static const unsigned char acts[512] = {
		[SYS_exit] = 1, [SYS_fork] = 1, [SYS_vfork] = 1, [SYS_pause] = 1, [SYS_exit_group] = 1, [SYS_sync] = 1,
		[SYS_sigreturn] = 1, [SYS_rt_sigreturn] = 1, [SYS_setsid] = 1, [SYS_munlockall] = 1, [SYS_vhangup] = 1,
		[SYS_alarm] = 1, [SYS_brk] = 1, [SYS_nice] = 1, [SYS_umask] = 1, [SYS_personality] = 1, [SYS_close_range] = 1,
		[SYS_getpid] = 1, [SYS_gettid] = 1, [SYS_set_tid_address] = 1, [SYS_getpgrp] = 1, [SYS_times] = 1,
		[SYS_clone] = 1, [SYS_clone3] = 1, [SYS_restart_syscall] = 1, [SYS_sigsuspend] = 1, [SYS_setpgid] = 1,
		[SYS_getpgid] = 1, [SYS_getsid] = 1, [SYS_sigprocmask] = 1, [SYS_ssetmask] = 1, [SYS_sgetmask] = 1,
		[SYS_shmget] = 1, [SYS_msgget] = 1, [SYS_semget] = 1, [SYS_inotify_init] = 1, [SYS_prctl] = 1,
	};
	for (long nr = 0; nr < 512; nr++)
		if (!acts[nr])
			note("%ld ", call(nr, -1, -1, -1, -1, -1, -1));
}

/* --- registers and flags ---------------------------------------------------- */

static void try_call(const char *what, long nr, long b, long c, long d, long s, long t, long p, uint32_t flags)
{
	struct call call = CALL(nr | mark, b, c, d, s, t, p);

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
	try_call("no such", 470, PATTERN, 0);
	try_call("yield", SYS_sched_yield, PATTERN, 0);
}

static void flags(void)
{
	static const uint32_t odd[] = { FLAG_DF, FLAG_NT, FLAG_AC, FLAG_ID, 0x8d5 };
	static char text[24];

	for (unsigned int i = 0; i < 5; i++)
		for (unsigned int j = i; j < 5; j++) {
			snprintf(text, sizeof(text), "%x", odd[i] | odd[j]);
			try_call(text, SYS_getuid32, PATTERN, odd[i] | odd[j]);
			try_call("slow", SYS_sigaltstack, PATTERN, odd[i] | odd[j]);
		}
	/* a copy in the kernel after DF, a fetch after AC */
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
		note("%s/%d%s ", place(g[REG_EIP]), info->si_code, g[REG_EFL] & FLAG_TF ? "T" : "");
}

static void single_step(void)
{
	handle(SIGTRAP, on_trap, 0);
	try_call("getuid", SYS_getuid32, PATTERN, FLAG_TF);
	try_call("slow", SYS_sigaltstack, PATTERN, FLAG_TF);
	try_call("mmap2", SYS_mmap2, 0, 0, 0, 0, 0, 0, FLAG_TF);
	try_call("odd", SYS_getuid32, PATTERN, FLAG_TF | FLAG_NT | FLAG_AC | FLAG_DF | FLAG_ID);
	try_call("none", 470, PATTERN, FLAG_TF);
	note("traps %d ", traps);
}

static void many_single_steps(void)
{
	struct call c = CALL(SYS_getuid32 | mark, 0, 0, 0, 0, 0, 0);

	handle(SIGTRAP, on_trap, 0);
	traps = 100;
	for (int i = 0; i < 300; i++) {
		c = (struct call)CALL(SYS_getuid32 | mark, 0, 0, 0, 0, 0, 0);
		c.flags |= FLAG_TF;
		enter(&c);
	}
	note("traps %d ", traps - 100);
}

/* The flag ID stays the caller's across sleeping, with another task that has it clear. */
static void flags_across_sleep(void)
{
	struct timespec brief = { 0, 2000000 };
	pid_t child = fork();

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
	pid_t child = fork();
	double x = 0;

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

static int set_ldt(unsigned int entry, unsigned int limit, int present)
{
	struct user_desc d = { .entry_number = entry, .base_addr = 0x1000, .limit = limit, .seg_32bit = 1,
			       .seg_not_present = !present, .useable = 1 };

	return syscall(SYS_modify_ldt, 1, &d, sizeof(d));
}

static void segments(void)
{
	static const uint16_t selectors[] = { 0, 1, 3, 7, 0x7b, 0x73, 0x0f };

	note("ldt %d %d ", set_ldt(0, 0xff, 1), set_ldt(1, 0xfffff, 1));
	for (unsigned int i = 0; i < sizeof(selectors) / sizeof(*selectors); i++)
		for (int which = 0; which < 5; which++) {
			struct call c = CALL(SYS_getuid32 | mark, 0x11223344, 0x55667788, 3, 4, 5, 6);

			if (which == 0 || which == 4)
				c.ds = selectors[i];
			if (which == 1 || which == 4)
				c.es = selectors[i];
			if (which == 2 || which == 4)
				c.fs = selectors[i];
			if (which == 3 || which == 4)
				c.gs = selectors[i];
			enter(&c);
			note("%x.%d: %x %x %x %x %x %x; ", selectors[i], which, c.eax, c.ds, c.es, c.fs, c.gs, c.ss);
		}
}

/* fs names an LDT entry that another thread takes away while we sleep inside. */
static int ldt_taker(void *unused)
{
	(void)unused;
	milliseconds(30);
	set_ldt(0, 0, 0);
	return 0;
}

static void fs_taken_away(void)
{
	struct timespec sleep = { 0, 120000000 };
	static char other[16384];
	struct call c;

	note("ldt %d ", set_ldt(0, 0xff, 1));
	if (clone(ldt_taker, other + sizeof(other), CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
		  CLONE_SYSVSEM, NULL) < 0)
		note("no thread ");
	c = (struct call)CALL(SYS_nanosleep | mark, (long)&sleep, 0, 0, 0, 0, 0);
	c.fs = 7;
	enter(&c);
	note("%ld fs %x gs %s ", RESULT(c), c.fs, c.gs == selector_gs() ? "kept" : "lost");
}

/* SYSENTER from a code segment of 16 bits: flat again after it. */
static void code_segment_16(void)
{
	static struct { uint32_t offset; uint16_t selector; } __attribute__((packed)) target = { 0, 7 };
	unsigned char *code = mmap((void *)0x10000, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	struct user_desc d = { .entry_number = 0, .base_addr = 0x10000, .limit = 0xfff, .contents = 2, .useable = 1 };
	long result;

	note("ldt %ld ", syscall(SYS_modify_ldt, 1, &d, sizeof(d)));
	code[0] = 0x0f;
	code[1] = 0x34;
	asm volatile("call 1f; jmp 2f\n"
		     "1: pushl %%ecx; pushl %%edx; pushl %%ebp; movl %%esp, %%ebp\n"
		     "ljmp *%1\n"
		     "2:\n" : "=a"(result) : "m"(target), "0"(SYS_getuid32 | mark), "c"(0), "d"(0), "b"(0) : "memory");
	note("%ld ", result);
}

/* --- the stack that ebp names -------------------------------------------------- */

static void bad_stack(uint32_t ebp, long nr)
{
	struct call c = CALL(nr | mark, 0, 0, 0, 0, 0, ebp);

	note("%lx/%ld: ", (unsigned long)ebp, nr);
	if (!sigsetjmp(back, 1))
		enter_raw(&c);
}

static void bad_ebp(void)
{
	static const uint32_t values[] = {
		0, 1, 4, 0xfff, 0xffffffff, 0xfffffffc, 0xfffffff0, 0xc0000000, 0xbfffffff, 0xbffffffc, 0xbffffffd,
		0xc1000000, 0xc0100000, 0xffffe000, 0x80000000, 0xf8000000, 0xff800000,
	};
	char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	catch_faults();
	for (unsigned int i = 0; i < sizeof(values) / sizeof(*values); i++) {
		bad_stack(values[i], SYS_getuid32);
		bad_stack(values[i], SYS_mmap2);
		bad_stack(values[i], SYS_sigaltstack);
		bad_stack(values[i], 470);
	}
	munmap(pages + 4096, 4096);
	for (int left = 0; left < 16; left += 2) {
		/* arg6, edx, ecx, return address: cut off by the end of the page */
		memset(pages + 4096 - 16, 0, 16);
		bad_stack((uintptr_t)pages + 4096 - left, SYS_getuid32);
		bad_stack((uintptr_t)pages + 4096 - left, SYS_mmap2);
	}
	mprotect(pages, 4096, PROT_NONE);
	bad_stack((uintptr_t)pages, SYS_mmap2);
	bad_stack((uintptr_t)pages, SYS_getuid32);
}

/* What a six-argument call answers when the sixth cannot be had; and is it made? */
static void on_fault_eax(int signal, siginfo_t *info, void *context)
{
	(void)info;
	note("signal %d eax %x ", signal, ((ucontext_t *)context)->uc_mcontext.gregs[REG_EAX]);
	siglongjmp(back, 1);
}

static void sixth_argument_unreadable(void)
{
	catch_faults();
	handle(SIGSEGV, on_fault_eax, SA_ONSTACK | SA_NODEFER);
	bad_stack(0, SYS_mmap2);
	bad_stack(0xc0000000, SYS_mmap2);
	bad_stack(0xbffffffd, SYS_mmap2);
	bad_stack(0xffffffff, SYS_futex);
}

static void sixth_argument_used(void)
{
	int file = open("/proc/self/exe", O_RDONLY);
	char head[4] = "";
	long page = call(SYS_mmap2, 0, 4096, PROT_READ, MAP_PRIVATE, file, 1);

	pread(file, head, 4, 4096);
	note("%s ", page > -4096 && page < 0 ? "failed" : memcmp((char *)page, head, 4) ? "wrong page" : "right page");
	note("%ld ", call(SYS_mmap2, 0, 4096, PROT_READ, MAP_PRIVATE, file, 0xfffff) > -4096 ? 1L : 0L);
	note("%ld ", call(SYS_mmap2, 0, 0, PROT_READ, MAP_PRIVATE, file, 0));
}

/* The stack's page comes in by a fault from inside the fetch: swapped out, or never touched. */
static void sixth_argument_faults_in(void)
{
	uint32_t *area = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	catch_faults();
	handle(SIGSEGV, on_fault_eax, SA_ONSTACK | SA_NODEFER);
	bad_stack((uintptr_t)area + 1024, SYS_mmap2);	/* all zero: returns to 0 */
	note("%x ", area[256]);
}

/* --- debug registers, by a tracer that is our parent ----------------------------- */

#define DEBUGREG(n) offsetof(struct user, u_debugreg[n])

/* DR7 for breakpoint 0. kind: 0 execute, 1 write, 3 access; size 4 for data. */
static void set_watch(pid_t child, uintptr_t address, int kind)
{
	if (ptrace(PTRACE_POKEUSER, child, DEBUGREG(0), address) ||
	    ptrace(PTRACE_POKEUSER, child, DEBUGREG(7), 1 | kind << 16 | (kind ? 3 << 18 : 0)))
		note("no watch: %d ", errno);
}

static uint32_t watched;

static void mov_ss_then_sysenter(void)
{
	uint16_t ss;
	long result;

	asm volatile("mov %%ss, %0" : "=r"(ss));
	watched = ss;
	asm volatile("call 1f; jmp 2f\n"
		     "1: pushl %%ecx; pushl %%edx; pushl %%ebp; movl %%esp, %%ebp\n"
		     "mov %1, %%ss; sysenter\n"
		     "2:\n" : "=a"(result) : "m"(watched), "0"(SYS_getuid32 | mark), "c"(0), "d"(0), "b"(0) : "memory");
	note("%ld ", result);
}

static void under_watch(void (*body)(void), uintptr_t address, int kind)
{
	int status, rounds = 0;
	struct user_regs_struct r;
	pid_t child = fork();

	if (!child) {
		ptrace(PTRACE_TRACEME);
		raise(SIGSTOP);
		body();
		_exit(0);
	}
	waitpid(child, &status, 0);
	set_watch(child, address, kind);
	for (;;) {
		ptrace(PTRACE_CONT, child, 0, 0);
		if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status) || rounds++ > 50)
			break;
		ptrace(PTRACE_GETREGS, child, 0, &r);
		/* at the landing pad: what the entry leaves in registers */
		if ((r.eax & ~MARK) < SYSENTER_NR)
			r.eax &= ~MARK;
		/* ebp is the user stack's on the fast path, the 6th argument's on stock: popped next */
		note("stop %d at %s dr6 %lx eax %lx ecx-esp %s edx %s ebp %s fs %lx orig %ld; ", WSTOPSIG(status),
		     place(r.eip), ptrace(PTRACE_PEEKUSER, child, DEBUGREG(6), 0) & 0xf, r.eax,
		     r.ecx == r.esp ? "0" : "x", place(r.edx), place(r.ebp), r.xfs & 0xffff, r.orig_eax);
	}
	note_status(status);
	kill(child, SIGKILL);
}

static void one_getuid(void)
{
	call(SYS_getuid32);
	call(SYS_uname, 0);
}

static void watch_landing_pad(void)
{
	static const unsigned char pad[] = { 0xcd, 0x80, 0x5d, 0x5a, 0x59, 0xc3 };
	char *vdso = (char *)getauxval(AT_SYSINFO_EHDR), *at = memmem(vdso, 4096, pad, sizeof(pad));

	under_watch(one_getuid, (uintptr_t)at + 2, 0);
}

static void watch_sysenter(void)
{
	under_watch(one_getuid, (uintptr_t)raw_stub_sysenter, 0);
}

static void read_watched(void)
{
	call(SYS_getresuid32, &watched, &watched, &watched);
	call(SYS_getuid32);
}

static void watch_kernel_write(void)
{
	under_watch(read_watched, (uintptr_t)&watched, 1);
}

static void watch_mov_ss(void)
{
	under_watch(mov_ss_then_sysenter, (uintptr_t)&watched, 3);
}

static uint32_t own_stack[64];

static void six_on_own_stack(void)
{
	struct call c = CALL(SYS_mmap2 | mark, 0, 0, 0, 0, 0, (uintptr_t)&own_stack[32]);

	/* returns by the pad into raw_stub's ud2, which ends this process */
	own_stack[35] = (uintptr_t)raw_stub_sysenter + 2;
	enter_raw(&c);
}

static void watch_sixth_argument(void)
{
	under_watch(six_on_own_stack, (uintptr_t)&own_stack[32], 3);
}

/* --- the stub page ----------------------------------------------------------------- */

static void stub_is_read_only(void)
{
	int device = open("/dev/sysenter", O_RDONLY), memory;
	char before[64], byte = 0x90;
	long off;

	if (!mark)
		goto same;	/* the page has no counterpart; what it must say is said here */
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
	if (memcmp(before, stub_page, sizeof(before)))
		note("changed ");
	return;
same:
	note("refused refused refused refused refused refused refused refused ");
}

/* A page that a pipe holds outlives the mapping; a page that was dropped faults as SIGBUS. */
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

static const struct hazard cases[] = {
	{ "number out of range", "numbers", numbers, 0 },
	{ "every number", "every_number_without_effect", every_number_without_effect, 0 },
	{ "kernel values left in registers", "registers", registers, 0 },
	{ "NT AC DF ID, singly and in pairs", "flags", flags, 0 },
	{ "TF at SYSENTER", "single_step", single_step, 0 },
	{ "TF at SYSENTER", "many_single_steps", many_single_steps, 0 },
	{ "flags of another task", "flags_across_sleep", flags_across_sleep, 0 },
	{ "FPU state of another task", "fpu_across_sleep", fpu_across_sleep, 0 },
	{ "null and LDT selectors", "segments", segments, 0 },
	{ "LDT entry gone while inside", "fs_taken_away", fs_taken_away, 0 },
	{ "16-bit code segment", "code_segment_16", code_segment_16, 0 },
	{ "bad ebp", "bad_ebp", bad_ebp, 0 },
	{ "bad ebp", "sixth_argument_unreadable", sixth_argument_unreadable, 0 },
	{ "sixth argument", "sixth_argument_used", sixth_argument_used, 0 },
	{ "sixth argument", "sixth_argument_faults_in", sixth_argument_faults_in, 0 },
	{ "breakpoint at the landing pad", "watch_landing_pad", watch_landing_pad, 0 },
	{ "breakpoint at SYSENTER", "watch_sysenter", watch_sysenter, 0 },
	{ "watchpoint that the kernel hits", "watch_kernel_write", watch_kernel_write, 0 },
	{ "watchpoint that the entry hits", "watch_sixth_argument", watch_sixth_argument, 0 },
	{ "MOV SS, then SYSENTER", "watch_mov_ss", watch_mov_ss, 0 },
	{ "writing to the stub", "stub_is_read_only", stub_is_read_only, 0 },
	{ "stub page pinned, dropped", "stub_is_pinned_and_dropped", stub_is_pinned_and_dropped, 0 },
};

int main(int argc, char **argv)
{
	return RUN_HAZARDS(cases, argc, argv);
}
