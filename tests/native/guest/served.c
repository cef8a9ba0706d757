// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Does scope=all serve a call, or leave it to the kernel? A child makes the call once, with
 * arguments that fail, and the module's own count shows it. Needs an idle machine.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int parameter;

static long count(void)
{
	char text[32] = "";

	if (pread(parameter, text, sizeof(text) - 1, 0) <= 0)
		return -1;
	return atol(text);
}

/* nr: -1 for no call. The least of several differences, because other tasks make calls too. */
static long served(long nr)
{
	long least = LONG_MAX;

	for (int i = 0; i < 20; i++) {
		long before = count(), more;
		pid_t child = syscall(SYS_fork);

		if (!child) {
			if (nr == SYS_vfork || nr == SYS_fork || nr == SYS_clone) {
				if (!syscall(nr, 0, 0, 0, 0, 0))
					syscall(SYS_exit, 0);
			} else if (nr >= 0) {
				syscall(nr, -1, -1, -1, -1, -1, -1);
			}
			syscall(SYS_exit, 0);
		}
		syscall(SYS_wait4, child, NULL, 0, NULL);
		more = count() - before;
		if (more < least)
			least = more;
		while (waitpid(-1, NULL, __WALL | WNOHANG) > 0)
				;	/* reap the child's own children: init would, by calls that count */
	}
	return least;
}

int main(void)
{
	static const struct { const char *name; long nr; } calls[] = {
		{ "getppid", SYS_getppid },
		{ "execve", SYS_execve }, { "execveat", SYS_execveat }, { "rt_sigreturn", SYS_rt_sigreturn },
		{ "fork", SYS_fork }, { "vfork", SYS_vfork }, { "clone", SYS_clone }, { "clone3", SYS_clone3 },
		{ "delete_module", SYS_delete_module },
	};
	long none;

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	parameter = open("/sys/module/sysenter/parameters/calls_all", O_RDONLY);
	none = served(-1);
	for (unsigned int i = 0; i < sizeof(calls) / sizeof(*calls); i++)
		printf("{\"served\": \"%s\", \"times\": %ld}\n", calls[i].name, served(calls[i].nr) - none);
	return 0;
}
