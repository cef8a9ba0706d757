/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Process 1 of a guest with Linux 2.2 or 2.4. Carries out /plan, one command a
 * line, says of each what came of it as one JSON object on a line of its own,
 * and ends the machine.
 */
#include "sys.h"

#define PLAN_MAX 4096
#define ARGS_MAX 16

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

/* run FILE [ARGUMENT...]: a program of its own, waited for */
static int run(int argc, char **argv)
{
	static char *environment[ARGS_MAX];
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

/* sleeper: a process that sleeps in a fast call, until `reap` ends it */
static int sleeping_pid;

static int sleeper(int argc, char **argv)
{
	int p[2];
	char byte;

	int80(NR_pipe, (long)p, 0, 0);
	sleeping_pid = forked();
	if (sleeping_pid == 0)
		int80(NR_exit, fast(NR_read, p[0], (long)&byte, 1) != 0, 0, 0);
	sleep_ms(100);
	return sleeping_pid > 0 ? 0 : sleeping_pid;
}

static int reap(int argc, char **argv)
{
	int80(NR_kill, sleeping_pid, SIGKILL, 0);
	return SIGNALED(wait_for(sleeping_pid)) == SIGKILL ? 0 : -EINVAL;
}

/* hold FILE: open it, until `release` reads and closes it */
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

	int80(NR_close, held_file, 0, 0);
	return n > 0 ? 0 : -EINVAL;
}

static int uname_release(int argc, char **argv)
{
	char names[6][65];

	int80(NR_uname, (long)names, 0, 0);
	say("{\"event\": \"uname\", \"release\": \"%s\", \"version\": \"%s\"}",
	    names[2], names[3]);
	return 0;
}

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
} commands[] = {
	{ "load", load }, { "unload", unload }, { "count", count },
	{ "dd", dd }, { "pingpong", pingpong }, { "hostile", hostile },
	{ "storm", storm }, { "cat", cat }, { "peek", peek }, { "run", run },
	{ "uname", uname_release }, { "sleeper", sleeper }, { "reap", reap },
	{ "hold", hold }, { "release", release },
};

/* Whether the plan can go on: behind a load that failed, SYSENTER would kill. A
   line that begins with `try` may fail. */
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
	for (i = 0; i < sizeof(commands) / sizeof(*commands); i++)
		if (streq(commands[i].name, argv[0]))
			result = commands[i].run(argc, argv);
	say("{\"event\": \"done\", \"step\": %d, \"command\": \"%s\", "
	    "\"result\": %d}", number, argv[0], result);
	return may_fail || result == 0 || !streq(argv[0], "load");
}

static void boot(void)
{
	static char plan[PLAN_MAX];
	char *line, *p;
	long fd, n;
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

	fd = int80(NR_open, (long)"/plan", 0, 0);
	n = int80(NR_read, fd, (long)plan, PLAN_MAX - 1);
	int80(NR_close, fd, 0, 0);
	plan[n > 0 ? n : 0] = 0;
	for (line = p = plan; *p; p++)
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

	if (int80(NR_getpid, 0, 0, 0) == 1)
		boot();
	/* As a program of its own: `init exited N` is what exec tests run. */
	if (argc == 3 && streq(argv[1], "exit"))
		int80(NR_exit, number(argv[2]), 0, 0);
	if (argc > 1 && streq(argv[1], "dd"))
		int80(NR_exit, dd(argc - 1, argv + 1), 0, 0);
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
