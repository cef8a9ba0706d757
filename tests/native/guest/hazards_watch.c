// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Watchers that must not be bypassed: ptrace, seccomp, syscall user dispatch and, as root, audit
 * (tracepoints are in hazards_patched.c). They are turned on before, during and after a fast
 * call.
 */
#include "hazards.h"
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#endif

/* --- ptrace ------------------------------------------------------------------ */

static void traced_calls(void)
{
	note("%ld ", call(SYS_getuid32, 1, 2, 3, 4, 5, 6));
	note("%ld ", call(SYS_mmap2, 0, 0, 7, 8, 9, 10));
	note("%ld ", call(NO_SUCH_CALL, 1, 2, 3, 4, 5, 6));
	note("%ld ", call(SYS_uname, 0));
	note("%ld ", call(SYS_sigaltstack, -1, -1));
}

static void ptrace_stops(void)
{
	struct user_regs_struct r;
	pid_t child = traced(traced_calls);
	int status, stops = 0;

	for (; next_stop(child, PTRACE_SYSCALL, &r, &status); stops++) {
		if (r.user_nr != SYS_exit_group)
			note_user(stops & 1 ? "out" : "in", &r);
	}
	note("%d ", stops);
	note_status(status);
}

/* The tracer changes number, arguments and result, skips a call, makes a call of its own. */
static void ptrace_changes(void)
{
	struct user_regs_struct r;
	pid_t child = traced(traced_calls);
	int status, stops = 0;

	for (; next_stop(child, PTRACE_SYSCALL, &r, &status); stops++) {
		switch (stops) {
		case 2:		/* into getuid: be getgid */
			r.user_nr = SYS_getgid32;
			break;
		case 4:		/* into mmap2: skip it */
			r.user_nr = -1;
			r.user_result = 1234;
			break;
		case 6:		/* into NO_SUCH_CALL: be uname with a bad pointer, and a large number */
			r.user_nr = SYS_uname;
			r.user_argument1 = 0;
			break;
		case 7:		/* out of it: other result, other registers, flags, selectors */
			r.user_result = 77;
			r.eflags |= FLAG_ID;
			break;
		case 8:		/* a number with the mark is not a valid number here */
			r.user_nr = MARK + SYS_getuid32;
			break;
		}
		ptrace(PTRACE_SETREGS, child, 0, &r);
	}
	note("%d ", stops);
	note_status(status);
}

extern const char event_landed[];
asm(".text\nevent_landed:\n\tint3\n\tnop");

static void make_call_with_event(long nr)
{
	char *const words[] = { "hazards", "none", NULL };

	if (nr == SYS_execve)
		call(nr, "/proc/self/exe", words, words + 2);
	else if (nr == SYS_execveat)
		call(nr, AT_FDCWD, "/proc/self/exe", words, words + 2, 0);
	else
		call(nr, CLONE_FILES);	/* fork and vfork take no argument */
	note("went on ");
}

static void fork_alone(void)		{ make_call_with_event(SYS_fork); }
static void vfork_alone(void)		{ make_call_with_event(SYS_vfork); }
static void clone_alone(void)		{ make_call_with_event(SYS_clone); }
static void execve_alone(void)		{ make_call_with_event(SYS_execve); }
static void execveat_alone(void)	{ make_call_with_event(SYS_execveat); }

/*
 * Calls that stop in their bodies, although nobody asked for a stop at their entry. There the
 * tracer sets registers that no SYSRET or SYSEXIT can restore. All of them must arrive.
 */
