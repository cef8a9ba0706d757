// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Signals, scheduling, and calls that make, replace or end processes.
 */
#include "hazards.h"
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <linux/sched.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>

static volatile int handled;

static void on_signal(int signal, siginfo_t *info, void *context)
{
	greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;

	(void)info;
	if (handled++ < 3) {
		note("handler %d result %ld ", signal, (long)g[CONTEXT_RESULT]);
		note_context(g);
	}
}

/* Send us a signal as soon as we sleep. */
static void interrupt_us(int signal)
{
	if (!fork()) {
		wait_asleep(getppid(), "S");
		kill(getppid(), signal);
		_exit(0);
	}
}

/* Each blocking call, interrupted by a handler with and without SA_RESTART. */
static void interrupted(int flags)
{
	struct timespec third = { 0, 700000000 };
	struct epoll_event event;
	struct pollfd polled;
	sigset_t set;
	char byte;
	int epoll = epoll_create1(0);
	static uint32_t word;

	if (pipe(pipes))
		return;
	polled = (struct pollfd){ .fd = pipes[0], .events = POLLIN };
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	handle(SIGUSR1, on_signal, flags);
/* Repeat, at most twice, if on a busy host the signal came after the call had timed out, or the byte with it. */
#define TRY(what, ...) for (int attempt = 0, in_time = 0; attempt < 3 && !in_time; attempt++) {	\
		size_t before = strlen(said);					\
		long result;							\
		handled = 0;							\
		if (!fork()) {							\
			wait_asleep(getppid(), "S");				\
			kill(getppid(), SIGUSR1);				\
			milliseconds(300);	/* a read that began again */	\
			_exit(write(pipes[1], "x", 1) != 1);			\
		}								\
		result = call(__VA_ARGS__);					\
		in_time = handled && result == (strcmp(what, "read") || !(flags & SA_RESTART) ? -EINTR : 1); \
		note(what " %ld handled %d; ", result, handled);		\
		while (wait(NULL) > 0 || errno == EINTR)			\
			;							\
		fcntl(pipes[0], F_SETFL, O_NONBLOCK);				\
		while (read(pipes[0], &byte, 1) > 0)				\
			;							\
		fcntl(pipes[0], F_SETFL, 0);					\
		if (!in_time && attempt < 2)					\
			said[before] = 0;					\
	}
	TRY("read", SYS_read, pipes[0], &byte, 1, 4, 5, 6);
	TRY("poll", SYS_poll, &polled, 1, 1000, 4, 5, 6);
	TRY("nanosleep", SYS_nanosleep, &third, 0, 3, 4, 5, 6);
	TRY("epoll_wait", SYS_epoll_wait, epoll, &event, 1, 700, 5, 6);
	TRY("futex", SYS_futex, &word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, &third, 0, 0);
	TRY("sigtimedwait", SYS_rt_sigtimedwait, &set, 0, &third, 8);
	TRY("select", SYS__newselect, 0, 0, 0, 0, 0, 6);
#undef TRY
}

static void restarts(void)	{ interrupted(SA_RESTART); }
static void fails_with_eintr(void) { interrupted(0); }

/* restart_syscall: stopped and continued without a handler. */
static void stopped_and_continued(void)
{
	struct timespec sleep = { 0, 300000000 };
	struct pollfd none = { .fd = -1 };
	static uint32_t word;
	struct timespec start, end;

	for (int which = 0, attempt = 0; which < 4;) {
		size_t before = strlen(said);
		int status, stops = 0;
		pid_t child = fork();

		if (!child) {
			clock_gettime(CLOCK_MONOTONIC, &start);
			switch (which) {
			case 0: note("nanosleep %ld ", call(SYS_nanosleep, &sleep, 0, 3, 4, 5, 6)); break;
			case 1: note("poll %ld ", call(SYS_poll, &none, 1, 300, 4, 5, 6)); break;
			case 2: note("futex %ld ", call(SYS_futex, &word, FUTEX_WAIT, 0, &sleep, 0, 0)); break;
			case 3: note("clock_nanosleep %ld ", call(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &sleep, 0, 5, 6)); break;
			}
			clock_gettime(CLOCK_MONOTONIC, &end);
			note("%s ", (end.tv_sec - start.tv_sec) * 1000 + (end.tv_nsec - start.tv_nsec) / 1000000 >= 299 ?
			     "whole" : "short");
			_exit(which);
		}
		for (; stops < 3; stops++) {
			milliseconds(15);
			kill(child, SIGSTOP);
			if (waitpid(child, &status, WUNTRACED) != child || !WIFSTOPPED(status))
				break;
			note("stop %x ", status);
			kill(child, SIGCONT);
		}
			if (stops < 3 && attempt++ < 2) {	/* busy host: the child ended before its third stop */
			said[before] = 0;
			continue;
		}
		note_child(child);
		which++, attempt = 0;
	}
}

