/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The common part of the hostile callers (hazards_*.c). A case is a function that makes system
 * calls by call() and enter(), and writes down by note() what it sees. It runs twice, each time
 * in a process of its own: once on the kernel's entry and once on ours. Both runs execute the
 * same instructions, and the paths differ only in the mark in eax. So registers, trap counts and
 * fault addresses can be compared word by word. Prints one JSON object a case:
 *
 *	{"hazard": ..., "case": ..., "fast": ..., "stock": ..., "same": true}
 */
#ifndef HAZARDS_H
#define HAZARDS_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <sys/ucontext.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "abi.h"

#define HAZARD_SECONDS	40	/* for one case on one path */
#define NO_SUCH_CALL	511	/* no kernel has a call with this number: those of x32 begin above it */

struct hazard {
	const char	*hazard;
	const char	*name;
	void		(*run)(void);
	int		as_root;
};

static char *said;		/* shared with the process that runs the case, which writes it */
#define SAID_SIZE 16384
static unsigned long mark;	/* MARK on the fast path, 0 on the kernel's */
static char *stub_page;
/*
 * SYSENTER_PATH=stock: make unmarked calls only, and note everything that a stock call preserves.
 * A module that serves unmarked calls (scope=all) must give the same notes.
 */
static int alone;

/* Signal handlers may use it: these formats need no memory and no locale. */
static __attribute__((format(printf, 1, 2), unused)) void note(const char *format, ...)
{
	size_t used = strlen(said);
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(said + used, SAID_SIZE - used, format, arguments);
	va_end(arguments);
}

/* What does not fit would be compared by nobody. */
static __attribute__((unused)) void note_if_full(void)
{
	static const char full[] = "no room ";

	if (strlen(said) == SAID_SIZE - 1)
		strcpy(said + SAID_SIZE - sizeof(full), full);
}

/* A null selector may be 0 to 3. IRET turns each of them into 0 (SDM 2A), so any interrupt does. */
static inline __attribute__((unused)) unsigned long selector(unsigned long value)
{
	return value & ~3ul ? value : 0;
}

/* defines struct call, CALL, enter(), and the names of registers and flags */
#ifdef __x86_64__
#include "hazards_amd64.h"
#else
#include "hazards_i386.h"
#endif

/* A call with up to six arguments on this case's path; -errno on failure. */
static inline __attribute__((unused)) long call6(long nr, long a, long b, long c, long d, long e, long f)
{
	struct call call = CALL(nr, a, b, c, d, e, f);

	enter(&call);
	return call.nr;
}
#define CALL6_(nr, a, b, c, d, e, f, ...) call6(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define call(...) CALL6_(__VA_ARGS__, 0, 0, 0, 0, 0, 0)

static __attribute__((unused)) void handle(int signal, void (*handler)(int, siginfo_t *, void *), int flags)
{
	struct sigaction action = { .sa_sigaction = handler, .sa_flags = flags | SA_SIGINFO };

	if (sigaction(signal, &action, NULL))
		note("sigaction %d failed ", signal);
}

static __attribute__((unused)) void milliseconds(int count)
{
	struct timespec left = { count / 1000, count % 1000 * 1000000L };

	while (nanosleep(&left, &left) && errno == EINTR)
		;
}

static __attribute__((unused)) void put_text(const char *name, const char *text)
{
	int fd = open(name, O_WRONLY | O_TRUNC);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		note("%s: %d ", name, errno);
	close(fd);
}

#define TRACING "/sys/kernel/tracing/"

/* How often does the trace contain `format` with this call's number? */
static __attribute__((unused)) int count_in_trace(const char *format, long nr, pid_t pid)
{
	static char trace[1 << 20];
	char task[16], text[80];
	int count = 0, fd = open(TRACING "trace", O_RDONLY);
	size_t size = 0;
	ssize_t more;

	while ((more = read(fd, trace + size, sizeof(trace) - 1 - size)) > 0)
		size += more;
	close(fd);
	trace[size] = 0;
	snprintf(task, sizeof(task), "-%d ", pid);
	snprintf(text, sizeof(text), format, nr);
	for (char *line = strtok(trace, "\n"); line; line = strtok(NULL, "\n"))
		count += strstr(line, task) && strstr(line, text);
	return count;
}