static void ptrace_event_stops(void)
{
	static void (*const bodies[])(void) = { fork_alone, vfork_alone, clone_alone, execve_alone, execveat_alone };

	for (unsigned int i = 0; i < sizeof(bodies) / sizeof(*bodies); i++) {
		pid_t child = traced(bodies[i]);
		unsigned long newborn = 0;
		struct user_regs_struct r;
		int status;

		ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_EXITKILL | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
		       PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC);
		if (!next_stop(child, PTRACE_CONT, &r, &status)) {
			note_status(status);
			continue;
		}
		note("event %x: ", status >> 8);
		if (status >> 16 != PTRACE_EVENT_EXEC) {
			ptrace(PTRACE_GETEVENTMSG, child, 0, &newborn);
			kill(newborn, SIGKILL);
			while (waitpid(newborn, &status, __WALL) == (pid_t)newborn && WIFSTOPPED(status))
				;
		}
		r.user_nr = -1;
		r.user_ip = (unsigned long)event_landed;
		r.eflags = 0x202 | FLAG_ID | FLAG_DF | 0x8d5;
#ifdef __x86_64__
		r.rcx = 0x1111, r.r11 = 0x2222, r.rdx = 0x3333, r.rbx = 0x4444, r.r10 = 0x5555;
#else
		r.ecx = 0x1111, r.edx = 0x2222, r.ebp = 0x3333, r.ebx = 0x4444, r.esi = 0x5555;
#endif
		ptrace(PTRACE_SETREGS, child, 0, &r);
		while (next_stop(child, PTRACE_CONT, &r, &status) && WSTOPSIG(status) == SIGCHLD)
			;	/* of the newborn's end */
		if (WIFSTOPPED(status)) {
			/* QEMU 10 leaves RF set if that page was mapped by the fetch (docs/evidence.md) */
			r.eflags &= ~0x10000;
			note("stop %x at +%ld ", status >> 8, (long)(r.user_ip - (unsigned long)event_landed));
#ifdef __x86_64__
			note("%llx %llx %llx %llx %llx %llx; ", r.rcx, r.r11, r.rdx, r.rbx, r.r10, r.eflags);
#else
			note("%lx %lx %lx %lx %lx %lx; ", r.ecx, r.edx, r.ebp, r.ebx, r.esi, r.eflags);
#endif
			kill(child, SIGKILL);
			waitpid(child, &status, 0);
		}
		note_status(status);
	}
}

static int quiet_pipe[2];

static void sleep_in_read(void)
{
	char byte = 0;

	note("%ld %c ", call(SYS_read, quiet_pipe[0], &byte, 1), byte);
}

/* A child that sleeps in that call, makes `calls` calls of getuid after it, and exits with 5. -1: no pipe. */
static pid_t child_in_read(int calls)
{
	pid_t child;

	if (pipe(quiet_pipe))
		return -1;
	child = fork();
	if (!child) {
		sleep_in_read();
		while (calls--)
			call(SYS_getuid32);
		_exit(5);
	}
	wait_asleep(child, "S");
	return child;
}

/* A tracer attaches while the task sleeps inside. It reads the registers, keeps them, changes them. */
static void ptrace_sleeper(void)
{
	struct user_regs_struct r;
	int status;

	for (int how = 0; how < 4; how++) {
		pid_t child = child_in_read(0);

		if (child < 0)
			return;
		if (how & 1) {
			ptrace(PTRACE_SEIZE, child, 0, PTRACE_O_TRACESYSGOOD);
			ptrace(PTRACE_INTERRUPT, child, 0, 0);
		} else {
			ptrace(PTRACE_ATTACH, child, 0, 0);
		}
		waitpid(child, &status, 0);
		ptrace(PTRACE_GETREGS, child, 0, &r);
		note("attached: stop %x ", status >> 8);
		note_user_briefly(&r);
		note("at %s flags %lx; ", place(r.user_ip), (unsigned long)r.eflags & FLAGS_KEPT);
		if (how < 2) {
			ptrace(PTRACE_DETACH, child, 0, 0);
		} else {
			/* go on with another result instead of a restart of the read */
			r.user_result = 42;
			r.user_nr = -1;
			ptrace(PTRACE_SETREGS, child, 0, &r);
			ptrace(PTRACE_DETACH, child, 0, 0);
		}
		if (how < 2)
			wait_asleep(child, "S");
		if (write(quiet_pipe[1], "x", 1) != 1)
			note("no write ");
		note_child(child);
	}
}

