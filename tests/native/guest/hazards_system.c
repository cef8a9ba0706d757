// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the rest of the kernel does to a task inside a fast call: it shows the task to others,
 * dumps its core, takes its stub or its process away, moves it to another CPU, allows or forbids
 * it an instruction.
 */
#include "hazards_faults.h"
#include <link.h>
#include <linux/futex.h>
#include <sys/procfs.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/uio.h>

static char *file_of(pid_t pid, const char *name)
{
	static char text[8192];
	char path[64];
	ssize_t size;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	fd = open(path, O_RDONLY);
	size = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
	close(fd);
	text[size > 0 ? size : 0] = 0;
	return text;
}

/* --- what others are shown of it ------------------------------------------------- */

static void proc_shows_call(void)
{
	unsigned long nr = 0, v[8] = { 0 };
	pid_t child = asleep_in_read();
	int found = sscanf(file_of(child, "syscall"), "%lu %lx %lx %lx %lx %lx %lx %lx %lx", &nr, &v[0], &v[1], &v[2], &v[3],
			   &v[4], &v[5], &v[6], &v[7]);

	note("%d: nr %lu fd %d length %lu at %s ", found, nr, v[0] == (unsigned long)pipes[0], v[2], place(v[7]));
	for (int i = 0; i < 7; i++)	/* the others are the caller's, from this call or an earlier one */
		if (v[i] >= KERNEL_ADDRESS && v[i] < -4096ul)
			note("%d: %lx ", i, v[i]);
	note("in %s ", file_of(child, "wchan"));
	wake(child);
}

static void proc_shows_stack(void)
{
	pid_t child = asleep_in_read();
	char *stack = file_of(child, "stack");

	note("pipe_read %d ", !!strstr(stack, "pipe_read"));
	note("vfs_read %d ", !!strstr(stack, "vfs_read"));
	wake(child);
}

static void other_reads_and_writes_it(void)
{
	static char text[8] = "before", seen[8];
	struct iovec here = { seen, 7 }, there = { text, 7 };
	pid_t child;

	if (pipe(pipes))
		return;
	child = fork();
	if (!child) {
		long got = call(SYS_read, pipes[0], text + 6, 1);

		note("%ld %s ", got, text);
		_exit(0);
	}
	wait_asleep(child, "S");
	note("%ld ", call(SYS_process_vm_readv, child, &here, 1, &there, 1, 0));
	note("%s ", seen);
	memcpy(seen, "behind", 6);
	note("%ld ", call(SYS_process_vm_writev, child, &here, 1, &there, 1, 0));
	wake(child);
}

/* The registers in the core of a task that was killed while it slept inside. */
static void core_dump(void)
{
	static char core[1 << 16];
	struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };
	ElfW(Ehdr) *head = (void *)core;
	ElfW(Phdr) *program;
	pid_t child;
	int fd;

	setrlimit(RLIMIT_CORE, &limit);
	if (chdir("/tmp"))
		return;
	child = asleep_in_read();
	kill(child, SIGQUIT);
	note_child(child);
	fd = open("core", O_RDONLY);
	note("%s ", read(fd, core, sizeof(core)) > 4096 && !memcmp(core, ELFMAG, SELFMAG) ? "core" : "no core");
	close(fd);
	unlink("core");
	program = (void *)(core + head->e_phoff);
	for (int i = 0; i < head->e_phnum; i++) {
		ElfW(Nhdr) *found = (void *)(core + program[i].p_offset);
		struct elf_prstatus *status = (void *)((char *)(found + 1) + 8);
		struct user_regs_struct r;

		if (program[i].p_type != PT_NOTE || found->n_type != NT_PRSTATUS)
			continue;
		memcpy(&r, &status->pr_reg, sizeof(r));
		note("signal %d ", status->pr_cursig);
		note_user_briefly(&r);
		note("at %s flags %lx ", place(r.user_ip), (unsigned long)r.eflags & FLAGS_KEPT);
		return;
	}
	note("no registers ");
}

/* --- what is taken away from under it ---------------------------------------------- */

/* On stock, use a stub of our own, in a page that can be taken away like the module's. */
static void *entry_in_a_page(void)
{
#ifdef __x86_64__
	static const unsigned char code[] = { 0x0f, 0x05, 0xc3 };	/* syscall; ret */
#else
	static const unsigned char code[] = { 0x51, 0x52, 0x55, 0x89, 0xe5, 0x0f, 0x34 };	/* as in raw_stub */
#endif
	void *page;

	if (mark)
		return stub_page + SYSENTER_STUB_CALL;
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memcpy(page, code, sizeof(code));
	return page;
}

