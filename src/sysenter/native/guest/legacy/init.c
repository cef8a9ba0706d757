/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Process 1 of a guest with Linux 2.2 or 2.4. Executes the commands in /plan, one a line,
 * prints the result of each as one JSON object on a line, and switches the machine off. The
 * fast calls in here are made by SYSENTER. /init-syscall is the same program compiled for
 * AMD's SYSCALL. It is run where calls go by SYSCALL.
 */
#include "sys.h"

#define ARGS_MAX 16		/* words in a line of the plan */

enum { S_IFCHR = 0020000 };
#define DEVICE(major, minor) ((major) << 8 | (minor))

static const struct { const char *path; int device; } devices[] = {
	{ "/dev/console", DEVICE(5, 1) }, { "/dev/ttyS1", DEVICE(4, 65) }, { "/dev/kmem", DEVICE(1, 2) },
	{ "/dev/null", DEVICE(1, 3) }, { "/dev/zero", DEVICE(1, 5) },
};

static int cat(int argc, char **argv)
{
	static char text[4096];
	char *p, *line;
	long fd, n, size = 0;

	if (argc != 2 || (fd = int80(NR_open, (long)argv[1], 0, 0)) < 0)
		return argc != 2 ? -EINVAL : fd;
	while ((n = int80(NR_read, fd, (long)text + size,
			  sizeof(text) - 1 - size)) > 0)
		size += n;
	int80(NR_close, fd, 0, 0);
	if (size == sizeof(text) - 1)
		return -EFBIG;
	text[size] = 0;
	for (line = p = text; *p; p++)
		if (*p == '\n') {
			*p = 0;
			say("{\"event\": \"line\", \"file\": \"%s\", "
			    "\"text\": \"%s\"}", argv[1], line);
			line = p + 1;
		}
	return 0;
}

/* peek ADDRESS LENGTH: bytes of kernel memory */
static int peek(int argc, char **argv)
{
	unsigned char bytes[64];
	char hex[3 * 64 + 1], *p = hex;
	long fd, n, i;

	if (argc != 3)
		return -EINVAL;
	n = number(argv[2]);
	fd = int80(NR_open, (long)"/dev/kmem", 0, 0);
	if (fd < 0 || n > 64)
		return -EINVAL;
	int80(NR_lseek, fd, number(argv[1]), 0);
	n = int80(NR_read, fd, (long)bytes, n);
	int80(NR_close, fd, 0, 0);
	for (i = 0; i < n; i++) {
		*p++ = "0123456789abcdef"[bytes[i] >> 4];
		*p++ = "0123456789abcdef"[bytes[i] & 15];
		*p++ = ' ';
	}
	*p = 0;
	say("{\"event\": \"peek\", \"address\": \"%s\", \"bytes\": \"%s\"}",
	    argv[1], hex);
	return n > 0 ? 0 : (int)n;
}

/* run FILE [ARGUMENT...]: runs a program and waits for it */
static int run(int argc, char **argv)
{
	static char *environment[ARGS_MAX + 2];
	int first = 1, e = 0, pid;

	while (first < argc) {			/* NAME=VALUE first, as env(1) */
		char *p = argv[first];

		while (*p && *p != '=' && *p != '/')
			p++;
		if (*p != '=')
			break;
		environment[e++] = argv[first++];
	}
	environment[e] = 0;
	if (first >= argc)
		return -EINVAL;
	pid = forked();
	if (pid == 0) {
		int80(NR_execve, (long)argv[first], (long)(argv + first),
		      (long)environment);
		int80(NR_exit, 127, 0, 0);
	}
	return wait_for(pid);
}

/* By which instruction is the module entered? Ask the module, as programs do. */
static int by_syscall(void)
{
	static const char line[] = "way syscall\n";
	char text[256];
	long fd = int80(NR_open, (long)"/proc/sysenter", 0, 0), n, i;

	n = fd < 0 ? 0 : int80(NR_read, fd, (long)text, sizeof(text));
	if (fd >= 0)
		int80(NR_close, fd, 0, 0);
	for (i = 0; i + (long)sizeof(line) - 1 <= n; i++)
		if (memory_same(text + i, line, sizeof(line) - 1))
			return 1;
	return 0;
}

/* sleeper: a process that sleeps in a fast call, until `reap` ends it */
static int sleeping_pid;