/* PTRACE_SYSCALL for a sleeper that was not being stopped at calls: it must stop at the exit. */
static void ptrace_sleeper_syscalls(void)
{
	struct user_regs_struct r;
	int status, stops = 0;
	pid_t child = child_in_read(1);

	if (child < 0)
		return;
	ptrace(PTRACE_SEIZE, child, 0, PTRACE_O_TRACESYSGOOD);
	ptrace(PTRACE_INTERRUPT, child, 0, 0);
	waitpid(child, &status, 0);
	if (write(quiet_pipe[1], "x", 1) != 1)
		note("no write ");
	for (; WIFSTOPPED(status) && stops < 50; stops++) {
		ptrace(PTRACE_GETREGS, child, 0, &r);
		note("%x: %ld %ld; ", status >> 8, (long)r.user_nr, (long)r.user_result);
		ptrace(PTRACE_SYSCALL, child, 0, 0);
		waitpid(child, &status, 0);
	}
	note_status(status);
}

/* A sleeper is given registers that no program can have (CVE-2014-4699), and is let go. */
static void ptrace_bad_addresses(void)
{
	static const unsigned long bad[] = {
		KERNEL_ADDRESS, KERNEL_ADDRESS + 0x1000, -4096ul, 0, 1,
#ifdef __x86_64__
		1ul << 47, (1ul << 47) - 1, 1ul << 63,
#endif
	};
	struct user_regs_struct r;
	int status;

	for (unsigned int i = 0; i < 2 * sizeof(bad) / sizeof(*bad); i++) {
		pid_t child = child_in_read(0);

		if (child < 0)
			return;
		ptrace(PTRACE_SEIZE, child, 0, 0);
		ptrace(PTRACE_INTERRUPT, child, 0, 0);
		waitpid(child, &status, 0);
		ptrace(PTRACE_GETREGS, child, 0, &r);
		if (i & 1)
			r.user_sp = bad[i / 2];
		else
			r.user_ip = bad[i / 2];
		r.eflags |= FLAG_NT | FLAG_AC | FLAG_DF | 0x3000;
		r.user_nr = -1;		/* no restart */
		note("%s %lx: set %ld ", i & 1 ? "sp" : "ip", bad[i / 2], ptrace(PTRACE_SETREGS, child, 0, &r));
#ifdef __x86_64__
		/* in rcx and r11 too, as after a SYSCALL: so that SYSRET would do but for the address */
		ptrace(PTRACE_GETREGS, child, 0, &r);
		r.rcx = r.rip, r.r11 = r.eflags;
		ptrace(PTRACE_SETREGS, child, 0, &r);
#endif
		ptrace(PTRACE_DETACH, child, 0, 0);
		note_child(child);
		close(quiet_pipe[0]);
		close(quiet_pipe[1]);
	}
}

static void two_getuids(void)
{
	call(SYS_getuid32);
	call(SYS_uname, 0);
}

static void ptrace_single_step(void)
{
	struct user_regs_struct r;
	pid_t child = traced(two_getuids);
	int status, steps = 0, after = 0;

	for (; steps < 3000 && next_stop(child, PTRACE_SINGLESTEP, &r, &status); steps++) {
		if (is_entering(r.user_ip))
			note("entering; ");
		if ((in_vdso(r.user_ip) || !strcmp(place(r.user_ip), "return")) && after++ < 20)
			note("after it %ld; ", (long)r.user_result);
	}
	note("after %d ", after);
	note_status(status);
	kill(child, SIGKILL);
}

static void ptrace_sysemu(void)
{
	struct user_regs_struct r;
	pid_t child = traced(traced_calls);
	int status, stops = 0;

	for (; stops < 40 && next_stop(child, PTRACE_SYSEMU, &r, &status); stops++) {
		if (r.user_nr == SYS_exit_group) {
			ptrace(PTRACE_KILL, child, 0, 0);
			break;
		}
		r.user_result = 1000 + stops;
		ptrace(PTRACE_SETREGS, child, 0, &r);
	}
	note("%d ", stops);
	note_child(child);
}

