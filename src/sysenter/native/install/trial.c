// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Does the fast path give right answers? Makes a few thousand calls by it and by the plain
 * instruction and compares them, in a child process, because a wrong path may kill it. While the
 * module's scope is `all' the plain instruction is a fast path, too.
 *
 *	trial		status 0: everything as stock
 *			1: something differs, and one line says what
 *			2: there is no fast path to try, or no call took it
 *
 * It compares results, the registers that a call preserves, the stack pointer, and calls that a
 * signal interrupts. It is run after each load, before anything depends on the module.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "abi.h"
#ifdef __x86_64__
#include "fast_call_amd64.h"
#endif

#define MODULE	"/sys/module/sysenter"
#define ROUNDS	1000
#define LIMIT	40	/* seconds, asleep or not: a child that hangs is a failure */

static char *stub;
static pid_t parent;

/*
 * Make a call with known values in the registers that it must preserve. Returns its result. *kept
 * is 0 if one of them, or the stack pointer, has changed.
 */
#ifdef __x86_64__
#define CALL(name, instructions, marked)						\
static long name(long nr, long a, long b, long c, int *kept)				\
{											\
	unsigned long changed;								\
	long result = nr + (marked);							\
											\
	asm volatile("movq $0x1111, %%rbx\n\tmovq $0x2222, %%r12\n\t"			\
		     "movq $0x3333, %%r13\n\tmovq $0x4444, %%r14\n\t"			\
		     "movq %%rsp, %%r15\n\t"						\
		     instructions "\n\t"						\
		     "xorq $0x1111, %%rbx\n\txorq $0x2222, %%r12\n\t"			\
		     "xorq $0x3333, %%r13\n\txorq $0x4444, %%r14\n\t"			\
		     "xorq %%rsp, %%r15\n\torq %%r12, %%rbx\n\torq %%r13, %%rbx\n\t"	\
		     "orq %%r14, %%rbx\n\torq %%r15, %%rbx\n\tmovq %%rbx, %[changed]"	\
		     : "+a"(result), "+D"(a), "+S"(b), "+d"(c), [changed] "=m"(changed)	\
		     : : "memory", "cc", "rbx", "rcx", "r8", "r9", "r10", "r11", "r12",	\
			 "r13", "r14", "r15");						\
	*kept = !changed;								\
	return result;									\
}
CALL(stock_call, "syscall", 0)
CALL(fast_call, FAST_CALL_AMD64, SYSENTER_MARK_AMD64)
#else
static long stock_call(long nr, long a, long b, long c, int *kept)
{
	long result = syscall(nr, a, b, c);

	*kept = 1;
	return result == -1 ? -errno : result;
}

static long fast_call(long nr, long a, long b, long c, int *kept)
{
	/* input: the function to call; output: whether something has changed */
	unsigned long esi = (unsigned long)stub + SYSENTER_STUB_CALL;
	long result = nr;

	asm volatile("pushl %%ebp\n\tpushl %%esi\n\tmovl %%esp, %%edi\n\t"
		     "movl $0x2222, %%esi\n\tmovl $0x3333, %%ebp\n\t"
		     "call *(%%esp)\n\t"
		     "xorl $0x2222, %%esi\n\txorl $0x3333, %%ebp\n\txorl %%esp, %%edi\n\t"
		     "orl %%ebp, %%esi\n\torl %%edi, %%esi\n\tpopl %%ebp\n\tpopl %%ebp"
		     : "+a"(result), "+S"(esi)
		     : "b"(a), "c"(b), "d"(c)
		     : "memory", "cc", "edi");
	*kept = !esi;
	return result;
}
#endif

static long (*fast_way)(long, long, long, long, int *);

static int fail(const char *what)
{
	printf("sysenter: %s differs on the fast path\n", what);
	fflush(stdout);
	return 1;
}

static void on_alarm(int number)
{
	(void)number;
}

static int try_results(void)
{
	int zero = open("/dev/zero", O_RDONLY), null = open("/dev/null", O_WRONLY), kept, round;
	char byte;
	const struct {
		const char *name;
		long nr, a, b, c, answer;
	} calls[] = {
		{ "getppid", SYS_getppid, 0, 0, 0, parent },
		{ "read", SYS_read, zero, (long)&byte, 1, 1 },
		{ "write", SYS_write, null, (long)&byte, 1, 1 },
		{ "write to no file", SYS_write, -1, (long)&byte, 1, -EBADF },
		{ "read to no memory", SYS_read, zero, 1, 1, -EFAULT },
		{ "dup of no file", SYS_dup, -1, 0, 0, -EBADF },
		{ "access", SYS_access, (long)"/", 0, 0, 0 },
		{ "a number that no call has", 511, 0, 0, 0, -ENOSYS },
	};

	for (round = 0; round < ROUNDS; round++)
		for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++) {
			long plain, fast;
			int kept_by_plain;

			plain = stock_call(calls[i].nr, calls[i].a, calls[i].b, calls[i].c, &kept_by_plain);
			fast = fast_way(calls[i].nr, calls[i].a, calls[i].b, calls[i].c, &kept);
			if (plain != calls[i].answer || fast != calls[i].answer)
				return fail(calls[i].name);
			if (!kept || !kept_by_plain)
				return fail("a register after a call");
		}
	return 0;
}

