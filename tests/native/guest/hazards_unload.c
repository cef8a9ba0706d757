// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Sleeps for ever in a fast call of the kind that the command line names, while another thread
 * unmaps the stub. So only the task's stack tells the module that it is needed. If the call
 * returns, the program prints its result.
 */
#include "hazards.h"
#include <linux/io_uring.h>
#include <linux/reboot.h>
#include <sys/epoll.h>
#include <sys/socket.h>

static int take_mapping_away(void *unused)
{
	(void)unused;
	wait_asleep(getpid(), "SD");
	munmap(stub_page, 4096);
	for (;;)
		pause();
	return 0;
}

/*
 * In a namespace of PIDs, reboot() ends the caller in the body of the call. If that is the namespace's first
 * process, it waits until all others have been reaped: here for ever for one of ours.
 */
static long reboot_in_namespace(void)
{
	pid_t first, other;
	char byte = 0;

	if (pipe(pipes) || unshare(CLONE_NEWPID))
		return -errno;
	first = fork();
	if (!first) {
		if (read(pipes[0], &byte, 1) != 1)
			_exit(1);
		call(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_RESTART);
		_exit(1);
	}
	other = fork();
	if (!other)
		for (;;)
			pause();
	call(SYS_getuid32);
	if (first < 0 || other < 0 || write(pipes[1], &byte, 1) != 1)
		return -1;
	return waitpid(first, NULL, 0);
}

static long sleep_in(const char *what)
{
	struct io_uring_params parameters = { 0 };
	struct timespec year = { 31536000, 0 };
	struct epoll_event event;
	static uint32_t word;
	sigset_t none;
	int ends[2];
	char byte;

	sigemptyset(&none);
	if (pipe(ends))
		return -1;
	if (!strcmp(what, "read"))
		return call(SYS_read, ends[0], &byte, 1);
	if (!strcmp(what, "poll"))
		return call(SYS_poll, 0, 0, -1);
	if (!strcmp(what, "epoll"))
		return call(SYS_epoll_wait, epoll_create1(0), &event, 1, -1);
	if (!strcmp(what, "nanosleep"))
		return call(SYS_nanosleep, &year, 0);
	if (!strcmp(what, "futex"))
		return call(SYS_futex, &word);
	if (!strcmp(what, "sigtimedwait"))
		return call(SYS_rt_sigtimedwait, &none, 0, 0, 8);
	if (!strcmp(what, "pselect6"))
		return call(SYS_pselect6, 0, 0, 0, 0, 0, 0);
	if (!strcmp(what, "io_uring"))
		return call(SYS_io_uring_enter, syscall(SYS_io_uring_setup, 8, &parameters), 0, 1, IORING_ENTER_GETEVENTS);
	if (!strcmp(what, "socket"))	/* waits for modprobe, and a signal that does not kill does not end that */
		return call(SYS_socket, AF_ROSE, SOCK_DGRAM, 0);
	if (!strcmp(what, "wait4")) {
		if (!fork()) {
			munmap(stub_page, 4096);
			pause();
		}
		return call(SYS_wait4, -1, 0, 0, 0);
	}
	if (!strcmp(what, "reboot"))
		return reboot_in_namespace();
#ifdef __x86_64__
	if (!strcmp(what, "nowhere")) {	/* return address 0, as in a thread that was never in user mode */
		long nr = SYS_nanosleep + SYSENTER_MARK_AMD64;

		asm volatile("xorl %%ecx, %%ecx\n\txorl %%r11d, %%r11d\n\tsysenter"
			     : "+a"(nr) : "D"(&year), "S"(0) : "memory", "cc", "rcx", "rdx", "r8", "r9", "r10", "r11");
	}
#endif
	if (!strcmp(what, "delete_module")) {
		munmap(stub_page, 4096);
		return call(SYS_delete_module, "sysenter", O_NONBLOCK);
	}
	return -1;
}

int main(int argc, char **argv)
{
	static char notes[SAID_SIZE];
	int device = open("/dev/sysenter", O_RDONLY);

	said = notes;
	alone = getenv("SYSENTER_PATH") && !strcmp(getenv("SYSENTER_PATH"), "stock");	/* scope=all */
	if (!alone)
		stub_page = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, device, 0);
	if (argc != 2 || stub_page == MAP_FAILED || (!alone && close(device)))
		return 2;
	take_path(alone ? 0 : MARK);
	if (!alone && strcmp(argv[1], "delete_module"))
		start_thread(take_mapping_away);
	printf("%s: %ld\n", argv[1], sleep_in(argv[1]));
	return 0;
}