/* --- seccomp -------------------------------------------------------------------- */

static int filter(unsigned int nr, unsigned int action, unsigned int flags)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, CALLER_ARCH, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(code) / sizeof(*code), code };

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

static void on_sys(int signal, siginfo_t *info, void *context)
{
	greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;

	note("SIGSYS %d code %d errno %d call %d arch %x at %s from %s result %ld", signal, info->si_code, info->si_errno,
	     info->si_syscall, info->si_arch, place(g[CONTEXT_IP]), place((unsigned long)info->si_call_addr),
	     (long)g[CONTEXT_RESULT]);
	for (int i = 0; i < 6; i++)
		note(" %lx", (unsigned long)g[context_argument[i]]);
	note("; ");
	g[CONTEXT_RESULT] = 4321;
}

static void seccomp_action(unsigned int action)
{
	handle(SIGSYS, on_sys, 0);
	note("before %ld ", call(SYS_getuid32, 1, 2, 3, 4, 5, 6));
	note("filter %d ", filter(SYS_getuid32, action, 0));
	note("after %ld ", call(SYS_getuid32, 1, 2, 3, 4, 5, 6));
	note("other %ld ", call(SYS_getgid32, 1, 2, 3, 4, 5, 6));
	note("6 arguments %ld ", call(SYS_mmap2, 0, 0, 3, 4, 5, 6));
}

static void seccomp_kill(void)		{ seccomp_action(SECCOMP_RET_KILL_PROCESS); }
static void seccomp_kill_thread(void)	{ seccomp_action(SECCOMP_RET_KILL_THREAD); }
static void seccomp_trap(void)		{ seccomp_action(SECCOMP_RET_TRAP | 7); }
static void seccomp_errno(void)		{ seccomp_action(SECCOMP_RET_ERRNO | 99); }
static void seccomp_trace_alone(void)	{ seccomp_action(SECCOMP_RET_TRACE); }
static void seccomp_log(void)		{ seccomp_action(SECCOMP_RET_ALLOW); }

static void seccomp_strict(void)
{
	static const char text[] = "";

	note("before %ld ", call(SYS_getuid32));
	prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
	call(SYS_write, 2, text, 0);
	call(SYS_getuid32);
	note("alive ");		/* this must not be reached */
}

static void seccomp_sigreturn_strict(void)
{
	prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
	call(SYS_write, 2, "", 0);
	call(SYS_exit, 3);
}

static void filtered_by_tracer(void)
{
	note("filter %d ", filter(SYS_getuid32, SECCOMP_RET_TRACE | 5, 0));
	note("%ld ", call(SYS_getuid32, 1, 2, 3));
	note("%ld ", call(SYS_getgid32));
	note("%ld ", call(SYS_getuid32, 1, 2, 3));
}

static void seccomp_trace(void)
{
	struct user_regs_struct r;
	unsigned long message = 0;
	pid_t child = traced(filtered_by_tracer);
	int status, stops = 0;

	ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESECCOMP | PTRACE_O_EXITKILL);
	for (; stops < 10 && next_stop(child, PTRACE_CONT, &r, &status); stops++) {
		ptrace(PTRACE_GETEVENTMSG, child, 0, &message);
		note("event %x message %lu ", status >> 8, message);
		note_user("seccomp", &r);
		r.user_nr = stops ? -1 : SYS_getgid32;
		r.user_result = 555;
		ptrace(PTRACE_SETREGS, child, 0, &r);
	}
	note_status(status);
}