/* This task, and what it forks, on the first CPU only. */
static __attribute__((unused)) void share_one_cpu(void)
{
	unsigned long first = 1;

	if (syscall(SYS_sched_setaffinity, 0, sizeof(first), &first))
		note("not on one CPU: %d ", errno);
}

/*
 * Before 7.0 the kernel sets TIF_NOTIFY_RESUME whenever a task whose C library has registered rseq loses the CPU.
 * So the exit from that call has work to do in any case, and nothing shows whether the other bits are looked at.
 */
static __attribute__((unused)) void without_rseq(void)
{
	void *area = (char *)__builtin_thread_pointer() + __rseq_offset;

	if (__rseq_size && syscall(SYS_rseq, area, 32, RSEQ_FLAG_UNREGISTER, RSEQ_SIG))
		note("not without rseq: %d ", errno);
}

/* Wait until `pid` sleeps inside a call: its state in /proc is S (or `state`). */
static __attribute__((unused)) void wait_asleep(pid_t pid, const char *states)
{
	char name[32], line[256], *after;

	snprintf(name, sizeof(name), "/proc/%d/stat", pid);
	for (int i = 0; i < 500; i++) {
		int fd = open(name, O_RDONLY);
		ssize_t size = fd < 0 ? 0 : read(fd, line, sizeof(line) - 1);

		if (fd >= 0)
			close(fd);
		line[size > 0 ? size : 0] = 0;
		after = strrchr(line, ')');
		if (after && after[1] && strchr(states, after[2])) {
			milliseconds(10);	/* and has really left the CPU */
			return;
		}
		milliseconds(5);
	}
	note("never asleep ");
}

static __attribute__((unused)) void note_status(int status)
{
	if (WIFEXITED(status))
		note("exit %d ", WEXITSTATUS(status));
	else if (WIFSIGNALED(status))
		note("signal %d ", WTERMSIG(status));
	else if (WIFSTOPPED(status))
		note("stop %x ", status >> 8);
}

static __attribute__((unused)) void note_child(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) == pid)
		note_status(status);
	else
		note("lost child ");
}

#define THREAD_FLAGS	(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM)

static __attribute__((unused)) void *stack_for_thread(int number)
{
	static char stacks[4][65536] __attribute__((aligned(16)));

	return stacks[number + 1];	/* its end: a stack grows down */
}

/* A thread, as bare as the kernel makes one: it must not use libc's own data. */
static __attribute__((unused)) void start_thread(int (*body)(void *))
{
	if (clone(body, stack_for_thread(0), THREAD_FLAGS, NULL) < 0)
		note("no thread ");
}

static int pipes[2] __attribute__((unused));

/*
 * A child that asks for its uid so many times, and then sleeps in a call that reads one byte. It
 * exits with the result of that call.
 */
static __attribute__((unused)) pid_t asleep_after(int calls)
{
	long uid = getuid();
	pid_t child;

	if (pipe(pipes))
		return -1;
	child = fork();
	if (!child) {
		char byte;

		while (calls--)
			if (call(SYS_getuid32, 1, 2, 3, 4, 5, 6) != uid)
				note("wrong uid ");
		_exit(call(SYS_read, pipes[0], &byte, 1));
	}
	wait_asleep(child, "S");
	return child;
}

static __attribute__((unused)) pid_t asleep_in_read(void)
{
	return asleep_after(0);
}

static __attribute__((unused)) void wake(pid_t child)
{
	if (write(pipes[1], "x", 1) != 1)
		note("no write ");
	note_child(child);
}

/* A child that runs `body` under ptrace, stopped before it. */
static __attribute__((unused)) pid_t traced(void (*body)(void))
{
	int status;
	pid_t child = fork();

	if (!child) {
		ptrace(PTRACE_TRACEME);
		raise(SIGSTOP);
		body();
		_exit(0);
	}
	waitpid(child, &status, 0);
	ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
	return child;
}

/* Continue it by `request`. Returns 1 and its registers at its next stop, 0 if it has ended. */
static __attribute__((unused)) int next_stop(pid_t child, int request, struct user_regs_struct *r, int *status)
{
	ptrace(request, child, 0, 0);
	if (waitpid(child, status, 0) != child || !WIFSTOPPED(*status))
		return 0;
	ptrace(PTRACE_GETREGS, child, 0, r);
	return 1;
}