static int sleeper(int argc, char **argv)
{
	int p[2];
	char byte;

	int80(NR_pipe, (long)p, 0, 0);
	sleeping_pid = forked();
	if (sleeping_pid == 0) {
		if (by_syscall()) {
			char *args[] = { "/init-syscall", "asleep", 0 };

			int80(NR_dup2, p[0], 0, 0);
			int80(NR_execve, (long)args[0], (long)args, (long)(args + 2));
		}
		int80(NR_exit, fast(NR_read, p[0], (long)&byte, 1) != 0, 0, 0);
	}
	sleep_ms(100);
	return sleeping_pid > 0 ? 0 : sleeping_pid;
}

/* Run as a program: the same, with commands from its standard input. */
static int asleep(int argc, char **argv)
{
	char byte;

	return fast(NR_read, 0, (long)&byte, 1) != 0;
}

static int reap(int argc, char **argv)
{
	int80(NR_kill, sleeping_pid, SIGKILL, 0);
	return SIGNALED(wait_for(sleeping_pid)) == SIGKILL ? 0 : -EINVAL;
}

static int once(int argc, char **argv)
{
	return fast(NR_getppid, 0, 0, 0) <= 0;
}

/* off: checks that neither SYSENTER nor SYSCALL is on, and prints where the IDT is */
static int off(int argc, char **argv)
{
	char *by_syscall[] = { "run", "/init-syscall", "once", 0 };
	struct { unsigned short limit; u32 base; } __attribute__((packed)) idt;
	int pid = forked(), status[2];

	if (pid == 0)
		int80(NR_exit, once(0, 0), 0, 0);
	status[0] = wait_for(pid);
	status[1] = run(3, by_syscall);
	__asm__ volatile("sidt %0" : "=m" (idt));
	say("{\"event\": \"off\", \"sysenter\": %d, \"syscall\": %d, "
	    "\"idt\": \"0x%x\"}", (long)SIGNALED(status[0]),
	    (long)SIGNALED(status[1]), (long)idt.base);
	return SIGNALED(status[0]) && SIGNALED(status[1]) ? 0 : -EINVAL;
}

/* hold FILE: opens it and keeps it open until `release`, which reads it and closes it */
static long held_file;

static int hold(int argc, char **argv)
{
	held_file = argc == 2 ? int80(NR_open, (long)argv[1], 0, 0) : -EINVAL;
	return held_file < 0 ? held_file : 0;
}

static int release(int argc, char **argv)
{
	char bytes[16];
	long n = int80(NR_read, held_file, (long)bytes, sizeof(bytes));
	/* An offset of 64 bits that is negative if it is cut to 32: behind the end. */
	long behind = int80_5(NR_pread, held_file, (long)bytes, sizeof(bytes),
			      (long)0x80000000, 0);

	int80(NR_close, held_file, 0, 0);
	return n > 0 && behind == 0 ? 0 : -EINVAL;
}

static int uname_release(int argc, char **argv)
{
	char names[6][65];

	int80(NR_uname, (long)names, 0, 0);
	say("{\"event\": \"uname\", \"release\": \"%s\", \"version\": \"%s\"}",
	    names[2], names[3]);
	return 0;
}

/* enters: the command makes fast calls, so the program that has the right instruction for
   them must execute it */
static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
	int enters;
} commands[] = {
	{ "load", load, 0 }, { "unload", unload, 0 }, { "count", count, 1 },
	{ "dd", dd, 1 }, { "pingpong", pingpong, 1 }, { "hostile", hostile, 1 },
	{ "storm", storm, 1 }, { "window", window, 1 }, { "once", once, 1 },
	{ "cat", cat, 0 }, { "peek", peek, 0 }, { "run", run, 0 },
	{ "off", off, 0 }, { "uname", uname_release, 0 },
	{ "sleeper", sleeper, 0 }, { "asleep", asleep, 1 }, { "reap", reap, 0 },
	{ "hold", hold, 0 }, { "release", release, 0 },
};
#define COMMANDS (sizeof(commands) / sizeof(*commands))

static int do_command(u32 i, int argc, char **argv)
{
	char *args[ARGS_MAX + 3] = { "run", "/init-syscall" };
	int j;

	if (!commands[i].enters || !by_syscall())
		return commands[i].run(argc, argv);
	for (j = 0; j < argc; j++)
		args[j + 2] = argv[j];
	return run(argc + 2, args);
}

/* May the plan go on? Behind a load that failed, SYSENTER would kill this process. A command
   in a line that begins with `try` may fail. */
