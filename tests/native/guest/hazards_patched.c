// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * As root: cases in which the kernel rewrites its own text to switch probes, tracepoints and
 * cgroups on and off, before, during and after calls. They are in a program of their own, because
 * TCG with several CPUs is bad at that (docs/evidence.md).
 */
#include "hazards.h"
#include <sys/mount.h>
#include <sys/stat.h>

#ifdef __x86_64__
#define BODY(name)	"__x64_sys_" name
#else
#define BODY(name)	"__ia32_sys_" name
#endif

static void append_text(const char *name, const char *text)
{
	int fd = open(name, O_WRONLY | O_APPEND);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		note("%s: %d ", text, errno);
	close(fd);
}

/* A kretprobe replaces our return address by its own. */
static void kprobes(void)
{
	pid_t child;

	put_text(TRACING "trace", "");
	append_text(TRACING "kprobe_events", "p:in " BODY("getuid"));
	append_text(TRACING "kprobe_events", "r:out " BODY("getuid") " $retval");
	append_text(TRACING "kprobe_events", "r:end " BODY("read") " $retval");
	put_text(TRACING "events/kprobes/enable", "1");
	child = asleep_after(7);
	wake(child);
	note("in %d out %d end %d ", count_in_trace(" in:", 0, child), count_in_trace(" out:", 0, child),
	     count_in_trace(" end:", 0, child));
	/* switched off while a task sleeps in the probed function */
	child = asleep_after(7);
	put_text(TRACING "events/kprobes/enable", "0");
	put_text(TRACING "kprobe_events", "");
	wake(child);
	note("after %ld ", call(SYS_getuid32));
}

/* --- probes in the caller's own text ------------------------------------------------------ */

static void add_user_probe(unsigned long address)
{
	char line[256], path[128] = "", text[192];
	unsigned long start = 0, end, offset = 0;
	FILE *maps = fopen("/proc/self/maps", "r");

	while (maps && fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-%lx %*s %lx %*s %*s %127s", &start, &end, &offset, path) == 4 &&
		    address >= start && address < end)
			break;
	if (maps)
		fclose(maps);
	snprintf(text, sizeof(text), "p:user %s:0x%lx", path, address - start + offset);
	put_text(TRACING "trace", "");
	append_text(TRACING "uprobe_events", text);
	put_text(TRACING "events/uprobes/enable", "1");
}

static void remove_user_probes(void)
{
	put_text(TRACING "events/uprobes/enable", "0");
	put_text(TRACING "uprobe_events", "");
}

/* i386: on both paths that is in the vDSO, which is no file. */
static void uprobe_on_return(void)
{
	pid_t child;

	add_user_probe(return_address());
	child = asleep_after(7);
	wake(child);
	note("probed %d ", count_in_trace(" user:", 0, child));
	child = asleep_after(7);
	remove_user_probes();
	wake(child);
}

/* The kernel executes a probed instruction elsewhere, with TF. On either path the caller dies of that. */
static void uprobe_on_entering(void)
{
	pid_t child;

	add_user_probe(entering_address());
	child = fork();
	if (!child) {
		call(SYS_getuid32, 1, 2, 3, 4, 5, 6);
		call(SYS_mmap2, 0, 0, 3, 4, 5, 6);
		_exit(0);
	}
	note_child(child);
	note("probed %d ", count_in_trace(" user:", 0, child));
	remove_user_probes();
	note("after %ld ", call(SYS_getuid32));
}

/* --- function tracers ------------------------------------------------------------------- */

/*
 * The tracer is switched on before the first child, and off while a second one sleeps inside.
 * `leaf` and `end` are lines of the trace. Only the functions of these calls are traced;
 * test_function_tracers.py traces all.
 */
static void trace_functions(const char *tracer, const char *leaf, const char *end)
{
	pid_t child;

	put_text(TRACING "trace", "");
	put_text(TRACING "set_ftrace_filter", "__do_sys_getuid\n");
	append_text(TRACING "set_ftrace_filter", BODY("read") "\n");
	put_text(TRACING "current_tracer", tracer);
	child = asleep_after(7);
	wake(child);
	note("leaf %d end %d ", count_in_trace(leaf, 0, child), count_in_trace(end, 0, child));
	child = asleep_after(7);
	put_text(TRACING "current_tracer", "nop");
	wake(child);
	put_text(TRACING "set_ftrace_filter", "");
	note("after %ld ", call(SYS_getuid32));
}

static void function_tracer(void)
{
	trace_functions("function", "__do_sys_getuid <-", BODY("read") " <-");
}

/* It replaces our return address by its own, as a kretprobe does, and keeps ours on a stack of its own. */
static void function_graph_tracer(void)
{
	put_text(TRACING "options/funcgraph-proc", "1");
	put_text(TRACING "options/funcgraph-tail", "1");
	trace_functions("function_graph", "__do_sys_getuid();", BODY("read") " */");
	put_text(TRACING "options/funcgraph-tail", "0");
	put_text(TRACING "options/funcgraph-proc", "0");
}

