// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * As root: the functions that fast calls run are probed, before, during and after.
 * A kretprobe puts its own return address where ours stood. A program of its own,
 * since the kernel's text is patched for it, at which TCG with several CPUs is bad.
 */
#include "hazards.h"

#ifdef __x86_64__
#define BODY(name)	"__x64_sys_" name
#else
#define BODY(name)	"__ia32_sys_" name
#endif

static int pipes[2];

static pid_t seven_calls_and_a_sleep(void)
{
	pid_t child;

	if (pipe(pipes))
		return -1;
	child = fork();
	if (!child) {
		char byte;
		long sum = 0;

		for (int i = 0; i < 7; i++)
			sum += call(SYS_getuid32, 1, 2, 3, 4, 5, 6);
		note("sum %ld ", sum);
		_exit(call(SYS_read, pipes[0], &byte, 1));
	}
	wait_asleep(child, "S");
	return child;
}

static void wake(pid_t child)
{
	if (write(pipes[1], "x", 1) != 1)
		note("no write ");
	note_child(child);
}

static void add_probe(const char *text)
{
	int fd = open(TRACING "kprobe_events", O_WRONLY | O_APPEND);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		note("%s: %d ", text, errno);
	close(fd);
}

static void kprobes(void)
{
	pid_t child;

	put_text(TRACING "trace", "");
	add_probe("p:in " BODY("getuid"));
	add_probe("r:out " BODY("getuid") " $retval");
	add_probe("r:end " BODY("read") " $retval");
	put_text(TRACING "events/kprobes/enable", "1");
	child = seven_calls_and_a_sleep();
	wake(child);
	note("in %d out %d end %d ", count_in_trace(" in:", 0, child), count_in_trace(" out:", 0, child),
	     count_in_trace(" end:", 0, child));
	/* off while asleep inside a probed function */
	child = seven_calls_and_a_sleep();
	put_text(TRACING "events/kprobes/enable", "0");
	put_text(TRACING "kprobe_events", "");
	wake(child);
	note("after %ld ", call(SYS_getuid32));
}

HAZARDS(
	{ "kprobes on a call's function", "kprobes", kprobes, 1 }
)