static void killed_asleep(void)
{
	static const long blocking[][4] = {
		{ SYS_pause }, { SYS_read }, { SYS_poll, 0, 0, -1 }, { SYS_futex }, { SYS_rt_sigsuspend },
	};
	static uint32_t word;
	sigset_t none;

	sigemptyset(&none);
	if (pipe(pipes))
		return;
	for (unsigned int i = 0; i < 5; i++) {
		pid_t child = fork();

		if (!child) {
			char byte;

			if (i == 1)
				call(SYS_read, pipes[0], &byte, 1);
			else if (i == 3)
				call(SYS_futex, &word, FUTEX_WAIT, 0, 0);
			else if (i == 4)
				call(SYS_rt_sigsuspend, &none, 8);
			else
				call(blocking[i][0], blocking[i][1], blocking[i][2], blocking[i][3]);
			_exit(0);
		}
		wait_asleep(child, "S");
		kill(child, SIGKILL);
		note_child(child);
	}
}

static void on_alternate(int signal, siginfo_t *info, void *context)
{
	static char *base;
	char here;

	(void)info, (void)context, (void)signal;
	base = (char *)(uintptr_t)call(SYS_getppid);	/* a fast call on the alternate stack */
	note("on %s stack ", &here > (char *)0x60000000 && &here < (char *)0x60010000 ? "alternate" : "main");
	(void)base;
}