static void seccomp_user_notify(void)
{
	struct seccomp_notif request = { 0 };
	struct seccomp_notif_resp response = { .error = -73 };
	int listener = filter(SYS_getuid32, SECCOMP_RET_USER_NOTIF, SECCOMP_FILTER_FLAG_NEW_LISTENER);
	pid_t child = fork();

	if (!child) {
		note("%ld ", call(SYS_getuid32, 1, 2, 3, 4, 5, 6));
		note("%ld ", call(SYS_getgid32));
		_exit(0);
	}
	if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &request))
		note("nothing received %d ", errno);
	note("nr %d arch %x at %s args %llx %llx %llx %llx %llx %llx ", request.data.nr, request.data.arch,
	     place(request.data.instruction_pointer), request.data.args[0], request.data.args[1], request.data.args[2],
	     request.data.args[3], request.data.args[4], request.data.args[5]);
	response.id = request.id;
	if (ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response))
		note("not sent %d ", errno);
	note_child(child);
}

/*
 * Another thread installs a filter for us (TSYNC) while we sleep inside, and while we call. Whoever
 * sleeps is woken by that thread once the filter is there, not by a clock: a busy host may be late.
 */
static volatile int filtered;

static int put_filter(void *unused)
{
	(void)unused;
	milliseconds(30);
	note("filter %d ", filter(SYS_getuid32, SECCOMP_RET_ERRNO | 99, SECCOMP_FILTER_FLAG_TSYNC));
	filtered = 1;
	if (write(pipes[1], "x", 1) != 1)
		note("not told ");
	for (;;)
		pause();
	return 0;
}

static void start_filter(void)
{
	if (pipe(pipes))
		note("no pipe ");
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	start_thread(put_filter);
}

static void seccomp_tsync_asleep(void)
{
	long slept;
	char byte;

	start_filter();
	slept = call(SYS_read, pipes[0], &byte, 1);
	note("slept %ld ", slept);	/* behind what the thread says of its filter */
	note("then %ld ", call(SYS_getuid32));
}

static void seccomp_tsync_running(void)
{
	long result;

	start_filter();
	while (!filtered)
		if ((result = call(SYS_getuid32)) < 0 && result != -99)
			note("%ld ", result);
	note("then %ld ", call(SYS_getuid32));
}

/* --- syscall user dispatch ---------------------------------------------------------- */

static volatile char dispatch_selector;

static void on_dispatch(int signal, siginfo_t *info, void *context)
{
	dispatch_selector = 0;
	on_sys(signal, info, context);
}

static void user_dispatch_blocks(void)
{
	handle(SIGSYS, on_dispatch, 0);
	if (prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, 0, 0, &dispatch_selector)) {
		note("none here %d ", errno);
		return;
	}
	for (int i = 0; i < 3; i++) {
		long result;

		dispatch_selector = 1;
		result = call(i == 2 ? SYS_mmap2 : SYS_getuid32, 0, 0, 3, 4, 5, 6);
		note("blocked %ld ", result);
	}
	dispatch_selector = 1;
	call(NO_SUCH_CALL);
	dispatch_selector = 0;
}

/* --- as root: audit ------------------------------------------------------- */

static int audit_send(int fd, int type, void *data, size_t size)
{
	struct { struct nlmsghdr header; char data[2048]; } message = {
		.header = { .nlmsg_len = NLMSG_LENGTH(size), .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK },
	};
	struct { struct nlmsghdr header; struct nlmsgerr error; char rest[2048]; } reply;

	memcpy(message.data, data, size);
	if (send(fd, &message, message.header.nlmsg_len, 0) < 0 || recv(fd, &reply, sizeof(reply), 0) < 0)
		return -errno;
	return reply.error.error;
}