static void take_away(void *page, int how)
{
	int failed;

	page = (void *)((uintptr_t)page & -4096);
	if (how == 0)
		failed = munmap(page, 4096);
	else if (how == 1)
		failed = mprotect(page, 4096, PROT_NONE);
	else if (how == 2)
		failed = mprotect(page, 4096, PROT_READ);
	else
		failed = mremap(page, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED,
				mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) == MAP_FAILED;
	if (failed)
		note("not taken away: %d ", errno);
}

static long call_in(void *entry, long nr, long fd, void *buffer, long length)
{
	struct call c = UNMARKED_CALL(nr, fd, buffer, length, 0, 0, 0);

	c.entry = entry;
	enter(&c);
	return c.nr;
}

static int calls_for_ever(void *entry)
{
	for (;;)
		call_in(entry, SYS_getuid32, 0, NULL, 0);
	return 0;
}

static void stub_goes_under_callers(void)
{
	for (int how = 0; how < 4; how++) {
		pid_t child = fork();

		if (!child) {
			void *entry = entry_in_a_page();

			clone(calls_for_ever, stack_for_thread(0), THREAD_FLAGS, entry);
			milliseconds(20);
			take_away(entry, how);
			milliseconds(3000);
			_exit(0);
		}
		note_child(child);
	}
}

static void *entry_to_lose;

static int loses_entry(void *how)
{
	wait_asleep(getpid(), "S");
	take_away(entry_to_lose, (int)(intptr_t)how);
	if (write(pipes[1], "x", 1) != 1)
		note("no write ");
	for (;;)
		pause();
	return 0;
}

static void stub_goes_under_sleeper(void)
{
	for (int how = 0; how < 4; how++) {
		pid_t child = fork();

		if (!child) {
			char byte;

			if (pipe(pipes))
				_exit(99);
			entry_to_lose = entry_in_a_page();
			clone(loses_entry, stack_for_thread(0), THREAD_FLAGS, (void *)(intptr_t)how);
			note("read %ld ", call_in(entry_to_lose, SYS_read, pipes[0], &byte, 1));
			_exit(3);
		}
		note_child(child);
	}
}

static uint32_t never;

static int sleeps_for_ever(void *how)
{
	struct timespec year = { 31536000, 0 };
	char byte;

	switch ((intptr_t)how) {
	case 0: call(SYS_read, pipes[0], &byte, 1); break;
	case 1: call(SYS_futex, &never, FUTEX_WAIT, 0, 0); break;
	case 2: call(SYS_nanosleep, &year, 0); break;
	default:
		for (;;)
			call(SYS_getuid32);
	}
	return 0;
}

/* Another thread ends or replaces the process while threads sleep inside, and one calls. */
static void ends_with_sleepers(void)
{
	static char *arguments[] = { "busybox", "true", NULL }, *none[] = { NULL };

	for (int how = 0; how < 3; how++) {
		pid_t child = fork();

		if (!child) {
			if (pipe(pipes))
				_exit(99);
			for (intptr_t i = 0; i < 4; i++)
				clone(sleeps_for_ever, stack_for_thread(i), THREAD_FLAGS, (void *)i);
			milliseconds(30);
			if (how == 0)
				call(SYS_execve, "/bin/busybox", arguments, none);
			else if (how == 1)
				call(SYS_exit_group, 7);
			else
				call(SYS_kill, getpid(), SIGKILL);
		}
		note_child(child);
	}
}

/* --- instructions that a task may have, or not ------------------------------------- */

/* The entry reads the time-stamp counter, with CR4.TSD set. */
static void rdtsc_forbidden(void)
{
	long wrong = 0, uid = call(SYS_getuid32);
	pid_t child;

	note("%ld ", call(SYS_prctl, PR_SET_TSC, PR_TSC_SIGSEGV));
	for (int i = 0; i < 1000; i++)
		wrong += call(i & 127 ? SYS_getuid32 : SYS_sched_yield) != (i & 127 ? uid : 0);
	note("wrong %ld ", wrong);
	child = fork();
	if (!child)
		_exit(__builtin_ia32_rdtsc() != 0);
	note_child(child);
}

static void out_80(void)
{
	asm volatile("outb %%al, $0x80" : : "a"(0));
}

static void tries_out_80(void)
{
	pid_t child = fork();

	if (!child) {
		out_80();
		_exit(0);
	}
	note_child(child);
}

/* Exit work of the call itself allows and forbids I/O ports; also after a sleep. */
static void io_ports(void)
{
	struct timespec brief = { 0, 3000000 };

	tries_out_80();
	for (int i = 0; i < 20; i++) {
		note("%ld ", call(SYS_ioperm, 0x80, 1, 1));
		out_80();
		call(i & 1 ? SYS_nanosleep : SYS_sched_yield, &brief, 0);
		out_80();
		if (i & 4)
			tries_out_80();		/* a child gets a copy of them, and takes the bitmap from us */
		out_80();
		note("%ld ", call(SYS_ioperm, 0x80, 1, 0));
		if (i & 8)
			tries_out_80();
	}
	note("%ld ", call(SYS_iopl, 3));
	call(SYS_nanosleep, &brief, 0);
	out_80();
	note("%ld ", call(SYS_iopl, 0));
	tries_out_80();
}