static int carry_out(int number, char *line)
{
	char *args[ARGS_MAX + 1], **argv = args, *p = line;
	int argc = 0, may_fail;
	long result = -ENOSYS;
	u32 i;

	while (argc < ARGS_MAX) {
		while (*p == ' ')
			*p++ = 0;
		if (!*p)
			break;
		argv[argc++] = p;
		while (*p && *p != ' ')
			p++;
	}
	argv[argc] = 0;
	if (!argc || argv[0][0] == '#')
		return 1;
	may_fail = argc > 1 && streq(argv[0], "try");
	argv += may_fail;
	argc -= may_fail;
	say("{\"event\": \"start\", \"step\": %d, \"command\": \"%s\"}", number,
	    argv[0]);
	if (*p)
			result = -E2BIG;		/* more words than ARGS_MAX */
	for (i = 0; i < COMMANDS && !*p; i++)
		if (streq(commands[i].name, argv[0]))
			result = do_command(i, argc, argv);
	say("{\"event\": \"done\", \"step\": %d, \"command\": \"%s\", "
	    "\"result\": %d}", number, argv[0], result);
	return may_fail || result == 0 || !streq(argv[0], "load");
}

/* Read the whole of /plan, however long, to the memory at the program's end. Returns NULL,
   and prints why, if that cannot be done. */
static char *read_plan(void)
{
	long fd = int80(NR_open, (long)"/plan", 0, 0), size, n, got = 0;
	char *plan = (char *)int80(NR_brk, 0, 0, 0);

	size = int80(NR_lseek, fd, 0, 2);
	int80(NR_lseek, fd, 0, 0);
	if (size >= 0 && int80(NR_brk, (long)plan + size + 1, 0, 0)
	    == (long)plan + size + 1)
		while ((n = int80(NR_read, fd, (long)plan + got, size - got)) > 0)
			got += n;
	int80(NR_close, fd, 0, 0);
	if (size < 0 || got != size) {
		say("{\"event\": \"plan\", \"error\": \"of its plan of %d bytes "
		    "the guest could read %d\"}", size, got);
		return 0;
	}
	plan[size] = 0;
	return plan;
}

static void boot(void)
{
	char *line, *p;
	u32 i;
	int step = 0;

	int80(NR_mkdir, (long)"/dev", 0755, 0);
	int80(NR_mkdir, (long)"/proc", 0755, 0);
	for (i = 0; i < sizeof(devices) / sizeof(*devices); i++)
		int80(NR_mknod, (long)devices[i].path, S_IFCHR | 0600,
		      devices[i].device);
	for (i = 0; i < 3; i++)
		int80(NR_close, i, 0, 0);
	/* The second serial port is the task's, the first the kernel's log. */
	if (int80(NR_open, (long)"/dev/ttyS1", 2, 0) < 0)
		int80(NR_open, (long)"/dev/console", 2, 0);
	int80(NR_dup2, 0, 1, 0);
	int80(NR_dup2, 0, 2, 0);
	int80_5(NR_mount, (long)"proc", (long)"/proc", (long)"proc",
		(long)0xc0ed0000 /* MS_MGC_VAL */, 0);

	for (line = p = read_plan(); p && *p; p++)
		if (*p == '\n') {
			*p = 0;
			if (!carry_out(++step, line))
				break;
			line = p + 1;
		}
	say("{\"exit\": 0}");
	for (i = 0; i < 3; i++)			/* a terminal drains when closed */
		int80(NR_close, i, 0, 0);
	int80_5(NR_reboot, (long)0xfee1dead, 672274793, 0x01234567, 0, 0);
	for (;;)
		int80(NR_pause, 0, 0, 0);
}

__attribute__((used)) static void enter(long *stack)
{
	int argc = stack[0];
	char **argv = (char **)(stack + 1);
	u32 i;

	if (int80(NR_getpid, 0, 0, 0) == 1)
		boot();
	/* Run as a program: print `init exited N` for the tests of exec. */
	if (argc == 3 && streq(argv[1], "exit"))
		int80(NR_exit, number(argv[2]), 0, 0);
	for (i = 0; argc > 1 && i < COMMANDS; i++)
		if (commands[i].enters && streq(argv[1], commands[i].name))
			int80(NR_exit, -commands[i].run(argc - 1, argv + 1), 0, 0);
	int80(NR_exit, 126, 0, 0);
}

__asm__(".globl _start\n"
	"_start:\n\t"
	"movl %esp,%eax\n\t"
	"andl $-16,%esp\n\t"
	"subl $12,%esp\n\t"
	"pushl %eax\n\t"
	"call enter\n\t"
	"hlt");