/* --- tracepoints --------------------------------------------------------------------- */

static void tracepoints(void)
{
	pid_t child;

	if (pipe(pipes))
		return;
	put_text(TRACING "trace", "");
	child = fork();
	if (!child) {
		char byte;

		call(SYS_getuid32);			/* before */
		call(SYS_read, pipes[0], &byte, 1);	/* during: asleep when they go on */
		for (int i = 0; i < 7; i++)
			call(SYS_getuid32, 1, 2, 3, 4, 5, 6);
		call(SYS_mmap2, 0, 0, 0x33, 0x44, 0x55, 0x66);
		call(NO_SUCH_CALL);
		_exit(0);
	}
	wait_asleep(child, "S");
	put_text(TRACING "events/raw_syscalls/enable", "1");
	if (write(pipes[1], "x", 1) != 1)
		note("no write ");
	note_child(child);
	put_text(TRACING "events/raw_syscalls/enable", "0");
	note("enter %d exit %d mmap2 %d none %d read's exit %d ", count_in_trace("sys_enter: NR %ld (1, 2, 3, 4, 5, 6)", SYS_getuid32, child),
	     count_in_trace("sys_exit: NR %ld = 0", SYS_getuid32, child),
	     count_in_trace("sys_enter: NR %ld (0, 0, 33, 44, 55, 66)", SYS_mmap2, child),
	     count_in_trace("sys_exit: NR %ld = -38", NO_SUCH_CALL, child),
	     count_in_trace("sys_exit: NR %ld = 1", SYS_read, child));
	note("after %ld ", call(SYS_getuid32));
}

/* --- cgroups --------------------------------------------------------------------------- */

#define CGROUPS "/tmp/cgroups"

/* A cgroup (version 2) with the child in it. */
static void confine(pid_t child)
{
	char text[16];

	mkdir(CGROUPS, 0755);
	note("mount %d ", mount("none", CGROUPS, "cgroup2", 0, NULL));
	put_text(CGROUPS "/cgroup.subtree_control", "+memory");
	note("group %d ", mkdir(CGROUPS "/group", 0755));
	snprintf(text, sizeof(text), "%d", child);
	put_text(CGROUPS "/group/cgroup.procs", text);
}

static void release(void)
{
	for (int i = 0; i < 100 && rmdir(CGROUPS "/group"); i++)
		milliseconds(10);
	umount(CGROUPS);
}

/* The freezer stops a task that sleeps inside. The task must not go on when it is woken, until it is thawed. */
static void frozen(void)
{
	char events[128] = "";
	pid_t child = asleep_in_read();
	int fd;

	confine(child);
	put_text(CGROUPS "/group/cgroup.freeze", "1");
	for (int i = 0; i < 200 && !strstr(events, "frozen 1"); i++) {
		milliseconds(10);
		fd = open(CGROUPS "/group/cgroup.events", O_RDONLY);
		note("%s", read(fd, events, sizeof(events) - 1) > 0 ? "" : "no events ");
		close(fd);
	}
	note("%s ", strstr(events, "frozen 1") ? "frozen" : "not frozen");
	if (write(pipes[1], "x", 1) != 1)
		note("no write ");
	milliseconds(100);
	note("ended %d ", waitpid(child, NULL, WNOHANG));
	put_text(CGROUPS "/group/cgroup.freeze", "0");
	note_child(child);
	release();
}

/* The memory limit kills a task at a fault in a copy that the call itself makes. */
static void killed_for_memory(void)
{
	size_t size = 64 << 20;
	pid_t child;

	if (pipe(pipes))
		return;
	child = fork();
	if (!child) {
		char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), byte;

		call(SYS_read, pipes[0], &byte, 1);
		for (;;)
			note("%ld ", call(SYS_read, open("/dev/zero", O_RDONLY), memory, size));
	}
	wait_asleep(child, "S");
	confine(child);
	put_text(CGROUPS "/group/memory.max", "4194304");
	put_text("/proc/sys/kernel/printk", "1");	/* what the kernel then prints has a call trace in it */
	wake(child);
	put_text("/proc/sys/kernel/printk", "5");
	release();
}

HAZARDS(
	{ "kprobes on a call's function", "kprobes", kprobes, 1 },
	{ "uprobe where a call returns", "uprobe_on_return", uprobe_on_return, 1 },
	{ "uprobe on the entering instruction", "uprobe_on_entering", uprobe_on_entering, 1 },
	{ "function tracer", "function_tracer", function_tracer, 1 },
	{ "function graph tracer", "function_graph_tracer", function_graph_tracer, 1 },
	{ "syscall tracepoints", "tracepoints", tracepoints, 1 },
	{ "cgroup freezer", "frozen", frozen, 1 },
	{ "killed for memory by a copy", "killed_for_memory", killed_for_memory, 1 }
)