/* --- scheduling ---------------------------------------------------------------------- */

/* The CPU number that the kernel keeps for user code (rseq) is right as soon as a call returns. */
static void rseq_after_migration(void)
{
	volatile struct rseq *area = (void *)((char *)__builtin_thread_pointer() + __rseq_offset);
	unsigned long all = 0, one;
	long wrong = 0, moves = 0;
	pid_t child, parent = getpid();
	int taken[2];
	char cpu_now;

	note("%s ", __rseq_size ? "registered" : "none");
	call(SYS_sched_getaffinity, 0, sizeof(all), &all);
	for (int i = 0; i < 200; i++) {
		int cpu = i % (8 * sizeof(all));

		one = 1ul << cpu;
		if (!(all & one))
			continue;
		wrong += call(SYS_sched_setaffinity, 0, sizeof(one), &one) != 0;
		wrong += area->cpu_id != (uint32_t)cpu;
		moves++;
	}
	/*
	 * Another process moves the task while it sleeps, but not before it has read the last
	 * byte. A task that was woken is in state S once more while it reads, and may lose the
	 * CPU just then.
	 */
	if (pipe(pipes) || pipe(taken))
		return;
	child = fork();
	if (!child)
		for (int i = 0; ; i++) {
			one = 1ul << i % (8 * sizeof(all));
			if (!(all & one))
				continue;
			if (read(taken[0], &cpu_now, 1) != 1)
				note("not taken ");
			cpu_now = i % (8 * sizeof(all));
			wait_asleep(parent, "S");
			if (sched_setaffinity(parent, sizeof(one), (cpu_set_t *)&one) || write(pipes[1], &cpu_now, 1) != 1)
				note("not moved ");
		}
	for (int i = 0; i < 10; i++) {
		wrong += write(taken[1], "x", 1) != 1;
		wrong += call(SYS_read, pipes[0], &cpu_now, 1) != 1;
		wrong += area->cpu_id != (uint32_t)cpu_now;
	}
	kill(child, SIGKILL);
	note("moves %d wrong %ld ", moves > 2, wrong);
}

static volatile int ticks;

static void on_tick(int signal, siginfo_t *info, void *context)
{
	(void)signal, (void)info, (void)context;
	ticks++;
}

/* Timers of CPU time expire although the task makes nothing but fast calls. */
static void cpu_timers(void)
{
	static const int kinds[] = { ITIMER_VIRTUAL, ITIMER_PROF }, signals[] = { SIGVTALRM, SIGPROF };

	for (int i = 0; i < 2; i++) {
		struct itimerval often = { { 0, 4000 }, { 0, 4000 } }, off = { 0 };
		long wrong = 0, pid = getpid();
		time_t end = time(NULL) + 8;

		ticks = 0;
		handle(signals[i], on_tick, SA_RESTART);
		note("%ld ", call(SYS_setitimer, kinds[i], &often, 0));
		while (ticks < 5 && time(NULL) < end)
			for (int j = 0; j < 1000; j++)
				wrong += call(SYS_getpid) != pid;
		setitimer(kinds[i], &off, NULL);
		note("%s wrong %ld ", ticks >= 5 ? "expired" : "late", wrong);
	}
}

HAZARDS(
	{ "shown in /proc/PID/syscall, wchan", "proc_shows_call", proc_shows_call, 0 },
	{ "shown in /proc/PID/stack", "proc_shows_stack", proc_shows_stack, 1 },
	{ "its memory read and written by another", "other_reads_and_writes_it", other_reads_and_writes_it, 0 },
	{ "core dump from inside", "core_dump", core_dump, 1 },
	{ "stub's page taken away", "stub_goes_under_callers", stub_goes_under_callers, 0 },
	{ "stub's page taken away", "stub_goes_under_sleeper", stub_goes_under_sleeper, 0 },
	{ "exec, exit, SIGKILL with threads inside", "ends_with_sleepers", ends_with_sleepers, 0 },
	{ "RDTSC forbidden", "rdtsc_forbidden", rdtsc_forbidden, 0 },
	{ "I/O ports", "io_ports", io_ports, 1 },
	{ "rseq: the CPU's number", "rseq_after_migration", rseq_after_migration, 0 },
	{ "timers of CPU time", "cpu_timers", cpu_timers, 0 }
)