static void alternate_stack(void)
{
	char *area = mmap((void *)0x60000000, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	stack_t stack = { .ss_sp = area, .ss_size = 65536 }, now = { 0 };

	note("set %ld ", call(SYS_sigaltstack, &stack, 0));
	handle(SIGUSR1, on_alternate, SA_ONSTACK);
	note("kill %ld ", call(SYS_kill, getpid(), SIGUSR1));
	note("tgkill %ld ", call(SYS_tgkill, getpid(), getpid(), SIGUSR1));
	interrupt_us(SIGUSR1);
	note("pause %ld ", call(SYS_pause));
	note("get %ld %d ", call(SYS_sigaltstack, 0, &now), now.ss_flags);
}

static void on_change(int signal, siginfo_t *info, void *context)
{
	greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;

	(void)signal, (void)info;
	g[CONTEXT_RESULT] = 1717;
	g[context_argument[3]] = 0x5151;
	g[CONTEXT_FLAGS] |= FLAG_ID;
}

/* The handler changes the registers that its return restores. They must arrive unchanged. */
static void sigreturn_changes(void)
{
	struct call c = CALL(SYS_kill, getpid(), SIGUSR1, 3, 4, 5, 6);

	handle(SIGUSR1, on_change, 0);
	enter(&c);
	c.arg[0] = 0;	/* the pid differs from run to run */
	note("4th %lx ", c.arg[3]);
	note_call("kill", &c);
}

/* A thousand alarms a second during calls and sleeps. Each result must be right. */
static void thousand_alarms(void)
{
	struct itimerval often = { { 0, 1000 }, { 0, 1000 } }, never = { 0 };
	struct timespec brief = { 0, 300000 }, start, now;
	long wrong = 0, made = 0, milli, pid = getpid();

	handle(SIGALRM, on_signal, SA_RESTART);
	handled = 3;
	setitimer(ITIMER_REAL, &often, NULL);
	clock_gettime(CLOCK_MONOTONIC, &start);
	do {
		struct call before = CALL(SYS_getpid, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66), c = before;

		enter(&c);
		wrong += c.nr != pid || !kept(&before, &c);
		if (!(made++ & 63)) {
			long slept = call(SYS_nanosleep, &brief, 0);

			wrong += slept && slept != -EINTR;
		}
		clock_gettime(CLOCK_MONOTONIC, &now);
		milli = (now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000;
	} while (milli < 700 || (made <= 1000 && milli < 10000));	/* a busy host */
	setitimer(ITIMER_REAL, &never, NULL);
	note("wrong %ld made %s handled %s ", wrong, made > 1000 ? "many" : "few", handled > 10 ? "many" : "few");
}

/* --- processes ------------------------------------------------------------------- */

static void forks(void)
{
	long pid;
	int status = 0;

	for (int i = 0; i < 20; i++) {
		pid = call(i & 1 ? SYS_fork : SYS_vfork);
		if (!pid)
			call(SYS_exit_group, i);
		waitpid(pid, &status, 0);
		note("%d ", WEXITSTATUS(status));
	}
	pid = call(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (!pid)
		call(SYS_exit, 44);
	note_child(pid);
	struct clone_args arguments = { .exit_signal = SIGCHLD };

	pid = call(SYS_clone3, &arguments, sizeof(arguments));
	if (!pid) {
		note("%ld ", call(SYS_getuid32));
		call(SYS_exit_group, 45);
	}
	note_child(pid);
}

static void execs(void)
{
	static char *arguments[] = { "busybox", "true", NULL }, *none[] = { NULL };
	pid_t child = fork();

	if (!child) {
		call(SYS_execve, "/bin/busybox", arguments, none);
		_exit(99);
	}
	note_child(child);
	child = fork();
	if (!child) {
		note("%ld ", call(SYS_execve, "/no/such", arguments, none));
		note("%ld ", call(SYS_execve, 1, arguments, none));
		note("%ld ", call(SYS_execveat, AT_FDCWD, "/bin/busybox", arguments, none, 0));
		_exit(99);
	}
	note_child(child);
}

static void priorities(void)
{
	struct timespec brief = { 0, 1000000 };
	struct { int priority; } fifo = { 50 };

	note("fifo %ld ", call(SYS_sched_setscheduler, 0, SCHED_FIFO, &fifo));
	for (int i = 0; i < 200; i++) {
		call(SYS_sched_yield);
		if (!(i & 31))
			note("%ld ", call(SYS_nanosleep, &brief, 0));
	}
	note("other %ld ", call(SYS_sched_setscheduler, 0, SCHED_OTHER, &(int){ 0 }));
}

static void *uring_map(int fd, size_t size, off_t offset)
{
	return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, offset);
}

/* io_uring set up by a fast call; with SQPOLL the kernel makes a thread of ours in it. */
static void uring(unsigned int flags)
{
	struct io_uring_params p = { .flags = flags, .sq_thread_idle = 50 };
	int ring = call(SYS_io_uring_setup, 8, &p);
	struct io_uring_sqe *sqes;
	char *sq, *cq;

	note("setup %d ", ring >= 0 ? 0 : ring);
	if (ring < 0)
		return;
	sq = uring_map(ring, p.sq_off.array + p.sq_entries * 4, IORING_OFF_SQ_RING);
	cq = uring_map(ring, p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe), IORING_OFF_CQ_RING);
	sqes = uring_map(ring, p.sq_entries * sizeof(*sqes), IORING_OFF_SQES);
	for (int i = 0; i < 5; i++) {
		struct io_uring_cqe *cqe;
		unsigned int tail = *(volatile unsigned int *)(sq + p.sq_off.tail), slot = tail % p.sq_entries;

		memset(&sqes[slot], 0, sizeof(*sqes));
		sqes[slot].opcode = IORING_OP_NOP;
		sqes[slot].user_data = i;
		((unsigned int *)(sq + p.sq_off.array))[slot] = slot;
		__atomic_store_n((unsigned int *)(sq + p.sq_off.tail), tail + 1, __ATOMIC_SEQ_CST);
		call(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS | (flags ? IORING_ENTER_SQ_WAKEUP : 0), 0, 0);
		cqe = (struct io_uring_cqe *)(cq + p.cq_off.cqes) + i % p.cq_entries;
		note("%d:%lld ", cqe->res, (long long)cqe->user_data);
		*(volatile unsigned int *)(cq + p.cq_off.head) = i + 1;
	}
	milliseconds(80);	/* the thread goes to sleep */
	close(ring);
}

static void uring_plain(void)	{ uring(0); }
static void uring_sqpoll(void)	{ uring(IORING_SETUP_SQPOLL); }

static void namespaces(void)
{
	uid_t uid = getuid();

	note("unshare %ld ", call(SYS_unshare, CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET));
	note("uid %ld ", call(SYS_getuid32) == (long)uid ? 0 : call(SYS_getuid32));
	long pid = call(SYS_fork);

	if (!pid) {
		note("pid %ld ppid %ld ", call(SYS_getpid), call(SYS_getppid));
		mkdir("/tmp/root", 0755);
		note("chroot %ld ", call(SYS_chroot, "/tmp"));
		note("chdir %ld ", call(SYS_chdir, "/"));
		note("dev %ld ", call(SYS_open, "/dev/null", 0));
		call(SYS_exit_group, 6);
	}
	note_child(pid);
}

/* What a container's runtime does to make its first process. */
static void clone3_namespaces(void)
{
	int watched = -1;
	struct clone_args arguments = {
		.flags = CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_PIDFD,
		.pidfd = (uintptr_t)&watched, .exit_signal = SIGCHLD,
	};
	long pid = call(SYS_clone3, &arguments, sizeof(arguments));

	if (!pid) {
		put_text("/proc/self/setgroups", "deny");
		put_text("/proc/self/gid_map", "0 1000 1");
		put_text("/proc/self/uid_map", "0 1000 1");
		note("pid %ld uid %ld ", call(SYS_getpid), call(SYS_getuid32));
		/* pivot_root wants a root that is a file system of its own, which rootfs is not */
		note("mount %ld ", call(SYS_mount, "none", "/tmp", "tmpfs", 0, 0));
		note("chroot %ld ", call(SYS_chroot, "/tmp"));
		note("chdir %ld ", call(SYS_chdir, "/"));
		note("mkdir %ld ", call(SYS_mkdir, "/new", 0700));
		note("mount %ld ", call(SYS_mount, "none", "/new", "tmpfs", 0, 0));
		note("mkdir %ld ", call(SYS_mkdir, "/new/old", 0700));
		note("pivot_root %ld ", call(SYS_pivot_root, "/new", "/new/old"));
		note("open %ld %d ", call(SYS_open, "/new", 0), call(SYS_open, "/old/new", 0) >= 0);
		call(SYS_exit_group, 8);
	}
	note_child(pid);
	note("pidfd %d ", watched >= 0);
}

static void many_processes(void)
{
	long pids[6], wrong = 0;

	for (int i = 0; i < 6; i++) {
		pids[i] = fork();
		if (!pids[i]) {
			long pid = getpid();

			for (int j = 0; j < 20000; j++)
				wrong += call(SYS_getpid, i, j) != pid;
			_exit(wrong != 0);
		}
	}
	for (int i = 0; i < 6; i++)
		note_child(pids[i]);
}

static void raw_threads(void)
{
	static char stack[65536];

	thread_calls[0] = marked(SYS_getuid32);
	thread_calls[1] = marked(SYS_exit);
	for (int i = 0; i < 20; i++) {
		long tid;

		thread_result = 0xdead;
		tid = raw_thread(marked(SYS_clone), CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
				 CLONE_SYSVSEM, stack + sizeof(stack));
		note("clone %d ", tid > 0);
		for (int j = 0; j < 100 && thread_result == 0xdead; j++)
			milliseconds(2);
		milliseconds(1);
	}
	note("thread %lx ", thread_result);
}

HAZARDS(
	{ "interrupted calls with SA_RESTART", "restarts", restarts, 0 },
	{ "interrupted calls", "fails_with_eintr", fails_with_eintr, 0 },
	{ "restart_syscall across stop and continue", "stopped_and_continued", stopped_and_continued, 0 },
	{ "SIGKILL while asleep inside", "killed_asleep", killed_asleep, 0 },
	{ "alternate stack", "alternate_stack", alternate_stack, 0 },
	{ "handler changes registers", "sigreturn_changes", sigreturn_changes, 0 },
	{ "1 kHz timer", "thousand_alarms", thousand_alarms, 0 },
	{ "fork, vfork, clone, clone3, exit", "forks", forks, 0 },
	{ "clone with a stack of its own", "raw_threads", raw_threads, 0 },
	{ "execve, execveat", "execs", execs, 0 },
	{ "io_uring", "uring_plain", uring_plain, 0 },
	{ "io_uring with SQPOLL", "uring_sqpoll", uring_sqpoll, 0 },
	{ "namespaces and chroot", "namespaces", namespaces, 0 },
	{ "namespaces by clone3, a root of its own", "clone3_namespaces", clone3_namespaces, 0 },
	{ "many processes", "many_processes", many_processes, 0 },
	{ "realtime priorities", "priorities", priorities, 1 }
)
