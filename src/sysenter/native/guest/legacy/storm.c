/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * storm SECONDS: processes that attack the fast entry in many ways at once. Each checks the
 * results that it gets. At the end it prints how much was done, and how many results were
 * wrong.
 */
#include "sys.h"

struct tally { u32 done, wrong; };

static u64 deadline;
static int report_to;

static int time_left(void)
{
	return microseconds() < deadline;
}

static void finish(u32 done, u32 wrong)
{
	struct tally t = { done, wrong };

	int80(NR_write, report_to, (long)&t, sizeof(t));
	int80(NR_exit, 0, 0, 0);
}

static void ignore(int sig)
{
}

static void signals_every(int ms)
{
	long timer[4] = { 0, ms * 1000, 0, ms * 1000 };

	on_signal(SIGALRM, ignore, SA_RESTART);
	int80(NR_setitimer, 0, (long)timer, 0);
}

/* Short calls, under signals. */
static void caller(void)
{
	long parent = int80(NR_getppid, 0, 0, 0), self;
	u32 done = 0, wrong = 0, i;

	self = int80(NR_getpid, 0, 0, 0);
	signals_every(10);
	while (time_left())
		for (i = 0; i < 1000; i++, done++) {
			wrong += fast(NR_getppid, 0, 0, 0) != parent;
			wrong += fast(NR_getpid, 0, 0, 0) != self;
			wrong += fast(NR_close, -1, 0, 0) != -9;
		}
	finish(done, wrong);
}

/* Calls that sleep and that signals restart: bytes through two pipes. */
static void piper(void)
{
	u32 done = 0, wrong = 0;
	int to[2], fro[2], pid;
	unsigned char out, in;

	int80(NR_pipe, (long)to, 0, 0);
	int80(NR_pipe, (long)fro, 0, 0);
	pid = forked();
	if (pid == 0) {
		signals_every(20);
		int80(NR_close, to[1], 0, 0);
		while (fast(NR_read, to[0], (long)&in, 1) == 1)
			if (fast(NR_write, fro[1], (long)&in, 1) != 1)
				int80(NR_exit, 1, 0, 0);
		int80(NR_exit, 0, 0, 0);
	}
	signals_every(10);
	while (time_left()) {
		out = done++;
		in = ~out;
		wrong += fast(NR_write, to[1], (long)&out, 1) != 1;
		wrong += fast(NR_read, fro[0], (long)&in, 1) != 1;
		wrong += in != out;
	}
	int80(NR_close, to[1], 0, 0);
	wrong += wait_for(pid) != 0;
	finish(done, wrong);
}

/* Make and end processes by fast calls. */
static void forker(void)
{
	char *argv[] = { "/init", "exit", "9", 0 }, *none[] = { 0 };
	u32 done = 0, wrong = 0;

	while (time_left()) {
		long pid = fast(NR_fork, 0, 0, 0);

		if (pid == 0) {
			if (done & 1)
				fast(NR_exit, 9, 0, 0);
			fast(NR_execve, (long)argv[0], (long)argv, (long)none);
			int80(NR_exit, 1, 0, 0);
		}
		wrong += pid <= 0 || EXITED(wait_for(pid)) != 9;
		done++;
	}
	finish(done, wrong);
}

/* A tracer and its child: system calls and single steps by turns. */
static void tracer(void)
{
	u32 done = 0, wrong = 0;

	while (time_left()) {
		int pid = forked(), status, n = 0;

		if (pid == 0) {
			int80_5(NR_ptrace, 0, 0, 0, 0, 0);
			int80(NR_kill, int80(NR_getpid, 0, 0, 0), SIGSTOP, 0);
			fast(NR_getppid, 0, 0, 0);
			fast(NR_getpid, 0, 0, 0);
			int80(NR_exit, 6, 0, 0);
		}
		while (STOPPED(status = wait_for(pid)))
			int80_5(NR_ptrace, n++ % 3 ? 9 : 24, pid, 1, 0, 0);
		wrong += EXITED(status) != 6;
		done++;
	}
	finish(done, wrong);
}

/* All hostile cases that end quickly, except `tf`. After a hit of `watcher` the kernel leaves
   the watchpoint's bit in DR6. It then takes other tasks' single steps for such hits and drops
   them, with int $0x80 too. */
static void hostiles(void)
{
	static char *argv[] = { "hostile", "quiet", "numbers", "registers",
		"flags", "iopl", "ebp-0", "ebp-unmapped", "ebp-kernel",
		"fresh-stack", "segments", "ldt-data",
		"call-in-handler", "execve",
#ifndef BY_INT80			/* these use the fast entry's own convention */
		"argument-unmapped", "code-16bit", "vm86",
#endif
		0 };
	u32 done = 0, wrong = 0;
	int argc = sizeof(argv) / sizeof(*argv) - 1;

	while (time_left()) {
		wrong -= hostile(argc, argv);
		done++;
	}
	finish(done, wrong);
}

/* Calls with random registers. The child may end in any way. */
static void monkeys(void)
{
	u32 done = 0, seed = 12345, r[8], i;

	while (time_left()) {
		int pid;

		for (i = 0; i < 8; i++)
			r[i] = seed = seed * 1664525 + 1013904223;
		/* Leave out calls that end the machine or have effects after the child's end. */
		r[0] = r[0] >> 24;
		if (r[0] == NR_reboot || r[0] == NR_fork || r[0] == NR_vfork
		    || r[0] == NR_clone || r[0] == NR_kill
		    || r[0] == NR_delete_module)
			continue;
		if (r[6] & 1)
			r[7] &= 0x3fffffff;
#ifdef BY_INT80
		/* With such a stack only numbers of no call: the other processes must not be
		   hit by stime and its like. */
		r[0] |= 0x1000;
#endif
		pid = forked();
		if (pid == 0) {
			int80(NR_alarm, 1, 0, 0);
			for (i = 0; i < 3; i++)
				int80(NR_close, i, 0, 0);
			__asm__ volatile(
				"pushl %6\n\tpopfl\n\tmovl %7,%%ebp\n\t" ENTER
				: : "a" (r[0]), "b" (r[1]), "c" (r[2]),
				"d" (r[3]), "S" (r[4]), "D" (r[5]),
				"m" ((u32){ r[6] & 0x00244fd5 }), "m" (r[7]));
			int80(NR_exit, 0, 0, 0);
		}
		if (pid > 0)
			wait_for(pid);
		done++;
	}
	finish(done, 0);
}

