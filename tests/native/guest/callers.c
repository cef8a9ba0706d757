// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * An ordinary program that makes all kinds of calls through libc: threads and children, six
 * arguments, calls that block, restart or fail, signals. If something is wrong, it says what and
 * exits with 1. Otherwise it exits with 0.
 *
 *	callers		all of it
 *	callers parent	only prints what getppid() returns
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHECK(condition) do {						\
	if (!(condition)) {						\
		printf("callers: line %d: %s (errno %d)\n", __LINE__, #condition, errno); \
		exit(1);						\
	}								\
} while (0)

static volatile int *alarms;	/* shared with children */
static pid_t parent;

static void on_alarm(int signal)
{
	(void)signal;
	++*alarms;
}

static void *many_calls(void *unused)
{
	for (int i = 0; i < 10000; i++)
		CHECK(getppid() == parent);
	return unused;
}

static void restarted_read(void)
{
	struct sigaction action = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
	int fds[2], status;
	char two[2];
	pid_t child;

	alarms = mmap(NULL, sizeof(*alarms), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(alarms != MAP_FAILED && !sigaction(SIGALRM, &action, NULL) && !pipe(fds));
	ualarm(10000, 10000);		/* before the child, which does not inherit it */
	child = fork();
	CHECK(child >= 0);
	if (!child) {
		usleep(60000);
		/* on a busy host the CPU whose timer it is may not run for longer than that */
		for (int i = 0; i < 500 && !*alarms; i++)
			usleep(10000);
		_exit(write(fds[1], "ab", 2) != 2);
	}
	CHECK(read(fds[0], two, 2) == 2);
	CHECK(!memcmp(two, "ab", 2));
	CHECK(*alarms);
	ualarm(0, 0);
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	close(fds[0]);
	close(fds[1]);
}

static void stopped_sleep(void)
{
	struct timespec half = { 0, 80000000 };
	int status;
	pid_t child = fork();

	CHECK(child >= 0);
	if (!child)
		_exit(nanosleep(&half, NULL) != 0);
	usleep(20000);
	CHECK(!kill(child, SIGSTOP));
	usleep(20000);
	CHECK(!kill(child, SIGCONT));
	CHECK(waitpid(child, &status, 0) == child && status == 0);
}

/*
 * send() and recv() have four arguments, and their system calls have six. The caller's values in
 * the registers of the other two must not be taken for arguments.
 */
static long with_junk(void *function, long a, void *b, long c, long d)
{
#ifdef __x86_64__
	register long r8 asm("r8") = 1;
	register long r9 asm("r9") = 1;
	long result;

	/* below the red zone, and aligned as the ABI has it */
	asm volatile("pushq %%rbp\n\tmovq %%rsp, %%rbp\n\tsubq $256, %%rsp\n\tandq $-16, %%rsp\n\t"
		     "movq %[d], %%rcx\n\tcall *%[function]\n\tmovq %%rbp, %%rsp\n\tpopq %%rbp"
		     : "=a"(result), "+D"(a), "+S"(b), "+d"(c), "+r"(r8), "+r"(r9)
		     : [function] "a"(function), [d] "b"(d) : "memory", "cc", "rcx", "r10", "r11");
	return result;
#else
	return ((long (*)(long, void *, long, long))function)(a, b, c, d);
#endif
}

static void sockets(void)
{
	char two[3] = "";
	int ends[2];

	CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
	CHECK(with_junk(send, ends[0], "ab", 2, MSG_NOSIGNAL) == 2);
	CHECK(with_junk(recv, ends[1], two, 2, MSG_WAITALL) == 2 && !strcmp(two, "ab"));
	CHECK(!close(ends[0]) && !close(ends[1]));
}

/* A program with one thread may cancel itself: it must end at its next cancellation point. */
static void cancels_itself(void)
{
	int ends[2], status;
	pid_t child;
	char byte;

	CHECK(!pipe(ends));
	child = fork();
	if (!child) {
		alarm(100);		/* a machine that hibernates stands still for some of these seconds */
		pthread_cancel(pthread_self());
		_exit(read(ends[0], &byte, 1) ? 8 : 9);
	}
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	CHECK(!close(ends[0]) && !close(ends[1]));
}

int main(int argc, char **argv)
{
	pthread_t threads[4];
	char *page, buffer[64];
	int status, file;
	pid_t child;

	if (argc > 1 && !strcmp(argv[1], "parent"))
		return printf("%d\n", getppid()) < 0;
	if (argc > 1)	/* as the child of execve below */
		return strcmp(argv[1], "again");
	setvbuf(stdout, NULL, _IONBF, 0);
	parent = getppid();
	/* before there are threads, because libsysenter.so serves programs with one thread only */
	sockets();
	cancels_itself();

	for (int i = 0; i < 4; i++)
		CHECK(!pthread_create(&threads[i], NULL, many_calls, NULL));
	for (int i = 0; i < 4; i++)
		CHECK(!pthread_join(threads[i], NULL));

	/* results and errors */
	CHECK(syscall(-1) == -1 && errno == ENOSYS);
	CHECK(syscall(511) == -1 && errno == ENOSYS);
	CHECK(syscall(512) == -1 && errno == ENOSYS);
	CHECK(syscall(1000) == -1 && errno == ENOSYS);
	CHECK(syscall(0x7fffffff) == -1 && errno == ENOSYS);
	/*
	 * A marked number by the vDSO. The kernel has no such call. While the module is loaded
	 * it is getpid: a SYSENTER with the mark is a fast call, whoever makes it.
	 */
	if (getenv("SYSENTER_CALLS"))
		CHECK(syscall(0x80000014) == -1 && errno == ENOSYS);
	CHECK(read(-1, buffer, 1) == -1 && errno == EBADF);
	CHECK(write(1, (void *)-4096L, 1) == -1 && errno == EFAULT);

	/* six arguments, five; none of them may be lost */
	file = open("/proc/self/exe", O_RDONLY);
	CHECK(file >= 0);
	page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, file, 4096);
	CHECK(page != MAP_FAILED && pread(file, buffer, 64, 4096) == 64 && !memcmp(page, buffer, 64));
	CHECK(!munmap(page, 4096) && !close(file));
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(page != MAP_FAILED);
	page = mremap(page, 4096, 8192, MREMAP_MAYMOVE);
	CHECK(page != MAP_FAILED);
	page[8191] = 1;
	CHECK(lseek64(open("/dev/zero", O_RDONLY), 1LL << 33, SEEK_SET) >= 0);

	restarted_read();
	stopped_sleep();

	child = vfork();
	if (!child) {
		execl("/proc/self/exe", "callers", "again", NULL);
		_exit(9);
	}
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	CHECK(system("echo calls | grep -q calls") == 0);

	/* killed while it sleeps in a call */
	child = fork();
	if (!child) {
		pause();
		_exit(0);
	}
	usleep(20000);
	CHECK(!kill(child, SIGKILL) && waitpid(child, &status, 0) == child && WIFSIGNALED(status));
	return 0;
}