/* A rule for getuid32 and mmap2. Each such call must give a record, which is read from the log. */
static void audit(void)
{
	struct audit_status on = { .mask = AUDIT_STATUS_ENABLED, .enabled = 1 }, off = { .mask = AUDIT_STATUS_ENABLED };
	struct audit_rule_data rule = { .flags = AUDIT_FILTER_EXIT, .action = AUDIT_ALWAYS };
	struct sockaddr_nl readers = { .nl_family = AF_NETLINK, .nl_groups = 1 << (AUDIT_NLGRP_READLOG - 1) };
	struct timeval limit = { .tv_usec = 300000 };
	int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_AUDIT), log = socket(AF_NETLINK, SOCK_RAW, NETLINK_AUDIT);
	char line[4096], task[32];
	int records = 0;
	ssize_t size;
	pid_t child;

	rule.mask[SYS_getuid32 / 32] |= 1u << SYS_getuid32 % 32;
	rule.mask[SYS_mmap2 / 32] |= 1u << SYS_mmap2 % 32;
	note("log %d ", bind(log, (struct sockaddr *)&readers, sizeof(readers)));
	setsockopt(log, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	note("on %d ", audit_send(fd, AUDIT_SET, &on, sizeof(on)));
	note("rule %d ", audit_send(fd, AUDIT_ADD_RULE, &rule, sizeof(rule)));
	child = fork();		/* a task made while audit is on */
	if (!child) {
		for (int i = 0; i < 3; i++)
			call(SYS_getuid32, 0xa1, 0xa2, 0xa3, 0xa4);
		call(SYS_mmap2, 0, 0, 0xb2, 0xb3, 0xb4, 0xb5);
		call(NO_SUCH_CALL);
		call(-1);
		_exit(0);
	}
	note_child(child);
	snprintf(task, sizeof(task), " pid=%d ", child);
	while ((size = recv(log, line, sizeof(line) - 1, 0)) > 0) {
		char *text = line + NLMSG_HDRLEN, *what, *end;

		line[size] = 0;
		if (!strstr(text, task) || !(what = strstr(text, "arch=")))
			continue;
		if ((end = strstr(what, " items=")))
			*end = 0;
		records++;
		note("[%s] ", what);
	}
	note("%d records ", records);
	note("rule away %d ", audit_send(fd, AUDIT_DEL_RULE, &rule, sizeof(rule)));
	note("off %d ", audit_send(fd, AUDIT_SET, &off, sizeof(off)));
}

HAZARDS(
	{ "ptrace: syscall stops", "ptrace_stops", ptrace_stops, 0 },
	{ "ptrace: changed, skipped, replaced calls", "ptrace_changes", ptrace_changes, 0 },
	{ "ptrace: registers given at event stops", "ptrace_event_stops", ptrace_event_stops, 0 },
	{ "ptrace: attach to a sleeper", "ptrace_sleeper", ptrace_sleeper, 0 },
	{ "ptrace: attach to a sleeper", "ptrace_sleeper_syscalls", ptrace_sleeper_syscalls, 0 },
	{ "ptrace: impossible addresses and flags", "ptrace_bad_addresses", ptrace_bad_addresses, 0 },
	{ "ptrace: single-step", "ptrace_single_step", ptrace_single_step, 0 },
	{ "ptrace: emulated calls", "ptrace_sysemu", ptrace_sysemu, 0 },
	{ "seccomp: kill", "seccomp_kill", seccomp_kill, 0 },
	{ "seccomp: kill", "seccomp_kill_thread", seccomp_kill_thread, 0 },
	{ "seccomp: trap", "seccomp_trap", seccomp_trap, 0 },
	{ "seccomp: errno", "seccomp_errno", seccomp_errno, 0 },
	{ "seccomp: trace", "seccomp_trace", seccomp_trace, 0 },
	{ "seccomp: trace", "seccomp_trace_alone", seccomp_trace_alone, 0 },
	{ "seccomp: allow", "seccomp_log", seccomp_log, 0 },
	{ "seccomp: strict", "seccomp_strict", seccomp_strict, 0 },
	{ "seccomp: strict", "seccomp_strict_allows", seccomp_sigreturn_strict, 0 },
	{ "seccomp: user notification", "seccomp_user_notify", seccomp_user_notify, 0 },
	{ "seccomp: TSYNC from another thread", "seccomp_tsync_asleep", seccomp_tsync_asleep, 0 },
	{ "seccomp: TSYNC from another thread", "seccomp_tsync_running", seccomp_tsync_running, 0 },
	{ "syscall user dispatch", "user_dispatch_blocks", user_dispatch_blocks, 0 },
	{ "audit", "audit", audit, 1 }
)
