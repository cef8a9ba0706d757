// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * micro NAME COUNT: makes one kind of system call, many times. The names are lmbench's. It is
 * linked dynamically, so that a preload library can move its calls.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int zero, null, ends[2];

static void need(int right)
{
	if (!right) {
		perror("micro");
		exit(1);
	}
}

static void call_null(void)
{
	need(getppid() > 0);
}

static void call_read(void)
{
	char byte;

	need(read(zero, &byte, 1) == 1);
}

static void call_write(void)
{
	need(write(null, "", 1) == 1);
}

static void call_stat(void)
{
	struct stat info;

	need(!stat("/dev/zero", &info));
}

static void call_fstat(void)
{
	struct stat info;

	need(!fstat(zero, &info));
}

static void call_open(void)
{
	int file = open("/dev/null", O_RDONLY);

	need(file >= 0);
	close(file);
}

static void call_select(void)
{
	struct timeval none = { 0, 0 };
	fd_set set;

	FD_ZERO(&set);
	FD_SET(zero, &set);
	need(select(zero + 1, &set, NULL, NULL, &none) == 1);
}

static void call_poll(void)
{
	struct pollfd file = { .fd = zero, .events = POLLIN };

	need(poll(&file, 1, 0) == 1);
}

/* A byte through a pipe or a socket, and out of it again: two calls. */
static void through(void)
{
	char byte = 0;

	need(write(ends[1], &byte, 1) == 1 && read(ends[0], &byte, 1) == 1);
}

static void call_mmap(void)
{
	void *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	need(page != MAP_FAILED);
	munmap(page, 4096);
}

static void call_fork(void)
{
	pid_t child = fork();

	if (!child)
		_exit(0);
	need(child > 0 && waitpid(child, NULL, 0) == child);
}

static volatile sig_atomic_t caught;

static void on_signal(int number)
{
	(void)number;
	caught++;
}

static void call_signal(void)
{
	sig_atomic_t before = caught;

	need(!kill(getpid(), SIGUSR1) && caught != before);
}

/* A byte to another process and back: two context switches, four calls. */
static int there[2], back[2];

static void call_switch(void)
{
	char byte = 0;

	need(write(there[1], &byte, 1) == 1 && read(back[0], &byte, 1) == 1);
}

static void other_process(void)
{
	char byte;

	need(!pipe(there) && !pipe(back));
	if (fork())
		return;
	close(there[1]);
	close(back[0]);
	while (read(there[0], &byte, 1) == 1)
		need(write(back[1], &byte, 1) == 1);
	_exit(0);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*call)(void);
	} kinds[] = {
		{ "null", call_null }, { "read", call_read }, { "write", call_write },
		{ "stat", call_stat }, { "fstat", call_fstat }, { "open", call_open },
		{ "select", call_select }, { "poll", call_poll }, { "pipe", through },
		{ "unix", through }, { "mmap", call_mmap }, { "fork", call_fork },
		{ "signal", call_signal }, { "switch", call_switch },
	};

	if (argc != 3) {
		fprintf(stderr, "usage: micro NAME COUNT\n");
		return 2;
	}
	zero = open("/dev/zero", O_RDONLY);
	null = open("/dev/null", O_WRONLY);
	need(zero >= 0 && null >= 0 && signal(SIGUSR1, on_signal) != SIG_ERR);
	if (!strcmp(argv[1], "unix"))
		need(!socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
	else
		need(!pipe(ends));
	if (!strcmp(argv[1], "switch"))
		other_process();
	for (size_t kind = 0; kind < sizeof(kinds) / sizeof(*kinds); kind++)
		if (!strcmp(argv[1], kinds[kind].name)) {
			for (long count = atol(argv[2]); count > 0; count--)
				kinds[kind].call();
			return 0;
		}
	fprintf(stderr, "micro: no %s\n", argv[1]);
	return 2;
}