/* The state that the processor keeps of a task besides its registers. Two tasks have different
   contents of each. First the FPU's, which the kernel restores when CR0.TS says so... */
static void counter(void)
{
	u32 done = 0, wrong = 0;
	int mine = int80(NR_getpid, 0, 0, 0), in, out;

	while (time_left())
		for (in = mine; in < mine + 100000; in += 1000, done++) {
			__asm__ volatile("fildl %0" : : "m" (in));
			if (done & 1)
				fast(NR_sched_yield, 0, 0, 0);
			fast(NR_getppid, 0, 0, 0);
			__asm__ volatile("fistpl %0" : "=m" (out));
			wrong += out != in;
		}
	finish(done, wrong);
}

/* ... then a segment of the LDT ... */
static void segment(void)
{
	static u32 mine;
	struct ldt_entry e = { 1, (u32)&mine, 3, LDT_32BIT | LDT_USEABLE };
	u32 done = 0, wrong = 0, selector, there, i;

	/* A selector that differs from task to task. */
	e.number += int80(NR_getpid, 0, 0, 0) & 3;
	selector = e.number << 3 | 7;
	mine = selector ^ 0x5a5a0000;
	wrong += int80(NR_modify_ldt, 1, (long)&e, sizeof(e)) != 0;
	__asm__ volatile("movl %0,%%gs" : : "r" (selector));
	while (time_left())
		for (i = 0; i < 100; i++, done++) {
			if (done & 1)
				fast(NR_sched_yield, 0, 0, 0);
			fast(NR_getppid, 0, 0, 0);
			__asm__ volatile("movl %%gs:0,%0" : "=r" (there));
			wrong += there != mine;
		}
	finish(done, wrong);
}

/* ... and a watchpoint, by the enable bit that gdb uses. Each write must be seen. */
static void watcher(void)
{
	static u32 word;
	u32 done = 0;
	int pid = forked(), status;

	if (pid == 0) {
		volatile u32 spin;

		int80_5(NR_ptrace, 0, 0, 0, 0, 0);
		int80(NR_kill, int80(NR_getpid, 0, 0, 0), SIGSTOP, 0);
		do {
			for (spin = 0; spin < 100000; spin++)
				;
			word++;
		} while (time_left());
		int80(NR_exit, word & 0xff, 0, 0);
	}
	wait_for(pid);
	int80_5(NR_ptrace, 6, pid, 63 * 4, (long)&word, 0);	/* u_debugreg[0] */
	int80_5(NR_ptrace, 6, pid, 70 * 4, 0x000d0001, 0);	/* write, 4, L0 */
	int80_5(NR_ptrace, 7, pid, 0, 0, 0);
	while (STOPPED(status = wait_for(pid))) {
		done += STOPSIG(status) == SIGTRAP;
		int80_5(NR_ptrace, 7, pid, 0, 0, 0);
	}
	finish(done, EXITED(status) != (int)(done & 0xff));
}

/* Report every ten seconds of the guest's time. Without that, a slow host and a guest that
   hangs look the same. */
static void ticker(void)
{
	u32 seconds = 0;

	while (time_left()) {
		sleep_ms(10000);
		say("{\"event\": \"storm-time\", \"seconds\": %d}",
		    (long)(seconds += 10));
	}
	int80(NR_exit, 0, 0, 0);
}

static const struct { const char *name; void (*run)(void); } workers[] = {
	{ "caller", caller }, { "caller", caller }, { "piper", piper },
	{ "forker", forker }, { "tracer", tracer }, { "hostiles", hostiles },
	{ "monkeys", monkeys }, { "counter", counter }, { "counter", counter },
	{ "segment", segment }, { "segment", segment }, { "watcher", watcher },
};
#define WORKERS (int)(sizeof(workers) / sizeof(*workers))

int storm(int argc, char **argv)
{
	int pids[WORKERS], ends[WORKERS][2], i, clock, wrong = 0;
	struct tally t;

	if (argc != 2)
		return -EINVAL;
	deadline = microseconds() + (u64)number(argv[1]) * 1000000;
	for (i = 0; i < WORKERS; i++) {
		int80(NR_pipe, (long)ends[i], 0, 0);
		report_to = ends[i][1];
		if ((pids[i] = forked()) == 0)
			workers[i].run();
	}
	if ((clock = forked()) == 0)
		ticker();
	for (i = 0; i < WORKERS; i++) {
		int status = wait_for(pids[i]);

		t.done = 0;
		t.wrong = 1;
		if (status == 0)
			int80(NR_read, ends[i][0], (long)&t, sizeof(t));
		int80(NR_close, ends[i][0], 0, 0);
		int80(NR_close, ends[i][1], 0, 0);
		say("{\"event\": \"storm\", \"worker\": \"%s\", \"done\": %d, "
		    "\"wrong\": %d, \"status\": %d}", workers[i].name,
		    (long)t.done, (long)t.wrong, (long)status);
		wrong += t.wrong;
	}
	wait_for(clock);
	return -wrong;
}