static __attribute__((unused)) void run_path(const struct hazard *hazard, unsigned long which, char *outcome)
{
	struct timespec limit = { HAZARD_SECONDS, 0 };
	sigset_t child_set, old;
	int status = 0;
	pid_t pid;

	memset(said, 0, SAID_SIZE);
	sigemptyset(&child_set);
	sigaddset(&child_set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child_set, &old);
	fflush(stdout);
	pid = fork();
	if (!pid) {
		sigprocmask(SIG_SETMASK, &old, NULL);
		setpgid(0, 0);
		take_path(which);
		hazard->run();
		_exit(0);
	}
	setpgid(pid, pid);
	while (sigtimedwait(&child_set, NULL, &limit) < 0 && errno == EINTR)
		;
	if (waitpid(pid, &status, WNOHANG) != pid) {
		kill(-pid, SIGKILL);
		waitpid(pid, &status, 0);
		note("no end in %d s ", HAZARD_SECONDS);
	} else {
		kill(-pid, SIGKILL);	/* processes that it has left behind */
	}
	note_status(status);
	note_if_full();
	sigprocmask(SIG_SETMASK, &old, NULL);
	snprintf(outcome, SAID_SIZE, "%s", said);
}

static __attribute__((unused)) void print_quoted(const char *text)
{
	putchar('"');
	for (; *text; text++)
		if (*text == '"' || *text == '\\')
			printf("\\%c", *text);
		else if ((unsigned char)*text < ' ')
			printf("\\u%04x", *text);
		else
			putchar(*text);
	putchar('"');
}

/* argv: names of cases to run, none for all; "-root": those that need root too. */
static __attribute__((unused)) int run_hazards(const struct hazard *cases, size_t count, int argc, char **argv)
{
	static char stock[SAID_SIZE], fast[SAID_SIZE];
	int root = argc > 1 && !strcmp(argv[1], "-root"), differ = 0;

	argc -= root, argv += root;
	said = mmap(NULL, SAID_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!root && (setresgid(1000, 1000, 1000) || setresuid(1000, 1000, 1000)))
		return 2;
	prctl(PR_SET_DUMPABLE, 1);	/* a change of ids has cleared it; ptrace and /proc need it */
	alone = getenv("SYSENTER_PATH") && !strcmp(getenv("SYSENTER_PATH"), "stock");
	if (alone)
		stub_page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	else
		stub_page = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, open("/dev/sysenter", O_RDONLY), 0);
	if (said == MAP_FAILED || stub_page == MAP_FAILED) {
		fprintf(stderr, "hazards: /dev/sysenter cannot be mapped\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOFBF, 8192);
	for (size_t i = 0; i < count; i++) {
		int wanted = argc == 1;

		for (int j = 1; j < argc; j++)
			wanted |= !strcmp(argv[j], cases[i].name);
		if (!wanted || cases[i].as_root != root)
			continue;
		run_path(&cases[i], 0, stock);
		if (alone) {
			printf("{\"hazard\": \"%s\", \"case\": \"%s\", \"stock\": ", cases[i].hazard, cases[i].name);
			print_quoted(stock);
			printf("}\n");
			fflush(stdout);
			continue;
		}
		run_path(&cases[i], MARK, fast);
		differ |= strcmp(stock, fast);
		printf("{\"hazard\": \"%s\", \"case\": \"%s\", \"fast\": ", cases[i].hazard, cases[i].name);
		print_quoted(fast);
		printf(", \"stock\": ");
		print_quoted(stock);
		printf(", \"same\": %s}\n", strcmp(stock, fast) ? "false" : "true");
		fflush(stdout);
	}
	return differ ? 1 : 0;
}

/* The end of a program of cases: the table and main(). */
#define HAZARDS(...)								\
	static const struct hazard cases[] = { __VA_ARGS__ };			\
	int main(int argc, char **argv)						\
	{									\
		return run_hazards(cases, sizeof(cases) / sizeof(*cases), argc, argv); \
	}
#endif
