// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Single-steps each call and compares what it executes with the guest's trace. This proves that
 * what is timed is the kernel's path.
 *
 * Each call has a process of its own, which begins in the state of the snapshot, so a call that
 * goes wrong spoils no other. The path must not see the trap flag: a SIGTRAP handler takes it out
 * of what PUSHF has pushed, and puts it into what POPF is about to load.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>
#include "replay.h"

#ifdef __x86_64__
#define R(name)	REG_R##name
#else
#define R(name)	REG_E##name
#endif
#define TRAP_FLAG	0x100ul
/*
 * The path of a call may depend on its random stack offset, which decides how a buffer is aligned;
 * and a virtual machine may lose a single-step trap. So one of this many calls must be the guest's.
 */
#define ATTEMPTS	16
#define PUSHF		0x9c
#define POPF		0x9d

/* The child that steps writes this. */
static struct stepped {
	int nsteps, signal, done, attempt, same_code;
	long result;
	unsigned long at, address;
	unsigned long steps[STEPS];
} *stepped;

static unsigned long last_pc;

extern char __executable_start[], _end[];

/* Is this an address in the kernel's code, and not in ours or the C library's? */
static int kernels(unsigned long pc)
{
#ifdef __x86_64__
	return pc >= 0x1000000 && (pc < 0x10000000 || pc >= 0x40000000) && pc < 0x80000000;
#else
	return pc >= 0xc0000000;
#endif
}

static void on_trap(int signal, siginfo_t *info, void *context)
{
	greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
	unsigned long pc = (unsigned long)r[R(IP)], *top = (unsigned long *)r[R(SP)];

	(void)signal, (void)info;
	if (last_pc && *(uint8_t *)last_pc == PUSHF)
		*top &= ~TRAP_FLAG;
	if (kernels(pc) && *(uint8_t *)pc == POPF)
		*top |= TRAP_FLAG;
	last_pc = kernels(pc) ? pc : 0;
	if (kernels(pc)) {
		if (stepped->nsteps < STEPS)
			stepped->steps[stepped->nsteps++] = pc;
		else
			_exit(1);
	}
}

static void on_fault(int signal, siginfo_t *info, void *context)
{
	greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;

	if (stepped) {
		stepped->signal = signal;
		stepped->at = (unsigned long)r[R(IP)];
		stepped->address = (unsigned long)info->si_addr;
		_exit(1);
	}
	fprintf(stderr, "replay: signal %d at %lx, address %lx, while it was timed (a bug: report it)\n", signal,
		(unsigned long)r[R(IP)], (unsigned long)info->si_addr);
	_exit(2);
}

void catch_faults(void)
{
	static char stack[65536];
	stack_t alternate = { .ss_sp = stack, .ss_size = sizeof stack };
	struct sigaction action = { .sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_ONSTACK };

	sigaltstack(&alternate, NULL);
	sigaction(SIGTRAP, &action, NULL);
	action.sa_sigaction = on_fault;
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGILL, &action, NULL);
	sigaction(SIGFPE, &action, NULL);
}

static inline __attribute__((always_inline)) void set_trap_flag(unsigned long flag)
{
#ifdef __x86_64__
	asm volatile("pushfq; andq $~0x100, (%%rsp); orq %0, (%%rsp); popfq" : : "r"(flag) : "memory", "cc");
#else
	asm volatile("pushfl; andl $~0x100, (%%esp); orl %0, (%%esp); popfl" : : "r"(flag) : "memory", "cc");
#endif
}

/* How many steps were the same as the guest's; -1 if there were more of them. */
static int same_steps(const struct call *call)
{
	int n = 0;

	while (n < stepped->nsteps && n < call->traced && stepped->steps[n] == call->trace[n])
		n++;
	return n == call->traced && n < stepped->nsteps ? -1 : n;
}

/* Are the executed instructions, byte for byte, those of the plan? */
static int same_code(const struct call *call)
{
	static uint8_t bytes[16 * STEPS];
	char hex[65];
	size_t n = 0;

	for (int i = 0; i < call->traced; i++) {
		int length = call->lengths[i] <= '9' ? call->lengths[i] - '0' : call->lengths[i] - 'a' + 10;

		memcpy(bytes + n, (void *)call->trace[i], (size_t)length & 15);
		n += (size_t)length & 15;
	}
	sha256_hex(bytes, n, hex);
	return !strcmp(hex, call->code);
}

static void child(const struct call *call)
{
	const struct rlimit seconds = { 2, 2 }, none = { 0, 0 };

	/* of processor time: a path that has gone wrong may never end */
	setrlimit(RLIMIT_CPU, &seconds);
	setrlimit(RLIMIT_CORE, &none);
	catch_faults();
	map_bundle();
	prepare(call);
	run_call(call, 5);	/* let the state that the path keeps from call to call settle */
	for (stepped->attempt = 1; stepped->attempt <= ATTEMPTS; stepped->attempt++) {
		stepped->done = stepped->nsteps = 0;
		last_pc = 0;
		set_trap_flag(TRAP_FLAG);
		stepped->result = run_call(call, 1);
		set_trap_flag(0);
		stepped->done = 1;
		if (!call->trace || same_steps(call) == call->traced)
			break;
	}
	stepped->same_code = !call->lengths || same_steps(call) != call->traced || same_code(call);
	_exit(0);
}

/* What differed from the guest; "" if nothing. */
static void why_not(const struct call *call, int status, char *text, size_t size)
{
	int n = call->trace ? same_steps(call) : 0;

	*text = 0;
	if (stepped->signal)
		snprintf(text, size, "signal %d at %lx, address %lx", stepped->signal, stepped->at, stepped->address);
	else if (!stepped->done)
		snprintf(text, size, "it ended with status %x", status);
	else if (call->trace && n < 0)
		snprintf(text, size, "%d instructions more than the guest", stepped->nsteps - call->traced);
	else if (call->trace && n != call->traced)
		snprintf(text, size, "other instructions from %d on: %lx, guest %lx", n,
			 n < stepped->nsteps ? stepped->steps[n] : 0, call->trace[n]);
	else if (!stepped->same_code)
		snprintf(text, size, "other instructions at the same addresses");
	else if (stepped->result != call->expected)
		snprintf(text, size, "result %ld, guest %ld", stepped->result, call->expected);
}

void verify_calls(void)
{
	stepped = mmap(NULL, sizeof *stepped, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (stepped == MAP_FAILED)
		die("no memory");
	for (int i = 0; i < replay.ncalls; i++) {
		struct call *call = &replay.calls[i];
		char why[200];
		int status = 0;
		pid_t pid;

		memset(stepped, 0, sizeof *stepped - sizeof stepped->steps);
		fflush(stdout);
		pid = fork();
		if (pid < 0)
			die("no more processes");
		if (!pid)
			child(call);
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
		why_not(call, status, why, sizeof why);
		call->verified = !*why;
		printf("verified %s %s %d %d %d %s\n", call->name, call->path, call->verified, call->traced, stepped->nsteps, why);
	}
	munmap(stepped, sizeof *stepped);
	stepped = NULL;
}