/* A call that a signal interrupts, and calls between which signals come. */
static int try_signals(void)
{
	struct itimerval timer = { .it_value.tv_usec = 2000, .it_interval.tv_usec = 2000 };
	struct sigaction action = { .sa_handler = on_alarm };
	int kept, round, pair[2];
	char byte;

	sigaction(SIGALRM, &action, NULL);
	if (pipe(pair) || setitimer(ITIMER_REAL, &timer, NULL))
		return fail("setting up");
	for (round = 0; round < 20; round++)
		if (fast_way(SYS_read, pair[0], (long)&byte, 1, &kept) != -EINTR || !kept)
			return fail("a call that a signal interrupts");
	for (round = 0; round < 20 * ROUNDS; round++)
		if (fast_way(SYS_getppid, 0, 0, 0, &kept) != parent || !kept)
			return fail("a call between signals");
	timer.it_value.tv_usec = timer.it_interval.tv_usec = 0;
	setitimer(ITIMER_REAL, &timer, NULL);
	return 0;
}

/* Whether the child ends in this time. SIGCHLD is blocked. */
static int ends_within(int seconds)
{
	const struct timespec limit = { .tv_sec = seconds };
	sigset_t child_ends;
	int got;

	sigemptyset(&child_ends);
	sigaddset(&child_ends, SIGCHLD);
	do
		got = sigtimedwait(&child_ends, NULL, &limit);
	while (got < 0 && errno == EINTR);
	return got == SIGCHLD;
}

/* The first word of one of the module's parameters; "" if it is not loaded. */
static const char *parameter(const char *path)
{
	static char word[32];
	FILE *file = fopen(path, "r");

	if (!file || fscanf(file, "%31s", word) != 1)
		word[0] = 0;
	if (file)
		fclose(file);
	return word;
}

/* Fast calls since the load, of all programs. */
static unsigned long long count(void)
{
	return strtoull(parameter(MODULE "/parameters/calls"), NULL, 10);
}

static int nothing_to_try(const char *why)
{
	printf("sysenter: no fast path to try: %s\n", why);
	return 2;
}

int main(void)
{
	int file = open("/dev/sysenter", O_RDONLY | O_CLOEXEC), status;
	unsigned long long before = count();
	sigset_t child_ends;
	pid_t child;

	if (access(MODULE, F_OK))
		return nothing_to_try("the module is not loaded");
	stub = file < 0 ? MAP_FAILED : mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, file, 0);
	fast_way = stub == MAP_FAILED ? stock_call : fast_call;
	/* with scope=all there is nothing to map */
	if (stub == MAP_FAILED && strcmp(parameter(MODULE "/parameters/scope"), "all"))
		return nothing_to_try("the module's page cannot be mapped (a 32-bit program on a 64-bit kernel cannot)");
	parent = getpid();
	signal(SIGCHLD, SIG_DFL);
	sigemptyset(&child_ends);
	sigaddset(&child_ends, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child_ends, NULL);
	child = fork();
	if (!child) {
		/* it maps the module's page, so it must not outlive us: the unload comes next */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(getppid() != parent || try_results() || try_signals());
	}
	if (child > 0 && !ends_within(LIMIT)) {
		printf("sysenter: a program on the fast path did not end within %d seconds\n", LIMIT);
		kill(child, SIGKILL);
		ends_within(1);
		return 1;
	}
	if (child < 0 || waitpid(child, &status, 0) != child) {
		perror("sysenter: trial");
		return 1;
	}
	if (WIFSIGNALED(status)) {
		printf("sysenter: a program on the fast path was ended by signal %d (%s)\n",
		       WTERMSIG(status), strsignal(WTERMSIG(status)));
		return 1;
	}
	if (WEXITSTATUS(status))
		return 1;
	/* HAZARD: with scope=all other programs' calls count, too, so one more is not enough */
	if (count() - before < ROUNDS)
		return nothing_to_try("the kernel took the calls itself (auditing, or a tracer?)");
	return 0;
}
